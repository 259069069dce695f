//! Syncs written files to disk.

use std::collections::BTreeMap;
use std::io;

use rustix::fs::syncfs;

use super::Store;
use crate::base::limits;
use crate::io::{SharedFile, Step, fault_point, retry_transient};
use crate::storage::error::{Action, StorageError};
use crate::storage::share::{descriptors, wait_to_open};

/// Files that were written to after their last sync.
///
/// A file is synced through the descriptor that wrote to it, since the kernel reports an earlier failed write-out to
/// that descriptor.
#[derive(Debug, Default)]
pub struct Unsynced {
    /// By file index. `None` if the file is opened for the sync.
    files: BTreeMap<usize, Option<SharedFile>>,
}

impl Unsynced {
    /// All selected files of a store, as if each had been written to.
    pub fn all(store: &Store) -> Self {
        Self { files: store.file_indices().map(|file_index| (file_index, None)).collect() }
    }

    /// Notes a completed write to a file.
    pub fn handle_written(&mut self, file_index: usize, file: &SharedFile) {
        let count = self.files.len();
        let has_room = || count < descriptors().unsynced_files;
        self.files.entry(file_index).or_insert_with(|| has_room().then(|| file.clone()));
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The indices of the files.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.files.keys().copied()
    }
}

impl Store {
    /// Syncs the content of these files, and the names of files that were created. With `times`, syncs their time
    /// stamps too.
    ///
    /// After an error, data written since the last sync may be lost even if a later sync succeeds, because the kernel
    /// marks the pages as clean. This method drops the pages, so that a later read returns what is on disk.
    pub fn sync(&self, unsynced: &Unsynced, times: bool) -> Result<(), StorageError> {
        let synced = self.sync_files(unsynced, times);
        if let Err(error) = &synced
            && error.action == Action::Sync
        {
            self.drop_files(unsynced.iter());
        }
        synced
    }

    fn sync_files(&self, unsynced: &Unsynced, times: bool) -> Result<(), StorageError> {
        let open = |file_index, file: &Option<SharedFile>| match file {
            Some(file) => Ok(file.clone()),
            // A sync does not need a writable descriptor.
            None => {
                let opened = wait_to_open(|| self.layout().open_to_read(file_index));
                opened.map(|(file, _)| SharedFile::new(file))
            }
        };
        let whole_file_systems = unsynced.files.len() > limits::SYNC_FILES_MAX;
        let mut done = None;
        let (open_files, other_files): (Vec<_>, Vec<_>) = unsynced.files.iter().partition(|(_, file)| file.is_some());
        for (&file_index, file) in open_files.into_iter().chain(other_files) {
            let failed = |error| StorageError::new(Action::Sync, self.layout().path(file_index), error);
            let device = if whole_file_systems { Some(self.layout().identity(file_index)?.dev) } else { None };
            if whole_file_systems && device == done {
                continue;
            }
            let file = open(file_index, file)?;
            let sync = || -> io::Result<()> {
                fault_point(Step::Sync)?;
                retry_transient(|| match (whole_file_systems, times) {
                    (true, _) => Ok(syncfs(&*file)?),
                    (false, true) => file.sync_all(),
                    (false, false) => file.sync_data(),
                })
            };
            sync().map_err(failed)?;
            done = device;
        }
        self.layout().sync_folders()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Geometry;
    use crate::storage::Layout;

    fn store(folder: &std::path::Path, file_count: usize) -> Store {
        let layout = Layout::open(folder, (0..file_count).map(|at| vec![format!("f{at}").into_bytes()])).unwrap();
        let geometry = Geometry::new(10, std::iter::repeat_n(3, file_count)).unwrap();
        let pads = (0..file_count).map(|at| at == 1).collect();
        Store::new(layout, geometry, pads).unwrap()
    }

    #[test]
    fn few_or_many_files_are_synced_and_a_missing_one_is_named() {
        for file_count in [3, limits::SYNC_FILES_MAX + 2] {
            let folder = tempfile::tempdir().unwrap();
            let store = store(folder.path(), file_count);
            store.create_files().unwrap();
            let mut unsynced = Unsynced::all(&store);
            assert_eq!(unsynced.iter().count(), file_count - 1, "no pad file");
            let file = SharedFile::new(store.layout().open_to_write(0).unwrap());
            unsynced.handle_written(0, &file);
            store.sync(&unsynced, true).unwrap();
            store.sync(&unsynced, false).unwrap();
            std::fs::remove_file(folder.path().join("f2")).unwrap();
            assert!(store.sync(&unsynced, false).unwrap_err().to_string().contains("f2"));
        }
    }

    #[test]
    fn the_number_of_kept_descriptors_is_bounded() {
        let file = SharedFile::new(tempfile::tempfile().unwrap());
        let mut unsynced = Unsynced::default();
        (0..1000).for_each(|file_index| unsynced.handle_written(file_index, &file));
        assert_eq!(unsynced.iter().count(), 1000);
        assert_eq!(std::sync::Arc::strong_count(&file), 1 + limits::SYNC_FILES_MAX);
    }
}
