//! Super-seeding (BEP 16): an origin with a thin uplink hides what it has and shows each peer a piece or two, the next ones when
//! those were seen elsewhere.
//!
//! Owns what one connection has been shown. Which piece is whose comes from the origin's [`super::initial_seeding`]. Nobody waits for
//! ever: who is alone is shown more as it goes, what nobody announces for a while counts as seen unless the peer waits for us to
//! send it, and some time after the first copy is out everything is shown.

use std::sync::atomic::Ordering;

use super::link::Link;
use super::pieces::Slot;
use crate::base::{Bitfield, PieceIndex, Time, limits};

/// What a peer has been shown.
#[derive(Debug)]
pub(super) struct SuperSeeding {
    shown: Bitfield,
    /// Not seen elsewhere yet.
    pending: Vec<Pending>,
    /// When to look again whether they were.
    look_at: Time,
}

/// A piece that was shown.
#[derive(Debug)]
struct Pending {
    piece: PieceIndex,
    shown_at: Time,
    /// When the peer was last seen waiting for us to send it.
    awaited_at: Time,
}

impl SuperSeeding {
    pub(super) fn new(piece_count: u32, now: Time) -> Self {
        Self { shown: Bitfield::new(piece_count), pending: Vec::new(), look_at: now }
    }

    pub(super) fn poll_timeout(&self) -> Time {
        self.look_at
    }

    pub(super) fn has_shown(&self, piece: PieceIndex) -> bool {
        self.shown.contains(piece)
    }

    /// The peer leaves: others are shown what it has not got.
    pub(super) fn into_pending(self) -> impl Iterator<Item = PieceIndex> {
        self.pending.into_iter().map(|pending| pending.piece)
    }
}

impl<S: Slot> Link<S> {
    /// Shows what is due.
    pub(super) fn show(&mut self, now: Time) {
        let Some(mut reveal) = self.reveal.take() else { return };
        self.connection.flush_haves();
        reveal.look_at = now + limits::SUPER_SEED_LOOK;
        let swarm = self.swarm.clone();
        if !swarm.spread.hides(now) {
            for piece in swarm.geometry.pieces() {
                if self.connection.is_backlogged() {
                    self.reveal = Some(reveal);
                    return;
                }
                if reveal.shown.insert(piece) {
                    self.connection.have(piece);
                }
            }
            return;
        }
        let alone = swarm.interested_count.load(Ordering::Relaxed) <= 1;
        let have = self.connection.peer_have();
        // Through a thin uplink a long piece takes its time: as long as the delay is ours, nobody else is to fetch it.
        let waits = self.counted && (self.connection.am_choking() || self.connection.queued().next().is_some());
        reveal.pending.retain_mut(|Pending { piece, shown_at, awaited_at }| {
            let own = have.contains(*piece);
            let elsewhere = swarm.availability.of(*piece) > u32::from(own);
            if waits
                && !own
                && now >= *awaited_at + limits::SUGGEST_AGAIN / 2
                && now < *shown_at + limits::SUPER_SEED_HELD_MAX
            {
                *awaited_at = now;
                swarm.spread.keep(*piece, now);
            }
            !(elsewhere || (own && alone) || now >= *awaited_at + limits::SUGGEST_AGAIN)
        });
        while reveal.pending.len() < limits::SUPER_SEED_PENDING
            && let Some(piece) = swarm.spread.next(now, &swarm.availability)
        {
            // What it was shown before it may ask for still: others are due.
            if reveal.shown.insert(piece) {
                self.connection.have(piece);
                reveal.pending.push(Pending { piece, shown_at: now, awaited_at: now });
            }
        }
        self.reveal = Some(reveal);
    }
}
