//! Nodes, the wires between them and the virtual clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bt_fast::base::geometry::BLOCK_LEN;
use bt_fast::base::{Bitfield, BlockRef, Geometry, PieceIndex, Rng, Time, limits};
use bt_fast::codec::message::{Bounds, Decoded, PIECE_HEAD_LEN, decode, encode_piece_head};
use bt_fast::peer::{Opening, PeerFault, Setup, Transmit};
use bt_fast::swarm::choker::Slots;
use bt_fast::swarm::{Link, OpenPiece, PeerShared, Swarm};

use super::node::Node;
use super::slot::{CountingSlot, Landed, payload};

/// As the engine's threads look at time-outs, and at choking.
const TICK: Duration = Duration::from_millis(250);
const CONTROL_TICK: Duration = Duration::from_millis(50);
/// What hashing and writing a piece takes on a fast disk.
const HASH_TIME: Duration = Duration::from_millis(2);

/// One direction of a wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// Bytes per second.
    pub(super) rate: u64,
    pub(super) delay: Duration,
}

pub(super) const LAN: Line = Line { rate: 10_000_000, delay: Duration::from_millis(2) };

/// How one end of a connection is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    pub(super) node: usize,
    pub(super) fast: bool,
    pub(super) extension: bool,
    /// What leaves here.
    pub(super) line: Line,
    /// Requests are taken and never answered with a block.
    pub(super) silent: bool,
}

impl Side {
    pub(super) fn of(node: usize) -> Self {
        Self { node, fast: true, extension: true, line: LAN, silent: false }
    }
}

/// One end of a connection.
pub(super) struct End {
    pub(super) node: usize,
    pub(super) link: Link<CountingSlot>,
    line: Line,
    silent: bool,
    /// Received and not whole yet.
    inbox: Vec<u8>,
    sending: bool,
}

enum Event {
    /// Bytes reach this end.
    Deliver(usize, Vec<u8>),
    /// This end's batch with this much payload has left.
    Sent(usize, u64),
    Hashed(usize, Arc<OpenPiece<CountingSlot>>),
    Tick,
    Control,
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) rng: Rng,
    pub(super) nodes: Vec<Node>,
    /// Both ends of connection `i` are `2 * i` and `2 * i + 1`; `None` when it has ended.
    pub(super) ends: Vec<Option<End>>,
    pub(super) faults: Vec<PeerFault>,
    /// Longest run of bytes that arrives in one piece.
    pub(super) split_max: usize,
    /// What hashing and writing a piece takes.
    pub(super) write_time: Duration,
    geometry: Arc<Geometry>,
    queue: BinaryHeap<Reverse<(Time, u64, usize)>>,
    events: Vec<Option<Event>>,
    next_key: u32,
}

impl World {
    pub(super) fn new(seed: u64, geometry: Geometry) -> Self {
        let mut world = Self {
            // Not zero, so that "long ago" is possible.
            now: Duration::from_secs(1000),
            rng: Rng::with_seed(seed),
            nodes: Vec::new(),
            ends: Vec::new(),
            faults: Vec::new(),
            split_max: 64 << 10,
            write_time: HASH_TIME,
            geometry: Arc::new(geometry),
            queue: BinaryHeap::new(),
            events: Vec::new(),
            next_key: 1,
        };
        world.schedule(Duration::ZERO, Event::Tick);
        world.schedule(Duration::ZERO, Event::Control);
        world
    }

    /// Adds a node with these pieces and this many arena slots; returns its number.
    pub(super) fn add_node(&mut self, have: &Bitfield, slot_count: usize, upload_slots: Slots) -> usize {
        let slots = (0..slot_count).map(|_| CountingSlot::default()).collect();
        let swarm = Swarm::new(self.geometry.clone(), have, slots, &mut self.rng);
        self.nodes.push(Node::new(Arc::new(swarm), upload_slots, self.now));
        self.nodes.len() - 1
    }

    pub(super) fn add_origin(&mut self) -> usize {
        let have = Bitfield::full(self.geometry.piece_count());
        self.add_node(&have, 0, Slots::Count(limits::UPLOAD_SLOTS_SEED))
    }

    pub(super) fn add_leecher(&mut self, slot_count: usize) -> usize {
        let have = Bitfield::new(self.geometry.piece_count());
        self.add_node(&have, slot_count, Slots::Count(limits::UPLOAD_SLOTS_GET))
    }

    /// Connects two nodes whose handshakes are done; returns the number of the first end, the other is the next.
    pub(super) fn connect(&mut self, sides: [Side; 2]) -> usize {
        let first = self.ends.len();
        let fast = sides.iter().all(|side| side.fast);
        let extension = sides.iter().all(|side| side.extension);
        for (side, other) in [(sides[0], sides[1]), (sides[1], sides[0])] {
            let address = ([10, 0, 0, u8::try_from(other.node).unwrap()], 6881).into();
            let shared = Arc::new(PeerShared::new(self.next_key, address));
            self.next_key += 1;
            let setup = Setup {
                geometry: self.geometry.clone(),
                fast,
                extension,
                opening: Opening::None,
                listen_port: Some(6881),
                peer_ip: None,
                metadata: None,
            };
            let node = &mut self.nodes[side.node];
            let link = Link::new(setup, node.swarm.clone(), shared.clone(), self.now);
            node.peers.push(shared);
            let Side { node, line, silent, .. } = side;
            self.ends.push(Some(End { node, link, line, silent, inbox: Vec::new(), sending: false }));
        }
        self.wake(first);
        self.wake(first + 1);
        first
    }

    /// Ends a connection, for both sides at once; what is on the way is lost.
    pub(super) fn disconnect(&mut self, end: usize) {
        for end in [end, end ^ 1] {
            if let Some(end) = self.ends[end].take() {
                let key = end.link.shared().key;
                self.nodes[end.node].peers.retain(|peer| peer.key != key);
            }
        }
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        let sequence = self.events.len();
        self.queue.push(Reverse((self.now + after, sequence as u64, sequence)));
        self.events.push(Some(event));
    }

    /// Runs until `done`, or panics after `limit` of virtual time.
    pub(super) fn run(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = self.now + limit;
        while !done(self) {
            let Reverse((at, _, sequence)) = self.queue.pop().unwrap();
            self.now = at;
            assert!(at <= deadline, "not done after {limit:?}:\n{}", self.describe());
            match self.events[sequence].take().unwrap() {
                Event::Deliver(end, bytes) => self.deliver(end, &bytes),
                Event::Sent(end, len) => self.handle_sent(end, len),
                Event::Hashed(node, open) => self.handle_hashed(node, &open),
                Event::Tick => self.tick(),
                Event::Control => self.steer(),
            }
        }
    }

    /// Runs until these nodes have everything.
    pub(super) fn run_until_complete(&mut self, nodes: &[usize], limit: Duration) -> Duration {
        let start = self.now;
        let mut waiting = nodes.to_vec();
        self.run(limit, |world| {
            waiting.retain(|&node| !world.nodes[node].swarm.pieces.is_complete());
            waiting.is_empty()
        });
        self.now - start
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.run(time + TICK, |world| world.now >= end);
    }

    fn describe(&self) -> String {
        let nodes = self.nodes.iter().enumerate().map(|(at, node)| format!("node {at}: {}\n", node.describe()));
        let ends = self.ends.iter().flatten().map(|end| {
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

    fn deliver(&mut self, at: usize, bytes: &[u8]) {
        let Some(end) = &mut self.ends[at] else { return };
        end.inbox.extend_from_slice(bytes);
        if let Err(fault) = self.handle_received(at) {
            self.handle_fault(at, fault);
            return;
        }
        self.wake(at);
    }

    fn handle_fault(&mut self, end: usize, fault: PeerFault) {
        self.faults.push(fault);
        self.disconnect(end);
    }

    /// The engine's reader.
    fn handle_received(&mut self, at: usize) -> Result<(), PeerFault> {
        let now = self.now;
        let bounds = Bounds { piece_count: self.geometry.piece_count(), block_len_max: BLOCK_LEN };
        let Some(end) = &mut self.ends[at] else { return Ok(()) };
        let inbox = std::mem::take(&mut end.inbox);
        let mut from = 0;
        let mut complete = Vec::new();
        while from < inbox.len() {
            match decode(&inbox[from..], &bounds)? {
                Decoded::Incomplete { .. } => break,
                Decoded::Message { message, consumed } => {
                    end.link.handle_message(now, &message)?;
                    from += consumed;
                }
                Decoded::Piece { index, begin, length } => {
                    let block_end = from + PIECE_HEAD_LEN + length as usize;
                    let Some(bytes) = inbox.get(from + PIECE_HEAD_LEN..block_end) else { break };
                    let arrival = end.link.handle_block(now, index, begin, length)?;
                    let landed =
                        arrival.open.as_ref().map_or(Landed::Duplicate, |open| open.slot().land(arrival.block, bytes));
                    end.link.handle_landed(&arrival, landed != Landed::Duplicate);
                    complete.extend(arrival.open.filter(|_| landed == Landed::Complete));
                    from = block_end;
                }
            }
        }
        end.inbox = inbox[from..].to_vec();
        end.link.handle_bytes(now);
        end.link.sync(now)?;
        end.link.request_blocks(now);
        let node = end.node;
        self.check(at);
        complete.into_iter().for_each(|open| self.schedule(self.write_time, Event::Hashed(node, open)));
        Ok(())
    }

    /// From now on this end answers requests, or does not.
    pub(super) fn set_silent(&mut self, at: usize, silent: bool) {
        if let Some(end) = &mut self.ends[at] {
            end.silent = silent;
        }
        self.wake(at);
    }

    /// The engine's writer looks whether there is something to send.
    pub(super) fn wake(&mut self, at: usize) {
        let now = self.now;
        let Some(end) = &mut self.ends[at] else { return };
        if end.sending {
            return;
        }
        if let Err(fault) = end.link.sync(now) {
            return self.handle_fault(at, fault);
        }
        end.link.request_blocks(now);
        let mut transmit = Transmit::default();
        let silent = end.silent;
        let something = end.link.poll_transmit(now, &mut transmit, |_| !silent);
        self.check(at);
        if something {
            self.send(at, &transmit);
        }
    }

    fn send(&mut self, at: usize, transmit: &Transmit) {
        let Some(end) = &mut self.ends[at] else { return };
        end.sending = true;
        let (node, line) = (end.node, end.line);
        let mut bytes = transmit.control.clone();
        let mut payload_len = 0;
        for &block in &transmit.blocks {
            self.nodes[node].served[block.piece.at()] += 1;
            bytes.extend_from_slice(&encode_piece_head(block.piece.get(), block.begin, block.len));
            bytes.extend_from_slice(&self.content(node, block));
            payload_len += u64::from(block.len);
        }
        let time = |len: usize, rate: u64| Duration::from_nanos(len as u64 * 1_000_000_000 / rate);
        // The node's uplink is one queue of batches; the line is behind it.
        let start = self.now.max(self.nodes[node].uplink_free_at);
        let uplink_end = start + time(bytes.len(), self.nodes[node].uplink_rate);
        self.nodes[node].uplink_free_at = uplink_end;
        let wait = start - self.now;
        let duration = time(bytes.len(), line.rate).max(uplink_end - start);
        let (mut sent, total) = (0, bytes.len());
        while sent < total {
            let len = self.rng.usize(1..=self.split_max).min(total - sent);
            let chunk = bytes[sent..sent + len].to_vec();
            sent += len;
            let share = u32::try_from(sent).unwrap();
            let after = wait + duration * share / u32::try_from(total).unwrap() + line.delay;
            self.schedule(after, Event::Deliver(at ^ 1, chunk));
        }
        self.schedule(wait + duration, Event::Sent(at, payload_len));
    }

    /// What this node sends for a block.
    fn content(&mut self, node: usize, block: BlockRef) -> Vec<u8> {
        let mut bytes = payload(block);
        if self.nodes[node].corrupts > 0.0 && self.rng.f64() < self.nodes[node].corrupts {
            bytes[0] ^= 1;
        }
        bytes
    }

    fn handle_sent(&mut self, at: usize, len: u64) {
        if let Some(end) = &mut self.ends[at] {
            end.sending = false;
            end.link.handle_sent(len);
            self.wake(at);
        }
    }

    /// The hash of a complete piece is known; what is right is written at once.
    fn handle_hashed(&mut self, node: usize, open: &OpenPiece<CountingSlot>) {
        let Node { swarm, .. } = &self.nodes[node];
        if open.slot().is_right() {
            assert!(!swarm.pieces.has(open.piece()), "received twice");
            swarm.pieces.handle_written(open);
        } else {
            let verdict = swarm.pieces.handle_wrong(open);
            swarm.reorder(&mut self.rng);
            let senders = verdict.senders.iter().map(|sender| usize::from(node_of(sender)));
            self.nodes[node].blamed.extend(senders);
        }
        self.spread_news(node);
    }

    /// Every connection of a node looks at what is new.
    pub(super) fn spread_news(&mut self, node: usize) {
        for at in 0..self.ends.len() {
            if self.ends[at].as_ref().is_some_and(|end| end.node == node) {
                self.wake(at);
            }
        }
    }

    fn tick(&mut self) {
        for at in 0..self.ends.len() {
            let now = self.now;
            let Some(end) = self.ends[at].as_mut().filter(|end| now >= end.link.poll_timeout()) else { continue };
            match end.link.handle_timeout(now) {
                Ok(()) => self.wake(at),
                Err(fault) => self.handle_fault(at, fault),
            }
        }
        self.schedule(TICK, Event::Tick);
    }

    fn steer(&mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].steer(self.now, &mut self.rng) {
                self.spread_news(node);
            }
        }
        self.schedule(CONTROL_TICK, Event::Control);
    }

    /// What is true after every step.
    fn check(&self, at: usize) {
        let Some(end) = &self.ends[at] else { return };
        let connection = end.link.connection();
        let pieces = &self.nodes[end.node].swarm.pieces;
        if !connection.is_backlogged() {
            let lacked = |piece: PieceIndex| !pieces.has(piece) && connection.peer_have().contains(piece);
            // BEP 3: "Interest state must be kept up to date at all times".
            assert_eq!(connection.am_interested(), self.geometry.pieces().any(lacked), "interest of end {at}");
        }
        let void = connection.peer_choking() && !connection.is_fast();
        assert!(!void || connection.outstanding_count() == 0, "end {at} waits for a peer that chokes it");
        assert!(connection.outstanding_count() <= limits::REQUESTS_OUT_MAX);
    }

    /// Drops all connections and looks whether anything is left over.
    pub(super) fn finish(mut self) {
        for at in 0..self.ends.len() {
            self.disconnect(at);
        }
        self.events.clear();
        for (at, node) in self.nodes.iter().enumerate() {
            let Swarm { pieces, availability, .. } = &*node.swarm;
            assert_eq!(pieces.free_slots(), node.slot_count, "slots of node {at}");
            let counted = self.geometry.pieces().map(|piece| availability.of(piece)).sum::<u32>();
            assert_eq!(counted, 0, "availability at node {at}");
        }
    }

    /// Blocks that came twice or in vain, on average over these nodes.
    pub(super) fn wasted_blocks(&self, nodes: &[usize]) -> f64 {
        let wasted: u64 = nodes.iter().map(|&node| self.nodes[node].swarm.totals.wasted.load(Ordering::Relaxed)).sum();
        wasted as f64 / f64::from(BLOCK_LEN) / nodes.len() as f64
    }

    /// Copies of the content that a node has sent.
    pub(super) fn copies(&self, node: usize) -> f64 {
        let uploaded = self.nodes[node].swarm.totals.uploaded.load(Ordering::Relaxed);
        uploaded as f64 / self.geometry.total_len() as f64
    }
}

fn node_of(peer: &PeerShared) -> u8 {
    match peer.address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => u8::MAX,
    }
}
