//! Piece memory of the simulation: what has landed, and whose content it is, instead of the bytes.

use std::sync::{Mutex, PoisonError};

use bt_fast::base::{BlockRef, PieceIndex};

/// The content of a block, as every honest node sends it: the tag over and over.
pub(super) fn payload(block: BlockRef) -> Vec<u8> {
    tag(block.piece, block.begin).to_le_bytes().into_iter().cycle().take(block.len as usize).collect()
}

/// Differs from block to block.
fn tag(piece: PieceIndex, begin: u32) -> u64 {
    (u64::from(piece.get()) << 32 | u64::from(begin) | 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Landed {
    More,
    Complete,
    Duplicate,
}

/// For each block whether it is there, and whether it is right.
#[derive(Debug, Default)]
pub(super) struct CountingSlot {
    blocks: Mutex<Vec<Option<bool>>>,
}

impl bt_fast::swarm::Slot for CountingSlot {
    fn clear(&mut self, piece_len: u32) -> bool {
        let blocks = self.blocks.get_mut().unwrap_or_else(PoisonError::into_inner);
        blocks.clear();
        blocks.resize(piece_len.div_ceil(bt_fast::base::geometry::BLOCK_LEN) as usize, None);
        true
    }
}

impl CountingSlot {
    pub(super) fn land(&self, block: BlockRef, bytes: &[u8]) -> Landed {
        let mut blocks = self.blocks.lock().unwrap();
        let place = &mut blocks[block.block_index()];
        if place.is_some() {
            return Landed::Duplicate;
        }
        *place = Some(bytes == payload(block));
        if blocks.contains(&None) { Landed::More } else { Landed::Complete }
    }

    /// Every block is there and right: what a hash says.
    pub(super) fn is_right(&self) -> bool {
        self.blocks.lock().unwrap().iter().all(|block| *block == Some(true))
    }
}
