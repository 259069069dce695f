//! The order in which missing pieces are opened: a snapshot, rebuilt off the hot path.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::availability::Availability;
use super::open_piece::PieceMemory;
use super::pieces::Pieces;
use crate::base::lock::lock;
use crate::base::{PieceIndex, Rng, limits};

/// Missing pieces, next first. Each connection reads them with a cursor of its own.
#[derive(Debug)]
pub struct Order {
    current: RwLock<Arc<Snapshot>>,
    version: AtomicU64,
    reopened: AtomicU32,
    sequential: AtomicBool,
    /// The priority of each piece, greater first; empty if all are equal. Locked while the order is rebuilt, so that
    /// rebuilds are published in the order in which they began.
    priorities: Mutex<Box<[u8]>>,
}

#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Differs from snapshot to snapshot.
    pub(super) version: u64,
    /// [`Pieces::reopened`] before the snapshot was made: it contains the pieces counted there.
    pub(super) reopened: u32,
    pub(super) pieces: Box<[u32]>,
}

impl Order {
    /// BEP 3: "Downloaders generally download pieces in random order".
    pub(super) fn new() -> Self {
        Self {
            current: RwLock::default(),
            version: AtomicU64::new(0),
            reopened: AtomicU32::new(0),
            sequential: AtomicBool::new(false),
            priorities: Mutex::default(),
        }
    }

    /// Sorts by index instead of by rarity, from the next rebuild on.
    pub fn set_sequential(&self, sequential: bool) {
        self.sequential.store(sequential, Ordering::Relaxed);
    }

    pub(super) fn is_sequential(&self) -> bool {
        self.sequential.load(Ordering::Relaxed)
    }

    /// Pieces of greater priority come first, from the next rebuild on. A piece beyond the end of `priorities` has 0.
    pub fn set_priorities(&self, priorities: Box<[u8]>) {
        *lock(&self.priorities) = priorities;
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// [`Snapshot::reopened`] of the current snapshot.
    pub(super) fn reopened(&self) -> u32 {
        self.reopened.load(Ordering::Acquire)
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sorts the missing pieces by priority and rarity, equals at random. The first few pieces of a download are in
    /// random order, so that a new download soon has something to upload.
    pub(super) fn rebuild<S: PieceMemory>(&self, pieces: &Pieces<S>, availability: &Availability, rng: &mut Rng) {
        let priorities = lock(&self.priorities);
        let reopened = pieces.reopened();
        let mut missing: Vec<_> = pieces.missing().collect();
        let sequential = self.is_sequential();
        if !sequential {
            missing = shuffled_in_runs(&missing, pieces.run_pieces(), rng);
        }
        if !sequential && pieces.have_count() >= limits::RANDOM_FIRST_PIECES {
            missing = sorted_by_availability(&missing, availability);
        }
        if !priorities.is_empty() {
            missing.sort_by_key(|piece| Reverse(priorities.get(piece.at()).copied().unwrap_or(0)));
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let version = current.version + 1;
        let pieces = missing.iter().map(|piece| piece.get()).collect();
        *current = Arc::new(Snapshot { version, reopened, pieces });
        self.reopened.store(reopened, Ordering::Release);
        self.version.store(version, Ordering::Release);
    }
}

/// Shuffles pieces, which are in order, but keeps those of a run of `run_pieces` adjacent ones together and in order.
fn shuffled_in_runs(pieces: &[PieceIndex], run_pieces: u32, rng: &mut Rng) -> Vec<PieceIndex> {
    let mut runs: Vec<_> = pieces.chunk_by(|a, b| a.get() / run_pieces == b.get() / run_pieces).collect();
    rng.shuffle(&mut runs);
    runs.concat()
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
    use crate::base::{Bitfield, Geometry, Time};
    use crate::swarm::testing::NoMemory;

    /// Checks the order of pieces: one digit for each piece's availability, `x` for a piece that we have.
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
        let pieces = Pieces::<NoMemory>::new(geometry, &have, None, Vec::new());
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
        let pieces = Pieces::<NoMemory>::new(geometry, &Bitfield::new(100), None, Vec::new());
        let order = Order::new();
        let made = |seed| {
            order.rebuild(&pieces, &availability, &mut Rng::with_seed(seed));
            order.snapshot().pieces.to_vec()
        };
        let first = made(1);
        assert_ne!(first, made(2));
        assert!(first.iter().take(50).any(|&index| index < 50), "common pieces among the first");
    }

    #[test]
    fn short_pieces_follow_their_neighbours() {
        // Runs of four pieces. The last piece of the second run is more common than the others, and comes last.
        let piece_len = limits::WRITE_RUN_LEN / 4;
        let geometry = Arc::new(Geometry::new(piece_len, [u64::from(piece_len) * 400]).unwrap());
        let availability = Availability::new(400);
        availability.add(geometry.piece(7).unwrap());
        let mut have = Bitfield::new(400);
        geometry.pieces().filter(|piece| piece.get() >= 320).for_each(|piece| _ = have.insert(piece));
        let pieces = Pieces::<NoMemory>::new(geometry, &have, None, Vec::new());
        let order = Order::new();
        let made = |seed| {
            order.rebuild(&pieces, &availability, &mut Rng::with_seed(seed));
            order.snapshot().pieces.to_vec()
        };
        let first = made(1);
        let follows = |pair: &&[u32]| pair[1] == pair[0] + 1;
        let adjacent = first.windows(2).filter(follows).filter(|pair| pair[1] % 4 > 0).count();
        assert_eq!((first.len(), first.last(), adjacent), (320, Some(&7), 320 / 4 * 3 - 1));
        assert_ne!(first, made(2));
    }

    #[test]
    fn concurrent_rebuilds_lose_no_piece() {
        const COUNT: u32 = 32;
        let geometry = Arc::new(Geometry::new(1, [u64::from(COUNT)]).unwrap());
        let (availability, order) = (Availability::new(COUNT), Order::new());
        for round in 0..if cfg!(miri) { 3 } else { 300 } {
            let buffers = (0..COUNT).map(|_| NoMemory).collect();
            let pieces = Pieces::new(geometry.clone(), &Bitfield::new(COUNT), None, buffers);
            let open: Vec<_> = geometry.pieces().map(|piece| pieces.open(piece).unwrap()).collect();
            std::thread::scope(|scope| {
                for (seed, open) in (0..).zip(open.chunks(8)) {
                    let (pieces, order, availability) = (&pieces, &order, &availability);
                    scope.spawn(move || {
                        for open in open {
                            pieces.handle_failed(Time::ZERO, open);
                            order.rebuild(pieces, availability, &mut Rng::with_seed(seed));
                        }
                    });
                }
            });
            let snapshot = order.snapshot();
            assert_eq!((snapshot.pieces.len(), snapshot.reopened), (COUNT as usize, COUNT), "round {round}");
        }
    }
}
