//! What all connections of a torrent share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::availability::{Availability, Unavailable};
use super::gauge::Gauge;
use super::initial_seeding::InitialSeeding;
use super::order::Order;
use super::peer_shared::PeerShared;
use super::pieces::{PieceMemory, Pieces};
use super::selection::Selection;
use crate::base::{Bitfield, Geometry, Rng, limits};

/// One torrent's transfer, shared by every thread.
#[derive(Debug)]
pub struct Swarm<S: PieceMemory> {
    pub geometry: Arc<Geometry>,
    pub pieces: Pieces<S>,
    pub availability: Availability,
    pub order: Order,
    /// What chance a connection draws from, with its key: no two downloads draw the same.
    pub(super) salt: u64,
    /// Who of the leechers gets the first copy of which piece from us.
    pub(super) initial_seeding: InitialSeeding,
    /// Peers that are interested and read.
    pub(super) interested: Gauge,
    /// Of them, those that are unchoked and make use of it.
    pub(super) served: Gauge,
    /// Peers that owe us blocks.
    pub(super) asked: Gauge,
    /// Of them, those that are proven.
    pub(super) proven_asked: Gauge,
    /// Proven peers that send the blocks that they are asked for.
    pub(super) proven_giving: Gauge,
    pub totals: Totals,
}

/// Payload bytes since the start.
#[derive(Debug, Default)]
pub struct Totals {
    pub uploaded: AtomicU64,
    pub downloaded: AtomicU64,
    /// Blocks that came twice, or too late.
    pub wasted: AtomicU64,
    /// Pieces whose hash was wrong.
    pub corrupt: AtomicU64,
}

impl<S: PieceMemory> Swarm<S> {
    /// `have` is what is on disk and verified; `buffers` is memory for pieces being received.
    pub fn new(geometry: Arc<Geometry>, have: &Bitfield, buffers: Vec<S>, rng: &mut Rng) -> Self {
        Self::with_selection(geometry, have, None, buffers, rng)
    }

    /// The same for a part of the pieces, unless that is `None`.
    pub fn with_selection(
        geometry: Arc<Geometry>,
        have: &Bitfield,
        selection: Option<Selection>,
        buffers: Vec<S>,
        rng: &mut Rng,
    ) -> Self {
        let priorities = selection.as_ref().map(Selection::priorities);
        let swarm = Self {
            pieces: Pieces::new(geometry.clone(), have, selection, buffers),
            availability: Availability::new(geometry.piece_count()),
            order: Order::new(),
            initial_seeding: InitialSeeding::new(&geometry, have.is_full(), rng),
            salt: rng.u64(..),
            interested: Gauge::default(),
            served: Gauge::default(),
            asked: Gauge::default(),
            proven_asked: Gauge::default(),
            proven_giving: Gauge::default(),
            totals: Totals::default(),
            geometry,
        };
        priorities.into_iter().for_each(|priorities| swarm.order.set_priorities(priorities));
        swarm.reorder(rng);
        swarm
    }

    /// An origin shows what it has piece by piece (BEP 16), until others have all of it.
    pub fn hide(&self) {
        self.initial_seeding.hide();
    }

    /// The wanted pieces that are not on disk, where no connected peer has any of them; else `None`.
    pub fn unavailable(&self) -> Option<Unavailable> {
        let mut found = Unavailable::default();
        for piece in self.geometry.pieces().filter(|&piece| self.pieces.is_lacking(piece)) {
            if self.availability.of(piece) > 0 {
                return None;
            }
            found.add(piece.get());
        }
        (found.count > 0).then_some(found)
    }

    /// Useful connections at which a download with these peers stops looking for others.
    pub(super) fn connections_sought(&self, peers: &[Arc<PeerShared>]) -> usize {
        // Everybody who was asked lied: an honest one is sooner found among many.
        let is_proven = |peer: &Arc<PeerShared>| peer.is_proven();
        if self.totals.corrupt.load(Ordering::Relaxed) > 0 && !peers.iter().any(is_proven) {
            return limits::CONNECTIONS_SOUGHT_UNPROVEN;
        }
        let piece_count = self.geometry.piece_count();
        let ahead_at = self.pieces.have_count() + piece_count / limits::BEHIND_SHARE;
        let (mut leechers, mut ahead) = (0, 0);
        for have_count in peers.iter().map(|peer| peer.have_count()).filter(|&n| n < piece_count) {
            leechers += 1;
            ahead += usize::from(have_count > ahead_at);
        }
        if 2 * ahead > leechers { limits::CONNECTIONS_LEECHING_MAX } else { limits::CONNECTIONS_SOUGHT }
    }

    /// Makes the order of missing pieces anew.
    pub fn reorder(&self, rng: &mut Rng) {
        self.order.rebuild(&self.pieces, &self.availability, rng);
    }

    /// Makes the order anew if availability changed or a piece was lost since the last time, and something is missing.
    pub fn reorder_if_changed(&self, rng: &mut Rng) {
        if (self.availability.take_changed() | self.pieces.take_lost()) && !self.pieces.is_complete() {
            self.reorder(rng);
        }
    }
}
