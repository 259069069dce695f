//! Our own tracker's `/announce` over HTTP (BEP 3, BEP 7, BEP 23, BEP 24).
//!
//! Owns the way from a request to the swarm table and back. Who is in which swarm is `tracker`'s.

#![allow(clippy::disallowed_methods, reason = "the web layer reads the clock")]

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use super::listener::{BoundedListener, Endpoints};
use crate::base::limits::{TRACKER_CONNECTION_LIFETIME, TRACKER_CONNECTIONS_MAX, TRACKER_NUMWANT};
use crate::base::{Rng, Time};
use crate::codec::tracker_http::{
    AnnounceReply, OwnedAnnounceQuery, PeerForm, PeerHost, TrackerPeer, decode_query, encode_failure, encode_reply,
};
use crate::tracker::{Announcement, Reply, SwarmPeer, Table};

/// The table as the handlers share it.
#[derive(Clone, Debug)]
struct Shared {
    table: Arc<Mutex<Table>>,
    /// Where the table's [`Time`] begins.
    started_at: Instant,
}

/// Answers `/announce` from `table`. To be served with `into_make_service_with_connect_info::<Endpoints>()`: the address
/// a request came from is the only one that counts.
pub fn router(table: Arc<Mutex<Table>>) -> Router {
    let shared = Shared { table, started_at: Instant::now() };
    Router::new().route("/announce", get(announce)).with_state(shared)
}

/// Serves [`router`] alone on `listener`, until the future is dropped.
pub async fn serve(listener: TcpListener, table: Arc<Mutex<Table>>) -> io::Result<()> {
    let listener = BoundedListener::new(listener, TRACKER_CONNECTIONS_MAX, TRACKER_CONNECTION_LIFETIME);
    axum::serve(listener, router(table).into_make_service_with_connect_info::<Endpoints>()).await
}

/// Refusals are replies like others: peers read the `failure reason` only where the status says that all is well.
async fn announce(
    State(shared): State<Shared>,
    ConnectInfo(endpoints): ConnectInfo<Endpoints>,
    RawQuery(query): RawQuery,
) -> impl IntoResponse {
    let body = match decode_query(query.as_deref().unwrap_or_default()) {
        Ok(query) => shared.answer(endpoints, &query),
        Err(error) => encode_failure(&error.to_string()),
    };
    ([(header::CONTENT_TYPE, "text/plain")], body)
}

impl Shared {
    fn answer(&self, endpoints: Endpoints, query: &OwnedAnnounceQuery) -> Vec<u8> {
        let source = endpoints.remote.ip().to_canonical();
        let announcement = Announcement {
            info_hash: query.info_hash,
            peer_id: query.peer_id,
            source,
            local: endpoints.local.ip().to_canonical(),
            port: query.port,
            left: query.left,
            event: query.event,
            numwant: query.numwant.unwrap_or(TRACKER_NUMWANT).try_into().unwrap_or(usize::MAX),
        };
        let now: Time = self.started_at.elapsed();
        // No handler leaves the table half changed.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = table.handle_announce(now, &announcement, &mut Rng::new());
        drop(table);
        match reply {
            Ok(reply) => {
                let reply = AnnounceReply { external_ip: Some(source), ..told(&reply) };
                encode_reply(&reply, form(query))
            }
            Err(refusal) => encode_failure(&refusal.to_string()),
        }
    }
}

/// BEP 3's dictionaries, unless the peer asks for BEP 23's string.
fn form(query: &OwnedAnnounceQuery) -> PeerForm {
    match query.compact {
        Some(true) => PeerForm::Compact,
        _ => PeerForm::Dictionaries { peer_ids: !query.no_peer_id },
    }
}

fn told(reply: &Reply) -> AnnounceReply {
    let count = |count: usize| u64::try_from(count).ok();
    let peer = |peer: &SwarmPeer| TrackerPeer {
        host: PeerHost::Ip(peer.addr.ip()),
        port: peer.addr.port(),
        peer_id: Some(peer.peer_id),
    };
    AnnounceReply {
        interval: Some(reply.interval.as_secs()),
        min_interval: Some(reply.min_interval.as_secs()),
        complete: count(reply.seeders),
        incomplete: count(reply.leechers),
        peers: reply.peers.iter().map(peer).collect(),
        ..AnnounceReply::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announce::Announce;
    use crate::base::{InfoHash, PeerId};
    use crate::codec::tracker_http::{AnnounceQuery, Event, TrackerReplyError, decode_reply};
    use crate::engine::announcer::{self, Command, Identity, Totals, announce_slots};
    use crate::engine::http::{FetchLimits, fetch};
    use crate::tracker::{Origin, SwarmStats};
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;
    use tokio::sync::mpsc;

    const HASH: InfoHash = InfoHash([0xf7; 20]);

    /// A tracker on the loopback with an origin on port 7000.
    async fn start(bind: &str) -> (SocketAddr, Arc<Mutex<Table>>) {
        let listener = TcpListener::bind(bind).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut table = Table::listed();
        table.allow_with_origin(HASH, Origin { port: 7000, peer_id: PeerId([b'o'; 20]) });
        let table = Arc::new(Mutex::new(table));
        tokio::spawn(serve(listener, Arc::clone(&table)));
        (addr, table)
    }

    fn leecher(n: u8) -> AnnounceQuery<'static> {
        AnnounceQuery {
            info_hash: HASH,
            peer_id: PeerId([n; 20]),
            ip: None,
            port: 6881 + u16::from(n),
            uploaded: 0,
            downloaded: 0,
            left: 1,
            event: Event::Started,
            numwant: 80,
            key: 1,
            tracker_id: None,
        }
    }

    async fn get_url(url: String) -> Vec<u8> {
        tokio::task::spawn_blocking(move || fetch(&url, FetchLimits::announce()).unwrap()).await.unwrap()
    }

    async fn ask(addr: SocketAddr, query: AnnounceQuery<'_>) -> Result<AnnounceReply, TrackerReplyError> {
        decode_reply(&get_url(query.append_to(&format!("http://{addr}/announce"))).await)
    }

    fn ports(reply: &AnnounceReply) -> Vec<u16> {
        let mut ports: Vec<u16> = reply.peers.iter().map(|peer| peer.port).collect();
        ports.sort_unstable();
        ports
    }

    #[tokio::test]
    async fn peers_find_each_other_and_the_origin() {
        let (addr, table) = start("127.0.0.1:0").await;
        let reply = ask(addr, leecher(1)).await.unwrap();
        assert_eq!(ports(&reply), [7000]);
        assert_eq!((reply.complete, reply.incomplete), (Some(1), Some(1)));
        assert_eq!((reply.interval, reply.min_interval), (Some(300), Some(30)));
        assert_eq!(reply.external_ip, Some([127, 0, 0, 1].into()));
        assert_eq!(ports(&ask(addr, leecher(2)).await.unwrap()), [6882, 7000]);
        let gone = AnnounceQuery { event: Event::Stopped, ..leecher(2) };
        assert_eq!(ports(&ask(addr, gone).await.unwrap()), [0; 0]);
        let stats = table.lock().unwrap().stats(HASH);
        assert_eq!(stats, Some(SwarmStats { seeders: 1, leechers: 1, completed: 0 }));
    }

    #[tokio::test]
    async fn a_claimed_ip_is_ignored() {
        let (addr, _) = start("127.0.0.1:0").await;
        ask(addr, AnnounceQuery { ip: Some("192.0.2.66"), ..leecher(1) }).await.unwrap();
        let reply = ask(addr, leecher(2)).await.unwrap();
        assert!(reply.peers.iter().all(|peer| peer.host == PeerHost::Ip([127, 0, 0, 1].into())), "{reply:?}");
    }

    #[tokio::test]
    async fn ipv4_peers_of_an_ipv6_socket_are_ipv4() {
        let (addr, _) = start("[::]:0").await;
        let addr = SocketAddr::new([127, 0, 0, 1].into(), addr.port());
        ask(addr, leecher(1)).await.unwrap();
        let reply = ask(addr, leecher(2)).await.unwrap();
        assert_eq!(reply.peers.len(), 2);
        assert!(reply.peers.iter().all(|peer| peer.host == PeerHost::Ip([127, 0, 0, 1].into())), "{reply:?}");
    }

    #[tokio::test]
    async fn peers_come_as_dictionaries_unless_asked_otherwise() {
        let (addr, _) = start("127.0.0.1:0").await;
        let url = leecher(1).append_to(&format!("http://{addr}/announce"));
        let body = get_url(url.replace("&compact=1", "")).await;
        let peer = b"5:peersld2:ip9:127.0.0.17:peer id20:oooooooooooooooooooo4:porti7000eee";
        assert!(body.windows(peer.len()).any(|part| part == peer), "{}", String::from_utf8_lossy(&body));
        let body = get_url(url).await;
        let peer = b"5:peers6:\x7f\0\0\x01\x1b\x58";
        assert!(body.windows(peer.len()).any(|part| part == peer), "{}", String::from_utf8_lossy(&body));
    }

    #[tokio::test]
    async fn refusals_say_why() {
        let (addr, _) = start("127.0.0.1:0").await;
        let other = AnnounceQuery { info_hash: InfoHash([1; 20]), ..leecher(1) };
        let error = ask(addr, other).await.unwrap_err();
        assert_eq!(error.to_string(), "the tracker refused: this tracker does not serve this torrent");
        let error = decode_reply(&get_url(format!("http://{addr}/announce")).await).unwrap_err();
        assert_eq!(error.to_string(), "the tracker refused: info_hash is missing");
    }

    #[tokio::test]
    async fn replies_are_plain_text() {
        let (addr, _) = start("127.0.0.1:0").await;
        let exchange = move || {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.write_all(b"GET /announce HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer).unwrap()
        };
        let answer = tokio::task::spawn_blocking(exchange).await.unwrap();
        assert!(answer.contains("\r\ncontent-type: text/plain\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_client_that_sends_nothing_loses_its_place() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let bounded = BoundedListener::new(listener, 1, Duration::from_secs(1));
        let app = router(Arc::default()).into_make_service_with_connect_info::<Endpoints>();
        tokio::spawn(async move { axum::serve(bounded, app).await });
        let mut silent = TcpStream::connect(addr).unwrap();
        silent.write_all(b"GET /ann").unwrap();
        assert!(ask(addr, leecher(1)).await.is_err(), "refused, so it was answered once the place was free");
        assert_eq!(silent.read(&mut [0; 1]).unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn our_announcers_find_each_other_here() {
        let (addr, table) = start("127.0.0.1:0").await;
        let mut running = Vec::new();
        for n in 1..=2u8 {
            let tiers = vec![vec![format!("http://{addr}/announce")]];
            let announce = Announce::new(tiers, false, &mut Rng::with_seed(1));
            let identity =
                Identity { info_hash: HASH, peer_id: PeerId([n; 20]), ip: None, port: 100 + u16::from(n), key: 0 };
            let (commands, commands_rx) = mpsc::channel(1);
            let (found_tx, mut found) = mpsc::channel(1);
            let totals = || Totals { left: 1, ..Totals::default() };
            let task =
                tokio::spawn(announcer::run(announce, identity, totals, announce_slots(), commands_rx, found_tx));
            let addrs = found.recv().await.unwrap();
            assert_eq!(addrs.iter().any(|addr| addr.address.port() == 101), n == 2, "{addrs:?}");
            running.push((commands, task));
        }
        for (commands, task) in running {
            commands.send(Command::Stop).await.unwrap();
            task.await.unwrap();
        }
        assert_eq!(table.lock().unwrap().stats(HASH).map(|stats| stats.leechers), Some(0));
    }
}
