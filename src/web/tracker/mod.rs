//! The endpoints of our own tracker: announces and scrapes over HTTP and UDP.
//!
//! Owns the conversion between requests and the swarm table, and the clock and randomness for it. The table of swarms
//! itself belongs to `tracker`.

#![allow(clippy::disallowed_methods, reason = "the web layer reads the clock")]

pub mod http;
pub mod udp;

use std::hash::RandomState;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

use crate::base::{InfoHash, Rng, Time};
use crate::codec::tracker_http::Event;
use crate::engine::{Contents, Holding, HostCounts, Sighting};
use crate::tracker::connection_id::ConnectionIds;
use crate::tracker::{Announcement, Counts, Refusal, Reply, SwarmStats, Table};
use crate::web::replaced::ReplacedList;

/// A tracker, shared by its endpoints.
#[derive(Clone, Debug)]
pub struct Tracker {
    table: Arc<Table>,
    connection_ids: ConnectionIds,
    counters: Arc<Counters>,
    replaced: Arc<ReplacedList>,
    /// Notified of peers that announce themselves, if the process serves torrents of this tracker.
    contents: Option<Arc<Contents>>,
    /// The start of the table's [`Time`].
    started_at: Instant,
}

/// The numbers of requests.
#[derive(Debug, Default)]
pub struct Counters {
    pub http_announces: AtomicU64,
    pub udp_announces: AtomicU64,
    pub scrapes: AtomicU64,
    /// Announces that were refused for any reason.
    pub refused: AtomicU64,
}

/// A snapshot of [`Counters`] and of the sizes of the table.
#[derive(Debug, Default, Serialize)]
pub struct TrackerTotals {
    pub http_announces: u64,
    pub udp_announces: u64,
    pub scrapes: u64,
    pub refused: u64,
    pub torrents: usize,
    pub peers: usize,
}

impl Tracker {
    pub fn new(table: Table) -> Self {
        Self {
            table: Arc::new(table),
            connection_ids: ConnectionIds::new(RandomState::new()),
            counters: Arc::default(),
            replaced: Arc::default(),
            contents: None,
            started_at: Instant::now(),
        }
    }

    /// Notifies `contents` of peers that announce themselves.
    #[must_use]
    pub fn with_contents(self, contents: Arc<Contents>) -> Self {
        Self { contents: Some(contents), ..self }
    }

    /// The torrents of this process that a new version has replaced.
    pub(super) fn replaced(&self) -> &ReplacedList {
        &self.replaced
    }

    /// Returns the text of a refusal for the peer.
    fn reason(&self, info_hash: InfoHash, refusal: &Refusal) -> String {
        match (refusal, self.replaced.successor(info_hash)) {
            (Refusal::UnknownTorrent, Some(path)) => {
                format!("this torrent was replaced by a new version: end this download, and get /{path} of its origin")
            }
            _ => refusal.to_string(),
        }
    }

    pub fn table(&self) -> &Table {
        &self.table
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub fn totals(&self) -> TrackerTotals {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { http_announces, udp_announces, scrapes, refused } = self.counters();
        let Counts { swarms: torrents, peers } = self.table.counts();
        TrackerTotals {
            http_announces: count(http_announces),
            udp_announces: count(udp_announces),
            scrapes: count(scrapes),
            refused: count(refused),
            torrents,
            peers,
        }
    }

    pub fn stats(&self, info_hash: InfoHash) -> Option<SwarmStats> {
        self.table.stats(self.now(), info_hash)
    }

    /// Returns the hosts of a torrent that were seen; none if the process does not serve it.
    pub fn host_counts(&self, info_hash: InfoHash) -> HostCounts {
        self.contents.as_ref().map(|contents| contents.host_counts(info_hash)).unwrap_or_default()
    }

    fn now(&self) -> Time {
        self.started_at.elapsed()
    }

    fn announce(&self, announcement: &Announcement, rng: &mut Rng) -> Result<Reply, Refusal> {
        let reply = self.table.handle_announce(self.now(), announcement, rng)?;
        if let Some(contents) = &self.contents {
            notify(contents, announcement);
        }
        Ok(reply)
    }

    fn scrape(&self, info_hash: InfoHash) -> Option<SwarmStats> {
        self.counters.scrapes.fetch_add(1, Ordering::Relaxed);
        self.stats(info_hash)
    }

    fn issue(&self, to: IpAddr) -> u64 {
        self.connection_ids.issue(self.now(), to)
    }

    fn accepts(&self, from: IpAddr, connection_id: u64) -> bool {
        self.connection_ids.accepts(self.now(), from, connection_id)
    }
}

/// Notifies the session of a peer that has announced itself.
fn notify(contents: &Contents, announcement: &Announcement) {
    let Announcement { info_hash, peer_id, source, port, left, event, .. } = *announcement;
    let holding = match event {
        _ if left > 0 => Holding::Partial,
        Event::Completed => Holding::Complete,
        _ => Holding::Claimed,
    };
    contents.handle_sighting(info_hash, Sighting { ip: source, peer_id, holding });
    if left > 0 && port != 0 && event != Event::Stopped {
        contents.handle_leecher(info_hash, SocketAddr::new(source, port));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PeerId;
    use crate::codec::tracker_http::AnnounceQuery;

    pub(super) const HASH: InfoHash = InfoHash([0xf7; 20]);

    /// A starting leecher, which claims an address other than its own.
    pub(super) fn leecher(n: u8) -> AnnounceQuery<'static> {
        AnnounceQuery {
            info_hash: HASH,
            peer_id: PeerId([n; 20]),
            ip: Some("192.0.2.66"),
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

    #[test]
    fn only_an_unknown_torrent_is_refused_as_replaced() {
        let tracker = Tracker::new(Table::listed());
        tracker.replaced().replace(HASH, InfoHash([1; 20]), "t/new.torrent");
        assert!(tracker.reason(HASH, &Refusal::UnknownTorrent).contains("/t/new.torrent"));
        assert_eq!(tracker.reason(HASH, &Refusal::Full), Refusal::Full.to_string());
    }
}
