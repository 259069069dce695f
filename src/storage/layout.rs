//! Where a torrent's files are: every open of content, safely beneath one folder.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::error::{Action, StorageError};
use crate::base::lock::lock;
use crate::base::{FileIdentity, FileTime, limits};
use crate::uring::{Step, fault_point, retry_transient};

/// The folder, and the torrent's files relative to it. File indices are the torrent's.
#[derive(Debug)]
pub struct Layout {
    folder: OwnedFd,
    folder_path: PathBuf,
    paths: Box<[PathBuf]>,
    links: Links,
    /// Folders, relative to the first, with names that were made here and may not be on the disk.
    unsynced_folders: Mutex<BTreeSet<PathBuf>>,
}

/// What `st_blocks` counts.
const STAT_BLOCK_LEN: u64 = 512;

/// Which symbolic links are followed to a file that is read.
#[derive(Debug)]
enum Links {
    Refused,
    Followed,
    /// Those to the files that had one on their way when the layout was made.
    Found(HashSet<usize>),
}

/// A file as found before a download.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    Absent,
    Present { len: u64 },
}

/// What is in the place of a file that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    Present(FileIdentity),
    Gone,
}

impl Layout {
    /// Takes the folder, which must exist, and each file's path as a list of elements.
    ///
    /// The elements must be plain names: metainfo with others does not decode. No symbolic link is followed.
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

    /// Follows the symbolic links that are in the content now, since the user has put them there, and none that takes a
    /// file's place later.
    #[must_use]
    pub fn following_present_links(self) -> Self {
        let is_link = |&file_index: &usize| {
            let found = open_beneath(self.folder.as_fd(), self.relative(file_index), OFlags::PATH);
            matches!(found, Err(Errno::LOOP | Errno::XDEV))
        };
        let found = (0..self.file_count()).filter(is_link).collect();
        Self { links: Links::Found(found), ..self }
    }

    /// Files of the torrent, pad files included.
    pub fn file_count(&self) -> usize {
        self.paths.len()
    }

    /// The whole path of a file, for messages.
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

    /// Opens a file for reading, and says which one it is.
    pub fn open_to_read(&self, file_index: usize) -> Result<(File, FileIdentity), StorageError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let path = self.relative(file_index);
        let open = || {
            if self.follows_links_to(file_index) {
                rustix::fs::openat2(&self.folder, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
            } else {
                open_beneath(self.folder.as_fd(), path, flags)
            }
        };
        let opened = fault_point(Step::OpenToRead)
            .and_then(|()| Ok(open()?))
            .map_err(|error| StorageError::new(Action::Open, self.path(file_index), error))?;
        self.regular(file_index, opened)
    }

    /// Opens a file that exists for reading and writing, beneath the folder and through no symbolic link; `direct`: past
    /// the page cache, where the file system can.
    pub fn open_to_write(&self, file_index: usize, direct: bool) -> Result<File, StorageError> {
        let flags = if direct { OFlags::RDWR | OFlags::DIRECT } else { OFlags::RDWR };
        let opened = fault_point(Step::Open)
            .and_then(|()| Ok(open_beneath(self.folder.as_fd(), self.relative(file_index), flags)?))
            .map_err(|error| StorageError::new(Action::Open, self.path(file_index), error))?;
        self.regular(file_index, opened).map(|(file, _)| file)
    }

    /// Whether a file is there, and how long.
    pub fn presence(&self, file_index: usize) -> Result<Presence, StorageError> {
        let found = self.find(file_index)?;
        Ok(found.map_or(Presence::Absent, |FileIdentity { len, .. }| Presence::Present { len }))
    }

    /// Which file is there, if any.
    pub fn find(&self, file_index: usize) -> Result<Option<FileIdentity>, StorageError> {
        match self.open_to_read(file_index) {
            Ok((_, identity)) => Ok(Some(identity)),
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What is in the place of a file that is served, without opening it. An error says that this is not to be known now.
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

    /// The regular file that is to be written, as it is now.
    pub fn identity(&self, file_index: usize) -> Result<FileIdentity, StorageError> {
        let failed = |error: io::Error| StorageError::new(Action::Open, self.path(file_index), error);
        let opened = open_beneath(self.folder.as_fd(), self.relative(file_index), OFlags::PATH)
            .map_err(|error| failed(error.into()))?;
        self.regular(file_index, opened).map(|(_, identity)| identity)
    }

    /// Bytes of the disk that a file has; 0 where it is not there or can't be looked at.
    pub(super) fn reserved_len(&self, file_index: usize) -> u64 {
        let opened = open_beneath(self.folder.as_fd(), self.relative(file_index), OFlags::PATH);
        let blocks = opened.and_then(rustix::fs::fstat).map_or(0, |stat| stat.st_blocks);
        u64::try_from(blocks).unwrap_or(0) * STAT_BLOCK_LEN
    }

    /// Bytes that may still be written to the file system; `None` where it does not say.
    pub(super) fn free_len(&self) -> Option<u64> {
        let stat = rustix::fs::fstatvfs(&self.folder).ok()?;
        stat.f_bavail.checked_mul(stat.f_frsize)
    }

    /// Makes the file and its folders where they are missing, and gives it its length; bytes not written yet are a hole.
    /// Returns the file where it was made. Never shortens one, and does not write to one of the right length: it may be read-only.
    pub fn create(&self, file_index: usize, len: u64) -> Result<Option<File>, StorageError> {
        let failed = |error: io::Error| StorageError::new(Action::Create, self.path(file_index), error);
        let here = match self.identity(file_index) {
            Ok(found) => found.len,
            Err(error) if error.is_absent() => return self.make(file_index, len).map(Some),
            Err(error) => return Err(error),
        };
        if here > len {
            let text = format!(
                "it is there already and {} bytes longer than in the torrent: choose another folder with -o, or cut it \
                 with --overwrite",
                here - len
            );
            return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, text)));
        }
        if here < len {
            self.open_to_write(file_index, false)?.set_len(len).map_err(failed)?;
        }
        Ok(None)
    }

    fn make(&self, file_index: usize, len: u64) -> Result<File, StorageError> {
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

    /// Takes away what a file holds beyond this length.
    pub fn truncate(&self, file_index: usize, len: u64) -> Result<(), StorageError> {
        let file = self.open_to_write(file_index, false)?;
        file.set_len(len).map_err(|error| StorageError::new(Action::Write, self.path(file_index), error))
    }

    fn create_folders(&self, path: &Path) -> io::Result<()> {
        match open_beneath(self.folder.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {}
            other => return other.map(|_| ()).map_err(io::Error::from),
        }
        let mut made = PathBuf::new();
        let mut parent = self.folder.try_clone()?;
        for element in path {
            match rustix::fs::mkdirat(&parent, element, Mode::from_raw_mode(0o777)) {
                Ok(()) => _ = self.unsynced_folders().insert(made.clone()),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            made.push(element);
            parent = open_beneath(self.folder.as_fd(), &made, OFlags::PATH | OFlags::DIRECTORY)?;
        }
        Ok(())
    }

    fn unsynced_folders(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        lock(&self.unsynced_folders)
    }

    /// Returns when the names of all files and folders made here are on the disk.
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
                let error = io::Error::other("it is not a regular file: move it away, or choose another folder");
                Err(StorageError::new(Action::Open, self.path(file_index), error))
            }
            Err(error) => Err(StorageError::new(Action::Open, self.path(file_index), error)),
        }
    }
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

/// A file system that can't sync a folder has its names on the disk already.
pub(super) fn is_synced(synced: io::Result<()>) -> io::Result<()> {
    match synced {
        Err(error) if error.raw_os_error() == Some(libc::EIO) => Err(error),
        _ => Ok(()),
    }
}

/// Nothing outside the folder can be reached, whatever links somebody puts there meanwhile.
pub(super) fn open_beneath(folder: BorrowedFd<'_>, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // The kernel refuses a mode without CREATE.
    let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o666) } else { Mode::empty() };
    rustix::fs::openat2(folder, path, flags | OFlags::CLOEXEC, mode, resolve)
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
