//! One pass over content: what it is to its workers, the runs that they take, and how far they are.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::error::ContentError;
use crate::base::limits::{HASH_LANES, HASH_RUN_LEN, HASH_RUN_PIECES_MAX};
use crate::base::{Geometry, PieceIndex};
use crate::uring::SharedFile;

/// How the caller steers long work and hears of it.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    /// Set it and the work ends soon with [`ContentError::Cancelled`].
    pub cancel: &'a AtomicBool,
    /// Called with the number of content bytes done so far, by the working threads, a few thousand times for each
    /// GiB; calls may come out of order.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// Content as the pipeline sees it.
pub(super) trait Content: Sync {
    fn geometry(&self) -> &Geometry;
    /// Pieces that are not wanted are passed over and get no hash.
    fn wants(&self, piece: PieceIndex) -> bool;
    fn open(&self, file_index: usize) -> Result<Source, ContentError>;
    /// For messages.
    fn path(&self, file_index: usize) -> PathBuf;
}

/// Where one file's bytes come from.
#[derive(Clone)]
pub(super) enum Source {
    File(SharedFile),
    /// A pad file (BEP 47).
    Zeros,
}

/// One pass over the content, shared by its workers.
pub(super) struct Sweep<'a, C> {
    pub(super) content: &'a C,
    control: Control<'a>,
    pub(super) thread_count: usize,
    range: Range<u32>,
    /// Runs that the pieces are dealt in, evenly.
    run_count: u64,
    /// The first run that no worker has taken.
    next: AtomicU64,
    /// Content bytes hashed or passed over.
    done: AtomicU64,
    /// Another worker gave up.
    failed: AtomicBool,
}

impl<'a, C: Content> Sweep<'a, C> {
    pub(super) fn new(content: &'a C, range: Range<u32>, control: Control<'a>, thread_count: usize) -> Self {
        let geometry = content.geometry();
        let run_count = run_count(geometry.piece_len(), range.len() as u64, thread_count as u64);
        let done = offset_of(geometry, range.start).into();
        Self { content, control, thread_count, range, run_count, next: 0.into(), done, failed: false.into() }
    }

    /// The next run of pieces; `None` when all are taken or the work is given up.
    pub(super) fn take_run(&self) -> Option<impl Iterator<Item = PieceIndex> + use<'_, C>> {
        let geometry = self.content.geometry();
        let run = self.next.fetch_add(1, Ordering::Relaxed);
        let start = |run: u64| u64::from(self.range.start) + run * self.range.len() as u64 / self.run_count;
        let goes_on = run < self.run_count && !self.failed.load(Ordering::Relaxed);
        goes_on.then(|| (start(run)..start(run + 1)).filter_map(|index| geometry.piece(u32::try_from(index).ok()?)))
    }

    /// No more runs are taken.
    pub(super) fn stop(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(super) fn check_cancelled(&self) -> Result<(), ContentError> {
        if self.control.cancel.load(Ordering::Relaxed) { Err(ContentError::Cancelled) } else { Ok(()) }
    }

    pub(super) fn advance(&self, len: u64) {
        let done = self.done.fetch_add(len, Ordering::Relaxed) + len;
        (self.control.progress)(done);
    }
}

/// As many runs for each thread as for any other, long enough to fill the lanes unless there are too few pieces.
fn run_count(piece_len: u32, piece_count: u64, thread_count: u64) -> u64 {
    let pieces = (HASH_RUN_LEN / u64::from(piece_len)).clamp(HASH_LANES as u64, HASH_RUN_PIECES_MAX as u64);
    piece_count.div_ceil(pieces).next_multiple_of(thread_count.max(1)).min(piece_count)
}

/// Where a piece begins; for the number of pieces, where the content ends.
pub(super) fn offset_of(geometry: &Geometry, piece: u32) -> u64 {
    geometry.piece(piece).map_or(geometry.total_len(), |piece| geometry.offset_of(piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_even_and_leave_no_thread_idle() {
        assert_eq!(run_count(1 << 20, 4096, 2), 256);
        assert_eq!(run_count(1 << 20, 40, 2), 4);
        assert_eq!(run_count(1 << 20, 5, 2), 2);
        assert_eq!(run_count(1 << 20, 1, 8), 1);
        assert_eq!(run_count(1, 1 << 20, 2), 1024);
    }
}
