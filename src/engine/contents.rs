//! Content for readers other than peers, such as the web seed. Like what peers are sent, it is verified first.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::thread;

use crate::base::{FileIdentity, FileSpan, InfoHash, PieceIndex, Time, limits};
use crate::engine::files::readiness::{ReadinessTable, Verification};
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
    fn wake(&self, torrent: &Torrent);
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
            torrent.peers.list().handle_leecher(session.now(), addr);
            session.wake(&torrent);
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
        let torrent = self.torrents().get(&info_hash).cloned().ok_or(io::ErrorKind::NotFound)?;
        let span = FileSpan { file_index, offset, len: buffer.len() as u64 };
        Reader { contents: self, torrent: &torrent }.read(span, buffer)
    }
}

/// One reader's way to verified bytes.
struct Reader<'a> {
    contents: &'a Contents,
    torrent: &'a Torrent,
}

impl Reader<'_> {
    fn read(&self, span: FileSpan, buffer: &mut [u8]) -> io::Result<FileIdentity> {
        let Torrent { content, swarm, .. } = self.torrent;
        let geometry = &swarm.geometry;
        let pieces = || geometry.pieces_of_span(span).filter_map(|index| geometry.piece(index));
        let mut shortage = None;
        for _ in 0..limits::VERIFIED_READ_TRIES {
            pieces().try_for_each(|piece| self.wait_until_verified(piece))?;
            let (file_index, identity) = match content.store.read_span(span, buffer, &mut |_| (), &content.on_change())
            {
                Ok(Some(read)) => read,
                Ok(None) => return Err(io::Error::new(io::ErrorKind::NotFound, "a pad file has no bytes of its own")),
                Err(error) if error.is_transient() => {
                    shortage = Some(io::Error::other(error));
                    thread::sleep(limits::FILE_TIME_GRAIN);
                    continue;
                }
                Err(error) => return Err(io::Error::other(error)),
            };
            let mut is_verified = false;
            let files = [(file_index, identity)];
            let are_verified = || pieces().all(|piece| content.readiness.is_verified(piece));
            content.store.if_unchanged(&files, || is_verified = are_verified());
            if is_verified {
                return Ok(identity);
            }
        }
        Err(shortage.unwrap_or_else(|| io::Error::new(io::ErrorKind::ResourceBusy, "the file keeps changing")))
    }

    /// Hashes a piece unless that is done; where another thread is at it, waits for that as long as the torrent is served.
    /// Blocks.
    fn wait_until_verified(&self, piece: PieceIndex) -> io::Result<()> {
        let Torrent { content, swarm, info_hash, .. } = self.torrent;
        let readiness = &content.readiness;
        let lost = || io::Error::new(io::ErrorKind::NotFound, "this part of the file is missing or wrong");
        let mut failures = 0;
        while failures < limits::VERIFIED_READ_TRIES {
            // What is begun while the session ends may never be reported.
            if !swarm.pieces.has(piece) || !self.contents.torrents().contains_key(info_hash) {
                return Err(lost());
            }
            match readiness.poll_verified(piece) {
                Verification::Done => return Ok(()),
                Verification::Failed => return Err(lost()),
                Verification::UnderWay => thread::sleep(limits::FILE_TIME_GRAIN),
                Verification::Begun => {
                    // No other thread begins it until it is reported, also after a panic.
                    let begun = VerifyGuard { contents: self.contents, readiness, piece };
                    let is_settled = self.torrent.verify(piece);
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
struct VerifyGuard<'a> {
    contents: &'a Contents,
    readiness: &'a ReadinessTable,
    piece: PieceIndex,
}

impl Drop for VerifyGuard<'_> {
    fn drop(&mut self) {
        self.readiness.handle_unhashed(self.piece);
        self.contents.session().inspect(|session| session.announce_ready());
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

    /// A torrent of several pieces, its content, and the bytes of that.
    struct Fixture {
        _dir: tempfile::TempDir,
        content: Vec<u8>,
        contents: Arc<Contents>,
        torrent: Arc<Torrent>,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
            let path = dir.path().join("content");
            std::fs::write(&path, &content).unwrap();
            let settings = Settings::default();
            let control = Control { cancel: &false.into(), progress: &|_| () };
            let created = Plan::new(&path, &settings, None).unwrap().build(&settings, control).unwrap();
            let metainfo = Metainfo::decode(&created.bytes, &MetainfoLimits::default()).unwrap();
            let contents = Contents::of(metainfo, dir.path());
            let torrent = contents.torrents()[&created.info_hash].clone();
            Self { _dir: dir, content, contents, torrent }
        }

        fn piece(&self) -> PieceIndex {
            self.torrent.swarm.geometry.piece(1).unwrap()
        }

        fn start(&self) -> u64 {
            self.torrent.swarm.geometry.offset_of(self.piece())
        }

        fn read(&self) -> io::Result<[u8; 100]> {
            let mut buffer = [0; 100];
            self.contents.read(self.torrent.info_hash, 0, self.start(), &mut buffer).map(|_| buffer)
        }

        /// Readers of a piece that another thread is said to hash, each in a thread of its own; then `act`.
        fn read_after(&self, act: impl FnOnce()) -> Vec<io::Result<[u8; 100]>> {
            assert_eq!(self.torrent.content.readiness.poll_verified(self.piece()), Verification::Begun);
            thread::scope(|scope| {
                let readers: Vec<_> = (0..4).map(|_| scope.spawn(|| self.read())).collect();
                thread::sleep(limits::FILE_TIME_GRAIN * 3);
                assert!(readers.iter().all(|reader| !reader.is_finished()));
                act();
                readers.into_iter().map(|reader| reader.join().unwrap()).collect()
            })
        }
    }

    #[test]
    fn a_piece_is_hashed_once_however_many_read_it() {
        let fixture = Fixture::new();
        let (readiness, piece) = (&fixture.torrent.content.readiness, fixture.piece());
        let start = usize::try_from(fixture.start()).unwrap();
        for read in fixture.read_after(|| readiness.handle_unhashed(piece)) {
            assert_eq!(read.unwrap()[..], fixture.content[start..start + 100]);
        }
        assert!(readiness.is_verified(piece));
        readiness.handle_unservable(piece);
        assert_eq!(fixture.read().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// What was to hash the piece may have ended with the session.
    #[test]
    fn readers_that_wait_for_a_hash_end_with_the_session() {
        let fixture = Fixture::new();
        for read in fixture.read_after(|| fixture.contents.torrents_mut().clear()) {
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::NotFound);
        }
    }
}
