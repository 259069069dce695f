//! Open pieces, whose memory is a [`PieceBuffer`].

use crate::storage::PieceBuffer;
use crate::swarm::OpenPiece;

pub(super) type Piece = OpenPiece<PieceBuffer>;

impl crate::swarm::PieceMemory for PieceBuffer {
    fn clear(&mut self, piece_len: u32) -> bool {
        PieceBuffer::clear(self, piece_len)
    }
}
