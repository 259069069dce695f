//! Which pieces may be sent: verified, and resident so that no ring thread waits for a disk.
//!
//! Only states are kept here. The connection starts the work that changes one (`ring::connection`).

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::base::limits::EXTENT_LEN;
use crate::base::{Bitfield, BlockRef, Geometry, PieceIndex, Time, limits};

/// The time, in milliseconds and in populated extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct ResidencyClock {
    /// Stops at its maximum after 49 days. Extents populated from then on count as resident until they are evicted.
    ms: u32,
    /// Extents populated so far, wrapping.
    populated_count: u32,
}

impl ResidencyClock {
    const MS_MAX: u32 = u32::MAX - 2;

    pub(in crate::engine) fn new(time: Time, populated_count: u32) -> Self {
        Self { ms: u32::try_from(time.as_millis()).unwrap_or(Self::MS_MAX).min(Self::MS_MAX), populated_count }
    }
}

/// The next step for a block that is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) enum Readiness {
    Ready,
    /// The caller must hash this piece and report the result.
    Verify(PieceIndex),
    /// The caller must populate this extent of the content and report it.
    Populate(u64),
    /// Another task prepares it.
    Wait,
    /// The block can never be sent.
    Unservable,
}

/// The next step for a piece that is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) enum Verification {
    Done,
    /// The caller must hash the piece and report the result.
    Begun,
    /// Another thread hashes it.
    UnderWay,
    /// The piece is wrong or missing on disk.
    Failed,
}

/// How far a piece on disk is verified.
///
/// ```text
///   Unverified ──begin──▶ Verifying ──verify──▶ Verified ──change──▶ Unverified
///        ▲                    │                     │
///        └──────give up───────┴──────▶ Unservable ◀─┘
/// ```
///
/// A received piece becomes `Verified` from any state, and a piece that turns out to be missing or wrong `Unservable`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum VerifyState {
    Unverified,
    Verifying,
    Verified,
    Unservable,
}

/// A [`VerifyState`] that threads share.
#[derive(Debug)]
struct AtomicVerifyState(AtomicU8);

impl AtomicVerifyState {
    fn new(state: VerifyState) -> Self {
        Self(AtomicU8::new(state as u8))
    }

    fn get(&self) -> VerifyState {
        match self.0.load(Ordering::Acquire) {
            0 => VerifyState::Unverified,
            1 => VerifyState::Verifying,
            2 => VerifyState::Verified,
            _ => VerifyState::Unservable,
        }
    }

    /// Returns false if another thread has begun.
    fn begin(&self) -> bool {
        self.shift(VerifyState::Unverified, VerifyState::Verifying)
    }

    fn verify(&self) {
        self.0.store(VerifyState::Verified as u8, Ordering::Release);
    }

    /// The piece could not be hashed. Does nothing if the piece is known to be unservable.
    fn give_up(&self) {
        self.shift(VerifyState::Verifying, VerifyState::Unverified);
    }

    /// The file has changed. Does nothing if the piece is not verified.
    fn change(&self) {
        self.shift(VerifyState::Verified, VerifyState::Unverified);
    }

    /// Returns false if the piece was known to be unservable.
    fn fail(&self) -> bool {
        let unservable = VerifyState::Unservable as u8;
        self.0.swap(unservable, Ordering::AcqRel) != unservable
    }

    fn shift(&self, from: VerifyState, to: VerifyState) -> bool {
        self.0.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Whether an extent of the content is in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Residency {
    Absent,
    Populating,
    Leaving,
    /// Populated at this time.
    Resident {
        ms: u32,
        populated_count: u32,
    },
}

impl Residency {
    const POPULATING: u64 = u64::MAX;
    const LEAVING: u64 = u64::MAX - 1;

    fn since(now: ResidencyClock) -> Self {
        Self::Resident { ms: now.ms, populated_count: now.populated_count }
    }

    /// `Absent` is 0, so that a new table needs no memory of its own until it is used.
    fn encode(self) -> u64 {
        match self {
            Self::Absent => 0,
            Self::Populating => Self::POPULATING,
            Self::Leaving => Self::LEAVING,
            Self::Resident { ms, populated_count } => (u64::from(ms) + 1) << 32 | u64::from(populated_count),
        }
    }

    fn decode(value: u64) -> Self {
        match value {
            0 => Self::Absent,
            Self::POPULATING => Self::Populating,
            Self::LEAVING => Self::Leaving,
            _ => Self::Resident {
                ms: u32::try_from((value >> 32) - 1).unwrap_or(u32::MAX),
                populated_count: u32::try_from(value & u64::from(u32::MAX)).unwrap_or(u32::MAX),
            },
        }
    }
}

/// A [`Residency`] that threads share.
#[derive(Debug)]
struct AtomicResidency(AtomicU64);

impl AtomicResidency {
    fn new() -> Self {
        Self(AtomicU64::new(Residency::Absent.encode()))
    }

    fn get(&self) -> Residency {
        Residency::decode(self.0.load(Ordering::Acquire))
    }

    fn set(&self, residency: Residency) {
        self.0.store(residency.encode(), Ordering::Release);
    }

    /// Returns false if another task populates the extent or drops it, or was faster.
    fn try_set(&self, next: Residency) -> bool {
        let seen = self.get();
        !matches!(seen, Residency::Populating | Residency::Leaving)
            && self.0.compare_exchange(seen.encode(), next.encode(), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Records which pieces of a torrent are verified, and which extents of its content are resident.
#[derive(Debug)]
pub(in crate::engine) struct ReadinessTable {
    pieces: Box<[AtomicVerifyState]>,
    extents: Box<[AtomicResidency]>,
    /// The number of extents that may be populated before an earlier one counts as reclaimed.
    trusted: u32,
    piece_len: u64,
}

impl ReadinessTable {
    /// `verified` pieces are served without being hashed; `trusted` is
    /// [`crate::engine::shared::page_cache::PageCache`]'s.
    pub(in crate::engine) fn new(geometry: &Geometry, verified: &Bitfield, trusted: u32) -> Self {
        let state = |piece| if verified.contains(piece) { VerifyState::Verified } else { VerifyState::Unverified };
        let extents = 0..geometry.total_len().div_ceil(EXTENT_LEN);
        Self {
            pieces: geometry.pieces().map(|piece| AtomicVerifyState::new(state(piece))).collect(),
            extents: extents.map(|_| AtomicResidency::new()).collect(),
            trusted,
            piece_len: u64::from(geometry.piece_len()),
        }
    }

    fn piece(&self, piece: PieceIndex) -> Option<&AtomicVerifyState> {
        self.pieces.get(piece.at())
    }

    fn extent(&self, extent: u64) -> Option<&AtomicResidency> {
        self.extents.get(usize::try_from(extent).ok()?)
    }

    fn extents_of(&self, block: BlockRef) -> RangeInclusive<u64> {
        let start = u64::from(block.piece.get()) * self.piece_len + u64::from(block.begin);
        start / EXTENT_LEN..=(start + u64::from(block.len) - 1) / EXTENT_LEN
    }

    /// The block can be read without waiting.
    pub(in crate::engine) fn is_ready(&self, block: BlockRef, now: ResidencyClock) -> bool {
        self.is_verified(block.piece) && self.extents_of(block).all(|extent| self.is_resident(extent, now))
    }

    fn is_resident(&self, extent: u64, now: ResidencyClock) -> bool {
        let Some(Residency::Resident { ms, populated_count }) = self.extent(extent).map(AtomicResidency::get) else {
            return false;
        };
        let age_ms = u128::from(now.ms.saturating_sub(ms));
        let populated_since = now.populated_count.wrapping_sub(populated_count);
        // An extent that was just populated is sent, however many follow it: otherwise a crowd of readers would only
        // populate.
        age_ms < limits::RESIDENT_MIN.as_millis()
            || (age_ms < limits::RESIDENT_MAX.as_millis() && populated_since < self.trusted)
    }

    /// The first extent of a verified block that does not count as resident, and that no task populates or drops.
    pub(in crate::engine) fn absent_extent(&self, block: BlockRef, now: ResidencyClock) -> Option<u64> {
        let is_idle = |extent: u64| {
            let residency = self.extent(extent).map(AtomicResidency::get);
            residency.is_some_and(|residency| !matches!(residency, Residency::Populating | Residency::Leaving))
        };
        let absent = self.extents_of(block).find(|&extent| !self.is_resident(extent, now))?;
        (self.is_verified(block.piece) && is_idle(absent)).then_some(absent)
    }

    /// An extent was found in memory. Returns false if a task populates or drops it, or another caller was faster.
    pub(in crate::engine) fn handle_found(&self, extent: u64, now: ResidencyClock) -> bool {
        self.extent(extent).is_some_and(|residency| residency.try_set(Residency::since(now)))
    }

    /// The next step for a block. Each task is handed out once.
    pub(in crate::engine) fn poll(&self, block: BlockRef, now: ResidencyClock) -> Readiness {
        match self.poll_verified(block.piece) {
            Verification::Done => {}
            Verification::Begun => return Readiness::Verify(block.piece),
            Verification::UnderWay => return Readiness::Wait,
            Verification::Failed => return Readiness::Unservable,
        }
        let Some(index) = self.extents_of(block).find(|&extent| !self.is_resident(extent, now)) else {
            return Readiness::Ready;
        };
        let Some(extent) = self.extent(index) else { return Readiness::Unservable };
        if extent.try_set(Residency::Populating) { Readiness::Populate(index) } else { Readiness::Wait }
    }

    /// The next step for a piece. Its verification is handed out once.
    pub(in crate::engine) fn poll_verified(&self, piece: PieceIndex) -> Verification {
        let Some(state) = self.piece(piece) else { return Verification::Failed };
        match state.get() {
            VerifyState::Verified => Verification::Done,
            VerifyState::Unservable => Verification::Failed,
            VerifyState::Unverified if state.begin() => Verification::Begun,
            VerifyState::Unverified | VerifyState::Verifying => Verification::UnderWay,
        }
    }

    pub(in crate::engine) fn handle_verified(&self, piece: PieceIndex) {
        if let Some(state) = self.piece(piece) {
            state.verify();
        }
    }

    /// The piece could not be hashed, for a reason other than its content: it may be tried again.
    pub(in crate::engine) fn handle_unhashed(&self, piece: PieceIndex) {
        if let Some(state) = self.piece(piece) {
            state.give_up();
        }
    }

    /// Returns false if the piece was known to be unservable.
    pub(in crate::engine) fn handle_unservable(&self, piece: PieceIndex) -> bool {
        self.piece(piece).is_some_and(AtomicVerifyState::fail)
    }

    /// A file of the piece has changed: the piece is hashed again before it is served.
    pub(in crate::engine) fn handle_changed(&self, piece: PieceIndex) {
        if let Some(state) = self.piece(piece) {
            state.change();
        }
    }

    pub(in crate::engine) fn is_verified(&self, piece: PieceIndex) -> bool {
        self.piece(piece).is_some_and(|state| state.get() == VerifyState::Verified)
    }

    /// The readable part of an extent is in memory.
    pub(in crate::engine) fn handle_populated(&self, extent: u64, now: ResidencyClock) {
        if let Some(residency) = self.extent(extent) {
            residency.set(Residency::since(now));
        }
    }

    /// An extent that counted as resident is not. Does nothing if a task populates or drops it.
    pub(in crate::engine) fn handle_evicted(&self, extent: u64) {
        if let Some(residency) = self.extent(extent) {
            residency.try_set(Residency::Absent);
        }
    }

    /// An extent is about to be dropped from memory: [`Self::handle_left`] follows. Returns false if a task populates
    /// or drops it.
    pub(in crate::engine) fn begin_leave(&self, extent: u64) -> bool {
        self.extent(extent).is_some_and(|residency| residency.try_set(Residency::Leaving))
    }

    /// An extent could not be populated, for a reason other than its content.
    pub(in crate::engine) fn handle_unpopulated(&self, extent: u64) {
        self.handle_left(extent);
    }

    /// An extent was dropped from memory. It is populated again only from here on: earlier, the drop would undo it.
    pub(in crate::engine) fn handle_left(&self, extent: u64) {
        if let Some(residency) = self.extent(extent) {
            residency.set(Residency::Absent);
        }
    }
}

#[cfg(test)]
#[path = "readiness_tests.rs"]
mod tests;
