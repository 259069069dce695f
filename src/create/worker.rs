//! One thread's share of hashing: pieces side by side, a chunk of each at a time.
//!
//! Memory is that of the lanes' chunks, whatever the piece length. Pieces of at most a chunk that follow each other are
//! read as one stretch.

use super::error::ContentError;
use super::files::Files;
use super::pieces::{Content, Sweep};
use crate::base::limits::{HASH_CHUNK_LEN, HASH_LANES};
use crate::base::{PieceHash, PieceIndex};
use crate::hash::PieceHasher;

/// Pieces abreast, and the bytes of each that are read at a time.
#[derive(Clone, Copy)]
struct Shape {
    lanes: usize,
    chunk_len: usize,
}

impl Shape {
    /// For content in memory: what is read stays in the processor's cache until it is hashed.
    const HOT: Self = Self { lanes: HASH_LANES, chunk_len: HASH_CHUNK_LEN };
}

/// Bytes of one or more pieces that follow each other in the content.
struct Stretch {
    offset: u64,
    len: usize,
}

pub(super) struct Worker<'a, C> {
    sweep: &'a Sweep<'a, C>,
    files: Files<'a, C>,
    hashers: Vec<PieceHasher>,
    buffer: Vec<u8>,
    hashes: Vec<(PieceIndex, PieceHash)>,
}

impl<'a, C: Content> Worker<'a, C> {
    pub(super) fn new(sweep: &'a Sweep<'a, C>) -> Self {
        Self {
            sweep,
            files: Files::new(sweep.content, HASH_LANES),
            hashers: vec![PieceHasher::default(); HASH_LANES],
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
            for batch in pieces.chunks(Shape::HOT.lanes) {
                self.hash(batch, Shape::HOT)?;
            }
        }
        Ok(self.hashes)
    }

    fn hash(&mut self, batch: &[PieceIndex], shape: Shape) -> Result<(), ContentError> {
        let geometry = self.sweep.content.geometry();
        let longest = batch.iter().map(|&piece| geometry.len_of(piece) as usize).max().unwrap_or(0);
        for begin in (0..longest).step_by(shape.chunk_len) {
            self.sweep.check_cancelled()?;
            self.hash_chunks(batch, begin, shape.chunk_len)?;
        }
        let mut hashes = [PieceHash([0; _]); HASH_LANES];
        let hashes = &mut hashes[..batch.len()];
        PieceHasher::finish_batch(&mut self.hashers[..batch.len()], hashes);
        self.hashes.extend(batch.iter().copied().zip(hashes.iter().copied()));
        Ok(())
    }

    /// Reads and hashes what each piece has from `begin` on, at most `chunk_len` of it.
    fn hash_chunks(&mut self, batch: &[PieceIndex], begin: usize, chunk_len: usize) -> Result<(), ContentError> {
        let stretches = self.stretches(batch, begin, chunk_len);
        let total_len = stretches.iter().map(|stretch| stretch.len).sum();
        if self.buffer.len() < total_len {
            self.buffer.resize(total_len, 0);
        }
        let part_len = chunk_len.min(self.sweep.content.geometry().piece_len() as usize);
        let mut parts = Vec::with_capacity(batch.len());
        let mut free = &mut self.buffer[..];
        for (place, stretch) in stretches.iter().enumerate() {
            let (bytes, rest) = free.split_at_mut(stretch.len);
            free = rest;
            self.files.read(place, stretch.offset, bytes)?;
            parts.extend(bytes.chunks(part_len));
        }
        // The content's last piece, which may have ended before, is the batch's last.
        PieceHasher::update_batch(&mut self.hashers[..parts.len()], &parts);
        self.sweep.advance(total_len as u64);
        Ok(())
    }

    fn stretches(&self, batch: &[PieceIndex], begin: usize, chunk_len: usize) -> Vec<Stretch> {
        let geometry = self.sweep.content.geometry();
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
}
