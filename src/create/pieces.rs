//! Hashing content that lies in files.
//!
//! The threads of the rayon pool take runs of pieces in order, so that a disk sees one forward sweep. Each thread holds
//! one buffer of [`HASH_READ_LEN`] and one open file, whatever the piece length and the number of files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::error::ContentError;
use crate::base::limits::{HASH_READ_LEN, HASH_RUN_LEN};
use crate::base::{Geometry, PieceHash, PieceIndex};
use crate::hash::PieceHasher;

/// How the caller steers long work and hears of it.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    /// Set it and the work ends soon with [`ContentError::Cancelled`].
    pub cancel: &'a AtomicBool,
    /// Called with the number of content bytes done so far, by the working threads, at most once for each
    /// [`HASH_READ_LEN`] or piece; calls may come out of order.
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
    let sweep = Sweep { content, control, next: AtomicU64::new(0), done: AtomicU64::new(0), failed: false.into() };
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
struct Sweep<'a, C> {
    content: &'a C,
    control: Control<'a>,
    /// First piece nobody has taken.
    next: AtomicU64,
    /// Content bytes hashed or passed over.
    done: AtomicU64,
    /// Another worker gave up.
    failed: AtomicBool,
}

impl<C: Content> Sweep<'_, C> {
    /// The next run of pieces; `None` when all are taken or the work is given up.
    fn take_run(&self) -> Option<impl Iterator<Item = PieceIndex> + use<'_, C>> {
        let geometry = self.content.geometry();
        let run_len = u64::from((HASH_RUN_LEN / geometry.piece_len()).max(1));
        let first = self.next.fetch_add(run_len, Ordering::Relaxed);
        let run = first..(first + run_len).min(u64::from(geometry.piece_count()));
        let goes_on = !run.is_empty() && !self.failed.load(Ordering::Relaxed);
        goes_on.then(|| run.filter_map(|index| geometry.piece(u32::try_from(index).ok()?)))
    }

    fn stop(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    fn advance(&self, len: u64) {
        let done = self.done.fetch_add(len, Ordering::Relaxed) + len;
        (self.control.progress)(done);
    }
}

struct Worker<'a, C> {
    sweep: &'a Sweep<'a, C>,
    hasher: PieceHasher,
    buffer: Vec<u8>,
    /// The file read last: the next bytes are most likely in it too.
    open: Option<(usize, Source)>,
}

impl<'a, C: Content> Worker<'a, C> {
    fn new(sweep: &'a Sweep<'a, C>) -> Self {
        let piece_len = sweep.content.geometry().piece_len() as usize;
        Self { sweep, hasher: PieceHasher::default(), buffer: vec![0; piece_len.min(HASH_READ_LEN)], open: None }
    }

    fn run(mut self) -> Result<Vec<(PieceIndex, PieceHash)>, ContentError> {
        let mut hashes = Vec::new();
        while let Some(run) = self.sweep.take_run() {
            for piece in run {
                if self.sweep.content.wants(piece) {
                    hashes.push((piece, self.hash(piece)?));
                } else {
                    self.sweep.advance(u64::from(self.sweep.content.geometry().len_of(piece)));
                }
            }
        }
        Ok(hashes)
    }

    fn hash(&mut self, piece: PieceIndex) -> Result<PieceHash, ContentError> {
        let geometry = self.sweep.content.geometry();
        let mut offset = geometry.offset_of(piece);
        let mut left = geometry.len_of(piece) as usize;
        while left > 0 {
            if self.sweep.control.cancel.load(Ordering::Relaxed) {
                return Err(ContentError::Cancelled);
            }
            let len = left.min(self.buffer.len());
            self.fill(offset, len)?;
            self.hasher.update(&self.buffer[..len]);
            self.sweep.advance(len as u64);
            offset += len as u64;
            left -= len;
        }
        Ok(self.hasher.finish())
    }

    /// Reads `len` content bytes at `offset` into the front of the buffer.
    fn fill(&mut self, offset: u64, len: usize) -> Result<(), ContentError> {
        let content = self.sweep.content;
        let mut rest = &mut self.buffer[..len];
        for span in content.geometry().file_spans(offset, len as u64) {
            let span_len = usize::try_from(span.len).map_or(rest.len(), |len| len.min(rest.len()));
            let (part, tail) = rest.split_at_mut(span_len);
            rest = tail;
            if self.open.as_ref().is_none_or(|(file_index, _)| *file_index != span.file_index) {
                self.open = Some((span.file_index, content.open(span.file_index)?));
            }
            match &self.open {
                Some((_, Source::File(file))) => file.read_exact_at(part, span.offset).map_err(|error| {
                    let path = content.path(span.file_index);
                    match error.kind() {
                        io::ErrorKind::UnexpectedEof => ContentError::Changed { path },
                        _ => ContentError::Read { path, error },
                    }
                })?,
                _ => part.fill(0),
            }
        }
        Ok(())
    }
}
