//! Wrong pieces of several senders: their blocks are hashed, and hashed again once the piece is right.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::torrent::Piece;
use crate::base::PieceHash;
use crate::base::geometry::BLOCK_LEN;
use crate::hash::sha1;
use crate::swarm::blame::{Blame, Sent};

/// One torrent's [`Blame`].
#[derive(Debug, Default)]
pub(super) struct Suspicion(Mutex<Blame>);

impl Suspicion {
    fn lock(&self) -> MutexGuard<'_, Blame> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hash of a complete piece was wrong. Takes as long as hashing it.
    pub(super) fn handle_wrong(&self, open: &Piece) {
        let sent: Vec<Sent> = block_hashes(open)
            .enumerate()
            .filter_map(|(block_index, hash)| {
                Some(Sent { block_index, sender: open.sender(block_index)?.address.ip(), hash })
            })
            .collect();
        if sent.windows(2).any(|pair| matches!(pair, [a, b] if a.sender != b.sender)) {
            self.lock().handle_wrong(open.piece(), sent);
        }
    }

    /// The hash of a complete piece was right: who had sent other blocks of it, once for each wrong copy.
    pub(super) fn handle_right(&self, open: &Piece) -> Vec<IpAddr> {
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
