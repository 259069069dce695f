//! The location of a torrent's files. Opens all content, safely beneath one folder.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::beneath::{open_beneath, open_following};
use super::error::{Action, StorageError};
use crate::base::lock::lock;
use crate::base::{FileIdentity, FileTime, limits};
use crate::io::{Step, fault_point, retry_transient};

/// A folder, and the paths of the torrent's files relative to it. File indices are those of the torrent.
#[derive(Debug)]
pub struct Layout {
    folder: OwnedFd,
    folder_path: PathBuf,
    paths: Box<[PathBuf]>,
    links: Links,
    /// Folders, as relative paths, in which names were created that may not be on disk yet.
    unsynced_folders: Mutex<BTreeSet<PathBuf>>,
}

/// The unit of `st_blocks`, in bytes.
const STAT_BLOCK_LEN: u64 = 512;

/// The symbolic links that are followed when a file is opened for reading.
#[derive(Debug)]
enum Links {
    Refused,
    Followed,
    /// The links on the paths of these files, which existed when the layout was created.
    Found(HashSet<usize>),
}

/// Whether a file existed before a download.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    Absent,
    Present { len: u64 },
}

/// The current state of a file that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    Present(FileIdentity),
    Gone,
}

/// The file system on which a file lies or will lie.
#[derive(Debug, Clone)]
pub(super) struct FileSystem {
    pub(super) device: u64,
    /// Free bytes; `None` if the file system does not report them.
    pub(super) free: Option<u64>,
    /// The nearest folder of the file that exists.
    pub(super) folder: PathBuf,
}

impl Layout {
    /// Opens the folder, which must exist. `files` are the paths of the files, each a list of elements.
    ///
    /// The elements must be plain names; the metainfo decoder guarantees this. Symbolic links are not followed.
    pub fn open(folder: &Path, files: impl IntoIterator<Item = Vec<Vec<u8>>>) -> Result<Self, StorageError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(folder, flags, Mode::empty())
            .map_err(|error| StorageError::new(Action::Open, folder, error))?;
        let paths = files
            .into_iter()
            .map(|elements| elements.into_iter().map(std::ffi::OsString::from_vec).collect())
            .collect();
        Ok(Self {
            folder: opened,
            folder_path: folder.to_owned(),
            paths,
            links: Links::Refused,
            unsynced_folders: Mutex::default(),
        })
    }

    /// Follows symbolic links to files that are read.
    #[must_use]
    pub fn following_links(self) -> Self {
        Self { links: Links::Followed, ..self }
    }

    /// Follows the symbolic links that exist in the content at this time, as the user created them. A link that
    /// replaces a file later is not followed.
    #[must_use]
    pub fn following_present_links(self) -> Self {
        let is_link = |&file_index: &usize| {
            let found = open_beneath(self.folder.as_fd(), self.relative(file_index), OFlags::PATH);
            matches!(found, Err(Errno::LOOP | Errno::XDEV))
        };
        let found = (0..self.file_count()).filter(is_link).collect();
        Self { links: Links::Found(found), ..self }
    }

    /// The number of files of the torrent, including pad files.
    pub fn file_count(&self) -> usize {
        self.paths.len()
    }

    /// The full path of a file, for messages.
    pub fn path(&self, file_index: usize) -> PathBuf {
        self.paths.get(file_index).map_or_else(PathBuf::new, |path| self.folder_path.join(path))
    }

    fn relative(&self, file_index: usize) -> &Path {
        self.paths.get(file_index).map_or(Path::new(""), PathBuf::as_path)
    }

    fn follows_links_to(&self, file_index: usize) -> bool {
        match &self.links {
            Links::Refused => false,
            Links::Followed => true,
            Links::Found(files) => files.contains(&file_index),
        }
    }

    /// Opens a file for reading, and returns its identity.
    pub fn open_to_read(&self, file_index: usize) -> Result<(File, FileIdentity), StorageError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let path = self.relative(file_index);
        let open = || {
            if self.follows_links_to(file_index) {
                open_following(self.folder.as_fd(), path, flags)
            } else {
                open_beneath(self.folder.as_fd(), path, flags)
            }
        };
        let opened = fault_point(Step::OpenToRead)
            .and_then(|()| Ok(open()?))
            .map_err(|error| StorageError::new(Action::Open, self.path(file_index), error))?;
        self.regular(file_index, opened)
    }

    /// Opens an existing file for reading and writing, beneath the folder and without following symbolic links.
    pub fn open_to_write(&self, file_index: usize) -> Result<File, StorageError> {
        self.open_to_write_with(file_index, OFlags::RDWR)
    }

    /// [`Self::open_to_write`] past the page cache. Fails with `EINVAL` if the file system does not support that.
    pub(super) fn open_to_write_direct(&self, file_index: usize) -> Result<File, StorageError> {
        self.open_to_write_with(file_index, OFlags::RDWR | OFlags::DIRECT)
    }

    fn open_to_write_with(&self, file_index: usize, flags: OFlags) -> Result<File, StorageError> {
        let opened = fault_point(Step::Open)
            .and_then(|()| Ok(open_beneath(self.folder.as_fd(), self.relative(file_index), flags)?))
            .map_err(|error| StorageError::new(Action::Open, self.path(file_index), error))?;
        self.regular(file_index, opened).map(|(file, _)| file)
    }

    /// Whether a file exists, and its length.
    pub fn presence(&self, file_index: usize) -> Result<Presence, StorageError> {
        let found = self.find(file_index)?;
        Ok(found.map_or(Presence::Absent, |FileIdentity { len, .. }| Presence::Present { len }))
    }

    /// The identity of a file, or `None` if it does not exist.
    pub fn find(&self, file_index: usize) -> Result<Option<FileIdentity>, StorageError> {
        match self.open_to_read(file_index) {
            Ok((_, identity)) => Ok(Some(identity)),
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The current state of a file that is served, found without opening it. An error means that the state is unknown.
    pub fn file_state(&self, file_index: usize) -> Result<FileState, StorageError> {
        let follow = self.follows_links_to(file_index);
        let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        match rustix::fs::statat(&self.folder, self.relative(file_index), flags) {
            Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() => {
                Ok(FileState::Present(identity_of(&stat)))
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(FileState::Gone),
            Err(error) => Err(StorageError::new(Action::Open, self.path(file_index), error)),
        }
    }

    /// The identity of a regular file that is to be written, found without following symbolic links.
    pub fn identity(&self, file_index: usize) -> Result<FileIdentity, StorageError> {
        let failed = |error: io::Error| StorageError::new(Action::Open, self.path(file_index), error);
        let opened = open_beneath(self.folder.as_fd(), self.relative(file_index), OFlags::PATH)
            .map_err(|error| failed(error.into()))?;
        self.regular(file_index, opened).map(|(_, identity)| identity)
    }

    /// Bytes of disk space allocated to a file; 0 if it does not exist or cannot be opened.
    pub(super) fn reserved_len(&self, file_index: usize) -> u64 {
        let opened = open_beneath(self.folder.as_fd(), self.relative(file_index), OFlags::PATH);
        let blocks = opened.and_then(rustix::fs::fstat).map_or(0, |stat| stat.st_blocks);
        u64::try_from(blocks).unwrap_or(0) * STAT_BLOCK_LEN
    }

    /// Free bytes of the folder's file system, or `None` if it does not report them.
    pub(super) fn free_len(&self) -> Option<u64> {
        free_len(self.folder.as_fd())
    }

    /// Returns the file system of the nearest folder of a file that exists; `None` if it cannot be opened.
    pub(super) fn file_system(&self, file_index: usize) -> Option<FileSystem> {
        self.relative(file_index).ancestors().skip(1).find_map(|path| {
            let name = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            let opened = open_beneath(self.folder.as_fd(), name, OFlags::PATH | OFlags::DIRECTORY).ok()?;
            let device = rustix::fs::fstat(&opened).ok()?.st_dev;
            let folder =
                if path.as_os_str().is_empty() { self.folder_path.clone() } else { self.folder_path.join(path) };
            Some(FileSystem { device, free: free_len(opened.as_fd()), folder })
        })
    }

    /// Creates the file and its folders if they are missing, and extends it to `len` bytes with a hole. Returns the
    /// file if it was created.
    ///
    /// A longer file is an error. A file of the right length is not opened for writing, as it may be read-only.
    pub fn create(&self, file_index: usize, len: u64) -> Result<Option<File>, StorageError> {
        let failed = |error: io::Error| StorageError::new(Action::Create, self.path(file_index), error);
        let found_len = match self.identity(file_index) {
            Ok(found) => found.len,
            Err(error) if error.is_absent() => return self.create_new(file_index, len).map(Some),
            Err(error) => return Err(error),
        };
        if found_len > len {
            let text = format!(
                "it exists and is {} bytes longer than in the torrent: choose another folder with -o, or truncate it \
                 with --overwrite",
                found_len - len
            );
            return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, text)));
        }
        if found_len < len {
            self.open_to_write(file_index)?.set_len(len).map_err(failed)?;
        }
        Ok(None)
    }

    fn create_new(&self, file_index: usize, len: u64) -> Result<File, StorageError> {
        let failed = |error: io::Error| StorageError::new(Action::Create, self.path(file_index), error);
        let path = self.relative(file_index);
        let parent = path.parent().unwrap_or(Path::new(""));
        if !parent.as_os_str().is_empty() {
            self.create_folders(parent).map_err(failed)?;
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NONBLOCK;
        let opened = open_beneath(self.folder.as_fd(), path, flags).map_err(|error| failed(error.into()))?;
        self.unsynced_folders().insert(parent.to_owned());
        let (file, _) = self.regular(file_index, opened)?;
        file.set_len(len).map_err(failed)?;
        Ok(file)
    }

    /// Truncates or extends a file to this length.
    pub fn truncate(&self, file_index: usize, len: u64) -> Result<(), StorageError> {
        let file = self.open_to_write(file_index)?;
        file.set_len(len).map_err(|error| StorageError::new(Action::Write, self.path(file_index), error))
    }

    fn create_folders(&self, path: &Path) -> io::Result<()> {
        match open_beneath(self.folder.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {}
            other => return other.map(|_| ()).map_err(io::Error::from),
        }
        let mut created = PathBuf::new();
        let mut parent = self.folder.try_clone()?;
        for element in path {
            match rustix::fs::mkdirat(&parent, element, Mode::from_raw_mode(0o777)) {
                Ok(()) => _ = self.unsynced_folders().insert(created.clone()),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            created.push(element);
            parent = open_beneath(self.folder.as_fd(), &created, OFlags::PATH | OFlags::DIRECTORY)?;
        }
        Ok(())
    }

    fn unsynced_folders(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        lock(&self.unsynced_folders)
    }

    /// Syncs the names of all files and folders created by this layout.
    pub(super) fn sync_folders(&self) -> Result<(), StorageError> {
        let folders = self.unsynced_folders().clone();
        let whole = folders.len() > limits::SYNC_FILES_MAX;
        let mut synced_device = None;
        for folder in &folders {
            let path = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let failed = |error: io::Error| StorageError::new(Action::Sync, self.folder_path.join(path), error);
            let opened = open_beneath(self.folder.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY)
                .map_err(|error| failed(error.into()))?;
            let opened = File::from(opened);
            let device = FileIdentity::from(&opened.metadata().map_err(failed)?).dev;
            if whole && synced_device == Some(device) {
                continue;
            }
            fault_point(Step::Sync).map_err(failed)?;
            let synced = retry_transient(|| if whole { Ok(rustix::fs::syncfs(&opened)?) } else { opened.sync_all() });
            is_synced(synced).map_err(failed)?;
            synced_device = Some(device);
        }
        self.unsynced_folders().retain(|folder| !folders.contains(folder));
        Ok(())
    }

    fn regular(&self, file_index: usize, opened: OwnedFd) -> Result<(File, FileIdentity), StorageError> {
        let file = File::from(opened);
        match file.metadata() {
            Ok(stat) if stat.is_file() => Ok((file, FileIdentity::from(&stat))),
            Ok(_) => {
                let error = io::Error::other("it is not a regular file: move it, or choose another folder");
                Err(StorageError::new(Action::Open, self.path(file_index), error))
            }
            Err(error) => Err(StorageError::new(Action::Open, self.path(file_index), error)),
        }
    }
}

/// Returns the bytes that users other than root may allocate. Some network and virtual file systems have no blocks.
fn free_len(folder: BorrowedFd<'_>) -> Option<u64> {
    let stat = rustix::fs::fstatvfs(folder).ok().filter(|stat| stat.f_blocks > 0)?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

fn identity_of(stat: &Stat) -> FileIdentity {
    let ns = |ns| i64::try_from(ns).unwrap_or(0);
    FileIdentity {
        dev: stat.st_dev,
        ino: stat.st_ino,
        len: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: FileTime { s: stat.st_mtime, ns: ns(stat.st_mtime_nsec) },
        ctime: FileTime { s: stat.st_ctime, ns: ns(stat.st_ctime_nsec) },
    }
}

/// Ignores errors of a folder sync other than `EIO`: a file system that cannot sync folders keeps their names on disk
/// already.
pub(super) fn is_synced(synced: io::Result<()>) -> io::Result<()> {
    match synced {
        Err(error) if error.raw_os_error() == Some(libc::EIO) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
