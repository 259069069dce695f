//! Which pieces may be sent now: verified, and resident so that no ring thread waits for a disk.
//!
//! Only states are kept here. What has to be done to change one is the connection's to start (`ring::connection`).

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::base::limits::EXTENT_LEN;
use crate::base::{Bitfield, BlockRef, Geometry, PieceIndex, Time, limits};

const UNVERIFIED: u8 = 0;
const VERIFYING: u8 = 1;
const VERIFIED: u8 = 2;
const UNSERVABLE: u8 = 3;

const NEVER: u64 = 0;
const POPULATING: u64 = u64::MAX;
const LEAVING: u64 = u64::MAX - 1;

/// A point in time, and in the stream of what was read into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct Moment {
    pub(in crate::engine) time: Time,
    /// Stretches made resident so far, wrapping.
    pub(in crate::engine) read_in: u32,
}

/// What stands between a block and the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) enum Readiness {
    Ready,
    /// The caller must have this piece hashed and then report it.
    Verify(PieceIndex),
    /// The caller must have this stretch of the content made resident and then report it.
    Populate(u64),
    /// Somebody is at it.
    Wait,
    /// It can never be sent.
    Unservable,
}

/// What stands between a piece and its readers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) enum Verification {
    Done,
    /// The caller must hash the piece and then report it.
    Begun,
    /// Another thread hashes it.
    UnderWay,
    /// It is not right, or not there.
    Failed,
}

/// See the module.
#[derive(Debug)]
pub(in crate::engine) struct Serving {
    pieces: Box<[AtomicU8]>,
    /// When each stretch was last made resident: milliseconds + 1 above, stretches read in below.
    stretches: Box<[AtomicU64]>,
    /// Stretches that may be read in before an earlier one is doubted.
    trusted: u32,
    piece_len: u64,
}

impl Serving {
    /// `verified` pieces need no hash before they are served; `trusted` as [`crate::engine::shared::page_cache::Cache`] says.
    pub(in crate::engine) fn new(geometry: &Geometry, verified: &Bitfield, trusted: u32) -> Self {
        let state = |piece| if verified.contains(piece) { VERIFIED } else { UNVERIFIED };
        Self {
            pieces: geometry.pieces().map(|piece| AtomicU8::new(state(piece))).collect(),
            stretches: (0..geometry.total_len().div_ceil(EXTENT_LEN)).map(|_| AtomicU64::new(NEVER)).collect(),
            trusted,
            piece_len: u64::from(geometry.piece_len()),
        }
    }

    fn piece(&self, piece: PieceIndex) -> Option<&AtomicU8> {
        self.pieces.get(piece.at())
    }

    fn stretch(&self, stretch: u64) -> Option<&AtomicU64> {
        self.stretches.get(usize::try_from(stretch).ok()?)
    }

    fn stretches_of(&self, block: BlockRef) -> std::ops::RangeInclusive<u64> {
        let start = u64::from(block.piece.get()) * self.piece_len + u64::from(block.begin);
        start / EXTENT_LEN..=(start + u64::from(block.len) - 1) / EXTENT_LEN
    }

    /// Whether a block can be read without waiting.
    pub(in crate::engine) fn is_ready(&self, block: BlockRef, now: Moment) -> bool {
        self.is_verified(block.piece) && self.stretches_of(block).all(|stretch| self.is_resident(stretch, now))
    }

    fn is_resident(&self, stretch: u64, now: Moment) -> bool {
        let at = self.stretch(stretch).map_or(NEVER, |at| at.load(Ordering::Acquire));
        if matches!(at, NEVER | POPULATING | LEAVING) {
            return false;
        }
        let now = pack(now);
        let (age_ms, read_in) = ((now >> 32).saturating_sub(at >> 32), low(now).wrapping_sub(low(at)));
        let youth = |limit: std::time::Duration| u128::from(age_ms) < limit.as_millis();
        // However much is read in, what has just come is sent, or a crowd would only read.
        youth(limits::RESIDENT_MIN) || (youth(limits::RESIDENT_MAX) && read_in < self.trusted)
    }

    /// What to do next for a block; a task that is handed out is handed out once.
    pub(in crate::engine) fn poll(&self, block: BlockRef, now: Moment) -> Readiness {
        match self.poll_verified(block.piece) {
            Verification::Done => {}
            Verification::Begun => return Readiness::Verify(block.piece),
            Verification::UnderWay => return Readiness::Wait,
            Verification::Failed => return Readiness::Unservable,
        }
        let Some(index) = self.stretches_of(block).find(|&stretch| !self.is_resident(stretch, now)) else {
            return Readiness::Ready;
        };
        let Some(stretch) = self.stretch(index) else { return Readiness::Unservable };
        let seen = stretch.load(Ordering::Acquire);
        let won = !matches!(seen, POPULATING | LEAVING)
            && stretch.compare_exchange(seen, POPULATING, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if won { Readiness::Populate(index) } else { Readiness::Wait }
    }

    /// Whether a piece is verified; the task to do that is handed out once.
    pub(in crate::engine) fn poll_verified(&self, piece: PieceIndex) -> Verification {
        let Some(state) = self.piece(piece) else { return Verification::Failed };
        match state.load(Ordering::Acquire) {
            VERIFIED => Verification::Done,
            UNSERVABLE => Verification::Failed,
            VERIFYING => Verification::UnderWay,
            _ => match state.compare_exchange(UNVERIFIED, VERIFYING, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => Verification::Begun,
                Err(_) => Verification::UnderWay,
            },
        }
    }

    /// The hash of this piece was right.
    pub(in crate::engine) fn handle_verified(&self, piece: PieceIndex) {
        if let Some(state) = self.piece(piece) {
            state.store(VERIFIED, Ordering::Release);
        }
    }

    /// This piece could not be hashed, for no fault of its own.
    pub(in crate::engine) fn handle_unhashed(&self, piece: PieceIndex) {
        if let Some(state) = self.piece(piece) {
            // Else it is known to be lost.
            let _ = state.compare_exchange(VERIFYING, UNVERIFIED, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// False when that was known.
    pub(in crate::engine) fn handle_unservable(&self, piece: PieceIndex) -> bool {
        self.piece(piece).is_some_and(|state| state.swap(UNSERVABLE, Ordering::AcqRel) != UNSERVABLE)
    }

    /// The file of this piece has changed: it is hashed again before it is served.
    pub(in crate::engine) fn handle_changed(&self, piece: PieceIndex) {
        if let Some(state) = self.piece(piece) {
            // Else there is nothing to take back.
            let _ = state.compare_exchange(VERIFIED, UNVERIFIED, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    pub(in crate::engine) fn is_verified(&self, piece: PieceIndex) -> bool {
        self.piece(piece).is_some_and(|state| state.load(Ordering::Acquire) == VERIFIED)
    }

    /// What can be read of a stretch is in memory.
    pub(in crate::engine) fn handle_populated(&self, stretch: u64, now: Moment) {
        if let Some(at) = self.stretch(stretch) {
            at.store(pack(now), Ordering::Release);
        }
    }

    /// A stretch that was believed to be resident is not.
    pub(in crate::engine) fn handle_evicted(&self, stretch: u64) {
        let Some(at) = self.stretch(stretch) else { return };
        let seen = at.load(Ordering::Acquire);
        if !matches!(seen, POPULATING | LEAVING) {
            // Else somebody works on it already.
            let _ = at.compare_exchange(seen, NEVER, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// A stretch is about to leave memory: [`Self::handle_left`] follows. False when somebody works on it.
    pub(in crate::engine) fn begin_leave(&self, stretch: u64) -> bool {
        let Some(at) = self.stretch(stretch) else { return false };
        let seen = at.load(Ordering::Acquire);
        !matches!(seen, POPULATING | LEAVING)
            && at.compare_exchange(seen, LEAVING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// It could not be read in, for no fault of its own.
    pub(in crate::engine) fn handle_unpopulated(&self, stretch: u64) {
        self.handle_left(stretch);
    }

    /// It may be read in again: not before, or what has just come in would leave.
    pub(in crate::engine) fn handle_left(&self, stretch: u64) {
        if let Some(at) = self.stretch(stretch) {
            at.store(NEVER, Ordering::Release);
        }
    }
}

/// Milliseconds last for 49 days; after that every stretch counts as old.
fn pack(now: Moment) -> u64 {
    let ms = u32::try_from(now.time.as_millis()).unwrap_or(u32::MAX - 2) + 1;
    u64::from(ms) << 32 | u64::from(now.read_in)
}

fn low(packed: u64) -> u32 {
    u32::try_from(packed & u64::from(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(time: Duration, read_in: u32) -> Moment {
        Moment { time, read_in }
    }

    #[test]
    fn each_step_is_handed_out_once_and_then_the_block_is_ready() {
        let geometry = Geometry::new(3 << 20, [(6 << 20) + 5]).unwrap();
        let serving = Serving::new(&geometry, &Bitfield::new(3), 10);
        let block = geometry.span(0, (1 << 20) - 8192, 16384).unwrap();
        let now = at(Duration::from_secs(100), u32::MAX);
        assert_eq!(serving.poll(block, now), Readiness::Verify(block.piece));
        assert_eq!(serving.poll(block, now), Readiness::Wait);
        serving.handle_unhashed(block.piece);
        assert_eq!(serving.poll(block, now), Readiness::Verify(block.piece), "again, since nothing came of it");
        serving.handle_verified(block.piece);
        serving.handle_unhashed(block.piece);
        assert_eq!(serving.poll(block, now), Readiness::Populate(0));
        serving.handle_unpopulated(0);
        assert_eq!(serving.poll(block, now), Readiness::Populate(0));
        assert_eq!(serving.poll(block, now), Readiness::Wait);
        assert!(!serving.begin_leave(0), "it is being read in");
        serving.handle_populated(0, now);
        assert_eq!(serving.poll(block, now), Readiness::Populate(1), "the block straddles two stretches");
        serving.handle_populated(1, now);
        assert_eq!(serving.poll(block, now), Readiness::Ready);
        assert!(serving.is_ready(block, now));
        serving.handle_evicted(0);
        assert_eq!(serving.poll(block, now), Readiness::Populate(0));
        serving.handle_evicted(0);
        assert_eq!(serving.poll(block, now), Readiness::Wait);
        serving.handle_populated(0, now);
        assert!(serving.begin_leave(1) && !serving.begin_leave(1) && !serving.is_ready(block, now));
        assert_eq!(serving.poll(block, now), Readiness::Wait);
        serving.handle_left(1);
        assert_eq!(serving.poll(block, now), Readiness::Populate(1));
        assert!(serving.handle_unservable(block.piece) && !serving.handle_unservable(block.piece));
        assert_eq!(serving.poll(block, now), Readiness::Unservable);
    }

    #[test]
    fn what_was_read_in_is_believed_for_a_while_and_while_little_follows() {
        let geometry = Geometry::new(1 << 20, [1 << 20]).unwrap();
        let block = geometry.span(0, 0, 16384).unwrap();
        let serving = Serving::new(&geometry, &Bitfield::full(1), 10);
        let start = Duration::from_secs(1);
        serving.handle_populated(0, at(start, u32::MAX - 1));
        let later = start + limits::RESIDENT_MIN;
        assert!(serving.is_ready(block, at(later, 7)));
        assert!(!serving.is_ready(block, at(later, 8)), "ten others came since");
        assert!(serving.is_ready(block, at(start, 8)), "but it has only just come");
        assert!(!serving.is_ready(block, at(start + limits::RESIDENT_MAX, u32::MAX - 1)));
    }
}
