//! Doubles for tests and benchmarks of this module and of the modules above it.

use super::open_piece::PieceMemory;

/// Piece memory that holds no bytes and can always be reused.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoMemory;

impl PieceMemory for NoMemory {
    fn clear(&mut self, _piece_len: u32) -> bool {
        true
    }
}
