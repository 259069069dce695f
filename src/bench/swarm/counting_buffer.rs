//! Piece memory of the simulation. Records which blocks have arrived and whether they are correct, instead of their
//! bytes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::geometry::BLOCK_LEN;
use crate::base::lock::lock;
use crate::base::{BlockRef, PieceIndex};
use crate::swarm::PieceMemory;

/// The result of [`CountingBuffer::land`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Landed {
    More,
    Complete,
    Duplicate,
}

/// Piece memory without bytes.
#[derive(Debug, Default)]
pub struct CountingBuffer(Mutex<Blocks>);

#[derive(Debug, Default)]
struct Blocks {
    landed: Vec<u64>,
    missing: u32,
    wrong: bool,
    /// The piece to which the blocks belong.
    piece: Option<PieceIndex>,
}

impl PieceMemory for CountingBuffer {
    fn clear(&mut self, piece_len: u32) -> bool {
        let blocks = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        blocks.missing = piece_len.div_ceil(BLOCK_LEN);
        blocks.wrong = false;
        blocks.piece = None;
        blocks.landed.clear();
        blocks.landed.resize(blocks.missing.div_ceil(64) as usize, 0);
        true
    }
}

impl CountingBuffer {
    fn lock(&self) -> MutexGuard<'_, Blocks> {
        lock(&self.0)
    }

    /// Records a block, with the right bytes or not.
    pub fn land(&self, block: BlockRef, right: bool) -> Landed {
        let mut blocks = self.lock();
        let (word, bit) = (block.block_index() / 64, 1 << (block.block_index() % 64));
        match blocks.landed.get_mut(word) {
            Some(landed) if *landed & bit == 0 => *landed |= bit,
            _ => return Landed::Duplicate,
        }
        blocks.missing -= 1;
        blocks.wrong |= !right || *blocks.piece.get_or_insert(block.piece) != block.piece;
        if blocks.missing > 0 { Landed::More } else { Landed::Complete }
    }

    /// Whether all blocks of this piece have arrived and are correct. Stands in for a hash check.
    pub fn is_right(&self, piece: PieceIndex) -> bool {
        let blocks = self.lock();
        blocks.missing == 0 && !blocks.wrong && blocks.piece == Some(piece)
    }
}
