//! Content for readers other than peers, such as the web seed. Like what peers are sent, it is verified first.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::thread;

use crate::base::{FileIdentity, FileSpan, InfoHash, PieceIndex, Time, limits};
use crate::engine::files::readiness::{Serving, Verification};
use crate::engine::torrent::Torrent;

/// The torrents of a session, for those outside it. The session fills it.
#[derive(Debug, Default)]
pub struct Contents {
    torrents: RwLock<HashMap<InfoHash, Arc<Torrent>>>,
    session: RwLock<Option<Weak<dyn Session>>>,
}

/// What the session does for its contents.
pub(super) trait Session: Send + Sync {
    fn now(&self) -> Time;
    /// The control thread has to look at this torrent.
    fn attend(&self, torrent: &Torrent);
    /// Every connection that waits looks again.
    fn announce_ready(&self);
}

impl Contents {
    pub(super) fn torrents(&self) -> RwLockReadGuard<'_, HashMap<InfoHash, Arc<Torrent>>> {
        self.torrents.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn torrents_mut(&self) -> RwLockWriteGuard<'_, HashMap<InfoHash, Arc<Torrent>>> {
        self.torrents.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session runs.
    pub(super) fn handle_started(&self, session: Weak<dyn Session>) {
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }

    fn session(&self) -> Option<Arc<dyn Session>> {
        self.session.read().unwrap_or_else(PoisonError::into_inner).as_ref()?.upgrade()
    }

    /// A leecher that listens at `addr` has announced itself to our own tracker.
    pub fn handle_leecher(&self, info_hash: InfoHash, addr: SocketAddr) {
        let torrent = self.torrents().get(&info_hash).cloned();
        if let Some((torrent, session)) = torrent.zip(self.session()) {
            torrent.peer_list().handle_leecher(session.now(), addr);
            session.attend(&torrent);
        }
    }

    /// Fills `buffer` with the bytes of a file from `offset` on, and returns the identity of that file. Pieces that are not verified
    /// yet are hashed first. It is an error if not all of them are there and right. May block.
    pub fn read(
        &self,
        info_hash: InfoHash,
        file_index: usize,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<FileIdentity> {
        let torrent = self.torrents().get(&info_hash).cloned();
        let session = self.session();
        torrent.ok_or(io::ErrorKind::NotFound)?.read_verified(file_index, offset, buffer, session.as_deref())
    }
}

impl Torrent {
    fn read_verified(
        &self,
        file_index: usize,
        offset: u64,
        buffer: &mut [u8],
        session: Option<&dyn Session>,
    ) -> io::Result<FileIdentity> {
        let span = FileSpan { file_index, offset, len: buffer.len() as u64 };
        let geometry = &self.swarm.geometry;
        let pieces = || geometry.pieces_of_span(span).filter_map(|index| geometry.piece(index));
        let mut shortage = None;
        for _ in 0..limits::VERIFIED_READ_TRIES {
            pieces().try_for_each(|piece| self.wait_until_verified(piece, session))?;
            let (file_index, identity) = match self.store.read_span(span, buffer, &mut |_| (), &self.on_change()) {
                Ok(Some(read)) => read,
                Ok(None) => return Err(io::Error::new(io::ErrorKind::NotFound, "a pad file has no bytes of its own")),
                Err(error) if error.passes() => {
                    shortage = Some(io::Error::other(error));
                    thread::sleep(limits::FILE_TIME_GRAIN);
                    continue;
                }
                Err(error) => return Err(io::Error::other(error)),
            };
            let mut is_verified = false;
            let files = [(file_index, identity)];
            self.store.if_unchanged(&files, || is_verified = pieces().all(|piece| self.serving.is_verified(piece)));
            if is_verified {
                return Ok(identity);
            }
        }
        Err(shortage.unwrap_or_else(|| io::Error::new(io::ErrorKind::ResourceBusy, "the file keeps changing")))
    }

    /// Hashes a piece unless that is done; where another thread is at it, waits for that. Blocks.
    fn wait_until_verified(&self, piece: PieceIndex, session: Option<&dyn Session>) -> io::Result<()> {
        let lost = || io::Error::new(io::ErrorKind::NotFound, "this part of the file is missing or wrong");
        let mut failures = 0;
        while failures < limits::VERIFIED_READ_TRIES {
            if !self.swarm.pieces.has(piece) {
                return Err(lost());
            }
            match self.serving.poll_verified(piece) {
                Verification::Done => return Ok(()),
                Verification::Failed => return Err(lost()),
                Verification::UnderWay => thread::sleep(limits::FILE_TIME_GRAIN),
                Verification::Begun => {
                    // Nobody else begins it until it is reported, also after a panic.
                    let begun = Begun { serving: &self.serving, piece, session };
                    let is_settled = self.verify(piece);
                    drop(begun);
                    if !is_settled {
                        failures += 1;
                        thread::sleep(limits::FILE_TIME_GRAIN);
                    }
                }
            }
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "it can't be checked: the file keeps changing, or memory is short",
        ))
    }
}

/// A verification under way. At its end the connections that wait for it are told; where nothing else was reported, it is to
/// be begun again.
struct Begun<'a> {
    serving: &'a Serving,
    piece: PieceIndex,
    session: Option<&'a dyn Session>,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.serving.handle_unhashed(self.piece);
        self.session.inspect(|session| session.announce_ready());
    }
}

#[cfg(test)]
impl Contents {
    /// The content of one torrent below `folder`, without a session.
    pub(crate) fn of(metainfo: crate::codec::metainfo::Metainfo, folder: &std::path::Path) -> Arc<Self> {
        use crate::engine::config::{Config, Identity, Provenance, RateLimits, Source};
        use crate::engine::files::writeback::WriteMode;
        use crate::engine::network::listen::Listen;
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
        let (torrent, _) = crate::engine::control::prepare::prepare(source, &config, 1, 0).unwrap();
        contents.torrents_mut().insert(torrent.info_hash, torrent);
        contents
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::metainfo::{Metainfo, MetainfoLimits};
    use crate::create::{Control, Plan, Settings};

    #[test]
    fn a_piece_is_hashed_once_however_many_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(dir.path().join("content"), &content).unwrap();
        let settings = Settings::default();
        let control = Control { cancel: &false.into(), progress: &|_| () };
        let created =
            Plan::new(&dir.path().join("content"), &settings, None).unwrap().build(&settings, control).unwrap();
        let metainfo = Metainfo::decode(&created.bytes, &MetainfoLimits::default()).unwrap();
        let info_hash = metainfo.info_hash;
        let contents = Contents::of(metainfo, dir.path());
        let torrent = contents.torrents()[&info_hash].clone();
        let piece = torrent.swarm.geometry.piece(1).unwrap();
        let start = torrent.swarm.geometry.offset_of(piece);
        let read = || {
            let mut buffer = [0; 100];
            contents.read(info_hash, 0, start, &mut buffer).map(|_| buffer)
        };
        // Another thread hashes it.
        assert_eq!(torrent.serving.poll_verified(piece), Verification::Begun);
        thread::scope(|scope| {
            let readers: Vec<_> = (0..4).map(|_| scope.spawn(read)).collect();
            thread::sleep(limits::FILE_TIME_GRAIN * 3);
            assert!(readers.iter().all(|reader| !reader.is_finished()));
            torrent.serving.handle_unhashed(piece);
            let start = usize::try_from(start).unwrap();
            for reader in readers {
                assert_eq!(reader.join().unwrap().unwrap()[..], content[start..start + 100]);
            }
        });
        assert!(torrent.serving.is_verified(piece));
        torrent.serving.handle_unservable(piece);
        assert_eq!(read().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
