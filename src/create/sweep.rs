//! One pass over content: its interface for workers, the distribution of pieces to them, and their progress.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::error::ContentError;
use super::race::Race;
use crate::base::limits::{HASH_LANES, HASH_RUN_LEN, HASH_RUN_PIECES_MAX};
use crate::base::{Geometry, PieceIndex};
use crate::io::SharedFile;

/// Lets the caller cancel long work and follow its progress.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    /// When set, the work soon ends with [`ContentError::Cancelled`].
    pub cancel: &'a AtomicBool,
    /// Called by the worker threads with the number of content bytes done so far, a few thousand times per GiB. Calls
    /// may be out of order.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// Content that the pipeline can hash.
pub(super) trait Content: Sync {
    fn geometry(&self) -> &Geometry;
    /// Whether to hash a piece. Other pieces are skipped.
    fn wants(&self, piece: PieceIndex) -> bool;
    fn open(&self, file_index: usize) -> Result<Source, ContentError>;
    /// The path of a file, for messages.
    fn path(&self, file_index: usize) -> PathBuf;
}

/// The source of the bytes of one file.
#[derive(Clone)]
pub(super) enum Source {
    File(SharedFile),
    /// A pad file (BEP 47).
    Zeros,
}

/// One pass over content, shared by its workers.
pub(super) struct Sweep<'a, C> {
    pub(super) content: &'a C,
    control: Control<'a>,
    pub(super) thread_count: usize,
    pub(super) race: Race,
    range: Range<u32>,
    /// The number of runs of about equal length into which the pieces are divided.
    run_count: u64,
    /// The first run that no worker has taken.
    next: AtomicU64,
    /// Content bytes hashed or skipped.
    done: AtomicU64,
    /// A worker has failed.
    failed: AtomicBool,
}

impl<'a, C: Content> Sweep<'a, C> {
    pub(super) fn new(content: &'a C, range: Range<u32>, control: Control<'a>, thread_count: usize) -> Self {
        let geometry = content.geometry();
        let run_count = run_count(geometry.piece_len(), range.len() as u64, thread_count as u64);
        let done = offset_of(geometry, range.start).into();
        let (race, next, failed) = (Race::new(), 0.into(), false.into());
        Self { content, control, thread_count, race, range, run_count, next, done, failed }
    }

    /// Takes the next run of pieces. Returns `None` if all are taken or a worker has failed.
    pub(super) fn take_run(&self) -> Option<impl Iterator<Item = PieceIndex> + use<'_, C>> {
        let geometry = self.content.geometry();
        let run = self.next.fetch_add(1, Ordering::Relaxed);
        let start = |run: u64| u64::from(self.range.start) + run * self.range.len() as u64 / self.run_count;
        let has_next = run < self.run_count && !self.failed.load(Ordering::Relaxed);
        has_next.then(|| (start(run)..start(run + 1)).filter_map(|index| geometry.piece(u32::try_from(index).ok()?)))
    }

    /// Makes [`Self::take_run`] return no more runs.
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

/// The number of runs: the same number for each thread, and each run long enough to fill the hash lanes, unless there
/// are too few pieces.
fn run_count(piece_len: u32, piece_count: u64, thread_count: u64) -> u64 {
    let pieces = (HASH_RUN_LEN / u64::from(piece_len)).clamp(HASH_LANES as u64, HASH_RUN_PIECES_MAX as u64);
    piece_count.div_ceil(pieces).next_multiple_of(thread_count.max(1)).min(piece_count)
}

/// Offset of a piece in the content. For the number of pieces, the length of the content.
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
