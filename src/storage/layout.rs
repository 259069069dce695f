//! Where a torrent's files are: every open of content, safely beneath one folder.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::error::{Action, StorageError};
use crate::base::{FileIdentity, FileTime};
use crate::uring::{Step, reach};

/// The folder, and the torrent's files relative to it. File indices are the torrent's.
#[derive(Debug)]
pub struct Layout {
    folder: OwnedFd,
    folder_path: PathBuf,
    paths: Box<[PathBuf]>,
}

/// A file as found before a download.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    Absent,
    Here { len: u64 },
}

/// One file among those of all file systems, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|stat| Self { device: stat.dev(), number: stat.ino() })
    }
}

/// What [`Layout::look`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileNow {
    Here { len: u64, inode: Inode },
    Gone,
}

impl Layout {
    /// Takes the folder, which must exist, and each file's path as a list of elements.
    ///
    /// The elements must be plain names: metainfo with others does not decode.
    pub fn open(folder: &Path, files: impl IntoIterator<Item = Vec<Vec<u8>>>) -> Result<Self, StorageError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(folder, flags, Mode::empty())
            .map_err(|error| StorageError::new(Action::Open, folder, error))?;
        let paths = files
            .into_iter()
            .map(|elements| elements.into_iter().map(std::ffi::OsString::from_vec).collect())
            .collect();
        Ok(Self { folder: opened, folder_path: folder.to_owned(), paths })
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

    /// Opens a file for reading. Symbolic links in what the user gave us to serve are followed.
    pub fn open_to_read(&self, file_index: usize) -> Result<File, StorageError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let path = self.relative(file_index);
        let resolve = ResolveFlags::NO_MAGICLINKS;
        let file = reach(Step::OpenToRead)
            .and_then(|()| Ok(rustix::fs::openat2(&self.folder, path, flags, Mode::empty(), resolve)?))
            .map_err(|error| StorageError::new(Action::Open, self.path(file_index), error))?;
        self.regular(file_index, file)
    }

    /// Opens a file that exists for reading and writing, beneath the folder and through no symbolic link; `direct`: past
    /// the page cache, where the file system can.
    pub fn open_to_write(&self, file_index: usize, direct: bool) -> Result<File, StorageError> {
        let flags = if direct { OFlags::RDWR | OFlags::DIRECT } else { OFlags::RDWR };
        let opened = reach(Step::Open)
            .and_then(|()| Ok(open_beneath(self.folder.as_fd(), self.relative(file_index), flags)?))
            .map_err(|error| StorageError::new(Action::Open, self.path(file_index), error))?;
        self.regular(file_index, opened)
    }

    /// Whether a file is there, and how long.
    pub fn presence(&self, file_index: usize) -> Result<Presence, StorageError> {
        match self.open_to_read(file_index) {
            Ok(file) => {
                let stat = file.metadata().map_err(|e| StorageError::new(Action::Read, self.path(file_index), e))?;
                Ok(Presence::Here { len: stat.len() })
            }
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(Presence::Absent),
            Err(error) => Err(error),
        }
    }

    /// What is in the place of a file that is served, without opening it. An error says that this is not to be known now.
    pub fn look(&self, file_index: usize) -> Result<FileNow, StorageError> {
        use rustix::io::Errno;
        let found = rustix::fs::statat(&self.folder, self.relative(file_index), rustix::fs::AtFlags::empty());
        match found {
            Ok(stat) if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() => Ok(FileNow::Here {
                len: u64::try_from(stat.st_size).unwrap_or(0),
                inode: Inode { device: stat.st_dev, number: stat.st_ino },
            }),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(FileNow::Gone),
            Err(error) => Err(StorageError::new(Action::Open, self.path(file_index), error)),
        }
    }

    /// The regular file that is to be written, as it is now.
    pub fn identity(&self, file_index: usize) -> Result<FileIdentity, StorageError> {
        let failed = |error: io::Error| StorageError::new(Action::Open, self.path(file_index), error);
        let opened = open_beneath(self.folder.as_fd(), self.relative(file_index), OFlags::PATH)
            .map_err(|error| failed(error.into()))?;
        let stat = self.regular(file_index, opened)?.metadata().map_err(failed)?;
        Ok(FileIdentity {
            dev: stat.dev(),
            ino: stat.ino(),
            len: stat.len(),
            mtime: FileTime { s: stat.mtime(), ns: stat.mtime_nsec() },
            ctime: FileTime { s: stat.ctime(), ns: stat.ctime_nsec() },
        })
    }

    /// Makes the file and its folders where they are missing and gives the file its length; bytes not written yet are a
    /// hole. Never shortens a file.
    pub fn create(&self, file_index: usize, len: u64) -> Result<(), StorageError> {
        let failed = |error: io::Error| StorageError::new(Action::Create, self.path(file_index), error);
        let path = self.relative(file_index);
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.create_folders(parent).map_err(failed)?;
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK;
        let file =
            self.regular(file_index, open_beneath(self.folder.as_fd(), path, flags).map_err(|e| failed(e.into()))?)?;
        let here = file.metadata().map_err(failed)?.len();
        if here > len {
            let text = format!("it is there already and {} bytes longer than in the torrent", here - len);
            return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, text)));
        }
        if here < len { file.set_len(len).map_err(failed) } else { Ok(()) }
    }

    fn create_folders(&self, path: &Path) -> io::Result<()> {
        match open_beneath(self.folder.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(rustix::io::Errno::NOENT) => {}
            other => return other.map(|_| ()).map_err(io::Error::from),
        }
        let mut made = PathBuf::new();
        let mut parent = self.folder.try_clone()?;
        for element in path {
            match rustix::fs::mkdirat(&parent, element, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            made.push(element);
            parent = open_beneath(self.folder.as_fd(), &made, OFlags::PATH | OFlags::DIRECTORY)?;
        }
        Ok(())
    }

    fn regular(&self, file_index: usize, opened: OwnedFd) -> Result<File, StorageError> {
        let file = File::from(opened);
        match file.metadata() {
            Ok(stat) if stat.is_file() => Ok(file),
            Ok(_) => {
                let error = io::Error::other("it is not a regular file");
                Err(StorageError::new(Action::Open, self.path(file_index), error))
            }
            Err(error) => Err(StorageError::new(Action::Open, self.path(file_index), error)),
        }
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
mod tests {
    use super::*;

    fn layout(folder: &Path, path: &[&str]) -> Layout {
        Layout::open(folder, [path.iter().map(|element| element.as_bytes().to_vec()).collect()]).unwrap()
    }

    #[test]
    fn files_are_made_with_their_folders_and_length() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path(), &["a", "b", "c"]);
        assert_eq!(layout.presence(0).unwrap(), Presence::Absent);
        layout.create(0, 7).unwrap();
        layout.create(0, 7).unwrap();
        assert_eq!(layout.presence(0).unwrap(), Presence::Here { len: 7 });
        assert!(layout.create(0, 6).unwrap_err().to_string().contains("1 bytes longer"));
        assert_eq!(std::fs::read(folder.path().join("a/b/c")).unwrap(), [0; 7]);
    }

    #[test]
    fn no_symbolic_link_leads_out() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(outside.path(), folder.path().join("a")).unwrap();
        let through = layout(folder.path(), &["a", "b"]);
        assert!(through.create(0, 1).unwrap_err().to_string().contains("symbolic link"));
        let target = outside.path().join("target");
        std::fs::write(&target, b"keep").unwrap();
        std::os::unix::fs::symlink(&target, folder.path().join("file")).unwrap();
        let file = layout(folder.path(), &["file"]);
        assert!(file.create(0, 9).is_err() && file.open_to_write(0, false).is_err());
        assert_eq!(std::fs::read(&target).unwrap(), b"keep");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_fifo_or_folder_in_a_files_place_is_an_error_at_once() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("d")).unwrap();
        assert!(layout(folder.path(), &["d"]).open_to_read(0).is_err());
        assert!(layout(folder.path(), &["d"]).create(0, 1).is_err());
        rustix::fs::mknodat(rustix::fs::CWD, folder.path().join("f"), rustix::fs::FileType::Fifo, Mode::RUSR, 0)
            .unwrap();
        assert!(layout(folder.path(), &["f"]).open_to_read(0).is_err());
    }
}
