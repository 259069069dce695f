//! The right of one process to write a torrent's content, and the sidecar files next to the content.
//!
//! The files are named after the torrent: `.NAME.bt-fast-lock` while a process writes, `.NAME.bt-fast-resume` and
//! `.NAME.bt-fast-parts` while the download is incomplete. Content may have such names too, so a file that does not
//! begin with our mark is neither replaced nor removed. The files of the content have locks of their own
//! (`file_locks`), since another torrent may contain them under another name.

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

use super::beneath::open_beneath;
use super::error::{Action, StorageError};
use super::file_locks::FileLocks;
use super::layout::{Layout, is_synced};
use super::share::CountedDownload;
use super::store::Store;
use crate::base::InfoHash;
use crate::base::lock::lock;
use crate::io::{Step, fault_point, retry_transient};

/// The first bytes of our files, including those of `codec::resume` and `codec::parts`.
///
/// The lock file and replacement files get their name before they are synced. A crash may leave such a file empty or
/// with zeros, so it counts as ours in that state too.
const MARK: &[u8] = b"bt-fast ";
const LOCK: &str = ".bt-fast-lock";
/// A torrent whose name begins with a dot and contains this could overwrite the sidecar files of another torrent.
const RESERVED: &[u8] = b".bt-fast-";
/// The number of names tried for a replacement file, as a crash or another torrent's content may occupy some.
const NEW_NAMES_MAX: u32 = 8;
/// The maximum number of bytes of the torrent's name used in our file names, so that dot and ending fit into one path
/// element. Torrents whose names share these bytes share the lock and the record; the record contains the info-hash.
const STEM_LEN_MAX: usize = 200;
/// The maximum length of a lock file: the mark, a process id and an info-hash.
const LOCK_LEN_MAX: u64 = 96;

/// A file kept next to incomplete content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sidecar {
    /// The resume record: the pieces that are on disk.
    Record,
    /// Partially received pieces.
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

    /// The ending of a replacement file, before it is renamed.
    const fn new_ending(self) -> &'static str {
        match self {
            Self::Record => ".bt-fast-new",
            Self::Parts => ".bt-fast-new-parts",
        }
    }
}

/// The right to write the content of one torrent, released when it is dropped.
#[derive(Debug)]
pub struct Target {
    folder: OwnedFd,
    folder_path: PathBuf,
    stem: Vec<u8>,
    lock: File,
    was_interrupted: bool,
    files: Mutex<FileLocks>,
    _counted: CountedDownload,
}

impl Target {
    /// Takes the right to write the content of the torrent `name` in `folder`. The error names a process that has it.
    pub fn lock(folder: &Path, name: &[u8], info_hash: InfoHash) -> Result<Self, StorageError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(folder, flags, Mode::empty())
            .map_err(|error| StorageError::new(Action::Open, folder, error))?;
        let stem = [b".", name.get(..STEM_LEN_MAX).unwrap_or(name)].concat();
        let path = |ending| folder.join(file_name(&stem, ending));
        if name.starts_with(b".") && name.windows(RESERVED.len()).any(|part| part == RESERVED) {
            let error = io::Error::other(
                "names of this form are reserved for bt-fast: the torrent cannot be downloaded under this name",
            );
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
                    warn!(
                        "{}: the file system does not support locks: make sure that no other program writes to it",
                        folder.display()
                    );
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
                _counted: CountedDownload::begin(),
                folder: opened.try_clone().map_err(|e| StorageError::new(Action::Open, folder, e))?,
                folder_path: folder.to_owned(),
                stem: stem.clone(),
                lock,
            };
            // The previous owner may have removed the name after this process opened the file and before it got the
            // lock.
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

    /// Whether the name of the lock file still refers to the file that this process has locked.
    fn holds_name(&self) -> bool {
        let named = rustix::fs::statat(&self.folder, file_name(&self.stem, LOCK), AtFlags::SYMLINK_NOFOLLOW);
        match (named, self.lock.metadata()) {
            (Ok(named), Ok(ours)) => (named.st_dev, named.st_ino) == (ours.dev(), ours.ino()),
            _ => false,
        }
    }

    /// Writes process id and info-hash for the next process. An error, such as a full disk, is ignored.
    fn write_holder(&self, info_hash: InfoHash) {
        let line = [MARK, format!("{} {info_hash}\n", std::process::id()).as_bytes()].concat();
        let _ = self.lock.write_all_at(&line, 0).and_then(|()| self.lock.set_len(line.len() as u64));
    }

    /// Whether an earlier run that wrote the same torrent here was killed, and may have left incomplete pieces.
    pub fn was_interrupted(&self) -> bool {
        self.was_interrupted
    }

    fn files(&self) -> MutexGuard<'_, FileLocks> {
        lock(&self.files)
    }

    /// Takes the right to write to those of these files that exist.
    pub fn claim_existing(
        &self,
        layout: &Layout,
        file_indices: impl Iterator<Item = usize>,
    ) -> Result<(), StorageError> {
        self.files().claim_existing(layout, file_indices)
    }

    /// Creates every selected file of the store as a sparse file of its full length, and takes the right to write to
    /// it. Called before a download writes. `is_written` returns whether the download writes to a file.
    pub fn create_files(&self, store: &Store, is_written: impl Fn(usize) -> bool) -> Result<(), StorageError> {
        let mut files = self.files();
        files.refuse_second_names(store.layout(), &is_written)?;
        store
            .file_indices()
            .try_for_each(|file_index| files.create(store.layout(), file_index, store.len(file_index)))?;
        files.refuse_second_names(store.layout(), is_written)
    }

    /// The path of a sidecar file.
    pub fn path(&self, which: Sidecar) -> PathBuf {
        self.folder_path.join(self.file_name(which))
    }

    fn file_name(&self, which: Sidecar) -> OsString {
        file_name(&self.stem, which.ending())
    }

    /// Reads at most `len` + 1 bytes of a sidecar file, so that the caller can detect one that is too long. Returns
    /// `None` if there is none, and an error if it is not a regular file.
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

    /// Replaces a sidecar file by what `write` writes. After a crash at any time there is either the old or the new
    /// file.
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
            // Free the space, as the disk may be full.
            let _ = rustix::fs::unlinkat(&self.folder, &new, AtFlags::empty());
            return written;
        }
        self.sync_folder()
    }

    /// Creates the replacement file, and returns its name.
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

    /// Whether the file of this name is ours, or `None` if it does not exist.
    fn finds_ours(&self, name: &OsStr, synced: Synced) -> io::Result<Option<bool>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        match open_beneath(self.folder.as_fd(), Path::new(name), flags) {
            Ok(file) => is_ours(&file.into(), synced).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP) => Ok(Some(false)),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes these sidecar files, and their replacement files that a crash left behind.
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

    /// Syncs the names in the folder.
    fn sync_folder(&self) -> io::Result<()> {
        fault_point(Step::Sync)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let synced = rustix::fs::openat(&self.folder, ".", flags, Mode::empty()).and_then(rustix::fs::fsync);
        is_synced(synced.map_err(io::Error::from))
    }

    /// Releases the files, and removes the lock file. The flock is held until drop; a new process creates a new file
    /// and does not wait for it.
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

/// When a file of ours is synced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Synced {
    /// Before it gets its name.
    First,
    /// After it got its name, so that a crash may leave it empty or with zeros.
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
    let error = "it was not written by bt-fast: move it or choose another folder";
    io::Error::new(io::ErrorKind::AlreadyExists, error)
}

fn not_ours(action: Action, path: &Path) -> StorageError {
    StorageError::new(action, path, not_ours_error())
}

/// The contents of a lock file: the process that has or had the lock.
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
    let holder = Holder::read(lock).pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    let error = format!("{holder} is downloading it: wait until that process has finished, or stop it");
    StorageError::new(Action::Lock, path, io::Error::new(io::ErrorKind::ResourceBusy, error))
}

/// Creates a folder and its missing parents, and syncs their names.
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
