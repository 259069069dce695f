//! Atomic writes of a file: written under another name in the same folder, synced, renamed.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use rustix::fs::Access;
use tempfile::NamedTempFile;

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
    // The mode that `open` would use.
    let mut file = temporary(folder_of(path), 0o666).map_err(refuse)?;
    fill(&mut file, bytes).map_err(refuse)?;
    let persisted = if overwrite { file.persist(path) } else { file.persist_noclobber(path) };
    persisted.map_err(|error| refuse(error.error))?;
    sync_folder(path);
    Ok(())
}

/// Replaces the bytes of the file at `path` atomically. The file keeps its mode, and its owner and group if this process
/// may set them; a symbolic link is followed. A file that this process may not write is refused.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let refuse = |error: io::Error| WriteError::Io { path: path.to_owned(), error };
    let target = fs::canonicalize(path).map_err(refuse)?;
    check_output(&target, true)?;
    rustix::fs::access(&target, Access::WRITE_OK).map_err(|errno| refuse(errno.into()))?;
    let old = fs::metadata(&target).map_err(refuse)?;
    let mut file = temporary(folder_of(&target), 0o600).map_err(refuse)?;
    // Only a privileged process may give a file away; any other process may keep the group if its user is a member.
    let _ = fchown(file.as_file(), Some(old.uid()), Some(old.gid()))
        .or_else(|_| fchown(file.as_file(), None, Some(old.gid())));
    file.as_file().set_permissions(old.permissions()).map_err(refuse)?;
    // Only the readers of the old file may read the new bytes, in which tracker URLs may have keys.
    fill(&mut file, bytes).map_err(refuse)?;
    file.persist(&target).map_err(|error| refuse(error.error))?;
    sync_folder(&target);
    Ok(())
}

/// Creates an empty file of this mode under a temporary name in `folder`. The umask applies to the mode.
fn temporary(folder: &Path, mode: u32) -> io::Result<NamedTempFile> {
    let permissions = Permissions::from_mode(mode);
    tempfile::Builder::new().prefix(".bt-fast-").suffix(".tmp").permissions(permissions).tempfile_in(folder)
}

fn fill(file: &mut NamedTempFile, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.as_file().sync_all()
}

/// Makes the new name durable. A file system that cannot sync a folder keeps names durable by itself.
fn sync_folder(path: &Path) {
    let _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
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
    fn a_replaced_file_keeps_its_mode_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("out.torrent"), dir.path().join("link.torrent"));
        fs::write(&path, b"one").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for mode in [0o644, 0o600, 0o664] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            replace(&link, b"two").unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
        }
        assert!(link.is_symlink() && fs::read(&path).unwrap() == b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn only_a_regular_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(write_atomically(dir.path(), b"x", true), Err(WriteError::NotAFile { .. })));
        assert!(matches!(check_output(Path::new("/dev/null"), true), Err(WriteError::NotAFile { .. })));
        assert!(matches!(check_output(&dir.path().join("no/such"), false), Err(WriteError::Io { .. })));
    }
}
