//! The order in which missing pieces are opened: a snapshot, made anew off the hot path.

use std::sync::{Arc, PoisonError, RwLock};

use super::availability::Availability;
use super::pieces::{Pieces, Slot};
use crate::base::{Rng, limits};

/// Missing pieces, next first. Connections walk it with a place of their own.
#[derive(Debug)]
pub struct Order {
    current: RwLock<Arc<Snapshot>>,
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
        Self { current: RwLock::default() }
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sorts what is missing by rarity, equals at random; the first few pieces of a download purely at random, so that a
    /// newcomer soon has something to give.
    pub(super) fn rebuild<S: Slot>(&self, pieces: &Pieces<S>, availability: &Availability, rng: &mut Rng) {
        let mut missing: Vec<_> = pieces.missing().collect();
        rng.shuffle(&mut missing);
        if pieces.have_count() >= limits::RANDOM_FIRST_PIECES {
            missing.sort_by_cached_key(|&piece| availability.of(piece));
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let version = current.version + 1;
        *current = Arc::new(Snapshot { version, pieces: missing.iter().map(|piece| piece.get()).collect() });
    }
}
