//! Nodes, the wires between them and the virtual clock.
//!
//! Each node has an uplink, which its connections share batch by batch in turn, and a downlink, which takes what comes in
//! order. A connection has so many bytes between the two as a socket has buffers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::node::{Node, address_of, node_of};
use super::slot::{CountingSlot, Landed};
use super::wire::{Batch, Batches, End, Event, Line, Queue, Side};
use crate::base::geometry::BLOCK_LEN;
use crate::base::{Bitfield, Geometry, PieceIndex, Rng, Time, limits};
use crate::codec::message::{Bounds, Decoded, PIECE_HEAD_LEN, decode};
use crate::peer::{Opening, PeerFault, Setup, Transmit};
use crate::swarm::choker::Slots;
use crate::swarm::{Link, OpenPiece, PeerShared, Swarm};
use crate::tracker::Table;

/// As the engine's threads look at time-outs, and at choking.
const TICK: Duration = Duration::from_millis(250);
const CONTROL_TICK: Duration = Duration::from_millis(50);
/// What hashing and writing a piece takes on a fast disk.
const HASH_TIME: Duration = Duration::from_millis(2);
/// Bytes of a connection between the uplink and the peer at most, beside what a round trip holds.
const IN_FLIGHT_MIN: u64 = 512 << 10;
/// A slow line takes no more at a time than it moves in this time, but a block; connections share an uplink more finely.
const BATCHES_PER_S: u64 = 20;
const UPLINK_TURNS_PER_S: u64 = 200;
/// A control thread that is woken acts this soon.
const CONTROL_WAKE: Duration = Duration::from_millis(1);
/// Every run starts here: not at zero, so that "long ago" is possible.
const START: Duration = Duration::from_secs(1000);

/// See the module.
#[derive(Debug)]
pub struct World {
    pub now: Time,
    pub rng: Rng,
    pub nodes: Vec<Node>,
    /// The two ends of a connection have the numbers 2n and 2n + 1; `None` when it has ended.
    pub ends: Vec<Option<End>>,
    pub faults: Vec<PeerFault>,
    /// Control bytes arrive in pieces of random length, one byte at least.
    pub split: bool,
    /// What must hold after every step is looked at, which takes its time.
    pub checked: bool,
    /// What hashing and writing a piece takes.
    pub write_time: Duration,
    pub(super) geometry: Arc<Geometry>,
    pub(super) table: Table,
    pub(super) connected: HashMap<(usize, usize), usize>,
    queue: Queue,
    batches: Batches,
    next_key: u32,
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What so many bytes take at this rate, in nanoseconds.
fn transfer_nanos(len: u64, rate: u64) -> u64 {
    len.saturating_mul(1_000_000_000) / rate.max(1)
}

/// A socket's buffers grow with what is on the way, and hold half a second of a slow line.
fn in_flight_max(line: Line, uplink_rate: u64) -> u64 {
    let rate = line.rate.min(uplink_rate);
    let on_the_way = u128::from(rate) * 2 * line.delay.as_nanos() / 1_000_000_000;
    (IN_FLIGHT_MIN + u64::try_from(on_the_way).unwrap_or(0)).min(rate / 2).max(1)
}

impl World {
    pub fn new(seed: u64, geometry: Geometry) -> Self {
        let mut world = Self {
            now: START,
            rng: Rng::with_seed(seed),
            nodes: Vec::new(),
            ends: Vec::new(),
            faults: Vec::new(),
            split: false,
            checked: false,
            write_time: HASH_TIME,
            geometry: Arc::new(geometry),
            table: Table::open(),
            connected: HashMap::new(),
            queue: Queue::default(),
            batches: Batches::default(),
            next_key: 1,
        };
        world.schedule(Duration::ZERO, Event::Tick);
        world.schedule(Duration::ZERO, Event::Control);
        world
    }

    /// Adds a node with these pieces and this many arena slots; returns its number.
    pub fn add_node(&mut self, have: &Bitfield, slot_count: usize, upload_slots: Slots) -> usize {
        let slots = (0..slot_count).map(|_| CountingSlot::default()).collect();
        let swarm = Swarm::new(self.geometry.clone(), have, slots, &mut self.rng);
        self.nodes.push(Node::new(Arc::new(swarm), upload_slots, self.now));
        self.nodes.len() - 1
    }

    pub fn add_origin(&mut self) -> usize {
        let have = Bitfield::full(self.geometry.piece_count());
        self.add_node(&have, 0, Slots::Auto)
    }

    pub fn add_leecher(&mut self, slot_count: usize) -> usize {
        let have = Bitfield::new(self.geometry.piece_count());
        self.add_node(&have, slot_count, Slots::Auto)
    }

    /// Connects two nodes whose handshakes are done; returns the number of the first end, the other is the next.
    pub fn connect(&mut self, sides: [Side; 2]) -> usize {
        let first = self.ends.len();
        let fast = sides.iter().all(|side| side.fast);
        let extension = sides.iter().all(|side| side.extension);
        for (side, other) in [(sides[0], sides[1]), (sides[1], sides[0])] {
            let shared = Arc::new(PeerShared::new(self.next_key, address_of(other.node)));
            self.next_key += 1;
            let setup = Setup {
                geometry: self.geometry.clone(),
                fast,
                extension,
                opening: Opening::None,
                upload_only: false,
                info_hash: None,
                listen_port: Some(6881),
                peer_ip: None,
                metadata: None,
            };
            let node = &mut self.nodes[side.node];
            let link = Link::new(setup, node.swarm.clone(), shared.clone(), self.now);
            node.peers.push(shared);
            node.connection_count += 1;
            node.ends.push(self.ends.len());
            let Side { node, line, silent, .. } = side;
            self.ends.push(Some(End {
                node,
                link,
                line,
                silent: silent || self.nodes[node].silent,
                inbox: Vec::new(),
                sending: false,
                ready: false,
                in_flight: 0,
                in_flight_max: in_flight_max(line, self.nodes[node].uplink_rate),
                line_free_at: 0,
                delivered_at: 0,
            }));
        }
        let pair = (sides[0].node.min(sides[1].node), sides[0].node.max(sides[1].node));
        self.connected.insert(pair, first);
        self.wake(first);
        self.wake(first + 1);
        first
    }

    /// Ends a connection, for both sides at once; what is on the way is lost.
    pub fn disconnect(&mut self, end: usize) {
        let mut pair = [usize::MAX; 2];
        for (side, at) in [end, end ^ 1].into_iter().enumerate() {
            let Some(end) = self.ends[at].take() else { return };
            pair[side] = end.node;
            let shared = end.link.shared();
            let useful = shared.downloaded.load(Ordering::Relaxed) > 0 || shared.uploaded.load(Ordering::Relaxed) > 0;
            let node = &mut self.nodes[end.node];
            node.peers.retain(|peer| peer.key != shared.key);
            node.ends.retain(|&other| other != at);
            if end.sending {
                node.uplink_busy = false;
            }
            if let Some(member) = &mut node.member {
                member.peer_list.handle_disconnected(self.now, shared.address, useful);
            }
        }
        self.connected.remove(&(pair[0].min(pair[1]), pair[0].max(pair[1])));
        pair.into_iter().for_each(|node| self.start_next(node));
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.queue.schedule(nanos(self.now + after), event);
    }

    /// Runs until `done`; false when it is not after `limit` of virtual time.
    pub fn run_while(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let deadline = self.now + limit;
        while !done(self) {
            let Some((at, event)) = self.queue.pop(nanos(deadline)) else {
                self.now = deadline;
                return false;
            };
            self.now = Duration::from_nanos(at);
            match event {
                Event::Deliver { end, batch } => self.deliver(end, batch),
                Event::Sent { end, batch } => self.handle_sent(end, batch),
                Event::Hashed { node, open } => self.handle_hashed(node, &open),
                Event::News { node } => self.handle_news(node),
                Event::Tick => self.tick(),
                Event::Control => self.control(),
                Event::Woken { node } => self.handle_woken(node),
            }
        }
        true
    }

    /// The same; panics when it is not done in time.
    pub fn run(&mut self, limit: Duration, done: impl FnMut(&mut Self) -> bool) {
        assert!(self.run_while(limit, done), "not done after {limit:?}:\n{}", self.describe());
    }

    /// Runs until these nodes have everything.
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
        let end = self.now + time;
        self.run(time + TICK, |world| world.now >= end);
    }

    pub fn describe(&self) -> String {
        let nodes = self.nodes.iter().enumerate().map(|(at, node)| format!("node {at}: {}\n", node.describe()));
        let ends = self.ends.iter().flatten().take(200).map(|end| {
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

    fn deliver(&mut self, at: usize, batch: usize) {
        let batch = self.batches.take(batch);
        if let Some(sender) = &mut self.ends[at ^ 1] {
            sender.in_flight -= batch.len;
            let node = sender.node;
            self.make_ready(at ^ 1);
            self.start_next(node);
        }
        if self.ends[at].is_none() {
            return;
        }
        match self.handle_received(at, &batch) {
            Ok(()) => self.wake(at),
            Err(fault) => self.handle_fault(at, fault),
        }
    }

    fn handle_fault(&mut self, end: usize, fault: PeerFault) {
        self.faults.push(fault);
        self.disconnect(end);
    }

    /// The engine's reader.
    fn handle_received(&mut self, at: usize, batch: &Batch) -> Result<(), PeerFault> {
        let now = self.now;
        let Some(end) = &mut self.ends[at] else { return Ok(()) };
        let bounds = Bounds { piece_count: self.geometry.piece_count(), block_len_max: BLOCK_LEN };
        let mut control = &batch.transmit.control[..];
        while !control.is_empty() {
            let len = if self.split { self.rng.usize(1..=control.len().min(20)) } else { control.len() };
            let (chunk, rest) = control.split_at(len);
            end.inbox.extend_from_slice(chunk);
            control = rest;
            let mut from = 0;
            while let Decoded::Message { message, consumed } = decode(&end.inbox[from..], &bounds)? {
                end.link.handle_message(now, &message)?;
                from += consumed;
            }
            end.inbox.drain(..from);
        }
        let mut complete = Vec::new();
        for (i, &block) in batch.transmit.blocks.iter().enumerate() {
            let arrival = end.link.handle_block(now, block.piece.get(), block.begin, block.len)?;
            let right = batch.wrong >> i & 1 == 0;
            let landed = arrival.open.as_ref().map_or(Landed::Duplicate, |open| open.slot().land(arrival.block, right));
            end.link.handle_landed(now, &arrival, landed != Landed::Duplicate);
            complete.extend(arrival.open.filter(|_| landed == Landed::Complete));
        }
        end.link.handle_bytes(now);
        let node = end.node;
        let choker_due = end.link.shared().choker_due.load(Ordering::Relaxed);
        if choker_due {
            self.wake_control(node);
        }
        complete.into_iter().for_each(|open| self.schedule(self.write_time, Event::Hashed { node, open }));
        Ok(())
    }

    /// From now on this end answers requests, or does not.
    pub fn set_silent(&mut self, at: usize, silent: bool) {
        if let Some(end) = &mut self.ends[at] {
            end.silent = silent;
        }
        self.wake(at);
    }

    /// The engine's writer looks whether there is something to send.
    pub fn wake(&mut self, at: usize) {
        let uplink_free = self.ends[at].as_ref().is_some_and(|end| !self.nodes[end.node].uplink_busy);
        self.poll(at, uplink_free);
    }

    fn poll(&mut self, at: usize, uplink_free: bool) {
        let now = self.now;
        let Some(end) = &mut self.ends[at] else { return };
        if end.sending {
            return;
        }
        if let Err(fault) = end.link.sync(now) {
            return self.handle_fault(at, fault);
        }
        if end.link.is_useless() && self.nodes[end.node].member.is_some() {
            return self.disconnect(at);
        }
        end.link.request_blocks(now);
        let mut transmit = Transmit::default();
        let may_send = uplink_free && !end.silent && end.in_flight < end.in_flight_max;
        let turn_len = self.nodes[end.node].uplink_rate / UPLINK_TURNS_PER_S;
        let (mut len, len_max) = (0, turn_len.min(end.line.rate / BATCHES_PER_S));
        let something = end.link.poll_transmit(now, &mut transmit, |block| {
            let fits = may_send && (len == 0 || len < len_max);
            len += u64::from(block.len);
            fits
        });
        if self.checked {
            self.check(at);
        }
        if something {
            self.send(at, transmit);
        }
        self.make_ready(at);
    }

    /// It has blocks to send and waits for the uplink.
    fn make_ready(&mut self, at: usize) {
        let Some(end) = &mut self.ends[at] else { return };
        let waits = !end.sending && !end.ready && !end.silent && end.link.connection().queued().next().is_some();
        if waits && end.in_flight < end.in_flight_max {
            end.ready = true;
            self.nodes[end.node].ready.push_back(at);
        }
    }

    /// The uplink takes a batch of the next connection.
    fn start_next(&mut self, node: usize) {
        while !self.nodes[node].uplink_busy
            && let Some(at) = self.nodes[node].ready.pop_front()
        {
            if let Some(end) = &mut self.ends[at] {
                end.ready = false;
                self.poll(at, true);
            }
        }
    }

    fn send(&mut self, at: usize, transmit: Transmit) {
        let Some(end) = &mut self.ends[at] else { return };
        let node = &mut self.nodes[end.node];
        let mut batch = Batch { len: transmit.control.len() as u64, transmit, wrong: 0, payload_len: 0 };
        node.control_len += batch.len;
        for (i, block) in batch.transmit.blocks.iter().enumerate() {
            node.served[block.piece.at()] += 1;
            batch.len += PIECE_HEAD_LEN as u64;
            batch.payload_len += u64::from(block.len);
            if node.corrupts > 0.0 && self.rng.f64() < node.corrupts {
                batch.wrong |= 1 << i;
            }
        }
        batch.len += batch.payload_len;
        end.in_flight += batch.len;
        let duration = transfer_nanos(batch.len, node.uplink_rate);
        let (with_blocks, batch) = (!batch.transmit.blocks.is_empty(), self.batches.put(batch));
        if with_blocks {
            (end.sending, node.uplink_busy) = (true, true);
            self.queue.schedule(nanos(self.now) + duration, Event::Sent { end: at, batch });
        } else {
            // A few bytes find their way between the batches.
            self.carry(at, batch, nanos(self.now) + duration, false);
        }
    }

    /// From the uplink, which it leaves at `left_at`, to the other end.
    fn carry(&mut self, at: usize, batch: usize, left_at: u64, with_blocks: bool) {
        let len = self.batches.get(batch).len;
        let Some(to) = self.ends[at ^ 1].as_ref().map(|end| end.node) else { return };
        let Some(end) = &mut self.ends[at] else { return };
        let on_line = transfer_nanos(len, end.line.rate);
        end.line_free_at = left_at.max(end.line_free_at + on_line);
        let mut arrival = end.line_free_at + nanos(end.line.delay);
        if with_blocks {
            let node = &mut self.nodes[to];
            node.downlink_free_at = node.downlink_free_at.max(left_at) + transfer_nanos(len, node.downlink_rate);
            arrival = arrival.max(node.downlink_free_at);
        }
        end.delivered_at = arrival.max(end.delivered_at);
        self.queue.schedule(end.delivered_at, Event::Deliver { end: at ^ 1, batch });
    }

    fn handle_sent(&mut self, at: usize, batch: usize) {
        let Some(end) = &mut self.ends[at] else { return drop(self.batches.take(batch)) };
        end.sending = false;
        let node = end.node;
        self.nodes[node].uplink_busy = false;
        end.link.handle_sent(self.batches.get(batch).payload_len);
        self.carry(at, batch, nanos(self.now), true);
        // What it has to say leaves at once; its next blocks wait for their turn.
        self.poll(at, false);
        self.start_next(node);
    }

    /// The hash of a complete piece is known; what is right is written at once.
    fn handle_hashed(&mut self, node: usize, open: &OpenPiece<CountingSlot>) {
        let swarm = self.nodes[node].swarm.clone();
        let right = open.slot().is_right();
        let verdict = if right {
            assert!(!swarm.pieces.has(open.piece()), "received twice");
            swarm.pieces.handle_written(open)
        } else {
            swarm.totals.corrupt.fetch_add(u64::from(open.len()), Ordering::Relaxed);
            let verdict = swarm.pieces.handle_wrong(open);
            swarm.reorder(&mut self.rng);
            let senders = verdict.senders.iter().map(|sender| node_of(sender.address));
            self.nodes[node].blamed.extend(senders);
            verdict
        };
        self.judge(node, &verdict, right);
        if !std::mem::replace(&mut self.nodes[node].news_due, true) {
            self.schedule(limits::HAVE_GATHER, Event::News { node });
        }
    }

    fn handle_news(&mut self, node: usize) {
        self.nodes[node].news_due = false;
        self.spread_news(node);
    }

    /// Every connection of a node looks at what is new.
    pub fn spread_news(&mut self, node: usize) {
        for at in self.nodes[node].ends.clone() {
            self.wake(at);
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

    /// Interest changed: the choker of this node looks again soon, as the engine's is woken for it.
    fn wake_control(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        if this.steering.is_some() && !std::mem::replace(&mut this.woken, true) {
            self.schedule(CONTROL_WAKE, Event::Woken { node });
        }
    }

    fn handle_woken(&mut self, node: usize) {
        self.nodes[node].woken = false;
        self.steer(node);
    }

    fn steer(&mut self, node: usize) {
        if self.nodes[node].steer(self.now, &mut self.rng) {
            self.spread_news(node);
        }
    }

    fn control(&mut self) {
        for node in 0..self.nodes.len() {
            self.find_peers(node);
            self.steer(node);
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
    pub fn finish(mut self) {
        for at in 0..self.ends.len() {
            self.disconnect(at);
        }
        self.queue.clear();
        for (at, node) in self.nodes.iter().enumerate() {
            let Swarm { pieces, availability, .. } = &*node.swarm;
            assert_eq!(pieces.free_slots(), node.slot_count, "slots of node {at}");
            let counted = self.geometry.pieces().map(|piece| availability.of(piece)).sum::<u32>();
            assert_eq!(counted, 0, "availability at node {at}");
        }
    }
}

impl World {
    /// Blocks that came twice or in vain, on average over these nodes.
    #[expect(clippy::cast_precision_loss, reason = "a measurement")]
    pub fn wasted_blocks(&self, nodes: &[usize]) -> f64 {
        let wasted: u64 = nodes.iter().map(|&node| self.nodes[node].swarm.totals.wasted.load(Ordering::Relaxed)).sum();
        wasted as f64 / f64::from(BLOCK_LEN) / nodes.len() as f64
    }

    /// Copies of the content that a node has sent.
    #[expect(clippy::cast_precision_loss, reason = "a measurement")]
    pub fn copies(&self, node: usize) -> f64 {
        let uploaded = self.nodes[node].swarm.totals.uploaded.load(Ordering::Relaxed);
        uploaded as f64 / self.geometry.total_len() as f64
    }
}

impl Side {
    /// A good client on a local network.
    pub fn of(node: usize) -> Self {
        Self { node, fast: true, extension: true, line: LAN, silent: false }
    }
}

pub const LAN: Line = Line { rate: 10_000_000, delay: Duration::from_millis(2) };
