//! What each file was when its pieces were verified, and whether it still is.
//!
//! What is in memory of a file is of the one that is known: both change together. So whatever can be leased of pieces that count as
//! verified is what was hashed, but for writes that no look has noticed yet.

use std::sync::{MutexGuard, PoisonError};

use super::error::StorageError;
use super::layout::FileState;
use super::store::Store;
use crate::base::FileIdentity;

/// Told of a file that is not what it was when its pieces were verified, before anything of it as it is now can be leased. It
/// may not block.
pub type OnChange<'a> = &'a dyn Fn(usize);

/// See the module.
#[derive(Debug)]
pub(super) struct Known {
    /// `None`: no piece of it counts as verified, and nothing of it is in memory.
    files: Box<[Option<FileIdentity>]>,
    writer: Writer,
}

/// Which process may write to the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// This one: its writes change nothing that is verified.
    Ourselves,
    None,
}

impl Known {
    pub(super) fn new(file_count: usize) -> Self {
        Self { files: vec![None; file_count].into(), writer: Writer::None }
    }

    fn is(&self, file_index: usize, now: &FileIdentity) -> bool {
        self.files.get(file_index).copied().flatten().is_some_and(|known| match self.writer {
            Writer::Ourselves => known.is_same_inode(now),
            Writer::None => known == *now,
        })
    }

    /// Notes what a file is now. True when it was something else before.
    fn note(&mut self, file_index: usize, now: Option<FileIdentity>, changed: OnChange<'_>) -> bool {
        let is_same = now.is_some_and(|now| self.is(file_index, &now));
        let Some(known) = self.files.get_mut(file_index) else { return false };
        let is_changed = known.is_some() && !is_same;
        if is_changed {
            changed(file_index);
        }
        *known = now;
        is_changed
    }
}

impl Store {
    /// The same with pieces that were verified when the files were these.
    #[must_use]
    pub fn with_known(mut self, files: Box<[Option<FileIdentity>]>) -> Self {
        let known = self.known.get_mut().unwrap_or_else(PoisonError::into_inner);
        known.files.iter_mut().zip(files).for_each(|(known, file)| *known = file);
        self
    }

    /// The same for files that are written here, until [`Self::end_writing`].
    #[must_use]
    pub fn writing(mut self) -> Self {
        self.known.get_mut().unwrap_or_else(PoisonError::into_inner).writer = Writer::Ourselves;
        self
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All pieces are in their files: from now on each write to one of them is another program's. May block.
    pub fn end_writing(&self, changed: OnChange<'_>) {
        for file_index in self.file_indices() {
            self.note(&mut self.known(), file_index, self.layout().identity(file_index).ok(), changed);
        }
        self.known().writer = Writer::None;
    }

    /// Notes what a file is that was opened.
    pub(super) fn handle_opened(&self, file_index: usize, identity: FileIdentity, changed: OnChange<'_>) {
        self.note(&mut self.known(), file_index, Some(identity), changed);
    }

    /// A file that was opened has been read, and is this afterwards. It may not be the one that is known any more.
    pub(super) fn handle_read(
        &self,
        file_index: usize,
        (before, now): (FileIdentity, FileIdentity),
        changed: OnChange<'_>,
    ) {
        if before != now {
            let mut known = self.known();
            if known.is(file_index, &before) {
                self.note(&mut known, file_index, Some(now), changed);
            }
        }
    }

    /// What is in memory of a file is of the one that is known.
    fn note(&self, known: &mut Known, file_index: usize, now: Option<FileIdentity>, changed: OnChange<'_>) {
        if known.note(file_index, now, changed) {
            self.forget(file_index);
        }
    }

    /// Looks whether a file is still the one that was verified. May block.
    pub fn recheck(&self, file_index: usize, changed: OnChange<'_>) -> Result<FileState, StorageError> {
        let mut found = self.layout().file_state(file_index)?;
        if let FileState::Present(now) = found {
            let is_same = {
                let known = self.known();
                known.is(file_index, &now) || known.files.get(file_index).is_none_or(Option::is_none)
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
        // What was verified is not there, or can't be opened.
        self.note(&mut self.known(), file_index, None, changed);
        Ok(found)
    }

    /// Runs `act` if these files are still known as this, and says whether they are. Nothing becomes known meanwhile.
    pub fn if_unchanged(&self, files: &[(usize, FileIdentity)], act: impl FnOnce()) -> bool {
        let known = self.known();
        let is_unchanged = files.iter().all(|(file_index, identity)| known.is(*file_index, identity));
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

    /// Two files, and the changes that a store tells of.
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

        /// The files that were told of by `act`.
        fn changes(&self, act: impl FnOnce(OnChange<'_>)) -> Vec<usize> {
            act(&|file_index| self.changes.borrow_mut().push(file_index));
            self.changes.take()
        }

        fn map(&self) -> Vec<usize> {
            self.changes(|changed| self.store.populate(0, FILES_LEN, changed).unwrap())
        }

        fn look(&self) -> Vec<usize> {
            self.changes(|changed| _ = self.store.recheck(0, changed).unwrap())
        }

        fn first_block(&self) -> BlockRef {
            let geometry = Geometry::new(16_384, [FILES_LEN / 2; 2]).unwrap();
            geometry.block(geometry.piece(0).unwrap(), 0).unwrap()
        }
    }

    /// Another byte in the same place. A tick of the file system's clock has passed.
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
    fn a_change_of_any_kind_is_told_once() {
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
            assert_eq!((fixture.map(), fixture.look()), (NONE.to_vec(), NONE.to_vec()));
            change(&fixture.path());
            assert_eq!((fixture.look(), fixture.look(), fixture.map()), (vec![0], NONE.to_vec(), NONE.to_vec()));
            assert!(fixture.store.lease(fixture.first_block()).is_some());
        }
    }

    #[test]
    fn what_is_not_there_or_is_a_link_can_not_be_leased() {
        for link in [false, true] {
            let fixture = Fixture::new(|store| store);
            fixture.map();
            std::fs::remove_file(fixture.path()).unwrap();
            if link {
                std::os::unix::fs::symlink("b", fixture.path()).unwrap();
            }
            let look = |changed: OnChange<'_>| assert_eq!(fixture.store.recheck(0, changed).unwrap(), FileState::Gone);
            assert_eq!(fixture.changes(look), [0]);
            assert!(fixture.store.lease(fixture.first_block()).is_none());
        }
    }

    #[test]
    fn a_file_replaced_before_its_first_map_is_told_of() {
        let known = Fixture::new(|store| {
            let known = [0, 1].map(|file_index| Some(store.layout().open_to_read(file_index).unwrap().1));
            store.with_known(known.into())
        });
        replace(&known.path());
        assert_eq!((known.map(), known.look()), (vec![0], NONE.to_vec()));
    }

    #[test]
    fn a_write_while_a_piece_is_read_decides_nothing() {
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
    fn our_own_writes_change_nothing_until_they_end() {
        let fixture = Fixture::new(Store::writing);
        fixture.map();
        overwrite(&fixture.path());
        assert_eq!(fixture.look(), NONE);
        overwrite(&fixture.path());
        assert_eq!(fixture.changes(|changed| fixture.store.end_writing(changed)), NONE);
        assert_eq!(fixture.look(), NONE);
        assert!(fixture.store.lease(fixture.first_block()).is_some());
        overwrite(&fixture.path());
        assert_eq!(fixture.look(), [0]);

        let fixture = Fixture::new(Store::writing);
        fixture.map();
        replace(&fixture.path());
        assert_eq!(fixture.look(), [0], "another file is not ours");
    }
}
