//! Wrong pieces of several senders: their blocks are hashed, and hashed again once the piece is right.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::geometry::BLOCK_LEN;
use crate::base::{PieceHash, PieceIndex, host_of, limits};
use crate::engine::piece::Piece;
use crate::hash::sha1;
use crate::swarm::Verdict;
use crate::swarm::smart_ban::{Sent, SmartBan};

/// One torrent's [`SmartBan`], and which pieces were never right.
#[derive(Debug, Default)]
pub(in crate::engine) struct Suspicion {
    blame: Mutex<SmartBan>,
    /// Who sent a part of each, of as many pieces as are kept in mind.
    wrong: Mutex<BTreeMap<PieceIndex, BTreeSet<IpAddr>>>,
}

impl Suspicion {
    fn lock(&self) -> MutexGuard<'_, SmartBan> {
        self.blame.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrong(&self) -> MutexGuard<'_, BTreeMap<PieceIndex, BTreeSet<IpAddr>>> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The piece that most hosts sent and that never was right, and how many they are.
    pub(in crate::engine) fn worst(&self) -> Option<(PieceIndex, usize)> {
        let wrong = self.wrong();
        let counts = wrong.iter().map(|(&piece, senders)| (piece, senders.len()));
        counts.max_by_key(|&(_, senders)| senders)
    }

    /// The hash of a complete piece was wrong. Takes as long as hashing it, if several hosts had a part in it.
    pub(in crate::engine) fn handle_wrong(&self, open: &Piece, verdict: &Verdict) {
        let hosts: BTreeSet<IpAddr> = verdict.senders.iter().map(|peer| host_of(peer.address().ip())).collect();
        let is_shared = hosts.len() > 1;
        let mut wrong = self.wrong();
        if wrong.len() < limits::WRONG_PIECES_KEPT_MAX || wrong.contains_key(&open.piece()) {
            let senders = wrong.entry(open.piece()).or_default();
            let room = limits::PEER_LIST_MAX.saturating_sub(senders.len());
            senders.extend(hosts.into_iter().take(room));
        }
        drop(wrong);
        if is_shared {
            let sender = |block_index| open.sender(block_index).map(|peer| host_of(peer.address().ip()));
            let sent = block_hashes(open)
                .enumerate()
                .filter_map(|(block_index, hash)| Some(Sent { block_index, sender: sender(block_index)?, hash }));
            self.lock().handle_wrong(open.piece(), sent.collect());
        }
    }

    /// The hash of a complete piece was right: who had sent other blocks of it, once for each wrong copy.
    pub(in crate::engine) fn handle_right(&self, open: &Piece) -> Vec<IpAddr> {
        self.wrong().remove(&open.piece());
        if !self.lock().is_open(open.piece()) {
            return Vec::new();
        }
        let hashes: Vec<PieceHash> = block_hashes(open).collect();
        self.lock().handle_right(open.piece(), &hashes)
    }
}

fn block_hashes(open: &Piece) -> impl Iterator<Item = PieceHash> + '_ {
    open.slot().bytes().unwrap_or_default().chunks(BLOCK_LEN as usize).map(|block| sha1(&[block]))
}
