//! The state of a running session for the operator's pages: a picture that the control thread makes once a second.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::base::limits::RATES_KEPT_MAX;

/// A session as it stands, all torrents together. Bytes are payload.
#[derive(Debug, Clone, Copy, Default)]
pub struct Snapshot {
    /// Wanted, verified and written.
    pub have_len: u64,
    pub downloaded: u64,
    pub uploaded: u64,
    pub wasted: u64,
    pub corrupt: u64,
    pub peer_count: usize,
    /// Peers that had everything when they left; of several torrents, of the one with the fewest.
    pub copies: usize,
    /// Where we listen.
    pub port: u16,
    pub down_bytes_per_s: f64,
    pub up_bytes_per_s: f64,
}

/// Pictures with peers are made for so many seconds after one was looked at.
const PEERS_SHOWN_S: u32 = 10;

/// The last picture. The session and the operator's pages share it.
#[derive(Debug, Default)]
pub struct Monitor {
    status: Mutex<Arc<Status>>,
    /// Bytes/s up and down, the latest last; at most [`RATES_KEPT_MAX`].
    rates: Mutex<VecDeque<(f64, f64)>>,
    /// Pictures with peers still to be made.
    with_peers: AtomicU32,
}

/// A session at one moment. Bytes are payload; texts are safe for a terminal, not for HTML.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Status {
    /// Since the start.
    pub seconds: f64,
    /// Where peers connect to; 0 before the session has begun.
    pub port: u16,
    pub uploaded: u64,
    pub downloaded: u64,
    pub wasted: u64,
    pub corrupt: u64,
    pub up_bytes_per_s: f64,
    pub down_bytes_per_s: f64,
    /// Handshakes included.
    pub connections: usize,
    pub torrents: Vec<Arc<TorrentStatus>>,
    /// Pieces that were hashed in memory, and in how many batches.
    pub hashed_pieces: u64,
    pub hash_batches: u64,
    pub cpu_user_s: f64,
    pub cpu_system_s: f64,
    /// Resident bytes: the process's own, and those of mapped files.
    pub memory_anon: u64,
    pub memory_file: u64,
    /// From queueing a request of ours to its block: upper bounds in microseconds, ascending, and how many came that fast.
    pub latency_buckets: Vec<(u64, u64)>,
}

/// One torrent of it.
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
    /// Peers that have everything.
    pub seeders: usize,
    /// Our own storage failed.
    pub failed: bool,
    /// Connected peers that have the rarest piece.
    pub rarest: u32,
    /// How many connected peers have each piece; of many pieces the mean of each stretch. With the peers.
    pub availability: Vec<f32>,
    /// At most [`crate::base::limits::PEERS_SHOWN_MAX`], the busiest first, while a client asks for the picture.
    pub peer_list: Vec<PeerStatus>,
}

/// One connection.
#[derive(Debug, Clone, Serialize)]
pub struct PeerStatus {
    pub address: String,
    pub client: String,
    pub uploaded: u64,
    pub downloaded: u64,
    pub up_bytes_per_s: u64,
    pub down_bytes_per_s: u64,
    pub pieces_had: u32,
    /// Why nothing goes to it or comes from it; empty where something does.
    pub idle: &'static str,
}

impl Monitor {
    /// The last picture, and the wish for peers in the next ones.
    pub fn status(&self) -> Arc<Status> {
        self.with_peers.store(PEERS_SHOWN_S, Ordering::Relaxed);
        self.peek()
    }

    /// The last picture as it is: a caller that needs no list of peers does not have one made.
    pub fn peek(&self) -> Arc<Status> {
        Arc::clone(&self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the next picture is to have peers in it.
    pub(in crate::engine) fn take_peer_request(&self) -> bool {
        let left = self.with_peers.load(Ordering::Relaxed);
        self.with_peers.store(left.saturating_sub(1), Ordering::Relaxed);
        left > 0
    }

    /// Bytes/s up and down of the last pictures, the latest last.
    pub fn rates(&self) -> Vec<(f64, f64)> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    pub(in crate::engine) fn publish(&self, status: Status) {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        if rates.len() >= RATES_KEPT_MAX {
            rates.pop_front();
        }
        rates.push_back((status.up_bytes_per_s, status.down_bytes_per_s));
        drop(rates);
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(status);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_shown_while_somebody_looks() {
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
