//! The state of one connection.
//!
//! Order of use: `handle_*` for what arrived, then commands (`unchoke`, `request`, …), then [`Connection::poll_transmit`]
//! until it returns false, then [`Connection::poll_timeout`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::allowed_fast::{AllowedIn, AllowedOut};
use super::event::{BlockArrival, Event, TimeoutEvent};
use super::fault::PeerFault;
use super::flood::{ControlFlood, Flood};
use super::metadata::{METADATA_ID, MetadataOut};
use super::requests::{Outstanding, RequestsIn, RequestsOut};
use super::setup::Setup;
use super::transmit::Transmit;
use crate::base::{Bitfield, BlockRef, Geometry, InfoHash, PieceIndex, Time, limits};
use crate::codec::extension::{EXTENSION_HANDSHAKE_ID, ExtensionHandshake};
use crate::codec::message::Message;
use crate::codec::metadata::METADATA_EXTENSION;

/// Requests that reach us this long after a choke were sent before it was seen.
const CHOKE_GRACE: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub struct Connection {
    geometry: Arc<Geometry>,
    fast: bool,
    am_choking: bool,
    am_interested: bool,
    peer_choking: bool,
    peer_interested: bool,
    peer_have: Bitfield,
    peer_has_all: bool,
    peer_upload_only: bool,
    peer_client: Option<Vec<u8>>,
    peer_sees_us: Option<IpAddr>,
    /// No message but extended ones has come yet, so that a bitfield still may.
    at_first_message: bool,
    requests_in: RequestsIn,
    requests_out: RequestsOut,
    allowed_out: AllowedOut,
    allowed_in: AllowedIn,
    metadata: Option<MetadataOut>,
    control: Vec<u8>,
    /// Nothing waits in `control` but haves that may wait for something to go with.
    haves_alone: bool,
    choked_at: Time,
    invalid_requests: Flood,
    last_received: Time,
    last_message: Time,
    last_sent: Time,
    flood: ControlFlood,
}

impl Connection {
    /// Starts choked and not interested on both sides (BEP 3); queues what we have and the extension handshake.
    pub fn new(setup: Setup, now: Time) -> Self {
        let piece_count = setup.geometry.piece_count();
        let mut connection = Self {
            geometry: setup.geometry,
            fast: setup.fast,
            am_choking: true,
            am_interested: false,
            peer_choking: true,
            peer_interested: false,
            peer_have: Bitfield::new(piece_count),
            peer_has_all: piece_count == 0,
            peer_upload_only: false,
            peer_client: None,
            peer_sees_us: None,
            at_first_message: true,
            requests_in: RequestsIn::default(),
            requests_out: RequestsOut::new(now),
            allowed_out: AllowedOut::default(),
            allowed_in: AllowedIn::default(),
            metadata: setup.metadata.and_then(|info| MetadataOut::new(info, now)),
            control: Vec::new(),
            haves_alone: false,
            choked_at: now,
            invalid_requests: Flood::default(),
            last_received: now,
            last_message: now,
            last_sent: now,
            flood: ControlFlood::default(),
        };
        setup.opening.encode(setup.fast, piece_count, &mut connection.control);
        if setup.extension {
            let handshake = ExtensionHandshake {
                client: Some(concat!("bt-fast ", env!("CARGO_PKG_VERSION")).into()),
                requests_max: u32::try_from(limits::REQUESTS_IN_MAX).ok(),
                upload_only: setup.upload_only.then_some(true),
                listen_port: setup.listen_port,
                your_ip: setup.peer_ip,
                metadata_len: connection.metadata.as_ref().map(MetadataOut::info_len),
                messages: connection.metadata.iter().map(|_| (METADATA_EXTENSION.to_vec(), METADATA_ID)).collect(),
            };
            connection.queue(&Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: &handshake.encode() });
        }
        connection
    }

    fn queue(&mut self, message: &Message<'_>) {
        self.haves_alone = false;
        message.encode(&mut self.control);
    }

    pub fn am_choking(&self) -> bool {
        self.am_choking
    }

    pub fn am_interested(&self) -> bool {
        self.am_interested
    }

    pub fn peer_choking(&self) -> bool {
        self.peer_choking
    }

    pub fn peer_interested(&self) -> bool {
        self.peer_interested
    }

    pub fn peer_have(&self) -> &Bitfield {
        &self.peer_have
    }

    /// The peer has every piece.
    pub fn peer_has_all(&self) -> bool {
        self.peer_has_all
    }

    /// The peer says that it downloads nothing (BEP 21).
    pub fn peer_upload_only(&self) -> bool {
        self.peer_upload_only
    }

    /// The address the peer says that it sees us at (`yourip`, BEP 10).
    pub fn peer_sees_us(&self) -> Option<IpAddr> {
        self.peer_sees_us
    }

    /// The client's name as it tells it; bytes from outside.
    pub fn peer_client(&self) -> Option<&[u8]> {
        self.peer_client.as_deref()
    }

    /// The Fast extension is on (BEP 6).
    pub fn is_fast(&self) -> bool {
        self.fast
    }

    pub fn is_snubbed(&self) -> bool {
        self.requests_out.snubbed
    }

    /// Takes one message that arrived at `now`.
    pub fn handle_message(&mut self, now: Time, message: &Message<'_>) -> Result<Event, PeerFault> {
        (self.last_received, self.last_message) = (now, now);
        self.count_control(now, message)?;
        let first = self.at_first_message;
        if !matches!(message, Message::Extended { .. } | Message::KeepAlive) {
            self.at_first_message = false;
        }
        match *message {
            // BEP 3: "Messages of length zero are keepalives, and ignored."
            Message::KeepAlive | Message::Port(_) | Message::Unknown { .. } => Ok(Event::Quiet),
            Message::Choke => Ok(self.handle_choke()),
            Message::Unchoke => {
                self.peer_choking = false;
                Ok(Event::Unchoked)
            }
            Message::Interested => {
                self.peer_interested = true;
                Ok(Event::Interested)
            }
            Message::NotInterested => {
                self.peer_interested = false;
                Ok(Event::NotInterested)
            }
            Message::Have { index } => Ok(self.handle_have(now, index)?.map_or(Event::Quiet, Event::Have)),
            Message::Bitfield(payload) => {
                let have = Bitfield::from_wire(payload, self.geometry.piece_count())?;
                self.handle_bitfield(have, first)
            }
            Message::Request { index, begin, length } => self.handle_request(now, index, begin, length),
            Message::Cancel { index, begin, length } => {
                self.handle_cancel(index, begin, length);
                Ok(Event::Quiet)
            }
            Message::Extended { id, payload } => {
                self.handle_extended(now, id, payload)?;
                Ok(Event::Quiet)
            }
            Message::Suggest { .. }
            | Message::HaveAll
            | Message::HaveNone
            | Message::Reject { .. }
            | Message::AllowedFast { .. } => self.handle_fast(message, first),
        }
    }

    /// Cheap messages that make work are counted: have, suggest, request, piece, cancel and metadata have bounds of their own.
    fn count_control(&mut self, now: Time, message: &Message<'_>) -> Result<(), PeerFault> {
        if matches!(
            message,
            Message::Have { .. }
                | Message::Suggest { .. }
                | Message::Request { .. }
                | Message::Cancel { .. }
                | Message::Reject { .. }
                | Message::Extended { id: METADATA_ID, .. }
        ) {
            return Ok(());
        }
        if self.flood.count_kind(now, message) { Err(PeerFault::Flood) } else { self.count(now) }
    }

    fn count(&mut self, now: Time) -> Result<(), PeerFault> {
        if self.flood.count(now) { Err(PeerFault::Flood) } else { Ok(()) }
    }

    fn handle_choke(&mut self) -> Event {
        self.peer_choking = true;
        // With the Fast extension each request is answered by a reject of its own; without it a choke voids them all.
        if self.fast { Event::Choked(Vec::new()) } else { Event::Choked(self.requests_out.withdraw_all()) }
    }

    /// The piece, if the peer did not have it before.
    fn handle_have(&mut self, now: Time, index: u32) -> Result<Option<PieceIndex>, PeerFault> {
        let piece = self.geometry.piece(index).ok_or(PeerFault::NoSuchPiece(index))?;
        if !self.peer_have.insert(piece) {
            self.count(now)?;
            return Ok(None);
        }
        self.peer_has_all = self.peer_have.is_full();
        Ok(Some(piece))
    }

    /// Takes `have` messages that arrived together, and adds to `heard` what the peer did not have before; returns how many there
    /// were. The memory they touch is spread: in a loop of their own it is waited for together.
    pub fn handle_haves(
        &mut self,
        now: Time,
        indices: impl Iterator<Item = u32>,
        heard: &mut Vec<PieceIndex>,
    ) -> Result<usize, PeerFault> {
        let mut count = 0;
        for index in indices {
            heard.extend(self.handle_have(now, index)?);
            count += 1;
        }
        if count > 0 {
            (self.last_received, self.last_message) = (now, now);
            self.at_first_message = false;
        }
        Ok(count)
    }

    /// BEP 3: "'bitfield' is only ever sent as the first message." aria2 sends another one in place of many haves, and webtorrent
    /// its first one (or have-all, or have-none) when it has a magnet link's metadata: what only adds pieces is taken as haves.
    fn handle_bitfield(&mut self, have: Bitfield, first: bool) -> Result<Event, PeerFault> {
        let lost = !first && self.peer_have.iter().any(|index| !have.contains_index(index));
        if lost {
            return Err(PeerFault::LateBitfield);
        }
        let known = std::mem::replace(&mut self.peer_have, have);
        self.peer_has_all = self.peer_have.is_full();
        let more = self.geometry.pieces().filter(|&piece| self.peer_have.contains(piece) && !known.contains(piece));
        Ok(Event::HaveMany(more.collect()))
    }

    fn handle_request(&mut self, now: Time, index: u32, begin: u32, length: u32) -> Result<Event, PeerFault> {
        if length > limits::REQUEST_LEN_MAX {
            return Err(PeerFault::RequestTooLong(length));
        }
        let outside = PeerFault::RequestOutside { index, begin, length };
        let block = self.geometry.span(index, begin, length).ok_or(outside)?;
        if !self.am_choking || self.allowed_out.take(block) {
            return Ok(Event::Request(block));
        }
        self.reject(block);
        if now.saturating_sub(self.choked_at) > CHOKE_GRACE || self.is_backlogged() {
            self.count_invalid_request()?;
        }
        Ok(Event::Quiet)
    }

    fn count_invalid_request(&mut self) -> Result<(), PeerFault> {
        // Requests are counted as they arrive.
        let count = self.invalid_requests.count(self.last_received, limits::INVALID_REQUESTS_TIME);
        if count > limits::INVALID_REQUESTS_MAX { Err(PeerFault::InvalidRequests) } else { Ok(()) }
    }

    fn handle_cancel(&mut self, index: u32, begin: u32, length: u32) {
        // A cancel of something already sent, or never asked for, is no fault: it crossed the block on its way.
        if let Some(block) = self.geometry.span(index, begin, length)
            && self.requests_in.cancel(block)
        {
            self.reject(block);
        }
    }

    fn handle_extended(&mut self, now: Time, id: u8, payload: &[u8]) -> Result<(), PeerFault> {
        // What a peer says of itself in a form we can't read is as good as not said.
        if id == EXTENSION_HANDSHAKE_ID
            && let Ok(handshake) = ExtensionHandshake::decode(payload)
        {
            if let Some(requests_max) = handshake.requests_max {
                self.requests_out.peer_max = usize::try_from(requests_max).unwrap_or(usize::MAX).max(1);
            }
            // BEP 10: it may come again, and what it leaves out stays as it was.
            self.peer_upload_only = handshake.upload_only.unwrap_or(self.peer_upload_only);
            if let (Some(metadata), Some(id)) = (&mut self.metadata, handshake.message_id(METADATA_EXTENSION)) {
                metadata.set_peer_id(id);
            }
            self.peer_client = handshake.client.or(self.peer_client.take());
            self.peer_sees_us = handshake.your_ip.or(self.peer_sees_us);
        } else if id == METADATA_ID && !self.metadata.as_mut().is_some_and(|metadata| metadata.handle_message(payload))
        {
            self.count(now)?;
        }
        Ok(())
    }

    fn handle_fast(&mut self, message: &Message<'_>, first: bool) -> Result<Event, PeerFault> {
        if !self.fast {
            return Err(PeerFault::FastNotAgreed);
        }
        match *message {
            Message::HaveAll if self.peer_has_all => Ok(Event::Quiet),
            Message::HaveAll => self.handle_bitfield(Bitfield::full(self.geometry.piece_count()), first),
            Message::HaveNone if !self.peer_have.is_empty() => Err(PeerFault::LateBitfield),
            Message::Reject { index, begin, length } => {
                let rejected =
                    self.geometry.span(index, begin, length).filter(|&block| self.requests_out.reject(block));
                // Should it allow this one all the same, it would be asked for it again at once.
                rejected.filter(|_| self.peer_choking).iter().for_each(|block| self.allowed_in.remove(block.piece));
                Ok(rejected.map_or(Event::Quiet, Event::Rejected))
            }
            // BEP 6: advisory, so an index that does not exist is as good as not said.
            Message::Suggest { index } => Ok(self.geometry.piece(index).map_or(Event::Quiet, Event::Suggested)),
            Message::AllowedFast { index } => Ok(self.geometry.piece(index).map_or(Event::Quiet, |piece| {
                self.allowed_in.insert(piece);
                Event::AllowedFast(piece)
            })),
            _ => Ok(Event::Quiet),
        }
    }

    /// A whole block has arrived.
    pub fn handle_block(&mut self, now: Time, block: BlockRef) -> Result<BlockArrival, PeerFault> {
        (self.last_received, self.last_message) = (now, now);
        self.at_first_message = false;
        if let Some(latency) = self.requests_out.take(now, block) {
            return Ok(BlockArrival::Expected { latency });
        }
        // BEP 3: "It's possible for an unexpected piece to arrive if choke and unchoke messages are sent in quick succession".
        if self.requests_out.take_stale() {
            return Ok(BlockArrival::Late);
        }
        Err(PeerFault::Unrequested { index: block.piece.get(), begin: block.begin, length: block.len })
    }

    /// Part of a message has arrived: the peer is alive, as long as messages become whole in time.
    pub fn handle_bytes(&mut self, now: Time) {
        self.last_received = self.last_received.max(now.min(self.last_message + limits::MESSAGE_TIMEOUT));
    }

    /// More control bytes wait to be sent than a peer that reads would leave: what can wait should.
    pub fn is_backlogged(&self) -> bool {
        self.control.len() > limits::CONTROL_BACKLOG_MAX
    }

    /// Queues a block the peer asked for, if the peer keeps to our `reqq`.
    pub fn serve(&mut self, block: BlockRef) -> Result<(), PeerFault> {
        if !self.requests_in.push(block) {
            return self.refuse(block);
        }
        Ok(())
    }

    /// Will not serve a block the peer asked for.
    pub fn refuse(&mut self, block: BlockRef) -> Result<(), PeerFault> {
        self.reject(block);
        self.count_invalid_request()
    }

    /// Takes back what was accepted: these blocks turned out to be unreadable.
    pub fn refuse_piece(&mut self, piece: PieceIndex) {
        for block in self.requests_in.extract(|block| block.piece == piece) {
            self.reject(block);
        }
    }

    /// BEP 6: every request gets a block or a reject. Without the extension there is no such word.
    pub fn reject(&mut self, block: BlockRef) {
        if self.fast {
            let BlockRef { piece, begin, len } = block;
            self.queue(&Message::Reject { index: piece.get(), begin, length: len });
        }
    }

    /// Stops serving the peer; what it has queued is dropped (BEP 3).
    pub fn choke(&mut self, now: Time) {
        if !self.am_choking {
            self.am_choking = true;
            self.choked_at = now;
            self.queue(&Message::Choke);
            // BEP 6: all but those for pieces that it may have choked.
            let allowed_out = &self.allowed_out;
            for block in self.requests_in.extract(|block| !allowed_out.contains(block.piece)) {
                self.reject(block);
            }
        }
    }

    /// Tells the peer which pieces it may have although it is choked (BEP 6); `has`: we have it. Without the extension there is
    /// no such word.
    pub fn allow_fast(&mut self, ip: IpAddr, info_hash: InfoHash, has: impl Fn(PieceIndex) -> bool) {
        if self.fast {
            let pieces = self.allowed_out.grant(ip, info_hash, &self.geometry, has).to_vec();
            pieces.iter().for_each(|piece| self.queue(&Message::AllowedFast { index: piece.get() }));
        }
    }

    /// Pieces that the peer gives though it chokes us, while it does.
    pub fn allowed_fast(&self) -> &[PieceIndex] {
        if self.peer_choking { self.allowed_in.pieces() } else { &[] }
    }

    pub fn unchoke(&mut self) {
        if self.am_choking {
            self.am_choking = false;
            self.queue(&Message::Unchoke);
        }
    }

    /// BEP 3: "Interest state must be kept up to date at all times".
    pub fn set_interested(&mut self, interested: bool) {
        if self.am_interested != interested {
            self.am_interested = interested;
            self.queue(if interested { &Message::Interested } else { &Message::NotInterested });
        }
    }

    /// Announces a piece whose hash was right: with what leaves next, or when [`Self::flush_haves`] says so.
    pub fn have(&mut self, piece: PieceIndex) {
        Message::Have { index: piece.get() }.encode(&mut self.control);
    }

    /// What is announced leaves next, even if nothing else does.
    pub fn flush_haves(&mut self) {
        self.haves_alone = false;
    }

    /// Tells the peer which piece it had best ask for (BEP 6). Without the extension there is no such word.
    pub fn suggest(&mut self, piece: PieceIndex) {
        if self.fast {
            self.queue(&Message::Suggest { index: piece.get() });
        }
    }

    /// The best recent rate at which the peer answers, in bytes per second; 0 when nothing is known.
    pub fn download_rate(&self) -> u64 {
        self.requests_out.rate()
    }

    /// Requests that may be added now: while choked few, and for [`Self::allowed_fast`] alone; in batches, so that requests leave many at a time.
    pub fn request_room(&self) -> usize {
        if self.peer_choking && self.am_interested && !self.allowed_in.pieces().is_empty() {
            return limits::REQUESTS_OUT_CHOKED.saturating_sub(self.requests_out.len());
        }
        let room = self.requests_out.room();
        let batch = (self.requests_out.window() / 4).max(1);
        if self.peer_choking || !self.am_interested || (room < batch && !self.requests_out.snubbed) { 0 } else { room }
    }

    /// Requests to have outstanding when `sharers` peers are asked at the time: what bridges a peer's pauses beyond its pipe
    /// they have together, since the others go on meanwhile.
    pub fn request_share(&self, sharers: usize) -> usize {
        let pipe = self.requests_out.pipe().max(limits::REQUESTS_OUT_SLOW);
        (self.requests_out.window() / sharers.max(1)).max(pipe)
    }

    /// Asks for a block.
    pub fn request(&mut self, now: Time, block: BlockRef) {
        let BlockRef { piece, begin, len } = block;
        self.queue(&Message::Request { index: piece.get(), begin, length: len });
        self.requests_out.push(now, block);
    }

    /// Takes a request back because somebody else brought the block.
    pub fn cancel(&mut self, block: BlockRef) {
        if self.requests_out.withdraw(block) {
            self.queue_cancel(block);
        }
    }

    fn queue_cancel(&mut self, block: BlockRef) {
        let BlockRef { piece, begin, len } = block;
        self.queue(&Message::Cancel { index: piece.get(), begin, length: len });
    }

    /// Our requests without an answer, oldest first.
    pub fn outstanding(&self) -> impl Iterator<Item = &Outstanding> {
        self.requests_out.iter()
    }

    pub fn outstanding_count(&self) -> usize {
        self.requests_out.len()
    }

    /// The peer's requests that wait to be served, next first.
    pub fn queued(&self) -> impl ExactSizeIterator<Item = &BlockRef> {
        self.requests_in.iter()
    }

    /// Fills `transmit` with what may leave now; false when there is nothing. Blocks are taken from the queue's front
    /// while `is_ready` says that they can be read without waiting.
    pub fn poll_transmit(
        &mut self,
        now: Time,
        transmit: &mut Transmit,
        mut is_ready: impl FnMut(BlockRef) -> bool,
    ) -> bool {
        transmit.control.clear();
        transmit.blocks.clear();
        if let Some(metadata) = &mut self.metadata {
            metadata.poll_transmit(now, &mut transmit.control);
        }
        let mut len = 0;
        while let Some(block) = self.requests_in.front() {
            let fits = len + block.len as usize <= transmit.len_max && transmit.blocks.len() < limits::SEND_BLOCKS_MAX;
            if !(fits || transmit.blocks.is_empty()) || !is_ready(block) {
                break;
            }
            len += block.len as usize;
            transmit.blocks.extend(self.requests_in.pop());
        }
        if !self.haves_alone || !transmit.control.is_empty() || !transmit.blocks.is_empty() {
            transmit.control.append(&mut self.control);
            self.haves_alone = true;
        }
        let something = !transmit.control.is_empty() || !transmit.blocks.is_empty();
        if something {
            self.last_sent = now;
        }
        something
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Time {
        let keep_alive = self.last_sent + limits::KEEP_ALIVE_INTERVAL;
        let silence = self.last_received + limits::SILENCE_TIMEOUT;
        let snub = match self.requests_out.len() {
            0 => Time::MAX,
            _ => self.requests_out.last_progress + limits::SNUB_TIMEOUT,
        };
        let haves = if self.control.is_empty() { Time::MAX } else { self.last_sent + limits::HAVE_HELD_MAX };
        let metadata = self.metadata.as_ref().map_or(Time::MAX, MetadataOut::poll_timeout);
        keep_alive.min(silence).min(snub).min(haves).min(metadata)
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Time) -> Result<TimeoutEvent, PeerFault> {
        if now >= self.last_received + limits::SILENCE_TIMEOUT {
            return Err(PeerFault::Silent);
        }
        if now >= self.last_sent + limits::HAVE_HELD_MAX {
            self.flush_haves();
        }
        if now >= self.last_sent + limits::KEEP_ALIVE_INTERVAL {
            self.queue(&Message::KeepAlive);
            self.last_sent = now;
        }
        if self.requests_out.len() > 0 && now >= self.requests_out.last_progress + limits::SNUB_TIMEOUT {
            self.requests_out.last_progress = now;
            self.requests_out.snubbed = true;
            let voided = self.requests_out.withdraw_all();
            // Should it speak again, it must not begin with what others have brought in the meantime.
            voided.iter().for_each(|&block| self.queue_cancel(block));
            return Ok(TimeoutEvent::Snubbed(voided));
        }
        Ok(TimeoutEvent::Quiet)
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
