//! Asks a tracker over both address families, since each has its own peers (BEP 7).

use std::net::{IpAddr, UdpSocket};

use tokio::time::timeout;

use crate::announce::AnnounceFailure;
use crate::base::limits::TRACKER_FAMILY_GRACE;
use crate::codec::tracker_http::AnnounceReply;
use crate::codec::url::{Host, Url, host};

/// The answer over one address family; `None` if the tracker has no address of it.
pub(in crate::engine) type Answer = Option<Result<AnnounceReply, AnnounceFailure>>;

/// Returns the merged replies of both families, or the only reply. An answer is `None` if the tracker has no address of
/// that family.
pub(in crate::engine) async fn ask(
    v4: impl Future<Output = Answer>,
    v6: impl Future<Output = Answer>,
) -> Result<AnnounceReply, AnnounceFailure> {
    match both(v4, v6).await {
        (Some(Ok(v4)), Some(Ok(v6))) => Ok(merge(v4, v6)),
        (Some(Ok(reply)), _) | (_, Some(Ok(reply))) => Ok(reply),
        (Some(Err(failure)), _) | (None, Some(Err(failure))) => Err(failure),
        (None, None) => Err(AnnounceFailure::Transport("its name has no address".to_owned())),
    }
}

/// Waits for both answers. After the first reply it waits only [`TRACKER_FAMILY_GRACE`] for the other family, which may
/// be unroutable.
async fn both(v4: impl Future<Output = Answer>, v6: impl Future<Output = Answer>) -> (Answer, Answer) {
    async fn wait(early: &Answer, late: impl Future<Output = Answer>) -> Answer {
        match early {
            Some(Ok(_)) => timeout(TRACKER_FAMILY_GRACE, late).await.ok().flatten(),
            _ => late.await,
        }
    }
    tokio::pin!(v4, v6);
    tokio::select! {
        early = &mut v4 => {
            let late = wait(&early, v6).await;
            (early, late)
        }
        early = &mut v6 => {
            let late = wait(&early, v4).await;
            (late, early)
        }
    }
}

/// Merges two replies: the peers of both, the longer intervals and the larger counts.
fn merge(one: AnnounceReply, other: AnnounceReply) -> AnnounceReply {
    AnnounceReply {
        interval: one.interval.max(other.interval),
        min_interval: one.min_interval.max(other.min_interval),
        complete: one.complete.max(other.complete),
        incomplete: one.incomplete.max(other.incomplete),
        peers: one.peers.into_iter().chain(other.peers).collect(),
        peers_skipped: one.peers_skipped + other.peers_skipped,
        ..one
    }
}

/// Whether this host has a route to an address. Connecting a UDP socket looks up the route and sends nothing.
fn has_route(to: IpAddr) -> bool {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect((to, 9))).is_ok()
}

/// Whether this host has routes for both address families. Tries addresses that are reserved for documentation (RFC
/// 5737, RFC 3849).
pub(in crate::engine) fn have_routes() -> bool {
    has_route([192, 0, 2, 1].into()) && has_route([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into())
}

/// Whether a URL's host is an address instead of a name.
pub(in crate::engine) fn is_address(url: &str) -> bool {
    matches!(Url::parse(url).ok().as_ref().and_then(host), Some(Host::Ipv4(_) | Host::Ipv6(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tracker_http::{PeerHost, TrackerPeer};

    fn reply(interval: u64, port: u16) -> AnnounceReply {
        let peer = TrackerPeer { host: PeerHost::Ip([10, 0, 0, 1].into()), port, peer_id: None };
        AnnounceReply { interval: Some(interval), peers: vec![peer], ..AnnounceReply::default() }
    }

    #[tokio::test]
    async fn replies_of_both_families_are_merged() {
        let v4 = AnnounceReply { tracker_id: Some(b"id".to_vec()), ..reply(60, 80) };
        let merged = ask(async { Some(Ok(v4)) }, async { Some(Ok(reply(90, 81))) }).await.unwrap();
        assert_eq!(merged.peers.iter().map(|peer| peer.port).collect::<Vec<_>>(), [80, 81]);
        assert_eq!((merged.interval, merged.tracker_id), (Some(90), Some(b"id".to_vec())));
    }

    #[tokio::test]
    async fn a_silent_or_failing_family_does_not_block_the_other() {
        let fails = || async { Some(Err(AnnounceFailure::Transport("unreachable".to_owned()))) };
        let answered = ask(async { Some(Ok(reply(60, 80))) }, std::future::pending()).await.unwrap();
        assert_eq!(answered, reply(60, 80));
        assert_eq!(ask(fails(), async { Some(Ok(reply(60, 81))) }).await.unwrap(), reply(60, 81));
        assert_eq!(ask(fails(), async { None }).await.unwrap_err().to_string(), "unreachable");
    }

    #[test]
    fn names_and_addresses() {
        for url in ["http://127.0.0.1/announce", "https://[::1]:80/a", "http://u:p@10.0.0.1:80", "udp://1.2.3.4:5"] {
            assert!(is_address(url), "{url}");
        }
        for url in ["http://tracker.example/announce", "https://a.example:80", "http://1.2.3.4.example/"] {
            assert!(!is_address(url), "{url}");
        }
    }
}
