//! `/announce` and `/scrape` over HTTP (BEP 3, BEP 7, BEP 23, BEP 24, BEP 48).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use super::Tracker;
use crate::base::Rng;
use crate::base::limits::TRACKER_NUMWANT;
use crate::codec::tracker_http::{
    AnnounceReply, OwnedAnnounceQuery, PeerForm, PeerHost, ScrapedSwarm, TrackerPeer, decode_query,
    decode_scrape_query, encode_failure, encode_reply, encode_scrape,
};
use crate::io::StartError;
use crate::tracker::{Announcement, Reply, SwarmPeer};
use crate::web::direct::{Direct, Endpoints};
use crate::web::forwarded::TrustedProxies;
use crate::web::listener::{Bounds, Service};
use crate::web::plain::{healthy, not_found};
use crate::web::server::serve;

const ANNOUNCE: &str = "/announce";
const SCRAPE: &str = "/scrape";

/// Creates the routes `/announce` and `/scrape`. They must be served by [`crate::web::listener::serve`], which determines the
/// address of the client.
pub fn router(tracker: Tracker) -> Router {
    Router::new().route(ANNOUNCE, get(announce)).route(SCRAPE, get(scrape)).with_state(tracker)
}

/// Creates the routes of a tracker without pages.
fn alone(tracker: Tracker) -> Router {
    router(tracker).route("/healthz", get(healthy)).fallback(not_found)
}

/// Starts one thread per listener, which serves until `stop` is set. The requests of one connection stay on one thread.
pub fn start(
    listeners: Vec<std::net::TcpListener>,
    tracker: &Tracker,
    proxies: &TrustedProxies,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let start = |(index, listener): (usize, std::net::TcpListener)| {
        let bounds = Bounds { proxies: proxies.clone(), ..Bounds::default() };
        let service = Service { router: alone(tracker.clone()), direct: Some(Arc::new(tracker.clone())) };
        serve(format!("tracker-http-{index}"), listener, bounds, service, stop)
    };
    listeners.into_iter().enumerate().map(start).collect()
}

/// The content type of all replies.
const PLAIN_TEXT: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "text/plain")];

async fn announce(
    State(tracker): State<Tracker>,
    ConnectInfo(endpoints): ConnectInfo<Endpoints>,
    RawQuery(query): RawQuery,
) -> impl IntoResponse {
    (PLAIN_TEXT, tracker.announce_reply(query.as_deref().unwrap_or_default(), endpoints))
}

async fn scrape(State(tracker): State<Tracker>, RawQuery(query): RawQuery) -> impl IntoResponse {
    (PLAIN_TEXT, tracker.scrape_reply(query.as_deref().unwrap_or_default()))
}

impl Direct for Tracker {
    fn paths(&self) -> &[&str] {
        &[ANNOUNCE, SCRAPE]
    }

    fn answer(&self, path: &str, query: &str, endpoints: Endpoints) -> Vec<u8> {
        if path == ANNOUNCE { self.announce_reply(query, endpoints) } else { self.scrape_reply(query) }
    }
}

impl Tracker {
    /// The body of a reply. Refusals have the status 200 too, since peers read the `failure reason` only with that
    /// status.
    fn announce_reply(&self, query: &str, endpoints: Endpoints) -> Vec<u8> {
        self.counters().http_announces.fetch_add(1, Ordering::Relaxed);
        let answer = decode_query(query).map_err(|error| error.to_string());
        answer.and_then(|query| self.answer_announce(endpoints, &query)).unwrap_or_else(|reason| {
            self.counters().refused.fetch_add(1, Ordering::Relaxed);
            encode_failure(&reason)
        })
    }

    fn scrape_reply(&self, query: &str) -> Vec<u8> {
        match decode_scrape_query(query) {
            Ok(hashes) => encode_scrape(hashes.into_iter().filter_map(|hash| {
                let stats = self.scrape(hash)?;
                let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
                let (seeders, leechers) = (count(stats.seeders), count(stats.leechers));
                Some((hash, ScrapedSwarm { seeders, completed: stats.completed, leechers }))
            })),
            Err(error) => encode_failure(&error.to_string()),
        }
    }

    fn answer_announce(&self, endpoints: Endpoints, query: &OwnedAnnounceQuery) -> Result<Vec<u8>, String> {
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
            same_family_only: false,
        };
        let reply = self.announce(&announcement, &mut Rng::new());
        let reply = reply.map_err(|refusal| self.reason(query.info_hash, &refusal))?;
        Ok(encode_reply(&AnnounceReply { external_ip: Some(source), ..announce_reply(&reply) }, form(query)))
    }
}

/// The dictionaries of BEP 3, unless the peer requests the compact string of BEP 23.
fn form(query: &OwnedAnnounceQuery) -> PeerForm {
    match query.compact {
        Some(true) => PeerForm::Compact,
        _ => PeerForm::Dictionaries { peer_ids: !query.no_peer_id },
    }
}

fn announce_reply(reply: &Reply) -> AnnounceReply {
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
    use super::super::tests::{HASH, leecher};
    use super::*;
    use crate::announce::Announce;
    use crate::base::{InfoHash, PeerId};
    use crate::codec::tracker_http::{
        AnnounceQuery, Event, TrackerReplyError, decode_reply, decode_scrape, scrape_url,
    };
    use crate::engine::network::egress::Egress;
    use crate::engine::trackers::announcer::{self, Command, Finds, Identity, Totals, announce_permits};
    use crate::engine::trackers::http::{FetchLimits, Fetcher};
    use crate::tracker::{Origin, SwarmStats, Table};
    use crate::web::connection_limit::ConnectionLimits;
    use crate::web::listener;
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    /// A tracker on the loopback with an origin on port 7000.
    async fn start(bind: &str) -> (SocketAddr, Tracker) {
        let listener = TcpListener::bind(bind).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let table = Table::listed();
        table.allow_with_origin(HASH, Origin { port: 7000, peer_id: PeerId([b'o'; 20]), ip: None });
        let tracker = Tracker::new(table);
        tokio::spawn(listener::serve(listener, Bounds::default(), router(tracker.clone())));
        (addr, tracker)
    }

    async fn fetch(url: String) -> Vec<u8> {
        tokio::task::spawn_blocking(move || {
            Fetcher::new(Egress::default()).fetch(&url, FetchLimits::announce()).unwrap()
        })
        .await
        .unwrap()
    }

    async fn ask(addr: SocketAddr, query: AnnounceQuery<'_>) -> Result<AnnounceReply, TrackerReplyError> {
        decode_reply(&fetch(query.append_to(&format!("http://{addr}/announce"))).await)
    }

    fn ports(reply: &AnnounceReply) -> Vec<u16> {
        let mut ports: Vec<u16> = reply.peers.iter().map(|peer| peer.port).collect();
        ports.sort_unstable();
        ports
    }

    #[tokio::test]
    async fn peers_find_each_other_and_the_origin() {
        let (addr, tracker) = start("127.0.0.1:0").await;
        let reply = ask(addr, leecher(1)).await.unwrap();
        assert_eq!(ports(&reply), [7000]);
        assert_eq!((reply.complete, reply.incomplete), (Some(1), Some(1)));
        assert_eq!((reply.interval, reply.min_interval), (Some(30), Some(30)));
        assert_eq!(reply.external_ip, Some([127, 0, 0, 1].into()));
        assert_eq!(ports(&ask(addr, leecher(2)).await.unwrap()), [6882, 7000]);
        let gone = AnnounceQuery { event: Event::Stopped, ..leecher(2) };
        assert_eq!(ports(&ask(addr, gone).await.unwrap()), [0; 0]);
        assert_eq!(tracker.stats(HASH), Some(SwarmStats { seeders: 1, leechers: 1, completed: 0 }));
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
    async fn peers_are_dictionaries_unless_compact_is_requested() {
        let (addr, _) = start("127.0.0.1:0").await;
        let url = leecher(1).append_to(&format!("http://{addr}/announce"));
        let body = fetch(url.replace("&compact=1", "")).await;
        let peer = b"5:peersld2:ip9:127.0.0.17:peer id20:oooooooooooooooooooo4:porti7000eee";
        assert!(body.windows(peer.len()).any(|part| part == peer), "{}", String::from_utf8_lossy(&body));
        let body = fetch(url).await;
        let peer = b"5:peers6:\x7f\0\0\x01\x1b\x58";
        assert!(body.windows(peer.len()).any(|part| part == peer), "{}", String::from_utf8_lossy(&body));
    }

    #[tokio::test]
    async fn refusals_contain_the_reason() {
        let (addr, _) = start("127.0.0.1:0").await;
        let other = AnnounceQuery { info_hash: InfoHash([1; 20]), ..leecher(1) };
        let error = ask(addr, other).await.unwrap_err();
        assert_eq!(error.to_string(), "the tracker refused: this tracker does not serve this torrent");
        let error = decode_reply(&fetch(format!("http://{addr}/announce")).await).unwrap_err();
        assert_eq!(error.to_string(), "the tracker refused: info_hash is missing");
    }

    #[tokio::test]
    async fn a_scrape_returns_the_counts_of_the_swarm() {
        let (addr, _) = start("127.0.0.1:0").await;
        ask(addr, leecher(1)).await.unwrap();
        let url = |hash| scrape_url(&format!("http://{addr}/announce"), hash).unwrap();
        let body = fetch_any(url(HASH)).await;
        assert_eq!(decode_scrape(&body, HASH), Some(ScrapedSwarm { seeders: 1, completed: 0, leechers: 1 }));
        assert_eq!(fetch_any(url(InfoHash([1; 20]))).await, b"d5:filesdee");
        let error = decode_reply(&fetch_any(format!("http://{addr}/scrape")).await).unwrap_err();
        assert_eq!(error.to_string(), "the tracker refused: info_hash is missing");
    }

    async fn fetch_any(url: String) -> Vec<u8> {
        tokio::task::spawn_blocking(move || {
            Fetcher::new(Egress::default()).fetch(&url, FetchLimits::metainfo()).unwrap()
        })
        .await
        .unwrap()
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
    async fn a_silent_client_loses_its_permit() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = ConnectionLimits::new(1, 2);
        let bounds = Bounds { connections, silence_max: Duration::from_secs(1), ..Bounds::default() };
        tokio::spawn(listener::serve(listener, bounds, router(Tracker::new(Table::listed()))));
        let mut silent = TcpStream::connect(addr).unwrap();
        silent.write_all(b"GET /ann").unwrap();
        assert!(ask(addr, leecher(1)).await.is_err(), "refused, so a permit was released");
        assert_eq!(silent.read(&mut [0; 1]).unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn our_announcers_find_each_other() {
        let (addr, tracker) = start("127.0.0.1:0").await;
        let mut running = Vec::new();
        for n in 1..=2u8 {
            let tiers = vec![vec![format!("http://{addr}/announce")]];
            let announce = Announce::new(tiers, false, &mut Rng::with_seed(1));
            let identity = Identity {
                info_hash: HASH,
                peer_id: PeerId([n; 20]),
                ip: None,
                port: 100 + u16::from(n),
                key: 0,
                fetcher: Fetcher::new(Egress::default()),
            };
            let (commands, commands_rx) = mpsc::channel(1);
            let (found_tx, mut found) = mpsc::channel(1);
            let totals = || Totals { left: 1, ..Totals::default() };
            let task = tokio::spawn(announcer::run(
                announce,
                identity,
                totals,
                announce_permits(),
                commands_rx,
                Finds::new(0, found_tx),
            ));
            let (_, addrs) = found.recv().await.unwrap();
            assert_eq!(addrs.iter().any(|addr| addr.address.port() == 101), n == 2, "{addrs:?}");
            running.push((commands, task));
        }
        for (commands, task) in running {
            commands.send(Command::Stop).await.unwrap();
            task.await.unwrap();
        }
        assert_eq!(tracker.stats(HASH).map(|stats| stats.leechers), Some(0));
    }
}
