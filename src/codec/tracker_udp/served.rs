//! The tracker's end of BEP 15: the requests of peers and the replies to them.

use std::net::{IpAddr, SocketAddr};

use super::{ANNOUNCE, CONNECT, ERROR, PROTOCOL_ID, SCRAPE};
use crate::base::{InfoHash, PeerId, limits};
use crate::codec::reader::Reader;
use crate::codec::tracker_http::Event;

/// A peer's packet. Bytes beyond those of BEP 15 are ignored, among them the options of BEP 41.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UdpRequest {
    /// The peer asks for a connection id.
    Connect {
        transaction_id: u32,
    },
    Announce {
        connection_id: u64,
        transaction_id: u32,
        announce: UdpAnnounce,
    },
    Scrape {
        connection_id: u64,
        transaction_id: u32,
        /// At most [`limits::TRACKER_SCRAPE_MAX`].
        info_hashes: Vec<InfoHash>,
    },
}

/// The values of an announce. The address that the peer claims is left out, since only the source address counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UdpAnnounce {
    pub info_hash: InfoHash,
    pub peer_id: PeerId,
    /// Bytes that the peer still has to download.
    pub left: u64,
    /// An unknown event counts as a regular announce.
    pub event: Event,
    /// Peers that the peer asks for; `None` for -1, "default".
    pub numwant: Option<u32>,
    pub port: u16,
}

/// The numbers of one swarm in a scrape.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scraped {
    pub seeders: u32,
    pub completed: u32,
    pub leechers: u32,
}

/// Reads a request; `None` for a packet that is not of BEP 15, which is not answered.
pub fn decode_request(packet: &[u8]) -> Option<UdpRequest> {
    let mut reader = Reader::new(packet);
    let connection_id = u64_of(&mut reader)?;
    let (action, transaction_id) = (reader.u32()?, reader.u32()?);
    match action {
        CONNECT if connection_id == PROTOCOL_ID => Some(UdpRequest::Connect { transaction_id }),
        ANNOUNCE => Some(UdpRequest::Announce { connection_id, transaction_id, announce: announce(&mut reader)? }),
        SCRAPE => {
            let (hashes, _) = reader.rest().as_chunks::<20>();
            let info_hashes = hashes.iter().take(limits::TRACKER_SCRAPE_MAX).copied().map(InfoHash).collect();
            Some(UdpRequest::Scrape { connection_id, transaction_id, info_hashes })
        }
        _ => None,
    }
}

fn announce(reader: &mut Reader<'_>) -> Option<UdpAnnounce> {
    let info_hash = InfoHash(reader.take(20)?.try_into().ok()?);
    let peer_id = PeerId(reader.take(20)?.try_into().ok()?);
    let (_downloaded, left, _uploaded) = (u64_of(reader)?, u64_of(reader)?, u64_of(reader)?);
    let event = match reader.u32()? {
        1 => Event::Completed,
        2 => Event::Started,
        3 => Event::Stopped,
        _ => Event::Empty,
    };
    let (_ip, _key, numwant) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let numwant = i32::from_be_bytes(numwant.to_be_bytes());
    Some(UdpAnnounce { info_hash, peer_id, left, event, numwant: u32::try_from(numwant).ok(), port: reader.u16()? })
}

fn u64_of(reader: &mut Reader<'_>) -> Option<u64> {
    let (high, low) = (reader.u32()?, reader.u32()?);
    Some(u64::from(high) << 32 | u64::from(low))
}

/// The seeders and leechers of one swarm in an announce reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counts {
    pub seeders: u32,
    pub leechers: u32,
}

/// Appends the reply to a connect request.
pub fn encode_connected(out: &mut Vec<u8>, transaction_id: u32, connection_id: u64) {
    head(out, CONNECT, transaction_id);
    out.extend(connection_id.to_be_bytes());
}

/// Appends the reply to an announce; `interval` is in seconds. `peers` must be of the address family of the packet.
pub fn encode_announced(
    out: &mut Vec<u8>,
    transaction_id: u32,
    interval: u32,
    Counts { seeders, leechers }: Counts,
    peers: impl IntoIterator<Item = SocketAddr>,
) {
    head(out, ANNOUNCE, transaction_id);
    for number in [interval, leechers, seeders] {
        out.extend(number.to_be_bytes());
    }
    for peer in peers {
        match peer.ip() {
            IpAddr::V4(ip) => out.extend(ip.octets()),
            IpAddr::V6(ip) => out.extend(ip.octets()),
        }
        out.extend(peer.port().to_be_bytes());
    }
}

/// Appends the reply to a scrape, in the order of its info-hashes.
pub fn encode_scraped(out: &mut Vec<u8>, transaction_id: u32, swarms: impl IntoIterator<Item = Scraped>) {
    head(out, SCRAPE, transaction_id);
    for Scraped { seeders, completed, leechers } in swarms {
        for number in [seeders, completed, leechers] {
            out.extend(number.to_be_bytes());
        }
    }
}

/// Appends a refusal.
pub fn encode_refused(out: &mut Vec<u8>, transaction_id: u32, reason: &str) {
    head(out, ERROR, transaction_id);
    out.extend(reason.as_bytes());
}

fn head(out: &mut Vec<u8>, action: u32, transaction_id: u32) {
    out.extend(action.to_be_bytes());
    out.extend(transaction_id.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tracker_http::{AnnounceQuery, ScrapedSwarm};
    use crate::codec::tracker_udp::{UdpReply, decode_reply, encode_announce, encode_connect, encode_scrape};
    use proptest::prelude::*;

    const QUERY: AnnounceQuery<'static> = AnnounceQuery {
        info_hash: InfoHash([0xaa; 20]),
        peer_id: PeerId([0xbb; 20]),
        ip: Some("10.1.2.3"),
        port: 6881,
        uploaded: 3,
        downloaded: 1,
        left: 2,
        event: Event::Completed,
        numwant: 80,
        key: 4,
        tracker_id: None,
    };

    #[test]
    fn requests_of_our_client_are_read() {
        assert_eq!(decode_request(&encode_connect(7)), Some(UdpRequest::Connect { transaction_id: 7 }));
        let announce = UdpAnnounce {
            info_hash: QUERY.info_hash,
            peer_id: QUERY.peer_id,
            left: 2,
            event: Event::Completed,
            numwant: Some(80),
            port: 6881,
        };
        let expected = UdpRequest::Announce { connection_id: 5, transaction_id: 6, announce };
        assert_eq!(decode_request(&encode_announce(&QUERY, "/announce", 5, 6)), Some(expected));
        let default = encode_announce(&AnnounceQuery { numwant: u32::MAX, ..QUERY }, "", 5, 6);
        let Some(UdpRequest::Announce { announce, .. }) = decode_request(&default) else { panic!() };
        assert_eq!(announce.numwant, None);
    }

    #[test]
    fn our_replies_are_read_by_our_client() {
        let mut packet = Vec::new();
        encode_connected(&mut packet, 7, 9);
        assert_eq!(decode_reply(&packet, 7, false), Some(UdpReply::Connected { connection_id: 9 }));
        packet.clear();
        encode_announced(&mut packet, 7, 30, Counts { seeders: 2, leechers: 1 }, ["10.0.0.1:80".parse().unwrap()]);
        assert_eq!(
            packet,
            [1_u32, 7, 30, 1, 2, 0x0a00_0001]
                .map(u32::to_be_bytes)
                .concat()
                .into_iter()
                .chain([0, 80])
                .collect::<Vec<_>>()
        );
        packet.clear();
        encode_refused(&mut packet, 7, "no");
        assert_eq!(decode_reply(&packet, 7, false), Some(UdpReply::Refused { reason: "no".into() }));
    }

    #[test]
    fn scrapes_are_bounded_and_answered_in_order() {
        let mut packet = [5_u64.to_be_bytes().as_slice(), &[0, 0, 0, 2, 0, 0, 0, 7]].concat();
        packet.extend([1; 20 * 200 + 3]);
        let Some(UdpRequest::Scrape { info_hashes, .. }) = decode_request(&packet) else { panic!() };
        assert_eq!(info_hashes.len(), limits::TRACKER_SCRAPE_MAX);
        let mut answer = Vec::new();
        encode_scraped(&mut answer, 7, [Scraped { seeders: 1, completed: 2, leechers: 3 }]);
        assert_eq!(answer, [2_u32, 7, 1, 2, 3].map(u32::to_be_bytes).concat());
        let scraped = ScrapedSwarm { seeders: 1, completed: 2, leechers: 3 };
        assert_eq!(decode_reply(&answer, 7, false), Some(UdpReply::Scraped(scraped)));
        let request = UdpRequest::Scrape { connection_id: 5, transaction_id: 6, info_hashes: vec![InfoHash([9; 20])] };
        assert_eq!(decode_request(&encode_scrape(InfoHash([9; 20]), 5, 6)), Some(request));
    }

    #[test]
    fn short_and_foreign_packets_are_not_answered() {
        let packet = encode_announce(&QUERY, "", 5, 6);
        for len in 0..packet.len() {
            assert_eq!(decode_request(&packet[..len]), None, "{len}");
        }
        let mut connect = encode_connect(7);
        connect[7] ^= 1;
        assert_eq!(decode_request(&connect), None);
    }

    proptest! {
        #[test]
        fn arbitrary_requests_are_ignored_or_read_back(
            mut packet in prop::collection::vec(any::<u8>(), 0..200), action in 0..5_u8, is_protocol in any::<bool>()
        ) {
            if let Some(bytes) = packet.get_mut(8..12) {
                bytes.copy_from_slice(&[0, 0, 0, action]);
            }
            if let Some(bytes) = packet.get_mut(..8).filter(|_| is_protocol) {
                bytes.copy_from_slice(&PROTOCOL_ID.to_be_bytes());
            }
            let Some(request) = decode_request(&packet) else { return Ok(()) };
            if let UdpRequest::Scrape { info_hashes, .. } = &request {
                prop_assert_eq!(info_hashes.len(), ((packet.len() - 16) / 20).min(limits::TRACKER_SCRAPE_MAX));
            }
            if let Some(written) = encode(&request) {
                prop_assert_eq!(decode_request(&written), Some(request));
            }
        }
    }

    /// Returns our client's request with these values, or `None` for a scrape that our client never sends.
    fn encode(request: &UdpRequest) -> Option<Vec<u8>> {
        match request {
            UdpRequest::Connect { transaction_id } => Some(encode_connect(*transaction_id).to_vec()),
            UdpRequest::Announce { connection_id, transaction_id, announce } => {
                let UdpAnnounce { info_hash, peer_id, left, event, numwant, port } = *announce;
                let numwant = numwant.unwrap_or(u32::MAX);
                let query = AnnounceQuery { info_hash, peer_id, left, event, numwant, port, ..QUERY };
                Some(encode_announce(&query, "", *connection_id, *transaction_id))
            }
            UdpRequest::Scrape { connection_id, transaction_id, info_hashes } => {
                let [info_hash] = info_hashes[..] else { return None };
                Some(encode_scrape(info_hash, *connection_id, *transaction_id))
            }
        }
    }
}
