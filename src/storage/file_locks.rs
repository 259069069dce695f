//! The right to write to files, whatever their names: two downloads never write to one file, nor does one by two names.
//!
//! An advisory lock (`flock`) on each file, of all processes that download. Reading needs none, so a seed may run beside.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tracing::warn;

use super::error::{Action, StorageError};
use super::layout::Layout;
use crate::base::escape::printable;
use crate::base::{FileIdentity, limits};

/// One file among those of all file systems, whatever its name.
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

/// See the module. The locks go with it.
#[derive(Debug, Default)]
pub(super) struct FileLocks {
    /// Open for their locks.
    held: Vec<File>,
    /// Files that are claimed, each by the first of its names.
    by_inode: HashMap<Inode, usize>,
    claimed: HashSet<usize>,
    /// A file by its second name, and by its first.
    second_names: Vec<(usize, usize)>,
    /// A line was written about files that could not be locked.
    has_warned: bool,
}

impl FileLocks {
    /// Claims those of these files that are there and can be written to.
    pub(super) fn claim_existing(
        &mut self,
        layout: &Layout,
        file_indices: impl Iterator<Item = usize>,
    ) -> Result<(), StorageError> {
        for file_index in file_indices {
            if layout.identity(file_index).is_err() {
                // Not there, or no regular file: an error as soon as it is to be written.
                continue;
            }
            self.claimed.insert(file_index);
            // Nor is one written that can't be opened.
            if let Ok(file) = layout.open_to_write(file_index, false) {
                self.claim(layout, file_index, file)?;
            }
        }
        Ok(())
    }

    /// Makes or extends a file, and claims it.
    pub(super) fn create(&mut self, layout: &Layout, file_index: usize, len: u64) -> Result<(), StorageError> {
        let made = layout.create(file_index, len)?;
        let is_new = self.claimed.insert(file_index);
        if is_new || made.is_some() {
            // Where names are compared without case, the second name of a file that was just made is there already.
            let appeared = made.is_none();
            let file = made.map_or_else(|| layout.open_to_write(file_index, false), Ok)?;
            let is_second_name = Inode::of(&file).is_ok_and(|inode| self.by_inode.contains_key(&inode));
            if appeared && !is_second_name {
                let error = io::Error::other("another program has made it meanwhile: run the same command again");
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
        if self.held.len() >= held_max() {
            self.warn(layout, file_index, "too many files for the limit of open files (ulimit -n)");
            return Ok(());
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => self.held.push(file),
            Err(Errno::WOULDBLOCK) => {
                let text = "another download writes to it: wait until that ends, or end it";
                return Err(failed(io::Error::new(io::ErrorKind::ResourceBusy, text)));
            }
            Err(Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS | Errno::INVAL | Errno::BADF) => {
                self.warn(layout, file_index, "no locks here");
            }
            Err(error) => return Err(failed(error.into())),
        }
        Ok(())
    }

    /// Once is enough.
    fn warn(&mut self, layout: &Layout, file_index: usize, why: &str) {
        if !std::mem::replace(&mut self.has_warned, true) {
            let path = layout.path(file_index);
            let shown = printable(path.as_os_str().as_encoded_bytes());
            warn!("{shown}: {why}: take care that no other download writes to it");
        }
    }

    /// A file that has two names in the torrent, one of which satisfies `is_written`: what one writes the other destroys.
    pub(super) fn refuse_second_names(
        &self,
        layout: &Layout,
        is_written: impl Fn(usize) -> bool,
    ) -> Result<(), StorageError> {
        let mut written = self.second_names.iter().filter(|(second, first)| is_written(*second) || is_written(*first));
        written.next().map_or(Ok(()), |&(second, first)| {
            let other = layout.path(first);
            let text = format!(
                "it is one file with {}: the torrent has two: choose another folder with -o",
                printable(other.as_os_str().as_encoded_bytes())
            );
            Err(StorageError::new(Action::Write, layout.path(second), io::Error::other(text)))
        })
    }

    /// Nothing is written any more.
    pub(super) fn release(&mut self) {
        self.held = Vec::new();
    }
}

/// A share of the descriptors that the process may have.
fn held_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / limits::LOCKED_FILES_SHARE).unwrap_or(usize::MAX)
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
    fn a_file_is_written_by_one_whatever_its_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), b"x").unwrap();
        fs::hard_link(folder.path().join("a"), folder.path().join("b")).unwrap();
        let (first, second) = (layout(folder.path(), &["a", "c"]), layout(folder.path(), &["b"]));
        let mut held = claim(&first).unwrap();
        let refused = claim(&second).unwrap_err().to_string();
        assert!(refused.contains("/b: can't lock") && refused.contains("another download"), "{refused}");
        held.create(&first, 1, 3).unwrap();
        assert!(claim(&layout(folder.path(), &["c"])).is_err(), "it was made and locked");
        held.release();
        claim(&second).unwrap();
        claim(&layout(folder.path(), &["c"])).unwrap();
    }

    #[test]
    fn two_names_of_one_file_are_refused_where_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), b"x").unwrap();
        fs::hard_link(folder.path().join("a"), folder.path().join("b")).unwrap();
        let layout = layout(folder.path(), &["a", "b"]);
        let locks = claim(&layout).unwrap();
        locks.refuse_second_names(&layout, |_| false).unwrap();
        let refused = locks.refuse_second_names(&layout, |file_index| file_index == 0).unwrap_err().to_string();
        assert!(refused.contains("/b: can't write") && refused.contains("one file with"), "{refused}");
    }

    #[test]
    fn a_file_that_appears_after_the_claim_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path(), &["a"]);
        let mut locks = claim(&layout).unwrap();
        fs::write(folder.path().join("a"), b"keep").unwrap();
        let refused = locks.create(&layout, 0, 4).unwrap_err().to_string();
        assert!(refused.contains("another program has made it"), "{refused}");
        assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"keep");
    }
}
