//! The number of connected peers that have each piece.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};

use crate::base::{Bitfield, PieceIndex, limits};

/// Counts of the connected peers by piece. Complete peers are counted in one number, not once per piece.
#[derive(Debug)]
pub struct Availability {
    pieces: Box<[AtomicU16]>,
    complete_peers: AtomicU32,
    changed: AtomicBool,
}

impl Availability {
    pub(super) fn new(piece_count: u32) -> Self {
        Self {
            pieces: (0..piece_count).map(|_| AtomicU16::new(0)).collect(),
            complete_peers: AtomicU32::new(0),
            changed: AtomicBool::new(false),
        }
    }

    /// A connected peer has one more piece.
    pub fn add(&self, piece: PieceIndex) {
        self.shift(piece.at(), 1);
    }

    /// A peer with these pieces has connected.
    pub fn add_set(&self, have: &Bitfield) {
        self.shift_set(have, 1);
    }

    /// A peer with these pieces has disconnected.
    pub fn remove_set(&self, have: &Bitfield) {
        self.shift_set(have, u16::MAX);
    }

    fn shift_set(&self, have: &Bitfield, by: u16) {
        if have.piece_count() > 0 && have.is_full() {
            // `u16::MAX` means -1, here and in `shift`.
            self.complete_peers.fetch_add(if by == 1 { 1 } else { u32::MAX }, Ordering::Relaxed);
        } else {
            have.iter().for_each(|index| self.shift(index, by));
        }
    }

    fn shift(&self, index: usize, by: u16) {
        if let Some(count) = self.pieces.get(index) {
            count.fetch_add(by, Ordering::Relaxed);
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    /// A peer became complete piece by piece: counts it as a complete peer from here on.
    pub fn complete(&self, piece_count: u32) {
        self.remove_each(piece_count);
        self.complete_peers.fetch_add(1, Ordering::Relaxed);
    }

    fn remove_each(&self, piece_count: u32) {
        (0..piece_count as usize).for_each(|index| self.shift(index, u16::MAX));
    }

    /// Whether a connected peer that is not complete has this piece.
    pub fn is_with_leechers(&self, piece: PieceIndex) -> bool {
        self.pieces.get(piece.at()).is_some_and(|count| count.load(Ordering::Relaxed) > 0)
    }

    /// The number of connected peers that have this piece.
    pub fn of(&self, piece: PieceIndex) -> u32 {
        let partial = self.pieces.get(piece.at()).map_or(0, |count| count.load(Ordering::Relaxed));
        u32::from(partial) + self.complete_peers.load(Ordering::Relaxed)
    }

    /// Whether anything changed since the last call.
    pub(super) fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Relaxed)
    }
}

/// Pieces that no connected peer has. Shown as `piece 7`, or `pieces 3-5, 9`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unavailable {
    pub count: u32,
    /// The first pieces, as ranges of indices.
    ranges: Vec<RangeInclusive<u32>>,
    /// Pieces after the last range are left out.
    is_truncated: bool,
}

impl Unavailable {
    /// Adds a piece. Indices must ascend.
    pub(super) fn add(&mut self, index: u32) {
        self.count += 1;
        let has_room = self.ranges.len() < limits::UNAVAILABLE_RANGES_SHOWN_MAX;
        match self.ranges.last_mut() {
            Some(range) if range.end() + 1 == index && !self.is_truncated => *range = *range.start()..=index,
            _ if has_room => self.ranges.push(index..=index),
            _ => self.is_truncated = true,
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.count == 1 { "piece" } else { "pieces" })?;
        for (at, range) in self.ranges.iter().enumerate() {
            let before = if at > 0 { "," } else { "" };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{before} {first}")?,
                (first, last) => write!(f, "{before} {first}-{last}")?,
            }
        }
        if self.is_truncated { write!(f, " and more ({} in all)", self.count) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Geometry;

    #[test]
    fn peers_connect_become_complete_and_disconnect() {
        let geometry = Geometry::new(1, [3]).unwrap();
        let piece = |index| geometry.piece(index).unwrap();
        let availability = Availability::new(3);
        let mut have = Bitfield::new(3);
        have.insert(piece(1));
        availability.add_set(&have);
        availability.add_set(&Bitfield::full(3));
        assert_eq!([0, 1, 2].map(|i| availability.of(piece(i))), [1, 2, 1]);
        for index in [0, 2] {
            availability.add(piece(index));
        }
        availability.complete(3);
        assert_eq!([0, 1, 2].map(|i| availability.of(piece(i))), [2, 2, 2]);
        availability.remove_set(&Bitfield::full(3));
        availability.remove_set(&Bitfield::full(3));
        assert_eq!([0, 1, 2].map(|i| availability.of(piece(i))), [0, 0, 0]);
    }

    #[test]
    fn unavailable_pieces_are_shown_as_ranges() {
        let shown = |indices: &[u32]| {
            let mut found = Unavailable::default();
            indices.iter().for_each(|&index| found.add(index));
            found.to_string()
        };
        assert_eq!(shown(&[7]), "piece 7");
        assert_eq!(shown(&[3, 4, 5, 9]), "pieces 3-5, 9");
        assert_eq!(shown(&[0, 2, 4, 6, 8, 9, 11, 12]), "pieces 0, 2, 4, 6, 8-9 and more (8 in all)");
    }
}
