//! Announces and scrapes over UDP (BEP 15): one request to one tracker, from the lookup of its name to its reply.
//!
//! Owns sockets, timeouts and transaction ids. A socket is connected to the tracker's address, so that packets of other
//! hosts do not reach it. A connection id is used for one request, far less than the minute for which it is valid.

#![allow(clippy::disallowed_methods, reason = "packets are sent again after a timeout")]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use crate::announce::AnnounceFailure;
use crate::base::InfoHash;
use crate::base::limits::TRACKER_UDP_REPLY_LEN_MAX;
use crate::codec::tracker_http::{AnnounceQuery, AnnounceReply, ScrapedSwarm, TrackerReplyError};
use crate::codec::tracker_udp::{UdpReply, decode_reply, encode_announce, encode_connect, encode_scrape};
use crate::codec::url::{self, Host, Position};
use crate::engine::network::dns::look_up;
use crate::engine::network::egress::Egress;
use crate::engine::trackers::dual_stack;

/// The timeouts of a request.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the whole request, without the lookup of the name.
    pub timeout: Duration,
    /// The time after which an unanswered packet is sent again; each further time is twice as long. BEP 15 has 15 s.
    pub resend_after: Duration,
}

/// The URL of a tracker: `udp://HOST:PORT`, then path and query.
#[derive(Clone, PartialEq, Eq, Debug)]
struct UdpUrl {
    /// A name, or an address without brackets.
    host: String,
    port: u16,
    /// Path and query, for BEP 41.
    url_data: String,
}

impl UdpUrl {
    fn parse(text: &str) -> Result<Self, AnnounceFailure> {
        let parsed = url::read(text.as_bytes(), &["udp"]).and_then(|url| {
            let host = match url::host(&url)? {
                Host::Domain(name) => name,
                Host::Ipv4(ip) => ip.to_string(),
                Host::Ipv6(ip) => ip.to_string(),
            };
            let port = url.port().filter(|&port| port != 0)?;
            Some(Self { host, port, url_data: url[Position::BeforePath..Position::AfterQuery].to_owned() })
        });
        parsed.ok_or_else(|| failed("not a udp URL with host and port"))
    }
}

/// Announces over both IPv4 and IPv6 if the tracker has both, since each family has its own peers (BEP 7). One reply is
/// enough.
pub async fn announce(
    url: &str,
    query: &AnnounceQuery<'_>,
    patience: Patience,
    egress: &Egress,
) -> Result<AnnounceReply, AnnounceFailure> {
    let UdpUrl { host, port, url_data } = UdpUrl::parse(url)?;
    let found = look_up(&host, port).await.map_err(failed)?;
    let url_data = &url_data;
    let v4 = found.iter().copied().find(SocketAddr::is_ipv4);
    let v6 = found.iter().copied().find(SocketAddr::is_ipv6);
    let one = |address: Option<SocketAddr>| async move {
        match address {
            Some(address) => Some(exchange(address, query, url_data, patience, egress).await),
            None => None,
        }
    };
    dual_stack::ask(one(v4), one(v6)).await
}

async fn exchange(
    address: SocketAddr,
    query: &AnnounceQuery<'_>,
    url_data: &str,
    patience: Patience,
    egress: &Egress,
) -> Result<AnnounceReply, AnnounceFailure> {
    let exchange = Exchange::open(address, patience, egress)?;
    let connection_id = exchange.connect().await?;
    let transaction_id = fastrand::u32(..);
    let packet = encode_announce(query, url_data, connection_id, transaction_id);
    match exchange.ask(&packet, transaction_id).await? {
        UdpReply::Announced(reply) => Ok(reply),
        _ => Err(failed(UNEXPECTED_REPLY)),
    }
}

/// Asks for the size of a swarm at the first address of the tracker.
pub async fn scrape(
    url: &str,
    info_hash: InfoHash,
    patience: Patience,
    egress: &Egress,
) -> Result<ScrapedSwarm, AnnounceFailure> {
    let UdpUrl { host, port, .. } = UdpUrl::parse(url)?;
    let address = look_up(&host, port).await.map_err(failed)?.first().copied();
    let exchange = Exchange::open(address.ok_or_else(|| failed("its name has no address"))?, patience, egress)?;
    let connection_id = exchange.connect().await?;
    let transaction_id = fastrand::u32(..);
    match exchange.ask(&encode_scrape(info_hash, connection_id, transaction_id), transaction_id).await? {
        UdpReply::Scraped(swarm) => Ok(swarm),
        _ => Err(failed(UNEXPECTED_REPLY)),
    }
}

const UNEXPECTED_REPLY: &str = "it sent an unexpected reply";

/// A socket connected to one address of a tracker.
struct Exchange {
    socket: UdpSocket,
    is_ipv6: bool,
    deadline: Instant,
    patience: Patience,
}

impl Exchange {
    fn open(address: SocketAddr, patience: Patience, egress: &Egress) -> Result<Self, AnnounceFailure> {
        let socket = egress.udp_socket(address).and_then(UdpSocket::from_std).map_err(failed)?;
        let deadline = Instant::now() + patience.timeout;
        Ok(Self { socket, is_ipv6: address.is_ipv6(), deadline, patience })
    }

    async fn connect(&self) -> Result<u64, AnnounceFailure> {
        let transaction_id = fastrand::u32(..);
        match self.ask(&encode_connect(transaction_id), transaction_id).await? {
            UdpReply::Connected { connection_id } => Ok(connection_id),
            _ => Err(failed(UNEXPECTED_REPLY)),
        }
    }

    /// Sends the packet until the tracker answers this transaction. A refusal is an error.
    async fn ask(&self, packet: &[u8], transaction_id: u32) -> Result<UdpReply, AnnounceFailure> {
        let mut wait = self.patience.resend_after;
        while Instant::now() < self.deadline {
            self.socket.send(packet).await.map_err(failed)?;
            let until = self.deadline.min(Instant::now() + wait);
            match timeout_at(until, self.receive(transaction_id)).await {
                Ok(Ok(UdpReply::Refused { reason })) => {
                    return Err(TrackerReplyError::Failure { reason, retry_in: None }.into());
                }
                Ok(received) => return received.map_err(failed),
                Err(_) => wait *= 2,
            }
        }
        Err(failed(format_args!("no answer within {} s", self.patience.timeout.as_secs())))
    }

    /// Receives the reply to this transaction. Other packets are ignored.
    async fn receive(&self, transaction_id: u32) -> io::Result<UdpReply> {
        let mut packet = vec![0; TRACKER_UDP_REPLY_LEN_MAX];
        loop {
            let len = self.socket.recv(&mut packet).await?;
            let packet = packet.get(..len).unwrap_or_default();
            if let Some(reply) = decode_reply(packet, transaction_id, self.is_ipv6) {
                return Ok(reply);
            }
        }
    }
}

fn failed(why: impl std::fmt::Display) -> AnnounceFailure {
    AnnounceFailure::Transport(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PeerId;
    use crate::codec::tracker_http::{Event, PeerHost};
    use std::net::UdpSocket as StdSocket;
    use std::sync::mpsc;
    use std::thread;

    const QUERY: AnnounceQuery<'static> = AnnounceQuery {
        info_hash: InfoHash([1; 20]),
        peer_id: PeerId([2; 20]),
        ip: None,
        port: 6881,
        uploaded: 0,
        downloaded: 0,
        left: 1,
        event: Event::Started,
        numwant: 50,
        key: 7,
        tracker_id: None,
    };
    const EGRESS: Egress = Egress { device: None, local: None };
    const QUICK: Patience = Patience { timeout: Duration::from_secs(10), resend_after: Duration::from_millis(100) };

    /// Starts a tracker that answers each packet with those that `answer` returns. Returns its address and the packets
    /// that it receives.
    fn tracker(
        bind: &str,
        answer: impl Fn(usize, &[u8]) -> Vec<Vec<u8>> + Send + 'static,
    ) -> (SocketAddr, mpsc::Receiver<Vec<u8>>) {
        let socket = StdSocket::bind(bind).unwrap();
        let address = socket.local_addr().unwrap();
        let (seen, packets) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            for number in 0.. {
                let Ok((len, from)) = socket.recv_from(&mut buffer) else { return };
                for packet in answer(number, &buffer[..len]) {
                    let _ = socket.send_to(&packet, from);
                }
                let _ = seen.send(buffer[..len].to_vec());
            }
        });
        (address, packets)
    }

    /// A valid answer: connection id 42, and these peers.
    fn valid_answer(packet: &[u8], peers: &[u8]) -> Vec<u8> {
        let transaction = &packet[12..16];
        match packet[11] {
            0 => [&[0; 4], transaction, &42_u64.to_be_bytes()].concat(),
            _ => [&1_u32.to_be_bytes(), transaction, &[0, 0, 3, 0, 0, 0, 0, 1, 0, 0, 0, 2], peers].concat(),
        }
    }

    #[tokio::test]
    async fn an_announce_has_the_connection_id_and_the_path() {
        let (address, packets) = tracker("127.0.0.1:0", |_, packet| vec![valid_answer(packet, &[10, 0, 0, 1, 0, 80])]);
        let reply = announce(&format!("udp://{address}/announce?k=v"), &QUERY, QUICK, &EGRESS).await.unwrap();
        assert_eq!((reply.interval, reply.complete, reply.incomplete), (Some(768), Some(2), Some(1)));
        assert_eq!(reply.peers[0].host, PeerHost::Ip([10, 0, 0, 1].into()));
        assert_eq!(packets.recv().unwrap().len(), 16);
        let packet = packets.recv().unwrap();
        assert_eq!(packet[..12], [0, 0, 0, 0, 0, 0, 0, 42, 0, 0, 0, 1]);
        assert!(packet.ends_with(b"\x02\x0d/announce?k=v\0"));
    }

    #[tokio::test]
    async fn peers_are_of_the_family_that_was_asked() {
        let (v4, _packets) = tracker("127.0.0.1:0", |_, packet| vec![valid_answer(packet, &[10, 0, 0, 1, 0, 80])]);
        let v6 = |_, packet: &[u8]| vec![valid_answer(packet, &[[0xfd; 16].as_slice(), &[0, 81]].concat())];
        let (v6, _packets6) = tracker(&format!("[::1]:{}", v4.port()), v6);
        let reply = exchange(v6, &QUERY, "", QUICK, &EGRESS).await.unwrap();
        assert_eq!(reply.peers[0].host, PeerHost::Ip([0xfd; 16].into()));
        let reply = exchange(v4, &QUERY, "", QUICK, &EGRESS).await.unwrap();
        assert_eq!(reply.peers[0].host, PeerHost::Ip([10, 0, 0, 1].into()));
    }

    /// T8
    #[tokio::test]
    async fn lost_packets_are_sent_again_and_strange_ones_ignored() {
        let (address, packets) = tracker("127.0.0.1:0", |number, packet| match number {
            0 | 2 => Vec::new(),
            _ => {
                let right = valid_answer(packet, &[]);
                let mut wrong = right.clone();
                wrong[4..8].copy_from_slice(&[0xff; 4]);
                vec![wrong, right[..7].to_vec(), vec![0; 1500], right.clone(), right]
            }
        });
        announce(&format!("udp://{address}"), &QUERY, QUICK, &EGRESS).await.unwrap();
        let sent: Vec<Vec<u8>> = (0..4).map(|_| packets.recv().unwrap()).collect();
        assert_eq!(sent[0], sent[1]);
        assert_eq!(sent[2], sent[3]);
    }

    #[tokio::test]
    async fn refusals_silence_and_nonsense_are_failures_of_one_line() {
        let refuse = |_, packet: &[u8]| vec![[&[0, 0, 0, 3], &packet[12..16], b"go\x1baway"].concat()];
        let (address, _packets) = tracker("127.0.0.1:0", refuse);
        let text = |failure: AnnounceFailure| failure.to_string();
        let failure = announce(&format!("udp://{address}"), &QUERY, QUICK, &EGRESS).await.unwrap_err();
        assert!(text(failure).ends_with("go\\x1baway"));

        let (silent, _packets) = tracker("127.0.0.1:0", |_, _| Vec::new());
        let brief = Patience { timeout: Duration::from_millis(500), ..QUICK };
        let failure = announce(&format!("udp://{silent}"), &QUERY, brief, &EGRESS).await.unwrap_err();
        assert!(text(failure).contains("no answer"));
        // No socket has this port: the kernel reports it at once.
        let failure = announce("udp://127.0.0.1:1", &QUERY, QUICK, &EGRESS).await.unwrap_err();
        assert!(text(failure).contains("refused"));
    }

    #[test]
    fn urls_have_host_and_port() {
        let url = |host: &str, port, data: &str| Ok(UdpUrl { host: host.to_owned(), port, url_data: data.to_owned() });
        assert_eq!(UdpUrl::parse("udp://t.example:80"), url("t.example", 80, ""));
        assert_eq!(UdpUrl::parse("UDP://[::1]:80/a?b#c"), url("::1", 80, "/a?b"));
        assert_eq!(UdpUrl::parse("udp://t:80?x"), url("t", 80, "?x"));
        assert_eq!(UdpUrl::parse("udp://user:word@b\u{fc}cher.example:80"), url("xn--bcher-kva.example", 80, ""));
        for bad in ["http://t:80/", "udp://t/", "udp://:80/", "udp://t:0/", "udp://t:99999", "udp:t:80"] {
            assert!(UdpUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
