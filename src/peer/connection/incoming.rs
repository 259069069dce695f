//! The effect of a peer's messages on its connection, and the faults among them.

use std::time::Duration;

use super::{Connection, Stage};
use crate::base::{Bitfield, BlockRef, PieceIndex, Time, limits};
use crate::codec::extension::{EXTENSION_HANDSHAKE_ID, ExtensionHandshake};
use crate::codec::message::Message;
use crate::codec::metadata::METADATA_EXTENSION;
use crate::peer::event::{BlockArrival, Event};
use crate::peer::fault::PeerFault;
use crate::peer::metadata::METADATA_ID;
use crate::peer::requests::Rejection;

/// Requests that arrive up to this long after a choke were sent before the peer saw it.
const CHOKE_GRACE: Duration = Duration::from_secs(2);

impl Connection {
    /// Takes one message that arrived at `now`.
    pub fn handle_message(&mut self, now: Time, message: &Message<'_>) -> Result<Event, PeerFault> {
        (self.activity.received, self.activity.message) = (now, now);
        self.count_control(now, message)?;
        let stage = self.stage;
        if !matches!(message, Message::Extended { .. } | Message::KeepAlive) {
            self.stage = Stage::Open;
        }
        match *message {
            // BEP 3: "Messages of length zero are keepalives, and ignored."
            Message::KeepAlive | Message::Port(_) | Message::Unknown { .. } => Ok(Event::Quiet),
            Message::Choke => Ok(self.handle_choke()),
            Message::Unchoke => {
                self.sides.peer.choking = false;
                Ok(Event::Unchoked)
            }
            Message::Interested => {
                self.sides.peer.interested = true;
                Ok(Event::Interested)
            }
            Message::NotInterested => {
                self.sides.peer.interested = false;
                Ok(Event::NotInterested)
            }
            Message::Have { index } => Ok(self.handle_have(now, index)?.map_or(Event::Quiet, Event::Have)),
            Message::Bitfield(payload) => {
                let have = Bitfield::from_wire(payload, self.geometry.piece_count())?;
                if stage == Stage::Open {
                    self.count_len(now, payload.len())?;
                }
                self.handle_bitfield(have, stage)
            }
            Message::Request { index, begin, length } => self.handle_request(now, index, begin, length),
            Message::Cancel { index, begin, length } => {
                self.handle_cancel(now, index, begin, length)?;
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
            | Message::AllowedFast { .. } => self.handle_fast(now, message, stage),
        }
    }

    /// Counts a message that is cheap to send but causes work. Have, suggest, request, cancel, reject and metadata
    /// messages are counted where they are handled, as far as the peer had no reason for them.
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
        if self.abuse.control.count_kind(now, message) { Err(PeerFault::Flood) } else { self.count(now) }
    }

    fn count(&mut self, now: Time) -> Result<(), PeerFault> {
        if self.abuse.control.count(now) { Err(PeerFault::Flood) } else { Ok(()) }
    }

    /// Counts a long message as several.
    fn count_len(&mut self, now: Time, len: usize) -> Result<(), PeerFault> {
        let weight = u32::try_from(len / limits::CONTROL_MESSAGE_LEN).unwrap_or(u32::MAX);
        (0..weight.min(limits::CONTROL_MESSAGE_WEIGHT_MAX)).try_for_each(|_| self.count(now))
    }

    fn handle_choke(&mut self) -> Event {
        self.sides.peer.choking = true;
        // With the Fast extension each request is answered by a reject of its own; without it a choke voids all
        // requests.
        if self.fast { Event::Choked(Vec::new()) } else { Event::Choked(self.requests_out.withdraw_all()) }
    }

    /// Returns the piece, if the peer did not have it before.
    fn handle_have(&mut self, now: Time, index: u32) -> Result<Option<PieceIndex>, PeerFault> {
        let piece = self.geometry.piece(index).ok_or(PeerFault::NoSuchPiece(index))?;
        if !self.peer_have.insert(piece) {
            self.count(now)?;
            return Ok(None);
        }
        self.peer_has_all = self.peer_have.is_full();
        Ok(Some(piece))
    }

    /// Takes `have` messages that arrived together, and appends the pieces that the peer did not have before to
    /// `new_pieces`. Returns the number of messages. The memory to access is scattered: in a loop of its own the
    /// processor fetches it in parallel.
    pub fn handle_haves(
        &mut self,
        now: Time,
        indices: impl Iterator<Item = u32>,
        new_pieces: &mut Vec<PieceIndex>,
    ) -> Result<usize, PeerFault> {
        let mut count = 0;
        for index in indices {
            new_pieces.extend(self.handle_have(now, index)?);
            count += 1;
        }
        if count > 0 {
            (self.activity.received, self.activity.message) = (now, now);
            self.stage = Stage::Open;
        }
        Ok(count)
    }

    /// BEP 3: "'bitfield' is only ever sent as the first message." aria2 sends another one in place of many haves, and
    /// webtorrent its first one (or have-all, or have-none) when it has a magnet link's metadata: a late bitfield that
    /// only adds pieces is taken as haves.
    fn handle_bitfield(&mut self, have: Bitfield, stage: Stage) -> Result<Event, PeerFault> {
        let lost = stage == Stage::Open && !self.peer_have.is_subset(&have);
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
        self.requests_in.count_received();
        if !self.sides.am.choking || self.allowed_out.take(block) {
            return Ok(Event::Request(block));
        }
        self.reject(block);
        if now.saturating_sub(self.activity.choked) > CHOKE_GRACE || self.is_backlogged() {
            self.count_invalid_request()?;
        }
        Ok(Event::Quiet)
    }

    pub(super) fn count_invalid_request(&mut self) -> Result<(), PeerFault> {
        // Requests are counted by the time of their arrival.
        let count = self.abuse.invalid_requests.count(self.activity.received, limits::INVALID_REQUESTS_TIME);
        if count > limits::INVALID_REQUESTS_MAX { Err(PeerFault::InvalidRequests) } else { Ok(()) }
    }

    fn handle_cancel(&mut self, now: Time, index: u32, begin: u32, length: u32) -> Result<(), PeerFault> {
        if !self.requests_in.count_cancelled() {
            self.count(now)?;
        }
        // A cancel of a block that was already sent, or never requested, is no fault: it crossed the block on its way.
        if let Some(block) = self.geometry.span(index, begin, length)
            && self.requests_in.cancel(block)
        {
            self.excuse(block)?;
        }
        Ok(())
    }

    fn handle_extended(&mut self, now: Time, id: u8, payload: &[u8]) -> Result<(), PeerFault> {
        if id == EXTENSION_HANDSHAKE_ID {
            self.count_len(now, payload.len())?;
        }
        // A malformed extension handshake is ignored.
        if id == EXTENSION_HANDSHAKE_ID
            && let Ok(handshake) = ExtensionHandshake::decode(payload)
        {
            if let Some(requests_max) = handshake.requests_max {
                self.requests_out.peer_max = usize::try_from(requests_max).unwrap_or(usize::MAX).max(1);
            }
            // BEP 10: the handshake may be repeated, and keys that it omits keep their values.
            self.peer.upload_only = handshake.upload_only.unwrap_or(self.peer.upload_only);
            if let (Some(metadata), Some(id)) = (&mut self.metadata, handshake.message_id(METADATA_EXTENSION)) {
                metadata.set_peer_id(id);
            }
            self.peer.client = handshake.client.or(self.peer.client.take());
            self.peer.sees_us = handshake.your_ip.or(self.peer.sees_us);
            self.peer.streams = handshake.streams.or(self.peer.streams);
        } else if id == METADATA_ID && !self.metadata.as_mut().is_some_and(|metadata| metadata.handle_message(payload))
        {
            self.count(now)?;
        }
        Ok(())
    }

    fn handle_fast(&mut self, now: Time, message: &Message<'_>, stage: Stage) -> Result<Event, PeerFault> {
        if !self.fast {
            return Err(PeerFault::FastNotAgreed);
        }
        match *message {
            Message::HaveAll if self.peer_has_all => Ok(Event::Quiet),
            Message::HaveAll => self.handle_bitfield(Bitfield::full(self.geometry.piece_count()), stage),
            Message::HaveNone if !self.peer_have.is_empty() => Err(PeerFault::LateBitfield),
            Message::Reject { index, begin, length } => {
                let block = self.geometry.span(index, begin, length);
                let rejection = block.map_or(Rejection::Unfounded, |block| self.requests_out.reject(block));
                if rejection == Rejection::Unfounded {
                    self.count(now)?;
                }
                let rejected = block.filter(|_| rejection == Rejection::Outstanding);
                // Without this, an allowed-fast piece that the peer rejects would be requested again at once.
                rejected
                    .filter(|_| self.sides.peer.choking)
                    .iter()
                    .for_each(|block| self.allowed_in.remove(block.piece));
                Ok(rejected.map_or(Event::Quiet, Event::Rejected))
            }
            // BEP 6: suggestions are advisory, so an index that does not exist is ignored.
            Message::Suggest { index } => {
                self.abuse.suggestion_count = self.abuse.suggestion_count.saturating_add(1);
                if self.abuse.suggestion_count > self.geometry.piece_count() {
                    self.count(now)?;
                }
                Ok(self.geometry.piece(index).map_or(Event::Quiet, Event::Suggested))
            }
            Message::AllowedFast { index } => Ok(self.geometry.piece(index).map_or(Event::Quiet, |piece| {
                self.allowed_in.insert(piece);
                Event::AllowedFast(piece)
            })),
            _ => Ok(Event::Quiet),
        }
    }

    /// A complete block has arrived.
    pub fn handle_block(&mut self, now: Time, block: BlockRef) -> Result<BlockArrival, PeerFault> {
        (self.activity.received, self.activity.message) = (now, now);
        self.stage = Stage::Open;
        if let Some(latency) = self.requests_out.take(now, block) {
            return Ok(BlockArrival::Expected { latency });
        }
        // BEP 3: "It's possible for an unexpected piece to arrive if choke and unchoke messages are sent in quick
        // succession".
        if self.requests_out.take_withdrawn(block) {
            return Ok(BlockArrival::Late);
        }
        Err(PeerFault::Unrequested { index: block.piece.get(), begin: block.begin, length: block.len })
    }

    /// Bytes of a message have arrived. They count as activity as long as messages are completed within
    /// [`limits::MESSAGE_TIMEOUT`].
    pub fn handle_bytes(&mut self, now: Time) {
        self.activity.received = self.activity.received.max(now.min(self.activity.message + limits::MESSAGE_TIMEOUT));
    }
}

#[cfg(test)]
#[path = "incoming_tests.rs"]
mod tests;
