//! The state of one connection.
//!
//! Order of use: `handle_*` for what arrived, then commands (`unchoke`, `request`, …), then
//! [`Connection::poll_transmit`] until it returns false, then [`Connection::poll_timeout`].

mod incoming;

use std::net::IpAddr;
use std::sync::Arc;

use super::allowed_fast::{AllowedIn, AllowedOut};
use super::control_queue::ControlQueue;
use super::event::TimeoutEvent;
use super::fault::PeerFault;
use super::flood::{ControlFlood, Flood};
use super::metadata::{METADATA_ID, MetadataOut};
use super::requests::{Outstanding, RequestsIn, RequestsOut};
use super::setup::Setup;
use super::transmit::Transmit;
use crate::base::{Bitfield, BlockRef, Geometry, InfoHash, PeerId, PieceIndex, Time, TimerTable, limits};
use crate::codec::extension::{EXTENSION_HANDSHAKE_ID, ExtensionHandshake, Streams};
use crate::codec::message::Message;
use crate::codec::metadata::METADATA_EXTENSION;

/// The protocol state of one peer connection, without its I/O.
#[derive(Debug)]
pub struct Connection {
    geometry: Arc<Geometry>,
    fast: bool,
    sides: Sides,
    stage: Stage,
    peer_have: Bitfield,
    peer_has_all: bool,
    peer: PeerInfo,
    requests_in: RequestsIn,
    requests_out: RequestsOut,
    allowed_out: AllowedOut,
    allowed_in: AllowedIn,
    metadata: Option<MetadataOut>,
    /// The connections that we agree to have with the peer, as it was told.
    streams: Option<Streams>,
    control: ControlQueue,
    activity: Activity,
    abuse: Abuse,
}

/// Choke and interest of both sides (BEP 3).
#[derive(Debug, Default)]
struct Sides {
    am: Side,
    peer: Side,
}

/// One side: choking and not interested at first (BEP 3).
#[derive(Debug)]
struct Side {
    choking: bool,
    interested: bool,
}

impl Default for Side {
    fn default() -> Self {
        Self { choking: true, interested: false }
    }
}

/// The progress of the peer's message stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Only extended messages and keep-alives have arrived, so a bitfield may follow.
    BeforeFirstMessage,
    Open,
}

/// Facts of the peer's extension handshake (BEP 10).
#[derive(Debug, Default)]
struct PeerInfo {
    upload_only: bool,
    client: Option<Vec<u8>>,
    sees_us: Option<IpAddr>,
    streams: Option<Streams>,
}

/// When each kind of activity last happened.
#[derive(Debug)]
struct Activity {
    /// Bytes arrived; see [`Connection::handle_bytes`].
    received: Time,
    /// A message was complete.
    message: Time,
    sent: Time,
    /// We choked the peer.
    choked: Time,
}

/// Counts of messages that a peer has no reason to send.
#[derive(Debug, Default)]
struct Abuse {
    invalid_requests: Flood,
    control: ControlFlood,
    suggestion_count: u32,
}

/// The deadlines of a connection.
#[derive(Debug, Clone, Copy)]
enum Timer {
    /// The peer is dropped.
    Silence,
    /// A keep-alive is sent.
    KeepAlive,
    /// The peer owes blocks and sends none: it is snubbed.
    Snub,
    /// Announcements that waited for another message are sent.
    FlushHaves,
    /// A part of the metadata may be sent.
    Metadata,
}

impl From<Timer> for usize {
    fn from(timer: Timer) -> Self {
        timer as Self
    }
}

impl Connection {
    /// Starts choked and not interested on both sides (BEP 3). Queues the message that announces our pieces, and the
    /// extension handshake.
    pub fn new(setup: Setup, now: Time) -> Self {
        let piece_count = setup.geometry.piece_count();
        let mut connection = Self {
            geometry: setup.geometry,
            fast: setup.fast,
            sides: Sides::default(),
            stage: Stage::BeforeFirstMessage,
            peer_have: Bitfield::new(piece_count),
            peer_has_all: piece_count == 0,
            peer: PeerInfo::default(),
            requests_in: RequestsIn::default(),
            requests_out: RequestsOut::new(now),
            allowed_out: AllowedOut::default(),
            allowed_in: AllowedIn::default(),
            metadata: setup.metadata.and_then(|info| MetadataOut::new(info, now)),
            streams: setup.streams.filter(|_| setup.extension),
            control: ControlQueue::default(),
            activity: Activity { received: now, message: now, sent: now, choked: now },
            abuse: Abuse::default(),
        };
        setup.have.encode(setup.fast, piece_count, connection.control.bytes_mut());
        if setup.extension {
            let handshake = ExtensionHandshake {
                client: Some(concat!("bt-fast ", env!("CARGO_PKG_VERSION")).into()),
                requests_max: u32::try_from(limits::REQUESTS_IN_MAX).ok(),
                upload_only: setup.upload_only.then_some(true),
                listen_port: setup.listen_port,
                your_ip: setup.peer_ip,
                metadata_len: connection.metadata.as_ref().map(MetadataOut::info_len),
                messages: connection.metadata.iter().map(|_| (METADATA_EXTENSION.to_vec(), METADATA_ID)).collect(),
                streams: connection.streams,
            };
            connection.control.push(&Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: &handshake.encode() });
        }
        connection
    }

    /// The connections that both sides agree to have; at least 2. `None`: no more than this one.
    pub fn streams_max(&self) -> Option<usize> {
        let (own, peer) = (self.streams?, self.peer.streams?);
        Some(own.max.min(peer.max).into())
    }

    /// The peer id with which a further connection to the peer may be opened, once the peer has told it.
    pub fn stream_id(&self) -> Option<PeerId> {
        self.peer.streams?.id
    }

    /// The peer would like to have a further connection.
    pub fn peer_wants_stream(&self) -> bool {
        self.peer.streams.is_some_and(|streams| streams.wants_more)
    }

    /// Tells the peer that we would like to have a further connection, once, if both sides agree to have some.
    pub fn want_stream(&mut self) {
        if self.streams_max().is_some()
            && let Some(streams) = &mut self.streams
            && !std::mem::replace(&mut streams.wants_more, true)
        {
            // BEP 10: the handshake may be repeated, and keys that it omits keep their values.
            let handshake = ExtensionHandshake { streams: Some(*streams), ..ExtensionHandshake::default() };
            self.control.push(&Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: &handshake.encode() });
        }
    }

    pub fn am_choking(&self) -> bool {
        self.sides.am.choking
    }

    pub fn am_interested(&self) -> bool {
        self.sides.am.interested
    }

    pub fn peer_choking(&self) -> bool {
        self.sides.peer.choking
    }

    pub fn peer_interested(&self) -> bool {
        self.sides.peer.interested
    }

    pub fn peer_have(&self) -> &Bitfield {
        &self.peer_have
    }

    /// The peer has every piece.
    pub fn peer_has_all(&self) -> bool {
        self.peer_has_all
    }

    /// The peer declared that it downloads nothing (BEP 21).
    pub fn peer_upload_only(&self) -> bool {
        self.peer.upload_only
    }

    /// Our address as the peer sees it (`yourip`, BEP 10).
    pub fn peer_sees_us(&self) -> Option<IpAddr> {
        self.peer.sees_us
    }

    /// The client name in the peer's extension handshake: untrusted bytes.
    pub fn peer_client(&self) -> Option<&[u8]> {
        self.peer.client.as_deref()
    }

    /// The Fast extension is on (BEP 6).
    pub fn is_fast(&self) -> bool {
        self.fast
    }

    pub fn is_snubbed(&self) -> bool {
        self.requests_out.snubbed
    }

    /// More control bytes wait to be sent than a peer that reads would leave: messages that can wait should.
    pub fn is_backlogged(&self) -> bool {
        self.control.is_backlogged()
    }

    /// Queues a block that the peer requested. Refuses it if the queue is full: the peer exceeds our `reqq`.
    pub fn serve(&mut self, block: BlockRef) -> Result<(), PeerFault> {
        if !self.requests_in.push(block) {
            return self.refuse(block);
        }
        Ok(())
    }

    /// Refuses to serve a block that the peer requested, and counts the request as invalid.
    pub fn refuse(&mut self, block: BlockRef) -> Result<(), PeerFault> {
        self.reject(block);
        self.count_invalid_request()
    }

    /// Refuses the queued requests for a piece that turned out to be unreadable.
    pub fn refuse_piece(&mut self, piece: PieceIndex) {
        for block in self.requests_in.extract(|block| block.piece == piece) {
            self.reject(block);
        }
    }

    /// Rejects a request that is not the peer's fault. It counts as invalid only if the peer does not read our answers.
    pub fn excuse(&mut self, block: BlockRef) -> Result<(), PeerFault> {
        self.reject(block);
        if self.is_backlogged() { self.count_invalid_request() } else { Ok(()) }
    }

    /// BEP 6: every request gets a block or a reject. Without the extension there is no such message.
    pub(super) fn reject(&mut self, block: BlockRef) {
        if self.fast {
            let BlockRef { piece, begin, len } = block;
            self.control.push(&Message::Reject { index: piece.get(), begin, length: len });
        }
    }

    /// Chokes the peer: its queued requests are dropped (BEP 3).
    pub fn choke(&mut self, now: Time) {
        if !self.sides.am.choking {
            self.sides.am.choking = true;
            self.activity.choked = now;
            self.control.push(&Message::Choke);
            // BEP 6: except requests for its allowed-fast pieces.
            let allowed_out = &self.allowed_out;
            for block in self.requests_in.extract(|block| !allowed_out.contains(block.piece)) {
                self.reject(block);
            }
        }
    }

    /// Grants the peer pieces that it may request while choked (BEP 6). `has`: we have the piece. Without the Fast
    /// extension there is no such message.
    pub fn allow_fast(&mut self, ip: IpAddr, info_hash: InfoHash, has: impl Fn(PieceIndex) -> bool) {
        if self.fast {
            let pieces = self.allowed_out.grant(ip, info_hash, &self.geometry, has).to_vec();
            pieces.iter().for_each(|piece| self.control.push(&Message::AllowedFast { index: piece.get() }));
        }
    }

    /// The pieces that the peer serves although it chokes us; empty while it does not choke us.
    pub fn allowed_fast(&self) -> &[PieceIndex] {
        if self.sides.peer.choking { self.allowed_in.pieces() } else { &[] }
    }

    pub fn unchoke(&mut self) {
        if self.sides.am.choking {
            self.sides.am.choking = false;
            self.control.push(&Message::Unchoke);
        }
    }

    /// BEP 3: "Interest state must be kept up to date at all times".
    pub fn set_interested(&mut self, interested: bool) {
        if self.sides.am.interested != interested {
            self.sides.am.interested = interested;
            self.control.push(if interested { &Message::Interested } else { &Message::NotInterested });
        }
    }

    /// Announces a verified piece: together with the next message, or after [`limits::HAVE_HELD_MAX`].
    pub fn have(&mut self, piece: PieceIndex) {
        self.control.push_have(piece);
    }

    /// Sends queued announcements even if there is no other message.
    pub fn flush_haves(&mut self) {
        self.control.flush();
    }

    /// Suggests a piece to the peer (BEP 6). Without the Fast extension there is no such message.
    pub fn suggest(&mut self, piece: PieceIndex) {
        if self.fast {
            self.control.push(&Message::Suggest { index: piece.get() });
        }
    }

    /// The recent rate at which the peer answers, in bytes per second; 0 while it is unknown.
    pub fn download_rate(&self) -> u64 {
        self.requests_out.rate()
    }

    /// The number of requests that may be added now. While the peer chokes us, a few and only for
    /// [`Self::allowed_fast`]. Grows in batches, so that many requests leave in one send.
    pub fn request_room(&self) -> usize {
        if self.is_backlogged() {
            return 0;
        }
        if self.sides.peer.choking && self.sides.am.interested && !self.allowed_in.pieces().is_empty() {
            return limits::REQUESTS_OUT_CHOKED.saturating_sub(self.requests_out.len());
        }
        let room = self.requests_out.room();
        let batch = (self.requests_out.window() / 4).max(1);
        if self.sides.peer.choking || !self.sides.am.interested || (room < batch && !self.requests_out.snubbed) {
            0
        } else {
            room
        }
    }

    /// The number of requests to have outstanding while `sharers` peers owe us blocks. Requests beyond the pipe bridge
    /// a peer's pauses. The peers share these, since the other peers send while one pauses.
    pub fn request_share(&self, sharers: usize) -> usize {
        let pipe = self.requests_out.pipe().max(limits::REQUESTS_OUT_SLOW);
        (self.requests_out.window() / sharers.max(1)).max(pipe)
    }

    /// Requests a block.
    pub fn request(&mut self, now: Time, block: BlockRef) {
        let BlockRef { piece, begin, len } = block;
        self.control.push(&Message::Request { index: piece.get(), begin, length: len });
        self.requests_out.push(now, block);
    }

    /// Withdraws a request because another peer sent the block.
    pub fn cancel(&mut self, block: BlockRef) {
        if self.requests_out.withdraw(block) {
            self.queue_cancel(block);
        }
    }

    fn queue_cancel(&mut self, block: BlockRef) {
        let BlockRef { piece, begin, len } = block;
        self.control.push(&Message::Cancel { index: piece.get(), begin, length: len });
    }

    /// Our requests without an answer, oldest first.
    pub fn outstanding(&self) -> impl Iterator<Item = &Outstanding> {
        self.requests_out.iter()
    }

    pub fn outstanding_count(&self) -> usize {
        self.requests_out.len()
    }

    /// The peer's requests that wait to be served, next first.
    pub fn queued(&self) -> impl Iterator<Item = &BlockRef> {
        self.requests_in.iter()
    }

    /// The number of the peer's requests that wait to be served.
    pub fn queued_count(&self) -> usize {
        self.requests_in.len()
    }

    /// Fills `transmit` with the bytes and blocks that may leave now. Returns false if there are none. Blocks are taken
    /// from the front of the queue while `is_ready` returns that they can be read without waiting.
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
        let has_other_output = !transmit.control.is_empty() || !transmit.blocks.is_empty();
        self.control.take(has_other_output, &mut transmit.control);
        let is_filled = !transmit.control.is_empty() || !transmit.blocks.is_empty();
        if is_filled {
            self.activity.sent = now;
        }
        is_filled
    }

    fn timers(&self) -> TimerTable<Timer, 5> {
        let mut timers = TimerTable::default();
        timers.set(Timer::Silence, self.activity.received + limits::SILENCE_TIMEOUT);
        timers.set(Timer::KeepAlive, self.activity.sent + limits::KEEP_ALIVE_INTERVAL);
        if self.requests_out.len() > 0 {
            timers.set(Timer::Snub, self.requests_out.last_progress + limits::SNUB_TIMEOUT);
        }
        if !self.control.is_empty() {
            timers.set(Timer::FlushHaves, self.activity.sent + limits::HAVE_HELD_MAX);
        }
        if let Some(metadata) = &self.metadata {
            timers.set(Timer::Metadata, metadata.poll_timeout());
        }
        timers
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Time {
        self.timers().poll_timeout()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Time) -> Result<TimeoutEvent, PeerFault> {
        let timers = self.timers();
        if timers.is_due(Timer::Silence, now) {
            return Err(PeerFault::Silent);
        }
        // With an empty queue too: the next announcement then leaves at once.
        if now >= self.activity.sent + limits::HAVE_HELD_MAX {
            self.flush_haves();
        }
        if timers.is_due(Timer::KeepAlive, now) {
            self.control.push(&Message::KeepAlive);
            self.activity.sent = now;
        }
        if timers.is_due(Timer::Snub, now) {
            self.requests_out.last_progress = now;
            self.requests_out.snubbed = true;
            let voided = self.requests_out.withdraw_all();
            // If the peer sends again, it should not begin with blocks that other peers have sent in the meantime.
            voided.iter().for_each(|&block| self.queue_cancel(block));
            return Ok(TimeoutEvent::Snubbed(voided));
        }
        Ok(TimeoutEvent::Quiet)
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
