//! Serving metadata on one connection (BEP 9): parts leave in the order of their requests, at a bounded rate.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Time, limits};
use crate::codec::message::Message;
use crate::codec::metadata::{MetadataMessage, metadata_part, metadata_part_count};

/// The id under which we want metadata messages.
pub(super) const METADATA_ID: u8 = 1;

/// Serves metadata to one peer (BEP 9): the requested parts, in order, at a bounded rate.
#[derive(Debug)]
pub(super) struct MetadataOut {
    info: Arc<[u8]>,
    info_len: u32,
    /// The id under which the peer wants metadata messages; 0 if it wants none.
    peer_id: u8,
    queue: VecDeque<u32>,
    /// The number of parts that may leave now, as of `counted_at`.
    allowance: u32,
    counted_at: Time,
}

impl MetadataOut {
    /// `None` for an info dictionary that is too long for peers.
    pub(super) fn new(info: Arc<[u8]>, now: Time) -> Option<Self> {
        let info_len = u32::try_from(info.len()).ok().filter(|&len| u64::from(len) <= limits::METAINFO_LEN_MAX)?;
        let allowance = limits::METADATA_BURST;
        Some(Self { info, info_len, peer_id: 0, queue: VecDeque::new(), allowance, counted_at: now })
    }

    pub(super) fn info_len(&self) -> u32 {
        self.info_len
    }

    pub(super) fn set_peer_id(&mut self, id: u8) {
        self.peer_id = id;
    }

    /// Queues a request. Returns false for other messages, and if twice as many requests wait as there are parts.
    pub(super) fn handle_message(&mut self, payload: &[u8]) -> bool {
        let room = self.queue.len() < metadata_part_count(self.info_len) as usize * 2;
        match MetadataMessage::decode(payload) {
            Ok(MetadataMessage::Request { part }) if room => self.queue.push_back(part),
            _ => return false,
        }
        true
    }

    /// Appends the messages that may leave now.
    pub(super) fn poll_transmit(&mut self, now: Time, out: &mut Vec<u8>) {
        self.refill(now);
        for _ in 0..limits::METADATA_PARTS_SENT_MAX {
            if self.allowance == 0 {
                return;
            }
            let Some(part) = self.queue.pop_front() else { return };
            let bytes = metadata_part(self.info_len, part).and_then(|range| self.info.get(range));
            let message = match bytes {
                Some(bytes) => MetadataMessage::Data { part, total_len: self.info_len, bytes },
                None => MetadataMessage::Reject { part },
            };
            self.allowance -= 1;
            if self.peer_id != 0 {
                Message::Extended { id: self.peer_id, payload: &message.encode() }.encode(out);
            }
        }
    }

    /// When more parts may leave.
    pub(super) fn poll_timeout(&self) -> Time {
        if self.queue.is_empty() { Time::MAX } else { self.counted_at + part_interval() }
    }

    fn refill(&mut self, now: Time) {
        let refilled = now.saturating_sub(self.counted_at).as_nanos() / part_interval().as_nanos();
        if refilled > 0 {
            let refilled = u32::try_from(refilled).unwrap_or(u32::MAX);
            self.allowance = self.allowance.saturating_add(refilled).min(limits::METADATA_BURST);
            self.counted_at = now;
        }
    }
}

fn part_interval() -> Duration {
    Duration::from_secs(1) / limits::METADATA_PARTS_PER_S
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::message::{Bounds, Decoded, decode};

    const START: Time = Time::from_secs(100);

    fn server(len: usize) -> MetadataOut {
        let info: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let mut server = MetadataOut::new(info.into(), START).unwrap();
        server.set_peer_id(9);
        server
    }

    fn request(server: &mut MetadataOut, part: u32) -> bool {
        server.handle_message(&MetadataMessage::Request { part }.encode())
    }

    /// The payloads of all messages that are sent under the peer's id.
    fn payloads(server: &mut MetadataOut, now: Time) -> Vec<Vec<u8>> {
        let (mut bytes, mut payloads) = (Vec::new(), Vec::new());
        server.poll_transmit(now, &mut bytes);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let bounds = Bounds { piece_count: 1, block_len_max: 16_384 };
            let Ok(Decoded::Message { message: Message::Extended { id: 9, payload }, consumed }) =
                decode(rest, &bounds)
            else {
                panic!("no extended message")
            };
            payloads.push(payload.to_vec());
            rest = &rest[consumed..];
        }
        payloads
    }

    #[test]
    fn parts_are_served_and_missing_ones_rejected() {
        let mut server = server(20_000);
        for part in [1, 0, 2, u32::MAX] {
            assert!(request(&mut server, part));
        }
        let sent = payloads(&mut server, START);
        let parts: Vec<_> = sent.iter().map(|payload| MetadataMessage::decode(payload).unwrap()).collect();
        let info = server.info.clone();
        let data = |part, range: std::ops::Range<usize>| MetadataMessage::Data {
            part,
            total_len: 20_000,
            bytes: &info[range],
        };
        let reject = |part| MetadataMessage::Reject { part };
        assert_eq!(parts, [data(1, 16_384..20_000), data(0, 0..16_384), reject(2), reject(u32::MAX)]);
        assert_eq!(server.poll_timeout(), Time::MAX);
    }

    #[test]
    fn parts_beyond_the_burst_leave_at_the_rate() {
        let mut server = server(1 << 20);
        let mut sent = 0;
        for _ in 0..6 {
            (0..64).for_each(|part| assert!(request(&mut server, part)));
            for _ in 0..4 {
                sent += payloads(&mut server, START).len();
            }
        }
        assert_eq!(sent, 256);
        assert!(server.poll_timeout() > START);
        let second = START + Duration::from_secs(1);
        assert_eq!((0..10).map(|_| payloads(&mut server, second).len()).sum::<usize>(), 64);
    }

    #[test]
    fn at_most_twice_as_many_requests_wait_as_there_are_parts() {
        let mut server = server(20_000);
        assert!((0..4).all(|_| request(&mut server, 0)));
        assert!(!request(&mut server, 0));
    }

    #[test]
    fn a_peer_that_wants_none_gets_none() {
        let mut server = server(20_000);
        server.set_peer_id(0);
        assert!(request(&mut server, 0) && !server.handle_message(b"garbage"));
        assert!(payloads(&mut server, START).is_empty());
    }
}
