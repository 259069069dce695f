//! Atomic writes of a file: written under another name in the same folder, synced, renamed.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::Access;

use super::error::WriteError;

/// Checks whether [`write_atomically`] could create or replace this path. Called before long work, so that it does not
/// fail at its end.
pub fn check_output(path: &Path, overwrite: bool) -> Result<(), WriteError> {
    let refuse = |error| WriteError::Io { path: path.to_owned(), error };
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => return Err(WriteError::NotAFile { path: path.to_owned() }),
        Ok(_) if !overwrite => return Err(WriteError::Exists { path: path.to_owned() }),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refuse(error)),
        Ok(_) | Err(_) => {}
    }
    rustix::fs::access(folder_of(path), Access::WRITE_OK | Access::EXEC_OK).map_err(|errno| refuse(errno.into()))
}

/// Writes `bytes` to `path` atomically: a reader never sees a part of them, and after a power cut there is either the
/// old or the new file.
///
/// Without `overwrite` an existing file is an error and is kept, even if it appears during the call.
pub fn write_atomically(path: &Path, bytes: &[u8], overwrite: bool) -> Result<(), WriteError> {
    check_output(path, overwrite)?;
    let refuse = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => WriteError::Exists { path: path.to_owned() },
        _ => WriteError::Io { path: path.to_owned(), error },
    };
    let folder = folder_of(path);
    let mut file = tempfile::Builder::new()
        .prefix(".bt-fast-")
        .suffix(".tmp")
        // The mode that `open` would use; the umask applies to it.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(refuse)?;
    file.write_all(bytes).map_err(refuse)?;
    file.as_file().sync_all().map_err(refuse)?;
    let persisted = if overwrite { file.persist(path) } else { file.persist_noclobber(path) };
    persisted.map_err(|error| refuse(error.error))?;
    // Makes the new name durable. A file system that cannot sync a folder keeps names durable by itself.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_kept_without_overwrite() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.torrent");
        write_atomically(&path, b"one", false).unwrap();
        assert!(matches!(write_atomically(&path, b"two", false), Err(WriteError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_atomically(&path, b"two", true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_a_regular_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(write_atomically(dir.path(), b"x", true), Err(WriteError::NotAFile { .. })));
        assert!(matches!(check_output(Path::new("/dev/null"), true), Err(WriteError::NotAFile { .. })));
        assert!(matches!(check_output(&dir.path().join("no/such"), false), Err(WriteError::Io { .. })));
    }
}
