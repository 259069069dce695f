//! Whether the files that are served are as long as the torrent says.
//!
//! A map can't tell: behind the end of a file that somebody cut short its last page reads as zeros. Pages beyond that one are gone
//! from memory, and so is the page that should be the file's last: it is looked at with everything that leaves.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::torrent::Torrent;
use crate::base::{BlockRef, Time, limits};
use crate::storage::Presence;

/// What is known of one torrent's files.
#[derive(Debug)]
pub(super) struct Lengths {
    /// Found to be too short: what is missing is not served, and nobody need look again.
    short: Box<[AtomicBool]>,
    /// When short files are looked at next, in milliseconds since the session's start.
    due_ms: AtomicU64,
}

impl Lengths {
    pub(super) fn new(file_count: usize) -> Self {
        Self { short: (0..file_count).map(|_| AtomicBool::new(false)).collect(), due_ms: AtomicU64::new(0) }
    }

    fn is_short(&self, file_index: usize) -> bool {
        self.short.get(file_index).is_some_and(|short| short.load(Ordering::Acquire))
    }

    /// Whether it is this caller's turn to look at a file that is small.
    fn take_turn(&self, now: Time) -> bool {
        let ms = |time: Time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let due = self.due_ms.load(Ordering::Relaxed);
        let next = ms(now + limits::LENGTH_CHECK_INTERVAL);
        ms(now) >= due && self.due_ms.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Torrent {
    /// The last page, as a range of the content, of the file in which a range ends; `None` when the range holds it.
    pub(super) fn last_page_behind(&self, offset: u64, len: u64) -> Option<(u64, u64)> {
        let (file_index, page) = self.store.last_page_behind(offset, len)?;
        (!self.lengths.is_short(file_index)).then_some(page)
    }

    /// Files with a last page among these blocks, whose length has to be looked at before they leave. Of small files, of
    /// which there may be very many, not all are.
    pub(super) fn ends_among(&self, blocks: &[BlockRef], now: Time) -> Vec<usize> {
        let mut found: Vec<usize> = blocks.iter().flat_map(|&block| self.store.ends_in(block)).collect();
        found.dedup();
        let is_long = |file_index| self.swarm.geometry.file_len(file_index) >= limits::LENGTH_CHECK_LEN_MIN;
        found.retain(|&file_index| {
            !self.lengths.is_short(file_index) && (is_long(file_index) || self.lengths.take_turn(now))
        });
        found
    }

    /// Maps a range of the content and reads it into memory, the last page of its file first. False when not all of it can be
    /// read. May block on the file system.
    pub(super) fn read_in(&self, offset: u64, len: u64) -> bool {
        if let Some((page, page_len)) = self.last_page_behind(offset, len)
            && !self.store.read_in(page, page_len)
            && let Some(span) = self.swarm.geometry.file_spans(page, page_len).next()
        {
            self.check_length(span.file_index);
        }
        self.store.read_in(offset, len)
    }

    /// Looks at a file; what is not there any more is not served. May block on the file system.
    pub(super) fn check_length(&self, file_index: usize) {
        let len = match self.store.layout().presence(file_index) {
            Ok(Presence::Here { len }) => len,
            Ok(Presence::Absent) | Err(_) => 0,
        };
        let geometry = &self.swarm.geometry;
        if len >= geometry.file_len(file_index) {
            return;
        }
        for piece in geometry.pieces_of_file(file_index).filter_map(|index| geometry.piece(index)) {
            let is_cut = geometry.piece_spans(piece).any(|s| s.file_index == file_index && s.offset + s.len > len);
            if is_cut && self.swarm.pieces.has(piece) {
                self.handle_unservable(piece, "its file became shorter");
            }
        }
        if let Some(short) = self.lengths.short.get(file_index) {
            short.store(true, Ordering::Release);
        }
    }
}
