//! One connection's part in the swarm: keeps interest true, claims blocks, tells haves, follows the choker.
//!
//! The I/O around it calls, on arrival: [`Link::handle_message`], or [`Link::handle_block`] then [`Link::handle_landed`]; then
//! [`Link::sync`], [`Link::request_blocks`], and [`Link::poll_transmit`] until it returns false.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::order::Snapshot;
use super::pieces::{OpenPiece, Slot};
use super::shared::{PeerShared, Swarm};
use crate::base::geometry::BLOCK_LEN;
use crate::base::{Bitfield, BlockRef, PieceIndex, Time, limits};
use crate::codec::message::Message;
use crate::peer::{BlockArrival, Connection, Event, Opening, PeerFault, Setup, TimeoutEvent, Transmit};

/// See the module.
#[derive(Debug)]
pub struct Link<S: Slot> {
    connection: Connection,
    swarm: Arc<Swarm<S>>,
    shared: Arc<PeerShared>,
    working: Vec<Work<S>>,
    /// Place in the have log, and what the peer has been told up to there; `None` when that is everything.
    had_cursor: usize,
    told: Option<Bitfield>,
    order: Arc<Snapshot>,
    order_at: usize,
    /// Pieces the peer announced after `order_at` had passed them.
    fresh: VecDeque<PieceIndex>,
    /// Pieces the peer has and we don't.
    wanted: u32,
    doubles_seen: u64,
    rejects: u32,
    claims: Vec<BlockRef>,
}

/// An open piece this connection has claims in.
#[derive(Debug)]
struct Work<S: Slot> {
    open: Arc<OpenPiece<S>>,
    /// Our mark as its sender.
    mark: u16,
    outstanding: u32,
}

/// A block that has arrived, to be landed in its piece's slot.
#[derive(Debug)]
pub struct Arrival<S: Slot> {
    pub block: BlockRef,
    /// None when nobody wants the block any more.
    pub open: Option<Arc<OpenPiece<S>>>,
    /// From request to block, when it was an outstanding request.
    pub latency: Option<Duration>,
}

impl<S: Slot> Link<S> {
    /// Joins a connection to the swarm; `setup.opening` is filled in here.
    pub fn new(mut setup: Setup, swarm: Arc<Swarm<S>>, shared: Arc<PeerShared>, now: Time) -> Self {
        let (have, had_cursor) = swarm.pieces.opening();
        let told = (!have.is_full()).then(|| have.clone());
        setup.opening = match have {
            have if have.piece_count() > 0 && have.is_full() => Opening::All,
            have if have.is_empty() => Opening::None,
            have => Opening::Some(have),
        };
        let mut link = Self {
            connection: Connection::new(setup, now),
            order: swarm.order.snapshot(),
            order_at: 0,
            swarm,
            shared,
            working: Vec::new(),
            had_cursor,
            told,
            fresh: VecDeque::new(),
            wanted: 0,
            doubles_seen: 0,
            rejects: 0,
            claims: Vec::new(),
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

    /// Neither side will ever want anything of the other.
    pub fn is_useless(&self) -> bool {
        self.swarm.pieces.is_complete() && self.connection.peer_has_all()
    }

    /// Takes one message that is not a block.
    pub fn handle_message(&mut self, now: Time, message: &Message<'_>) -> Result<(), PeerFault> {
        match self.connection.handle_message(now, message)? {
            Event::Quiet => {}
            Event::Have(piece) => self.handle_have(&[piece]),
            Event::HaveMany(pieces) => self.handle_have(&pieces),
            Event::Unchoked => self.rejects = 0,
            Event::Choked(voided) => voided.into_iter().for_each(|block| self.release(block)),
            Event::Interested => self.show_interest(true),
            Event::NotInterested => self.show_interest(false),
            Event::Request(block) if self.swarm.pieces.has(block.piece) => self.connection.serve(block)?,
            Event::Request(block) => self.connection.refuse(block)?,
            Event::Rejected(block) => {
                self.release(block);
                self.rejects += u32::from(!self.connection.peer_choking());
                if self.rejects > limits::REJECTS_MAX {
                    return Err(PeerFault::RejectsAll);
                }
            }
        }
        if let (Message::Extended { .. }, Some(client)) = (message, self.connection.peer_client()) {
            self.shared.set_client(client);
        }
        Ok(())
    }

    fn show_interest(&self, interested: bool) {
        self.shared.interested.store(interested, Ordering::Relaxed);
        self.shared.choker_due.store(true, Ordering::Release);
    }

    /// The peer has these pieces more; its `peer_have` shows them already.
    fn handle_have(&mut self, pieces: &[PieceIndex]) {
        let availability = &self.swarm.availability;
        if pieces.len() > 1 && pieces.len() == self.connection.peer_have().piece_count() {
            availability.add_set(self.connection.peer_have());
        } else if !pieces.is_empty() {
            pieces.iter().for_each(|&piece| availability.add(piece));
            if self.connection.peer_has_all() {
                availability.complete(self.swarm.geometry.piece_count());
            }
        }
        self.shared.have_count.fetch_add(u32::try_from(pieces.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
        for &piece in pieces {
            if self.lacks(piece) {
                self.wanted += 1;
                if self.fresh.len() < limits::FRESH_PIECES_MAX {
                    self.fresh.push_back(piece);
                }
            }
        }
        self.connection.set_interested(self.wanted > 0);
    }

    /// We lack the piece, as far as this connection has followed the have log: `wanted` counts by that alone.
    fn lacks(&self, piece: PieceIndex) -> bool {
        self.told.as_ref().is_some_and(|told| !told.contains(piece))
    }

    /// A whole block has arrived: the caller lands it in the slot of `open` and then calls [`Self::handle_landed`].
    pub fn handle_block(&mut self, now: Time, index: u32, begin: u32, length: u32) -> Result<Arrival<S>, PeerFault> {
        let unrequested = PeerFault::Unrequested { index, begin, length };
        let block = self.swarm.geometry.span(index, begin, length).ok_or(unrequested)?;
        let latency = match self.connection.handle_block(now, block)? {
            BlockArrival::Expected { latency } => Some(latency),
            BlockArrival::Late => None,
        };
        self.rejects = 0;
        self.shared.snubbed.store(false, Ordering::Relaxed);
        let work = self.working.iter_mut().find(|work| work.open.piece() == block.piece);
        let open = match work {
            Some(work) => {
                work.outstanding -= u32::from(latency.is_some() && work.outstanding > 0);
                Some(work.open.clone())
            }
            None => self.swarm.pieces.find(block.piece),
        };
        let on_grid = self.swarm.geometry.block(block.piece, begin / BLOCK_LEN) == Some(block);
        Ok(Arrival { block, open: open.filter(|open| on_grid && !open.is_retired()), latency })
    }

    /// The block was put into the slot (`landed`), or was there already or is not wanted.
    pub fn handle_landed(&mut self, arrival: &Arrival<S>, landed: bool) {
        let len = u64::from(arrival.block.len);
        self.shared.downloaded.fetch_add(len, Ordering::Relaxed);
        let Some(open) = arrival.open.as_ref().filter(|_| landed) else {
            self.swarm.totals.wasted.fetch_add(len, Ordering::Relaxed);
            return;
        };
        self.swarm.totals.downloaded.fetch_add(len, Ordering::Relaxed);
        let working = self.working.iter().find(|work| Arc::ptr_eq(&work.open, open)).map(|work| work.mark);
        let mark = working.unwrap_or_else(|| {
            let mark = open.join(&self.shared);
            self.swarm.pieces.leave(open);
            mark
        });
        if open.handle_received(arrival.block.block_index(), mark) {
            self.swarm.pieces.count_double();
        }
        self.leave_finished();
    }

    /// Leaves the pieces in which nothing is outstanding and nothing can be claimed.
    fn leave_finished(&mut self) {
        let swarm = &self.swarm;
        self.working.retain(|work| {
            let stay = work.outstanding > 0 || (!work.open.is_retired() && work.open.has_unclaimed());
            if !stay {
                swarm.pieces.leave(&work.open);
            }
            stay
        });
    }

    fn release(&mut self, block: BlockRef) {
        if let Some(work) = self.working.iter_mut().find(|work| work.open.piece() == block.piece) {
            work.outstanding = work.outstanding.saturating_sub(1);
            work.open.release(block);
            if work.outstanding == 0 {
                // Others may go on with it; a choked or snubbed connection must not keep it.
                let open = work.open.clone();
                self.working.retain(|work| !Arc::ptr_eq(&work.open, &open));
                self.swarm.pieces.leave(&open);
            }
        }
    }

    /// Follows what the rest of the swarm did since the last call.
    pub fn sync(&mut self, now: Time) -> Result<(), PeerFault> {
        if self.shared.dismissed.load(Ordering::Relaxed) {
            return Err(PeerFault::Dismissed);
        }
        self.tell_haves();
        self.cancel_received();
        self.connection.set_interested(self.wanted > 0);
        self.follow_choker(now);
        Ok(())
    }

    fn tell_haves(&mut self) {
        while !self.connection.is_backlogged()
            && let Some(piece) = self.swarm.pieces.next_had(&mut self.had_cursor)
        {
            self.connection.have(piece);
            let news = self.told.as_mut().is_some_and(|told| told.insert(piece));
            self.wanted -= u32::from(news && self.connection.peer_have().contains(piece));
        }
    }

    /// BEP 3: in the endgame "it sends cancels to everyone else every time a piece arrives".
    fn cancel_received(&mut self) {
        let doubles = self.swarm.pieces.doubles_received();
        let retired = self.working.iter().any(|work| work.open.is_retired());
        if doubles == self.doubles_seen && !retired {
            return;
        }
        self.doubles_seen = doubles;
        let working = &mut self.working;
        let arrived = |block: BlockRef| {
            let work = working.iter().find(|work| work.open.piece() == block.piece);
            work.is_none_or(|work| work.open.is_retired() || work.open.is_received(block.block_index()))
        };
        let void: Vec<BlockRef> =
            self.connection.outstanding().map(|request| request.block).filter(|&block| arrived(block)).collect();
        for block in void {
            self.connection.cancel(block);
            if let Some(work) = self.working.iter_mut().find(|work| work.open.piece() == block.piece) {
                work.outstanding = work.outstanding.saturating_sub(1);
            }
        }
        self.leave_finished();
    }

    fn follow_choker(&mut self, now: Time) {
        if self.shared.is_unchoked() { self.connection.unchoke() } else { self.connection.choke(now) }
    }

    /// Requests as many blocks as the window takes.
    pub fn request_blocks(&mut self, now: Time) {
        let room = self.connection.request_room();
        if room == 0 {
            return;
        }
        let mut claims = std::mem::take(&mut self.claims);
        claims.clear();
        self.claim(room, &mut claims);
        for &block in &claims {
            if let Some(work) = self.working.iter_mut().find(|work| work.open.piece() == block.piece) {
                work.outstanding += 1;
            }
            self.connection.request(now, block);
        }
        self.claims = claims;
    }

    /// First what this connection has begun, then what somebody left behind, then new pieces, then a share of what others
    /// have open, and in the endgame what others have claimed.
    fn claim(&mut self, room: usize, claims: &mut Vec<BlockRef>) {
        for work in &self.working {
            if claims.len() < room && !work.open.is_retired() {
                work.open.claim(&self.swarm.geometry, room - claims.len(), claims);
            }
        }
        while claims.len() < room
            && let Some(open) = self.next_piece()
        {
            let mark = open.join(&self.shared);
            open.claim(&self.swarm.geometry, room - claims.len(), claims);
            self.working.push(Work { open, mark, outstanding: 0 });
        }
        let idle = self.connection.outstanding_count() == 0;
        if claims.is_empty() && idle && self.swarm.pieces.is_endgame() {
            self.double(room.min(limits::ENDGAME_BLOCKS_MAX), claims);
        }
    }

    fn next_piece(&mut self) -> Option<Arc<OpenPiece<S>>> {
        let has = |piece| self.connection.peer_have().contains(piece) && !self.is_working_on(piece);
        if let Some(open) = self.swarm.pieces.adopt(has) {
            return Some(open);
        }
        if let Some(open) = self.open_next() {
            return Some(open);
        }
        let has = |piece| self.connection.peer_have().contains(piece) && !self.is_working_on(piece);
        self.swarm.pieces.open_list().find(|open| open.has_unclaimed() && has(open.piece()))
    }

    fn is_working_on(&self, piece: PieceIndex) -> bool {
        self.working.iter().any(|work| work.open.piece() == piece)
    }

    /// Opens the next missing piece of the order that the peer has.
    fn open_next(&mut self) -> Option<Arc<OpenPiece<S>>> {
        let newest = self.swarm.order.snapshot();
        if newest.version != self.order.version {
            self.order = newest;
            self.order_at = 0;
            self.fresh.clear();
        }
        while let Some(piece) = self.order.pieces.get(self.order_at).and_then(|&index| self.swarm.geometry.piece(index))
        {
            if self.swarm.pieces.is_missing(piece) && self.connection.peer_have().contains(piece) {
                // No slot free: stay here. Somebody else was faster: it is no longer missing.
                if let Some(open) = self.swarm.pieces.open(piece) {
                    return Some(open);
                }
                if self.swarm.pieces.is_missing(piece) {
                    return None;
                }
            }
            self.order_at += 1;
        }
        while let Some(piece) = self.fresh.pop_front() {
            if self.swarm.pieces.is_missing(piece)
                && let Some(open) = self.swarm.pieces.open(piece)
            {
                return Some(open);
            }
        }
        None
    }

    /// BEP 3's endgame: asks for what others have been asked for. Idle connections only, so that little comes twice.
    fn double(&mut self, max: usize, claims: &mut Vec<BlockRef>) {
        for open in self.swarm.pieces.open_list() {
            let has = self.connection.peer_have().contains(open.piece()) && !self.is_working_on(open.piece());
            if claims.len() < max && has && !open.is_retired() {
                let before = claims.len();
                open.double(&self.swarm.geometry, max - before, |_| true, claims);
                if claims.len() > before {
                    let mark = open.join(&self.shared);
                    self.working.push(Work { open, mark, outstanding: 0 });
                }
            }
        }
    }

    /// Fills `transmit` with what may leave now; see [`Connection::poll_transmit`].
    pub fn poll_transmit(
        &mut self,
        now: Time,
        transmit: &mut Transmit,
        is_ready: impl FnMut(BlockRef) -> bool,
    ) -> bool {
        self.connection.poll_transmit(now, transmit, is_ready)
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
        self.connection.poll_timeout()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Time) -> Result<(), PeerFault> {
        if let TimeoutEvent::Snubbed(voided) = self.connection.handle_timeout(now)? {
            self.shared.snubbed.store(true, Ordering::Relaxed);
            voided.into_iter().for_each(|block| self.release(block));
        }
        Ok(())
    }
}

/// What the connection had claimed goes back; what the peer had is no longer counted.
impl<S: Slot> Drop for Link<S> {
    fn drop(&mut self) {
        let claimed: Vec<BlockRef> = self.connection.outstanding().map(|request| request.block).collect();
        claimed.into_iter().for_each(|block| self.release(block));
        self.working.iter().for_each(|work| self.swarm.pieces.leave(&work.open));
        self.swarm.availability.remove_set(self.connection.peer_have());
    }
}
