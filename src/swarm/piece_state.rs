//! The state of one piece, and the steps that it may take.
//!
//! ```text
//!              open                 share
//!   Missing ─────────▶ Open ◀─────────────────▶ Shared
//!      ▲                │       all claimed        │
//!      │  hash failed   │                          │
//!      ├────────────────┴────────────┬─────────────┘
//!      │                             │ verified and written
//!      │  lost                       ▼
//!      └───────────────────────── Have │ PartlyWritten
//! ```
//!
//! `NotWanted` pieces stay so; a piece that we have and do not want becomes `NotWanted` when it is lost.

use std::sync::atomic::{AtomicU8, Ordering};

/// The state of one piece. The module head shows the steps between states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum PieceState {
    /// Wanted, and no connection has opened it.
    Missing = 0,
    /// Being received; every block is claimed.
    Open = 1,
    /// On disk and verified.
    Have = 2,
    /// Being received; blocks may be unclaimed.
    Shared = 3,
    /// Not selected.
    NotWanted = 4,
    /// A boundary piece of a partial selection: the selected part is written, the piece is not announced.
    PartlyWritten = 5,
}

impl PieceState {
    /// Wanted, and neither on disk nor partly written.
    pub(super) fn is_lacking(self) -> bool {
        matches!(self, Self::Missing | Self::Open | Self::Shared)
    }
}

/// A [`PieceState`] that threads share.
#[derive(Debug)]
pub(super) struct AtomicPieceState(AtomicU8);

impl AtomicPieceState {
    pub(super) fn new(state: PieceState) -> Self {
        Self(AtomicU8::new(state as u8))
    }

    pub(super) fn get(&self) -> PieceState {
        match self.0.load(Ordering::Acquire) {
            0 => PieceState::Missing,
            1 => PieceState::Open,
            2 => PieceState::Have,
            3 => PieceState::Shared,
            4 => PieceState::NotWanted,
            _ => PieceState::PartlyWritten,
        }
    }

    /// A connection begins to receive the piece. Returns false if another one was faster.
    pub(super) fn open(&self) -> bool {
        self.shift(PieceState::Missing, PieceState::Open)
    }

    /// Blocks of the open piece may be unclaimed. Returns false if that was known.
    pub(super) fn share(&self) -> bool {
        self.shift(PieceState::Open, PieceState::Shared)
    }

    /// All blocks of the open piece were found claimed. Returns false if the piece was not shared.
    pub(super) fn end_sharing(&self) -> bool {
        self.shift(PieceState::Shared, PieceState::Open)
    }

    /// The received piece failed its hash.
    pub(super) fn fail(&self) {
        self.0.store(PieceState::Missing as u8, Ordering::Release);
    }

    /// The received piece was verified and written.
    pub(super) fn finish(&self, finished: PieceState) {
        debug_assert!(matches!(finished, PieceState::Have | PieceState::PartlyWritten));
        self.0.store(finished as u8, Ordering::Release);
    }

    /// The piece on disk turned out to be wrong or unreadable. Returns false if we did not have it.
    pub(super) fn lose(&self, is_wanted: bool) -> bool {
        self.shift(PieceState::Have, if is_wanted { PieceState::Missing } else { PieceState::NotWanted })
    }

    fn shift(&self, from: PieceState, to: PieceState) -> bool {
        self.0.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::PieceState::{Have, Missing, NotWanted, Open, PartlyWritten, Shared};
    use super::*;

    #[test]
    fn each_state_survives_its_integer() {
        for state in [Missing, Open, Have, Shared, NotWanted, PartlyWritten] {
            assert_eq!(AtomicPieceState::new(state).get(), state);
            assert_eq!(state.is_lacking(), matches!(state, Missing | Open | Shared));
        }
    }

    #[test]
    fn steps_are_taken_from_their_states_alone() {
        let state = AtomicPieceState::new(Missing);
        assert!(!state.share() && !state.lose(true) && state.open() && !state.open());
        assert!(state.share() && state.get() == Shared && state.end_sharing() && !state.end_sharing());
        state.finish(Have);
        assert!(!state.open() && state.lose(true) && state.get() == Missing);
        let unwanted = AtomicPieceState::new(Have);
        assert!(unwanted.lose(false) && unwanted.get() == NotWanted && !unwanted.open());
    }
}
