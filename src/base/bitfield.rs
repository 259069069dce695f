//! A set of piece indices in the wire's order: index 0 is the high bit of the first byte (BEP 3).

use bitvec::prelude::{BitVec, Msb0};

use super::PieceIndex;

/// A set of pieces of one torrent, such as the pieces that a peer has. Bits beyond the piece count do not exist.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bitfield {
    bits: BitVec<u8, Msb0>,
    /// Number of bits that are set.
    count: usize,
}

/// Why a `bitfield` payload was refused (BEP 3).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BitfieldError {
    #[error("bitfield of {len} bytes, expected {expected}")]
    WrongLength { len: usize, expected: usize },
    #[error("bitfield with spare bits set")]
    SpareBits,
}

impl Bitfield {
    /// Returns an empty set over `piece_count` pieces.
    pub fn new(piece_count: u32) -> Self {
        Self { bits: BitVec::repeat(false, piece_count as usize), count: 0 }
    }

    /// Returns the set of all pieces.
    pub fn full(piece_count: u32) -> Self {
        Self { bits: BitVec::repeat(true, piece_count as usize), count: piece_count as usize }
    }

    /// Reads a `bitfield` payload, which must have the exact length and no spare bits set.
    pub fn from_wire(payload: &[u8], piece_count: u32) -> Result<Self, BitfieldError> {
        let expected = (piece_count as usize).div_ceil(8);
        if payload.len() != expected {
            return Err(BitfieldError::WrongLength { len: payload.len(), expected });
        }
        let mut bits = BitVec::<u8, Msb0>::from_slice(payload);
        if bits[piece_count as usize..].any() {
            return Err(BitfieldError::SpareBits);
        }
        bits.truncate(piece_count as usize);
        let count = bits.count_ones();
        Ok(Self { bits, count })
    }

    /// Returns the payload of a `bitfield` message.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut bits = self.bits.clone();
        bits.set_uninitialized(false);
        bits.into_vec()
    }

    /// Returns the number of pieces of the torrent, in the set or not.
    pub fn piece_count(&self) -> usize {
        self.bits.len()
    }

    pub fn contains(&self, piece: PieceIndex) -> bool {
        self.contains_index(piece.at())
    }

    /// Like [`Self::contains`], by position; false beyond the piece count.
    pub fn contains_index(&self, index: usize) -> bool {
        self.bits.get(index).is_some_and(|bit| *bit)
    }

    /// Adds a piece; returns false if the set contained it already.
    pub fn insert(&mut self, piece: PieceIndex) -> bool {
        let added = self.bits.get_mut(piece.at()).is_some_and(|mut bit| !bit.replace(true));
        self.count += usize::from(added);
        added
    }

    /// Removes a piece; returns false if the set did not contain it.
    pub fn remove(&mut self, piece: PieceIndex) -> bool {
        let removed = self.bits.get_mut(piece.at()).is_some_and(|mut bit| bit.replace(false));
        self.count -= usize::from(removed);
        removed
    }

    /// Returns the pieces that are in either set. Both sets must be over the same pieces.
    pub fn union(&self, other: &Self) -> Self {
        let bits = self.bits.clone() | &other.bits;
        let count = bits.count_ones();
        Self { bits, count }
    }

    /// Returns the pieces that are in this set and not in `other`.
    pub fn difference(&self, other: &Self) -> Self {
        let bits = self.bits.clone() & !other.bits.clone();
        let count = bits.count_ones();
        Self { bits, count }
    }

    /// Returns whether `other` contains all pieces of this set.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.iter().all(|index| other.contains_index(index))
    }

    /// Returns the number of pieces in the set.
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn is_full(&self) -> bool {
        self.count == self.bits.len()
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the indices in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.bits.iter_ones()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Geometry;

    #[test]
    fn bit_zero_is_the_high_bit_of_the_first_byte() {
        let geometry = Geometry::new(1, [10]).unwrap();
        let mut set = Bitfield::new(10);
        assert!(set.insert(geometry.piece(0).unwrap()));
        assert!(!set.insert(geometry.piece(0).unwrap()));
        set.insert(geometry.piece(9).unwrap());
        assert_eq!(set.to_wire(), [0x80, 0x40]);
        assert_eq!(Bitfield::from_wire(&[0x80, 0x40], 10), Ok(set));
    }

    #[test]
    fn wrong_lengths_and_spare_bits_are_refused() {
        assert_eq!(Bitfield::from_wire(&[0; 1], 10), Err(BitfieldError::WrongLength { len: 1, expected: 2 }));
        assert_eq!(Bitfield::from_wire(&[0; 3], 10), Err(BitfieldError::WrongLength { len: 3, expected: 2 }));
        assert_eq!(Bitfield::from_wire(&[0, 0x20], 10), Err(BitfieldError::SpareBits));
        assert!(Bitfield::from_wire(&[0xff, 0xc0], 10).unwrap().is_full());
        assert_eq!(Bitfield::full(10).to_wire(), [0xff, 0xc0]);
    }
}
