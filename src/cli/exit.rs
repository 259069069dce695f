//! Exit codes, and the line that explains a failure. Errors of all layers get their exit code here.

use std::process::ExitCode;
use std::{fmt, io};

use crate::create::error::WriteError;
use crate::create::{ContentError, CreateError};
use crate::hash;
use crate::storage::SpaceShortage;

/// The exit codes of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    /// Any other failure.
    Failed = 1,
    /// Bad usage.
    Usage = 2,
    /// The content does not match the torrent.
    Mismatch = 3,
    /// No peers within `--timeout`, or all of them banned.
    NoPeers = 4,
    /// Storage is full, read-only or broken.
    Storage = 5,
    /// Ctrl-C, SIGTERM, or another signal that ends a process.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed: the exit code, and one printable line of the form `what: where: what to do`.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub line: String,
}

impl Failure {
    pub fn new(exit: Exit, line: impl fmt::Display) -> Self {
        Self { exit, line: line.to_string() }
    }

    /// An I/O error at `place`, which must be printable.
    pub fn io(what: &str, place: &str, error: &io::Error) -> Self {
        Self::new(exit_of(error), format_args!("{what}: {place}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// Returns [`Exit::Storage`] if the storage is at fault, and [`Exit::Failed`] otherwise.
pub fn exit_of(error: &io::Error) -> Exit {
    let storage_is_at_fault = matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::StaleNetworkFileHandle
    ) || error.raw_os_error() == Some(libc::EIO);
    if storage_is_at_fault { Exit::Storage } else { Exit::Failed }
}

impl From<hash::Unavailable> for Failure {
    fn from(error: hash::Unavailable) -> Self {
        Self::new(Exit::Usage, format_args!("--hash-kernel: {error}"))
    }
}

impl From<ContentError> for Failure {
    fn from(error: ContentError) -> Self {
        let exit = match &error {
            ContentError::Read { error, .. } => exit_of(error),
            ContentError::Changed { .. } | ContentError::Memory(_) => Exit::Failed,
            ContentError::Cancelled => Exit::Interrupted,
        };
        Self::new(exit, error)
    }
}

impl From<CreateError> for Failure {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Content(error) => error.into(),
            error => Self::new(Exit::Failed, error),
        }
    }
}

impl From<SpaceShortage> for Failure {
    fn from(error: SpaceShortage) -> Self {
        Self::new(Exit::Storage, error)
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        let exit = match &error {
            WriteError::Io { error, .. } => exit_of(error),
            WriteError::Exists { .. } | WriteError::NotAFile { .. } => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unavailable_kernel_is_bad_usage_with_alternatives() {
        let failure = Failure::from(hash::Unavailable(hash::Kernel::Avx512x16));
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.line.contains("avx512x16: it has auto,") && failure.line.ends_with("portable"), "{failure}");
        assert_eq!(failure.line.lines().count(), 1);
    }

    #[test]
    fn storage_faults_have_their_own_code() {
        for (errno, exit) in [
            (libc::ENOSPC, Exit::Storage),
            (libc::EDQUOT, Exit::Storage),
            (libc::EROFS, Exit::Storage),
            (libc::EFBIG, Exit::Storage),
            (libc::EIO, Exit::Storage),
            (libc::EACCES, Exit::Failed),
            (libc::ENOENT, Exit::Failed),
        ] {
            assert_eq!(exit_of(&io::Error::from_raw_os_error(errno)), exit, "{errno}");
        }
    }
}
