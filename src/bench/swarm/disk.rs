//! A node's disk: which pieces lie on it and whether they are right, what a crash leaves of them, how it fails.
//!
//! Holds no bytes. What the swarm believes to have is another matter: tests compare the two.

use std::time::Duration;

use crate::base::{Bitfield, Geometry, PieceIndex, Rng};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stored {
    Nothing,
    Right,
    /// Not what was written.
    Wrong,
}

/// See the module.
#[derive(Debug)]
pub struct Disk {
    pieces: Box<[Stored]>,
    /// What the resume record claims: what lay here when the last checkpoint was made.
    record: Bitfield,
    /// A write takes up to so much longer than it should, and others overtake it.
    pub late_by: Duration,
    /// So many writes end well, then one fails, and all after it.
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

    /// What the next write takes beyond its time.
    pub(super) fn delay(&self, rng: &mut Rng) -> Duration {
        if self.late_by.is_zero() { Duration::ZERO } else { self.late_by.mul_f64(rng.f64()) }
    }

    /// A piece that was found to be right is written; false when that failed.
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

    /// A piece goes bad, and nobody is told.
    pub fn corrupt(&mut self, piece: PieceIndex) {
        self.put(piece, Stored::Wrong);
        self.corrupted_count += 1;
    }

    /// Pieces may have gone bad: each has to be looked at before it is sent.
    pub(super) fn may_be_corrupted(&self) -> bool {
        self.corrupted_count > 0
    }

    /// A piece was found to be bad.
    pub(super) fn discard(&mut self, piece: PieceIndex) {
        self.put(piece, Stored::Nothing);
        self.record.remove(piece);
        self.discarded_count += 1;
    }

    /// Pieces that were found to be bad.
    pub fn discarded_count(&self) -> usize {
        self.discarded_count
    }

    /// All that was written is safe, and the record claims it.
    pub(super) fn checkpoint(&mut self, geometry: &Geometry) {
        for (piece, &stored) in geometry.pieces().zip(&self.pieces) {
            if stored != Stored::Nothing {
                self.record.insert(piece);
            }
        }
    }

    /// The power went, and came back with a disk that works: nothing is left but what was safe. Returns what the record
    /// claims.
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
