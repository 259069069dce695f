//! One thread's share of hashing: pieces side by side, a chunk of each at a time.
//!
//! Memory is that of the chunks, whatever the piece length. Pieces of at most a chunk that follow each other are read as
//! one stretch.

use super::error::ContentError;
use super::files::Files;
use super::pieces::{Content, Sweep};
use crate::base::limits::{
    DIRECT_ALIGN, DIRECT_FILE_LEN_MIN, HASH_CHUNK_LEN, HASH_COLD_CHUNK_LEN, HASH_COLD_LEN, HASH_COLD_LEN_MAX,
    HASH_LANES, HASH_RUN_PIECES_MAX,
};
use crate::base::{Geometry, PieceHash, PieceIndex};
use crate::hash::PieceHasher;

/// How pieces are taken: together at most `len` bytes of them at a time, and of each at most `chunk_len`.
#[derive(Clone, Copy)]
struct Shape {
    len: usize,
    chunk_len: usize,
    /// Past the page cache, where that can be.
    direct: bool,
}

impl Shape {
    /// For content in memory: what is read stays in the processor's cache until it is hashed.
    const HOT: Self = Self { len: HASH_LANES * HASH_CHUNK_LEN, chunk_len: HASH_CHUNK_LEN, direct: false };

    /// For content on disk: long reads.
    fn cold(thread_count: usize) -> Self {
        let len = (HASH_COLD_LEN / thread_count.max(1)).clamp(HASH_COLD_CHUNK_LEN, HASH_COLD_LEN_MAX);
        Self { len, chunk_len: HASH_COLD_CHUNK_LEN, direct: true }
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
struct Stretch {
    offset: u64,
    len: usize,
}

impl Stretch {
    /// Bytes of memory it needs, with what is read beside it.
    fn room_len(&self) -> usize {
        self.len.next_multiple_of(DIRECT_ALIGN) + 2 * DIRECT_ALIGN
    }
}

pub(super) struct Worker<'a, C> {
    sweep: &'a Sweep<'a, C>,
    files: Files<'a, C>,
    direct_files: Files<'a, C>,
    cold: Shape,
    hashers: Vec<PieceHasher>,
    buffer: Vec<u8>,
    hashes: Vec<(PieceIndex, PieceHash)>,
}

impl<'a, C: Content> Worker<'a, C> {
    pub(super) fn new(sweep: &'a Sweep<'a, C>) -> Self {
        Self {
            sweep,
            files: Files::new(sweep.content, HASH_LANES),
            direct_files: Files::direct(sweep.content, HASH_LANES),
            cold: Shape::cold(sweep.thread_count),
            hashers: Vec::new(),
            buffer: Vec::new(),
            hashes: Vec::new(),
        }
    }

    pub(super) fn run(mut self) -> Result<Vec<(PieceIndex, PieceHash)>, ContentError> {
        let content = self.sweep.content;
        let mut pieces = Vec::new();
        while let Some(run) = self.sweep.take_run() {
            pieces.clear();
            for piece in run {
                if content.wants(piece) {
                    pieces.push(piece);
                } else {
                    self.sweep.advance(u64::from(content.geometry().len_of(piece)));
                }
            }
            let shape = if self.is_cold(&pieces)? { self.cold } else { Shape::HOT };
            for batch in pieces.chunks(shape.piece_count(content.geometry())) {
                self.hash(batch, shape)?;
            }
        }
        Ok(self.hashes)
    }

    /// Whether most of these pieces is in one file and not in memory.
    fn is_cold(&mut self, pieces: &[PieceIndex]) -> Result<bool, ContentError> {
        let geometry = self.sweep.content.geometry();
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

    fn hash(&mut self, batch: &[PieceIndex], shape: Shape) -> Result<(), ContentError> {
        let geometry = self.sweep.content.geometry();
        let longest = batch.iter().map(|&piece| geometry.len_of(piece) as usize).max().unwrap_or(0);
        if self.hashers.len() < batch.len() {
            self.hashers.resize_with(batch.len(), PieceHasher::default);
        }
        for begin in (0..longest).step_by(shape.chunk_len) {
            self.sweep.check_cancelled()?;
            self.hash_chunks(batch, begin, shape)?;
        }
        let mut hashes = vec![PieceHash([0; _]); batch.len()];
        PieceHasher::finish_batch(&mut self.hashers[..batch.len()], &mut hashes);
        self.hashes.extend(batch.iter().copied().zip(hashes));
        Ok(())
    }

    /// Reads and hashes what each piece has from `begin` on, at most a chunk of it.
    fn hash_chunks(&mut self, batch: &[PieceIndex], begin: usize, shape: Shape) -> Result<(), ContentError> {
        let geometry = self.sweep.content.geometry();
        let stretches = stretches(geometry, batch, begin, shape.chunk_len);
        let room_len = stretches.iter().map(Stretch::room_len).sum::<usize>() + DIRECT_ALIGN;
        if self.buffer.len() < room_len {
            // Nothing in it is kept: it need not be copied.
            self.buffer = Vec::new();
            self.buffer = vec![0; room_len];
        }
        let aligned = self.buffer.as_ptr().align_offset(DIRECT_ALIGN).min(DIRECT_ALIGN);
        let mut free = &mut self.buffer[aligned..];
        let mut parts = Vec::with_capacity(batch.len());
        for (place, stretch) in stretches.iter().enumerate() {
            let (room, rest) = free.split_at_mut(stretch.room_len());
            free = rest;
            let place = place % HASH_LANES;
            let spans = &mut geometry.file_spans(stretch.offset, stretch.len as u64);
            let at = match (spans.next(), spans.next()) {
                (Some(span), None) if shape.direct => self.direct_files.read_direct(place, span, room)?,
                _ => None,
            };
            if at.is_none() {
                self.files.read(place, stretch.offset, &mut room[..stretch.len])?;
            }
            let bytes = &room[at.unwrap_or(0)..][..stretch.len];
            parts.extend(bytes.chunks(shape.part_len(geometry)));
        }
        // The content's last piece, which may have ended before, is the batch's last.
        PieceHasher::update_batch(&mut self.hashers[..parts.len()], &parts);
        self.sweep.advance(stretches.iter().map(|stretch| stretch.len as u64).sum());
        Ok(())
    }
}

fn stretches(geometry: &Geometry, batch: &[PieceIndex], begin: usize, chunk_len: usize) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::with_capacity(batch.len());
    for &piece in batch {
        let offset = geometry.offset_of(piece) + begin as u64;
        let len = (geometry.len_of(piece) as usize).saturating_sub(begin).min(chunk_len);
        match stretches.last_mut() {
            _ if len == 0 => {}
            Some(last) if last.offset + last.len as u64 == offset => last.len += len,
            _ => stretches.push(Stretch { offset, len }),
        }
    }
    stretches
}
