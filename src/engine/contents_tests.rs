use super::*;
use crate::codec::metainfo::{Metainfo, MetainfoLimits};
use crate::create::{Control, Plan, Settings};
use crate::swarm::Holding;

/// A torrent of several pieces and its content.
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

    /// Starts four readers of a piece that another thread seems to hash, then calls `act`. Returns the results of
    /// the readers.
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
fn a_piece_is_hashed_once_for_all_readers() {
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

/// The thread that was to hash the piece may have ended with the session.
#[test]
fn readers_that_wait_for_a_hash_end_with_the_session() {
    let fixture = Fixture::new();
    for read in fixture.read_after(|| fixture.contents.torrents_mut().clear()) {
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

#[test]
fn hosts_of_a_removed_torrent_stay_forgotten() {
    let torrent = Fixture::new().torrent;
    let info_hash = torrent.info_hash;
    let contents = Contents::counting_hosts();
    contents.torrents_mut().insert(info_hash, torrent);
    let sighting = Sighting { ip: IpAddr::from([10, 0, 0, 1]), peer_id: PeerId([1; 20]), holding: Holding::Complete };
    contents.handle_connection_sighting(info_hash, sighting);
    assert_eq!(contents.host_counts(info_hash), HostCounts { seen: 1, complete: 1 });
    contents.remove(info_hash);
    contents.forget_hosts(info_hash);
    // The connection ends after the removal.
    contents.handle_connection_sighting(info_hash, sighting);
    assert_eq!(contents.host_counts(info_hash), HostCounts::default());
}
