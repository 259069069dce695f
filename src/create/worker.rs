//! One thread's share of hashing: pieces side by side, a chunk of each at a time.
//!
//! Memory is that of the chunks, whatever the piece length. Pieces of at most a chunk that follow each other are read as
//! one stretch. What comes from disk is read one step ahead of the hashing (`read_ahead`).

use std::rc::Rc;

use super::error::ContentError;
use super::files::Files;
use super::sweep::{Content, Sweep};
use crate::base::limits::{
    DIRECT_FILE_LEN_MIN, HASH_CHUNK_LEN, HASH_COLD_CHUNK_LEN, HASH_COLD_LEN, HASH_COLD_STEP_LEN_MAX,
    HASH_COLD_STEP_LEN_MIN, HASH_LANES, HASH_RUN_PIECES_MAX,
};
use crate::base::{Geometry, PieceHash, PieceIndex};
use crate::hash::PieceHasher;
use crate::uring::ReadBuffer;

/// The hash of each piece that a worker has taken.
pub(super) type Hashes = Vec<(PieceIndex, PieceHash)>;

/// How pieces are taken: together at most `len` bytes of them at a time, and of each at most `chunk_len`.
#[derive(Clone, Copy)]
struct Shape {
    len: usize,
    chunk_len: usize,
    is_cold: bool,
}

impl Shape {
    /// For content in memory: what is read stays in the processor's cache until it is hashed.
    const HOT: Self = Self { len: HASH_LANES * HASH_CHUNK_LEN, chunk_len: HASH_CHUNK_LEN, is_cold: false };

    /// For content on disk: long reads.
    fn cold(thread_count: usize) -> Self {
        // One step is hashed while the next one is read.
        let len = (HASH_COLD_LEN / 2 / thread_count.max(1)).clamp(HASH_COLD_STEP_LEN_MIN, HASH_COLD_STEP_LEN_MAX);
        Self { len, chunk_len: HASH_COLD_CHUNK_LEN.min(len), is_cold: true }
    }

    /// Bytes of one piece that are read at a time.
    fn part_len(self, geometry: &Geometry) -> usize {
        self.chunk_len.min(geometry.piece_len() as usize)
    }

    /// Pieces abreast.
    fn piece_count(self, geometry: &Geometry) -> usize {
        (self.len / self.part_len(geometry)).clamp(1, HASH_RUN_PIECES_MAX)
    }
}

/// Bytes of one or more pieces that follow each other in the content.
pub(super) struct Stretch {
    pub(super) offset: u64,
    pub(super) len: usize,
}

/// What is read and hashed at a time: the bytes from `begin` on of each piece of a batch, at most a chunk of each.
pub(super) struct Step {
    batch: Rc<[PieceIndex]>,
    begin: usize,
    shape: Shape,
    /// The pieces end with it.
    is_last: bool,
}

impl Step {
    pub(super) fn is_cold(&self) -> bool {
        self.shape.is_cold
    }

    pub(super) fn stretches(&self, geometry: &Geometry) -> Vec<Stretch> {
        let mut stretches: Vec<Stretch> = Vec::with_capacity(self.batch.len());
        for &piece in &*self.batch {
            let offset = geometry.offset_of(piece) + self.begin as u64;
            let len = (geometry.len_of(piece) as usize).saturating_sub(self.begin).min(self.shape.chunk_len);
            match stretches.last_mut() {
                _ if len == 0 => {}
                Some(last) if last.offset + last.len as u64 == offset => last.len += len,
                _ => stretches.push(Stretch { offset, len }),
            }
        }
        stretches
    }
}

/// Steps through pieces that follow each other.
#[derive(Default)]
struct Run {
    pieces: Vec<PieceIndex>,
    /// The first piece of no batch yet.
    at: usize,
    /// The batch under way, and what its next step begins with.
    batch: Option<(Rc<[PieceIndex]>, usize)>,
}

impl Run {
    fn next_step(&mut self, geometry: &Geometry, shape: Shape) -> Option<Step> {
        let (batch, begin) = self.batch.take().or_else(|| {
            let batch = self.pieces.get(self.at..)?.chunks(shape.piece_count(geometry)).next()?;
            self.at += batch.len();
            Some((batch.into(), 0))
        })?;
        let next = begin + shape.chunk_len;
        let is_last = batch.iter().all(|&piece| geometry.len_of(piece) as usize <= next);
        self.batch = (!is_last).then(|| (batch.clone(), next));
        Some(Step { batch, begin, shape, is_last })
    }
}

pub(super) struct Worker<'a, C> {
    sweep: &'a Sweep<'a, C>,
    pub(super) files: Files<'a, C>,
    run: Run,
    shape: Shape,
    hashers: Vec<PieceHasher>,
    buffer: Option<ReadBuffer>,
    hashes: Hashes,
}

impl<'a, C: Content> Worker<'a, C> {
    pub(super) fn new(sweep: &'a Sweep<'a, C>) -> Self {
        Self {
            sweep,
            files: Files::new(sweep.content, HASH_LANES),
            run: Run::default(),
            shape: Shape::HOT,
            hashers: Vec::new(),
            buffer: None,
            hashes: Vec::new(),
        }
    }

    /// Reads everything through the page cache, when it is its turn.
    pub(super) fn run(mut self) -> Result<Hashes, ContentError> {
        while let Some(step) = self.next_step()? {
            self.read_and_hash(&step)?;
        }
        Ok(self.hashes)
    }

    pub(super) fn geometry(&self) -> &'a Geometry {
        self.sweep.content.geometry()
    }

    pub(super) fn into_hashes(self) -> Hashes {
        self.hashes
    }

    pub(super) fn next_step(&mut self) -> Result<Option<Step>, ContentError> {
        self.sweep.check_cancelled()?;
        let geometry = self.geometry();
        loop {
            if let Some(step) = self.run.next_step(geometry, self.shape) {
                return Ok(Some(step));
            }
            let Some(pieces) = self.sweep.take_run() else { return Ok(None) };
            let mut run = Run::default();
            for piece in pieces {
                if self.sweep.content.wants(piece) {
                    run.pieces.push(piece);
                } else {
                    self.sweep.advance(u64::from(geometry.len_of(piece)));
                }
            }
            let is_cold = self.is_cold(&run.pieces)?;
            self.shape = if is_cold { Shape::cold(self.sweep.thread_count) } else { Shape::HOT };
            self.run = run;
        }
    }

    /// Whether most of these pieces is in one file and not in memory.
    fn is_cold(&mut self, pieces: &[PieceIndex]) -> Result<bool, ContentError> {
        let geometry = self.geometry();
        let ([first, ..], [.., last]) = (pieces, pieces) else { return Ok(false) };
        let start = geometry.offset_of(*first);
        let len = geometry.offset_of(*last) + u64::from(geometry.len_of(*last)) - start;
        match geometry.file_spans(start, len).find(|span| span.len > len / 2) {
            Some(span) if geometry.file_len(span.file_index) >= DIRECT_FILE_LEN_MIN => {
                Ok(!self.files.is_resident(0, span)?)
            }
            _ => Ok(false),
        }
    }

    pub(super) fn read_and_hash(&mut self, step: &Step) -> Result<(), ContentError> {
        let stretches = step.stretches(self.geometry());
        let len = stretches.iter().map(|stretch| stretch.len).sum();
        // Taken out while it is hashed from. It begins at a page: the kernel copies a fifth faster to there.
        let taken = self.buffer.take().filter(|buffer| buffer.bytes().len() >= len);
        let mut buffer = taken.map_or_else(|| ReadBuffer::with_len(len), Ok).map_err(ContentError::Memory)?;
        let mut free = buffer.bytes_mut();
        let mut loaded: Vec<&[u8]> = Vec::with_capacity(stretches.len());
        for (place, stretch) in stretches.iter().enumerate() {
            let (room, rest) = free.split_at_mut(stretch.len);
            free = rest;
            self.files.read(place % HASH_LANES, stretch.offset, room)?;
            loaded.push(room);
        }
        self.hash(step, &loaded);
        self.buffer = Some(buffer);
        Ok(())
    }

    /// Hashes the step's stretches, which are in memory.
    pub(super) fn hash(&mut self, step: &Step, stretches: &[&[u8]]) {
        if self.hashers.len() < step.batch.len() {
            self.hashers.resize_with(step.batch.len(), PieceHasher::default);
        }
        let part_len = step.shape.part_len(self.geometry());
        let parts: Vec<&[u8]> = stretches.iter().flat_map(|stretch| stretch.chunks(part_len)).collect();
        // The content's last piece, which may have ended before, is the batch's last.
        PieceHasher::update_batch(&mut self.hashers[..parts.len()], &parts);
        if step.is_last {
            let mut hashes = vec![PieceHash([0; _]); step.batch.len()];
            PieceHasher::finish_batch(&mut self.hashers[..step.batch.len()], &mut hashes);
            self.hashes.extend(step.batch.iter().copied().zip(hashes));
        }
        self.sweep.advance(stretches.iter().map(|stretch| stretch.len() as u64).sum());
    }
}
