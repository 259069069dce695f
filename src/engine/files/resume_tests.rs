#![allow(clippy::disallowed_methods, reason = "files get times from the clock")]

use super::*;
use crate::base::{Geometry, InfoHash};
use crate::codec::metainfo::MetainfoLimits;
use crate::engine::files::checkpoint::Checkpoint;
use crate::io::SharedFile;
use crate::storage::Store;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Two files in eight pieces of ten bytes. The fourth piece is in both files, so the first file is complete with the
/// first four pieces.
struct Content {
    dir: tempfile::TempDir,
    metainfo: Metainfo,
}

const FILE_LENS: [u64; 2] = [35, 40];
const PIECE_COUNT: u32 = 8;

impl Content {
    fn new() -> Self {
        let file = |name: &str, len: u64| format!("d6:lengthi{len}e4:pathl{}:{name}ee", name.len());
        let files = format!("{}{}", file("a", FILE_LENS[0]), file("b", FILE_LENS[1]));
        let hashes = "x".repeat(20 * PIECE_COUNT as usize);
        let info = format!("d5:filesl{files}e4:name1:t12:piece lengthi10e6:pieces{}:{hashes}e", hashes.len());
        let bytes = format!("d4:info{info}e");
        let metainfo = Metainfo::decode(bytes.as_bytes(), &MetainfoLimits::default()).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), metainfo }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("t").join(name)
    }

    fn target(&self) -> Target {
        Target::lock(self.dir.path(), b"t", self.metainfo.info_hash).unwrap()
    }

    fn geometry(&self) -> &Geometry {
        &self.metainfo.info.geometry
    }

    fn store(&self) -> Store {
        let files = self.metainfo.info.files.iter().map(|file| file.path.clone());
        let layout = Layout::open(self.dir.path(), files).unwrap();
        let store = Store::new(layout, self.geometry().clone(), [false; 2].into()).unwrap();
        store.create_files().unwrap();
        store
    }

    fn set(&self, pieces: &[u32]) -> Bitfield {
        let mut set = Bitfield::new(PIECE_COUNT);
        for &index in pieces {
            set.insert(self.geometry().piece(index).unwrap());
        }
        set
    }

    /// Simulates a run that wrote these pieces and, if not `ended`, was killed.
    fn run(&self, pieces: &[u32], ended: bool) {
        let store = self.store();
        let checkpoint =
            Checkpoint::new(self.target(), self.metainfo.info_hash, &store, &Bitfield::new(PIECE_COUNT), None).unwrap();
        for &index in pieces {
            let piece = self.geometry().piece(index).unwrap();
            for span in self.geometry().piece_spans(piece) {
                let file = SharedFile::new(store.layout().open_to_write(span.file_index).unwrap());
                checkpoint.handle_file_written(span.file_index, &file);
            }
            checkpoint.handle_written(piece);
        }
        checkpoint.run(&store, ended).unwrap();
    }

    fn recall(&self) -> Recalled {
        recall(&self.target(), &self.metainfo, self.dir.path(), &mut Rng::with_seed(1))
    }

    #[track_caller]
    fn claims(&self) -> Claims {
        match self.recall() {
            Recalled::Claimed(claims) => claims,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn refused(&self, part: &str) {
        match self.recall() {
            Recalled::Refused(line) => assert!(line.contains(part), "{line}"),
            other => panic!("{other:?}"),
        }
    }

    fn write_later(&self, name: &str, seconds: u64) {
        let file = File::options().write(true).open(self.path(name)).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(seconds)).unwrap();
    }
}

#[test]
fn a_run_that_ended_leaves_nothing_to_hash_but_samples() {
    let content = Content::new();
    assert!(matches!(content.recall(), Recalled::Nothing));
    content.run(&[0, 2, 7], true);
    let Claims { have, samples, unknown, known_files, warning } = content.claims();
    assert_eq!((known_files, warning), (vec![true; 2], None));
    assert_eq!(have, content.set(&[0, 2, 7]));
    assert!(samples.is_subset(&have) && !samples.is_empty() && unknown.is_empty());
}

#[test]
fn after_a_run_that_did_not_end_written_files_are_hashed() {
    let content = Content::new();
    content.run(&[0, 1, 2, 4], false);
    // Nothing was written since the record: its pieces are trusted, the others may have been written.
    let Claims { have, unknown, warning, .. } = content.claims();
    assert_eq!((have, unknown), (content.set(&[0, 1, 2, 4]), content.set(&[3, 5, 6, 7])));
    assert_eq!(warning, None);
    // That run or another program has written to the second file since.
    content.write_later("b", 60);
    let Claims { have, samples, unknown, warning, .. } = content.claims();
    assert_eq!((have, unknown), (content.set(&[0, 1, 2]), content.set(&[3, 4, 5, 6, 7])));
    assert!(samples.is_subset(&content.set(&[0, 1, 2])));
    assert_eq!(warning, None);
}

#[test]
fn a_complete_run_leaves_no_record() {
    let content = Content::new();
    content.run(&[0, 1], false);
    content.run(&[0, 1, 2, 3, 4, 5, 6, 7], true);
    assert!(matches!(content.recall(), Recalled::Nothing));
    assert_eq!(fs::read_dir(content.dir.path()).unwrap().count(), 1);
}

/// Checks that the pieces of the file `name` are hashed and those of the other file trusted.
#[track_caller]
fn checks(content: &Content, name: &str) {
    let Claims { have, unknown, warning, .. } = content.claims();
    let (believed, hashed) = if name == "a" { (7, [0, 1, 2]) } else { (0, [4, 5, 6]) };
    assert_eq!(have, content.set(&[believed]));
    assert!(content.set(&hashed).is_subset(&unknown), "{unknown:?}");
    assert!(warning.as_ref().is_some_and(|line| line.contains(&format!("/{name} has changed"))), "{warning:?}");
}

#[test]
fn a_file_that_changed_since_the_record_is_hashed() {
    for name in ["a", "b"] {
        let content = Content::new();
        content.run(&[0, 7], true);
        content.write_later(name, 0);
        checks(&content, name);
        fs::copy(content.path(name), content.path("copy")).unwrap();
        fs::rename(content.path("copy"), content.path(name)).unwrap();
        checks(&content, name);
        File::options().write(true).open(content.path(name)).unwrap().set_len(50).unwrap();
        checks(&content, name);
        fs::remove_file(content.path(name)).unwrap();
        checks(&content, name);
    }
}

#[test]
fn files_changed_by_another_program_are_doubtful() {
    let content = Content::new();
    content.run(&[0, 1, 5, 6], true);
    let layout = Layout::open(content.dir.path(), content.metainfo.info.files.iter().map(|file| file.path.clone()));
    let mut earlier = Earlier::observe(&layout.unwrap(), &content.metainfo.info);
    earlier.pieces = content.set(&[0, 1, 5]);
    let store = content.store();
    let have = content.set(&[0, 1, 5, 6]);
    let checkpoint =
        Checkpoint::new(content.target(), content.metainfo.info_hash, &store, &have, Some(earlier)).unwrap();
    // Our own write.
    let file = store.layout().open_to_write(1).unwrap();
    fs::write(content.path("b"), [1; 40]).unwrap();
    checkpoint.handle_file_written(1, &SharedFile::new(file));
    checkpoint.run(&store, true).unwrap();
    assert!(checkpoint.doubtful(&store, content.geometry()).is_empty());
    // A write of another program to a file that this run did not write to.
    content.write_later("a", 0);
    assert_eq!(checkpoint.doubtful(&store, content.geometry()), content.set(&[0, 1]));
    // The record does not claim its pieces either.
    checkpoint.run(&store, true).unwrap();
    drop(checkpoint);
    assert_eq!(content.claims().have, content.set(&[5, 6]));
}

/// Another program may have written between two writes of ours.
#[test]
fn unhashed_pieces_of_written_files_are_doubtful() {
    let content = Content::new();
    content.run(&[0, 1, 5, 6], true);
    let layout = Layout::open(content.dir.path(), content.metainfo.info.files.iter().map(|file| file.path.clone()));
    let mut earlier = Earlier::observe(&layout.unwrap(), &content.metainfo.info);
    (earlier.pieces, earlier.unhashed) = (content.set(&[0, 1, 5, 6]), content.set(&[0, 5]));
    let store = content.store();
    let have = content.set(&[0, 1, 5, 6]);
    let checkpoint =
        Checkpoint::new(content.target(), content.metainfo.info_hash, &store, &have, Some(earlier)).unwrap();
    checkpoint.run(&store, true).unwrap();
    assert!(checkpoint.doubtful(&store, content.geometry()).is_empty());
    let file = store.layout().open_to_write(1).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(content.path("b"), [1; 40]).unwrap();
    checkpoint.handle_file_written(1, &SharedFile::new(file));
    checkpoint.run(&store, true).unwrap();
    assert_eq!(checkpoint.doubtful(&store, content.geometry()), content.set(&[5]));
}

#[test]
fn files_changed_after_our_last_write_are_doubtful() {
    let content = Content::new();
    content.run(&[5], true);
    let layout = Layout::open(content.dir.path(), content.metainfo.info.files.iter().map(|file| file.path.clone()));
    let mut earlier = Earlier::observe(&layout.unwrap(), &content.metainfo.info);
    earlier.pieces = content.set(&[5]);
    let store = content.store();
    let have = content.set(&[5]);
    let checkpoint =
        Checkpoint::new(content.target(), content.metainfo.info_hash, &store, &have, Some(earlier)).unwrap();
    let file = SharedFile::new(store.layout().open_to_write(1).unwrap());
    checkpoint.handle_file_written(1, &file);
    content.write_later("b", 60);
    checkpoint.run(&store, true).unwrap();
    assert_eq!(checkpoint.doubtful(&store, content.geometry()), content.set(&[5]));
}

#[test]
fn foreign_damaged_and_future_records_are_refused() {
    let content = Content::new();
    content.run(&[0, 7], true);
    let path = content.target().path(Sidecar::Record);
    let bytes = fs::read(&path).unwrap();
    let record = ResumeRecord::decode(&bytes, content.metainfo.info_hash, 2, PIECE_COUNT).unwrap();
    let write = |bytes: Vec<u8>| fs::write(&path, bytes).unwrap();

    write(ResumeRecord { info_hash: InfoHash([9; 20]), ..record.clone() }.encode());
    content.refused("another torrent");
    write(ResumeRecord { written_at: record.written_at + 100, ..record.clone() }.encode());
    content.refused("future");
    write(bytes[..bytes.len() - 1].to_vec());
    content.refused("damaged");
    write([&b"bt-fast "[..], &[0; 1 << 20]].concat());
    content.refused("not a resume record");
    let mut other_version = bytes.clone();
    other_version[15] = 1;
    write(other_version);
    content.refused("another version");
    write(bytes);
    assert_eq!(content.claims().have, content.set(&[0, 7]));
}

#[test]
fn a_piece_that_was_lost_is_not_claimed() {
    let content = Content::new();
    let store = content.store();
    let have = content.set(&[0, 1, 2]);
    let checkpoint = Checkpoint::new(content.target(), content.metainfo.info_hash, &store, &have, None).unwrap();
    checkpoint.handle_lost(content.geometry().piece(1).unwrap());
    checkpoint.run(&store, true).unwrap();
    drop(checkpoint);
    assert_eq!(content.claims().have, content.set(&[0, 2]));
}

#[test]
fn replacing_a_file_while_it_is_written_is_a_fault() {
    for replaced in [false, true] {
        let content = Content::new();
        let store = content.store();
        let none = Bitfield::new(PIECE_COUNT);
        let checkpoint = Checkpoint::new(content.target(), content.metainfo.info_hash, &store, &none, None).unwrap();
        let file = SharedFile::new(store.layout().open_to_write(1).unwrap());
        checkpoint.handle_file_written(1, &file);
        checkpoint.handle_written(content.geometry().piece(7).unwrap());
        fs::remove_file(content.path("b")).unwrap();
        if replaced {
            fs::write(content.path("b"), [0; 40]).unwrap();
        }
        let error = checkpoint.run(&store, true).unwrap_err();
        assert!(error.to_string().contains("/b"), "{error}");
    }
}
