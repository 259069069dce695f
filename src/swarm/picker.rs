//! The state of one connection's requests: its claims, its place in the order of pieces, the pieces that the peer
//! suggested and rejected. The module `pick` decides which block is requested next.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::gauge::Membership;
use super::interest::NewHave;
use super::open_piece::PieceMemory;
use super::order::Snapshot;
use super::pieces::Pieces;
use super::shared::Swarm;
use super::working::Working;
use crate::base::{BlockRef, PieceIndex, Rng, Time, limits};
use crate::peer::{Connection, PeerFault};

/// The state of one connection's requests.
#[derive(Debug)]
pub(super) struct Picker<S: PieceMemory> {
    pub(super) working: Working<S>,
    pub(super) cursor: PickCursor,
    pub(super) rng: Rng,
    pub(super) share_search: ShareSearch,
    pub(super) suggestions: Suggestions,
    pub(super) rejections: Rejections,
    pub(super) roles: Roles,
    pub(super) retry: Retry,
    /// [`Pieces::duplicates_received`] when requests were last withdrawn for it.
    duplicates_seen: u64,
    /// Other peers sent the blocks that this peer owed, and it has sent none since: it is passed over in the endgame.
    pub(super) overtaken: bool,
    /// Blocks that the peer sent while none of its pieces was verified, since it last had to wait for that.
    pub(super) unproven_count: usize,
    /// Kept to reuse its memory.
    pub(super) claims: Vec<BlockRef>,
    /// Pieces examined so far to find one to request. Counts each suggested, ordered or announced piece that was
    /// examined, and each search for a shareable piece as one piece.
    pub(super) candidates_examined: u64,
}

/// A connection's place in the order of missing pieces. Pieces before it are not examined again until there is a new
/// order.
#[derive(Debug, Default)]
pub(super) struct PickCursor {
    pub(super) order: Arc<Snapshot>,
    pub(super) at: usize,
    /// Missing pieces that the peer announced since the order was taken.
    pub(super) recently_announced: Vec<PieceIndex>,
    /// The peer announced more pieces than are kept.
    pub(super) overflowed: bool,
    /// Pieces that only seeders have were passed over for the time being.
    pub(super) skipped_rare: bool,
    /// Pieces that had just failed their hash were left to proven peers.
    pub(super) skipped_failed: bool,
}

impl PickCursor {
    fn handle_announced(&mut self, piece: PieceIndex) {
        if self.recently_announced.len() < limits::ANNOUNCED_PIECES_MAX {
            self.recently_announced.push(piece);
        } else {
            self.overflowed = true;
        }
    }

    pub(super) fn restart(&mut self) {
        self.at = 0;
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.order.pieces.len()
    }
}

/// The search for a piece that other connections have begun.
#[derive(Debug, Default)]
pub(super) struct ShareSearch {
    /// [`Pieces::shareable`] at the last unsuccessful search.
    pub(super) failed_at: u32,
    /// Since then the peer has announced a piece that may be shared.
    pub(super) may_succeed: bool,
}

/// Pieces that the peer suggests (BEP 6).
#[derive(Debug, Default)]
pub(super) struct Suggestions {
    pub(super) pieces: VecDeque<PieceIndex>,
    /// Until then no other pieces are requested from the peer.
    pub(super) guided_until: Time,
}

impl Suggestions {
    /// The peer suggests a piece that we lack.
    pub(super) fn handle_suggested(&mut self, now: Time, piece: PieceIndex) {
        if self.pieces.len() < limits::SUGGESTED_MAX {
            self.pieces.push_back(piece);
            self.guided_until = now + limits::GUIDED_TIME;
        }
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.guided_until = Time::ZERO;
    }
}

/// Requests that the peer rejected while it served other requests (BEP 6).
#[derive(Debug, Default)]
pub(super) struct Rejections {
    /// Since the peer last sent a block or unchoked us.
    pub(super) count: u32,
    /// Pieces that are not requested from it for the time being.
    pub(super) pieces: BTreeSet<PieceIndex>,
}

impl Rejections {
    /// The peer serves us, and rejected a request for a block of this piece.
    pub(super) fn handle_rejected(&mut self, piece: PieceIndex) -> Result<(), PeerFault> {
        self.count += 1;
        self.pieces.insert(piece);
        if self.count > limits::REJECTS_MAX { Err(PeerFault::RejectsAll) } else { Ok(()) }
    }
}

/// The counts of the swarm that include this peer.
#[derive(Debug, Default)]
pub(super) struct Roles {
    asked: Option<Membership>,
    proven_asked: Option<Membership>,
    proven_giving: Option<Membership>,
}

impl Roles {
    /// `asked`: the peer owes us blocks; `gives`: it sends the blocks that it is asked for; `proven`: see
    /// [`super::PeerShared::is_proven`].
    pub(super) fn set<S: PieceMemory>(&mut self, swarm: &Swarm<S>, asked: bool, gives: bool, proven: bool) {
        swarm.asked.set(&mut self.asked, asked);
        swarm.proven_asked.set(&mut self.proven_asked, asked && proven);
        swarm.proven_giving.set(&mut self.proven_giving, gives && proven);
    }
}

/// The next search after one that found nothing to request.
#[derive(Debug, Default)]
pub(super) struct Retry {
    pub(super) at: Option<Time>,
    /// Unsuccessful searches in a row.
    pub(super) count: u16,
}

impl<S: PieceMemory> Picker<S> {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            working: Working::default(),
            cursor: PickCursor::default(),
            rng,
            share_search: ShareSearch::default(),
            suggestions: Suggestions::default(),
            rejections: Rejections::default(),
            roles: Roles::default(),
            retry: Retry::default(),
            duplicates_seen: 0,
            overtaken: false,
            unproven_count: 0,
            claims: Vec::new(),
            candidates_examined: 0,
        }
    }

    /// The peer announced a piece that we lack.
    pub(super) fn handle_have(&mut self, have: NewHave) {
        match have {
            NewHave::Missing(piece) => self.cursor.handle_announced(piece),
            NewHave::Shareable => self.share_search.may_succeed = true,
        }
    }

    pub(super) fn handle_unchoked(&mut self) {
        self.rejections.count = 0;
        self.retry_rejected();
    }

    /// The peer choked us: these requests are void.
    pub(super) fn handle_choked(&mut self, pieces: &Pieces<S>, voided: &[BlockRef]) {
        self.suggestions.clear();
        self.working.release(pieces, voided);
    }

    /// Pieces that the peer rejected may be requested from it once more.
    fn retry_rejected(&mut self) {
        if !self.rejections.pieces.is_empty() {
            self.rejections.pieces.clear();
            self.cursor.restart();
            self.share_search.may_succeed = true;
        }
    }

    /// Searches again if the time has come, after searches that found nothing.
    pub(super) fn handle_timeout(&mut self, now: Time, swarm: &Swarm<S>) {
        if self.retry.at.is_none_or(|at| now < at) {
            return;
        }
        self.retry = Retry { at: None, count: self.retry.count.saturating_add(1) };
        self.unproven_count = 0;
        self.retry_rejected();
        if std::mem::take(&mut self.cursor.skipped_failed) {
            self.cursor.restart();
        }
        if swarm.asked.get() == 0 && self.suggestions.pieces.is_empty() {
            // No peer owes us a block: a peer that guided us has no more suggestions, and is asked for the other
            // pieces.
            let guided_until = &mut self.suggestions.guided_until;
            *guided_until = (*guided_until).min(now.saturating_sub(limits::GUIDED_RARE_TIME));
        }
    }

    /// BEP 3: in the endgame "it sends cancels to everyone else every time a piece arrives".
    pub(super) fn cancel_received(&mut self, pieces: &Pieces<S>, connection: &mut Connection) {
        let duplicates = pieces.duplicates_received();
        if duplicates == self.duplicates_seen {
            return;
        }
        self.duplicates_seen = duplicates;
        let working = &self.working;
        let has_arrived = |block: BlockRef| {
            let work = working.find(block.piece);
            work.is_none_or(|work| work.open.is_retired() || work.open.is_received(block.block_index()))
        };
        let void: Vec<BlockRef> =
            connection.outstanding().map(|request| request.block).filter(|&block| has_arrived(block)).collect();
        for block in void {
            connection.cancel(block);
            self.overtaken = true;
            self.working.handle_settled(block.piece);
        }
        self.working.leave_finished(pieces);
    }
}
