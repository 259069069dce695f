//! Content for readers other than peers, such as the web seed: verified, as what peers are sent is.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;

use super::torrent::Torrent;
use crate::base::{FileIdentity, FileSpan, InfoHash, limits};

/// The torrents of a session. The session fills it.
#[derive(Debug, Default)]
pub struct Contents(RwLock<HashMap<InfoHash, Arc<Torrent>>>);

impl Contents {
    pub(super) fn torrents(&self) -> RwLockReadGuard<'_, HashMap<InfoHash, Arc<Torrent>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn torrents_mut(&self) -> RwLockWriteGuard<'_, HashMap<InfoHash, Arc<Torrent>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills `buffer` with the bytes of a file from `offset` on, and says which file that is. Their pieces are hashed first where
    /// that is still to be done. An error where not all of them are there and right. May block.
    pub fn read(
        &self,
        info_hash: InfoHash,
        file_index: usize,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<FileIdentity> {
        let torrent = self.torrents().get(&info_hash).cloned();
        torrent.ok_or(io::ErrorKind::NotFound)?.read_verified(file_index, offset, buffer)
    }
}

impl Torrent {
    fn read_verified(&self, file_index: usize, offset: u64, buffer: &mut [u8]) -> io::Result<FileIdentity> {
        let span = FileSpan { file_index, offset, len: buffer.len() as u64 };
        let geometry = &self.swarm.geometry;
        let pieces = || geometry.pieces_of_span(span).filter_map(|index| geometry.piece(index));
        for _ in 0..limits::VERIFIED_READ_TRIES {
            for piece in pieces().filter(|&piece| !self.serving.is_verified(piece)) {
                if !self.swarm.pieces.has(piece) {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "not there, or not right"));
                }
                if !self.verify(piece) {
                    thread::sleep(limits::FILE_TIME_GRAIN);
                }
            }
            let read = match self.store.read_span(span, buffer, &mut |_| (), &self.on_change()) {
                Err(error) if !error.passes() => return Err(io::Error::other(error)),
                Ok(Some(file)) => file,
                Ok(None) | Err(_) => break,
            };
            let mut is_verified = false;
            self.store.if_unchanged(&[read], || is_verified = pieces().all(|piece| self.serving.is_verified(piece)));
            if is_verified {
                return Ok(read.1);
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "it keeps changing"))
    }
}

#[cfg(test)]
impl Contents {
    /// Of a torrent whose name `folder` holds, without a session.
    pub(crate) fn of(metainfo: crate::codec::metainfo::Metainfo, folder: &std::path::Path) -> Arc<Self> {
        use super::config::{Config, Identity, Listen, Provenance, RateLimits, Source, WriteMode};
        let contents = Arc::new(Self::default());
        let config = Config {
            identity: Identity::generate(&mut crate::base::Rng::new()),
            listen: Listen::FirstFree,
            ring_count: 1,
            arena_len: 0,
            slots: crate::swarm::choker::Slots::Auto,
            connections_max: 1,
            leeching_max: 1,
            peers: Vec::new(),
            announce_ip: None,
            users_trackers: Arc::new([]),
            filter: crate::base::cidr::AddressFilter::default(),
            device: None,
            dscp: None,
            write_mode: WriteMode::default(),
            cache_mode: super::CacheMode::default(),
            zero_copy: crate::uring::ZeroCopyMode::Off,
            preallocate: false,
            keep_seeding: true,
            timeout: None,
            sequential: false,
            super_seed: false,
            rates: RateLimits::default(),
            monitor: None,
            contents: contents.clone(),
        };
        let have = crate::base::Bitfield::full(metainfo.info.geometry.piece_count());
        let source = Source {
            folder: folder.to_owned(),
            have,
            choices: None,
            provenance: Provenance::Unknown,
            target: None,
            earlier: None,
            tiers: Vec::new(),
            peers: Vec::new(),
            metainfo,
        };
        let (torrent, _) = super::session::prepare(source, &config, 1, 0).unwrap();
        contents.torrents_mut().insert(torrent.info_hash, torrent);
        contents
    }
}
