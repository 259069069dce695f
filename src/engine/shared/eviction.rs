//! Eviction at the connection limit: useless peers are closed, the lowest canonical priority (BEP 40) first.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::base::canonical_priority;
use crate::base::lock::lock;
use crate::swarm::PeerShared;

/// The useless peers, which the control thread lists while connections are crowded. Used by all threads, only at the
/// limit.
#[derive(Debug, Default)]
pub(in crate::engine) struct Eviction {
    /// By the number of their torrent.
    candidates: Mutex<HashMap<u32, Vec<Arc<PeerShared>>>>,
}

impl Eviction {
    /// Replaces the candidates of one torrent.
    pub(in crate::engine) fn set_candidates(&self, torrent: u32, peers: Vec<Arc<PeerShared>>) {
        let mut candidates = lock(&self.candidates);
        if peers.is_empty() {
            candidates.remove(&torrent);
        } else {
            candidates.insert(torrent, peers);
        }
    }

    /// Requests that the candidate of the lowest priority closes, if the priority of `newcomer` is higher. `own` is our
    /// address as peers see it. Returns true if one was found: the caller must call `Rings::spread_news`, so that its
    /// connection closes.
    pub(in crate::engine) fn evict_for(&self, own: SocketAddr, newcomer: SocketAddr) -> bool {
        let priority = |peer: SocketAddr| canonical_priority(own, peer);
        let mut candidates = lock(&self.candidates);
        let all = candidates.iter().flat_map(|(&torrent, peers)| peers.iter().map(move |peer| (torrent, peer)));
        let useless = all.filter(|(_, peer)| !peer.is_interested());
        let lowest = useless.min_by_key(|(_, peer)| priority(peer.address()));
        let Some((torrent, peer)) = lowest.filter(|(_, peer)| priority(peer.address()) < priority(newcomer)) else {
            return false;
        };
        let key = peer.key();
        peer.request_close();
        candidates.entry(torrent).and_modify(|peers| peers.retain(|peer| peer.key() != key));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(key: u32, address: &str) -> Arc<PeerShared> {
        Arc::new(PeerShared::new(key, address.parse().unwrap()))
    }

    #[test]
    fn the_useless_peer_of_the_lowest_priority_is_evicted() {
        let own: SocketAddr = "123.213.32.10:1".parse().unwrap();
        let mut peers: Vec<_> = (1..=5).map(|key| peer(key, &format!("98.{key}.0.0:1"))).collect();
        peers.sort_by_key(|peer| canonical_priority(own, peer.address()));
        let newcomer = peers.remove(2).address();
        let eviction = Eviction::default();
        assert!(!eviction.evict_for(own, newcomer), "there is no candidate");
        eviction.set_candidates(1, peers[..2].to_vec());
        eviction.set_candidates(2, peers[2..].to_vec());
        // An interested peer is not useless.
        peers[0].set_interested(true);
        assert!(eviction.evict_for(own, newcomer));
        let closing = || peers.iter().map(|peer| peer.is_close_requested()).collect::<Vec<_>>();
        assert_eq!(closing(), [false, true, false, false]);
        assert!(!eviction.evict_for(own, newcomer), "the other candidates have a higher priority");
        assert!(eviction.evict_for(own, peers[3].address()));
        assert_eq!(closing(), [false, true, true, false]);
    }
}
