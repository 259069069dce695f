//! Builds the status of a session for its monitor.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::escape::printable;
use crate::base::limits::{PEERS_SHOWN_MAX, PIECE_MAP_LEN};
use crate::engine::metrics::monitor::{PeerStatus, Snapshot, Status, TorrentStatus};
use crate::engine::metrics::stats::buckets;
use crate::engine::metrics::usage::Usage;
use crate::engine::shared::Shared;
use crate::engine::torrent::Torrent;
use crate::swarm::PeerShared;

/// Builds the status of the session from its totals.
pub(super) fn status(shared: &Shared, totals: &Snapshot, torrents: Vec<Arc<TorrentStatus>>) -> Status {
    let hashed = shared.pool.hashed();
    let usage = Usage::of_this_process();
    Status {
        seconds: shared.now().as_secs_f64(),
        port: totals.port,
        uploaded: totals.uploaded,
        downloaded: totals.downloaded,
        wasted: totals.wasted,
        corrupt: totals.corrupt,
        up_bytes_per_s: totals.up_bytes_per_s,
        down_bytes_per_s: totals.down_bytes_per_s,
        connections: shared.rings.connection_count(),
        torrents,
        hashed_pieces: hashed.pieces,
        hash_batches: hashed.batches,
        cpu_user_s: usage.user.as_secs_f64(),
        cpu_system_s: usage.system.as_secs_f64(),
        memory_anon: usage.memory.anon,
        memory_file: usage.memory.file,
        latency_buckets: buckets(&shared.counters.latency()),
        ..Status::default()
    }
}

/// Builds the status of one torrent, with its peers if `with_peers`. `rates` returns a peer's upload and download in
/// bytes/s.
pub(super) fn torrent_status(
    torrent: &Torrent,
    with_peers: bool,
    rates: impl Fn(&PeerShared) -> (u64, u64),
) -> TorrentStatus {
    let peers = torrent.peers.connected();
    let swarm = &torrent.swarm;
    let pieces = swarm.geometry.piece_count();
    let mut peer_list = Vec::new();
    if with_peers {
        let complete = swarm.pieces.is_complete();
        peer_list.extend(peers.iter().map(|peer| {
            let (up, down) = rates(peer);
            peer_status(peer, up, down, complete)
        }));
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
        failed: torrent.has_failed() || torrent.content.has_unservable() || torrent.content.is_outdated(),
        rarest: if with_peers { rarest(torrent) } else { 0 },
        availability: if with_peers { availability(torrent) } else { Vec::new() },
        peer_list,
    }
}

/// `up` and `down` are in bytes/s; `complete` means that we have all pieces.
fn peer_status(peer: &PeerShared, up: u64, down: u64, complete: bool) -> PeerStatus {
    let interested = peer.is_interested();
    let idle = if up + down > 0 {
        ""
    } else if peer.is_snubbed() {
        "snubs us"
    } else if interested && !peer.is_unchoked() {
        "waits for a slot"
    } else if interested {
        "no requests"
    } else if complete {
        "complete"
    } else {
        "not interested"
    };
    PeerStatus {
        address: peer.address().to_string(),
        client: peer.client().map(|client| printable(&client)).unwrap_or_default(),
        uploaded: peer.uploaded(),
        downloaded: peer.downloaded(),
        up_bytes_per_s: up,
        down_bytes_per_s: down,
        pieces_had: peer.have_count(),
        idle,
    }
}

/// The lowest number of connected peers that have a piece.
fn rarest(torrent: &Torrent) -> u32 {
    let swarm = &torrent.swarm;
    let pieces = (0..swarm.geometry.piece_count()).filter_map(|index| swarm.geometry.piece(index));
    pieces.map(|piece| swarm.availability.of(piece)).min().unwrap_or(0)
}

/// The number of connected peers that have each piece, averaged over ranges if there are more than [`PIECE_MAP_LEN`]
/// pieces.
#[expect(clippy::cast_precision_loss, reason = "shades of a color")]
fn availability(torrent: &Torrent) -> Vec<f32> {
    let swarm = &torrent.swarm;
    let count = swarm.geometry.piece_count();
    let shown = count.min(PIECE_MAP_LEN);
    let bound = |at: u32| u32::try_from(u64::from(at) * u64::from(count) / u64::from(shown.max(1))).unwrap_or(count);
    let mean = |at| {
        let range = bound(at)..bound(at + 1);
        let len = range.len().max(1);
        let pieces = range.filter_map(|index| swarm.geometry.piece(index));
        pieces.map(|piece| swarm.availability.of(piece)).sum::<u32>() as f32 / len as f32
    };
    (0..shown).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_peers_have_a_reason() {
        let peer = PeerShared::new(1, "10.0.0.1:1".parse().unwrap());
        let idle = |up| peer_status(&peer, up, 0, true).idle;
        assert_eq!((idle(0), idle(1)), ("complete", ""));
        peer.set_interested(true);
        assert_eq!(idle(0), "waits for a slot");
        peer.set_unchoked(true);
        assert_eq!(idle(0), "no requests");
    }
}
