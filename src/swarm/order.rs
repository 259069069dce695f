//! The order in which missing pieces are opened: a snapshot, made anew off the hot path.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::availability::Availability;
use super::pieces::{Pieces, Slot};
use crate::base::{PieceIndex, Rng, limits};

/// Missing pieces, next first. Connections walk it with a place of their own.
#[derive(Debug)]
pub struct Order {
    current: RwLock<Arc<Snapshot>>,
    version: AtomicU64,
    sequential: AtomicBool,
    /// For each piece, the greater the earlier; empty when they are all equal.
    priorities: RwLock<Box<[u8]>>,
}

#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Differs from snapshot to snapshot.
    pub(super) version: u64,
    pub(super) pieces: Box<[u32]>,
}

impl Order {
    /// BEP 3: "Downloaders generally download pieces in random order".
    pub(super) fn new() -> Self {
        Self {
            current: RwLock::default(),
            version: AtomicU64::new(0),
            sequential: AtomicBool::new(false),
            priorities: RwLock::default(),
        }
    }

    /// By index instead of by rarity, from the next time the order is made on.
    pub fn set_sequential(&self, sequential: bool) {
        self.sequential.store(sequential, Ordering::Relaxed);
    }

    pub(super) fn is_sequential(&self) -> bool {
        self.sequential.load(Ordering::Relaxed)
    }

    /// Pieces of greater priority come first, from the next time the order is made on; a piece beyond the end has 0.
    pub fn set_priorities(&self, priorities: Box<[u8]>) {
        *self.priorities.write().unwrap_or_else(PoisonError::into_inner) = priorities;
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sorts what is missing by priority and rarity, equals at random; the first few pieces of a download purely at random, so that a
    /// newcomer soon has something to give.
    pub(super) fn rebuild<S: Slot>(&self, pieces: &Pieces<S>, availability: &Availability, rng: &mut Rng) {
        let mut missing: Vec<_> = pieces.missing().collect();
        let sequential = self.is_sequential();
        if !sequential {
            rng.shuffle(&mut missing);
        }
        if !sequential && pieces.have_count() >= limits::RANDOM_FIRST_PIECES {
            missing = sorted_by_availability(&missing, availability);
        }
        let priorities = self.priorities.read().unwrap_or_else(PoisonError::into_inner);
        if !priorities.is_empty() {
            missing.sort_by_key(|piece| Reverse(priorities.get(piece.at()).copied().unwrap_or(0)));
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let version = current.version + 1;
        *current = Arc::new(Snapshot { version, pieces: missing.iter().map(|piece| piece.get()).collect() });
        self.version.store(version, Ordering::Release);
    }
}

/// A counting sort: equals stay in their order.
fn sorted_by_availability(pieces: &[PieceIndex], availability: &Availability) -> Vec<PieceIndex> {
    let counts: Vec<usize> = pieces.iter().map(|&piece| availability.of(piece) as usize).collect();
    let mut starts = vec![0; counts.iter().max().map_or(0, |max| max + 2)];
    counts.iter().for_each(|&count| starts[count + 1] += 1);
    for i in 1..starts.len() {
        starts[i] += starts[i - 1];
    }
    let mut sorted = pieces.to_vec();
    for (&piece, &count) in pieces.iter().zip(&counts) {
        sorted[starts[count]] = piece;
        starts[count] += 1;
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Bitfield, Geometry};

    #[derive(Debug)]
    struct Nothing;

    impl Slot for Nothing {
        fn clear(&mut self, _piece_len: u32) -> bool {
            true
        }
    }

    /// What is ordered: one digit for each piece's availability, `x` for a piece that is had.
    fn check(availabilities: &str, prepare: impl Fn(&Order), expected: &str) {
        let piece_count = u32::try_from(availabilities.len()).unwrap();
        let geometry = Arc::new(Geometry::new(1, [u64::from(piece_count)]).unwrap());
        let (mut have, availability) = (Bitfield::new(piece_count), Availability::new(piece_count));
        for (piece, digit) in geometry.pieces().zip(availabilities.chars()) {
            match digit.to_digit(10) {
                Some(count) => (0..count).for_each(|_| availability.add(piece)),
                None => _ = have.insert(piece),
            }
        }
        let pieces = Pieces::<Nothing>::new(geometry, &have, None, Vec::new());
        let order = Order::new();
        prepare(&order);
        for seed in 0..5 {
            order.rebuild(&pieces, &availability, &mut Rng::with_seed(seed));
            let text: String = order.snapshot().pieces.iter().map(ToString::to_string).collect();
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn the_rarest_comes_first() {
        check("2x31xx04x", |_| (), "63027");
    }

    #[test]
    fn sequential_is_by_index_and_priority_before_all() {
        check("2x31xx04x", |order| order.set_sequential(true), "02367");
        check("2x31xx04x", |order| order.set_priorities([0, 0, 0, 1, 0, 0, 0, 2].into()), "73602");
    }

    #[test]
    fn the_first_pieces_are_random_and_equals_are_shuffled() {
        let geometry = Arc::new(Geometry::new(1, [100]).unwrap());
        let availability = Availability::new(100);
        geometry.pieces().take(50).for_each(|piece| availability.add(piece));
        let pieces = Pieces::<Nothing>::new(geometry, &Bitfield::new(100), None, Vec::new());
        let order = Order::new();
        let made = |seed| {
            order.rebuild(&pieces, &availability, &mut Rng::with_seed(seed));
            order.snapshot().pieces.to_vec()
        };
        let first = made(1);
        assert_ne!(first, made(2));
        assert!(first.iter().take(50).any(|&index| index < 50), "common ones among the first");
    }
}
