//! Announces and scrapes over UDP (BEP 15). Each thread answers the packets of its own socket.
//!
//! A request is answered with one packet. Only an address with a valid connection id gets more bytes than it sent, so
//! that the tracker cannot be used to amplify spoofed packets.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tracing::debug;

use super::Tracker;
use crate::base::Rng;
use crate::base::limits::{TRACKER_NUMWANT, TRACKER_UDP_REQUEST_LEN_MAX, TRACKER_UDP_SERVED_LEN_MAX};
use crate::codec::tracker_udp::served::{
    Counts, Scraped, UdpAnnounce, UdpRequest, decode_request, encode_announced, encode_connected, encode_refused,
    encode_scraped,
};
use crate::io::{StartError, start_thread};
use crate::tracker::{Announcement, SwarmStats};

/// Length of an announce reply before the peers, in bytes.
const ANNOUNCED_LEN: usize = 20;

/// Starts one thread per socket, which serves until `stop` is set.
pub fn start(
    sockets: Vec<UdpSocket>,
    tracker: &Tracker,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let start = |(index, socket): (usize, UdpSocket)| {
        let (tracker, stop) = (tracker.clone(), Arc::clone(stop));
        start_thread(format!("tracker-udp-{index}"), move || serve(&socket, &tracker, &stop))
    };
    sockets.into_iter().enumerate().map(start).collect()
}

fn serve(socket: &UdpSocket, tracker: &Tracker, stop: &AtomicBool) {
    let mut serving = Serving {
        tracker,
        local: socket.local_addr().map_or(IpAddr::from([0; 4]), |local| local.ip()),
        rng: Rng::new(),
        answer: Vec::with_capacity(TRACKER_UDP_SERVED_LEN_MAX),
    };
    let mut packet = [0; TRACKER_UDP_REQUEST_LEN_MAX];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut packet) {
            Ok((len, from)) => {
                serving.handle_packet(packet.get(..len).unwrap_or_default(), from);
                if !serving.answer.is_empty() {
                    // An error is ignored: the peer resends requests without a reply.
                    let _ = socket.send_to(&serving.answer, from);
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // An ICMP error about an earlier reply.
            Err(error) => debug!("tracker: {error}"),
        }
    }
}

/// The state of one thread.
struct Serving<'a> {
    tracker: &'a Tracker,
    /// The address that the socket is bound to; unspecified for a wildcard.
    local: IpAddr,
    rng: Rng,
    /// The reply to the last packet; empty if it gets none.
    answer: Vec<u8>,
}

impl Serving<'_> {
    fn handle_packet(&mut self, packet: &[u8], from: SocketAddr) {
        self.answer.clear();
        let ip = from.ip().to_canonical();
        match decode_request(packet) {
            // The reply has the length of the request, so a spoofed address does not matter.
            Some(UdpRequest::Connect { transaction_id }) => {
                encode_connected(&mut self.answer, transaction_id, self.tracker.issue(ip));
            }
            Some(
                UdpRequest::Announce { connection_id, transaction_id, .. }
                | UdpRequest::Scrape { connection_id, transaction_id, .. },
            ) if !self.tracker.accepts(ip, connection_id) => {
                encode_refused(&mut self.answer, transaction_id, "connection id expired");
                // The address may be spoofed, so the reply must not be longer than the request.
                self.answer.truncate(packet.len());
            }
            Some(UdpRequest::Announce { transaction_id, announce, .. }) => self.announce(transaction_id, &announce, ip),
            Some(UdpRequest::Scrape { transaction_id, info_hashes, .. }) => {
                let swarms = info_hashes.iter().map(|&hash| scraped(self.tracker.scrape(hash).unwrap_or_default()));
                encode_scraped(&mut self.answer, transaction_id, swarms);
            }
            None => {}
        }
    }

    fn announce(&mut self, transaction_id: u32, announce: &UdpAnnounce, source: IpAddr) {
        let &UdpAnnounce { info_hash, peer_id, left, event, numwant, port } = announce;
        let stride = if source.is_ipv4() { 6 } else { 18 };
        let peers_max = (TRACKER_UDP_SERVED_LEN_MAX - ANNOUNCED_LEN) / stride;
        let wanted = usize::try_from(numwant.unwrap_or(TRACKER_NUMWANT)).unwrap_or(usize::MAX);
        let local = if self.local.is_unspecified() { local_towards(source) } else { self.local };
        let announcement = Announcement {
            info_hash,
            peer_id,
            source,
            local,
            port,
            left,
            event,
            numwant: wanted.min(peers_max),
            same_family_only: true,
        };
        let counters = self.tracker.counters();
        counters.udp_announces.fetch_add(1, Ordering::Relaxed);
        match self.tracker.announce(&announcement, &mut self.rng) {
            Ok(reply) => {
                let interval = u32::try_from(reply.interval.as_secs()).unwrap_or(u32::MAX);
                let counts = Counts { seeders: count(reply.seeders), leechers: count(reply.leechers) };
                let peers = reply.peers.iter().map(|peer| peer.addr);
                encode_announced(&mut self.answer, transaction_id, interval, counts, peers);
            }
            Err(refusal) => {
                counters.refused.fetch_add(1, Ordering::Relaxed);
                encode_refused(&mut self.answer, transaction_id, &self.tracker.reason(info_hash, &refusal));
            }
        }
    }
}

/// Our source address for packets to `remote`, which is most likely the one that `remote` has used.
fn local_towards(remote: IpAddr) -> IpAddr {
    let any = if remote.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    // Connecting a UDP socket sends no packet.
    let route = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((remote, 9))?;
        socket.local_addr()
    };
    route().map_or(any, |local| local.ip())
}

fn scraped(stats: SwarmStats) -> Scraped {
    let completed = u32::try_from(stats.completed).unwrap_or(u32::MAX);
    Scraped { seeders: count(stats.seeders), completed, leechers: count(stats.leechers) }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{HASH, leecher};
    use super::*;
    use crate::base::{InfoHash, PeerId};
    use crate::codec::tracker_http::{AnnounceQuery, AnnounceReply, Event, PeerHost};
    use crate::engine::network::egress::Egress;
    use crate::engine::trackers::udp::{Patience, announce};
    use crate::tracker::{Origin, Table};
    use crate::web::reuse_port::bind_udp;
    use std::time::Duration;

    const PATIENCE: Patience = Patience { timeout: Duration::from_secs(10), resend_after: Duration::from_secs(5) };

    struct Running {
        address: SocketAddr,
        tracker: Tracker,
        stop: Arc<AtomicBool>,
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn running(bind_to: &str) -> Running {
        let sockets = bind_udp(bind_to.parse().unwrap(), 2).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let table = Table::listed();
        table.allow_with_origin(HASH, Origin { port: 7000, peer_id: PeerId([b'o'; 20]), ip: None });
        let tracker = Tracker::new(table);
        let stop = Arc::default();
        start(sockets, &tracker, &stop).unwrap();
        Running { address, tracker, stop }
    }

    fn peers(reply: &AnnounceReply) -> Vec<String> {
        let shown = |host: &PeerHost| if let PeerHost::Ip(ip) = host { ip.to_string() } else { panic!() };
        let mut peers: Vec<String> =
            reply.peers.iter().map(|peer| format!("{} {}", shown(&peer.host), peer.port)).collect();
        peers.sort();
        peers
    }

    #[tokio::test]
    async fn our_client_finds_peers_and_its_claimed_ip_is_ignored() {
        let running = running("127.0.0.1:0");
        let url = format!("udp://{}/announce", running.address);
        let reply = announce(&url, &leecher(1), PATIENCE, &Egress::default()).await.unwrap();
        assert_eq!(peers(&reply), ["127.0.0.1 7000"]);
        assert_eq!((reply.complete, reply.incomplete, reply.interval), (Some(1), Some(1), Some(30)));
        let reply = announce(&url, &leecher(2), PATIENCE, &Egress::default()).await.unwrap();
        assert_eq!(peers(&reply), ["127.0.0.1 6882", "127.0.0.1 7000"]);
        let unknown = AnnounceQuery { info_hash: InfoHash([1; 20]), ..leecher(3) };
        let refused = announce(&url, &unknown, PATIENCE, &Egress::default()).await.unwrap_err();
        assert!(refused.to_string().contains("does not serve this torrent"), "{refused}");
        assert_eq!(running.tracker.counters().refused.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_wildcard_gives_each_family_the_origin_in_that_family() {
        let running = running("[::]:0");
        let port = running.address.port();
        let v4 = announce(&format!("udp://127.0.0.1:{port}"), &leecher(1), PATIENCE, &Egress::default()).await.unwrap();
        assert_eq!(peers(&v4), ["127.0.0.1 7000"]);
        let v6 = announce(&format!("udp://[::1]:{port}"), &leecher(2), PATIENCE, &Egress::default()).await.unwrap();
        assert_eq!(peers(&v6), ["::1 7000"]);
    }

    /// Sends one packet and returns the reply.
    fn ask(running: &Running, packet: &[u8]) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket.send_to(packet, running.address).unwrap();
        let mut answer = [0; 2000];
        let len = socket.recv(&mut answer).ok()?;
        Some(answer[..len].to_vec())
    }

    #[test]
    fn a_bad_connection_id_gets_a_short_refusal_nonsense_no_reply() {
        let running = running("127.0.0.1:0");
        let packet = crate::codec::tracker_udp::encode_announce(&leecher(1), "", 12345, 7);
        let answer = ask(&running, &packet).unwrap();
        assert!(answer.len() < packet.len() && answer.starts_with(&[0, 0, 0, 3, 0, 0, 0, 7]), "{answer:?}");
        assert_eq!(running.tracker.stats(HASH).unwrap().leechers, 0);
        assert_eq!(ask(&running, &[0; 15]), None);
        assert_eq!(ask(&running, &[0xff; 1400]), None);
    }

    #[test]
    fn without_a_connection_id_no_reply_is_longer_than_its_request() {
        let running = running("127.0.0.1:0");
        for action in [1_u8, 2] {
            for hashes in [0, 1, 74] {
                let packet = [&[0xff; 8][..], &[0, 0, 0, action, 0, 0, 0, 9], &vec![1; 20 * hashes]].concat();
                let answer = ask(&running, &packet).unwrap_or_default();
                assert!(answer.len() <= packet.len(), "{} bytes for {}", answer.len(), packet.len());
            }
        }
    }

    #[test]
    fn a_scrape_reply_has_the_counts_in_the_requested_order() {
        let running = running("127.0.0.1:0");
        let id = running.tracker.issue([127, 0, 0, 1].into());
        let packet = [&id.to_be_bytes()[..], &[0, 0, 0, 2, 0, 0, 0, 9], &[1; 20], &HASH.0].concat();
        let answer = ask(&running, &packet).unwrap();
        assert_eq!(answer, [2_u32, 9, 0, 0, 0, 1, 0, 0].map(u32::to_be_bytes).concat());
    }

    #[test]
    fn a_reply_fits_into_one_packet_of_any_path() {
        let running = running("127.0.0.1:0");
        for n in 0..200_u8 {
            let announcement = Announcement {
                info_hash: HASH,
                peer_id: PeerId([n; 20]),
                source: std::net::Ipv6Addr::from_bits(u128::from(n) << 64 | 1 << 120).into(),
                local: IpAddr::from([0; 16]),
                port: 1,
                left: 1,
                event: Event::Started,
                numwant: 0,
                same_family_only: true,
            };
            running.tracker.announce(&announcement, &mut Rng::new()).unwrap();
        }
        let mut serving =
            Serving { tracker: &running.tracker, local: [0; 16].into(), rng: Rng::new(), answer: Vec::new() };
        let announce = UdpAnnounce {
            info_hash: HASH,
            peer_id: PeerId([0; 20]),
            left: 1,
            event: Event::Empty,
            numwant: None,
            port: 1,
        };
        serving.announce(1, &UdpAnnounce { numwant: Some(u32::MAX), ..announce }, "2001:db8::1".parse().unwrap());
        assert!((1000..=TRACKER_UDP_SERVED_LEN_MAX).contains(&serving.answer.len()), "{}", serving.answer.len());
    }
}
