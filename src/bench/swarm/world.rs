//! Nodes, the connections between them and the virtual clock.
//!
//! Each node has an uplink, which its connections share batch by batch in turn, and a downlink, which carries batches
//! in the order of their arrival. The bytes in flight of a connection are limited, as by socket buffers.
//!
//! Time advances in windows that are not longer than the shortest delay of a line. An event at a node affects other
//! nodes in a later window at the earliest. All cores can therefore process nodes in parallel, and a run still depends
//! on its seed only.

mod membership;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rayon::prelude::*;

use super::counting_buffer::CountingBuffer;
use super::disk::Disk;
use super::node::events::{CONTROL_TICK, Environment};
use super::node::{Node, address_of, nanos};
use super::trackers::Trackers;
use super::wire::{End, EndId, Line, Post, Side};
use crate::base::geometry::BLOCK_LEN;
use crate::base::{Bitfield, Geometry, Rng, Time};
use crate::peer::{InitialHave, PeerFault, Setup};
use crate::swarm::choker::Slots;
use crate::swarm::{Link, PeerShared, Swarm};

/// The default of [`World::write_time`]: a fast disk.
const WRITE_TIME: Duration = Duration::from_millis(2);
/// The limit of bytes in flight of a connection, in addition to the bandwidth-delay product.
const IN_FLIGHT_MIN: u64 = 512 << 10;
/// The virtual time at the start. Not zero, so that earlier times exist.
const START: Duration = Duration::from_secs(1000);
/// The longest window.
const WINDOW_MAX: Duration = Duration::from_millis(1);
/// Fewer nodes with events than this are processed on one thread.
const PARALLEL_MIN: usize = 32;
/// The number of neighboring nodes that one thread processes at a time.
const CHUNK_LEN: usize = 8;

/// A simulated network of nodes with its trackers and virtual clock.
#[derive(Debug)]
pub struct World {
    pub now: Time,
    pub rng: Rng,
    pub nodes: Vec<Node>,
    /// Control bytes arrive in chunks of random length, at least one byte.
    pub split: bool,
    /// Check the invariants of a connection after every step, which is slow.
    pub checked: bool,
    /// The time to hash and write a piece.
    pub write_time: Duration,
    pub(super) geometry: Arc<Geometry>,
    pub trackers: Trackers,
    /// The number of open ends between each pair of nodes.
    pub(super) connected: HashMap<(usize, usize), usize>,
    /// Both ends of each connection n. [`World::end`] numbers them 2n and 2n + 1.
    wires: Vec<[EndId; 2]>,
    post: Post,
    window: u64,
    control_at: u64,
    next_key: u32,
}

/// Returns the limit of bytes in flight: it grows with the bandwidth-delay product, and is at most
/// the bytes of half a second.
fn in_flight_max(line: Line, uplink_rate: u64) -> u64 {
    let rate = line.rate.min(uplink_rate);
    let on_the_way = u128::from(rate) * 2 * line.delay.as_nanos() / 1_000_000_000;
    (IN_FLIGHT_MIN + u64::try_from(on_the_way).unwrap_or(0)).min(rate / 2).max(1)
}

fn pair_of(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl World {
    pub fn new(seed: u64, geometry: Geometry) -> Self {
        Self {
            now: START,
            rng: Rng::with_seed(seed),
            nodes: Vec::new(),
            split: false,
            checked: false,
            write_time: WRITE_TIME,
            geometry: Arc::new(geometry),
            trackers: Trackers::new(),
            connected: HashMap::new(),
            wires: Vec::new(),
            post: Post::default(),
            window: nanos(WINDOW_MAX),
            control_at: nanos(START),
            next_key: 1,
        }
    }

    /// Adds a node with these pieces and this many piece buffers. Returns its index.
    pub fn add_node(&mut self, have: &Bitfield, buffer_count: usize, upload_slots: Slots) -> usize {
        let mut rng = self.rng.fork();
        let swarm = self.swarm(have, buffer_count, &mut rng);
        let at = self.nodes.len();
        self.nodes.push(Node::new(at, swarm, Disk::new(have), upload_slots, self.now, rng));
        self.post.add_node();
        self.post.wait(at, &self.nodes[at].timers.queue);
        at
    }

    pub(super) fn swarm(&self, have: &Bitfield, buffer_count: usize, rng: &mut Rng) -> Arc<Swarm<CountingBuffer>> {
        let buffers = (0..buffer_count).map(|_| CountingBuffer::default()).collect();
        Arc::new(Swarm::new(self.geometry.clone(), have, buffers, rng))
    }

    pub fn add_origin(&mut self) -> usize {
        let have = Bitfield::full(self.geometry.piece_count());
        self.add_node(&have, 0, Slots::Auto)
    }

    pub fn add_leecher(&mut self, buffer_count: usize) -> usize {
        let have = Bitfield::new(self.geometry.piece_count());
        self.add_node(&have, buffer_count, Slots::Auto)
    }

    /// Connects two nodes, with the handshakes already exchanged. Returns the number of the first end; the second has
    /// the next number.
    pub fn connect(&mut self, sides: [Side; 2]) -> usize {
        let fast = sides.iter().all(|side| side.fast);
        let extension = sides.iter().all(|side| side.extension);
        let end_id = |side: Side| EndId { node: side.node, end: self.nodes[side.node].connections.ends.len() };
        let end_ids = sides.map(end_id);
        for (side, peer) in [(sides[0], end_ids[1]), (sides[1], end_ids[0])] {
            let shared = Arc::new(PeerShared::new(self.next_key, address_of(peer.node)));
            self.next_key += 1;
            let setup = Setup {
                geometry: self.geometry.clone(),
                fast,
                extension,
                have: InitialHave::None,
                upload_only: false,
                info_hash: None,
                listen_port: Some(6881),
                peer_ip: None,
                metadata: None,
                streams: None,
            };
            self.window = self.window.min(nanos(side.line.delay)).max(1);
            let Side { node: at, line, silent, .. } = side;
            let node = &mut self.nodes[at];
            let link = Link::new(setup, node.swarm.clone(), shared.clone(), self.now);
            node.connections.peers.push(shared);
            node.effort.connections += 1;
            node.connections.open.push(node.connections.ends.len());
            let end = End {
                node: at,
                link,
                peer,
                line,
                silent: silent || node.settings.silent,
                torn: false,
                inbox: Vec::new(),
                leaving: None,
                ready: false,
                in_flight: 0,
                in_flight_max: in_flight_max(line, node.settings.uplink_rate),
                line_free_at: 0,
                delivered_at: 0,
                undelivered: 0,
            };
            node.connections.ends.push(Some(Box::new(end)));
        }
        *self.connected.entry(pair_of(sides[0].node, sides[1].node)).or_default() += 2;
        self.wires.push(end_ids);
        for end_id in end_ids {
            self.with_node(end_id.node, |node, env| node.wake(env, end_id.end));
        }
        2 * self.wires.len() - 2
    }

    /// Calls `action` on a node at the current time.
    fn with_node(&mut self, node: usize, action: impl FnOnce(&mut Node, &Environment<'_>)) {
        let Self { geometry, post, nodes, now, .. } = self;
        let env = Environment { geometry, post, split: self.split, checked: self.checked, write_time: self.write_time };
        let node = &mut nodes[node];
        node.now = *now;
        action(node, &env);
        post.wait(node.at, &node.timers.queue);
    }

    fn end_id(&self, end: usize) -> EndId {
        self.wires[end / 2][end % 2]
    }

    /// Returns the end with this number; `None` if its connection has ended.
    pub fn end(&self, end: usize) -> Option<&End> {
        let end_id = self.end_id(end);
        self.nodes[end_id.node].end(end_id.end)
    }

    /// Returns all open ends.
    pub fn ends(&self) -> impl Iterator<Item = &End> {
        (0..self.end_count()).filter_map(|end| self.end(end))
    }

    pub fn end_count(&self) -> usize {
        2 * self.wires.len()
    }

    /// Returns the faults that ended connections, of all nodes.
    pub fn faults(&self) -> impl Iterator<Item = &PeerFault> {
        self.nodes.iter().flat_map(|node| &node.record.faults).map(|(_, fault)| fault)
    }

    /// Ends a connection on both sides at once. Batches in flight are lost.
    pub fn disconnect(&mut self, end: usize) {
        for end_id in [self.end_id(end), self.end_id(end ^ 1)] {
            self.close_end(end_id);
        }
    }

    pub(super) fn close_end(&mut self, end_id: EndId) {
        self.with_node(end_id.node, |node, env| {
            node.close(end_id.end);
            node.start_next(env);
        });
    }

    /// Breaks a connection in the middle of the next batch from this end.
    pub fn tear(&mut self, end: usize) {
        let end_id = self.end_id(end);
        if let Some(Some(end)) = self.nodes[end_id.node].connections.ends.get_mut(end_id.end) {
            end.torn = true;
        }
    }

    /// Sets whether this end leaves requests unanswered.
    pub fn set_silent(&mut self, end: usize, silent: bool) {
        let end_id = self.end_id(end);
        self.with_node(end_id.node, |node, env| {
            if let Some(Some(end)) = node.connections.ends.get_mut(end_id.end) {
                end.silent = silent;
            }
            node.wake(env, end_id.end);
        });
    }

    /// Sends pending haves and choke decisions on all connections of a node.
    pub fn flush_haves_all(&mut self, node: usize) {
        self.with_node(node, Node::flush_haves_all);
    }

    /// Runs until `done`, which is called after each window, returns true. Returns false after `limit` of virtual time.
    pub fn run_while(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let deadline = nanos(self.now + limit);
        while !done(self) {
            let next = self.post.next_at();
            if self.control_at <= next.min(deadline) {
                self.now = Duration::from_nanos(self.control_at);
                self.control();
                continue;
            }
            if next > deadline {
                self.now = Duration::from_nanos(deadline);
                return false;
            }
            let until = (next + self.window).min(self.control_at).min(deadline + 1);
            self.advance_nodes(until);
            self.now = Duration::from_nanos(until.min(deadline));
        }
        true
    }

    /// Processes the events of all nodes before `until`, in nanoseconds.
    fn advance_nodes(&mut self, until: u64) {
        let Self { geometry, post, nodes, .. } = self;
        let env = Environment { geometry, post, split: self.split, checked: self.checked, write_time: self.write_time };
        let process = |nodes: &mut [Node]| {
            for node in nodes.iter_mut().filter(|node| post.is_due(node.at, until)) {
                node.process_events(&env, until);
            }
        };
        if post.due_count(until) < PARALLEL_MIN {
            process(nodes);
        } else {
            nodes.par_chunks_mut(CHUNK_LEN).for_each(process);
        }
    }

    /// The part of the control threads that involves other nodes: counts closed connections, announces and dials.
    fn control(&mut self) {
        for at in 0..self.nodes.len() {
            for other in std::mem::take(&mut self.nodes[at].connections.closed_peers) {
                let pair = pair_of(at, other);
                let left = self.connected.get(&pair).map_or(0, |open| open - 1);
                if left > 0 {
                    self.connected.insert(pair, left);
                } else {
                    self.connected.remove(&pair);
                }
            }
        }
        for node in 0..self.nodes.len() {
            self.find_peers(node);
        }
        self.control_at += nanos(CONTROL_TICK);
    }

    /// Like [`World::run_while`], but panics after `limit`.
    pub fn run(&mut self, limit: Duration, done: impl FnMut(&mut Self) -> bool) {
        assert!(self.run_while(limit, done), "not done after {limit:?}:\n{}", self.describe());
    }

    /// Runs until these nodes are complete. Returns the virtual time that this took. Panics after `limit`.
    pub fn run_until_complete(&mut self, nodes: &[usize], limit: Duration) -> Duration {
        let start = self.now;
        let mut waiting = nodes.to_vec();
        self.run(limit, |world| {
            while waiting.last().is_some_and(|&node| world.nodes[node].swarm.pieces.is_complete()) {
                waiting.pop();
            }
            waiting.is_empty()
        });
        self.now - start
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run_while(time, |_| false);
    }

    pub fn describe(&self) -> String {
        let nodes = self.nodes.iter().enumerate().map(|(at, node)| format!("node {at}: {}\n", node.describe()));
        let ends = self.ends().take(200).map(|end| {
            let connection = end.link.connection();
            format!(
                "end of {}: interested {} choked {} outstanding {} queued {} snubbed {}\n",
                end.node,
                connection.am_interested(),
                connection.peer_choking(),
                connection.outstanding_count(),
                connection.queued().count(),
                connection.is_snubbed(),
            )
        });
        nodes.chain(ends).collect()
    }

    /// Ends all connections, then asserts that all piece buffers and availability counts are returned.
    pub fn finish(mut self) {
        for end in (0..self.end_count()).step_by(2) {
            self.disconnect(end);
        }
        for node in &mut self.nodes {
            self.post.fetch(node.at, &mut node.timers.queue);
            node.timers.queue.clear();
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let Swarm { pieces, availability, .. } = &*node.swarm;
            // An incomplete node may hold buffers of pieces in progress.
            let begun = if pieces.is_complete() { 0 } else { node.buffer_count };
            assert!(pieces.free_buffers() + begun >= node.buffer_count, "piece buffers of node {at}");
            let counted = self.geometry.pieces().map(|piece| availability.of(piece)).sum::<u32>();
            assert_eq!(counted, 0, "availability at node {at}");
        }
    }
}

impl World {
    /// Returns the number of redundant blocks, on average over these nodes.
    #[expect(clippy::cast_precision_loss, reason = "a measurement")]
    pub fn wasted_blocks(&self, nodes: &[usize]) -> f64 {
        let wasted: u64 = nodes.iter().map(|&node| self.nodes[node].swarm.totals.wasted.load(Ordering::Relaxed)).sum();
        wasted as f64 / f64::from(BLOCK_LEN) / nodes.len() as f64
    }

    /// Returns the bytes that a node has sent, as a multiple of the content length.
    #[expect(clippy::cast_precision_loss, reason = "a measurement")]
    pub fn copies(&self, node: usize) -> f64 {
        let uploaded = self.nodes[node].swarm.totals.uploaded.load(Ordering::Relaxed);
        uploaded as f64 / self.geometry.total_len() as f64
    }
}
