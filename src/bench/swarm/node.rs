//! One client of the simulation: its state, and the choking that the engine's control thread does. `events` processes
//! the events of a node.

pub(super) mod events;
mod member;
mod misbehavior;

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::counting_buffer::CountingBuffer;
use super::disk::Disk;
use super::wire::{Batch, End, EndId, Event, Queue};
use crate::base::{Rng, Time, limits};
use crate::peer::PeerFault;
use crate::swarm::choker::Slots;
use crate::swarm::torrent_control::TorrentControl;
use crate::swarm::{HashOutcome, PeerShared, Swarm, Verdict};

use member::Member;

/// Protocol misbehavior of a hostile node. Corrupt blocks and silence are separate fields of [`Settings`].
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
    /// Sends a flood of control messages.
    Floods,
    /// Closes the connection in the middle of a batch.
    HangsUp,
    /// Sends random bytes.
    Noise,
    /// Requests blocks that do not exist.
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

/// A node: a client with its disk, its access link and its connections.
#[derive(Debug)]
pub struct Node {
    /// The index of the node in its world.
    pub at: usize,
    pub now: Time,
    pub swarm: Arc<Swarm<CountingBuffer>>,
    /// The number of piece buffers.
    pub buffer_count: usize,
    pub settings: Settings,
    pub disk: Disk,
    /// A write failed: the node has left the swarm until it is restarted.
    pub failed: bool,
    pub connections: Connections,
    /// `None`: the test decides which peers are choked.
    pub control: Option<TorrentControl>,
    pub record: Record,
    pub effort: Effort,
    pub(super) member: Option<Member>,
    pub(super) access: Access,
    pub(super) timers: Timers,
    pub(super) rng: Rng,
}

/// The properties of a node. A test or scenario may change them at any time.
#[derive(Debug)]
pub struct Settings {
    /// Bytes per second, over all connections.
    pub uplink_rate: u64,
    pub downlink_rate: u64,
    /// The node supports the Fast extension (BEP 6).
    pub fast: bool,
    /// The share of sent blocks that are corrupt, from 0 to 1.
    pub corrupt_share: f64,
    /// The node accepts requests and answers none.
    pub silent: bool,
    pub misbehavior: Option<Misbehavior>,
    /// The node sends and receives nothing before this time.
    pub link_down_until: Time,
}

/// The node's ends of its connections.
#[derive(Debug, Default)]
pub struct Connections {
    /// The shared state of each connected peer.
    pub peers: Vec<Arc<PeerShared>>,
    /// All ends by number; `None` after the connection has ended. A number is never used again.
    pub(super) ends: Vec<Option<Box<End>>>,
    /// The numbers of the open ends, unordered.
    pub(super) open: Vec<usize>,
    /// The node at the other end of each ended connection, until the world has counted it.
    pub(super) closed_peers: Vec<usize>,
}

/// The link between the node and the network, which all connections share.
#[derive(Debug, Default)]
pub(super) struct Access {
    pub(super) uplink_busy: bool,
    /// Ends that have blocks to send, in the order of their turns on the uplink.
    pub(super) ready: VecDeque<usize>,
    /// The time until which the downlink is busy, in nanoseconds.
    pub(super) downlink_free_at: u64,
    /// Batches for reuse.
    #[expect(clippy::vec_box, reason = "a batch moves from node to node in its box")]
    pub(super) spare: Vec<Box<Batch>>,
}

/// Observations of the node, for assertions and figures.
#[derive(Debug, Default)]
pub struct Record {
    /// The number of blocks sent, by piece.
    pub served: Vec<u32>,
    /// Nodes that contributed to pieces which failed their hash at this node.
    pub blamed: BTreeSet<usize>,
    /// Nodes that this node banned.
    pub banned: BTreeSet<usize>,
    /// The faults that ended connections at this node, each with the node at the other end.
    pub faults: Vec<(usize, PeerFault)>,
    /// The time at which the node was complete for the first time.
    pub completed_at: Option<Time>,
}

/// The events of a node.
#[derive(Debug)]
pub(super) struct Timers {
    pub(super) queue: Queue,
    /// An [`Event::FlushHaves`] is scheduled.
    pub(super) flush_due: bool,
    /// An [`Event::ControlWoken`] is scheduled.
    pub(super) control_woken: bool,
    checkpoint_at: Time,
    /// Used without a [`TorrentControl`], which sorts the missing pieces itself.
    reorder_at: Time,
}

/// Counts of the work of a node.
#[derive(Debug, Default, Clone, Copy)]
pub struct Effort {
    /// Bytes of control messages sent.
    pub control_len: u64,
    /// Messages received, blocks included.
    pub messages: u64,
    /// Events processed.
    pub events: u64,
    /// Connections opened or accepted.
    pub connections: u64,
    /// The sum of [`crate::swarm::Link::candidates_examined`] over ended connections.
    pub candidates_examined: u64,
}

impl Node {
    pub(super) fn new(
        at: usize,
        swarm: Arc<Swarm<CountingBuffer>>,
        disk: Disk,
        upload_slots: Slots,
        now: Time,
        rng: Rng,
    ) -> Self {
        let mut queue = Queue::new(at);
        [Event::Tick, Event::Control].into_iter().for_each(|event| queue.schedule(nanos(now), event));
        let settings = Settings {
            uplink_rate: 1_000_000_000,
            downlink_rate: 10_000_000_000,
            fast: true,
            corrupt_share: 0.0,
            silent: false,
            misbehavior: None,
            link_down_until: Time::ZERO,
        };
        let served = vec![0; swarm.geometry.piece_count() as usize];
        Self {
            at,
            now,
            control: Some(TorrentControl::new(upload_slots, &swarm, now)),
            buffer_count: swarm.pieces.free_buffers(),
            swarm,
            settings,
            disk,
            failed: false,
            connections: Connections::default(),
            record: Record { served, ..Record::default() },
            effort: Effort::default(),
            member: None,
            access: Access::default(),
            timers: Timers { queue, flush_due: false, control_woken: false, checkpoint_at: now, reorder_at: now },
            rng,
        }
    }

    /// Starts to find peers by the trackers of `tiers`.
    pub(super) fn join(&mut self, tiers: Vec<Vec<String>>, rng: &mut Rng) {
        let complete = self.swarm.pieces.is_complete();
        self.member = Some(Member::new(tiers, complete, rng));
    }

    /// Returns the number of open connections.
    pub fn open_count(&self) -> usize {
        self.connections.open.len()
    }

    /// Returns the sum of [`crate::swarm::Link::candidates_examined`] over all connections.
    pub fn candidates_examined(&self) -> u64 {
        self.effort.candidates_examined
            + self.connections.ends.iter().flatten().map(|end| end.link.candidates_examined()).sum::<u64>()
    }

    /// Returns the number of peers ranked to decide which are unchoked.
    pub fn ranked(&self) -> u64 {
        self.control.as_ref().map_or(0, |control| control.choke_driver().ranked_count())
    }

    /// Returns the number of chokes and unchokes.
    pub fn choke_changes(&self) -> u64 {
        self.control.as_ref().map_or(0, |control| control.choke_driver().change_count())
    }

    pub(super) fn describe(&self) -> String {
        let Swarm { pieces, geometry, .. } = &*self.swarm;
        format!(
            "has {} of {}, {} piece buffers free",
            pieces.have_count(),
            geometry.piece_count(),
            pieces.free_buffers()
        )
    }

    pub(super) fn end(&self, at: usize) -> Option<&End> {
        self.connections.ends.get(at)?.as_deref()
    }

    /// The choking part of a step of the control thread. Returns true if connections must apply changed choke
    /// decisions.
    pub(super) fn step_control(&mut self) -> bool {
        let now = self.now;
        if now >= self.timers.checkpoint_at {
            self.timers.checkpoint_at = now + limits::CHECKPOINT_INTERVAL_MIN;
            self.disk.checkpoint(&self.swarm.geometry);
        }
        let Self { control, swarm, connections, timers, rng, .. } = self;
        match control {
            Some(control) => control.step(now, swarm, &connections.peers, rng),
            None => {
                if now >= timers.reorder_at {
                    timers.reorder_at = now + limits::ORDER_INTERVAL;
                    swarm.reorder_if_changed(rng);
                }
                false
            }
        }
    }

    /// Replaces the process of the node by a new one that has the pieces of `swarm` and no peers.
    pub(super) fn restart(&mut self, swarm: Arc<Swarm<CountingBuffer>>, now: Time) {
        self.timers.queue.cancel_writes();
        self.swarm = swarm;
        self.control = self.control.take().map(|_| TorrentControl::new(Slots::Auto, &self.swarm, now));
        self.failed = false;
    }

    /// Ends the connection on this side only. Returns the other end.
    pub(super) fn close(&mut self, at: usize) -> Option<EndId> {
        let end = self.connections.ends.get_mut(at)?.take()?;
        let shared = end.link.shared();
        let traffic = shared.traffic();
        self.connections.peers.retain(|peer| peer.key() != shared.key());
        self.connections.open.retain(|&other| other != at);
        self.connections.closed_peers.push(end.peer.node);
        self.effort.candidates_examined += end.link.candidates_examined();
        if end.leaving.is_some() {
            self.access.uplink_busy = false;
        }
        if let Some(member) = &mut self.member {
            member.peer_list.handle_disconnected(self.now, shared.address(), traffic);
        }
        Some(end.peer)
    }

    /// Adjusts the trust in the senders of a hashed piece, and closes the connections of banned peers.
    fn judge(&mut self, verdict: &Verdict, outcome: HashOutcome) {
        let Some(member) = &mut self.member else { return };
        for ip in member.peer_list.judge(verdict, outcome) {
            for peer in self.connections.peers.iter().filter(|peer| peer.address().ip() == ip) {
                peer.request_close();
                self.record.banned.insert(node_of(peer.address()));
            }
        }
    }
}

pub(super) fn nanos(time: Time) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns the address at which a node listens.
pub(super) fn address_of(node: usize) -> SocketAddr {
    let bits = 0x0a00_0000 | u32::try_from(node).unwrap_or(0);
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(bits)), 6881)
}

/// Returns the node that listens at `address`, or `usize::MAX` if no node can have this address.
pub(super) fn node_of(address: SocketAddr) -> usize {
    match address.ip() {
        IpAddr::V4(ip) if ip.octets()[0] == 10 => (ip.to_bits() & 0x00ff_ffff) as usize,
        _ => usize::MAX,
    }
}
