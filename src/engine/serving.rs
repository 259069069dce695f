//! Which pieces may be sent now: verified, and resident so that no ring thread waits for a disk.
//!
//! Only states are kept here. What has to be done to change one is the connection's to start (`conn`).

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use crate::base::{Bitfield, BlockRef, Geometry, PieceIndex, Time};

/// Residency is known for stretches of the content of this many bytes.
pub(super) const STRETCH_LEN: u64 = 1 << 20;
/// After this long the kernel may have taken the pages back.
const RESIDENT_S: u32 = 30;

const UNVERIFIED: u8 = 0;
const VERIFYING: u8 = 1;
const VERIFIED: u8 = 2;
const UNSERVABLE: u8 = 3;

const NEVER: u32 = 0;
const POPULATING: u32 = u32::MAX;

/// What stands between a block and the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Readiness {
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

/// See the module.
#[derive(Debug)]
pub(super) struct Serving {
    pieces: Box<[AtomicU8]>,
    /// When each stretch was last made resident, in seconds + 1.
    stretches: Box<[AtomicU32]>,
    piece_len: u64,
}

impl Serving {
    /// `trusted` pieces need no hash before they are served.
    pub(super) fn new(geometry: &Geometry, trusted: Option<&Bitfield>) -> Self {
        let state = |piece| if trusted.is_some_and(|trusted| trusted.contains(piece)) { VERIFIED } else { UNVERIFIED };
        Self {
            pieces: geometry.pieces().map(|piece| AtomicU8::new(state(piece))).collect(),
            stretches: (0..geometry.total_len().div_ceil(STRETCH_LEN)).map(|_| AtomicU32::new(NEVER)).collect(),
            piece_len: u64::from(geometry.piece_len()),
        }
    }

    fn piece(&self, piece: PieceIndex) -> Option<&AtomicU8> {
        self.pieces.get(piece.at())
    }

    fn stretch(&self, stretch: u64) -> Option<&AtomicU32> {
        self.stretches.get(usize::try_from(stretch).ok()?)
    }

    fn stretches_of(&self, block: BlockRef) -> std::ops::RangeInclusive<u64> {
        let start = u64::from(block.piece.get()) * self.piece_len + u64::from(block.begin);
        start / STRETCH_LEN..=(start + u64::from(block.len) - 1) / STRETCH_LEN
    }

    /// Whether a block can be read without waiting.
    pub(super) fn is_ready(&self, block: BlockRef, now: Time) -> bool {
        self.piece(block.piece).is_some_and(|state| state.load(Ordering::Acquire) == VERIFIED)
            && self.stretches_of(block).all(|stretch| self.is_resident(stretch, now))
    }

    fn is_resident(&self, stretch: u64, now: Time) -> bool {
        let at = self.stretch(stretch).map_or(NEVER, |at| at.load(Ordering::Acquire));
        at != NEVER && at != POPULATING && seconds(now) < at + RESIDENT_S
    }

    /// What to do next for a block; a task that is handed out is handed out once.
    pub(super) fn poll(&self, block: BlockRef, now: Time) -> Readiness {
        let Some(piece) = self.piece(block.piece) else { return Readiness::Unservable };
        match piece.load(Ordering::Acquire) {
            VERIFIED => {}
            UNSERVABLE => return Readiness::Unservable,
            VERIFYING => return Readiness::Wait,
            _ => {
                let won = piece.compare_exchange(UNVERIFIED, VERIFYING, Ordering::AcqRel, Ordering::Acquire).is_ok();
                return if won { Readiness::Verify(block.piece) } else { Readiness::Wait };
            }
        }
        let Some(index) = self.stretches_of(block).find(|&stretch| !self.is_resident(stretch, now)) else {
            return Readiness::Ready;
        };
        let Some(stretch) = self.stretch(index) else { return Readiness::Unservable };
        let seen = stretch.load(Ordering::Acquire);
        let won = seen != POPULATING
            && stretch.compare_exchange(seen, POPULATING, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if won { Readiness::Populate(index) } else { Readiness::Wait }
    }

    /// The hash of this piece was right.
    pub(super) fn handle_verified(&self, piece: PieceIndex) {
        if let Some(state) = self.piece(piece) {
            state.store(VERIFIED, Ordering::Release);
        }
    }

    /// False when that was known.
    pub(super) fn handle_unservable(&self, piece: PieceIndex) -> bool {
        self.piece(piece).is_some_and(|state| state.swap(UNSERVABLE, Ordering::AcqRel) != UNSERVABLE)
    }

    /// What can be read of a stretch is in memory.
    pub(super) fn handle_populated(&self, stretch: u64, now: Time) {
        if let Some(at) = self.stretch(stretch) {
            at.store(seconds(now), Ordering::Release);
        }
    }
}

fn seconds(now: Time) -> u32 {
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX - 1 - RESIDENT_S).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_step_is_handed_out_once_and_then_the_block_is_ready() {
        let geometry = Geometry::new(3 << 20, [(6 << 20) + 5]).unwrap();
        let serving = Serving::new(&geometry, None);
        let block = geometry.span(0, (1 << 20) - 8192, 16384).unwrap();
        let now = Duration::from_secs(100);
        assert_eq!(serving.poll(block, now), Readiness::Verify(block.piece));
        assert_eq!(serving.poll(block, now), Readiness::Wait);
        serving.handle_verified(block.piece);
        assert_eq!(serving.poll(block, now), Readiness::Populate(0));
        assert_eq!(serving.poll(block, now), Readiness::Wait);
        serving.handle_populated(0, now);
        assert_eq!(serving.poll(block, now), Readiness::Populate(1), "the block straddles two stretches");
        serving.handle_populated(1, now);
        assert_eq!(serving.poll(block, now), Readiness::Ready);
        assert!(serving.is_ready(block, now));
        assert!(!serving.is_ready(block, now + Duration::from_secs(60)), "pages may have left");
        assert!(serving.handle_unservable(block.piece) && !serving.handle_unservable(block.piece));
        assert_eq!(serving.poll(block, now), Readiness::Unservable);
    }
}
