//! Errors of file operations, each with the path of the file.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::escape::printable;

/// The operation that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Open,
    Create,
    Read,
    Write,
    Reserve,
    Map,
    Sync,
    Lock,
    Remove,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Read => "read",
            Self::Write => "write",
            Self::Reserve => "reserve space for",
            Self::Map => "map",
            Self::Sync => "write to the disk",
            Self::Lock => "lock",
            Self::Remove => "remove",
        })
    }
}

/// A failure of local storage. A peer cannot cause it.
#[derive(Debug, thiserror::Error)]
#[error("{}: can't {action}: {}", printable(.path.as_os_str().as_encoded_bytes()), describe(.source))]
pub struct StorageError {
    pub action: Action,
    pub path: PathBuf,
    pub source: io::Error,
}

impl StorageError {
    pub fn new(action: Action, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self { action, path: path.as_ref().to_owned(), source: source.into() }
    }

    /// Whether the error is a temporary shortage of descriptors or memory, or an interruption, and so unrelated to the
    /// file.
    pub fn is_transient(&self) -> bool {
        let transient =
            [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::EAGAIN, libc::EINTR, libc::ECANCELED];
        self.source.raw_os_error().is_some_and(|errno| transient.contains(&errno))
    }

    /// Whether the file does not exist or is too short.
    pub fn is_absent(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotADirectory
        )
    }
}

/// Returns the cause and the remedy, for the user.
fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSPC) => "the disk is full: free some space, then run the same command again".into(),
        Some(libc::EDQUOT) => "the disk quota is used up: free some space, then run the same command again".into(),
        Some(libc::EROFS) => "the file system is read-only: choose another folder".into(),
        Some(libc::EFBIG) => {
            "the file is larger than the file system or 'ulimit -f' allows: choose another folder or raise the limit"
                .into()
        }
        Some(libc::EMFILE | libc::ENFILE) => "too many open files: raise 'ulimit -n'".into(),
        Some(libc::EACCES | libc::EPERM) => {
            "permission denied: change the permissions of the file or its folder, or choose another folder".into()
        }
        Some(libc::ELOOP | libc::EXDEV) => {
            "the path contains a symbolic link: remove it or choose another folder".into()
        }
        Some(libc::EFAULT) => "the file was truncated while it was in use".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lack_of_descriptors_or_memory_is_transient() {
        let is_transient =
            |errno| StorageError::new(Action::Open, "x", io::Error::from_raw_os_error(errno)).is_transient();
        assert!([libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN].into_iter().all(is_transient));
        assert!(![libc::ENOENT, libc::EIO, libc::EFAULT, libc::EACCES].into_iter().any(is_transient));
        assert!(!StorageError::new(Action::Open, "x", io::ErrorKind::UnexpectedEof).is_transient());
    }
}
