//! Which blocks a connection requests next.
//!
//! The policies, in their order ([`Round::claim`], [`Round::pick`]):
//! 1. the pieces that this connection has begun;
//! 2. while memory for pieces is short, a piece that other connections have begun, those without a worker first;
//! 3. a piece that the peer suggests;
//! 4. the next missing piece of the order;
//! 5. a piece that other connections have begun, if there was no new one;
//! 6. in the endgame, or when a piece makes no progress, blocks that other peers owe.
//!
//! Three defences against corrupting peers cut across these: a peer on parole gets pieces that no other peer
//! contributes to, a piece that has just failed its hash is left to proven peers, and an unproven peer is asked for
//! little until one of its pieces verifies.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::open_piece::{OpenPiece, PieceMemory};
use super::peer_shared::PeerShared;
use super::picker::{PickCursor, Picker};
use super::shared::Swarm;
use crate::base::geometry::BLOCK_LEN;
use crate::base::{BlockRef, PieceIndex, Time, limits};
use crate::peer::Connection;

/// One connection's search for requests, at one moment.
pub(super) struct Round<'a, S: PieceMemory> {
    pub(super) now: Time,
    pub(super) picker: &'a mut Picker<S>,
    pub(super) swarm: &'a Swarm<S>,
    pub(super) connection: &'a mut Connection,
    pub(super) peer: &'a Arc<PeerShared>,
}

/// An attempt to open one piece.
enum Opening<S: PieceMemory> {
    /// The piece is not missing, or this peer is not to be asked for it.
    NotHere,
    /// The piece could be opened, but there is no free memory.
    NoBuffer,
    Opened(Arc<OpenPiece<S>>),
}

impl<S: PieceMemory> Round<'_, S> {
    /// Requests as many blocks as the request window takes.
    pub(super) fn request_blocks(mut self) {
        let room = self.connection.request_room().min(self.shared_room()).min(self.unproven_room());
        if room == 0 {
            self.set_roles();
            if self.connection.outstanding_count() > 0 {
                self.picker.retry.at = None;
            } else if !self.peer.is_proven() {
                self.picker.retry.at.get_or_insert(self.now + limits::IDLE_RETRY);
            }
            return;
        }
        let mut claims = std::mem::take(&mut self.picker.claims);
        claims.clear();
        self.claim(room, &mut claims);
        for &block in &claims {
            self.picker.working.handle_requested(block.piece);
            self.connection.request(self.now, block);
        }
        self.picker.claims = claims;
        self.set_roles();
        if self.connection.outstanding_count() > 0 {
            (self.picker.retry.at, self.picker.retry.count) = (None, 0);
        } else {
            let guided_until = self.picker.suggestions.guided_until;
            let guided = (self.now < guided_until).then_some(guided_until.min(self.now + limits::GUIDED_IDLE_TIME));
            self.picker.retry.at.get_or_insert(guided.unwrap_or(self.now + limits::IDLE_RETRY));
        }
    }

    /// Requests that may be added beside those to other peers: blocks in the queue of one peer are requested from no
    /// other.
    fn shared_room(&self) -> usize {
        let least = if self.swarm.is_late() { limits::REQUESTS_OUT_LATE } else { 0 };
        let share = self.connection.request_share(self.swarm.asked.get() as usize).max(least);
        let room = share.saturating_sub(self.connection.outstanding_count());
        // In batches, as the whole window is.
        if room < share / 4 { 0 } else { room }
    }

    /// Requests that may be added while the peer is unproven: it can spoil one piece, or the blocks of the first
    /// requests if these are more.
    fn unproven_room(&self) -> usize {
        if self.peer.is_proven() {
            return usize::MAX;
        }
        let begun = self.picker.unproven_count + self.connection.outstanding_count();
        if begun == 0 && self.is_put_off() {
            return 0;
        }
        let piece = self.swarm.geometry.piece_len().div_ceil(BLOCK_LEN) as usize;
        piece.max(limits::REQUESTS_OUT_START).saturating_sub(begun)
    }

    /// A large share of the received bytes failed, and a proven peer is asked: unproven peers wait, then are asked one
    /// at a time.
    fn is_put_off(&self) -> bool {
        let proven = self.swarm.proven_asked.get();
        let unproven = self.swarm.asked.get().saturating_sub(proven);
        let waits = if unproven == 0 { 1 } else { limits::UNPROVEN_RETRIES_MAX };
        proven > 0 && self.has_much_failed() && self.picker.retry.count < waits
    }

    /// A greater share of the received bytes failed than chance and one corrupting peer explain.
    fn has_much_failed(&self) -> bool {
        let totals = &self.swarm.totals;
        totals.corrupt.load(Ordering::Relaxed) > totals.downloaded.load(Ordering::Relaxed) / limits::FAILED_SHARE
    }

    /// Updates the counts of the swarm that include this peer, after its requests changed.
    fn set_roles(&mut self) {
        let gives = !self.connection.peer_choking() && !self.connection.is_snubbed();
        let asked = self.connection.outstanding_count() > 0;
        self.picker.roles.set(self.swarm, asked, gives, self.peer.is_proven());
    }

    /// Claims up to `room` blocks.
    fn claim(&mut self, room: usize, claims: &mut Vec<BlockRef>) {
        if self.connection.peer_choking() {
            return self.claim_allowed(room, claims);
        }
        for work in self.picker.working.iter() {
            let is_rejected = self.picker.rejections.pieces.contains(&work.piece);
            if claims.len() < room && !work.open.is_retired() && !is_rejected {
                work.open.claim(&self.swarm.geometry, room - claims.len(), claims);
            }
        }
        while claims.len() < room {
            let Some(open) = self.pick() else { break };
            self.begin(open, room, claims);
        }
        if claims.is_empty() && self.connection.outstanding_count() == 0 {
            // Other connections may have claimed all that was found.
            self.picker.working.leave_finished(&self.swarm.pieces);
            self.claim_duplicates(room, claims);
        }
    }

    /// Claims blocks of the pieces that the peer gives although it chokes us (BEP 6).
    fn claim_allowed(&mut self, room: usize, claims: &mut Vec<BlockRef>) {
        for piece in self.connection.allowed_fast().to_vec() {
            if claims.len() >= room {
                return;
            }
            if let Some(work) = self.picker.working.find(piece) {
                if !work.open.is_retired() {
                    work.open.claim(&self.swarm.geometry, room - claims.len(), claims);
                }
            } else if let Opening::Opened(open) = self.open_missing(piece) {
                self.begin(open, room, claims);
            }
        }
    }

    /// Claims blocks of a piece that this connection had no part in.
    fn begin(&mut self, open: Arc<OpenPiece<S>>, room: usize, claims: &mut Vec<BlockRef>) {
        let source = open.join(self.peer);
        open.touch(self.now);
        open.claim(&self.swarm.geometry, room - claims.len(), claims);
        if open.has_unclaimed() {
            self.swarm.pieces.handle_unclaimed(&open);
        } else {
            self.swarm.pieces.handle_claimed(&open);
        }
        self.picker.working.insert(open, source);
    }

    /// Returns the next piece to take a part in: one that was missing and is open now, or one that other connections
    /// have begun. `None` if there is nothing to request for the time being.
    fn pick(&mut self) -> Option<Arc<OpenPiece<S>>> {
        let is_guided = self.now < self.picker.suggestions.guided_until || !self.picker.suggestions.pieces.is_empty();
        let on_parole = self.is_on_parole();
        if self.swarm.pieces.is_short_of_buffers() && !is_guided {
            if !on_parole && let Some(open) = self.find_shareable() {
                return Some(open);
            }
            let gives_way =
                if on_parole { self.may_leave_to_proven() } else { self.is_slow() && self.picker.retry.count == 0 };
            if gives_way {
                return None;
            }
        }
        let opening = match self.open_suggested() {
            Opening::NotHere if !is_guided => self.open_next(),
            opening => opening,
        };
        match opening {
            Opening::Opened(open) => {
                if on_parole {
                    open.set_exclusive();
                }
                Some(open)
            }
            _ if is_guided || on_parole => None,
            _ => self.find_shareable(),
        }
    }

    /// The peer gets pieces that no other peer contributes to: it contributed to a failed piece, or it is unproven
    /// while a large share fails.
    fn is_on_parole(&self) -> bool {
        self.peer.is_on_parole() || (!self.peer.is_proven() && self.has_much_failed())
    }

    /// The peer would keep a piece open for a long time.
    fn is_slow(&self) -> bool {
        let rate = self.connection.download_rate();
        rate > 0 && u64::from(self.swarm.geometry.piece_len()) / rate >= limits::SLOW_PIECE_TIME.as_secs()
    }

    /// A piece that other connections have begun and that has blocks to claim.
    fn find_shareable(&mut self) -> Option<Arc<OpenPiece<S>>> {
        let state = self.swarm.pieces.shareable();
        let search = &self.picker.share_search;
        if state == 0 || (state == search.failed_at && !search.may_succeed) {
            return None;
        }
        self.picker.candidates_examined += 1;
        let found = self.swarm.pieces.find_shareable(|open| !open.is_exclusive() && self.may_begin(open.piece()));
        let search = &mut self.picker.share_search;
        search.may_succeed = found.is_some();
        if found.is_none() {
            search.failed_at = state;
        }
        found
    }

    /// The peer has the piece and has not rejected it, and this connection has no part in it.
    fn may_begin(&self, piece: PieceIndex) -> bool {
        self.connection.peer_have().contains(piece)
            && !self.picker.rejections.pieces.contains(&piece)
            && self.picker.working.find(piece).is_none()
    }

    /// Opens a piece that the peer suggests.
    fn open_suggested(&mut self) -> Opening<S> {
        while let Some(&piece) = self.picker.suggestions.pieces.front() {
            self.picker.suggestions.guided_until = self.now + limits::GUIDED_TIME;
            self.picker.candidates_examined += 1;
            let opening = self.open_missing(piece);
            if !matches!(opening, Opening::NoBuffer) {
                self.picker.suggestions.pieces.pop_front();
            }
            if !matches!(opening, Opening::NotHere) {
                return opening;
            }
        }
        Opening::NotHere
    }

    /// Opens the next missing piece of the order that the peer has.
    fn open_next(&mut self) -> Opening<S> {
        self.follow_order();
        let guided_until = self.picker.suggestions.guided_until;
        let spares_rare = guided_until > Time::ZERO && self.now < guided_until + limits::GUIDED_RARE_TIME;
        if !spares_rare && std::mem::take(&mut self.picker.cursor.skipped_rare) {
            self.picker.cursor.restart();
        }
        loop {
            while let Some(piece) = self.ordered_piece() {
                self.picker.candidates_examined += 1;
                if spares_rare && !self.swarm.availability.is_with_leechers(piece) {
                    self.picker.cursor.skipped_rare = true;
                } else {
                    let opening = self.open_missing(piece);
                    if !matches!(opening, Opening::NotHere) {
                        return opening;
                    }
                }
                self.picker.cursor.at += 1;
            }
            while let Some(at) = self.choose_announced() {
                self.picker.candidates_examined += 1;
                let opening = self.open_missing(self.picker.cursor.recently_announced[at]);
                if !matches!(opening, Opening::NotHere) {
                    return opening;
                }
                self.picker.cursor.recently_announced.swap_remove(at);
            }
            // Announced pieces that were not kept are in the order.
            if !std::mem::take(&mut self.picker.cursor.overflowed) {
                return Opening::NotHere;
            }
            self.picker.cursor.restart();
        }
    }

    /// The piece at the cursor.
    fn ordered_piece(&self) -> Option<PieceIndex> {
        let PickCursor { order, at, .. } = &self.picker.cursor;
        order.pieces.get(*at).and_then(|&index| self.swarm.geometry.piece(index))
    }

    /// A position among the recently announced pieces. Random, so that peers that received the same announcements fetch
    /// different pieces and trade them.
    fn choose_announced(&mut self) -> Option<usize> {
        let Picker { cursor: PickCursor { recently_announced, .. }, rng, .. } = &mut *self.picker;
        if self.swarm.order.is_sequential() {
            return (0..recently_announced.len()).min_by_key(|&at| recently_announced[at]);
        }
        (!recently_announced.is_empty()).then(|| rng.usize(..recently_announced.len()))
    }

    /// Takes a newer order. A cursor at the end of its order has passed over nothing but later announcements, so it
    /// stays unless pieces became missing again.
    fn follow_order(&mut self) {
        let cursor = &mut self.picker.cursor;
        let version = self.swarm.order.version();
        if version == cursor.order.version {
            return;
        }
        if cursor.order.version > 0
            && cursor.is_at_end()
            && !cursor.overflowed
            && !cursor.skipped_rare
            && self.swarm.order.reopened() == cursor.order.reopened
        {
            return;
        }
        *cursor = PickCursor { order: self.swarm.order.snapshot(), ..PickCursor::default() };
    }

    /// Opens this piece if it is missing and the peer has it.
    fn open_missing(&mut self, piece: PieceIndex) -> Opening<S> {
        if !self.swarm.pieces.is_missing(piece) || !self.may_begin(piece) {
            return Opening::NotHere;
        }
        if self.may_leave_to_proven() && self.swarm.pieces.has_just_failed(piece, self.now) {
            self.picker.cursor.skipped_failed = true;
            return Opening::NotHere;
        }
        match self.swarm.pieces.open(piece) {
            Some(open) => Opening::Opened(open),
            None if self.swarm.pieces.is_missing(piece) => Opening::NoBuffer,
            // Another connection was faster.
            None => Opening::NotHere,
        }
    }

    /// The peer is unproven, and a proven peer answers our requests.
    fn may_leave_to_proven(&self) -> bool {
        !self.peer.is_proven() && self.swarm.proven_giving.get() > 0
    }

    /// BEP 3's endgame: requests blocks that other peers owe. Idle connections only, and at most two for a block, so
    /// that few blocks arrive twice. When a piece makes no progress its blocks are requested from one more peer every
    /// so often, in the endgame or not: the peers that owe them are too slow. Until then peers on parole, and their
    /// pieces, are left alone.
    fn claim_duplicates(&mut self, room: usize, claims: &mut Vec<BlockRef>) {
        let is_endgame = self.swarm.pieces.is_endgame();
        let is_short = self.swarm.pieces.free_buffers() == 0;
        if (!is_endgame && !is_short) || self.now < self.picker.suggestions.guided_until {
            return;
        }
        let on_parole = self.is_on_parole();
        let overtaken = self.picker.overtaken;
        for open in self.swarm.pieces.open_list() {
            let quiet_intervals = open.quiet_for(self.now).as_millis() / limits::RESCUE_AFTER.as_millis();
            let idle_intervals = u16::try_from(quiet_intervals).unwrap_or(u16::MAX).min(self.picker.retry.count);
            let extra_askers = idle_intervals.saturating_sub(if overtaken { limits::OVERTAKEN_WAITS } else { 0 });
            let (askers_max, max) = match extra_askers {
                0 if is_endgame && !overtaken && !on_parole && !open.is_exclusive() => {
                    (limits::ENDGAME_ASKERS_MAX, limits::ENDGAME_BLOCKS_MAX)
                }
                0 => continue,
                _ => (extra_askers.saturating_add(1), room),
            };
            let max = max.min(room).saturating_sub(claims.len());
            // Another connection to the peer sends no block sooner.
            let is_own = extra_askers == 0 && open.is_only_of(self.peer);
            if max > 0 && !is_own && self.may_begin(open.piece()) && !open.is_retired() {
                let before = claims.len();
                open.claim_duplicates(&self.swarm.geometry, max, askers_max, claims);
                if claims.len() > before {
                    let source = open.join(self.peer);
                    self.picker.working.insert(open, source);
                }
            }
        }
    }
}
