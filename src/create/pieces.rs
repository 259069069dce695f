//! Hashing content that lies in files.
//!
//! Threads take runs of pieces in order, so that a disk sees one forward sweep. How a thread reads and hashes its runs is
//! `worker`'s.

use std::ops::Range;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::ahead;
use super::error::ContentError;
use super::files::is_page_resident;
use super::hash_journal::HashJournal;
use super::worker::Worker;
use crate::base::limits::{DIRECT_FILE_LEN_MIN, HASH_COLD_THREADS, HASH_LANES, HASH_RUN_LEN, HASH_RUN_PIECES_MAX};
use crate::base::{Geometry, PieceHash, PieceIndex};
use crate::uring::{self, SharedFile};

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

/// The hash of every wanted piece, by piece index.
pub(super) fn hash_pieces(
    content: &impl Content,
    control: Control<'_>,
) -> Result<Vec<Option<PieceHash>>, ContentError> {
    let piece_count = content.geometry().piece_count();
    let mut hashes = vec![None; piece_count as usize];
    hash_range(content, 0..piece_count, control, &mut hashes)?;
    Ok(hashes)
}

/// [`hash_pieces`] that begins behind the pieces in the journal, and writes the others to it as it goes.
pub(super) fn hash_pieces_with(
    content: &impl Content,
    journal: &mut HashJournal,
    control: Control<'_>,
) -> Result<Vec<Option<PieceHash>>, ContentError> {
    let piece_count = content.geometry().piece_count();
    let mut hashes = journal.read(piece_count);
    let mut next = u32::try_from(hashes.len()).unwrap_or(piece_count);
    hashes.resize(piece_count as usize, None);
    while next < piece_count {
        let range = next..next.saturating_add(journal.step(content.geometry())).min(piece_count);
        hash_range(content, range.clone(), control, &mut hashes)?;
        journal.append(range.start, &hashes[range.start as usize..range.end as usize]);
        next = range.end;
    }
    Ok(hashes)
}

/// Hashes the wanted pieces of a range into their places in `hashes`.
fn hash_range(
    content: &impl Content,
    range: Range<u32>,
    control: Control<'_>,
    hashes: &mut [Option<PieceHash>],
) -> Result<(), ContentError> {
    let residency = Residency::of(content, &range);
    let sweep = Sweep::new(content, range.clone(), control, residency.thread_count(range.len()));
    let with_ring = residency == Residency::OnDisk && uring::probe().is_ok();
    let work = || {
        let work = || match with_ring.then(|| uring::run_ring(|| ahead::run(&sweep))) {
            Some(Ok(hashes)) => hashes,
            None | Some(Err(_)) => Worker::new(&sweep).run(),
        };
        work().inspect_err(|_| sweep.stop())
    };
    let parts: Vec<_> = thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().name("hash".to_owned()).spawn_scoped(scope, work).ok();
        let others: Vec<_> = (1..sweep.thread_count).map_while(spawn).collect();
        let own = work();
        let joined = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        joined.chain([own]).collect()
    });
    for part in parts {
        for (piece, hash) in part? {
            if let Some(place) = hashes.get_mut(piece.at()) {
                *place = Some(hash);
            }
        }
    }
    Ok(())
}

/// Where content lies, going by samples.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Residency {
    InMemory,
    /// Some of it at least has to come from disk, in long files.
    OnDisk,
    /// The same, in files too short to be read past the page cache.
    InShortFilesOnDisk,
}

impl Residency {
    fn of(content: &impl Content, range: &Range<u32>) -> Self {
        const SAMPLES: u64 = 16;
        let geometry = content.geometry();
        let begin = offset_of(geometry, range.start);
        let len = offset_of(geometry, range.end) - begin;
        // Some(is long) for a sample that has to come from disk. Who needs a bad file will say what is wrong with it.
        let absent = |at: u64| {
            let span = geometry.file_spans(begin + len / SAMPLES * at, 1).next()?;
            match content.open(span.file_index) {
                Ok(Source::File(file)) if !is_page_resident(&file, span.offset) => {
                    Some(geometry.file_len(span.file_index) >= DIRECT_FILE_LEN_MIN)
                }
                _ => None,
            }
        };
        let (long, short): (Vec<_>, Vec<_>) = (0..SAMPLES).filter_map(absent).partition(|is_long| *is_long);
        match (long.len(), short.len()) {
            (0, 0) => Self::InMemory,
            (long, short) if long >= short => Self::OnDisk,
            _ => Self::InShortFilesOnDisk,
        }
    }

    /// One thread for each core, and more for short files from disk: each of their opens and reads is waited for.
    fn thread_count(self, piece_count: usize) -> usize {
        let cores = rayon::current_num_threads();
        let threads = if self == Self::InShortFilesOnDisk { cores.max(HASH_COLD_THREADS) } else { cores };
        threads.min(piece_count)
    }
}

/// One pass over the content, shared by its workers.
pub(super) struct Sweep<'a, C> {
    pub(super) content: &'a C,
    control: Control<'a>,
    pub(super) thread_count: usize,
    range: Range<u32>,
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
    fn new(content: &'a C, range: Range<u32>, control: Control<'a>, thread_count: usize) -> Self {
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
fn run_count(piece_len: u32, piece_count: u64, thread_count: u64) -> u64 {
    let pieces = (HASH_RUN_LEN / u64::from(piece_len)).clamp(HASH_LANES as u64, HASH_RUN_PIECES_MAX as u64);
    piece_count.div_ceil(pieces).next_multiple_of(thread_count.max(1)).min(piece_count)
}

/// Where a piece begins; for the number of pieces, where the content ends.
fn offset_of(geometry: &Geometry, piece: u32) -> u64 {
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
