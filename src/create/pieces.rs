//! Hashes content in files.
//!
//! Threads take runs of pieces in order, so that a disk is read in one forward sweep. The module `worker` reads and
//! hashes the runs of a thread.

use std::ops::Range;
use std::panic::resume_unwind;
use std::thread;

use super::error::ContentError;
use super::files::is_page_resident;
use super::hash_journal::HashJournal;
use super::read_ahead;
use super::sweep::{Content, Control, Source, Sweep, offset_of};
use super::worker::Worker;
use crate::base::PieceHash;
use crate::base::limits::{DIRECT_FILE_LEN_MIN, HASH_COLD_THREADS};
use crate::io::{self, Driver};

/// Returns the hash of each wanted piece, by piece index.
pub(super) fn hash_pieces(
    content: &impl Content,
    control: Control<'_>,
) -> Result<Vec<Option<PieceHash>>, ContentError> {
    let piece_count = content.geometry().piece_count();
    let mut hashes = vec![None; piece_count as usize];
    hash_range(content, 0..piece_count, control, &mut hashes)?;
    Ok(hashes)
}

/// [`hash_pieces`] that takes the first hashes from the journal, and appends the others to it as it proceeds.
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

/// Hashes the wanted pieces of a range and stores the hashes in `hashes`, by piece index.
fn hash_range(
    content: &impl Content,
    range: Range<u32>,
    control: Control<'_>,
    hashes: &mut [Option<PieceHash>],
) -> Result<(), ContentError> {
    let residency = Residency::of(content, &range);
    let sweep = Sweep::new(content, range.clone(), control, residency.thread_count(range.len()));
    let with_ring = residency == Residency::OnDisk && io::probe().is_ok();
    let work = || {
        let work = || match with_ring.then(|| io::run_thread(Driver::Ring, || read_ahead::run(&sweep))) {
            Some(Ok(hashes)) => hashes,
            None | Some(Err(_)) => Worker::new(&sweep).run(),
        };
        work().inspect_err(|_| sweep.stop())
    };
    let parts: Vec<_> = thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().name("hash".to_owned()).spawn_scoped(scope, work).ok();
        let handles: Vec<_> = (1..sweep.thread_count).map_while(spawn).collect();
        let own = work();
        let joined = handles.into_iter().map(|handle| handle.join().unwrap_or_else(|panic| resume_unwind(panic)));
        joined.chain([own]).collect()
    });
    for part in parts {
        for (piece, hash) in part? {
            if let Some(entry) = hashes.get_mut(piece.at()) {
                *entry = Some(hash);
            }
        }
    }
    Ok(())
}

/// Whether content is in the page cache, judged by samples.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Residency {
    InMemory,
    /// Some of the content must be read from disk, most of that in long files.
    OnDisk,
    /// Some of the content must be read from disk, most of that in files too short to be read past the page cache.
    InShortFilesOnDisk,
}

impl Residency {
    fn of(content: &impl Content, range: &Range<u32>) -> Self {
        const SAMPLES: u64 = 16;
        let geometry = content.geometry();
        let begin = offset_of(geometry, range.start);
        let len = offset_of(geometry, range.end) - begin;
        // For a sample that must be read from disk, whether its file is long. Errors are ignored here, as the worker
        // that needs the file will report them.
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

    /// One thread per core, or more for short files on disk, as each open and read blocks its thread.
    fn thread_count(self, piece_count: usize) -> usize {
        let cores = rayon::current_num_threads();
        let threads = if self == Self::InShortFilesOnDisk { cores.max(HASH_COLD_THREADS) } else { cores };
        threads.min(piece_count)
    }
}
