//! One torrent's files while they are served: which are looked at, and what becomes of those that changed.

use crate::base::{BlockRef, FileIdentity, PieceIndex, Time, limits};
use crate::engine::files::watch::interval;
use crate::engine::torrent::Torrent;
use crate::storage::{FileState, StorageError};

impl Torrent {
    /// The last page, as a range of the content, of the file in which a range ends; `None` when the range holds it.
    pub(in crate::engine) fn last_page_behind(&self, offset: u64, len: u64) -> Option<(u64, u64)> {
        let (file_index, page) = self.store.last_page_behind(offset, len)?;
        (!self.looks.is_lost(file_index)).then_some(page)
    }

    /// Files that have to be looked at before these blocks leave.
    pub(in crate::engine) fn files_to_look_at(&self, blocks: &[BlockRef], now: Time) -> Vec<usize> {
        let interval = interval(now);
        let is_due = |&(file_index, has_end): &(usize, bool)| {
            let len = self.swarm.geometry.file_len(file_index);
            self.looks.take_turn(file_index, len, interval)
                || (has_end && len >= limits::FILE_CHECK_LEN_MIN && !self.looks.is_lost(file_index))
        };
        let files = blocks.iter().flat_map(|&block| self.store.files_of(block));
        let mut due: Vec<usize> = files.filter(is_due).map(|(file_index, _)| file_index).collect();
        due.dedup();
        due
    }

    /// Brings a range of the content into memory, the last page of its file first. May block on the file system.
    pub(in crate::engine) fn read_in(&self, offset: u64, len: u64) -> Result<(), StorageError> {
        let on_change = self.on_change();
        // Of short ones not each is looked at in each interval.
        let is_short = |&file_index: &usize| self.swarm.geometry.file_len(file_index) < limits::FILE_CHECK_LEN_MIN;
        self.store.files_in(offset, len).filter(is_short).for_each(|file_index| self.look_at(file_index));
        if let Some((page, page_len)) = self.last_page_behind(offset, len)
            && self.store.populate(page, page_len, &on_change).is_err_and(|error| !error.is_transient())
            && let Some(span) = self.swarm.geometry.file_spans(page, page_len).next()
        {
            self.look_at(span.file_index);
        }
        self.store.populate(offset, len, &self.on_change())
    }

    /// Looks at a file: what is not there any more is not served, and what has changed is hashed again. May block on the file
    /// system.
    pub(in crate::engine) fn look_at(&self, file_index: usize) {
        let geometry = &self.swarm.geometry;
        let pieces = || geometry.pieces_of_file(file_index).filter_map(|index| geometry.piece(index));
        let (len, why) = match self.store.recheck(file_index, &self.on_change()) {
            Ok(FileState::Present(FileIdentity { len, .. })) => (len, "its file became shorter"),
            Ok(FileState::Gone) => (0, "its file is gone"),
            // What is mapped can still be read, or its read fails.
            Err(_) => return,
        };
        if len >= geometry.file_len(file_index) {
            return;
        }
        let is_cut = |piece: &PieceIndex| {
            geometry.piece_spans(*piece).any(|s| s.file_index == file_index && s.offset + s.len > len)
        };
        for piece in pieces().filter(is_cut).filter(|&piece| self.swarm.pieces.has(piece)) {
            self.handle_unservable(piece, why);
        }
        self.looks.handle_lost(file_index);
    }
}
