//! Detection of files that changed after their pieces were verified.
//!
//! The content of a file in memory always belongs to the file that is known: both change together, under one lock. A
//! lease of a verified piece thus covers the bytes that were hashed, apart from writes by other programs that no check
//! has noticed yet.

use std::sync::{MutexGuard, PoisonError};

use super::Store;
use crate::base::FileIdentity;
use crate::base::lock::lock;
use crate::storage::error::StorageError;
use crate::storage::layout::FileState;
use crate::storage::verified_files::{OnChange, VerifiedFiles};

impl Store {
    /// Takes over the identities that the files had when their pieces were verified.
    #[must_use]
    pub fn with_known(mut self, files: Box<[Option<FileIdentity>]>) -> Self {
        self.verified.get_mut().unwrap_or_else(PoisonError::into_inner).set(files);
        self
    }

    /// Allows this process to write to the files, until [`Self::end_writing`].
    #[must_use]
    pub fn writing(mut self) -> Self {
        self.verified.get_mut().unwrap_or_else(PoisonError::into_inner).begin_writing();
        self
    }

    fn verified(&self) -> MutexGuard<'_, VerifiedFiles> {
        lock(&self.verified)
    }

    /// Notes that all pieces are written: each later write to a file is one by another program. May block.
    pub fn end_writing(&self, changed: OnChange<'_>) {
        for file_index in self.file_indices() {
            self.update(&mut self.verified(), file_index, self.layout().identity(file_index).ok(), changed);
        }
        self.verified().end_writing();
    }

    /// Notes the identity of a file that was opened.
    pub(super) fn handle_opened(&self, file_index: usize, identity: FileIdentity, changed: OnChange<'_>) {
        self.update(&mut self.verified(), file_index, Some(identity), changed);
    }

    /// Notes that a file was read: its identity was `before` when it was opened, and is `after` at the end of the read.
    /// Does nothing if another file has become the known one in between.
    pub(super) fn handle_read(
        &self,
        file_index: usize,
        before: FileIdentity,
        after: FileIdentity,
        changed: OnChange<'_>,
    ) {
        if before != after {
            let mut verified = self.verified();
            if verified.is_same(file_index, &before) {
                self.update(&mut verified, file_index, Some(after), changed);
            }
        }
    }

    /// Sets the identity of a file, and drops the content of a changed one from memory under the same lock.
    fn update(
        &self,
        verified: &mut VerifiedFiles,
        file_index: usize,
        now: Option<FileIdentity>,
        changed: OnChange<'_>,
    ) {
        if verified.update(file_index, now, changed) {
            self.forget(file_index);
        }
    }

    /// Checks whether a file is still the one that was verified. May block.
    pub fn recheck(&self, file_index: usize, changed: OnChange<'_>) -> Result<FileState, StorageError> {
        let mut found = self.layout().file_state(file_index)?;
        if let FileState::Present(now) = found {
            let is_same = {
                let verified = self.verified();
                verified.is_same(file_index, &now) || !verified.is_known(file_index)
            };
            if is_same {
                return Ok(found);
            }
            match self.layout().open_to_read(file_index) {
                Ok((_, identity)) => {
                    self.handle_opened(file_index, identity, changed);
                    return Ok(FileState::Present(identity));
                }
                Err(error) if error.is_absent() => found = FileState::Gone,
                Err(_) => {}
            }
        }
        // The verified file is gone, or cannot be opened.
        self.update(&mut self.verified(), file_index, None, changed);
        Ok(found)
    }

    /// Runs `act` if all of these files still have the given identities, and returns whether they have. No identity
    /// changes while `act` runs.
    pub fn if_unchanged(&self, files: &[(usize, FileIdentity)], act: impl FnOnce()) -> bool {
        let verified = self.verified();
        let is_unchanged = files.iter().all(|(file_index, identity)| verified.is_same(*file_index, identity));
        if is_unchanged {
            act();
        }
        is_unchanged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BlockRef, Geometry};
    use crate::storage::Layout;
    use std::cell::RefCell;
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;
    use std::path::{Path, PathBuf};
    use std::time::SystemTime;

    const LEN: usize = 20_000;
    const FILES_LEN: u64 = 2 * LEN as u64;
    const NONE: [usize; 0] = [];

    /// Two files, and the changes that the store reports.
    struct Fixture {
        folder: tempfile::TempDir,
        store: Store,
        changes: RefCell<Vec<usize>>,
    }

    impl Fixture {
        fn new(adapt: impl FnOnce(Store) -> Store) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for name in ["a", "b"] {
                std::fs::write(folder.path().join(name), [7; LEN]).unwrap();
            }
            let layout = Layout::open(folder.path(), ["a", "b"].map(|name| vec![name.as_bytes().to_vec()])).unwrap();
            let geometry = Geometry::new(16_384, [FILES_LEN / 2; 2]).unwrap();
            let store = adapt(Store::new(layout, geometry, [false; 2].into()).unwrap());
            Self { folder, store, changes: RefCell::default() }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("a")
        }

        /// The files that the store reports as changed during `act`.
        fn changes(&self, act: impl FnOnce(OnChange<'_>)) -> Vec<usize> {
            act(&|file_index| self.changes.borrow_mut().push(file_index));
            self.changes.take()
        }

        fn map(&self) -> Vec<usize> {
            self.changes(|changed| self.store.populate(0, FILES_LEN, changed).unwrap())
        }

        fn recheck(&self) -> Vec<usize> {
            self.changes(|changed| _ = self.store.recheck(0, changed).unwrap())
        }

        fn first_block(&self) -> BlockRef {
            let geometry = Geometry::new(16_384, [FILES_LEN / 2; 2]).unwrap();
            geometry.block(geometry.piece(0).unwrap(), 0).unwrap()
        }
    }

    /// Overwrites one byte, after a tick of the file system's clock.
    fn overwrite(path: &Path) {
        std::thread::sleep(crate::base::limits::FILE_TIME_GRAIN);
        File::options().write(true).open(path).unwrap().write_all_at(b"x", 5).unwrap();
    }

    fn replace(path: &Path) {
        let other = path.with_extension("new");
        std::fs::write(&other, [8; LEN]).unwrap();
        std::fs::rename(other, path).unwrap();
    }

    #[test]
    fn a_change_of_any_kind_is_reported_once() {
        let set_back = |path: &Path| {
            let modified = std::fs::metadata(path).unwrap().modified().unwrap();
            overwrite(path);
            File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
        };
        let touch = |path: &Path| {
            File::options().write(true).open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        };
        let lengthen =
            |path: &Path| File::options().write(true).open(path).unwrap().set_len(FILES_LEN / 2 + 1).unwrap();
        let changes: [&dyn Fn(&Path); 5] = [&overwrite, &replace, &set_back, &touch, &lengthen];
        for change in changes {
            let fixture = Fixture::new(|store| store);
            assert_eq!((fixture.map(), fixture.recheck()), (NONE.to_vec(), NONE.to_vec()));
            change(&fixture.path());
            assert_eq!((fixture.recheck(), fixture.recheck(), fixture.map()), (vec![0], NONE.to_vec(), NONE.to_vec()));
            assert!(fixture.store.lease(fixture.first_block()).is_some());
        }
    }

    #[test]
    fn a_removed_file_or_a_link_cannot_be_leased() {
        for link in [false, true] {
            let fixture = Fixture::new(|store| store);
            fixture.map();
            std::fs::remove_file(fixture.path()).unwrap();
            if link {
                std::os::unix::fs::symlink("b", fixture.path()).unwrap();
            }
            let recheck =
                |changed: OnChange<'_>| assert_eq!(fixture.store.recheck(0, changed).unwrap(), FileState::Gone);
            assert_eq!(fixture.changes(recheck), [0]);
            assert!(fixture.store.lease(fixture.first_block()).is_none());
        }
    }

    #[test]
    fn a_file_replaced_before_its_first_map_is_reported() {
        let known = Fixture::new(|store| {
            let known = [0, 1].map(|file_index| Some(store.layout().open_to_read(file_index).unwrap().1));
            store.with_known(known.into())
        });
        replace(&known.path());
        assert_eq!((known.map(), known.recheck()), (vec![0], NONE.to_vec()));
    }

    #[test]
    fn a_write_during_the_read_of_a_piece_voids_the_result() {
        let fixture = Fixture::new(|store| store);
        let piece = fixture.first_block().piece;
        let read = |part: &dyn Fn(), changed: OnChange<'_>| {
            fixture.store.read_piece(piece, &mut [0; 1000], |_| part(), changed).unwrap()
        };
        let mut files = Vec::new();
        assert_eq!(fixture.changes(|changed| files = read(&|| (), changed)), NONE);
        assert!(fixture.store.if_unchanged(&files, || ()));
        assert_eq!(fixture.changes(|changed| files = read(&|| overwrite(&fixture.path()), changed)), [0]);
        assert!(!fixture.store.if_unchanged(&files, || panic!("it has changed")));
    }

    #[test]
    fn our_own_writes_are_no_change_until_writing_ends() {
        let fixture = Fixture::new(Store::writing);
        fixture.map();
        overwrite(&fixture.path());
        assert_eq!(fixture.recheck(), NONE);
        overwrite(&fixture.path());
        assert_eq!(fixture.changes(|changed| fixture.store.end_writing(changed)), NONE);
        assert_eq!(fixture.recheck(), NONE);
        assert!(fixture.store.lease(fixture.first_block()).is_some());
        overwrite(&fixture.path());
        assert_eq!(fixture.recheck(), [0]);

        let fixture = Fixture::new(Store::writing);
        fixture.map();
        replace(&fixture.path());
        assert_eq!(fixture.recheck(), [0], "another file is not ours");
    }
}
