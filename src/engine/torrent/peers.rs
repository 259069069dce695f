//! The peers of one torrent: those that are connected, those that are known, and how far they are trusted.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tracing::{info, warn};

use crate::base::cidr::AddressFilter;
use crate::base::lock::lock;
use crate::base::{PeerId, Time, host_of, limits};
use crate::engine::piece::Piece;
use crate::engine::torrent::failed_pieces::FailedPieces;
use crate::storage::PieceBuffer;
use crate::swarm::peer_list::{Contribution, PeerList};
use crate::swarm::{HashOutcome, Holding, PeerShared, Sighting, Swarm, Verdict};

/// The known and connected peers of one torrent, and the trust in each. Shared by all threads.
#[derive(Debug)]
pub(in crate::engine) struct Peers {
    /// The torrent's name, safe for a terminal.
    name: String,
    /// By the connection's key.
    connected: Mutex<HashMap<u32, Entry>>,
    list: Mutex<PeerList>,
    failed_pieces: FailedPieces,
    /// The torrent was removed from the session.
    is_closed: AtomicBool,
}

/// The side that opened a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) enum Direction {
    Incoming,
    Outgoing,
}

/// A connection that has completed its handshake.
#[derive(Debug)]
pub(in crate::engine) struct JoinedPeer {
    pub(in crate::engine) shared: Arc<PeerShared>,
    pub(in crate::engine) peer_id: PeerId,
    pub(in crate::engine) direction: Direction,
}

#[derive(Debug)]
struct Entry {
    peer: JoinedPeer,
    since: Time,
    /// The number of further connections to the peer.
    streams: usize,
    /// The peer was reported to have all pieces.
    is_complete: bool,
}

/// A peer whose first connection has ended.
#[derive(Debug)]
pub(in crate::engine) struct Left {
    /// The pieces that the peer has.
    pub(in crate::engine) sighting: Sighting,
    /// The number of its further connections, which have to end.
    pub(in crate::engine) streams: usize,
}

impl JoinedPeer {
    pub(in crate::engine) fn sighting(&self, holding: Holding) -> Sighting {
        Sighting { ip: self.shared.address().ip(), peer_id: self.peer_id, holding }
    }
}

impl Peers {
    pub(in crate::engine) fn new(name: String, filter: AddressFilter) -> Self {
        Self {
            name,
            connected: Mutex::default(),
            list: Mutex::new(PeerList::with_filter(filter)),
            failed_pieces: FailedPieces::default(),
            is_closed: AtomicBool::new(false),
        }
    }

    /// The known peers. Locked for moments only: ring threads need it once per connection.
    pub(in crate::engine) fn list(&self) -> MutexGuard<'_, PeerList> {
        lock(&self.list)
    }

    pub(in crate::engine) fn failed_pieces(&self) -> &FailedPieces {
        &self.failed_pieces
    }

    pub(in crate::engine) fn connected_count(&self) -> usize {
        lock(&self.connected).len()
    }

    pub(in crate::engine) fn connected(&self) -> Vec<Arc<PeerShared>> {
        lock(&self.connected).values().map(|entry| entry.peer.shared.clone()).collect()
    }

    pub(in crate::engine) fn has_interested(&self) -> bool {
        lock(&self.connected).values().any(|entry| entry.peer.shared.is_interested())
    }

    /// Registers a connection. Returns false if it is the second one to the same peer, or the torrent was removed.
    ///
    /// If two peers connect to each other at the same time, both keep the connection that the greater peer id opened;
    /// otherwise the older one stays. Peer ids are public, so the same id at another host is another peer: otherwise
    /// any host could keep a peer out by using its id.
    pub(in crate::engine) fn join(&self, newcomer: JoinedPeer, own_id: PeerId, now: Time) -> bool {
        let host = host_of(newcomer.shared.address().ip());
        let mut connected = lock(&self.connected);
        if self.is_closed.load(Ordering::Acquire) {
            return false;
        }
        let is_twin =
            |other: &JoinedPeer| other.peer_id == newcomer.peer_id && host_of(other.shared.address().ip()) == host;
        if let Some(twin) = connected.values().find(|entry| is_twin(&entry.peer)) {
            let crossed = twin.peer.direction != newcomer.direction && now < twin.since + limits::HANDSHAKE_TIMEOUT;
            let is_outgoing = newcomer.direction == Direction::Outgoing;
            if !crossed || is_outgoing != (own_id > newcomer.peer_id) {
                return false;
            }
            twin.peer.shared.request_close();
        }
        connected.insert(newcomer.shared.key(), Entry { peer: newcomer, since: now, streams: 0, is_complete: false });
        true
    }

    /// Registers a further connection to the peer at `ip`, whose first connection has the key `first`. Returns `None` if
    /// there is no such connection, or the peer has `further_max` further ones already.
    pub(in crate::engine) fn join_stream(&self, first: u32, ip: IpAddr, further_max: usize) -> Option<Arc<PeerShared>> {
        let mut connected = lock(&self.connected);
        let entry = connected.get_mut(&first)?;
        let shared = &entry.peer.shared;
        let is_of_host = host_of(shared.address().ip()) == host_of(ip);
        if !is_of_host || shared.is_close_requested() || entry.streams >= further_max {
            return None;
        }
        entry.streams += 1;
        Some(shared.clone())
    }

    /// A further connection to a peer has ended.
    pub(in crate::engine) fn leave_stream(&self, shared: &Arc<PeerShared>) {
        let mut connected = lock(&self.connected);
        let entry = connected.get_mut(&shared.key()).filter(|entry| Arc::ptr_eq(&entry.peer.shared, shared));
        entry.into_iter().for_each(|entry| entry.streams -= 1);
    }

    /// The first connection to a peer has ended, and the further ones have to.
    pub(in crate::engine) fn leave(&self, shared: &PeerShared, swarm: &Swarm<PieceBuffer>) -> Option<Left> {
        let Entry { peer, streams, .. } = lock(&self.connected).remove(&shared.key())?;
        peer.shared.request_close();
        // A peer may disconnect on completion without announcing its last pieces.
        let is_complete = has_all(shared, swarm) || shared.uploaded() >= swarm.geometry.total_len();
        let sighting = peer.sighting(if is_complete { Holding::Complete } else { Holding::Partial });
        Some(Left { sighting, streams })
    }

    /// Returns the connected peers that have received all pieces since the last call.
    pub(in crate::engine) fn take_complete(&self, swarm: &Swarm<PieceBuffer>) -> Vec<Sighting> {
        let mut connected = lock(&self.connected);
        let fresh = connected.values_mut().filter(|entry| !entry.is_complete && has_all(&entry.peer.shared, swarm));
        fresh
            .map(|entry| {
                entry.is_complete = true;
                entry.peer.sighting(Holding::Complete)
            })
            .collect()
    }

    /// The torrent was removed: rejects new connections, and closes those that have joined.
    pub(in crate::engine) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.connected().iter().for_each(|peer| peer.request_close());
    }

    /// A received piece failed its hash: its senders lose trust.
    pub(in crate::engine) fn handle_failed(&self, open: &Piece, verdict: &Verdict) {
        self.failed_pieces.handle_failed(open, verdict);
        self.judge(verdict, HashOutcome::Failed);
    }

    /// A received piece has verified: its senders gain trust. Hosts whose blocks made an earlier copy fail are
    /// identified, and lose trust as its sole senders. Returns the senders that were not proven before.
    pub(in crate::engine) fn handle_verified(&self, open: &Piece) -> Vec<Arc<PeerShared>> {
        let proven = open.prove();
        self.judge(&open.verdict(), HashOutcome::Verified);
        for ip in self.failed_pieces.handle_verified(open) {
            info!("{}: piece {} was corrupted by {ip}", self.name, open.piece().get());
            let is_banned = {
                let mut list = self.list();
                !list.is_banned(ip) && list.handle_verdict(ip, HashOutcome::Failed, Contribution::Sole)
            };
            if is_banned {
                self.ban(ip);
            }
        }
        proven
    }

    fn judge(&self, verdict: &Verdict, outcome: HashOutcome) {
        let banned = self.list().judge(verdict, outcome);
        banned.into_iter().for_each(|ip| self.ban(ip));
    }

    fn ban(&self, host: IpAddr) {
        warn!("{}: {host} is banned for sending wrong data", self.name);
        let peers = self.connected();
        let of_host = peers.iter().filter(|peer| host_of(peer.address().ip()) == host);
        of_host.for_each(|peer| peer.request_close());
    }
}

fn has_all(peer: &PeerShared, swarm: &Swarm<PieceBuffer>) -> bool {
    peer.have_count() == swarm.geometry.piece_count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Bitfield, Geometry, Rng};

    #[test]
    fn further_connections_belong_to_a_first_one() {
        let swarm = Swarm::new(
            Arc::new(Geometry::new(16_384, [16_384]).unwrap()),
            &Bitfield::new(1),
            Vec::new(),
            &mut Rng::with_seed(1),
        );
        let peers = Peers::new("t".into(), AddressFilter::default());
        let shared = Arc::new(PeerShared::new(7, ([10, 0, 0, 1], 1).into()));
        let peer_id = PeerId([1; 20]);
        let first = JoinedPeer { shared: shared.clone(), peer_id, direction: Direction::Incoming };
        assert!(peers.join(first, PeerId([2; 20]), Time::ZERO));
        let join = |first: u32, host: u8| peers.join_stream(first, [10, 0, 0, host].into(), 2).is_some();
        assert!(!join(8, 1) && !join(7, 2), "another key, another host");
        assert!(peers.join_stream(7, [10, 0, 0, 1].into(), 0).is_none());
        assert!(join(7, 1) && join(7, 1) && !join(7, 1));
        assert_eq!(peers.connected_count(), 1);
        peers.leave_stream(&shared);
        assert!(join(7, 1));
        let left = peers.leave(&shared, &swarm).unwrap();
        assert_eq!(left.streams, 2);
        assert!(shared.is_close_requested(), "the further ones have to end");
        peers.leave_stream(&shared);
        assert!(!join(7, 1));
    }
}
