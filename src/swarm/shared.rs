//! The state that all connections of a torrent share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::availability::{Availability, Unavailable};
use super::gauge::Gauge;
use super::initial_seeding::InitialSeeding;
use super::open_piece::PieceMemory;
use super::order::Order;
use super::peer_shared::PeerShared;
use super::pieces::Pieces;
use super::selection::Selection;
use crate::base::{Bitfield, Geometry, Rng, limits};

/// One torrent's transfer, shared by every thread.
#[derive(Debug)]
pub struct Swarm<S: PieceMemory> {
    pub geometry: Arc<Geometry>,
    pub pieces: Pieces<S>,
    pub availability: Availability,
    pub order: Order,
    /// Seeds the random choices of a connection, together with its key, so that no two downloads choose alike.
    pub(super) salt: u64,
    /// Distributes the first copy of each piece among the leechers.
    pub(super) initial_seeding: InitialSeeding,
    /// Peers that are interested and read the blocks that they request.
    pub(super) interested: Gauge,
    /// Interested peers that are unchoked and use their upload slot.
    pub(super) served: Gauge,
    /// Peers that owe us blocks.
    pub(super) asked: Gauge,
    /// Proven peers that owe us blocks.
    pub(super) proven_asked: Gauge,
    /// Proven peers that send the blocks that they are asked for.
    pub(super) proven_giving: Gauge,
    /// See [`Self::is_late`].
    late: AtomicBool,
    pub totals: Totals,
}

/// Payload bytes since the start.
#[derive(Debug, Default)]
pub struct Totals {
    pub uploaded: AtomicU64,
    pub downloaded: AtomicU64,
    /// Bytes of blocks that arrived twice or too late.
    pub wasted: AtomicU64,
    /// Bytes of pieces that failed their hash.
    pub corrupt: AtomicU64,
}

impl<S: PieceMemory> Swarm<S> {
    /// `have` contains the pieces that are on disk and verified; `buffers` is the memory for pieces that are being
    /// received.
    pub fn new(geometry: Arc<Geometry>, have: &Bitfield, buffers: Vec<S>, rng: &mut Rng) -> Self {
        Self::with_selection(geometry, have, None, buffers, rng)
    }

    /// A further connection to a peer does not take pieces that others should get first: no origin distributes the first
    /// copy among several peers.
    pub fn has_room_for_streams(&self) -> bool {
        !self.initial_seeding.is_active() || self.served.get() <= 1
    }

    /// Like [`Self::new`], with a selection of the pieces; `None` selects all.
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
            late: AtomicBool::new(false),
            totals: Totals::default(),
            geometry,
        };
        priorities.into_iter().for_each(|priorities| swarm.order.set_priorities(priorities));
        swarm.reorder(rng);
        swarm
    }

    /// Turns super-seeding (BEP 16) on: an origin announces its pieces one by one until the first copy is out.
    pub fn start_super_seeding(&self) {
        self.initial_seeding.start_super_seeding();
    }

    /// The wanted pieces that are not on disk, if no connected peer has any of them; otherwise `None`.
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

    /// The number of useful connections at which a download with these peers stops looking for more.
    pub(super) fn connections_sought(&self, peers: &[Arc<PeerShared>]) -> usize {
        // Every peer that was asked sent wrong blocks: more connections find an honest peer sooner.
        let is_proven = |peer: &Arc<PeerShared>| peer.is_proven();
        if self.totals.corrupt.load(Ordering::Relaxed) > 0 && !peers.iter().any(is_proven) {
            return limits::CONNECTIONS_SOUGHT_UNPROVEN;
        }
        let is_behind = self.is_behind(peers, limits::BEHIND_SHARE);
        if is_behind { limits::CONNECTIONS_LEECHING_MAX } else { limits::CONNECTIONS_SOUGHT }
    }

    /// Notes whether the download is late among these peers. To be called many times a second.
    pub(super) fn compare_progress(&self, peers: &[Arc<PeerShared>]) {
        let is_late = !self.pieces.is_complete() && self.is_behind(peers, limits::LATE_SHARE);
        self.late.store(is_late, Ordering::Relaxed);
    }

    /// More than half of the connected leechers are ahead of the download: it asks each peer for more blocks at a time.
    pub(super) fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    /// Whether more than half of the leechers among these peers have more pieces than we do, by one part of `share` of
    /// all pieces.
    fn is_behind(&self, peers: &[Arc<PeerShared>], share: u32) -> bool {
        let piece_count = self.geometry.piece_count();
        let ahead_at = self.pieces.have_count() + piece_count / share;
        let (mut leechers, mut ahead) = (0, 0);
        for have_count in peers.iter().map(|peer| peer.have_count()).filter(|&n| n < piece_count) {
            leechers += 1;
            ahead += usize::from(have_count > ahead_at);
        }
        2 * ahead > leechers
    }

    /// Rebuilds the order of missing pieces.
    pub fn reorder(&self, rng: &mut Rng) {
        self.order.rebuild(&self.pieces, &self.availability, rng);
    }

    /// Rebuilds the order if pieces are missing, and availability changed or a piece was lost since the last call.
    pub fn reorder_if_changed(&self, rng: &mut Rng) {
        if (self.availability.take_changed() | self.pieces.take_lost()) && !self.pieces.is_complete() {
            self.reorder(rng);
        }
    }
}
