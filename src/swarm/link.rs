//! One connection's part in the swarm: keeps interest true, claims blocks, tells haves, follows the choker.
//!
//! The I/O around it calls, on arrival: [`Link::handle_message`], or [`Link::handle_block`] then [`Link::handle_landed`]; then
//! [`Link::sync`], [`Link::request_blocks`], and [`Link::poll_transmit`] until it returns false.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::peer_shared::PeerShared;
use super::picker::Walk;
use super::pieces::Slot;
use super::shared::Swarm;
use super::super_seeding::SuperSeeding;
use super::working::Work;
use crate::base::{Bitfield, BlockRef, InfoHash, PieceIndex, Rng, Time, limits};
use crate::codec::extension::EXTENSION_HANDSHAKE_ID;
use crate::codec::message::Message;
use crate::peer::{Connection, Event, Opening, PeerFault, Setup, TimeoutEvent, Transmit};

/// See the module.
#[derive(Debug)]
pub struct Link<S: Slot> {
    pub(super) connection: Connection,
    pub(super) swarm: Arc<Swarm<S>>,
    pub(super) shared: Arc<PeerShared>,
    pub(super) working: Vec<Work<S>>,
    /// Up to this place in the have log the peer was told what we have, and what we don't want.
    had_cursor: usize,
    /// What it was told, since pieces were lost, of which the log says nothing.
    told: Option<Bitfield>,
    /// Announced by the peer, and not counted yet: see [`Self::count_heard`].
    heard: Vec<PieceIndex>,
    pub(super) walk: Walk,
    pub(super) rng: Rng,
    /// How things stood when no piece was found to have a share in.
    pub(super) shared_in_vain: u32,
    /// Since then the peer announced one that may do.
    pub(super) may_share: bool,
    /// What the peer suggests (BEP 6), and until when it is asked for nothing else.
    pub(super) suggested: VecDeque<PieceIndex>,
    pub(super) guided_until: Time,
    /// What we suggested to the peer and it has not asked for, and how many such there should be.
    pub(super) offered: Vec<PieceIndex>,
    pub(super) offered_wanted: usize,
    /// When the peer last asked for something, or was unchoked.
    pub(super) last_request: Time,
    /// The peer is counted among those that are interested, among those of them that are served, among those that owe us blocks,
    /// among the proven of these, and among the proven that give us what they have.
    pub(super) counted: bool,
    pub(super) served: bool,
    pub(super) asked: bool,
    pub(super) proven_asked: bool,
    pub(super) proven_giving: bool,
    /// Pieces the peer has, and we want and lack.
    wanted: u32,
    recounts_seen: u32,
    pub(super) doubles_seen: u64,
    /// Others brought what this peer owed, and it has brought nothing since: it is not worth asking in the endgame.
    pub(super) overtaken: bool,
    /// Blocks the peer brought while nothing of it was found to be right, and since it had to wait for that.
    pub(super) unproven: usize,
    pub(super) rejects: u32,
    /// Pieces of which the peer rejected a request while it served others.
    pub(super) avoided: BTreeSet<PieceIndex>,
    /// Super-seeding: what the peer has been shown; `None`: everything that we have.
    pub(super) reveal: Option<SuperSeeding>,
    /// The torrent, until it was told what it may have choked.
    allows_fast: Option<InfoHash>,
    /// Nothing to ask for was found: when to look again, and how often that was in vain.
    pub(super) retry_at: Option<Time>,
    pub(super) retries: u16,
    pub(super) claims: Vec<BlockRef>,
    pub(super) looks: u64,
}

impl<S: Slot> Link<S> {
    /// Joins a connection to the swarm; `setup.opening` is filled in here.
    pub fn new(mut setup: Setup, swarm: Arc<Swarm<S>>, shared: Arc<PeerShared>, now: Time) -> Self {
        let recounts_seen = swarm.pieces.recounts();
        let (have, settled, had_cursor) = swarm.pieces.opening();
        let told = (recounts_seen > 0).then(|| settled.unwrap_or_else(|| have.clone()));
        let hidden = swarm.spread.hides(now) && swarm.pieces.has_all();
        let reveal = hidden.then(|| SuperSeeding::new(swarm.geometry.piece_count(), now));
        setup.upload_only = swarm.pieces.is_complete() && !hidden;
        setup.opening = match have {
            _ if hidden => Opening::None,
            have if have.piece_count() > 0 && have.is_full() => Opening::All,
            have if have.is_empty() => Opening::None,
            have => Opening::Some(have),
        };
        let mut link = Self {
            allows_fast: setup.info_hash,
            connection: Connection::new(setup, now),
            walk: Walk::default(),
            rng: Rng::with_seed(swarm.salt ^ u64::from(shared.key)),
            shared_in_vain: 0,
            may_share: false,
            suggested: VecDeque::new(),
            guided_until: Time::ZERO,
            offered: Vec::new(),
            offered_wanted: limits::SUGGESTED_START,
            last_request: now,
            counted: false,
            served: false,
            asked: false,
            proven_asked: false,
            proven_giving: false,
            swarm,
            shared,
            working: Vec::new(),
            had_cursor,
            told,
            heard: Vec::new(),
            wanted: 0,
            recounts_seen,
            doubles_seen: 0,
            overtaken: false,
            unproven: 0,
            rejects: 0,
            avoided: BTreeSet::new(),
            reveal,
            retry_at: None,
            retries: 0,
            claims: Vec::new(),
            looks: 0,
        };
        link.swarm.availability.add_set(link.connection.peer_have());
        link.follow_choker(now);
        link
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    pub fn shared(&self) -> &Arc<PeerShared> {
        &self.shared
    }

    /// Pieces looked at so far to find one to ask for.
    pub fn looks(&self) -> u64 {
        self.looks
    }

    /// Neither side will ever want anything of the other.
    pub fn is_useless(&self) -> bool {
        self.swarm.pieces.is_complete() && (self.connection.peer_has_all() || self.connection.peer_upload_only())
    }

    /// Takes one message that is not a block.
    pub fn handle_message(&mut self, now: Time, message: &Message<'_>) -> Result<(), PeerFault> {
        if matches!(message, Message::Request { .. }) {
            self.last_request = now;
        }
        match self.connection.handle_message(now, message)? {
            Event::Quiet => {}
            Event::Have(piece) => self.heard.push(piece),
            Event::HaveMany(pieces) => {
                self.heard.extend(pieces);
                self.count_heard();
            }
            Event::Unchoked => {
                self.rejects = 0;
                self.ask_all_again();
            }
            Event::Choked(voided) => {
                self.suggested.clear();
                self.guided_until = Time::ZERO;
                self.release(&voided);
            }
            Event::Interested => self.show_interest(true),
            Event::NotInterested => self.show_interest(false),
            Event::Request(block) if self.is_hidden(block.piece) => self.connection.refuse(block)?,
            Event::Request(block) if self.swarm.pieces.has(block.piece) => {
                self.follow_offer(block.piece);
                self.connection.serve(block)?;
            }
            // We said that we have it, and lost it, or are not yet done with telling: that is not the peer's fault.
            Event::Request(block) if self.may_believe_in(block.piece) => self.connection.excuse(block)?,
            Event::Request(block) => self.connection.refuse(block)?,
            Event::Rejected(block) => self.handle_rejected(block)?,
            Event::Suggested(piece) => self.handle_suggested(now, piece),
            // Whether to ask for it is looked at where requests are made.
            Event::AllowedFast(_) => {}
        }
        if matches!(message, Message::HaveNone | Message::Bitfield(_)) {
            self.allow_fast();
        }
        if let (Message::Extended { id: EXTENSION_HANDSHAKE_ID, .. }, Some(client)) =
            (message, self.connection.peer_client())
        {
            self.shared.set_client(client);
            self.connection.peer_sees_us().iter().for_each(|&ip| _ = self.shared.sees_us.set(ip));
        }
        Ok(())
    }

    /// Takes `have` messages that arrived together; returns how many there were.
    pub fn handle_haves(&mut self, now: Time, indices: impl Iterator<Item = u32>) -> Result<usize, PeerFault> {
        self.connection.handle_haves(now, indices, &mut self.heard)
    }

    /// The peer may have been told that we have the piece, though we lack it.
    fn may_believe_in(&self, piece: PieceIndex) -> bool {
        let Swarm { pieces, .. } = &*self.swarm;
        pieces.was_lost(piece) || !self.lacks(piece) && !pieces.is_unclaimed(piece)
    }

    fn is_hidden(&self, piece: PieceIndex) -> bool {
        self.reveal.as_ref().is_some_and(|reveal| !reveal.has_shown(piece))
    }

    /// A newcomer may have some pieces before its turn (BEP 6), once that costs the swarm no first copies.
    fn allow_fast(&mut self) {
        let Some(info_hash) = self.allows_fast.take() else { return };
        if !self.swarm.spread.is_active()
            && self.reveal.is_none()
            && self.connection.peer_have().count() < limits::ALLOWED_FAST_MAX
        {
            let (pieces, have) = (&self.swarm.pieces, self.connection.peer_have().clone());
            let ip = self.shared.address.ip();
            self.connection.allow_fast(ip, info_hash, |piece| pieces.has(piece) && !have.contains(piece));
        }
    }

    fn handle_rejected(&mut self, block: BlockRef) -> Result<(), PeerFault> {
        self.release(&[block]);
        if self.connection.peer_choking() {
            return Ok(());
        }
        self.rejects += 1;
        self.avoided.insert(block.piece);
        if self.rejects > limits::REJECTS_MAX { Err(PeerFault::RejectsAll) } else { Ok(()) }
    }

    /// What the peer rejected may be asked of it once more.
    pub(super) fn ask_all_again(&mut self) {
        if !self.avoided.is_empty() {
            self.avoided.clear();
            self.walk.restart();
            self.may_share = true;
        }
    }

    fn show_interest(&mut self, interested: bool) {
        self.shared.interested.store(interested, Ordering::Relaxed);
        self.count_interested();
    }

    pub(super) fn count_interested(&mut self) {
        let wants = self.shared.wants();
        if std::mem::replace(&mut self.counted, wants) != wants {
            self.swarm.interested_count.fetch_add(if wants { 1 } else { u32::MAX }, Ordering::Relaxed);
        }
        self.shared.choker_due.store(true, Ordering::Release);
    }

    /// Counts the pieces that the peer has announced since the last time. Many at once: what has to be looked at is spread
    /// over memory, and waited for together.
    fn count_heard(&mut self) {
        if self.heard.is_empty() {
            return;
        }
        let heard = std::mem::take(&mut self.heard);
        for &piece in &heard {
            if self.lacks(piece) {
                self.wanted += 1;
                if self.swarm.pieces.is_missing(piece) {
                    self.walk.handle_fresh(piece);
                } else if self.swarm.pieces.is_shareable(piece) {
                    self.may_share = true;
                }
            }
        }
        let availability = &self.swarm.availability;
        if heard.len() > 1 && heard.len() == self.connection.peer_have().piece_count() {
            availability.add_set(self.connection.peer_have());
        } else {
            heard.iter().for_each(|&piece| availability.add(piece));
            if self.connection.peer_has_all() {
                availability.complete(self.swarm.geometry.piece_count());
            }
        }
        self.shared.have_count.fetch_add(u32::try_from(heard.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.connection.set_interested(self.wanted > 0);
        self.heard = heard;
        self.heard.clear();
    }

    /// We want the piece and lack it, as far as this connection has followed the have log: `wanted` counts by that alone.
    pub(super) fn lacks(&self, piece: PieceIndex) -> bool {
        match &self.told {
            None => !self.swarm.pieces.is_logged(piece, self.had_cursor),
            Some(told) => !told.contains(piece),
        }
    }

    fn count_wanted(&mut self) {
        let indices = self.connection.peer_have().iter().filter_map(|index| u32::try_from(index).ok());
        let wanted =
            indices.filter_map(|index| self.swarm.geometry.piece(index)).filter(|&piece| self.lacks(piece)).count();
        self.wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
    }

    /// Follows what the rest of the swarm did since the last call.
    pub fn sync(&mut self, now: Time) -> Result<(), PeerFault> {
        if self.shared.dismissed.load(Ordering::Relaxed) {
            return Err(PeerFault::Dismissed);
        }
        self.count_heard();
        self.tell_haves();
        self.show(now);
        self.cancel_received();
        self.connection.set_interested(self.wanted > 0);
        self.follow_choker(now);
        Ok(())
    }

    fn tell_haves(&mut self) {
        while !self.connection.is_backlogged()
            && let Some(piece) = self.swarm.pieces.next_had(&mut self.had_cursor)
        {
            self.tell(piece);
        }
        let recounts = self.swarm.pieces.recounts();
        if recounts != self.recounts_seen && !self.connection.is_backlogged() {
            self.recounts_seen = recounts;
            self.recount();
        }
    }

    fn tell(&mut self, piece: PieceIndex) {
        if self.told.as_mut().is_none_or(|told| told.insert(piece)) {
            if self.swarm.pieces.has(piece) {
                self.connection.have(piece);
            }
            self.wanted -= u32::from(self.connection.peer_have().contains(piece));
        }
    }

    /// Looks at every piece: some were lost, or came again, of which the have log says nothing.
    fn recount(&mut self) {
        let swarm = self.swarm.clone();
        let mut told = self.told.take().unwrap_or_else(|| {
            let mut told = Bitfield::new(swarm.geometry.piece_count());
            let logged = swarm.geometry.pieces().filter(|&piece| swarm.pieces.is_logged(piece, self.had_cursor));
            logged.for_each(|piece| _ = told.insert(piece));
            told
        });
        for piece in swarm.geometry.pieces().filter(|&piece| swarm.pieces.is_lacking(piece)) {
            told.remove(piece);
        }
        self.told = Some(told);
        self.count_wanted();
        swarm.geometry.pieces().filter(|&piece| !swarm.pieces.is_lacking(piece)).for_each(|piece| self.tell(piece));
    }

    fn follow_choker(&mut self, now: Time) {
        if self.shared.is_unchoked() {
            if self.connection.am_choking() {
                self.last_request = now;
            }
            self.connection.unchoke();
            self.count_served(now);
            if self.reveal.is_none() && self.swarm.spread.is_active() {
                self.offer(now);
            }
        } else {
            self.connection.choke(now);
            self.count_served(now);
            self.withdraw_offer();
        }
    }

    fn handle_suggested(&mut self, now: Time, piece: PieceIndex) {
        if self.lacks(piece) && self.suggested.len() < limits::SUGGESTED_MAX {
            self.suggested.push_back(piece);
            self.guided_until = now + limits::GUIDED_TIME;
        }
    }

    /// Fills `transmit` with what may leave now; see [`Connection::poll_transmit`].
    pub fn poll_transmit(
        &mut self,
        now: Time,
        transmit: &mut Transmit,
        is_ready: impl FnMut(BlockRef) -> bool,
    ) -> bool {
        let something = self.connection.poll_transmit(now, transmit, is_ready);
        let queued = u32::try_from(self.connection.queued_count()).unwrap_or(u32::MAX);
        self.shared.queued.store(queued, Ordering::Relaxed);
        something
    }

    /// What the peer is told of from here on leaves at once; else haves go with whatever leaves next.
    pub fn flush_haves(&mut self) {
        self.connection.flush_haves();
    }

    /// Blocks of this many bytes have left.
    pub fn handle_sent(&self, len: u64) {
        self.shared.uploaded.fetch_add(len, Ordering::Relaxed);
        self.swarm.totals.uploaded.fetch_add(len, Ordering::Relaxed);
    }

    /// Part of a message has arrived.
    pub fn handle_bytes(&mut self, now: Time) {
        self.connection.handle_bytes(now);
    }

    /// A piece the peer asked for can't be served.
    pub fn refuse_piece(&mut self, piece: PieceIndex) {
        self.connection.refuse_piece(piece);
    }

    pub fn poll_timeout(&self) -> Time {
        let reveal = self.reveal.as_ref().map_or(Time::MAX, SuperSeeding::poll_timeout);
        let timeout = self.connection.poll_timeout().min(reveal);
        self.retry_at.map_or(timeout, |at| at.min(timeout))
    }

    /// Does what is due at `now`; [`Self::sync`] and [`Self::request_blocks`] come next.
    pub fn handle_timeout(&mut self, now: Time) -> Result<(), PeerFault> {
        if let TimeoutEvent::Snubbed(voided) = self.connection.handle_timeout(now)? {
            self.shared.snubbed.store(true, Ordering::Relaxed);
            self.release(&voided);
        }
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry(now);
        }
        Ok(())
    }
}

/// What the connection had claimed goes back; what the peer had is no longer counted.
impl<S: Slot> Drop for Link<S> {
    fn drop(&mut self) {
        let claimed: Vec<BlockRef> = self.connection.outstanding().map(|request| request.block).collect();
        self.release(&claimed);
        self.working.iter().for_each(|work| self.swarm.pieces.leave(&work.open));
        self.withdraw_offer();
        self.reveal.take().into_iter().for_each(|reveal| self.swarm.spread.give_back(reveal.into_pending()));
        self.show_interest(false);
        self.count_served(Time::MAX);
        self.count_asked(false, false);
        self.count_heard();
        self.swarm.availability.remove_set(self.connection.peer_have());
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
