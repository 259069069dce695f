//! Pieces that failed their hash. If several hosts contributed, the hash of each block is kept, and compared once the
//! piece verifies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Mutex;

use crate::base::geometry::BLOCK_LEN;
use crate::base::lock::lock;
use crate::base::{PieceHash, PieceIndex, host_of, limits};
use crate::engine::piece::Piece;
use crate::hash::sha1;
use crate::swarm::Verdict;
use crate::swarm::smart_ban::{Sent, SmartBan};

/// The failed pieces of one torrent.
#[derive(Debug, Default)]
pub(in crate::engine) struct FailedPieces {
    smart_ban: Mutex<SmartBan>,
    /// The hosts that contributed to each; at most [`limits::FAILED_PIECES_LISTED_MAX`] pieces.
    senders: Mutex<BTreeMap<PieceIndex, BTreeSet<IpAddr>>>,
}

impl FailedPieces {
    /// The piece with the most contributing hosts that never verified, and their number.
    pub(in crate::engine) fn worst(&self) -> Option<(PieceIndex, usize)> {
        let failed = lock(&self.senders);
        let counts = failed.iter().map(|(&piece, senders)| (piece, senders.len()));
        counts.max_by_key(|&(_, senders)| senders)
    }

    /// A complete piece failed its hash. Takes as long as hashing it, if several hosts contributed.
    pub(in crate::engine) fn handle_failed(&self, open: &Piece, verdict: &Verdict) {
        let hosts: BTreeSet<IpAddr> = verdict.senders.iter().map(|peer| host_of(peer.address().ip())).collect();
        let is_shared = hosts.len() > 1;
        let mut failed = lock(&self.senders);
        if failed.len() < limits::FAILED_PIECES_LISTED_MAX || failed.contains_key(&open.piece()) {
            let senders = failed.entry(open.piece()).or_default();
            let room = limits::PEER_LIST_MAX.saturating_sub(senders.len());
            senders.extend(hosts.into_iter().take(room));
        }
        drop(failed);
        if is_shared {
            let sender = |block_index| open.sender(block_index).map(|peer| host_of(peer.address().ip()));
            // Hashed before the lock is taken.
            let sent = block_hashes(open)
                .enumerate()
                .filter_map(|(block_index, hash)| Some(Sent { block_index, sender: sender(block_index)?, hash }))
                .collect();
            lock(&self.smart_ban).handle_failed(open.piece(), sent);
        }
    }

    /// A complete piece has verified. Returns the hosts that sent different blocks, once for each failed copy.
    pub(in crate::engine) fn handle_verified(&self, open: &Piece) -> Vec<IpAddr> {
        lock(&self.senders).remove(&open.piece());
        if !lock(&self.smart_ban).has_failed_copy(open.piece()) {
            return Vec::new();
        }
        let hashes: Vec<PieceHash> = block_hashes(open).collect();
        lock(&self.smart_ban).handle_verified(open.piece(), &hashes)
    }
}

fn block_hashes(open: &Piece) -> impl Iterator<Item = PieceHash> + '_ {
    open.buffer().bytes().unwrap_or_default().chunks(BLOCK_LEN as usize).map(|block| sha1(&[block]))
}
