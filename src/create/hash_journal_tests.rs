use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::base::PieceIndex;
use crate::create::error::ContentError;
use crate::create::pieces::hash_pieces_with;
use crate::create::sweep::{Content, Control, Source};

const PIECE_LEN: u32 = 16 << 10;
const PIECE_COUNT: u32 = 40;
/// The length of four pieces.
const STEP_LEN: u64 = 64 << 10;

/// Content with one file per piece, which notes the files that were opened.
struct Watched {
    dir: tempfile::TempDir,
    geometry: Geometry,
    opened: Mutex<BTreeSet<usize>>,
}

impl Watched {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for at in 0..PIECE_COUNT {
            fs::write(dir.path().join(at.to_string()), vec![u8::try_from(at).unwrap(); PIECE_LEN as usize]).unwrap();
        }
        let geometry = Geometry::new(PIECE_LEN, vec![u64::from(PIECE_LEN); PIECE_COUNT as usize]).unwrap();
        Self { dir, geometry, opened: Mutex::default() }
    }

    fn seen(&self) -> Observation {
        Observation::of(&(0..PIECE_COUNT as usize).map(|at| self.path(at)).collect::<Vec<_>>()).unwrap()
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("cache/hashing")
    }

    fn journal(&self) -> HashJournal {
        HashJournal::with_step(&self.folder(), &self.seen(), &self.geometry, STEP_LEN)
    }

    /// Hashes at least `len_max` bytes, then cancels. Returns the result and the files that were opened.
    fn hash(
        &self,
        journal: &mut HashJournal,
        len_max: u64,
    ) -> (Result<Vec<Option<PieceHash>>, ContentError>, Vec<usize>) {
        let cancel = AtomicBool::new(false);
        let progress = |done| cancel.store(done >= len_max, Ordering::Relaxed);
        let result = hash_pieces_with(self, journal, Control { cancel: &cancel, progress: &progress });
        (result, std::mem::take(&mut *self.opened.lock().unwrap()).into_iter().collect())
    }

    fn expected(&self) -> Vec<Option<PieceHash>> {
        (0..PIECE_COUNT as usize).map(|at| Some(sha1(&[&fs::read(self.path(at)).unwrap()]))).collect()
    }
}

impl Content for Watched {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn wants(&self, _: PieceIndex) -> bool {
        true
    }

    fn open(&self, file_index: usize) -> Result<Source, ContentError> {
        self.opened.lock().unwrap().insert(file_index);
        Ok(Source::File(File::open(self.path(file_index)).unwrap().into()))
    }

    fn path(&self, file_index: usize) -> PathBuf {
        self.dir.path().join(file_index.to_string())
    }
}

#[test]
fn an_interrupted_run_resumes_after_its_last_record() {
    let content = Watched::new();
    let (interrupted, _) = content.hash(&mut content.journal(), STEP_LEN * 3 + 1);
    assert!(matches!(interrupted, Err(ContentError::Cancelled)));
    let mut journal = content.journal();
    let (result, opened) = content.hash(&mut journal, u64::MAX);
    assert_eq!(result.unwrap(), content.expected());
    assert!(opened.first().is_some_and(|&first| first >= 12), "{opened:?}");
    assert_eq!(opened.last(), Some(&39));
    // The journal stays until the caller has stored the hashes.
    let (result, opened) = content.hash(&mut content.journal(), u64::MAX);
    assert_eq!((result.unwrap(), opened), (content.expected(), vec![]));
    journal.remove();
    assert_eq!(fs::read_dir(content.folder()).unwrap().count(), 0);
}

#[test]
fn content_with_a_changed_file_is_hashed_again() {
    let content = Watched::new();
    content.hash(&mut content.journal(), u64::MAX).0.unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(content.path(3), vec![99; PIECE_LEN as usize]).unwrap();
    let (result, opened) = content.hash(&mut content.journal(), u64::MAX);
    assert_eq!((result.unwrap(), opened.len()), (content.expected(), PIECE_COUNT as usize));
}

#[test]
fn a_journal_is_read_up_to_its_first_invalid_record() {
    let content = Watched::new();
    content.hash(&mut content.journal(), u64::MAX).0.unwrap();
    let path = fs::read_dir(content.folder()).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&path).unwrap();
    let record_len = RECORD_HEAD_LEN + 5 * HASH_LEN;
    assert_eq!(whole.len(), HEAD_LEN + 10 * record_len);
    let check = |damaged: &[u8], pieces_kept: usize| {
        fs::write(&path, damaged).unwrap();
        assert_eq!(content.journal().read(PIECE_COUNT).len(), pieces_kept);
        let (result, opened) = content.hash(&mut content.journal(), u64::MAX);
        assert_eq!(result.unwrap(), content.expected());
        assert!(opened.first().is_none_or(|&first| first >= pieces_kept), "{opened:?}");
        assert_eq!(fs::read(&path).unwrap(), whole, "the rest is written again");
    };
    for at in (0..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        check(&damaged, at.checked_sub(HEAD_LEN).map_or(0, |behind| behind / record_len * 4));
    }
    for len in [0, 1, HEAD_LEN, HEAD_LEN + 7, HEAD_LEN + record_len, whole.len() - 1] {
        check(&whole[..len], len.saturating_sub(HEAD_LEN) / record_len * 4);
    }
    // A record of more pieces than the torrent has is invalid.
    fs::write(&path, &whole).unwrap();
    assert_eq!(content.journal().read(10).len(), 8);
}

#[test]
fn content_is_hashed_without_a_usable_journal() {
    let content = Watched::new();
    fs::create_dir_all(content.dir.path().join("cache")).unwrap();
    fs::write(content.folder(), "a file in the folder's place").unwrap();
    assert_eq!(content.hash(&mut content.journal(), u64::MAX).0.unwrap(), content.expected());
    assert_eq!(content.hash(&mut HashJournal::none(), u64::MAX).0.unwrap(), content.expected());
}

#[test]
fn only_long_and_settled_content_has_a_journal() {
    let content = Watched::new();
    let sparse = content.dir.path().join("sparse");
    let len = HASH_JOURNAL_STEP_LEN + 1;
    File::create(&sparse).unwrap().set_len(len).unwrap();
    let (seen, geometry) = (Observation::of(&[sparse]).unwrap(), Geometry::new(1 << 20, [len]).unwrap());
    let (folder, later) = (content.folder(), 4_000_000_000);
    let is_kept = |folder: Option<&Path>, started, seen, geometry| {
        HashJournal::of(folder, started, seen, geometry).path.is_some()
    };
    assert!(is_kept(Some(&folder), later, &seen, &geometry));
    assert!(!is_kept(Some(&folder), 0, &seen, &geometry));
    assert!(!is_kept(None, later, &seen, &geometry));
    assert!(!is_kept(Some(&folder), later, &content.seen(), &content.geometry));
}

#[test]
fn the_oldest_journals_are_removed() {
    let content = Watched::new();
    fs::create_dir_all(content.folder()).unwrap();
    for at in 0..HASH_JOURNALS_MAX {
        let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000 + at as u64);
        File::create(content.folder().join(format!("{at}.hashes"))).unwrap().set_modified(modified).unwrap();
    }
    content.journal().read(PIECE_COUNT);
    assert_eq!(fs::read_dir(content.folder()).unwrap().count(), HASH_JOURNALS_MAX);
    assert!(!content.folder().join("0.hashes").exists() && content.folder().join("1.hashes").exists());
}
