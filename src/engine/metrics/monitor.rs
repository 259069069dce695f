//! The status of a running session for the operator's pages, made by the control thread once a second.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use serde::Serialize;
use tokio::sync::watch;

use crate::base::limits::{RATES_KEPT_MAX, WEB_STATUS_WAIT};
use crate::base::lock::lock;

/// The totals of all torrents of a session. Bytes are payload.
#[derive(Debug, Clone, Copy, Default)]
pub struct Snapshot {
    /// Bytes that are wanted, verified and written.
    pub have_len: u64,
    pub downloaded: u64,
    pub uploaded: u64,
    pub wasted: u64,
    pub corrupt: u64,
    pub peer_count: usize,
    /// Peers whose addresses are known. A peer of several torrents counts once for each.
    pub known_peer_count: usize,
    /// The port on which we listen.
    pub port: u16,
    pub down_bytes_per_s: f64,
    pub up_bytes_per_s: f64,
}

/// The status includes the list of peers for this number of seconds after a page requested it.
const PEERS_SHOWN_S: u32 = 10;

/// Holds the last status. Shared by the session and the operator's pages.
#[derive(Debug, Default)]
pub struct Monitor {
    status: watch::Sender<Arc<Status>>,
    /// Bytes/s up and down, the latest last; at most [`RATES_KEPT_MAX`].
    rates: Mutex<VecDeque<(f64, f64)>>,
    /// The number of further statuses that include the list of peers.
    with_peers: AtomicU32,
}

/// The status of a session. Bytes are payload; strings are safe for a terminal, not for HTML.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Status {
    /// Time since the start.
    pub seconds: f64,
    /// The port that peers connect to; 0 before the session has started.
    pub port: u16,
    pub uploaded: u64,
    pub downloaded: u64,
    pub wasted: u64,
    pub corrupt: u64,
    pub up_bytes_per_s: f64,
    pub down_bytes_per_s: f64,
    /// The limit of `up_bytes_per_s`; `None` if there is none.
    pub up_limit: Option<u64>,
    /// Handshakes included.
    pub connections: usize,
    /// The pages add the numbers of each torrent's swarm.
    #[serde(skip)]
    pub torrents: Vec<Arc<TorrentStatus>>,
    /// The torrents have their lists of peers.
    #[serde(skip)]
    pub has_peer_lists: bool,
    /// Received pieces that were hashed.
    pub hashed_pieces: u64,
    /// The number of batches in which they were hashed.
    pub hash_batches: u64,
    pub cpu_user_s: f64,
    pub cpu_system_s: f64,
    /// Resident bytes of anonymous memory.
    pub memory_anon: u64,
    /// Resident bytes of mapped files.
    pub memory_file: u64,
    /// From queueing a request to receiving its block: ascending upper bounds in microseconds, each with its number of
    /// blocks.
    pub latency_buckets: Vec<(u64, u64)>,
}

/// The status of one torrent.
#[derive(Debug, Clone, Serialize)]
pub struct TorrentStatus {
    pub info_hash: String,
    pub name: String,
    pub length: u64,
    pub pieces: u32,
    pub pieces_had: u32,
    pub uploaded: u64,
    pub downloaded: u64,
    pub peers: usize,
    /// Our own storage failed, or pieces are not served because their files changed or are gone.
    pub failed: bool,
    /// The number of connected peers that have the rarest piece.
    pub rarest: u32,
    /// The number of connected peers that have each piece, averaged over ranges if there are many pieces. Empty without
    /// the list of peers.
    pub availability: Vec<f32>,
    /// At most [`crate::base::limits::PEERS_SHOWN_MAX`], the busiest first, while a page requests the status.
    pub peer_list: Vec<PeerStatus>,
}

/// The status of one connection.
#[derive(Debug, Clone, Serialize)]
pub struct PeerStatus {
    pub address: String,
    pub client: String,
    pub uploaded: u64,
    pub downloaded: u64,
    pub up_bytes_per_s: u64,
    pub down_bytes_per_s: u64,
    pub pieces_had: u32,
    /// Why nothing is transferred; empty if something is.
    pub idle: &'static str,
}

impl Monitor {
    /// Returns the last status, and requests the list of peers in the next ones.
    pub fn status(&self) -> Arc<Status> {
        self.with_peers.store(PEERS_SHOWN_S, Ordering::Relaxed);
        self.peek()
    }

    /// Returns the last status without requesting the list of peers.
    pub fn peek(&self) -> Arc<Status> {
        Arc::clone(&self.status.borrow())
    }

    /// Returns the last status with the list of peers, or the next one if no page has requested the list lately. If
    /// the session does not publish one, it returns the last status without the list.
    pub async fn status_with_peers(&self) -> Arc<Status> {
        self.status();
        let mut published = self.status.subscribe();
        let with_peers = published.wait_for(|status| status.has_peer_lists);
        match tokio::time::timeout(WEB_STATUS_WAIT, with_peers).await {
            Ok(Ok(status)) => Arc::clone(&status),
            _ => self.peek(),
        }
    }

    /// Whether the next status must include the list of peers.
    pub(in crate::engine) fn take_peer_request(&self) -> bool {
        let left = self.with_peers.load(Ordering::Relaxed);
        self.with_peers.store(left.saturating_sub(1), Ordering::Relaxed);
        left > 0
    }

    /// Bytes/s up and down of the last statuses, the latest last.
    pub fn rates(&self) -> Vec<(f64, f64)> {
        lock(&self.rates).iter().copied().collect()
    }

    /// Replaces the last status.
    pub(in crate::engine) fn publish(&self, status: Status) {
        let mut rates = lock(&self.rates);
        if rates.len() >= RATES_KEPT_MAX {
            rates.pop_front();
        }
        rates.push_back((status.up_bytes_per_s, status.down_bytes_per_s));
        drop(rates);
        self.status.send_replace(Arc::new(status));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_listed_while_a_page_requests_them() {
        let monitor = Monitor::default();
        assert!(!monitor.take_peer_request());
        monitor.status();
        monitor.peek();
        assert_eq!((0..20).filter(|_| monitor.take_peer_request()).count(), 10);
    }

    #[test]
    fn the_rates_of_the_last_minutes_are_kept() {
        let monitor = Monitor::default();
        for second in 0..1000_u32 {
            monitor.publish(Status { up_bytes_per_s: second.into(), ..Status::default() });
        }
        let rates = monitor.rates();
        assert_eq!((rates.len(), rates[0], rates[RATES_KEPT_MAX - 1]), (RATES_KEPT_MAX, (700.0, 0.0), (999.0, 0.0)));
    }
}
