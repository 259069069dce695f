//! The walk over the content: finds the files, their order and their identities.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::error::{ContentError, CreateError};
use super::filters::{Filters, Verdict};
use super::open::Kind;
use crate::base::{FileIdentity, limits};

/// The files of a planned torrent.
#[derive(Debug)]
pub struct Scan {
    pub files: Vec<ScannedFile>,
    /// Whether the path is a file and not a folder.
    pub single_file: bool,
    /// Total length of the files, in bytes.
    pub total_len: u64,
    /// The number of files excluded as [junk](Verdict::Junk).
    pub junk_count: usize,
}

#[derive(Debug)]
pub struct ScannedFile {
    /// The path from which the file is read.
    pub path: PathBuf,
    /// Path elements below the scanned folder; empty for a single file.
    pub elements: Vec<Vec<u8>>,
    /// The identity at the time of the walk.
    pub identity: FileIdentity,
}

/// Walks `root`, which is a file, a folder, or a symlink to one.
///
/// Files are in raw byte order of their path elements. Empty and hidden files are included, junk is not. Symlinks in a
/// folder are followed. A loop is an error, and so is an entry that is neither file nor folder and not excluded by
/// `filters`. The file `output` is skipped, so that a folder that contains its own `.torrent` gives the same torrent
/// again.
pub fn scan(root: &Path, filters: &Filters, output: Option<&Metadata>) -> Result<Scan, CreateError> {
    let metadata = fs::metadata(root).map_err(|error| match is_dead_link(root, &error) {
        true => CreateError::DeadPath { path: root.to_owned() },
        false => unreadable(root, error),
    })?;
    match Kind::from(metadata.file_type()) {
        Kind::File if !filters.is_empty() => Err(CreateError::FilteredFile { path: root.to_owned() }),
        Kind::File => {
            let identity = FileIdentity::from(&metadata);
            let file = ScannedFile { path: root.to_owned(), elements: Vec::new(), identity };
            Ok(Scan { files: vec![file], single_file: true, total_len: identity.len, junk_count: 0 })
        }
        Kind::Folder => scan_folder(root, filters, output),
        kind => Err(CreateError::NoContent { path: root.to_owned(), kind }),
    }
}

fn scan_folder(root: &Path, filters: &Filters, output: Option<&Metadata>) -> Result<Scan, CreateError> {
    let mut scan = Scan { files: Vec::new(), single_file: false, total_len: 0, junk_count: 0 };
    let relative = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_owned();
    // A depth-first walk with entries sorted by name gives the order of the path elements.
    let walk = WalkDir::new(root).follow_links(true).sort_by_file_name().min_depth(1).into_iter();
    for entry in walk.filter_entry(|entry| !filters.prunes(&relative(entry.path()))) {
        let path = match entry {
            Err(error) => match (error.path().map(relative), error.loop_ancestor()) {
                // The walk passes only entries that it could follow to the filters, so errors are filtered here.
                (Some(path), _) if filters.judge(&path) != Verdict::Include && error.depth() > 0 => continue,
                _ => return Err(walk_error(root, error)),
            },
            Ok(entry) if entry.file_type().is_dir() => continue,
            Ok(entry) => match filters.judge(&relative(entry.path())) {
                Verdict::Include => entry,
                Verdict::Exclude => continue,
                Verdict::Junk => {
                    scan.junk_count += 1;
                    continue;
                }
            },
        };
        if let Some(file) = scan_file(&path, relative(path.path()), output)? {
            scan.total_len = scan.total_len.saturating_add(file.identity.len);
            scan.files.push(file);
        }
        if scan.files.len() > limits::FILE_COUNT_MAX {
            return Err(CreateError::TooManyFiles { path: root.to_owned() });
        }
    }
    if scan.files.is_empty() {
        return Err(CreateError::NoFiles { path: root.to_owned() });
    }
    Ok(scan)
}

/// Returns `None` for the output.
fn scan_file(
    entry: &DirEntry,
    relative: PathBuf,
    output: Option<&Metadata>,
) -> Result<Option<ScannedFile>, CreateError> {
    let path = entry.path().to_owned();
    let kind = Kind::from(entry.file_type());
    if kind != Kind::File {
        return Err(CreateError::Special { path, kind });
    }
    let metadata = entry.metadata().map_err(|error| unreadable(&path, error.into()))?;
    let identity = FileIdentity::from(&metadata);
    if output.is_some_and(|output| identity.is_same_inode(&output.into())) {
        return Ok(None);
    }
    let elements: Vec<Vec<u8>> = relative.iter().map(|element| element.as_bytes().to_vec()).collect();
    if elements.len() > limits::PATH_DEPTH_MAX || relative.as_os_str().len() > limits::PATH_LEN_MAX {
        return Err(CreateError::Path { path });
    }
    Ok(Some(ScannedFile { path, elements, identity }))
}

fn walk_error(root: &Path, error: walkdir::Error) -> CreateError {
    let path = error.path().unwrap_or(root).to_owned();
    if let Some(ancestor) = error.loop_ancestor() {
        return CreateError::Loop { path, ancestor: ancestor.to_owned() };
    }
    let error = error.into_io_error().unwrap_or_else(|| io::Error::other("the walk failed"));
    if is_dead_link(&path, &error) { CreateError::DeadLink { path } } else { unreadable(&path, error) }
}

fn is_dead_link(path: &Path, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink())
}

fn unreadable(path: &Path, error: io::Error) -> CreateError {
    ContentError::Read { path: path.to_owned(), error }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file.as_bytes()).unwrap();
        }
        dir
    }

    fn names(scan: &Scan) -> Vec<String> {
        scan.files.iter().map(|file| String::from_utf8(file.elements.join(&b'/')).unwrap()).collect()
    }

    #[test]
    fn files_come_in_byte_order_of_their_path_elements() {
        let dir = tree(&["b", "a.txt", "a/z", "a/.hidden", "Z", "ä", "a-b"]);
        fs::write(dir.path().join("empty"), b"").unwrap();
        let scan = scan(dir.path(), &Filters::default(), None).unwrap();
        assert_eq!(names(&scan), ["Z", "a/.hidden", "a/z", "a-b", "a.txt", "b", "empty", "ä"]);
        assert!(scan.files.is_sorted_by_key(|file| &file.elements));
        assert_eq!(scan.total_len, 1 + 9 + 3 + 3 + 5 + 1 + 2);
    }

    #[test]
    fn junk_is_counted() {
        let dir = tree(&["a", "sub/.DS_Store", "sub/b", "Thumbs.db"]);
        let found = scan(dir.path(), &Filters::default(), None).unwrap();
        assert_eq!((names(&found), found.junk_count), (vec!["a".to_owned(), "sub/b".to_owned()], 2));
        let all = scan(dir.path(), &Filters::default().with_junk(true), None).unwrap();
        assert_eq!((all.files.len(), all.junk_count), (4, 0));
        // A junk file given as the root is content.
        assert_eq!(scan(&dir.path().join("Thumbs.db"), &Filters::default(), None).unwrap().files.len(), 1);
    }

    #[test]
    fn symlinks_are_followed_and_loops_are_named() {
        let dir = tree(&["real/file"]);
        symlink("real", dir.path().join("link")).unwrap();
        let found = scan(dir.path(), &Filters::default(), None).unwrap();
        assert_eq!(names(&found), ["link/file", "real/file"]);
        symlink("..", dir.path().join("real/up")).unwrap();
        let error = scan(dir.path(), &Filters::default(), None).unwrap_err();
        assert!(matches!(&error, CreateError::Loop { path, .. } if path.ends_with("up")), "{error}");
        let filtered = scan(dir.path(), &Filters::new(["!up"]).unwrap(), None).unwrap();
        assert_eq!(names(&filtered), ["link/file", "real/file"]);
    }

    #[test]
    fn special_files_and_broken_links_are_named_unless_excluded() {
        let dir = tree(&["file"]);
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let error = scan(dir.path(), &Filters::default(), None).unwrap_err();
        assert!(matches!(&error, CreateError::Special { path, kind: Kind::Fifo } if *path == fifo), "{error}");
        assert_eq!(names(&scan(dir.path(), &Filters::new(["!fifo"]).unwrap(), None).unwrap()), ["file"]);
        assert!(error.to_string().ends_with("exclude it with create -g '!fifo'"), "{error}");
        let error = scan(&fifo, &Filters::default(), None).unwrap_err();
        assert!(matches!(error, CreateError::NoContent { .. }) && !error.to_string().contains("-g"), "{error}");
        fs::remove_file(fifo).unwrap();
        symlink("nowhere", dir.path().join("broken")).unwrap();
        let error = scan(dir.path(), &Filters::default(), None).unwrap_err().to_string();
        assert!(error.contains("broken symbolic link") && error.ends_with("create -g '!broken'"), "{error}");
        let error = scan(&dir.path().join("broken"), &Filters::default(), None).unwrap_err().to_string();
        assert!(error.ends_with("it is a broken symbolic link: give a file or folder"), "{error}");
        assert_eq!(names(&scan(dir.path(), &Filters::new(["file"]).unwrap(), None).unwrap()), ["file"]);
    }

    #[test]
    fn the_output_is_not_content() {
        let dir = tree(&["file", "out.torrent"]);
        let output = fs::metadata(dir.path().join("out.torrent")).unwrap();
        assert_eq!(names(&scan(dir.path(), &Filters::default(), Some(&output)).unwrap()), ["file"]);
    }
}
