//! A cache of successful checks: one small file per torrent, in a separate folder.
//!
//! A record states that all files of a torrent were right at some time, and identifies these files by device, inode,
//! length, modification time and change time. It is used only if all of these are the same. An invalid record is
//! ignored.
//!
//! A record consists of `MAGIC` with its version, the info-hash, the time, the numbers of each file, and the SHA-1 of
//! all that. Numbers are 64 bits wide, little-endian.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::observation::{FILE_LEN, Observation};
use super::open::open_regular;
use crate::base::InfoHash;
use crate::base::limits::REMEMBERED_CHECKS_MAX;
use crate::hash::sha1;

/// The beginning of a record. The last byte is the version.
const MAGIC: [u8; 16] = *b"bt-fast check\r\n\x01";
const EXTENSION: &str = "check";
const HASH_LEN: usize = size_of::<InfoHash>();
const HEAD_LEN: usize = MAGIC.len() + HASH_LEN + size_of::<i64>();

/// Records in `folder` that a check found this content right. The check began at `started`, in seconds since 1970, and
/// the files had the same identities before and after it.
///
/// Returns false, and records nothing, if a file was written after `started` or so shortly before that a later write
/// could have the same time stamp.
pub fn remember(folder: &Path, info_hash: InfoHash, started: i64, content: &Observation) -> io::Result<bool> {
    if !content.is_settled(started) {
        return Ok(false);
    }
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(".bt-fast-").suffix(".tmp").tempfile_in(folder)?;
    file.write_all(&encode(info_hash, started, content))?;
    file.persist(record_path(folder, info_hash)).map_err(|error| error.error)?;
    forget_oldest(folder, EXTENSION, REMEMBERED_CHECKS_MAX)?;
    Ok(true)
}

/// Returns the time of the check that found the content right, in seconds since 1970, if the files are still the same.
pub fn recall(folder: &Path, info_hash: InfoHash, now: &Observation) -> Option<i64> {
    let record_len = HEAD_LEN + now.file_count() * FILE_LEN + HASH_LEN;
    let (file, _) = open_regular(&record_path(folder, info_hash)).ok()?;
    let mut record = Vec::with_capacity(record_len);
    file.take(record_len as u64 + 1).read_to_end(&mut record).ok()?;
    let started = record.get(HEAD_LEN - size_of::<i64>()..HEAD_LEN)?;
    let started = i64::from_le_bytes(started.try_into().ok()?);
    // The encoding is unique, so comparing bytes compares all fields.
    (record == encode(info_hash, started, now)).then_some(started)
}

/// Removes the record of content that a check found wrong.
pub fn forget(folder: &Path, info_hash: InfoHash) -> io::Result<()> {
    match fs::remove_file(record_path(folder, info_hash)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn encode(info_hash: InfoHash, started: i64, content: &Observation) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEAD_LEN + content.file_count() * FILE_LEN + HASH_LEN);
    record.extend(MAGIC);
    record.extend(info_hash.0);
    record.extend(started.to_le_bytes());
    record.extend(content.encode());
    let hash = sha1(&[&record]);
    record.extend(hash.0);
    record
}

fn record_path(folder: &Path, info_hash: InfoHash) -> PathBuf {
    folder.join(format!("{info_hash}.{EXTENSION}"))
}

/// Removes the oldest files with this extension until `count_max` are left.
pub(super) fn forget_oldest(folder: &Path, extension: &str, count_max: usize) -> io::Result<()> {
    let is_record = |path: &PathBuf| path.extension().is_some_and(|found| found == extension);
    let mut records: Vec<PathBuf> =
        fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).filter(is_record).collect();
    if records.len() > count_max {
        records.sort_by_cached_key(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok());
        records.iter().take(records.len() - count_max).try_for_each(fs::remove_file)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create::observation::STAMP_GRAIN_S;
    use std::fs::File;
    use std::os::unix::fs::MetadataExt as _;

    const INFO_HASH: InfoHash = InfoHash([7; 20]);
    /// A time long after the files of the tests were written.
    const LATER: i64 = 4_000_000_000;

    struct Content {
        dir: tempfile::TempDir,
        paths: Vec<PathBuf>,
    }

    impl Content {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let paths = ["a", "b"].map(|name| dir.path().join(name)).to_vec();
            paths.iter().for_each(|path| fs::write(path, "content").unwrap());
            Self { dir, paths }
        }

        fn folder(&self) -> PathBuf {
            self.dir.path().join("cache/checks")
        }

        fn seen(&self) -> Observation {
            Observation::of(&self.paths).unwrap()
        }

        fn remember(&self, started: i64) -> bool {
            remember(&self.folder(), INFO_HASH, started, &self.seen()).unwrap()
        }

        fn recall(&self) -> Option<i64> {
            recall(&self.folder(), INFO_HASH, &self.seen())
        }
    }

    #[test]
    fn unchanged_files_are_recalled_and_changed_ones_are_not() {
        let content = Content::new();
        assert_eq!(content.recall(), None);
        assert!(content.remember(LATER));
        assert_eq!(content.recall(), Some(LATER));
        forget(&content.folder(), INFO_HASH).unwrap();
        forget(&content.folder(), INFO_HASH).unwrap();
        assert_eq!(content.recall(), None);
        assert!(content.remember(LATER));
        assert_eq!(recall(&content.folder(), InfoHash([8; 20]), &content.seen()), None);
        assert_eq!(recall(&content.folder(), INFO_HASH, &Observation::of(&content.paths[..1]).unwrap()), None);

        // Another file with the same bytes and modification time.
        let copy = content.dir.path().join("copy");
        fs::copy(&content.paths[0], &copy).unwrap();
        let modified = fs::metadata(&content.paths[0]).unwrap().modified().unwrap();
        File::options().append(true).open(&copy).unwrap().set_modified(modified).unwrap();
        fs::rename(&copy, &content.paths[0]).unwrap();
        assert_eq!(content.recall(), None);

        // A write that restores the modification time.
        assert!(content.remember(LATER));
        let modified = fs::metadata(&content.paths[1]).unwrap().modified().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&content.paths[1], "altered").unwrap();
        File::options().append(true).open(&content.paths[1]).unwrap().set_modified(modified).unwrap();
        assert_eq!(content.recall(), None);

        fs::remove_file(&content.paths[1]).unwrap();
        assert_eq!(Observation::of(&content.paths), None);
        fs::create_dir(&content.paths[1]).unwrap();
        assert_eq!(Observation::of(&content.paths), None);
    }

    #[test]
    fn content_that_was_just_written_is_not_recorded() {
        let content = Content::new();
        let written = fs::metadata(&content.paths[1]).unwrap().ctime();
        assert!(!content.remember(written));
        assert!(!content.remember(written + STAMP_GRAIN_S));
        assert!(!content.folder().exists());
        assert!(content.remember(written + STAMP_GRAIN_S + 1));
    }

    #[test]
    fn a_damaged_record_is_ignored() {
        let content = Content::new();
        assert!(content.remember(LATER));
        let path = record_path(&content.folder(), INFO_HASH);
        let record = fs::read(&path).unwrap();
        for at in 0..record.len() {
            let mut damaged = record.clone();
            damaged[at] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert_eq!(content.recall(), None, "byte {at}");
        }
        for len in [0, 1, HEAD_LEN, record.len() - 1] {
            fs::write(&path, &record[..len]).unwrap();
            assert_eq!(content.recall(), None, "{len} bytes");
        }
        fs::write(&path, [&record[..], b"x"].concat()).unwrap();
        assert_eq!(content.recall(), None);
        fs::write(&path, &record).unwrap();
        assert_eq!(content.recall(), Some(LATER));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(content.recall(), None);
    }

    #[test]
    fn the_oldest_records_are_removed() {
        let content = Content::new();
        fs::create_dir_all(content.folder()).unwrap();
        for at in 0..REMEMBERED_CHECKS_MAX {
            let path = content.folder().join(format!("{at}.check"));
            let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000 + at as u64);
            File::create(path).unwrap().set_modified(modified).unwrap();
        }
        assert!(content.remember(LATER));
        assert!(!content.folder().join("0.check").exists() && content.folder().join("1.check").exists());
        assert_eq!(content.recall(), Some(LATER));
    }
}
