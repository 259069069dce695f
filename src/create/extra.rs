//! Finds files in a torrent's folder that are not part of the torrent. They are no error, but a download does not
//! restore them.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, io};

use walkdir::WalkDir;

use super::error::ContentError;
use super::open::shown;
use crate::base::FileIdentity;
use crate::base::limits::{EXTRA_ENTRIES_MAX, EXTRA_FILES_LISTED_MAX, PATH_DEPTH_MAX};
use crate::codec::metainfo::Info;

/// The result of [`extra_files`].
#[derive(Debug, Default)]
pub struct ExtraFiles {
    /// The first [`EXTRA_FILES_LISTED_MAX`] paths below the data folder, in byte order of their elements.
    pub listed: Vec<PathBuf>,
    pub count: usize,
    /// Why the search is incomplete, as one printable line.
    pub gap: Option<String>,
}

/// Searches the folder of the torrent in `dir` for entries that are neither folders nor files of `info`.
///
/// A single-file torrent has no folder, and so no extra files. Symlinks are not followed, so that the walk ends. The
/// file `torrent` is skipped.
pub fn extra_files(info: &Info, dir: &Path, torrent: &Path, cancel: &AtomicBool) -> Result<ExtraFiles, ContentError> {
    let mut extra = ExtraFiles::default();
    let root = dir.join(OsStr::from_bytes(&info.name));
    // If the root is not a folder, the verification reports it.
    if info.single_file || !root.is_dir() {
        return Ok(extra);
    }
    let named = named_paths(info);
    let torrent = fs::metadata(torrent).ok().map(|found| FileIdentity::from(&found));
    // The root itself may be a symlink to a folder.
    let walk = WalkDir::new(&root).min_depth(1).max_depth(PATH_DEPTH_MAX).sort_by_file_name().into_iter();
    for (entry_count, entry) in walk.enumerate() {
        if cancel.load(Ordering::Relaxed) {
            return Err(ContentError::Cancelled);
        }
        if entry_count >= EXTRA_ENTRIES_MAX {
            extra.gap = Some(format!("only {EXTRA_ENTRIES_MAX} files and folders were examined: {}", shown(&root)));
            break;
        }
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().unwrap_or(&root).to_owned();
                let error = error.into_io_error().unwrap_or_else(|| io::Error::other("the walk failed"));
                extra.gap.get_or_insert_with(|| format!("can't search for extra files: {}: {error}", shown(&path)));
                continue;
            }
        };
        let path = entry.path().strip_prefix(dir).unwrap_or(entry.path());
        if entry.file_type().is_dir() || named.contains(path.as_os_str().as_bytes()) {
            continue;
        }
        let is_torrent = |torrent: &FileIdentity| {
            fs::metadata(entry.path()).is_ok_and(|found| torrent.is_same_inode(&(&found).into()))
        };
        if entry.file_type().is_file() && torrent.as_ref().is_some_and(is_torrent) {
            continue;
        }
        extra.count += 1;
        if extra.listed.len() < EXTRA_FILES_LISTED_MAX {
            extra.listed.push(path.to_owned());
        }
    }
    Ok(extra)
}

/// The paths of all files of the torrent and of all their folders, with elements joined by `/`.
fn named_paths(info: &Info) -> HashSet<Vec<u8>> {
    let mut named = HashSet::new();
    for file in &info.files {
        let mut path = file.path.join(&b'/');
        while named.insert(path.clone()) {
            match path.iter().rposition(|&byte| byte == b'/') {
                Some(end) => path.truncate(end),
                None => break,
            }
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Geometry, PieceHash};
    use crate::codec::metainfo::FileEntry;
    use std::os::unix::fs::symlink;

    fn info(paths: &[&str]) -> Info {
        let file = |path: &&str| FileEntry {
            path: path.split('/').map(|element| element.as_bytes().to_vec()).collect(),
            len: 1,
            pad: false,
            symlink: None,
        };
        Info {
            name: b"t".to_vec(),
            geometry: Geometry::new(16 << 10, paths.iter().map(|_| 1)).unwrap(),
            pieces: [PieceHash([0; 20])].into(),
            files: paths.iter().map(file).collect(),
            single_file: paths == ["t"],
            private: false,
            source: None,
        }
    }

    fn extras(info: &Info, dir: &Path, torrent: &Path) -> Vec<String> {
        let found = extra_files(info, dir, torrent, &AtomicBool::new(false)).unwrap();
        assert_eq!((found.count, found.gap), (found.listed.len(), None));
        found.listed.iter().map(|path| path.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn files_outside_the_torrent_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let none = dir.path().join("none");
        let info = info(&["t/a", "t/sub/b", "t/link/c"]);
        assert_eq!(extras(&info, dir.path(), &none), [""; 0]);
        fs::create_dir_all(dir.path().join("t/sub/empty")).unwrap();
        for path in ["a", "sub/b", "sub/x", "A", "sub.txt", "it.torrent"] {
            fs::write(dir.path().join("t").join(path), path).unwrap();
        }
        fs::write(dir.path().join("beside"), "x").unwrap();
        // A folder of the torrent that is a symlink: the verification follows it, this search does not.
        symlink("sub", dir.path().join("t/link")).unwrap();
        symlink("..", dir.path().join("t/loop")).unwrap();
        let torrent = dir.path().join("t/it.torrent");
        assert_eq!(extras(&info, dir.path(), &torrent), ["t/A", "t/loop", "t/sub/x", "t/sub.txt"]);
        assert_eq!(extras(&info, dir.path(), &none).len(), 5);
        let cancelled = extra_files(&info, dir.path(), &none, &AtomicBool::new(true));
        assert!(matches!(cancelled, Err(ContentError::Cancelled)));
    }

    #[test]
    fn a_single_file_has_no_extra_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("t"), "x").unwrap();
        fs::write(dir.path().join("other"), "x").unwrap();
        assert_eq!(extras(&info(&["t"]), dir.path(), Path::new("none")), [""; 0]);
    }
}
