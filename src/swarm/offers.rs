//! Suggestions (BEP 6) from an origin to one of its peers, so that its peers fetch different pieces.

use super::gauge::Membership;
use super::open_piece::PieceMemory;
use super::peer_shared::PeerShared;
use super::shared::Swarm;
use crate::base::geometry::BLOCK_LEN;
use crate::base::{PieceIndex, Time, limits};
use crate::peer::Connection;

/// Suggests pieces (BEP 6) to one peer of an origin.
#[derive(Debug)]
pub(super) struct Offers {
    /// Pieces suggested to the peer that it has not requested yet.
    pieces: Vec<PieceIndex>,
    /// The number of suggested pieces that the peer should have.
    target: usize,
    /// When the peer last requested a block, or was unchoked.
    last_request: Time,
    /// While the peer makes use of its upload slot.
    served: Option<Membership>,
}

impl Offers {
    pub(super) fn new(now: Time) -> Self {
        Self { pieces: Vec::new(), target: limits::SUGGESTED_START, last_request: now, served: None }
    }

    #[cfg(test)]
    pub(super) fn pieces(&self) -> &[PieceIndex] {
        &self.pieces
    }

    /// The peer requested a block, or is about to be unchoked.
    pub(super) fn handle_active(&mut self, now: Time) {
        self.last_request = now;
    }

    /// Counts the peer as served while it uses its upload slot. The suggestions of a peer that does not are withdrawn.
    pub(super) fn count_served<S: PieceMemory>(
        &mut self,
        now: Time,
        swarm: &Swarm<S>,
        connection: &Connection,
        peer: &PeerShared,
    ) {
        let is_idle = connection.queued().next().is_none() && now >= self.last_request + limits::SLOT_UNUSED_NOTICE;
        let is_served = peer.wants_blocks() && peer.is_unchoked() && !is_idle;
        if swarm.served.set(&mut self.served, is_served) && !is_served {
            self.withdraw(swarm);
        }
    }

    /// While several peers are served, suggests pieces that no other peer has.
    pub(super) fn suggest<S: PieceMemory>(&mut self, now: Time, swarm: &Swarm<S>, connection: &mut Connection) {
        let several = swarm.served.get() > 1;
        if !several || self.served.is_none() || !connection.is_fast() || connection.is_backlogged() {
            return;
        }
        let have = connection.peer_have();
        self.pieces.retain(|&piece| !have.contains(piece));
        // Pieces that the peer has requested count too: no other peer is served these.
        let blocks_per_piece = (swarm.geometry.piece_len().div_ceil(BLOCK_LEN) as usize).max(1);
        let queued = connection.queued_count() / blocks_per_piece;
        while self.pieces.len() + queued < self.target
            && let Some(piece) = swarm.initial_seeding.next(now, &swarm.availability)
        {
            connection.suggest(piece);
            self.pieces.push(piece);
        }
    }

    /// The peer requests a block of this piece.
    pub(super) fn handle_requested(&mut self, piece: PieceIndex, connection: &Connection) {
        if let Some(at) = self.pieces.iter().position(|&offered| offered == piece) {
            self.pieces.swap_remove(at);
            let is_idle = self.pieces.is_empty() && connection.queued().next().is_none();
            if is_idle {
                // The peer may have waited for this suggestion: the next ones come earlier.
                self.target = (2 * self.target).min(limits::SUGGESTED_MAX);
            }
        }
    }

    /// The pieces may be suggested to other peers.
    pub(super) fn withdraw<S: PieceMemory>(&mut self, swarm: &Swarm<S>) {
        if !self.pieces.is_empty() {
            swarm.initial_seeding.give_back(self.pieces.drain(..));
        }
    }
}
