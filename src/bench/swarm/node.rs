//! One client of the simulation: what it has and is, and its choking as the engine's control thread does it. What happens to it is
//! `play`.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::counting_buffer::CountingBuffer;
use super::disk::Disk;
use super::trackers::Answer;
use super::wire::{Batch, End, Event, Place, Queue};
use crate::announce::Announce;
use crate::base::{PeerId, Rng, Time, limits};
use crate::peer::PeerFault;
use crate::swarm::choker::Slots;
use crate::swarm::peer_list::PeerList;
use crate::swarm::torrent_control::TorrentControl;
use crate::swarm::{PeerShared, Swarm};

/// How a hostile node misbehaves. Wrong blocks and silence are settings of [`Node`] of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misbehavior {
    /// Announces pieces that the torrent does not have.
    AbsentHaves,
    /// Announces pieces that it does not have, and rejects every request.
    RejectsAll,
    /// Sends a few blocks and then none.
    Stalls,
    /// Sends blocks that its peer did not request.
    Unrequested,
    /// Sends each block twice.
    Repeats,
    /// Control words without end.
    Floods,
    /// Hangs up in the middle of what it sends.
    HangsUp,
    /// Bytes that are no message.
    Noise,
    /// Asks for what does not exist.
    AbsurdRequests,
}

impl Misbehavior {
    pub const ALL: [Self; 9] = [
        Self::AbsentHaves,
        Self::RejectsAll,
        Self::Stalls,
        Self::Unrequested,
        Self::Repeats,
        Self::Floods,
        Self::HangsUp,
        Self::Noise,
        Self::AbsurdRequests,
    ];
}

/// See the module.
#[derive(Debug)]
pub struct Node {
    /// Its number.
    pub at: usize,
    pub now: Time,
    pub swarm: Arc<Swarm<CountingBuffer>>,
    pub slot_count: usize,
    pub peers: Vec<Arc<PeerShared>>,
    /// Its ends of connections; `None` when one has ended. A number is never used again.
    pub(super) ends: Vec<Option<Box<End>>>,
    /// The numbers of those that are open, in no order.
    pub(super) open: Vec<usize>,
    /// Other nodes to which a connection has ended, until the world has seen it.
    pub(super) parted: Vec<usize>,
    /// Bytes per second, over all connections.
    pub uplink_rate: u64,
    pub downlink_rate: u64,
    /// The share of blocks it sends wrong.
    pub corrupts: f64,
    /// Takes requests and answers none.
    pub silent: bool,
    pub misbehavior: Option<Misbehavior>,
    /// Speaks the Fast extension.
    pub fast: bool,
    pub disk: Disk,
    /// A write failed: it has left, until it is started again.
    pub failed: bool,
    /// Nothing comes or goes before.
    pub dark_until: Time,
    /// Blocks sent, by piece.
    pub served: Vec<u32>,
    /// Nodes that had a part in pieces that were wrong here, and those it banned.
    pub blamed: BTreeSet<usize>,
    pub banned: BTreeSet<usize>,
    /// What ended connections here, with the node at the other end.
    pub faults: Vec<(usize, PeerFault)>,
    /// When it had everything for the first time.
    pub completed_at: Option<Time>,
    /// `None`: the test decides who is choked.
    pub control: Option<TorrentControl>,
    pub(super) member: Option<Member>,
    pub effort: Effort,
    pub(super) uplink_busy: bool,
    /// Ends with something to send, waiting for the uplink in turn.
    pub(super) ready: VecDeque<usize>,
    pub(super) downlink_free_at: u64,
    pub(super) news_due: bool,
    pub(super) woken: bool,
    pub(super) queue: Queue,
    pub(super) rng: Rng,
    /// Batches to be used again.
    #[expect(clippy::vec_box, reason = "a batch goes from node to node in its box")]
    pub(super) spare: Vec<Box<Batch>>,
    checkpoint_at: Time,
}

/// What a node has done, beside content.
#[derive(Debug, Default, Clone, Copy)]
pub struct Effort {
    /// Control bytes it has sent, and messages it has handled.
    pub control_len: u64,
    pub messages: u64,
    /// Events it was woken for.
    pub events: u64,
    /// Connections it has had.
    pub connections: u64,
    /// Pieces looked at to find one to ask for, over connections that have ended.
    pub looks: u64,
}

/// What a node that finds its peers by the tracker has beside.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) announce: Announce,
    pub(super) peer_list: PeerList,
    /// What the tracker that was asked will say.
    pub(super) answer: Option<Answer>,
    /// Attempts to connect to addresses where nobody is, and when they end.
    pub(super) attempts: Vec<(Time, SocketAddr)>,
    pub(super) peer_id: PeerId,
    pub(super) online: bool,
}

impl Node {
    pub(super) fn new(
        at: usize,
        (swarm, disk): (Arc<Swarm<CountingBuffer>>, Disk),
        upload_slots: Slots,
        now: Time,
        rng: Rng,
    ) -> Self {
        let mut queue = Queue::new(at);
        [Event::Tick, Event::Steer].into_iter().for_each(|event| queue.schedule(nanos(now), event));
        Self {
            at,
            now,
            control: Some(TorrentControl::new(upload_slots, &swarm, now)),
            slot_count: swarm.pieces.free_buffers(),
            served: vec![0; swarm.geometry.piece_count() as usize],
            swarm,
            peers: Vec::new(),
            ends: Vec::new(),
            open: Vec::new(),
            parted: Vec::new(),
            uplink_rate: 1_000_000_000,
            downlink_rate: 10_000_000_000,
            corrupts: 0.0,
            silent: false,
            misbehavior: None,
            fast: true,
            disk,
            failed: false,
            dark_until: Time::ZERO,
            blamed: BTreeSet::new(),
            banned: BTreeSet::new(),
            faults: Vec::new(),
            completed_at: None,
            member: None,
            effort: Effort::default(),
            uplink_busy: false,
            ready: VecDeque::new(),
            downlink_free_at: 0,
            news_due: false,
            woken: false,
            queue,
            rng,
            spare: Vec::new(),
            checkpoint_at: now,
        }
    }

    pub(super) fn join(&mut self, tiers: Vec<Vec<String>>, rng: &mut Rng) {
        let complete = self.swarm.pieces.is_complete();
        self.member = Some(Member {
            announce: Announce::new(tiers, complete, rng),
            peer_list: PeerList::new(),
            answer: None,
            attempts: Vec::new(),
            peer_id: PeerId::generate(rng),
            online: true,
        });
    }

    /// Connections that are open.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Pieces looked at to find one to ask for.
    pub fn looks(&self) -> u64 {
        self.effort.looks + self.ends.iter().flatten().map(|end| end.link.candidates_examined()).sum::<u64>()
    }

    /// Peers looked at to decide who is unchoked.
    pub fn ranked(&self) -> u64 {
        self.control.as_ref().map_or(0, |control| control.choke_driver().ranked_count())
    }

    /// Chokes and unchokes so far.
    pub fn choke_changes(&self) -> u64 {
        self.control.as_ref().map_or(0, |control| control.choke_driver().change_count())
    }

    pub(super) fn describe(&self) -> String {
        let Swarm { pieces, geometry, .. } = &*self.swarm;
        format!("has {} of {}, {} slots free", pieces.have_count(), geometry.piece_count(), pieces.free_buffers())
    }

    pub(super) fn end(&self, at: usize) -> Option<&End> {
        self.ends.get(at)?.as_deref()
    }

    /// The choking part of a step of the control thread; true when connections have to look who is choked.
    pub(super) fn steer(&mut self) -> bool {
        let now = self.now;
        if now >= self.checkpoint_at {
            self.checkpoint_at = now + limits::CHECKPOINT_INTERVAL_MIN;
            self.disk.checkpoint(&self.swarm.geometry);
        }
        let Self { control, swarm, peers, rng, .. } = self;
        match control {
            Some(control) => control.step(now, swarm, peers, rng),
            None => {
                swarm.reorder_if_changed(rng);
                false
            }
        }
    }

    /// Another process in its place, which has what it finds and knows nobody.
    pub(super) fn restart(&mut self, swarm: Arc<Swarm<CountingBuffer>>, now: Time) {
        self.queue.forget_writes();
        self.swarm = swarm;
        self.control = self.control.take().map(|_| TorrentControl::new(Slots::Auto, &self.swarm, now));
        self.failed = false;
    }

    /// Ends the connection on this side, and says where the other side is.
    pub(super) fn close(&mut self, at: usize) -> Option<Place> {
        let end = self.ends.get_mut(at)?.take()?;
        let shared = end.link.shared();
        let useful = shared.has_transferred();
        self.peers.retain(|peer| peer.key() != shared.key());
        self.open.retain(|&other| other != at);
        self.parted.push(end.peer.node);
        self.effort.looks += end.link.candidates_examined();
        if end.leaving.is_some() {
            self.uplink_busy = false;
        }
        if let Some(member) = &mut self.member {
            member.peer_list.handle_disconnected(self.now, shared.address(), useful);
        }
        Some(end.peer)
    }
}

pub(super) fn nanos(time: Time) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Where the node listens.
pub(super) fn address_of(node: usize) -> SocketAddr {
    let bits = 0x0a00_0000 | u32::try_from(node).unwrap_or(0);
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(bits)), 6881)
}

/// The node that listens there, or the number of none.
pub(super) fn node_of(address: SocketAddr) -> usize {
    match address.ip() {
        IpAddr::V4(ip) if ip.octets()[0] == 10 => (ip.to_bits() & 0x00ff_ffff) as usize,
        _ => usize::MAX,
    }
}
