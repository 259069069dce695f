//! Super-seeding (BEP 16): an origin with a slow uplink hides its pieces and announces one or two to each peer, the
//! next ones when those were seen on other peers.
//!
//! Owns what one connection has been shown. [`super::initial_seeding`] chooses the pieces. No peer waits for ever: a
//! peer without rivals is shown more pieces as it proceeds; a piece that no other peer announces for a while counts as
//! seen, unless the peer waits for us to send it; some time after the first copy is out every piece is shown.

use super::open_piece::PieceMemory;
use super::shared::Swarm;
use crate::base::{Bitfield, PieceIndex, Time, limits};
use crate::peer::Connection;

/// The pieces that a peer has been shown.
#[derive(Debug)]
pub(super) struct SuperSeeding {
    shown: Bitfield,
    /// Shown pieces that were not seen on other peers yet.
    pending: Vec<Pending>,
    /// When to check the pending pieces again.
    check_at: Time,
}

/// Whether the peer has been shown all our pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shown {
    InPart,
    All,
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
        Self { shown: Bitfield::new(piece_count), pending: Vec::new(), check_at: now }
    }

    pub(super) fn poll_timeout(&self) -> Time {
        self.check_at
    }

    pub(super) fn has_shown(&self, piece: PieceIndex) -> bool {
        self.shown.contains(piece)
    }

    /// The peer leaves: other peers may be shown its pending pieces.
    pub(super) fn into_pending(self) -> impl Iterator<Item = PieceIndex> {
        self.pending.into_iter().map(|pending| pending.piece)
    }

    /// Shows the pieces that are due. `is_interested`: the peer wants pieces that it can be sent.
    pub(super) fn show<S: PieceMemory>(
        &mut self,
        now: Time,
        swarm: &Swarm<S>,
        connection: &mut Connection,
        is_interested: bool,
    ) -> Shown {
        connection.flush_haves();
        self.check_at = now + limits::SUPER_SEED_CHECK_INTERVAL;
        if !swarm.initial_seeding.is_super_seeding(now) {
            return self.show_all(swarm, connection);
        }
        let alone = swarm.interested.get() <= 1;
        let have = connection.peer_have();
        // A long piece takes time on a slow uplink: while the delay is ours, no other peer should fetch the piece.
        let waits = is_interested && (connection.am_choking() || connection.queued().next().is_some());
        self.pending.retain_mut(|Pending { piece, shown_at, awaited_at }| {
            let own = have.contains(*piece);
            let elsewhere = swarm.availability.of(*piece) > u32::from(own);
            if waits
                && !own
                && now >= *awaited_at + limits::SUGGEST_AGAIN / 2
                && now < *shown_at + limits::SUPER_SEED_HELD_MAX
            {
                *awaited_at = now;
                swarm.initial_seeding.defer(*piece, now);
            }
            !(elsewhere || (own && alone) || now >= *awaited_at + limits::SUGGEST_AGAIN)
        });
        while self.pending.len() < limits::SUPER_SEED_PENDING
            && let Some(piece) = swarm.initial_seeding.next(now, &swarm.availability)
        {
            // The peer may still request a piece that it was shown before: other pieces are due.
            if self.shown.insert(piece) {
                connection.have(piece);
                self.pending.push(Pending { piece, shown_at: now, awaited_at: now });
            }
        }
        Shown::InPart
    }

    fn show_all<S: PieceMemory>(&mut self, swarm: &Swarm<S>, connection: &mut Connection) -> Shown {
        for piece in swarm.geometry.pieces() {
            if connection.is_backlogged() {
                return Shown::InPart;
            }
            if self.shown.insert(piece) {
                connection.have(piece);
            }
        }
        Shown::All
    }
}
