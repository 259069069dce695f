//! What a session shows of itself while it runs, for whoever looks: a picture, made once a second by the control thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::base::escape::printable;
use crate::base::limits::{PEERS_SHOWN_MAX, PIECE_MAP_LEN, RATES_KEPT_MAX};
use crate::engine::config::Snapshot;
use crate::engine::metrics::stats::buckets;
use crate::engine::metrics::usage::Usage;
use crate::engine::shared::Shared;
use crate::engine::torrent::Torrent;
use crate::swarm::PeerShared;

/// Pictures with peers are made for so many seconds after one was looked at.
const LOOKED_AT_S: u32 = 10;

/// The last picture. Shared by the session and whoever looks.
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
    /// At most [`PEERS_SHOWN_MAX`], the busiest first, while somebody looks.
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
        self.with_peers.store(LOOKED_AT_S, Ordering::Relaxed);
        self.peek()
    }

    /// The last picture as it is: who needs no peers makes no work.
    pub fn peek(&self) -> Arc<Status> {
        Arc::clone(&self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the next picture is to have peers in it.
    pub(in crate::engine) fn take_wish(&self) -> bool {
        let left = self.with_peers.load(Ordering::Relaxed);
        self.with_peers.store(left.saturating_sub(1), Ordering::Relaxed);
        left > 0
    }

    /// Bytes/s up and down of the last pictures, the latest last.
    pub fn rates(&self) -> Vec<(f64, f64)> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    pub(in crate::engine) fn show(&self, status: Status) {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        if rates.len() >= RATES_KEPT_MAX {
            rates.pop_front();
        }
        rates.push_back((status.up_bytes_per_s, status.down_bytes_per_s));
        drop(rates);
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(status);
    }
}

pub(in crate::engine) fn status(shared: &Shared, now: &Snapshot, torrents: Vec<Arc<TorrentStatus>>) -> Status {
    let hashed = shared.pool.hashed();
    let usage = Usage::of_this_process();
    Status {
        seconds: shared.now().as_secs_f64(),
        port: now.port,
        uploaded: now.uploaded,
        downloaded: now.downloaded,
        wasted: now.wasted,
        corrupt: now.corrupt,
        up_bytes_per_s: now.up_bytes_per_s,
        down_bytes_per_s: now.down_bytes_per_s,
        connections: shared.connection_count.load(Ordering::Relaxed),
        torrents,
        hashed_pieces: hashed.pieces,
        hash_batches: hashed.batches,
        cpu_user_s: usage.user.as_secs_f64(),
        cpu_system_s: usage.system.as_secs_f64(),
        memory_anon: usage.memory.anon,
        memory_file: usage.memory.file,
        latency_buckets: buckets(&shared.latency()),
    }
}

/// `rates` are a peer's upload and download in bytes/s.
pub(in crate::engine) fn torrent_status(
    torrent: &Torrent,
    with_peers: bool,
    rates: impl Fn(&PeerShared) -> (u64, u64),
) -> TorrentStatus {
    let peers = torrent.peers();
    let swarm = &torrent.swarm;
    let pieces = swarm.geometry.piece_count();
    let have = |peer: &PeerShared| peer.have_count.load(Ordering::Relaxed);
    let mut peer_list = Vec::new();
    if with_peers {
        let complete = swarm.pieces.is_complete();
        peer_list.extend(peers.iter().map(|peer| peer_status(peer, rates(peer), complete)));
        peer_list.sort_by_key(|peer| std::cmp::Reverse(peer.up_bytes_per_s + peer.down_bytes_per_s));
        peer_list.truncate(PEERS_SHOWN_MAX);
    }
    TorrentStatus {
        info_hash: torrent.info_hash.to_string(),
        name: torrent.name.clone(),
        length: swarm.geometry.total_len(),
        pieces,
        pieces_had: swarm.pieces.have_count(),
        uploaded: swarm.totals.uploaded.load(Ordering::Relaxed),
        downloaded: swarm.totals.downloaded.load(Ordering::Relaxed),
        peers: peers.len(),
        seeders: peers.iter().filter(|peer| have(peer) == pieces).count(),
        failed: torrent.has_failed(),
        rarest: if with_peers { rarest(torrent) } else { 0 },
        availability: if with_peers { availability(torrent) } else { Vec::new() },
        peer_list,
    }
}

fn peer_status(peer: &PeerShared, (up, down): (u64, u64), complete: bool) -> PeerStatus {
    let interested = peer.interested.load(Ordering::Relaxed);
    let idle = match () {
        () if up + down > 0 => "",
        () if peer.snubbed.load(Ordering::Relaxed) => "snubs us",
        () if interested && !peer.is_unchoked() => "waits for a slot",
        () if interested => "asks for nothing",
        () if complete => "needs nothing",
        () => "no interest",
    };
    PeerStatus {
        address: peer.address.to_string(),
        client: peer.client().map(|client| printable(&client)).unwrap_or_default(),
        uploaded: peer.uploaded.load(Ordering::Relaxed),
        downloaded: peer.downloaded.load(Ordering::Relaxed),
        up_bytes_per_s: up,
        down_bytes_per_s: down,
        pieces_had: peer.have_count.load(Ordering::Relaxed),
        idle,
    }
}

fn rarest(torrent: &Torrent) -> u32 {
    let swarm = &torrent.swarm;
    let pieces = (0..swarm.geometry.piece_count()).filter_map(|index| swarm.geometry.piece(index));
    pieces.map(|piece| swarm.availability.of(piece)).min().unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "shades of a colour")]
fn availability(torrent: &Torrent) -> Vec<f32> {
    let swarm = &torrent.swarm;
    let count = swarm.geometry.piece_count();
    let shown = count.min(PIECE_MAP_LEN);
    let bound = |at: u32| u32::try_from(u64::from(at) * u64::from(count) / u64::from(shown.max(1))).unwrap_or(count);
    let mean = |at| {
        let stretch = bound(at)..bound(at + 1);
        let len = stretch.len().max(1);
        let pieces = stretch.filter_map(|index| swarm.geometry.piece(index));
        pieces.map(|piece| swarm.availability.of(piece)).sum::<u32>() as f32 / len as f32
    };
    (0..shown).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_shown_while_somebody_looks() {
        let monitor = Monitor::default();
        assert!(!monitor.take_wish());
        monitor.status();
        monitor.peek();
        assert_eq!((0..20).filter(|_| monitor.take_wish()).count(), 10);
    }

    #[test]
    fn the_rates_of_the_last_minutes_are_kept() {
        let monitor = Monitor::default();
        for second in 0..1000_u32 {
            monitor.show(Status { up_bytes_per_s: second.into(), ..Status::default() });
        }
        let rates = monitor.rates();
        assert_eq!((rates.len(), rates[0], rates[RATES_KEPT_MAX - 1]), (RATES_KEPT_MAX, (700.0, 0.0), (999.0, 0.0)));
    }

    #[test]
    fn a_peer_that_moves_nothing_says_why() {
        let peer = PeerShared::new(1, "10.0.0.1:1".parse().unwrap());
        let idle = |rates| peer_status(&peer, rates, true).idle;
        assert_eq!((idle((0, 0)), idle((1, 0))), ("needs nothing", ""));
        peer.interested.store(true, Ordering::Relaxed);
        assert_eq!(idle((0, 0)), "waits for a slot");
        peer.unchoke.store(true, Ordering::Relaxed);
        assert_eq!(idle((0, 0)), "asks for nothing");
    }
}
