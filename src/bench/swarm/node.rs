//! One client of the simulation: its swarm, its choking and connecting as the engine's control thread does them.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::slot::CountingSlot;
use crate::announce::Announce;
use crate::base::{PeerId, Rng, Time, limits};
use crate::swarm::choker::Slots;
use crate::swarm::peer_list::PeerList;
use crate::swarm::steering::Steering;
use crate::swarm::{PeerShared, Swarm};

/// See the module.
#[derive(Debug)]
pub struct Node {
    pub swarm: Arc<Swarm<CountingSlot>>,
    pub slot_count: usize,
    pub peers: Vec<Arc<PeerShared>>,
    /// Its ends of connections, in no order.
    pub(super) ends: Vec<usize>,
    /// Bytes per second, over all connections.
    pub uplink_rate: u64,
    pub downlink_rate: u64,
    /// The share of blocks it sends wrong.
    pub corrupts: f64,
    /// Takes requests and answers none.
    pub silent: bool,
    /// Blocks sent, by piece.
    pub served: Vec<u32>,
    /// Nodes that had a part in pieces that were wrong here, and those it banned.
    pub blamed: BTreeSet<usize>,
    pub banned: BTreeSet<usize>,
    /// `None`: somebody else decides who is choked.
    pub steering: Option<Steering>,
    pub(super) member: Option<Member>,
    /// Control bytes it has sent.
    pub control_len: u64,
    /// Connections it has had.
    pub connection_count: u64,
    pub(super) uplink_busy: bool,
    /// Ends with something to send, waiting for the uplink in turn.
    pub(super) ready: VecDeque<usize>,
    pub(super) downlink_free_at: u64,
    pub(super) news_due: bool,
    pub(super) woken: bool,
    reorder_at: Time,
}

/// What a node that finds its peers by the tracker has beside.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) announce: Announce,
    pub(super) peer_list: PeerList,
    pub(super) peer_id: PeerId,
    pub(super) online: bool,
    pub(super) told_complete: bool,
}

impl Node {
    pub(super) fn new(swarm: Arc<Swarm<CountingSlot>>, upload_slots: Slots, now: Time) -> Self {
        Self {
            slot_count: swarm.pieces.free_slots(),
            served: vec![0; swarm.geometry.piece_count() as usize],
            swarm,
            peers: Vec::new(),
            ends: Vec::new(),
            uplink_rate: 1_000_000_000,
            downlink_rate: 10_000_000_000,
            corrupts: 0.0,
            silent: false,
            blamed: BTreeSet::new(),
            banned: BTreeSet::new(),
            steering: Some(Steering::new(upload_slots, now)),
            member: None,
            control_len: 0,
            connection_count: 0,
            uplink_busy: false,
            ready: VecDeque::new(),
            downlink_free_at: 0,
            news_due: false,
            woken: false,
            reorder_at: now,
        }
    }

    pub(super) fn join(&mut self, tracker: &str, rng: &mut Rng) {
        let complete = self.swarm.pieces.is_complete();
        self.member = Some(Member {
            announce: Announce::new(vec![vec![tracker.to_owned()]], complete, rng),
            peer_list: PeerList::new(),
            peer_id: PeerId::generate(rng),
            online: true,
            told_complete: complete,
        });
    }

    /// Chokes and unchokes so far.
    pub fn choke_changes(&self) -> u64 {
        self.steering.as_ref().map_or(0, Steering::change_count)
    }

    pub(super) fn describe(&self) -> String {
        let Swarm { pieces, geometry, .. } = &*self.swarm;
        format!("has {} of {}, {} slots free", pieces.have_count(), geometry.piece_count(), pieces.free_slots())
    }

    /// The choking part of a step of the control thread; true when connections have to look who is choked.
    pub(super) fn steer(&mut self, now: Time, rng: &mut Rng) -> bool {
        if now >= self.reorder_at {
            self.reorder_at = now + limits::ORDER_INTERVAL;
            self.swarm.reorder_if_changed(rng);
        }
        let complete = self.swarm.pieces.is_complete();
        self.steering.as_mut().is_some_and(|steering| steering.step(now, &self.peers, complete, rng))
    }
}

/// Where the node listens.
pub(super) fn address_of(node: usize) -> SocketAddr {
    let bits = 0x0a00_0000 | u32::try_from(node).unwrap_or(0);
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(bits)), 6881)
}

/// The node that listens there.
pub(super) fn node_of(address: SocketAddr) -> usize {
    match address.ip() {
        IpAddr::V4(ip) => (ip.to_bits() & 0x00ff_ffff) as usize,
        IpAddr::V6(_) => usize::MAX,
    }
}
