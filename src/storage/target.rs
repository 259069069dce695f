//! The right to write a torrent's content, one process at a time, and what lies next to it.
//!
//! All are files beside the content, named after the torrent: `.NAME.bt-fast-lock` for as long as somebody writes,
//! `.NAME.bt-fast-resume` and `.NAME.bt-fast-parts` for as long as something is missing. Content may have these names too: a
//! file that does not begin as ours do is neither replaced nor removed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use tracing::warn;

use super::error::{Action, StorageError};
use super::layout::open_beneath;
use crate::uring::{Step, persist, reach};

/// What our files begin with, also those of `codec::resume` and `codec::parts`. An empty lock file is ours as well: a crash
/// leaves one.
const MARK: &[u8] = b"bt-fast ";
const LOCK: &str = ".bt-fast-lock";
/// A torrent whose name begins with a dot and contains this could write over another torrent's files of ours.
const RESERVED: &[u8] = b".bt-fast-";
/// Names that are tried for a file to be, as a crash or another torrent's content may have taken some.
const NEW_NAMES_MAX: u32 = 8;
/// Bytes of a torrent's name that our names have: with a dot and an ending they are one path element. Who shares them
/// shares lock and record, which says whose it is.
const STEM_LEN_MAX: usize = 200;
/// The mark and a process id.
const LOCK_LEN_MAX: u64 = 32;

/// What is kept next to content that is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sidecar {
    /// Which pieces are on the disk.
    Record,
    /// Pieces received in part.
    Parts,
}

impl Sidecar {
    pub const ALL: [Self; 2] = [Self::Record, Self::Parts];

    const fn ending(self) -> &'static str {
        match self {
            Self::Record => ".bt-fast-resume",
            Self::Parts => ".bt-fast-parts",
        }
    }

    /// Until it takes the place of the old one.
    const fn new_ending(self) -> &'static str {
        match self {
            Self::Record => ".bt-fast-new",
            Self::Parts => ".bt-fast-new-parts",
        }
    }
}

/// See the module. The lock goes with it.
#[derive(Debug)]
pub struct Target {
    folder: OwnedFd,
    folder_path: PathBuf,
    stem: Vec<u8>,
    lock: File,
}

impl Target {
    /// Takes the right to write the content of the torrent `name` in `folder`. Who has it already is named.
    pub fn lock(folder: &Path, name: &[u8]) -> Result<Self, StorageError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(folder, flags, Mode::empty())
            .map_err(|error| StorageError::new(Action::Open, folder, error))?;
        let stem = [b".", name.get(..STEM_LEN_MAX).unwrap_or(name)].concat();
        let path = |ending| folder.join(file_name(&stem, ending));
        if name.starts_with(b".") && name.windows(RESERVED.len()).any(|part| part == RESERVED) {
            let error = io::Error::other("bt-fast keeps such names for itself");
            return Err(StorageError::new(Action::Lock, folder.join(OsString::from_vec(name.to_vec())), error));
        }
        let failed = |action, error: Errno| StorageError::new(action, path(LOCK), io::Error::from(error));
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK;
            let lock = open_beneath(opened.as_fd(), Path::new(&file_name(&stem, LOCK)), flags)
                .map_err(|error| failed(Action::Create, error))?;
            let lock = File::from(lock);
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(in_use(&folder.join(OsString::from_vec(name.to_vec())), lock)),
                Err(Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS) => {
                    warn!("{}: no locks here: take care that nobody else writes to it", folder.display());
                }
                Err(error) => return Err(failed(Action::Lock, error)),
            }
            if !is_lock(&lock) {
                return Err(not_ours(Action::Lock, &path(LOCK)));
            }
            let target = Self {
                folder: opened.try_clone().map_err(|e| StorageError::new(Action::Open, folder, e))?,
                folder_path: folder.to_owned(),
                stem: stem.clone(),
                lock,
            };
            // Who had it before may have removed the name between our opening it and the lock.
            if target.holds_name() {
                target.write_pid();
                target.check_sidecars()?;
                return Ok(target);
            }
        }
    }

    fn check_sidecars(&self) -> Result<(), StorageError> {
        for which in Sidecar::ALL {
            match self.is_ours(&self.file_name(which)) {
                Ok(Some(true) | None) => {}
                Ok(Some(false)) => return Err(not_ours(Action::Write, &self.path(which))),
                Err(error) => return Err(StorageError::new(Action::Read, self.path(which), error)),
            }
        }
        Ok(())
    }

    /// The lock's name is still that of the file that we have locked.
    fn holds_name(&self) -> bool {
        let named = rustix::fs::statat(&self.folder, file_name(&self.stem, LOCK), AtFlags::SYMLINK_NOFOLLOW);
        match (named, self.lock.metadata()) {
            (Ok(named), Ok(ours)) => (named.st_dev, named.st_ino) == (ours.dev(), ours.ino()),
            _ => false,
        }
    }

    /// For the message of who comes second; a full disk has no room even for this.
    fn write_pid(&self) {
        let line = [MARK, format!("{}\n", std::process::id()).as_bytes()].concat();
        let _ = self.lock.write_all_at(&line, 0).and_then(|()| self.lock.set_len(line.len() as u64));
    }

    /// Where it is.
    pub fn path(&self, which: Sidecar) -> PathBuf {
        self.folder_path.join(self.file_name(which))
    }

    fn file_name(&self, which: Sidecar) -> OsString {
        file_name(&self.stem, which.ending())
    }

    /// What is there, if it is: at most `len` bytes and one more. What is no regular file is an error.
    pub fn load(&self, which: Sidecar, len: usize) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match open_beneath(self.folder.as_fd(), Path::new(&self.file_name(which)), flags) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(len as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Puts what `write` writes in its place: after a crash at any moment it is the old one or the new one.
    pub fn save(&self, which: Sidecar, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), StorageError> {
        self.replace(which, write).map_err(|error| StorageError::new(Action::Write, self.path(which), error))
    }

    fn replace(&self, which: Sidecar, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let (new, mut file) = self.create_new(which)?;
        let written = (|| {
            reach(Step::Write)?;
            write(&mut file)?;
            reach(Step::Sync)?;
            persist(|| file.sync_all())?;
            reach(Step::Rename)?;
            if self.is_ours(&self.file_name(which))? == Some(false) {
                return Err(not_ours_error());
            }
            rustix::fs::renameat(&self.folder, &new, &self.folder, self.file_name(which))?;
            Ok(())
        })();
        if written.is_err() {
            // On a full disk every byte counts.
            let _ = rustix::fs::unlinkat(&self.folder, &new, AtFlags::empty());
            return written;
        }
        self.sync_folder()
    }

    /// The file that takes the place of an older one when it is written.
    fn create_new(&self, which: Sidecar) -> io::Result<(OsString, File)> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        for number in 0..NEW_NAMES_MAX {
            let mut name = file_name(&self.stem, which.new_ending());
            if number > 0 {
                name.push(number.to_string());
            }
            if self.is_ours(&name)? == Some(true) {
                rustix::fs::unlinkat(&self.folder, &name, AtFlags::empty())?;
            }
            match open_beneath(self.folder.as_fd(), Path::new(&name), flags) {
                Ok(file) => return Ok((name, file.into())),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(not_ours_error())
    }

    /// Whether a file of this name is ours; `None` if there is none.
    fn is_ours(&self, name: &OsStr) -> io::Result<Option<bool>> {
        is_ours(self.folder.as_fd(), name)
    }

    /// Removes these, and what a crash left of new ones.
    pub fn remove(&self, which: &[Sidecar]) -> Result<(), StorageError> {
        let remove = |name: OsString| match self.is_ours(&name)? {
            Some(true) => Ok(rustix::fs::unlinkat(&self.folder, name, AtFlags::empty())?),
            Some(false) | None => Ok(()),
        };
        let failed = |which, error| StorageError::new(Action::Remove, self.path(which), error);
        for &which in which {
            let names = [file_name(&self.stem, which.new_ending()), self.file_name(which)];
            names.into_iter().try_for_each(remove).map_err(|error| failed(which, error))?;
        }
        self.sync_folder().map_err(|error| failed(Sidecar::Record, error))
    }

    /// Makes names durable. A file system that can't sync a folder has them durable already.
    fn sync_folder(&self) -> io::Result<()> {
        reach(Step::Sync)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.folder, ".", flags, Mode::empty()).and_then(rustix::fs::fsync) {
            Err(Errno::IO) => Err(Errno::IO.into()),
            _ => Ok(()),
        }
    }

    /// Takes the lock's name away. The lock itself is held until this is dropped, which nobody who comes now waits for.
    pub fn release(&self) {
        if self.holds_name() {
            let _ = rustix::fs::unlinkat(&self.folder, file_name(&self.stem, LOCK), AtFlags::empty());
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.release();
    }
}

fn file_name(stem: &[u8], ending: &str) -> OsString {
    OsString::from_vec([stem, ending.as_bytes()].concat())
}

fn is_ours(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<bool>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open_beneath(folder, Path::new(name), flags) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Ok(Some(false)),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Ok(Some(false));
    }
    let mut beginning = Vec::new();
    file.take(MARK.len() as u64).read_to_end(&mut beginning)?;
    Ok(Some(beginning == MARK))
}

fn is_lock(file: &File) -> bool {
    let mut beginning = [0; MARK.len()];
    match file.metadata() {
        Ok(stat) if stat.is_file() && stat.len() == 0 => true,
        Ok(stat) => stat.is_file() && file.read_exact_at(&mut beginning, 0).is_ok() && beginning == *MARK,
        Err(_) => false,
    }
}

fn not_ours_error() -> io::Error {
    let error = "it is not a file of bt-fast's: move it away or choose another folder";
    io::Error::new(io::ErrorKind::AlreadyExists, error)
}

fn not_ours(action: Action, path: &Path) -> StorageError {
    StorageError::new(action, path, not_ours_error())
}

fn in_use(path: &Path, lock: File) -> StorageError {
    let mut text = Vec::new();
    let _ = lock.take(LOCK_LEN_MAX).read_to_end(&mut text);
    let pid = text.strip_prefix(MARK).and_then(|text| str::from_utf8(text).ok()?.trim().parse::<u32>().ok());
    let who = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    let error = format!("{who} is downloading it: wait until that ends, or end it");
    StorageError::new(Action::Lock, path, io::Error::new(io::ErrorKind::ResourceBusy, error))
}

#[cfg(test)]
mod tests {
    use super::Sidecar::{Parts, Record};
    use super::*;
    use std::fs;
    use std::io::Write as _;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn one_at_a_time_and_the_second_is_told_whom_it_waits_for() {
        let folder = tempfile::tempdir().unwrap();
        let first = Target::lock(folder.path(), b"name").unwrap();
        assert_eq!(names(folder.path()), [".name.bt-fast-lock"]);
        let refused = Target::lock(folder.path(), b"name").unwrap_err().to_string();
        assert!(
            refused.contains("/name: can't lock") && refused.contains(&std::process::id().to_string()),
            "{refused}"
        );
        let other = Target::lock(folder.path(), b"other name").unwrap();
        drop((first, other));
        assert_eq!(names(folder.path()), [""; 0]);
        // What a killed process left.
        for left in ["bt-fast 1\n", ""] {
            fs::write(folder.path().join(".name.bt-fast-lock"), left).unwrap();
            Target::lock(folder.path(), b"name").unwrap();
        }
    }

    #[test]
    fn a_lock_whose_name_is_gone_keeps_nobody_out_and_takes_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let first = Target::lock(folder.path(), b"name").unwrap();
        first.release();
        let second = Target::lock(folder.path(), b"name").unwrap();
        drop(first);
        assert!(second.holds_name());
        assert!(Target::lock(folder.path(), b"name").is_err());
    }

    #[test]
    fn a_record_is_replaced_as_a_whole_and_goes_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::lock(folder.path(), b"name").unwrap();
        assert_eq!(target.load(Record, 10).unwrap(), None);
        fs::write(folder.path().join(".name.bt-fast-new"), "bt-fast resume, half of it").unwrap();
        for bytes in [&b"bt-fast 1"[..], b"bt-fast two"] {
            target.save(Record, |file| file.write_all(bytes)).unwrap();
            assert_eq!(target.load(Record, 20).unwrap().as_deref(), Some(bytes));
        }
        assert_eq!(target.load(Record, 3).unwrap().as_deref(), Some(&b"bt-f"[..]), "one byte more than asked for");
        target.save(Parts, |file| file.write_all(b"bt-fast parts")).unwrap();
        assert_eq!(target.load(Record, 20).unwrap().as_deref(), Some(&b"bt-fast two"[..]));
        assert_eq!(names(folder.path()), [".name.bt-fast-lock", ".name.bt-fast-parts", ".name.bt-fast-resume"]);
        target.remove(&[Parts]).unwrap();
        assert_eq!(names(folder.path()), [".name.bt-fast-lock", ".name.bt-fast-resume"]);
        target.remove(&Sidecar::ALL).unwrap();
        target.remove(&Sidecar::ALL).unwrap();
        drop(target);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn half_a_record_goes_too() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::lock(folder.path(), b"name").unwrap();
        fs::write(folder.path().join(".name.bt-fast-new"), "bt-fast resume, half of it").unwrap();
        target.remove(&Sidecar::ALL).unwrap();
        drop(target);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn links_and_folders_are_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        fs::write(&outside, "bt-fast keep").unwrap();
        let link = |name| std::os::unix::fs::symlink(&outside, folder.path().join(name)).unwrap();
        let target = Target::lock(folder.path(), b"name").unwrap();
        for name in [".name.bt-fast-resume", ".name.bt-fast-new"] {
            link(name);
        }
        assert!(target.load(Record, 10).is_err() && target.save(Record, |file| file.write_all(b"bt-fast")).is_err());
        target.remove(&Sidecar::ALL).unwrap();
        drop(target);
        assert!(Target::lock(folder.path(), b"name").unwrap_err().to_string().contains("not a file of bt-fast's"));
        fs::remove_file(folder.path().join(".name.bt-fast-resume")).unwrap();
        fs::create_dir(folder.path().join(".name.bt-fast-resume")).unwrap();
        assert!(Target::lock(folder.path(), b"name").unwrap_err().to_string().contains("not a file of bt-fast's"));
        link(".other.bt-fast-lock");
        assert!(Target::lock(folder.path(), b"other").unwrap_err().to_string().contains("symbolic link"));
        assert_eq!(fs::read(&outside).unwrap(), b"bt-fast keep");
    }

    /// Content of another torrent, or the user's own.
    #[test]
    fn files_that_are_not_ours_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
        for name in [".name.bt-fast-lock", ".name.bt-fast-resume", ".name.bt-fast-parts"] {
            for content in [&b"content"[..], b"1\n", &[0; 100]] {
                fs::write(folder.path().join(name), content).unwrap();
                let refused = Target::lock(folder.path(), b"name").unwrap_err().to_string();
                assert!(refused.contains(name) && refused.contains("not a file of bt-fast's"), "{refused}");
                assert_eq!(read(name), content);
            }
            fs::remove_file(folder.path().join(name)).unwrap();
            let _ = fs::remove_file(folder.path().join(".name.bt-fast-lock"));
        }
        // They come while the download runs.
        let target = Target::lock(folder.path(), b"name").unwrap();
        for name in [".name.bt-fast-new", ".name.bt-fast-parts"] {
            fs::write(folder.path().join(name), "content").unwrap();
        }
        target.save(Record, |file| file.write_all(b"bt-fast record")).unwrap();
        assert!(target.save(Parts, |file| file.write_all(b"bt-fast parts")).is_err());
        target.remove(&Sidecar::ALL).unwrap();
        drop(target);
        assert_eq!(names(folder.path()), [".name.bt-fast-new", ".name.bt-fast-parts"]);
        assert_eq!((read(".name.bt-fast-new"), read(".name.bt-fast-parts")), (b"content".into(), b"content".into()));
    }

    #[test]
    fn long_names_and_names_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        let name = [b'n'; 255];
        let target = Target::lock(folder.path(), &name).unwrap();
        target.save(Record, |file| file.write_all(b"bt-fast record")).unwrap();
        assert!(names(folder.path()).iter().all(|name| name.len() > 200));
        for name in [".a.bt-fast-resume", ".a.bt-fast-parts", ".a.bt-fast-lock", ".a.bt-fast-new", ".a.bt-fast-new1"] {
            let refused = Target::lock(folder.path(), name.as_bytes()).unwrap_err().to_string();
            assert!(refused.contains("for itself"), "{refused}");
        }
    }
}
