//! A connection for metadata alone (BEP 9), while only the info-hash of the torrent is known.
//!
//! Without the number and length of pieces most messages can't be checked: all but extended messages are skipped
//! unread.

use std::collections::VecDeque;

use super::fault::PeerFault;
use super::metadata::METADATA_ID;
use crate::base::limits;
use crate::codec::extension::{EXTENSION_HANDSHAKE_ID, ExtensionHandshake};
use crate::codec::message::{Message, MessageError};
use crate::codec::metadata::{METADATA_EXTENSION, MetadataMessage, metadata_part};

const PREFIX_LEN: usize = 4;
/// The id of an extended message (BEP 10).
const EXTENDED: u8 = 20;
/// The longest possible message: a bitfield or an extended message.
const MESSAGE_LEN_MAX: u32 = limits::PIECE_COUNT_MAX / 8 + 1;
/// The maximum number of bytes of rejects that wait for a peer that does not read: BEP 9 has us answer each request.
const BACKLOG_MAX: usize = 16 << 10;

/// The meaning of a peer's message.
#[derive(Debug, PartialEq, Eq)]
pub enum MetadataEvent {
    /// The peer has metadata of this length.
    Offered { info_len: u32 },
    /// The peer does not support the metadata extension, or has no metadata yet.
    NotOffered,
    /// The answer to a request.
    Part { part: u32, bytes: Box<[u8]> },
    /// The peer rejected this request.
    Refused { part: u32 },
}

/// A connection that only fetches metadata (BEP 9).
///
/// Order of use: [`Self::handle_bytes`], [`Self::poll_event`] until `None`, [`Self::request`],
/// [`Self::poll_transmit`].
#[derive(Debug)]
pub struct MetadataConnection {
    /// The front of an incomplete message.
    received: Vec<u8>,
    /// The number of missing bytes of a message that is skipped.
    skipped: usize,
    /// The id under which the peer wants requests, and the metadata length that it announced.
    terms: Option<(u8, u32)>,
    outstanding: Vec<u32>,
    events: VecDeque<MetadataEvent>,
    out: Vec<u8>,
}

impl MetadataConnection {
    /// Queues the extension handshake, and before it have-none if the Fast extension is on (BEP 6).
    pub fn new(fast: bool, listen_port: Option<u16>) -> Self {
        let handshake = ExtensionHandshake {
            client: Some(concat!("bt-fast ", env!("CARGO_PKG_VERSION")).into()),
            messages: vec![(METADATA_EXTENSION.to_vec(), METADATA_ID)],
            listen_port,
            ..ExtensionHandshake::default()
        };
        let mut out = Vec::new();
        if fast {
            Message::HaveNone.encode(&mut out);
        }
        Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload: &handshake.encode() }.encode(&mut out);
        Self { received: Vec::new(), skipped: 0, terms: None, outstanding: Vec::new(), events: VecDeque::new(), out }
    }

    /// Takes bytes that arrived after the handshake.
    pub fn handle_bytes(&mut self, mut bytes: &[u8]) -> Result<(), PeerFault> {
        while !bytes.is_empty() {
            let skipped = self.skipped.min(bytes.len());
            self.skipped -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let wanted = self.wanted()?.min(bytes.len());
            let (taken, rest) = bytes.split_at_checked(wanted).unwrap_or((bytes, &[]));
            self.received.extend_from_slice(taken);
            bytes = rest;
            self.take_message()?;
        }
        Ok(())
    }

    /// The number of bytes missing of the current message, as far as its head is known.
    fn wanted(&self) -> Result<usize, PeerFault> {
        let Some(length) = self.length() else { return Ok(PREFIX_LEN - self.received.len()) };
        if length > MESSAGE_LEN_MAX {
            return Err(MessageError::TooLong { length, max: MESSAGE_LEN_MAX }.into());
        }
        let whole = match self.received.get(PREFIX_LEN) {
            None => PREFIX_LEN + 1,
            Some(&EXTENDED) if length > limits::EXTENDED_MESSAGE_LEN_MAX => {
                let max = limits::EXTENDED_MESSAGE_LEN_MAX;
                return Err(MessageError::ExtensionTooLong { id: EXTENDED, length, max }.into());
            }
            Some(_) => PREFIX_LEN + length as usize,
        };
        Ok(whole.saturating_sub(self.received.len()))
    }

    /// The length prefix of the current message.
    fn length(&self) -> Option<u32> {
        self.received.first_chunk().map(|prefix| u32::from_be_bytes(*prefix))
    }

    fn take_message(&mut self) -> Result<(), PeerFault> {
        let Some(length) = self.length() else { return Ok(()) };
        let whole = PREFIX_LEN + length as usize;
        match self.received.get(PREFIX_LEN) {
            // BEP 3: "Messages of length zero are keepalives".
            None if length == 0 => self.received.clear(),
            None => {}
            Some(&EXTENDED) if self.received.len() < whole => {}
            Some(&EXTENDED) => {
                let message = std::mem::take(&mut self.received);
                let id = message.get(PREFIX_LEN + 1).ok_or(MessageError::ExtendedTooShort { length })?;
                self.handle_extended(*id, message.get(PREFIX_LEN + 2..).unwrap_or_default())?;
            }
            Some(_) => {
                self.skipped = whole - self.received.len();
                self.received.clear();
            }
        }
        Ok(())
    }

    fn handle_extended(&mut self, id: u8, payload: &[u8]) -> Result<(), PeerFault> {
        match id {
            EXTENSION_HANDSHAKE_ID => {
                // BEP 10: the handshake may be repeated. The length that the peer announced first counts.
                if let (Ok(theirs), None) = (ExtensionHandshake::decode(payload), self.terms) {
                    let id = theirs.message_id(METADATA_EXTENSION);
                    self.terms = id.zip(theirs.metadata_len);
                    self.events.push_back(match self.terms {
                        Some((_, info_len)) => MetadataEvent::Offered { info_len },
                        None => MetadataEvent::NotOffered,
                    });
                }
                Ok(())
            }
            METADATA_ID => self.handle_metadata(payload),
            _ => Ok(()),
        }
    }

    fn handle_metadata(&mut self, payload: &[u8]) -> Result<(), PeerFault> {
        match MetadataMessage::decode(payload) {
            Ok(MetadataMessage::Data { part, bytes, .. }) => {
                let expected = self.terms.and_then(|(_, info_len)| metadata_part(info_len, part));
                if !self.take_outstanding(part) || expected.is_none_or(|range| range.len() != bytes.len()) {
                    return Err(PeerFault::UnrequestedMetadata(part));
                }
                self.events.push_back(MetadataEvent::Part { part, bytes: bytes.into() });
            }
            Ok(MetadataMessage::Reject { part }) if self.take_outstanding(part) => {
                self.events.push_back(MetadataEvent::Refused { part });
            }
            Ok(MetadataMessage::Request { part }) if self.out.len() > BACKLOG_MAX => {
                return Err(PeerFault::UnrequestedMetadata(part));
            }
            // BEP 9: a peer "that does not have any metadata" rejects.
            Ok(MetadataMessage::Request { part }) => self.send(&MetadataMessage::Reject { part }),
            _ => {}
        }
        Ok(())
    }

    fn take_outstanding(&mut self, part: u32) -> bool {
        let at = self.outstanding.iter().position(|&requested| requested == part);
        at.is_some_and(|at| self.outstanding.swap_remove(at) == part)
    }

    fn send(&mut self, message: &MetadataMessage<'_>) {
        if let Some((id, _)) = self.terms {
            Message::Extended { id, payload: &message.encode() }.encode(&mut self.out);
        }
    }

    pub fn poll_event(&mut self) -> Option<MetadataEvent> {
        self.events.pop_front()
    }

    /// The number of requests that may be added now.
    pub fn request_room(&self) -> usize {
        if self.terms.is_none() { 0 } else { limits::METADATA_REQUESTS_MAX.saturating_sub(self.outstanding.len()) }
    }

    /// The number of requests without an answer.
    pub fn outstanding_count(&self) -> usize {
        self.outstanding.len()
    }

    /// Requests a part.
    pub fn request(&mut self, part: u32) {
        self.outstanding.push(part);
        self.send(&MetadataMessage::Request { part });
    }

    /// The bytes to send now; may be empty.
    pub fn poll_transmit(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extended(id: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Message::Extended { id, payload }.encode(&mut bytes);
        bytes
    }

    fn offer(info_len: u32) -> Vec<u8> {
        let handshake = ExtensionHandshake {
            messages: vec![(METADATA_EXTENSION.to_vec(), 7)],
            metadata_len: Some(info_len),
            ..ExtensionHandshake::default()
        };
        extended(0, &handshake.encode())
    }

    fn data(part: u32, len: usize) -> Vec<u8> {
        extended(METADATA_ID, &MetadataMessage::Data { part, total_len: 20_000, bytes: &vec![5; len] }.encode())
    }

    fn requesting() -> MetadataConnection {
        let mut connection = MetadataConnection::new(true, Some(6881));
        connection.handle_bytes(&offer(20_000)).unwrap();
        assert_eq!(connection.poll_event(), Some(MetadataEvent::Offered { info_len: 20_000 }));
        connection.poll_transmit();
        connection.request(1);
        assert_eq!(connection.poll_transmit(), extended(7, b"d8:msg_typei0e5:piecei1ee"));
        connection
    }

    #[test]
    fn a_part_is_received_among_other_messages_split_anywhere() {
        let mut bitfield = Vec::new();
        Message::Bitfield(&[0xff; 3000]).encode(&mut bitfield);
        let stream = [vec![0; 4], bitfield, data(1, 3616), vec![0, 0, 0, 1, 1]].concat();
        for step in [1, 3, 7, 1000, stream.len()] {
            let mut connection = requesting();
            stream.chunks(step).for_each(|bytes| connection.handle_bytes(bytes).unwrap());
            let part = MetadataEvent::Part { part: 1, bytes: vec![5; 3616].into() };
            assert_eq!((connection.poll_event(), connection.poll_event()), (Some(part), None), "{step}");
            assert_eq!(connection.outstanding_count(), 0);
        }
    }

    #[test]
    fn unrequested_parts_and_parts_of_a_wrong_length_are_faults() {
        for bytes in [data(0, 16_384), data(1, 3615), data(1, 3617), data(2, 1)] {
            assert!(matches!(requesting().handle_bytes(&bytes), Err(PeerFault::UnrequestedMetadata(_))));
        }
        let mut connection = requesting();
        connection.handle_bytes(&data(1, 3616)).unwrap();
        assert!(connection.handle_bytes(&data(1, 3616)).is_err(), "accepted once");
    }

    #[test]
    fn rejects_count_if_they_answer_a_request() {
        let mut connection = requesting();
        let reject = |part| extended(METADATA_ID, &MetadataMessage::Reject { part }.encode());
        connection.handle_bytes(&reject(0)).unwrap();
        connection.handle_bytes(&reject(1)).unwrap();
        assert_eq!(
            (connection.poll_event(), connection.poll_event()),
            (Some(MetadataEvent::Refused { part: 1 }), None)
        );
        // The announced length is bounded before any memory is reserved for it.
        let mut connection = MetadataConnection::new(false, None);
        connection.handle_bytes(&extended(0, b"d1:md11:ut_metadatai3ee13:metadata_sizei1099511627776ee")).unwrap();
        assert_eq!((connection.poll_event(), connection.request_room()), (Some(MetadataEvent::NotOffered), 0));
    }

    #[test]
    fn metadata_requests_are_rejected_and_a_flood_is_a_fault() {
        let mut connection = requesting();
        let request = extended(METADATA_ID, &MetadataMessage::Request { part: 3 }.encode());
        connection.handle_bytes(&request).unwrap();
        assert_eq!(connection.poll_transmit(), extended(7, b"d8:msg_typei2e5:piecei3ee"));
        assert!((0..10_000).any(|_| connection.handle_bytes(&request).is_err()));
    }

    #[test]
    fn impossible_message_lengths_are_faults() {
        for bytes in [&[0xff, 0xff, 0xff, 0xff][..], &[0, 4, 0, 2, 5], &[0, 1, 0, 1, 20], &[0, 0, 0, 1, 20]] {
            let faulty = MetadataConnection::new(false, None).handle_bytes(&[bytes, &[0; 10]].concat()).is_err();
            assert!(faulty, "{bytes:?}");
        }
    }
}
