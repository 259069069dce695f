//! Initial seeding: an origin suggests distinct pieces to distinct peers until each piece has been seen on another
//! peer.
//!
//! Owns which piece is suggested (BEP 6) next. Hides and refuses nothing: a peer that does not support suggestions, or
//! requests other pieces, is served like any other.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::availability::Availability;
use crate::base::lock::lock;
use crate::base::{Geometry, PieceIndex, Rng, Time, limits};

/// Chooses the pieces that an origin suggests, distinct ones to distinct peers. Locked once per piece.
#[derive(Debug)]
pub(super) struct InitialSeeding {
    /// Some pieces have not been seen on another peer.
    active: AtomicBool,
    /// Our pieces are announced one by one (BEP 16).
    super_seeding: AtomicBool,
    /// When the last piece was seen on another peer, in milliseconds.
    ended_ms: AtomicU64,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Not suggested yet, in random order; the last one is next.
    unsuggested: Vec<PieceIndex>,
    /// Suggested at this time and not seen on a peer yet, oldest first.
    suggested: VecDeque<(PieceIndex, Time)>,
}

impl InitialSeeding {
    /// `origin`: we have every piece from the start.
    pub(super) fn new(geometry: &Geometry, origin: bool, rng: &mut Rng) -> Self {
        let mut unsuggested: Vec<PieceIndex> = if origin { geometry.pieces().collect() } else { Vec::new() };
        rng.shuffle(&mut unsuggested);
        let active = AtomicBool::new(!unsuggested.is_empty());
        let (super_seeding, ended_ms) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { active, super_seeding, ended_ms, queue: Mutex::new(Queue { unsuggested, suggested: VecDeque::new() }) }
    }

    pub(super) fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    /// Turns super-seeding (BEP 16) on.
    pub(super) fn start_super_seeding(&self) {
        self.super_seeding.store(true, Ordering::Relaxed);
    }

    /// Whether a peer may be shown only the pieces meant for it: super-seeding is on, and the first copy is not out or
    /// was only a short time ago.
    pub(super) fn is_super_seeding(&self, now: Time) -> bool {
        let ended = Time::from_millis(self.ended_ms.load(Ordering::Relaxed));
        self.super_seeding.load(Ordering::Relaxed) && (self.is_active() || now < ended + limits::SUPER_SEED_GRACE)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// The next piece to suggest: one that no connected peer has and that was not suggested within
    /// [`limits::SUGGEST_AGAIN`].
    pub(super) fn next(&self, now: Time, availability: &Availability) -> Option<PieceIndex> {
        let is_seen = |piece| availability.of(piece) > 0;
        let mut queue = self.lock();
        let mut next = None;
        while next.is_none()
            && let Some(piece) = queue.unsuggested.pop()
        {
            next = (!is_seen(piece)).then_some(piece);
        }
        while next.is_none()
            && let Some(&(piece, at)) = queue.suggested.front()
            && (is_seen(piece) || now >= at + limits::SUGGEST_AGAIN)
        {
            queue.suggested.pop_front();
            next = (!is_seen(piece)).then_some(piece);
        }
        match next {
            Some(piece) => queue.suggested.push_back((piece, now)),
            None if queue.suggested.is_empty() && self.active.swap(false, Ordering::Relaxed) => {
                self.ended_ms.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
            None => {}
        }
        next
    }

    /// The piece is still on its way to the peer to which it was suggested.
    pub(super) fn defer(&self, piece: PieceIndex, now: Time) {
        let mut queue = self.lock();
        if let Some(at) = queue.suggested.iter().position(|&(suggested, _)| suggested == piece) {
            queue.suggested.remove(at);
            queue.suggested.push_back((piece, now));
        }
    }

    /// These pieces were suggested to a peer that will not request them.
    pub(super) fn give_back(&self, pieces: impl IntoIterator<Item = PieceIndex>) {
        let pieces: BTreeSet<PieceIndex> = pieces.into_iter().collect();
        let mut queue = self.lock();
        queue.suggested.retain(|(suggested, _)| !pieces.contains(suggested));
        queue.unsuggested.extend(pieces);
        if !queue.unsuggested.is_empty() {
            self.active.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_secs(100);

    fn all(seeding: &InitialSeeding, now: Time, availability: &Availability) -> Vec<u32> {
        let mut pieces: Vec<u32> =
            std::iter::from_fn(|| seeding.next(now, availability)).map(PieceIndex::get).collect();
        pieces.sort_unstable();
        pieces
    }

    #[test]
    fn each_piece_is_suggested_once_until_it_is_overdue() {
        let geometry = Geometry::new(1, [5]).unwrap();
        let availability = Availability::new(5);
        let seeding = InitialSeeding::new(&geometry, true, &mut Rng::with_seed(1));
        availability.add(geometry.piece(3).unwrap());
        assert_eq!(all(&seeding, START, &availability), [0, 1, 2, 4]);
        seeding.give_back(geometry.piece(2));
        assert_eq!(all(&seeding, START, &availability), [2]);
        availability.add(geometry.piece(0).unwrap());
        assert_eq!(all(&seeding, START + limits::SUGGEST_AGAIN, &availability), [1, 2, 4]);
        assert!(seeding.is_active());
        geometry.pieces().for_each(|piece| availability.add(piece));
        assert!(all(&seeding, START + limits::SUGGEST_AGAIN, &availability).is_empty());
        assert!(!seeding.is_active());
    }

    #[test]
    fn a_torrent_with_missing_pieces_suggests_none() {
        let geometry = Geometry::new(1, [5]).unwrap();
        let seeding = InitialSeeding::new(&geometry, false, &mut Rng::with_seed(1));
        assert!(!seeding.is_active() && seeding.next(START, &Availability::new(5)).is_none());
    }
}
