//! Hashing content that lies in files.
//!
//! The threads of the rayon pool take runs of pieces in order, so that a disk sees one forward sweep. How a thread reads
//! and hashes its runs is `worker`'s.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::error::ContentError;
use super::worker::Worker;
use crate::base::limits::{HASH_LANES, HASH_RUN_LEN, HASH_RUN_PIECES_MAX};
use crate::base::{Geometry, PieceHash, PieceIndex};

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
pub(super) enum Source {
    File(File),
    /// A pad file (BEP 47).
    Zeros,
}

/// The hash of every wanted piece, by piece index.
pub(super) fn hash_pieces(
    content: &impl Content,
    control: Control<'_>,
) -> Result<Vec<Option<PieceHash>>, ContentError> {
    let sweep = Sweep::new(content, control, rayon::current_num_threads());
    let parts = rayon::broadcast(|_| Worker::new(&sweep).run().inspect_err(|_| sweep.stop()));
    let mut hashes = vec![None; content.geometry().piece_count() as usize];
    for part in parts {
        for (piece, hash) in part? {
            if let Some(slot) = hashes.get_mut(piece.at()) {
                *slot = Some(hash);
            }
        }
    }
    Ok(hashes)
}

/// One pass over the content, shared by its workers.
pub(super) struct Sweep<'a, C> {
    pub(super) content: &'a C,
    control: Control<'a>,
    /// Runs that the pieces are dealt in, evenly.
    run_count: u64,
    /// First run nobody has taken.
    next: AtomicU64,
    /// Content bytes hashed or passed over.
    done: AtomicU64,
    /// Another worker gave up.
    failed: AtomicBool,
}

impl<'a, C: Content> Sweep<'a, C> {
    fn new(content: &'a C, control: Control<'a>, thread_count: usize) -> Self {
        let run_count = run_count(content.geometry(), thread_count as u64);
        Self { content, control, run_count, next: AtomicU64::new(0), done: AtomicU64::new(0), failed: false.into() }
    }

    /// The next run of pieces; `None` when all are taken or the work is given up.
    pub(super) fn take_run(&self) -> Option<impl Iterator<Item = PieceIndex> + use<'_, C>> {
        let geometry = self.content.geometry();
        let run = self.next.fetch_add(1, Ordering::Relaxed);
        let start = |run: u64| run * u64::from(geometry.piece_count()) / self.run_count;
        let goes_on = run < self.run_count && !self.failed.load(Ordering::Relaxed);
        goes_on.then(|| (start(run)..start(run + 1)).filter_map(|index| geometry.piece(u32::try_from(index).ok()?)))
    }

    /// No more runs are taken.
    fn stop(&self) {
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
fn run_count(geometry: &Geometry, thread_count: u64) -> u64 {
    let piece_count = u64::from(geometry.piece_count());
    let pieces = (HASH_RUN_LEN / u64::from(geometry.piece_len())).clamp(HASH_LANES as u64, HASH_RUN_PIECES_MAX);
    piece_count.div_ceil(pieces).next_multiple_of(thread_count.max(1)).min(piece_count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_even_and_leave_no_thread_idle() {
        let runs = |piece_len: u32, piece_count: u64, threads| {
            let geometry = Geometry::new(piece_len, [u64::from(piece_len) * piece_count]).unwrap();
            run_count(&geometry, threads)
        };
        assert_eq!(runs(1 << 20, 4096, 2), 256);
        assert_eq!(runs(1 << 20, 40, 2), 4);
        assert_eq!(runs(1 << 20, 5, 2), 2);
        assert_eq!(runs(1 << 20, 1, 8), 1);
        assert_eq!(runs(1, 1 << 20, 2), 1024);
    }
}
