//! The right to write a torrent's content, one process at a time, and what lies next to it.
//!
//! All are files beside the content, named after the torrent: `.NAME.bt-fast-lock` for as long as somebody writes,
//! `.NAME.bt-fast-resume` and `.NAME.bt-fast-parts` for as long as something is missing. Content may have these names too: a
//! file that does not begin as ours do is neither replaced nor removed. The files of the content are locked too, see
//! `file_locks`: another torrent may have them under another name.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use tracing::warn;

use super::error::{Action, StorageError};
use super::file_locks::FileLocks;
use super::layout::{Layout, is_synced, open_beneath};
use super::store::Store;
use crate::base::InfoHash;
use crate::base::lock::lock;
use crate::uring::{Step, fault_point, retry_transient};

/// What our files begin with, also those of `codec::resume` and `codec::parts`. Those that are not synced before they have
/// their name, the lock and files to be, are ours as well while they are empty or begin with zeros: a crash leaves them so.
const MARK: &[u8] = b"bt-fast ";
const LOCK: &str = ".bt-fast-lock";
/// A torrent whose name begins with a dot and contains this could write over another torrent's files of ours.
const RESERVED: &[u8] = b".bt-fast-";
/// Names that are tried for a file to be, as a crash or another torrent's content may have taken some.
const NEW_NAMES_MAX: u32 = 8;
/// Bytes of a torrent's name that our names have: with a dot and an ending they are one path element. Who shares them
/// shares lock and record, which says whose it is.
const STEM_LEN_MAX: usize = 200;
/// The mark, a process id and an info-hash.
const LOCK_LEN_MAX: u64 = 96;

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
    was_interrupted: bool,
    files: Mutex<FileLocks>,
}

impl Target {
    /// Takes the right to write the content of the torrent `name` in `folder`. A process that has it already is named.
    pub fn lock(folder: &Path, name: &[u8], info_hash: InfoHash) -> Result<Self, StorageError> {
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
                Err(Errno::WOULDBLOCK) => return Err(in_use(&folder.join(OsString::from_vec(name.to_vec())), &lock)),
                Err(Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS) => {
                    warn!("{}: no locks here: take care that nobody else writes to it", folder.display());
                }
                Err(error) => return Err(failed(Action::Lock, error)),
            }
            let is_short = lock.metadata().is_ok_and(|stat| stat.len() <= LOCK_LEN_MAX);
            if !is_short || !is_ours(&lock, Synced::Later).unwrap_or(false) {
                return Err(not_ours(Action::Lock, &path(LOCK)));
            }
            let left_by = Holder::read(&lock).info_hash;
            let target = Self {
                was_interrupted: left_by.is_some_and(|left_by| left_by == info_hash.to_string()),
                files: Mutex::default(),
                folder: opened.try_clone().map_err(|e| StorageError::new(Action::Open, folder, e))?,
                folder_path: folder.to_owned(),
                stem: stem.clone(),
                lock,
            };
            // Who had it before may have removed the name between our opening it and the lock.
            if target.holds_name() {
                target.write_holder(info_hash);
                target.check_sidecars()?;
                return Ok(target);
            }
        }
    }

    fn check_sidecars(&self) -> Result<(), StorageError> {
        for which in Sidecar::ALL {
            match self.finds_ours(&self.file_name(which), Synced::First) {
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

    /// For the next process; a full disk has no room even for this.
    fn write_holder(&self, info_hash: InfoHash) {
        let line = [MARK, format!("{} {info_hash}\n", std::process::id()).as_bytes()].concat();
        let _ = self.lock.write_all_at(&line, 0).and_then(|()| self.lock.set_len(line.len() as u64));
    }

    /// A run that wrote the same torrent here was killed: what it has left need not be a whole piece.
    pub fn was_interrupted(&self) -> bool {
        self.was_interrupted
    }

    fn files(&self) -> MutexGuard<'_, FileLocks> {
        lock(&self.files)
    }

    /// Takes the right to write to those of these files that are there.
    pub fn claim_existing(
        &self,
        layout: &Layout,
        file_indices: impl Iterator<Item = usize>,
    ) -> Result<(), StorageError> {
        self.files().claim_existing(layout, file_indices)
    }

    /// Makes every file of the store with its length, sparse, and takes the right to write to it. Called before a download
    /// writes; `is_written` says to which files.
    pub fn create_files(&self, store: &Store, is_written: impl Fn(usize) -> bool) -> Result<(), StorageError> {
        let mut files = self.files();
        files.refuse_second_names(store.layout(), &is_written)?;
        store
            .file_indices()
            .try_for_each(|file_index| files.create(store.layout(), file_index, store.len(file_index)))?;
        files.refuse_second_names(store.layout(), is_written)
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
            fault_point(Step::Write)?;
            write(&mut file)?;
            fault_point(Step::Sync)?;
            retry_transient(|| file.sync_all())?;
            fault_point(Step::Rename)?;
            if self.finds_ours(&self.file_name(which), Synced::First)? == Some(false) {
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
            if self.finds_ours(&name, Synced::Later)? == Some(true) {
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

    /// Whether the file of this name is ours; `None` if there is none.
    fn finds_ours(&self, name: &OsStr, synced: Synced) -> io::Result<Option<bool>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        match open_beneath(self.folder.as_fd(), Path::new(name), flags) {
            Ok(file) => is_ours(&file.into(), synced).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP) => Ok(Some(false)),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes these, and what a crash left of new ones.
    pub fn remove(&self, which: &[Sidecar]) -> Result<(), StorageError> {
        let remove = |(name, synced): (OsString, Synced)| match self.finds_ours(&name, synced)? {
            Some(true) => Ok(rustix::fs::unlinkat(&self.folder, name, AtFlags::empty())?),
            Some(false) | None => Ok(()),
        };
        let failed = |which, error| StorageError::new(Action::Remove, self.path(which), error);
        for &which in which {
            let new = (file_name(&self.stem, which.new_ending()), Synced::Later);
            [new, (self.file_name(which), Synced::First)]
                .into_iter()
                .try_for_each(remove)
                .map_err(|error| failed(which, error))?;
        }
        self.sync_folder().map_err(|error| failed(Sidecar::Record, error))
    }

    /// Makes names durable.
    fn sync_folder(&self) -> io::Result<()> {
        fault_point(Step::Sync)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let synced = rustix::fs::openat(&self.folder, ".", flags, Mode::empty()).and_then(rustix::fs::fsync);
        is_synced(synced.map_err(io::Error::from))
    }

    /// Takes the lock's name away, and gives the files back. The lock itself is held until this is dropped: a process that
    /// comes now makes a new one.
    pub fn release(&self) {
        self.files().release();
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

/// When the bytes of one of our files are on the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Synced {
    /// Before it has its name.
    First,
    /// After that, so that a crash may leave it empty or with zeros.
    Later,
}

fn is_ours(file: &File, synced: Synced) -> io::Result<bool> {
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut beginning = [0; MARK.len()];
    let len = file.read_at(&mut beginning, 0)?;
    let is_torn = || synced == Synced::Later && beginning.iter().all(|&byte| byte == 0);
    Ok((len == MARK.len() && beginning == *MARK) || is_torn())
}

fn not_ours_error() -> io::Error {
    let error = "it is not a file of bt-fast's: move it away or choose another folder";
    io::Error::new(io::ErrorKind::AlreadyExists, error)
}

fn not_ours(action: Action, path: &Path) -> StorageError {
    StorageError::new(action, path, not_ours_error())
}

/// What a lock file says of the process that has or had the lock.
#[derive(Debug, Default)]
struct Holder {
    pid: Option<u32>,
    info_hash: Option<String>,
}

impl Holder {
    fn read(lock: &File) -> Self {
        let mut text = Vec::new();
        let _ = lock.take(LOCK_LEN_MAX).read_to_end(&mut text);
        let line = text.strip_prefix(MARK).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default();
        let mut words = line.split_whitespace();
        Self { pid: words.next().and_then(|pid| pid.parse().ok()), info_hash: words.next().map(str::to_owned) }
    }
}

fn in_use(path: &Path, lock: &File) -> StorageError {
    let who = Holder::read(lock).pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    let error = format!("{who} is downloading it: wait until that ends, or end it");
    StorageError::new(Action::Lock, path, io::Error::new(io::ErrorKind::ResourceBusy, error))
}

/// Makes a folder and those it lies in where they are missing, and returns when their names are on the disk.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<&Path> = folder.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(folder)?;
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fault_point(Step::Sync)?;
        is_synced(File::open(parent).and_then(|parent| parent.sync_all()))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
