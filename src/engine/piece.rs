//! Pieces under way, in the memory that `storage` has for them.

use crate::storage::Slot;
use crate::swarm::OpenPiece;

pub(super) type Piece = OpenPiece<Slot>;

impl crate::swarm::PieceMemory for Slot {
    fn clear(&mut self, piece_len: u32) -> bool {
        Slot::clear(self, piece_len)
    }
}
