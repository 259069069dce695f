//! Who makes room when every place for connections is taken: peers of no use, the least by canonical priority (BEP 40) first.
//!
//! Owns the list of those, which the control thread makes while it is crowded, and the address others see us at.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::canonical_priority;
use crate::swarm::PeerShared;

/// See the module. Shared by all threads; asked only when there is no place left.
#[derive(Debug)]
pub(in crate::engine) struct Room {
    /// Where we listen; the address is the best that is known.
    own: Mutex<SocketAddr>,
    /// By a tracker.
    told: AtomicBool,
    /// By the number of their torrent.
    useless: Mutex<HashMap<u32, Vec<Arc<PeerShared>>>>,
}

impl Room {
    pub(in crate::engine) fn new(listen: SocketAddr) -> Self {
        Self { own: Mutex::new(listen), told: AtomicBool::new(false), useless: Mutex::default() }
    }

    /// Where others see us, if it is known.
    pub(in crate::engine) fn own(&self) -> Option<SocketAddr> {
        let own = *self.own.lock().unwrap_or_else(PoisonError::into_inner);
        (!own.ip().is_unspecified()).then_some(own)
    }

    /// A tracker sees us there (BEP 24).
    pub(in crate::engine) fn handle_told(&self, ip: IpAddr) {
        self.told.store(true, Ordering::Relaxed);
        self.set_own_ip(ip);
    }

    /// Several peers see us there (`yourip`, BEP 10): trackers know better.
    pub(in crate::engine) fn handle_seen(&self, ip: IpAddr) {
        if !self.told.load(Ordering::Relaxed) {
            self.set_own_ip(ip);
        }
    }

    fn set_own_ip(&self, ip: IpAddr) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).set_ip(ip.to_canonical());
    }

    fn useless(&self) -> MutexGuard<'_, HashMap<u32, Vec<Arc<PeerShared>>>> {
        self.useless.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peers of this torrent that could go.
    pub(in crate::engine) fn offer(&self, torrent: u32, peers: Vec<Arc<PeerShared>>) {
        let mut useless = self.useless();
        if peers.is_empty() {
            useless.remove(&torrent);
        } else {
            useless.insert(torrent, peers);
        }
    }

    /// Whether somebody goes for a newcomer from this address: the useless peer of the lowest priority, if the newcomer's is
    /// higher. It has to be told.
    pub(in crate::engine) fn replace(&self, newcomer: SocketAddr) -> bool {
        let own = *self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let priority = |peer: SocketAddr| canonical_priority(own, peer);
        let mut useless = self.useless();
        let stays = |peer: &Arc<PeerShared>| !peer.is_interested();
        let candidates = useless.iter().flat_map(|(&torrent, peers)| peers.iter().map(move |peer| (torrent, peer)));
        let lowest = candidates.filter(|(_, peer)| stays(peer)).min_by_key(|(_, peer)| priority(peer.address()));
        let Some((torrent, peer)) = lowest.filter(|(_, peer)| priority(peer.address()) < priority(newcomer)) else {
            return false;
        };
        let key = peer.key();
        peer.request_close();
        useless.entry(torrent).and_modify(|peers| peers.retain(|peer| peer.key() != key));
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
    fn the_useless_peer_of_the_lowest_priority_goes_for_one_of_a_higher() {
        let own: SocketAddr = "123.213.32.10:1".parse().unwrap();
        let mut peers: Vec<_> = (1..=5).map(|key| peer(key, &format!("98.{key}.0.0:1"))).collect();
        peers.sort_by_key(|peer| canonical_priority(own, peer.address()));
        let newcomer = peers.remove(2).address();
        let room = Room::new("0.0.0.0:1".parse().unwrap());
        room.handle_told(own.ip());
        room.handle_seen("1.1.1.1".parse().unwrap());
        assert!(!room.replace(newcomer), "nobody is useless");
        room.offer(1, peers[..2].to_vec());
        room.offer(2, peers[2..].to_vec());
        // It wants something now.
        peers[0].set_interested(true);
        assert!(room.replace(newcomer));
        let gone = || peers.iter().map(|peer| peer.is_close_requested()).collect::<Vec<_>>();
        assert_eq!(gone(), [false, true, false, false]);
        assert!(!room.replace(newcomer), "those that are left have a higher one");
        assert!(room.replace(peers[3].address()));
        assert_eq!(gone(), [false, true, true, false]);
    }
}
