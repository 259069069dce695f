//! The identity that each file had when its pieces were verified.

use crate::base::FileIdentity;

/// Called with the index of a file that is not the one whose pieces were verified, before any of its new content can be
/// leased. It must not block.
pub type OnChange<'a> = &'a dyn Fn(usize);

/// The files whose pieces count as verified.
#[derive(Debug)]
pub(super) struct VerifiedFiles {
    /// `None` if no piece of the file counts as verified and none of its content is in memory.
    identities: Box<[Option<FileIdentity>]>,
    writer: Writer,
}

/// The process that may write to the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// This process. Its writes leave verified pieces valid.
    Ourselves,
    None,
}

impl VerifiedFiles {
    pub(super) fn new(file_count: usize) -> Self {
        Self { identities: vec![None; file_count].into(), writer: Writer::None }
    }

    /// Sets the identities of all files.
    pub(super) fn set(&mut self, identities: Box<[Option<FileIdentity>]>) {
        self.identities.iter_mut().zip(identities).for_each(|(known, identity)| *known = identity);
    }

    /// Accepts new lengths and times of a file until [`Self::end_writing`], as long as it stays the same inode.
    pub(super) fn begin_writing(&mut self) {
        self.writer = Writer::Ourselves;
    }

    pub(super) fn end_writing(&mut self) {
        self.writer = Writer::None;
    }

    /// Whether a piece of the file may count as verified.
    pub(super) fn is_known(&self, file_index: usize) -> bool {
        self.identities.get(file_index).is_some_and(Option::is_some)
    }

    /// Whether `now` is the file whose pieces were verified.
    pub(super) fn is_same(&self, file_index: usize, now: &FileIdentity) -> bool {
        self.identities.get(file_index).copied().flatten().is_some_and(|known| match self.writer {
            Writer::Ourselves => known.is_same_inode(now),
            Writer::None => known == *now,
        })
    }

    /// Sets the identity of a file. Returns true, after a call of `changed`, if the file was known as another one.
    pub(super) fn update(&mut self, file_index: usize, now: Option<FileIdentity>, changed: OnChange<'_>) -> bool {
        let is_same = now.is_some_and(|now| self.is_same(file_index, &now));
        let Some(known) = self.identities.get_mut(file_index) else { return false };
        let is_changed = known.is_some() && !is_same;
        if is_changed {
            changed(file_index);
        }
        *known = now;
        is_changed
    }
}
