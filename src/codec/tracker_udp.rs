//! Announces over UDP (BEP 15, BEP 41): the packets to a tracker and its replies. All numbers are big-endian.
//!
//! Owns bytes only. The caller decides when to send a packet again and checks the sender of a reply.

pub mod served;

use std::net::IpAddr;

use super::reader::Reader;
use super::tracker_http::{AnnounceQuery, AnnounceReply, Event, PeerHost, ScrapedSwarm, TrackerPeer, ip_from_bytes};
use crate::base::escape::printable;
use crate::base::{InfoHash, limits};

/// The constant that a connect request has in place of a connection id.
const PROTOCOL_ID: u64 = 0x0417_2710_1980;
const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// The option of BEP 41 that ends the options.
const OPTION_END: u8 = 0;
/// The option of BEP 41 with a part of the URL's path and query.
const OPTION_URL_DATA: u8 = 2;

/// A tracker's packet. A packet may be longer than BEP 15 specifies; the rest is ignored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UdpReply {
    /// The client may use this connection id for a minute.
    Connected {
        connection_id: u64,
    },
    Announced(AnnounceReply),
    /// The numbers of the first torrent of a scrape.
    Scraped(ScrapedSwarm),
    /// The tracker refused the request; the reason is printable and of bounded length.
    Refused {
        reason: String,
    },
}

/// Returns a request for a connection id.
pub fn encode_connect(transaction_id: u32) -> [u8; 16] {
    let mut packet = [0; 16];
    let (head, tail) = packet.split_at_mut(8);
    head.copy_from_slice(&PROTOCOL_ID.to_be_bytes());
    tail.copy_from_slice(&(u64::from(CONNECT) << 32 | u64::from(transaction_id)).to_be_bytes());
    packet
}

/// Returns an announce. `url_data` is the path and query of the tracker's URL (BEP 41), possibly empty.
pub fn encode_announce(query: &AnnounceQuery<'_>, url_data: &str, connection_id: u64, transaction_id: u32) -> Vec<u8> {
    let event: u32 = match query.event {
        Event::Empty => 0,
        Event::Completed => 1,
        Event::Started => 2,
        Event::Stopped => 3,
    };
    // BEP 15: "IP address", of which only IPv4 fits; 0 stands for the source address of the packet.
    let ip = match query.ip.and_then(|ip| ip.parse().ok()) {
        Some(IpAddr::V4(ip)) => ip.to_bits(),
        _ => 0,
    };
    let mut packet = Vec::with_capacity(98 + url_data.len());
    packet.extend(connection_id.to_be_bytes());
    packet.extend(ANNOUNCE.to_be_bytes());
    packet.extend(transaction_id.to_be_bytes());
    packet.extend(query.info_hash.0);
    packet.extend(query.peer_id.0);
    for total in [query.downloaded, query.left, query.uploaded] {
        packet.extend(total.to_be_bytes());
    }
    for number in [event, ip, query.key, query.numwant] {
        packet.extend(number.to_be_bytes());
    }
    packet.extend(query.port.to_be_bytes());
    if !url_data.is_empty() {
        for part in url_data.as_bytes().chunks(usize::from(u8::MAX)) {
            packet.extend([OPTION_URL_DATA, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
            packet.extend(part);
        }
        packet.push(OPTION_END);
    }
    packet
}

/// Returns a scrape of one torrent.
pub fn encode_scrape(info_hash: InfoHash, connection_id: u64, transaction_id: u32) -> Vec<u8> {
    let mut packet = Vec::with_capacity(36);
    packet.extend(connection_id.to_be_bytes());
    packet.extend(SCRAPE.to_be_bytes());
    packet.extend(transaction_id.to_be_bytes());
    packet.extend(info_hash.0);
    packet
}

/// Reads the reply to a transaction; `None` for any other packet. `is_ipv6` is the address family of the packet, which
/// is that of the peers in it.
pub fn decode_reply(packet: &[u8], transaction_id: u32, is_ipv6: bool) -> Option<UdpReply> {
    let mut reader = Reader::new(packet);
    let action = reader.u32()?;
    if reader.u32()? != transaction_id {
        return None;
    }
    match action {
        CONNECT => {
            let (high, low) = (reader.u32()?, reader.u32()?);
            Some(UdpReply::Connected { connection_id: u64::from(high) << 32 | u64::from(low) })
        }
        ANNOUNCE => {
            let (interval, leechers, seeders) = (reader.u32()?, reader.u32()?, reader.u32()?);
            let (peers, peers_skipped) = peers(reader, if is_ipv6 { 16 } else { 4 });
            Some(UdpReply::Announced(AnnounceReply {
                interval: Some(interval.into()),
                complete: Some(seeders.into()),
                incomplete: Some(leechers.into()),
                peers,
                peers_skipped,
                ..AnnounceReply::default()
            }))
        }
        SCRAPE => {
            let (seeders, completed, leechers) = (reader.u32()?, reader.u32()?, reader.u32()?);
            Some(UdpReply::Scraped(ScrapedSwarm {
                seeders: seeders.into(),
                completed: completed.into(),
                leechers: leechers.into(),
            }))
        }
        ERROR => {
            let text = reader.rest();
            let reason = printable(text.get(..limits::TRACKER_TEXT_LEN_MAX).unwrap_or(text));
            Some(UdpReply::Refused { reason })
        }
        _ => None,
    }
}

/// Returns the usable peers, and the number of unusable ones.
fn peers(mut reader: Reader<'_>, ip_len: usize) -> (Vec<TrackerPeer>, usize) {
    let (mut peers, mut skipped) = (Vec::new(), 0);
    while let Some((ip, port)) = reader.take(ip_len).zip(reader.u16()) {
        match ip_from_bytes(ip).filter(|_| port != 0 && peers.len() < limits::TRACKER_REPLY_PEERS_MAX) {
            Some(ip) => peers.push(TrackerPeer { host: PeerHost::Ip(ip), port, peer_id: None }),
            None => skipped += 1,
        }
    }
    (peers, skipped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PeerId;
    use proptest::prelude::*;

    fn query() -> AnnounceQuery<'static> {
        AnnounceQuery {
            info_hash: InfoHash([0xaa; 20]),
            peer_id: PeerId([0xbb; 20]),
            ip: None,
            port: 6881,
            uploaded: 3,
            downloaded: 1,
            left: 2,
            event: Event::Started,
            numwant: 80,
            key: 0x0102_0304,
            tracker_id: None,
        }
    }

    fn addresses(reply: UdpReply) -> (Vec<String>, usize) {
        let UdpReply::Announced(reply) = reply else { panic!("{reply:?}") };
        let shown = |peer: &TrackerPeer| match &peer.host {
            PeerHost::Ip(ip) => format!("{ip} {}", peer.port),
            PeerHost::Name(name) => panic!("{name}"),
        };
        (reply.peers.iter().map(shown).collect(), reply.peers_skipped)
    }

    #[test]
    fn packets_have_the_bytes_of_bep_15() {
        let connect = [0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, 1, 2, 3, 4];
        assert_eq!(encode_connect(0x0102_0304), connect);
        let packet = encode_announce(&query(), "", 0x1122_3344_5566_7788, 9);
        let expected = [
            &[0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0, 0, 0, 1, 0, 0, 0, 9][..],
            &[0xaa; 20],
            &[0xbb; 20],
            &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3],
            &[0, 0, 0, 2, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 80, 0x1a, 0xe1],
        ];
        assert_eq!(packet, expected.concat());
        let stopped = AnnounceQuery { event: Event::Stopped, ip: Some("10.1.2.3"), ..query() };
        let packet = encode_announce(&stopped, "", 0, 0);
        assert_eq!(packet[80..88], [0, 0, 0, 3, 10, 1, 2, 3]);
        assert_eq!(encode_announce(&AnnounceQuery { ip: Some("::1"), ..query() }, "", 0, 0)[84..88], [0; 4]);
    }

    /// BEP 41: "a single URLData option [...] up to 255 bytes", more of them for a longer one.
    #[test]
    fn path_and_query_follow_as_options() {
        let packet = encode_announce(&query(), "/announce?pass=x", 0, 0);
        assert_eq!(packet[98..], *b"\x02\x10/announce?pass=x\0");
        let packet = encode_announce(&query(), &"x".repeat(300), 0, 0);
        assert_eq!((packet.len(), packet[99], packet[98 + 257 + 1]), (98 + 257 + 47 + 1, 255, 45));
    }

    #[test]
    fn replies_are_read_in_both_families() {
        let connected = [&[0; 4][..], &7_u32.to_be_bytes(), &[1, 2, 3, 4, 5, 6, 7, 8], b"more"].concat();
        let expected = UdpReply::Connected { connection_id: 0x0102_0304_0506_0708 };
        assert_eq!(decode_reply(&connected, 7, false), Some(expected));
        let head = [1_u32, 7, 1800, 5, 6].map(u32::to_be_bytes).concat();
        let v4 = [&head[..], &[127, 0, 0, 1, 0x1a, 0xe1, 10, 0, 0, 1, 0, 0, 1, 2, 3]].concat();
        let reply = decode_reply(&v4, 7, false).unwrap();
        let UdpReply::Announced(announced) = &reply else { panic!() };
        assert_eq!((announced.interval, announced.incomplete, announced.complete), (Some(1800), Some(5), Some(6)));
        assert_eq!(addresses(reply), (vec!["127.0.0.1 6881".to_owned()], 1));
        let mut v6 = head;
        v6.extend("2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        v6.extend([0, 80]);
        assert_eq!(addresses(decode_reply(&v6, 7, true).unwrap()), (vec!["2001:db8::1 80".to_owned()], 0));
        let error = [&[0, 0, 0, 3, 0, 0, 0, 7][..], b"no\x1b[31m"].concat();
        assert_eq!(decode_reply(&error, 7, false), Some(UdpReply::Refused { reason: "no\\x1b[31m".into() }));
    }

    /// T8: short packets and those of another transaction are ignored.
    #[test]
    fn other_packets_are_ignored() {
        let announced = [1_u32, 7, 1800, 5, 6].map(u32::to_be_bytes).concat();
        assert_eq!(decode_reply(&announced, 8, false), None);
        for len in 0..announced.len() {
            assert_eq!(decode_reply(&announced[..len], 7, false), None, "{len}");
        }
        assert_eq!(decode_reply(&[0, 0, 0, 9, 0, 0, 0, 7], 7, false), None);
        let many = [announced, vec![1; 60_000]].concat();
        assert_eq!(addresses(decode_reply(&many, 7, false).unwrap()).0.len(), limits::TRACKER_REPLY_PEERS_MAX);
    }

    proptest! {
        #[test]
        fn arbitrary_packets_are_ignored_or_read_back(
            mut packet in prop::collection::vec(any::<u8>(), 0..200), action in 0..4_u8, is_ipv6 in any::<bool>()
        ) {
            if let Some(head) = packet.get_mut(..8) {
                head.copy_from_slice(&[0, 0, 0, action, 0, 0, 0, 0]);
            }
            let Some(mut reply) = decode_reply(&packet, 0, is_ipv6) else { return Ok(()) };
            if let UdpReply::Announced(announced) = &mut reply {
                let in_packet = (packet.len() - 20) / if is_ipv6 { 18 } else { 6 };
                prop_assert_eq!(announced.peers.len() + announced.peers_skipped, in_packet);
                announced.peers_skipped = 0;
            }
            if let Some(written) = encode(&reply, is_ipv6) {
                prop_assert_eq!(decode_reply(&written, 0, is_ipv6), Some(reply));
            }
        }
    }

    /// Returns the reply of our own tracker with these values, or `None` for values that it never sends.
    fn encode(reply: &UdpReply, is_ipv6: bool) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let number = |number: u64| u32::try_from(number).ok();
        match reply {
            UdpReply::Connected { connection_id } => served::encode_connected(&mut out, 0, *connection_id),
            UdpReply::Announced(reply) => {
                let peers = reply.peers.iter().map(|peer| match peer.host {
                    PeerHost::Ip(ip) if ip.is_ipv6() == is_ipv6 => Some((ip, peer.port).into()),
                    _ => None,
                });
                let peers = peers.collect::<Option<Vec<std::net::SocketAddr>>>()?;
                let counts = served::Counts { seeders: number(reply.complete?)?, leechers: number(reply.incomplete?)? };
                served::encode_announced(&mut out, 0, number(reply.interval?)?, counts, peers);
            }
            UdpReply::Scraped(ScrapedSwarm { seeders, completed, leechers }) => {
                let [seeders, completed, leechers] = [*seeders, *completed, *leechers].map(number);
                let swarm = served::Scraped { seeders: seeders?, completed: completed?, leechers: leechers? };
                served::encode_scraped(&mut out, 0, [swarm]);
            }
            UdpReply::Refused { reason } if reason.len() > limits::TRACKER_TEXT_LEN_MAX => return None,
            UdpReply::Refused { reason } => served::encode_refused(&mut out, 0, reason),
        }
        Some(out)
    }
}
