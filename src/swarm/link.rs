//! One connection's part in the swarm: maintains interest, requests blocks, announces pieces, applies choke decisions.
//!
//! The I/O around it calls, on arrival: [`Link::handle_message`], [`Link::handle_haves`] or [`Link::receive`] for the
//! messages, then [`Link::end_receive`], then [`Link::advance`], then [`Link::poll_transmit`] until it returns false.
//! Engine and simulator make the same calls; the steps of each are here alone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::gauge::Membership;
use super::interest::Interest;
use super::offers::Offers;
use super::open_piece::{OpenPiece, PieceMemory};
use super::peer_shared::PeerShared;
use super::pick::Round;
use super::picker::Picker;
use super::shared::Swarm;
use super::super_seeding::{Shown, SuperSeeding};
use crate::base::geometry::BLOCK_LEN;
use crate::base::{BlockRef, InfoHash, PieceIndex, Rng, Time, limits};
use crate::codec::extension::EXTENSION_HANDSHAKE_ID;
use crate::codec::message::Message;
use crate::peer::{BlockArrival, Connection, Event, InitialHave, PeerFault, Setup, TimeoutEvent, Transmit};

/// One connection's part in the swarm.
#[derive(Debug)]
pub struct Link<S: PieceMemory> {
    connection: Connection,
    swarm: Arc<Swarm<S>>,
    shared: Arc<PeerShared>,
    interest: Interest,
    picker: Picker<S>,
    offers: Offers,
    /// `None`: every piece that we have is announced to the peer.
    super_seeding: Option<SuperSeeding>,
    slot_use: SlotUse,
    /// While the peer is interested and does not stall.
    interested: Option<Membership>,
    /// The info-hash of the torrent, until the peer has been granted its allowed-fast set.
    allowed_fast_for: Option<InfoHash>,
    stream: Stream,
}

/// The place of a connection among those with the same peer, which share one [`PeerShared`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    /// It stands for the peer: its pieces, its interest and its use of the upload slot are counted here.
    First,
    /// It only carries more blocks.
    Further,
}

/// The last use of an upload slot.
#[derive(Debug, Clone, Copy)]
struct SlotUse {
    /// When a block had left, a request waited, or the peer had no slot.
    at: Time,
    /// Payload bytes sent by then.
    uploaded: u64,
}

/// Whether a peer reads the bytes that we send to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Nothing is under way to it.
    Nothing,
    Underway,
    /// It leaves them unread.
    Stalled,
}

/// The result of a received block.
#[derive(Debug)]
pub struct Receipt<S: PieceMemory> {
    /// From request to block; `None` if the request had been withdrawn.
    pub latency: Option<Duration>,
    /// The piece that the block completed: every block is in its memory and the sender of each is stored, so it can be
    /// hashed.
    pub completed: Option<Arc<OpenPiece<S>>>,
}

impl<S: PieceMemory> Link<S> {
    /// Joins a connection to the swarm; `setup.have` and `setup.upload_only` are filled in here.
    pub fn new(setup: Setup, swarm: Arc<Swarm<S>>, shared: Arc<PeerShared>, now: Time) -> Self {
        let rng = Rng::with_seed(swarm.salt ^ u64::from(shared.key()));
        Self::join(setup, swarm, shared, Stream::First, rng, now)
    }

    /// Joins a further connection to the peer of `shared`, which has one already. `key` differs from connection to
    /// connection.
    pub fn further(setup: Setup, swarm: Arc<Swarm<S>>, shared: Arc<PeerShared>, key: u32, now: Time) -> Self {
        let rng = Rng::with_seed(swarm.salt ^ u64::from(key));
        Self::join(setup, swarm, shared, Stream::Further, rng, now)
    }

    fn join(
        mut setup: Setup,
        swarm: Arc<Swarm<S>>,
        shared: Arc<PeerShared>,
        stream: Stream,
        rng: Rng,
        now: Time,
    ) -> Self {
        let recounts = swarm.pieces.recounts();
        let snapshot = swarm.pieces.have_snapshot();
        let is_hidden = swarm.initial_seeding.is_super_seeding(now) && swarm.pieces.has_all();
        setup.upload_only = swarm.pieces.is_complete() && !is_hidden;
        let interest = Interest::new(&snapshot, recounts);
        setup.have = match snapshot.have {
            _ if is_hidden => InitialHave::None,
            have if have.piece_count() > 0 && have.is_full() => InitialHave::All,
            have if have.is_empty() => InitialHave::None,
            have => InitialHave::Some(have),
        };
        let mut link = Self {
            allowed_fast_for: setup.info_hash,
            connection: Connection::new(setup, now),
            interest,
            picker: Picker::new(rng),
            offers: Offers::new(now),
            super_seeding: (is_hidden && stream == Stream::First)
                .then(|| SuperSeeding::new(swarm.geometry.piece_count(), now)),
            slot_use: SlotUse { at: now, uploaded: 0 },
            interested: None,
            swarm,
            shared,
            stream,
        };
        if stream == Stream::First {
            link.swarm.availability.add_set(link.connection.peer_have());
        }
        link.follow_choker(now);
        link
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// See [`Connection::want_stream`].
    pub fn want_stream(&mut self) {
        self.connection.want_stream();
    }

    pub fn shared(&self) -> &Arc<PeerShared> {
        &self.shared
    }

    /// Pieces examined so far to find one to request; a search for a piece that other connections have begun counts as
    /// one.
    pub fn candidates_examined(&self) -> u64 {
        self.picker.candidates_examined
    }

    /// Neither side will ever want a piece of the other.
    pub fn is_useless(&self) -> bool {
        self.swarm.pieces.is_complete() && (self.connection.peer_has_all() || self.connection.peer_upload_only())
    }

    /// Takes one message that is not a block.
    pub fn handle_message(&mut self, now: Time, message: &Message<'_>) -> Result<(), PeerFault> {
        if matches!(message, Message::Request { .. }) {
            self.offers.handle_active(now);
        }
        match self.connection.handle_message(now, message)? {
            Event::Quiet => {}
            Event::Have(piece) => self.interest.pending_haves().push(piece),
            Event::HaveMany(pieces) => {
                self.interest.pending_haves().extend(pieces);
                self.count_pending_haves();
            }
            Event::Unchoked => self.picker.handle_unchoked(),
            Event::Choked(voided) => self.picker.handle_choked(&self.swarm.pieces, &voided),
            Event::Interested => self.set_peer_interested(true),
            Event::NotInterested => self.set_peer_interested(false),
            Event::Request(block) => self.handle_request(block)?,
            Event::Rejected(block) => {
                self.picker.working.release(&self.swarm.pieces, &[block]);
                if !self.connection.peer_choking() {
                    self.picker.rejections.handle_rejected(block.piece)?;
                }
            }
            Event::Suggested(piece) if self.interest.lacks(&self.swarm.pieces, piece) => {
                self.picker.suggestions.handle_suggested(now, piece);
            }
            // Allowed-fast pieces are looked up when requests are made.
            Event::Suggested(_) | Event::AllowedFast(_) => {}
        }
        if matches!(message, Message::HaveNone | Message::Bitfield(_)) {
            self.allow_fast();
        }
        if let (Message::Extended { id: EXTENSION_HANDSHAKE_ID, .. }, Some(client)) =
            (message, self.connection.peer_client())
        {
            self.shared.set_client(client);
            self.connection.peer_sees_us().into_iter().for_each(|ip| self.shared.set_sees_us(ip));
        }
        Ok(())
    }

    /// Takes `have` messages that arrived together; returns how many there were.
    pub fn handle_haves(&mut self, now: Time, indices: impl Iterator<Item = u32>) -> Result<usize, PeerFault> {
        self.connection.handle_haves(now, indices, self.interest.pending_haves())
    }

    fn handle_request(&mut self, block: BlockRef) -> Result<(), PeerFault> {
        let piece = block.piece;
        if self.super_seeding.as_ref().is_some_and(|shown| !shown.has_shown(piece)) {
            return self.connection.refuse(block);
        }
        if self.swarm.pieces.has(piece) {
            self.offers.handle_requested(piece, &self.connection);
            return self.connection.serve(block);
        }
        // We may have lost a piece after we announced it, or not have announced yet that we got it: the request is not
        // the peer's fault.
        let lacks = self.interest.lacks(&self.swarm.pieces, piece);
        let is_excusable = self.swarm.pieces.was_lost(piece) || (!lacks && !self.swarm.pieces.is_excluded(piece));
        if is_excusable { self.connection.excuse(block) } else { self.connection.refuse(block) }
    }

    /// Grants a newcomer its allowed-fast set (BEP 6), once that costs the swarm no first copies.
    fn allow_fast(&mut self) {
        let Some(info_hash) = self.allowed_fast_for.take() else { return };
        if !self.swarm.initial_seeding.is_active()
            && self.super_seeding.is_none()
            && self.connection.peer_have().count() < limits::ALLOWED_FAST_MAX
        {
            let (pieces, have) = (&self.swarm.pieces, self.connection.peer_have().clone());
            let ip = self.shared.address().ip();
            self.connection.allow_fast(ip, info_hash, |piece| pieces.has(piece) && !have.contains(piece));
        }
    }

    fn set_peer_interested(&mut self, interested: bool) {
        if self.stream == Stream::First {
            self.shared.set_interested(interested);
            self.count_interested();
        }
    }

    fn count_interested(&mut self) {
        self.swarm.interested.set(&mut self.interested, self.shared.wants_blocks());
        self.shared.request_choke_review();
    }

    fn count_pending_haves(&mut self) {
        let Self { interest, picker, swarm, connection, shared, stream, .. } = self;
        let counted_for = (*stream == Stream::First).then_some(&**shared);
        interest.count_pending(swarm, connection, counted_for, |have| picker.handle_have(have));
    }

    /// Takes a whole block. `land` puts it into the piece's memory, and returns false if the bytes were there already.
    ///
    /// # Errors
    /// [`PeerFault::Unrequested`] if the block was never requested.
    pub fn receive(
        &mut self,
        now: Time,
        index: u32,
        begin: u32,
        length: u32,
        land: impl FnOnce(&OpenPiece<S>, BlockRef) -> bool,
    ) -> Result<Receipt<S>, PeerFault> {
        let unrequested = PeerFault::Unrequested { index, begin, length };
        let block = self.swarm.geometry.span(index, begin, length).ok_or(unrequested)?;
        let latency = match self.connection.handle_block(now, block)? {
            BlockArrival::Expected { latency } => Some(latency),
            BlockArrival::Late => None,
        };
        self.picker.rejections.count = 0;
        if self.stream == Stream::First {
            self.shared.set_snubbed(self.connection.is_snubbed());
        }
        let open = self.wanted_by(block);
        if latency.is_some() {
            self.picker.working.handle_settled(block.piece);
        }
        let open = open.filter(|open| land(open, block));
        let completed = self.handle_landed(now, block, open, latency.is_some());
        Ok(Receipt { latency, completed })
    }

    /// The open piece that wants the block.
    fn wanted_by(&self, block: BlockRef) -> Option<Arc<OpenPiece<S>>> {
        let open = match self.picker.working.find(block.piece) {
            Some(work) => Some(work.open.clone()),
            // From an unproven peer only blocks that are requested from it: otherwise each choke would let it corrupt
            // one more piece.
            None if self.shared.is_proven() => self.swarm.pieces.find_open(block.piece),
            None => None,
        };
        let on_grid = self.swarm.geometry.block(block.piece, block.begin / BLOCK_LEN) == Some(block);
        open.filter(|open| on_grid && !open.is_retired())
    }

    /// The block is in the memory of `open`; `None`: it had arrived before, or is not wanted.
    fn handle_landed(
        &mut self,
        now: Time,
        block: BlockRef,
        open: Option<Arc<OpenPiece<S>>>,
        is_claimed: bool,
    ) -> Option<Arc<OpenPiece<S>>> {
        let (picker, swarm) = (&mut self.picker, &self.swarm);
        let len = u64::from(block.len);
        self.shared.count_downloaded(len);
        let Some(open) = open else {
            swarm.totals.wasted.fetch_add(len, Ordering::Relaxed);
            picker.working.leave_finished(&swarm.pieces);
            return None;
        };
        swarm.totals.downloaded.fetch_add(len, Ordering::Relaxed);
        open.touch(now);
        picker.overtaken = false;
        picker.unproven_count += usize::from(!self.shared.is_proven());
        let source = picker.working.source_in(&open).unwrap_or_else(|| {
            let source = open.join(&self.shared);
            swarm.pieces.leave(&open);
            source
        });
        let received = open.handle_received(block.block_index(), source, is_claimed);
        if received.is_claimed_elsewhere {
            swarm.pieces.count_duplicate();
        }
        if picker.working.has_idle() {
            picker.working.leave_finished(&swarm.pieces);
        }
        received.completes.then_some(open)
    }

    /// The blocks the peer owes, in the order in which it should send them, each with its open piece while that is
    /// wanted.
    pub fn expected(&self) -> impl Iterator<Item = (BlockRef, Option<&OpenPiece<S>>)> {
        self.connection.outstanding().map(|request| {
            let work = self.picker.working.find(request.block.piece);
            (request.block, work.map(|work| &*work.open).filter(|open| !open.is_retired()))
        })
    }

    /// The peer owes no block, and no block is left to request.
    pub fn is_finishing(&self) -> bool {
        self.connection.outstanding_count() == 0 && self.swarm.pieces.is_endgame()
    }

    /// Bytes have arrived, perhaps only a part of a message.
    pub fn end_receive(&mut self, now: Time) {
        self.connection.handle_bytes(now);
    }

    /// Follows the changes of the swarm, and requests as many blocks as the window takes.
    ///
    /// # Errors
    /// [`PeerFault::CloseRequested`] if the connection has to end.
    pub fn advance(&mut self, now: Time) -> Result<(), PeerFault> {
        self.sync(now)?;
        self.request_blocks(now);
        Ok(())
    }

    /// Follows the changes of the swarm since the last call.
    fn sync(&mut self, now: Time) -> Result<(), PeerFault> {
        if self.shared.is_close_requested() {
            return Err(PeerFault::CloseRequested);
        }
        self.count_pending_haves();
        self.interest.announce(&self.swarm, &mut self.connection);
        if let Some(shown) = &mut self.super_seeding
            && shown.show(now, &self.swarm, &mut self.connection, self.interested.is_some()) == Shown::All
        {
            self.super_seeding = None;
        }
        self.picker.cancel_received(&self.swarm.pieces, &mut self.connection);
        self.connection.set_interested(self.interest.is_interested());
        self.follow_choker(now);
        Ok(())
    }

    fn request_blocks(&mut self, now: Time) {
        let Self { picker, swarm, connection, shared: peer, .. } = self;
        Round { now, picker, swarm, connection, peer }.request_blocks();
    }

    fn follow_choker(&mut self, now: Time) {
        let is_unchoked = self.shared.is_unchoked();
        if is_unchoked {
            if self.connection.am_choking() {
                self.offers.handle_active(now);
            }
            self.connection.unchoke();
        } else {
            self.connection.choke(now);
        }
        if self.stream == Stream::Further {
            return;
        }
        self.offers.count_served(now, &self.swarm, &self.connection, &self.shared);
        if !is_unchoked {
            self.offers.withdraw(&self.swarm);
        } else if self.super_seeding.is_none() && self.swarm.initial_seeding.is_active() {
            self.offers.suggest(now, &self.swarm, &mut self.connection);
        }
    }

    /// Checks whether the peer uses its upload slot: it does not if it leaves the blocks that it requested unread, or
    /// requests less than a block in [`limits::SLOT_IDLE_NOTICE`].
    pub fn follow_use(&mut self, now: Time, reading: Reading) {
        if self.stream == Stream::Further {
            return;
        }
        let uploaded = self.shared.uploaded();
        let is_active = uploaded >= self.slot_use.uploaded + u64::from(BLOCK_LEN) || self.connection.queued_count() > 0;
        if is_active || !self.shared.is_unchoked() {
            self.slot_use = SlotUse { at: now, uploaded };
        }
        let is_stalled = match reading {
            Reading::Nothing => now >= self.slot_use.at + limits::SLOT_IDLE_NOTICE,
            Reading::Underway => false,
            Reading::Stalled => true,
        };
        if self.shared.set_stalled(is_stalled) {
            self.count_interested();
        }
        self.offers.count_served(now, &self.swarm, &self.connection, &self.shared);
    }

    /// Fills `transmit` with what may leave now; see [`Connection::poll_transmit`].
    pub fn poll_transmit(
        &mut self,
        now: Time,
        transmit: &mut Transmit,
        is_ready: impl FnMut(BlockRef) -> bool,
    ) -> bool {
        let is_filled = self.connection.poll_transmit(now, transmit, is_ready);
        if self.stream == Stream::First {
            self.shared.set_queued_count(self.connection.queued_count());
        }
        is_filled
    }

    /// Sends queued announcements at once; otherwise they wait for another message.
    pub fn flush_haves(&mut self) {
        self.connection.flush_haves();
    }

    /// Blocks of this many bytes have left.
    pub fn handle_sent(&self, len: u64) {
        self.shared.count_uploaded(len);
        self.swarm.totals.uploaded.fetch_add(len, Ordering::Relaxed);
    }

    /// A piece that the peer requested can't be served.
    pub fn refuse_piece(&mut self, piece: PieceIndex) {
        self.connection.refuse_piece(piece);
    }

    pub fn poll_timeout(&self) -> Time {
        let show = self.super_seeding.as_ref().map_or(Time::MAX, SuperSeeding::poll_timeout);
        let timeout = self.connection.poll_timeout().min(show);
        self.picker.retry.at.map_or(timeout, |at| at.min(timeout))
    }

    /// Does what is due at `now`; [`Self::advance`] comes next.
    pub fn handle_timeout(&mut self, now: Time) -> Result<(), PeerFault> {
        if let TimeoutEvent::Snubbed(voided) = self.connection.handle_timeout(now)? {
            if self.stream == Stream::First {
                self.shared.set_snubbed(true);
            }
            self.picker.working.release(&self.swarm.pieces, &voided);
        }
        self.picker.handle_timeout(now, &self.swarm);
        Ok(())
    }
}

/// Releases the claims of the connection and stops counting the pieces of the peer. The memberships end with it.
impl<S: PieceMemory> Drop for Link<S> {
    fn drop(&mut self) {
        let claimed: Vec<BlockRef> = self.connection.outstanding().map(|request| request.block).collect();
        self.picker.working.release(&self.swarm.pieces, &claimed);
        self.picker.working.leave_all(&self.swarm.pieces);
        self.offers.withdraw(&self.swarm);
        if let Some(shown) = self.super_seeding.take() {
            self.swarm.initial_seeding.give_back(shown.into_pending());
        }
        self.set_peer_interested(false);
        self.count_pending_haves();
        if self.stream == Stream::First {
            self.swarm.availability.remove_set(self.connection.peer_have());
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
