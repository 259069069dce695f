//! Locks on content files: two downloads never write to the same file, and neither does one download under two names.
//!
//! Each downloading process takes an advisory lock (`flock`) on each file. Reading takes no lock, so a seed can run at
//! the same time.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tracing::warn;

use super::error::{Action, StorageError};
use super::layout::Layout;
use super::share::descriptors;
use crate::base::FileIdentity;
use crate::base::escape::printable;

/// Identifies a file independent of its name, across file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    fn of(file: &File) -> io::Result<Self> {
        let identity = FileIdentity::from(&file.metadata()?);
        Ok(Self { device: identity.dev, number: identity.ino })
    }
}

/// The locks of one download, released when it is dropped.
#[derive(Debug, Default)]
pub(super) struct FileLocks {
    /// Locked files, open to keep their locks.
    held: Vec<File>,
    /// File index of the first name of each claimed file.
    by_inode: HashMap<Inode, usize>,
    claimed: HashSet<usize>,
    /// File indices of a second name and of the first name of the same file.
    second_names: Vec<(usize, usize)>,
    /// The user was warned of files that cannot be locked.
    has_warned: bool,
}

impl FileLocks {
    /// Claims those of the given files that exist and are writable.
    pub(super) fn claim_existing(
        &mut self,
        layout: &Layout,
        file_indices: impl Iterator<Item = usize>,
    ) -> Result<(), StorageError> {
        for file_index in file_indices {
            if layout.identity(file_index).is_err() {
                // The file is missing or not a regular file: a later attempt to write it fails.
                continue;
            }
            self.claimed.insert(file_index);
            // A file that cannot be opened for writing needs no lock.
            if let Ok(file) = layout.open_to_write(file_index) {
                self.claim(layout, file_index, file)?;
            }
        }
        Ok(())
    }

    /// Creates or extends a file, and claims it.
    pub(super) fn create(&mut self, layout: &Layout, file_index: usize, len: u64) -> Result<(), StorageError> {
        let created = layout.create(file_index, len)?;
        let is_new = self.claimed.insert(file_index);
        if is_new || created.is_some() {
            // On a case-insensitive file system, the second name of a file created just before exists already.
            let appeared = created.is_none();
            let file = created.map_or_else(|| layout.open_to_write(file_index), Ok)?;
            let is_second_name = Inode::of(&file).is_ok_and(|inode| self.by_inode.contains_key(&inode));
            if appeared && !is_second_name {
                let error = io::Error::other("another program created it in the meantime: run the same command again");
                return Err(StorageError::new(Action::Create, layout.path(file_index), error));
            }
            self.claim(layout, file_index, file)?;
        }
        Ok(())
    }

    fn claim(&mut self, layout: &Layout, file_index: usize, file: File) -> Result<(), StorageError> {
        let failed = |error: io::Error| StorageError::new(Action::Lock, layout.path(file_index), error);
        let inode = Inode::of(&file).map_err(failed)?;
        if let Some(&first) = self.by_inode.get(&inode) {
            self.second_names.push((file_index, first));
            return Ok(());
        }
        self.by_inode.insert(inode, file_index);
        if self.held.len() >= descriptors().locked_files {
            self.warn(layout, file_index, "too many files to lock with this limit on open files (ulimit -n)");
            return Ok(());
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => self.held.push(file),
            Err(Errno::WOULDBLOCK) => {
                let text = "another download is writing to it: wait until that download has finished, or stop it";
                return Err(failed(io::Error::new(io::ErrorKind::ResourceBusy, text)));
            }
            Err(Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS | Errno::INVAL | Errno::BADF) => {
                self.warn(layout, file_index, "the file system does not support locks");
            }
            Err(error) => return Err(failed(error.into())),
        }
        Ok(())
    }

    /// Warns of the first file that cannot be locked.
    fn warn(&mut self, layout: &Layout, file_index: usize, why: &str) {
        if !std::mem::replace(&mut self.has_warned, true) {
            let path = layout.path(file_index);
            let shown = printable(path.as_os_str().as_encoded_bytes());
            warn!("{shown}: {why}: make sure that no other download writes to it");
        }
    }

    /// Returns an error if one file has two names in the torrent, and at least one of them satisfies `is_written`:
    /// writes under one name would destroy content of the other.
    pub(super) fn refuse_second_names(
        &self,
        layout: &Layout,
        is_written: impl Fn(usize) -> bool,
    ) -> Result<(), StorageError> {
        let mut written = self.second_names.iter().filter(|(second, first)| is_written(*second) || is_written(*first));
        written.next().map_or(Ok(()), |&(second, first)| {
            let other = layout.path(first);
            let text = format!(
                "it is the same file as {}, but the torrent has two: choose another folder with -o",
                printable(other.as_os_str().as_encoded_bytes())
            );
            Err(StorageError::new(Action::Write, layout.path(second), io::Error::other(text)))
        })
    }

    /// Releases all locks. Called when the download writes nothing more.
    pub(super) fn release(&mut self) {
        self.held = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn layout(folder: &Path, names: &[&str]) -> Layout {
        Layout::open(folder, names.iter().map(|name| vec![name.as_bytes().to_vec()])).unwrap()
    }

    fn claim(layout: &Layout) -> Result<FileLocks, StorageError> {
        let mut locks = FileLocks::default();
        locks.claim_existing(layout, 0..layout.file_count())?;
        Ok(locks)
    }

    #[test]
    fn a_file_has_one_writer_under_any_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), b"x").unwrap();
        fs::hard_link(folder.path().join("a"), folder.path().join("b")).unwrap();
        let (first, second) = (layout(folder.path(), &["a", "c"]), layout(folder.path(), &["b"]));
        let mut held = claim(&first).unwrap();
        let refused = claim(&second).unwrap_err().to_string();
        assert!(refused.contains("/b: can't lock") && refused.contains("another download"), "{refused}");
        held.create(&first, 1, 3).unwrap();
        assert!(claim(&layout(folder.path(), &["c"])).is_err(), "it was created and locked");
        held.release();
        claim(&second).unwrap();
        claim(&layout(folder.path(), &["c"])).unwrap();
    }

    #[test]
    fn a_written_file_with_two_names_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), b"x").unwrap();
        fs::hard_link(folder.path().join("a"), folder.path().join("b")).unwrap();
        let layout = layout(folder.path(), &["a", "b"]);
        let locks = claim(&layout).unwrap();
        locks.refuse_second_names(&layout, |_| false).unwrap();
        let refused = locks.refuse_second_names(&layout, |file_index| file_index == 0).unwrap_err().to_string();
        assert!(refused.contains("/b: can't write") && refused.contains("the same file as"), "{refused}");
    }

    #[test]
    fn a_file_that_appears_after_the_claim_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path(), &["a"]);
        let mut locks = claim(&layout).unwrap();
        fs::write(folder.path().join("a"), b"keep").unwrap();
        let refused = locks.create(&layout, 0, 4).unwrap_err().to_string();
        assert!(refused.contains("another program created it"), "{refused}");
        assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"keep");
    }
}
