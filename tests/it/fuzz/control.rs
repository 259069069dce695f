//! Fuzz targets for the control plane: both sides of the UDP tracker protocol, and HTTP requests to our pages.

use std::net::{IpAddr, SocketAddr};

use bt_fast::base::{InfoHash, limits};
use bt_fast::codec::percent::{Plus, escape, unescape};
use bt_fast::codec::tracker_http::{AnnounceQuery, PeerHost, decode_scrape_query, scrape_url};
use bt_fast::codec::tracker_udp::served::{
    Counts, Scraped, UdpRequest, decode_request, encode_announced, encode_scraped,
};
use bt_fast::codec::tracker_udp::{UdpReply, decode_reply, encode_announce, encode_connect, encode_scrape};
use bt_fast::web::hosts::{Authority, Hosts};
use bt_fast::web::range::{Wanted, wanted};

/// A reply of a UDP tracker: decoded values are within bounds, and our tracker's encoding decodes to the same values.
pub fn tracker_udp(bytes: &[u8]) {
    let Some((&family, packet)) = bytes.split_first() else { return };
    let is_ipv6 = family % 2 == 1;
    let transaction_id = packet.get(4..8).map_or(0, |id| u32::from_be_bytes(id.try_into().expect("four bytes")));
    assert_eq!(decode_reply(packet, !transaction_id, is_ipv6), None);
    let Some(reply) = decode_reply(packet, transaction_id, is_ipv6) else { return };
    let mut again = Vec::new();
    match &reply {
        UdpReply::Connected { connection_id } => assert_eq!(packet[8..16], connection_id.to_be_bytes()),
        UdpReply::Refused { reason } => {
            return assert!(!reason.chars().any(char::is_control) && reason.len() <= 4 * limits::TRACKER_TEXT_LEN_MAX);
        }
        UdpReply::Scraped(swarm) => {
            let count = |count: u64| u32::try_from(count).expect("it came as 32 bits");
            let (seeders, completed, leechers) = (count(swarm.seeders), count(swarm.completed), count(swarm.leechers));
            encode_scraped(&mut again, transaction_id, [Scraped { seeders, completed, leechers }]);
        }
        UdpReply::Announced(reply) => {
            let stride = if is_ipv6 { 18 } else { 6 };
            assert!(reply.peers.len() <= limits::TRACKER_REPLY_PEERS_MAX);
            assert_eq!(reply.peers.len() + reply.peers_skipped, (packet.len() - 20) / stride);
            let address = |peer: &bt_fast::codec::tracker_http::TrackerPeer| {
                assert_ne!(peer.port, 0);
                let PeerHost::Ip(ip) = peer.host else { panic!("{peer:?}") };
                // An IPv4-mapped IPv6 address was decoded as IPv4.
                let ip = match ip {
                    IpAddr::V4(ip) if is_ipv6 => ip.to_ipv6_mapped().into(),
                    ip => ip,
                };
                SocketAddr::new(ip, peer.port)
            };
            let numbers = [reply.interval, reply.complete, reply.incomplete].map(|n| n.unwrap().try_into().unwrap());
            let [interval, seeders, leechers] = numbers;
            let peers: Vec<_> = reply.peers.iter().map(address).collect();
            encode_announced(&mut again, transaction_id, interval, Counts { seeders, leechers }, peers);
            let read = decode_reply(&again, transaction_id, is_ipv6);
            let Some(UdpReply::Announced(read)) = read else { panic!("{read:?}") };
            return assert_eq!((read.peers, read.peers_skipped), (reply.peers.clone(), 0));
        }
    }
    assert!(again.is_empty() || decode_reply(&again, transaction_id, is_ipv6) == Some(reply));
}

/// A packet to our UDP tracker: our client encodes the decoded values to the same packet.
pub fn tracker_udp_request(packet: &[u8]) {
    let Some(request) = decode_request(packet) else { return };
    let again = match &request {
        UdpRequest::Connect { transaction_id } => encode_connect(*transaction_id).to_vec(),
        UdpRequest::Announce { connection_id, transaction_id, announce } => {
            let query = AnnounceQuery {
                info_hash: announce.info_hash,
                peer_id: announce.peer_id,
                ip: Some("192.0.2.1"),
                port: announce.port,
                uploaded: u64::MAX,
                downloaded: 0,
                left: announce.left,
                event: announce.event,
                numwant: announce.numwant.unwrap_or(u32::MAX),
                key: 7,
                tracker_id: None,
            };
            encode_announce(&query, "/announce?x=y", *connection_id, *transaction_id)
        }
        UdpRequest::Scrape { connection_id, transaction_id, info_hashes } => {
            assert!(info_hashes.len() <= limits::TRACKER_SCRAPE_MAX && 16 + 20 * info_hashes.len() <= packet.len());
            let one = encode_scrape(InfoHash([0; 20]), *connection_id, *transaction_id);
            info_hashes.iter().fold(one[..16].to_vec(), |packet, hash| [&packet[..], &hash.0].concat())
        }
    };
    assert_eq!(decode_request(&again), Some(request));
}

/// A request to our pages with one value per line: `Host`, `Range`, the query of a scrape, an escaped path.
pub fn http_request(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    host(line());
    let (range, query, path) = (line(), line(), line());
    for len in [0, 1, 1000, u64::MAX] {
        if let Wanted::Part(part) = wanted(range, len) {
            assert!(part.start() <= part.end() && *part.end() < len, "{range}: {part:?}");
        }
    }
    if let Ok(hashes) = decode_scrape_query(query) {
        assert!((1..=limits::TRACKER_SCRAPE_MAX).contains(&hashes.len()));
        let url = scrape_url("http://t/announce", hashes[0]).expect("it has one");
        assert_eq!(decode_scrape_query(url.split_once('?').expect("it has one").1).as_deref(), Ok(&hashes[..1]));
    }
    if let Some(unescaped) = unescape(path.as_bytes(), Plus::Itself) {
        let mut escaped = String::new();
        escape(&mut escaped, &unescaped);
        assert_eq!(unescape(escaped.as_bytes(), Plus::Itself), Some(unescaped));
    }
}

/// Only our configured names and names that can mean no other host are accepted as our own.
fn host(header: &str) {
    let hosts = Hosts::new(["Origin.example".to_owned()]);
    let Some(Authority { host, .. }) = Authority::parse(header) else {
        return assert!(!hosts.accepts(header));
    };
    assert!(header.contains(host) && !host.contains(['/', '@', ' ', '\\', '%']), "{header}");
    let is_ours = ["origin.example", "localhost"].contains(&&*host.to_ascii_lowercase());
    assert_eq!(hosts.accepts(header), is_ours || host.parse::<IpAddr>().is_ok(), "{header}");
}
