//! The simulated disk of a node: the state of each piece, crashes and write errors.
//!
//! A disk holds no bytes. Its state is independent of the pieces that the node's `Swarm` has; tests compare the two.

use std::time::Duration;

use crate::base::{Bitfield, Geometry, PieceIndex, Rng};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stored {
    Nothing,
    Right,
    Corrupt,
}

/// The pieces on a disk and in its resume record.
#[derive(Debug)]
pub struct Disk {
    pieces: Box<[Stored]>,
    /// The pieces in the resume record: those on the disk at the last checkpoint.
    record: Bitfield,
    /// The longest random delay of a write. Writes may overtake each other.
    pub late_by: Duration,
    /// The number of writes that succeed before all further ones fail; `None` for no limit.
    pub writes_left: Option<u32>,
    corrupted_count: u32,
    discarded_count: usize,
}

impl Disk {
    pub(super) fn new(have: &Bitfield) -> Self {
        let stored = |index| if have.contains_index(index) { Stored::Right } else { Stored::Nothing };
        Self {
            pieces: (0..have.piece_count()).map(stored).collect(),
            record: have.clone(),
            late_by: Duration::ZERO,
            writes_left: None,
            corrupted_count: 0,
            discarded_count: 0,
        }
    }

    pub fn is_right(&self, piece: PieceIndex) -> bool {
        self.pieces.get(piece.at()) == Some(&Stored::Right)
    }

    /// Draws the delay of the next write.
    pub(super) fn delay(&self, rng: &mut Rng) -> Duration {
        if self.late_by.is_zero() { Duration::ZERO } else { self.late_by.mul_f64(rng.f64()) }
    }

    /// Writes a verified piece. Returns false if the write failed.
    pub(super) fn write(&mut self, piece: PieceIndex) -> bool {
        if self.writes_left == Some(0) {
            return false;
        }
        self.writes_left = self.writes_left.map(|left| left - 1);
        self.put(piece, Stored::Right);
        true
    }

    fn put(&mut self, piece: PieceIndex, stored: Stored) {
        if let Some(entry) = self.pieces.get_mut(piece.at()) {
            *entry = stored;
        }
    }

    /// Corrupts a piece silently.
    pub fn corrupt(&mut self, piece: PieceIndex) {
        self.put(piece, Stored::Corrupt);
        self.corrupted_count += 1;
    }

    /// Whether pieces may be corrupt, so that each must be checked before it is sent.
    pub(super) fn may_be_corrupted(&self) -> bool {
        self.corrupted_count > 0
    }

    /// Removes a piece that was found to be corrupt.
    pub(super) fn discard(&mut self, piece: PieceIndex) {
        self.put(piece, Stored::Nothing);
        self.record.remove(piece);
        self.discarded_count += 1;
    }

    /// Returns the number of pieces that were found to be corrupt.
    pub fn discarded_count(&self) -> usize {
        self.discarded_count
    }

    /// Syncs all written pieces and adds them to the resume record.
    pub(super) fn checkpoint(&mut self, geometry: &Geometry) {
        for (piece, &stored) in geometry.pieces().zip(&self.pieces) {
            if stored != Stored::Nothing {
                self.record.insert(piece);
            }
        }
    }

    /// Simulates a power failure: pieces that are not in the resume record are lost. Afterwards writes succeed again.
    /// Returns the pieces in the record.
    pub(super) fn crash(&mut self) -> &Bitfield {
        for (index, stored) in self.pieces.iter_mut().enumerate() {
            if !self.record.contains_index(index) {
                *stored = Stored::Nothing;
            }
        }
        self.writes_left = None;
        &self.record
    }
}
