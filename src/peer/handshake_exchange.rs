//! The exchange of handshakes (BEP 3), in both directions.
//!
//! Order of use: send the bytes of [`HandshakeExchange::poll_transmit`] whenever there are some, receive bytes, and
//! pass all bytes received so far to [`HandshakeExchange::handle_received`] until it returns [`HandshakeStep::Done`].

use std::ops::Range;

use crate::base::{InfoHash, PeerId};
use crate::codec::handshake::{HANDSHAKE_LEN, Handshake, HandshakeError, Reserved};

/// The position of the info-hash, after the protocol string and the reserved bytes.
const INFO_HASH: Range<usize> = 28..48;

/// One exchange of handshakes (BEP 3), on a connection that either side opened.
#[derive(Debug)]
pub struct HandshakeExchange {
    own_id: PeerId,
    direction: Direction,
    /// Our handshake, until it is sent.
    own: Option<[u8; HANDSHAKE_LEN]>,
}

#[derive(Debug)]
enum Direction {
    Outgoing {
        info_hash: InfoHash,
        expected_id: Option<PeerId>,
    },
    /// `None` until [`HandshakeExchange::accept`].
    Incoming {
        info_hash: Option<InfoHash>,
    },
}

/// The next step of an exchange.
#[derive(Debug, PartialEq, Eq)]
pub enum HandshakeStep {
    /// More bytes have to be received.
    Receive,
    /// The peer wants this torrent: [`HandshakeExchange::accept`] continues the exchange.
    Wants(InfoHash),
    /// The first [`HANDSHAKE_LEN`] bytes were the peer's handshake.
    Done(Agreement),
}

/// The result of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    pub peer_id: PeerId,
    /// The peer's reserved bytes. We always announce the Fast extension (BEP 6) and the extension protocol (BEP 10), so
    /// each of them is in use if the peer announces it.
    pub extensions: Reserved,
}

/// Why an exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeFault {
    #[error("{0}")]
    Protocol(#[from] HandshakeError),
    #[error("closed before the handshake was complete")]
    Closed,
    #[error("closed without sending a handshake")]
    HungUp,
    #[error("info-hash {0} is not the requested one")]
    OtherTorrent(InfoHash),
    #[error("peer id {0} does not match the tracker's")]
    OtherPeer(PeerId),
    #[error("connected to ourselves")]
    Own,
}

impl HandshakeExchange {
    /// We opened the connection. `expected_id` is the peer id that a tracker gave for the address.
    pub fn outgoing(own_id: PeerId, info_hash: InfoHash, expected_id: Option<PeerId>) -> Self {
        let own = Some(encode(own_id, info_hash));
        Self { own_id, direction: Direction::Outgoing { info_hash, expected_id }, own }
    }

    /// The peer opened the connection. BEP 3: "wait for incoming connections to give a download hash first, and respond
    /// with the same one".
    pub fn incoming(own_id: PeerId) -> Self {
        Self { own_id, direction: Direction::Incoming { info_hash: None }, own: None }
    }

    /// We have the torrent of [`HandshakeStep::Wants`].
    pub fn accept(&mut self, accepted: InfoHash) {
        if let Direction::Incoming { info_hash } = &mut self.direction {
            *info_hash = Some(accepted);
            self.own = Some(encode(self.own_id, accepted));
        }
    }

    /// Our handshake, once, when it has to be sent.
    pub fn poll_transmit(&mut self) -> Option<[u8; HANDSHAKE_LEN]> {
        self.own.take()
    }

    /// Takes all bytes received so far. Fails at the first byte that cannot belong to a handshake.
    ///
    /// BEP 3: "If both sides don't send the same value, they sever the connection", and the same for an unexpected peer
    /// id.
    pub fn handle_received(&mut self, received: &[u8]) -> Result<HandshakeStep, HandshakeFault> {
        Handshake::check_prefix(received)?;
        if let Direction::Incoming { info_hash: None } = self.direction {
            let bytes = received.get(INFO_HASH);
            let info_hash = bytes.and_then(|bytes| bytes.try_into().ok()).map(InfoHash);
            return Ok(info_hash.map_or(HandshakeStep::Receive, HandshakeStep::Wants));
        }
        let Some(bytes) = received.first_chunk::<HANDSHAKE_LEN>() else { return Ok(HandshakeStep::Receive) };
        let Handshake { reserved, info_hash, peer_id } = Handshake::decode(bytes)?;
        let mut expected = None;
        if let Direction::Outgoing { info_hash: wanted, expected_id } = self.direction {
            if info_hash != wanted {
                return Err(HandshakeFault::OtherTorrent(info_hash));
            }
            expected = expected_id;
        }
        if peer_id == self.own_id {
            return Err(HandshakeFault::Own);
        }
        if expected.is_some_and(|expected| expected != peer_id) {
            return Err(HandshakeFault::OtherPeer(peer_id));
        }
        Ok(HandshakeStep::Done(Agreement { peer_id, extensions: reserved }))
    }

    /// The peer closed or reset the connection after this number of bytes.
    pub fn handle_closed(&self, received_len: usize) -> HandshakeFault {
        if received_len == 0 { HandshakeFault::HungUp } else { HandshakeFault::Closed }
    }
}

fn encode(peer_id: PeerId, info_hash: InfoHash) -> [u8; HANDSHAKE_LEN] {
    Handshake { reserved: Reserved::ours(), info_hash, peer_id }.encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: InfoHash = InfoHash([7; 20]);
    const OURS: PeerId = PeerId([1; 20]);
    const THEIRS: PeerId = PeerId([2; 20]);

    fn outgoing(expected_id: Option<PeerId>) -> HandshakeExchange {
        HandshakeExchange::outgoing(OURS, HASH, expected_id)
    }

    #[test]
    fn both_sides_agree_whatever_the_lengths_of_the_parts() {
        for part in 1..=HANDSHAKE_LEN {
            let mut opener = outgoing(Some(THEIRS));
            let mut accepter = HandshakeExchange::incoming(THEIRS);
            let sent = opener.poll_transmit().unwrap();
            assert_eq!((opener.poll_transmit(), accepter.poll_transmit()), (None, None));
            let mut wanted = 0;
            let mut step = HandshakeStep::Receive;
            for end in (0..HANDSHAKE_LEN).step_by(part).chain([HANDSHAKE_LEN]) {
                step = accepter.handle_received(&sent[..end]).unwrap();
                if step == HandshakeStep::Wants(HASH) {
                    wanted += 1;
                    accepter.accept(HASH);
                    step = accepter.handle_received(&sent[..end]).unwrap();
                }
            }
            assert_eq!(wanted, 1);
            assert!(matches!(step, HandshakeStep::Done(Agreement { peer_id: OURS, .. })));
            let answer = accepter.poll_transmit().unwrap();
            assert_eq!(opener.handle_received(&answer[..part - 1]), Ok(HandshakeStep::Receive));
            let Ok(HandshakeStep::Done(agreement)) = opener.handle_received(&answer) else { panic!("not done") };
            assert_eq!(agreement.peer_id, THEIRS);
            assert!(agreement.extensions.has_fast() && agreement.extensions.has_extension());
        }
    }

    #[test]
    fn a_wrong_answer_ends_the_exchange() {
        let answer = |peer_id, info_hash| encode(peer_id, info_hash);
        let other = InfoHash([8; 20]);
        for (exchange, answer, fault) in [
            (outgoing(None), answer(THEIRS, other), HandshakeFault::OtherTorrent(other)),
            (outgoing(Some(PeerId([3; 20]))), answer(THEIRS, HASH), HandshakeFault::OtherPeer(THEIRS)),
            (outgoing(Some(PeerId([3; 20]))), answer(OURS, HASH), HandshakeFault::Own),
        ] {
            let mut exchange = exchange;
            assert_eq!(exchange.handle_received(&answer), Err(fault));
        }
        let mut incoming = HandshakeExchange::incoming(OURS);
        incoming.accept(HASH);
        assert_eq!(incoming.handle_received(&answer(OURS, HASH)), Err(HandshakeFault::Own));
    }

    #[test]
    fn foreign_bytes_and_a_hang_up_are_distinguished() {
        let mut exchange = outgoing(None);
        let foreign = HandshakeError::WrongLengthPrefix { first: b'G' };
        assert_eq!(exchange.handle_received(b"GET /"), Err(HandshakeFault::Protocol(foreign)));
        assert_eq!(exchange.handle_received(b"\x13BitTorrent prot"), Ok(HandshakeStep::Receive));
        assert_eq!(exchange.handle_closed(0), HandshakeFault::HungUp);
        assert_eq!(exchange.handle_closed(1), HandshakeFault::Closed);
    }
}
