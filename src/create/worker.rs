//! A hashing worker: hashes several pieces side by side, a chunk of each at a time.
//!
//! Memory use depends on the chunk length and not on the piece length. Adjacent pieces of at most one chunk are read as
//! one range. Content on disk is read one step ahead of the hashing (`read_ahead`); content in memory is hashed in a map
//! of its file or in a copy, whichever is faster (`race`).

use std::rc::Rc;

use super::error::ContentError;
use super::files::Files;
use super::race::{Lap, Method, now};
use super::sweep::{Content, Sweep};
use crate::base::limits::{
    DIRECT_FILE_LEN_MIN, HASH_CHUNK_LEN, HASH_COLD_CHUNK_LEN, HASH_COLD_LEN, HASH_COLD_MEMORY_SHARE,
    HASH_COLD_STEP_LEN_MAX, HASH_COLD_STEP_LEN_MIN, HASH_LANES, HASH_RUN_PIECES_MAX, HASH_WINDOW_LEN,
    HASH_WINDOW_MARGIN_LEN,
};
use crate::base::{Geometry, PieceHash, PieceIndex};
use crate::hash::PieceHasher;
use crate::io::ReadBuffer;
use crate::storage::{Windows, memory_limit};

/// The hashes of the pieces that a worker has taken.
pub(super) type Hashes = Vec<(PieceIndex, PieceHash)>;

/// The size of a step: at most `len` bytes in total, and at most `chunk_len` bytes of each piece.
#[derive(Clone, Copy)]
struct Shape {
    len: usize,
    chunk_len: usize,
    source: StepSource,
}

/// The way in which the bytes of a step reach the hasher.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StepSource {
    /// Long reads from the disk.
    Disk,
    /// The page cache.
    Memory(Method),
}

impl Shape {
    /// Small steps, so that the copied bytes stay in the processor's cache until they are hashed.
    const COPIED: Self =
        Self { len: HASH_LANES * HASH_CHUNK_LEN, chunk_len: HASH_CHUNK_LEN, source: StepSource::Memory(Method::Copy) };

    /// Long steps, so that few windows are mapped.
    const MAPPED: Self =
        Self { len: HASH_WINDOW_LEN, chunk_len: HASH_WINDOW_LEN / HASH_LANES, source: StepSource::Memory(Method::Map) };

    /// For content on disk: long reads.
    fn cold(thread_count: usize) -> Self {
        let memory = usize::try_from(memory_limit() / HASH_COLD_MEMORY_SHARE).unwrap_or(usize::MAX);
        // Two steps are in memory: one is hashed while the next is read.
        let len =
            (HASH_COLD_LEN.min(memory) / 2 / thread_count.max(1)).clamp(HASH_COLD_STEP_LEN_MIN, HASH_COLD_STEP_LEN_MAX);
        Self { len, chunk_len: HASH_COLD_CHUNK_LEN.min(len), source: StepSource::Disk }
    }

    /// The number of bytes of one piece that are read at a time.
    fn part_len(self, geometry: &Geometry) -> usize {
        self.chunk_len.min(geometry.piece_len() as usize)
    }

    /// The number of pieces that are hashed side by side.
    fn piece_count(self, geometry: &Geometry) -> usize {
        (self.len / self.part_len(geometry)).clamp(1, HASH_RUN_PIECES_MAX)
    }
}

/// A contiguous range of the content, in one or more pieces.
pub(super) struct ContentRange {
    pub(super) offset: u64,
    pub(super) len: usize,
}

/// A unit of reading and hashing: of each piece of a batch, the chunk at `begin`.
pub(super) struct Step {
    batch: Rc<[PieceIndex]>,
    begin: usize,
    shape: Shape,
    /// Whether all pieces of the batch end in this step.
    is_last: bool,
}

impl Step {
    pub(super) fn is_cold(&self) -> bool {
        self.shape.source == StepSource::Disk
    }

    pub(super) fn ranges(&self, geometry: &Geometry) -> Vec<ContentRange> {
        let mut ranges: Vec<ContentRange> = Vec::with_capacity(self.batch.len());
        for &piece in &*self.batch {
            let offset = geometry.offset_of(piece) + self.begin as u64;
            let len = (geometry.len_of(piece) as usize).saturating_sub(self.begin).min(self.shape.chunk_len);
            match ranges.last_mut() {
                _ if len == 0 => {}
                Some(last) if last.offset + last.len as u64 == offset => last.len += len,
                _ => ranges.push(ContentRange { offset, len }),
            }
        }
        ranges
    }
}

/// Divides a run of adjacent pieces into steps.
#[derive(Default)]
struct Run {
    pieces: Vec<PieceIndex>,
    /// Index of the first piece that is not in a batch yet.
    at: usize,
    /// The current batch, and the offset in its pieces where the next step begins.
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
    /// `None` if this thread cannot have windows.
    windows: Option<Windows>,
    /// The work on the current run, if its method is raced.
    lap: Option<Lap>,
    hashes: Hashes,
}

impl<'a, C: Content> Worker<'a, C> {
    pub(super) fn new(sweep: &'a Sweep<'a, C>) -> Self {
        Self {
            sweep,
            files: Files::new(sweep.content, HASH_LANES),
            run: Run::default(),
            shape: Shape::COPIED,
            hashers: Vec::new(),
            buffer: None,
            windows: None,
            lap: None,
            hashes: Vec::new(),
        }
    }

    /// Hashes runs until none is left, reading all content through the page cache.
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
            if let Some(lap) = self.lap.take() {
                self.sweep.race.record(&lap);
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
            self.shape = self.shape_of(&run.pieces)?;
            self.run = run;
        }
    }

    fn shape_of(&mut self, pieces: &[PieceIndex]) -> Result<Shape, ContentError> {
        let geometry = self.geometry();
        let ([first, ..], [.., last]) = (pieces, pieces) else { return Ok(Shape::COPIED) };
        let start = geometry.offset_of(*first);
        let len = geometry.offset_of(*last) + u64::from(geometry.len_of(*last)) - start;
        // The file that most of these bytes are in. Short files are neither mapped nor read past the page cache.
        let long_file = geometry
            .file_spans(start, len)
            .find(|span| span.len > len / 2)
            .filter(|span| geometry.file_len(span.file_index) >= DIRECT_FILE_LEN_MIN);
        Ok(match long_file {
            Some(span) if !self.files.is_resident(0, span)? => Shape::cold(self.sweep.thread_count),
            Some(span) if span.len == len && self.files.is_dense(0, span.file_index)? && self.reserve_windows() => {
                let method = self.sweep.race.next();
                self.lap = Some(Lap::new(method));
                match method {
                    Method::Map => Shape::MAPPED,
                    Method::Copy => Shape::COPIED,
                }
            }
            _ => Shape::COPIED,
        })
    }

    fn reserve_windows(&mut self) -> bool {
        if self.windows.is_none() {
            self.windows = Windows::reserve(HASH_WINDOW_LEN + HASH_LANES * HASH_WINDOW_MARGIN_LEN).ok();
        }
        self.windows.is_some()
    }

    pub(super) fn read_and_hash(&mut self, step: &Step) -> Result<(), ContentError> {
        let start = now();
        let ranges = step.ranges(self.geometry());
        let is_hashed = step.shape.source == StepSource::Memory(Method::Map) && self.map_and_hash(step, &ranges)?;
        if !is_hashed {
            self.copy_and_hash(step, &ranges)?;
        }
        if let Some(lap) = &mut self.lap {
            lap.handle_hashed(ranges.iter().map(|range| range.len as u64).sum(), start);
        }
        Ok(())
    }

    /// Hashes the ranges in a map of their file. Returns false if they cannot be mapped.
    fn map_and_hash(&mut self, step: &Step, ranges: &[ContentRange]) -> Result<bool, ContentError> {
        let Some(mut windows) = self.windows.take() else { return Ok(false) };
        windows.clear();
        let mut places = Vec::with_capacity(ranges.len());
        for (index, range) in ranges.iter().enumerate() {
            let spans = &mut self.geometry().file_spans(range.offset, range.len as u64);
            let (Some(span), None) = (spans.next(), spans.next()) else { return Ok(false) };
            let file = self.files.file(index % HASH_LANES, span.file_index)?;
            let place = file.and_then(|file| windows.map(&file, span.offset, range.len).ok());
            // Copying tells the reason.
            let Some(place) = place else { return Ok(false) };
            places.push(place);
        }
        let mapped: Vec<&[u8]> = places.into_iter().map(|place| windows.bytes(place)).collect();
        self.hash(step, &mapped);
        if windows.has_lost() {
            return Err(self.lost(ranges));
        }
        self.windows = Some(windows);
        Ok(true)
    }

    /// The reason why pages of a map were lost.
    fn lost(&mut self, ranges: &[ContentRange]) -> ContentError {
        let mut copy = vec![0; HASH_CHUNK_LEN];
        for range in ranges {
            for begin in (0..range.len).step_by(copy.len()) {
                let len = copy.len().min(range.len - begin);
                if let Err(error) = self.files.read(0, range.offset + begin as u64, &mut copy[..len]) {
                    return error;
                }
            }
        }
        // The file was shorter for a while.
        let span = ranges.first().and_then(|range| self.geometry().file_spans(range.offset, 1).next());
        ContentError::Changed { path: self.sweep.content.path(span.map_or(0, |span| span.file_index)) }
    }

    fn copy_and_hash(&mut self, step: &Step, ranges: &[ContentRange]) -> Result<(), ContentError> {
        let len = ranges.iter().map(|range| range.len).sum();
        // The buffer is page-aligned, which makes the kernel's copy faster. It is taken out of `self` while it is
        // hashed.
        let taken = self.buffer.take().filter(|buffer| buffer.bytes().len() >= len);
        let mut buffer = taken.map_or_else(|| ReadBuffer::with_len(len), Ok).map_err(ContentError::Memory)?;
        let mut free = buffer.bytes_mut();
        let mut loaded: Vec<&[u8]> = Vec::with_capacity(ranges.len());
        for (index, range) in ranges.iter().enumerate() {
            let (part, rest) = free.split_at_mut(range.len);
            free = rest;
            self.files.read(index % HASH_LANES, range.offset, part)?;
            loaded.push(part);
        }
        self.hash(step, &loaded);
        self.buffer = Some(buffer);
        Ok(())
    }

    /// Hashes the bytes of the step's ranges.
    pub(super) fn hash(&mut self, step: &Step, ranges: &[&[u8]]) {
        if self.hashers.len() < step.batch.len() {
            self.hashers.resize_with(step.batch.len(), PieceHasher::default);
        }
        let part_len = step.shape.part_len(self.geometry());
        let parts: Vec<&[u8]> = ranges.iter().flat_map(|range| range.chunks(part_len)).collect();
        // The last piece of the content may have ended in an earlier step. It is the last one of its batch.
        PieceHasher::update_batch(&mut self.hashers[..parts.len()], &parts);
        if step.is_last {
            let mut hashes = vec![PieceHash([0; _]); step.batch.len()];
            PieceHasher::finish_batch(&mut self.hashers[..step.batch.len()], &mut hashes);
            self.hashes.extend(step.batch.iter().copied().zip(hashes));
        }
        self.sweep.advance(ranges.iter().map(|range| range.len() as u64).sum());
    }
}
