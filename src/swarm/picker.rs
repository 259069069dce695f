//! What a connection asks for next.
//!
//! First what it has begun; then what somebody left behind; then, while memory for pieces is short, a share of what others
//! have begun; then a new piece; then a share again; in the endgame, or when somebody is too slow, what others have claimed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::link::Link;
use super::order::Snapshot;
use super::pieces::{OpenPiece, Slot};
use super::working::Work;
use crate::base::geometry::BLOCK_LEN;
use crate::base::{BlockRef, PieceIndex, Time, limits};

/// A connection's place in the order of missing pieces. What it has passed it does not look at again, until the order is
/// made anew while there was still something to find.
#[derive(Debug, Default)]
pub(super) struct Walk {
    order: Arc<Snapshot>,
    at: usize,
    /// Pieces the peer announced since the walk began.
    fresh: Vec<PieceIndex>,
    /// There were more of these than are remembered.
    overflowed: bool,
    /// Pieces were left for later that only seeders have.
    skipped_rare: bool,
    /// Pieces were left to others that were wrong a moment ago.
    skipped_spoilt: bool,
}

impl Walk {
    /// The peer announced a missing piece.
    pub(super) fn handle_fresh(&mut self, piece: PieceIndex) {
        if self.fresh.len() < limits::FRESH_PIECES_MAX {
            self.fresh.push(piece);
        } else {
            self.overflowed = true;
        }
    }

    pub(super) fn restart(&mut self) {
        self.at = 0;
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.order.pieces.len()
    }
}

impl<S: Slot> Link<S> {
    /// Requests as many blocks as the window takes.
    pub fn request_blocks(&mut self, now: Time) {
        let room = self.connection.request_room().min(self.shared_room()).min(self.unproven_room());
        if room == 0 {
            self.count_self();
            if self.connection.outstanding_count() > 0 {
                self.retry_at = None;
            } else if !self.shared.proven.load(Ordering::Relaxed) {
                self.retry_at.get_or_insert(now + limits::IDLE_RETRY);
            }
            return;
        }
        let mut claims = std::mem::take(&mut self.claims);
        claims.clear();
        self.claim(now, room, &mut claims);
        for &block in &claims {
            if let Some(work) = self.working.iter_mut().find(|work| work.piece == block.piece) {
                work.outstanding += 1;
            }
            self.connection.request(now, block);
        }
        self.claims = claims;
        self.count_self();
        if self.connection.outstanding_count() > 0 {
            (self.retry_at, self.retries) = (None, 0);
        } else {
            let guided = (now < self.guided_until).then_some(self.guided_until.min(now + limits::GUIDED_IDLE_TIME));
            self.retry_at.get_or_insert(guided.unwrap_or(now + limits::IDLE_RETRY));
        }
    }

    /// Nothing was found to ask for, for some time.
    pub(super) fn retry(&mut self, now: Time) {
        self.retry_at = None;
        self.retries = self.retries.saturating_add(1);
        self.unproven = 0;
        self.ask_all_again();
        if std::mem::take(&mut self.walk.skipped_spoilt) {
            self.walk.restart();
        }
        if self.swarm.asked_count.load(Ordering::Relaxed) == 0 && self.suggested.is_empty() {
            // Nobody at all brings anything: whoever suggests has nothing more to suggest, and is asked for the rest.
            self.guided_until = self.guided_until.min(now.saturating_sub(limits::GUIDED_RARE_TIME));
        }
    }

    /// Requests that may be added while others are asked too: what waits in the queue of one peer nobody else is asked for.
    fn shared_room(&self) -> usize {
        let asked = self.swarm.asked_count.load(Ordering::Relaxed) as usize;
        let share = self.connection.request_share(asked);
        let room = share.saturating_sub(self.connection.outstanding_count());
        // In batches, as the whole window is.
        if room < share / 4 { 0 } else { room }
    }

    /// Requests that may be added while nothing that the peer sent was found to be right: whoever corrupts spoils one piece, or
    /// as much as is asked for at first where that is more.
    fn unproven_room(&self) -> usize {
        if self.shared.proven.load(Ordering::Relaxed) {
            return usize::MAX;
        }
        let begun = self.unproven + self.connection.outstanding_count();
        if begun == 0 && self.is_put_off() {
            return 0;
        }
        let piece = self.swarm.geometry.piece_len().div_ceil(BLOCK_LEN) as usize;
        piece.max(limits::REQUESTS_OUT_START).saturating_sub(begun)
    }

    /// So much was wrong that strangers wait for a moment and are then asked one by one, while somebody who brought something
    /// right is asked.
    fn is_put_off(&self) -> bool {
        let load = |count: &AtomicU32| count.load(Ordering::Relaxed);
        let proven = load(&self.swarm.proven_asked_count);
        let strangers = load(&self.swarm.asked_count).saturating_sub(proven);
        let waits = if strangers == 0 { 1 } else { limits::STRANGER_WAITS_MAX };
        proven > 0 && self.is_much_spoilt() && self.retries < waits
    }

    /// Of what came a part was wrong that chance and one bad peer don't explain.
    fn is_much_spoilt(&self) -> bool {
        let totals = &self.swarm.totals;
        totals.corrupt.load(Ordering::Relaxed) > totals.downloaded.load(Ordering::Relaxed) / limits::SPOILT_SHARE
    }

    /// Counts the peer as what it is now.
    fn count_self(&mut self) {
        let gives = !self.connection.peer_choking() && !self.connection.is_snubbed();
        self.count_asked(self.connection.outstanding_count() > 0, gives);
    }

    /// Counts the peer among those that owe us blocks, and among those that give what they have, or no more.
    pub(super) fn count_asked(&mut self, asked: bool, gives: bool) {
        let proven = self.shared.proven.load(Ordering::Relaxed);
        let count = |counted: &mut bool, now: bool, count: &AtomicU32| {
            if std::mem::replace(counted, now) != now {
                count.fetch_add(if now { 1 } else { u32::MAX }, Ordering::Relaxed);
            }
        };
        count(&mut self.asked, asked, &self.swarm.asked_count);
        count(&mut self.proven_asked, asked && proven, &self.swarm.proven_asked_count);
        count(&mut self.proven_giving, gives && proven, &self.swarm.proven_giving_count);
    }

    fn claim(&mut self, now: Time, room: usize, claims: &mut Vec<BlockRef>) {
        if self.connection.peer_choking() {
            return self.claim_allowed(now, room, claims);
        }
        for work in &self.working {
            if claims.len() < room && !work.open.is_retired() && !self.avoided.contains(&work.piece) {
                work.open.claim(&self.swarm.geometry, room - claims.len(), claims);
            }
        }
        while claims.len() < room
            && let Some(open) = self.next_piece(now)
        {
            self.begin(open, now, room, claims);
        }
        if claims.is_empty() && self.connection.outstanding_count() == 0 {
            // Somebody may have been faster with all that was found.
            self.leave_finished();
            self.double(now, room, claims);
        }
    }

    /// Of what the peer gives though it chokes us (BEP 6).
    fn claim_allowed(&mut self, now: Time, room: usize, claims: &mut Vec<BlockRef>) {
        for piece in self.connection.allowed_fast().to_vec() {
            if claims.len() >= room {
                return;
            }
            let begun = self.working.iter().find(|work| work.piece == piece);
            if let Some(work) = begun {
                if !work.open.is_retired() {
                    work.open.claim(&self.swarm.geometry, room - claims.len(), claims);
                }
            } else if let Some(open) = self.open_missing(now, piece).flatten() {
                self.begin(open, now, room, claims);
            }
        }
    }

    /// Claims blocks of a piece that this connection had no part in.
    fn begin(&mut self, open: Arc<OpenPiece<S>>, now: Time, room: usize, claims: &mut Vec<BlockRef>) {
        let mark = open.join(&self.shared);
        open.touch(now);
        open.claim(&self.swarm.geometry, room - claims.len(), claims);
        if open.has_unclaimed() {
            self.swarm.pieces.handle_unclaimed(&open);
        } else {
            self.swarm.pieces.handle_claimed(&open);
        }
        self.working.push(Work::new(open, mark));
    }

    fn next_piece(&mut self, now: Time) -> Option<Arc<OpenPiece<S>>> {
        let guided = now < self.guided_until || !self.suggested.is_empty();
        let on_parole = self.is_on_parole();
        if self.swarm.pieces.is_short_of_slots() && !guided {
            let shared = if on_parole { None } else { self.share() };
            let gives_way = if on_parole { self.may_leave_to_proven() } else { self.is_slow() && self.retries == 0 };
            if shared.is_some() || gives_way {
                return shared;
            }
        }
        let opened = self.open_suggested(now).or_else(|| if guided { None } else { self.open_next(now) });
        if let Some(opened) = &opened
            && on_parole
        {
            opened.set_alone();
        }
        if opened.is_some() || guided || on_parole { opened } else { self.share() }
    }

    /// It gets pieces of its own: it had a part in a wrong one, or nothing is known of it where much is wrong.
    fn is_on_parole(&self) -> bool {
        let load = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        load(&self.shared.on_parole) || (!load(&self.shared.proven) && self.is_much_spoilt())
    }

    /// The peer would hold a piece open for long.
    fn is_slow(&self) -> bool {
        let rate = self.connection.download_rate();
        rate > 0 && u64::from(self.swarm.geometry.piece_len()) / rate >= limits::SLOW_PIECE_TIME.as_secs()
    }

    /// A piece that others have begun and that has blocks to claim.
    fn share(&mut self) -> Option<Arc<OpenPiece<S>>> {
        let state = self.swarm.pieces.shareable();
        if state == 0 || (state == self.shared_in_vain && !self.may_share) {
            return None;
        }
        self.looks += 1;
        let found = self.swarm.pieces.find_shareable(|open| !open.is_alone() && self.may_begin(open.piece()));
        self.may_share = found.is_some();
        if found.is_none() {
            self.shared_in_vain = state;
        }
        found
    }

    /// The peer has the piece and gives it, and we don't ask for any of it yet.
    fn may_begin(&self, piece: PieceIndex) -> bool {
        self.connection.peer_have().contains(piece)
            && !self.avoided.contains(&piece)
            && !self.working.iter().any(|work| work.piece == piece)
    }

    /// Opens a piece that the peer suggests.
    fn open_suggested(&mut self, now: Time) -> Option<Arc<OpenPiece<S>>> {
        while let Some(&piece) = self.suggested.front() {
            self.guided_until = now + limits::GUIDED_TIME;
            self.looks += 1;
            if let Some(opened) = self.open_missing(now, piece) {
                if opened.is_some() {
                    self.suggested.pop_front();
                }
                return opened;
            }
            self.suggested.pop_front();
        }
        None
    }

    /// Opens the next missing piece of the order that the peer has.
    fn open_next(&mut self, now: Time) -> Option<Arc<OpenPiece<S>>> {
        self.follow_order();
        let guide = self.guided_until > Time::ZERO && now < self.guided_until + limits::GUIDED_RARE_TIME;
        if !guide && std::mem::take(&mut self.walk.skipped_rare) {
            self.walk.restart();
        }
        loop {
            while let Some(piece) =
                self.walk.order.pieces.get(self.walk.at).and_then(|&index| self.swarm.geometry.piece(index))
            {
                self.looks += 1;
                if guide && !self.swarm.availability.is_with_leechers(piece) {
                    self.walk.skipped_rare = true;
                } else if let Some(opened) = self.open_missing(now, piece) {
                    return opened;
                }
                self.walk.at += 1;
            }
            while let Some(at) = self.next_fresh() {
                self.looks += 1;
                if let Some(opened) = self.open_missing(now, self.walk.fresh[at]) {
                    return opened;
                }
                self.walk.fresh.swap_remove(at);
            }
            // What was announced and not remembered stands in the order.
            if !std::mem::take(&mut self.walk.overflowed) {
                return None;
            }
            self.walk.restart();
        }
    }

    /// At random: whoever else has heard the same in the same order asks for something else, to trade it.
    fn next_fresh(&mut self) -> Option<usize> {
        let fresh = &self.walk.fresh;
        if self.swarm.order.is_sequential() {
            return (0..fresh.len()).min_by_key(|&at| fresh[at]);
        }
        (!fresh.is_empty()).then(|| self.rng.usize(..fresh.len()))
    }

    /// Takes a newer order. A walk that came to its end has left nothing behind but what the peer announced since.
    fn follow_order(&mut self) {
        let version = self.swarm.order.version();
        if version == self.walk.order.version {
            return;
        }
        if self.walk.order.version > 0
            && self.walk.is_at_end()
            && !self.walk.overflowed
            && !self.walk.skipped_rare
            && self.swarm.order.reopened() == self.walk.order.reopened
        {
            return;
        }
        self.walk = Walk { order: self.swarm.order.snapshot(), ..Walk::default() };
    }

    /// Opens this piece if it is missing and the peer has it. `Some(None)`: no slot is free, stay here.
    fn open_missing(&mut self, now: Time, piece: PieceIndex) -> Option<Option<Arc<OpenPiece<S>>>> {
        if !self.swarm.pieces.is_missing(piece) || !self.may_begin(piece) {
            return None;
        }
        if self.leaves_to_proven(piece, now) {
            self.walk.skipped_spoilt = true;
            return None;
        }
        let opened = self.swarm.pieces.open(piece);
        // If it is no longer missing somebody else was faster.
        (opened.is_some() || self.swarm.pieces.is_missing(piece)).then_some(opened)
    }

    /// Somebody else is the surer one to bring right what was just wrong.
    fn leaves_to_proven(&self, piece: PieceIndex, now: Time) -> bool {
        self.may_leave_to_proven() && self.swarm.pieces.was_just_spoilt(piece, now)
    }

    /// Nothing is known of the peer, and something is of another one that gives us what it has.
    fn may_leave_to_proven(&self) -> bool {
        !self.shared.proven.load(Ordering::Relaxed) && self.swarm.proven_giving_count.load(Ordering::Relaxed) > 0
    }

    /// BEP 3's endgame: asks for what others have been asked for. Idle connections only, and two of them for a block, so
    /// that little comes twice; when a piece lies still its blocks are asked of one more every so often, in the endgame or
    /// not: whoever was to bring them is too slow. Until then who is on parole, and its pieces, are left alone.
    fn double(&mut self, now: Time, room: usize, claims: &mut Vec<BlockRef>) {
        let endgame = self.swarm.pieces.is_endgame();
        let short = self.swarm.pieces.free_slots() == 0;
        if (!endgame && !short) || now < self.guided_until {
            return;
        }
        let on_parole = self.is_on_parole();
        for open in self.swarm.pieces.open_list() {
            let lies_still = open.quiet_for(now).as_millis() / limits::RESCUE_AFTER.as_millis();
            let handicap = if self.overtaken { limits::OVERTAKEN_WAITS } else { 0 };
            let lies_still = u16::try_from(lies_still).unwrap_or(u16::MAX).min(self.retries).saturating_sub(handicap);
            let (askers_max, max) = match lies_still {
                0 if endgame && !self.overtaken && !on_parole && !open.is_alone() => {
                    (limits::ENDGAME_ASKERS_MAX, limits::ENDGAME_BLOCKS_MAX)
                }
                0 => continue,
                times => (times.saturating_add(1), room),
            };
            let max = max.min(room).saturating_sub(claims.len());
            if max > 0 && self.may_begin(open.piece()) && !open.is_retired() {
                let before = claims.len();
                open.double(&self.swarm.geometry, max, askers_max, claims);
                if claims.len() > before {
                    let mark = open.join(&self.shared);
                    self.working.push(Work::new(open, mark));
                }
            }
        }
    }
}
