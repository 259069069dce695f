//! Opens regular files, without blocking on other kinds of files.

use std::fmt;
use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::base::escape::printable;

/// A path in printable form, for the user.
pub fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_bytes())
}

/// The kind of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    File,
    Folder,
    Fifo,
    Socket,
    Device,
}

impl From<FileType> for Kind {
    fn from(file_type: FileType) -> Self {
        if file_type.is_file() {
            Self::File
        } else if file_type.is_dir() {
            Self::Folder
        } else if file_type.is_fifo() {
            Self::Fifo
        } else if file_type.is_socket() {
            Self::Socket
        } else {
            Self::Device
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Folder => "folder",
            Self::Fifo => "FIFO",
            Self::Socket => "socket",
            Self::Device => "device",
        })
    }
}

/// Opens a regular file for reading, following symlinks. Any other kind is an error that names the kind. Never blocks
/// on a FIFO and never reads a device.
pub fn open_regular(path: &Path) -> io::Result<(File, Metadata)> {
    let check = |metadata: &Metadata| match Kind::from(metadata.file_type()) {
        Kind::File => Ok(()),
        kind => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is a {kind}, not a file"))),
    };
    // Checked before the open, since opening some devices has an effect, and again after it, since the path may have
    // been replaced in between.
    check(&fs::metadata(path)?)?;
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let metadata = file.metadata()?;
    check(&metadata)?;
    Ok((file, metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_open() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"x").unwrap();
        assert_eq!(open_regular(&file).unwrap().1.len(), 1);
        let folder = open_regular(dir.path()).unwrap_err().to_string();
        assert!(folder.contains("folder"), "{folder}");
        let device = open_regular(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(device.contains("device"), "{device}");
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let fifo = open_regular(&fifo).unwrap_err().to_string();
        assert!(fifo.contains("FIFO"), "{fifo}");
    }
}
