//! The events of one node: batches arrive and leave, pieces are hashed, timeouts expire, the choker runs.
//!
//! A node changes only its own state and sends events to other nodes by the [`Post`].

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Node, Timers, nanos, node_of};
use crate::base::geometry::BLOCK_LEN;
use crate::base::{Geometry, PieceIndex, limits};
use crate::bench::swarm::counting_buffer::{CountingBuffer, Landed};
use crate::bench::swarm::wire::{Batch, End, Event, Post};
use crate::codec::message::{Bounds, Decoded, HAVE_LEN, PIECE_HEAD_LEN, decode, decode_haves};
use crate::peer::PeerFault;
use crate::swarm::{HashOutcome, OpenPiece, Swarm};

/// The intervals at which the engine's threads check timeouts and choking.
const TICK: Duration = Duration::from_millis(250);
pub(in crate::bench::swarm) const CONTROL_TICK: Duration = Duration::from_millis(50);
/// The delay between a wake-up of the control thread and its step.
const CONTROL_WAKE: Duration = Duration::from_millis(1);
/// A batch holds at most what its line carries in 1 / `BATCHES_PER_S` s and the uplink in 1 / `UPLINK_TURNS_PER_S` s,
/// but at least one block.
const BATCHES_PER_S: u64 = 20;
const UPLINK_TURNS_PER_S: u64 = 200;
/// The most batches that a node keeps for reuse.
const SPARE_MAX: usize = 64;

/// The parts of the world that all nodes share.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench::swarm) struct Environment<'a> {
    pub(in crate::bench::swarm) geometry: &'a Geometry,
    pub(in crate::bench::swarm) post: &'a Post,
    pub(in crate::bench::swarm) split: bool,
    pub(in crate::bench::swarm) checked: bool,
    pub(in crate::bench::swarm) write_time: Duration,
}

/// Returns the time in nanoseconds that `len` bytes take at `rate` bytes per second.
fn transfer_nanos(len: u64, rate: u64) -> u64 {
    len.saturating_mul(1_000_000_000) / rate.max(1)
}

impl Node {
    /// Processes all events before `until`, in nanoseconds.
    pub(in crate::bench::swarm) fn process_events(&mut self, env: &Environment<'_>, until: u64) {
        env.post.fetch(self.at, &mut self.timers.queue);
        while let Some((at, event)) = self.timers.queue.pop(until) {
            self.now = Duration::from_nanos(at);
            self.effort.events += 1;
            self.handle(env, at, event);
        }
        env.post.wait(self.at, &self.timers.queue);
    }

    fn handle(&mut self, env: &Environment<'_>, at: u64, event: Event) {
        match event {
            Event::Arrive { end, batch } => self.handle_arrived(env, at, end, batch),
            Event::Deliver { end, batch } => {
                if let Some(end) = self.end_mut(end) {
                    end.undelivered -= 1;
                }
                self.deliver(env, end, batch);
            }
            Event::Acknowledged { end: at, len } => {
                if let Some(end) = self.end_mut(at) {
                    end.in_flight -= len;
                    self.make_ready(at);
                    self.start_next(env);
                }
            }
            Event::Closed { end } => {
                self.close(end);
                self.start_next(env);
            }
            Event::Sent { end } => self.handle_sent(env, end),
            Event::Hashed(open) => self.handle_hashed(env, &open),
            Event::FlushHaves => {
                self.timers.flush_due = false;
                self.flush_haves_all(env);
            }
            Event::Tick => self.tick(env),
            Event::Control => {
                self.run_control(env);
                self.schedule(CONTROL_TICK, Event::Control);
            }
            Event::ControlWoken => {
                self.timers.control_woken = false;
                self.run_control(env);
            }
        }
    }

    fn end_mut(&mut self, at: usize) -> Option<&mut End> {
        self.connections.ends.get_mut(at)?.as_deref_mut()
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.timers.queue.schedule(nanos(self.now + after), event);
    }

    /// A batch has reached the downlink, which carries batches with blocks one after the other.
    fn handle_arrived(&mut self, env: &Environment<'_>, now: u64, at: usize, batch: Box<Batch>) {
        let (rate, free_at) = (self.settings.downlink_rate, self.access.downlink_free_at);
        let up_at = nanos(self.settings.link_down_until);
        let Some(end) = self.end_mut(at) else { return };
        end.delivered_at = end.delivered_at.max(now).max(up_at);
        if !batch.transmit.blocks.is_empty() {
            let free_at = free_at.max(batch.left_at) + transfer_nanos(batch.len, rate);
            end.delivered_at = end.delivered_at.max(free_at);
            self.access.downlink_free_at = free_at;
        }
        let Some(end) = self.end_mut(at) else { return };
        if end.delivered_at == now && end.undelivered == 0 {
            return self.deliver(env, at, batch);
        }
        end.undelivered += 1;
        let delivered_at = end.delivered_at;
        self.timers.queue.schedule(delivered_at, Event::Deliver { end: at, batch });
    }

    fn deliver(&mut self, env: &Environment<'_>, at: usize, batch: Box<Batch>) {
        let Some(end) = self.end_mut(at) else { return };
        if !batch.transmit.blocks.is_empty() {
            let (peer, known_after) = (end.peer, end.line.delay);
            let due = self
                .timers
                .queue
                .due(nanos(self.now + known_after), Event::Acknowledged { end: peer.end, len: batch.len });
            env.post.send(peer.node, due);
        }
        let received = self.handle_received(env, at, &batch);
        if self.access.spare.len() < SPARE_MAX {
            self.access.spare.push(batch);
        }
        match received {
            Ok(()) => self.wake(env, at),
            Err(fault) => self.handle_fault(env, at, fault),
        }
    }

    fn handle_fault(&mut self, env: &Environment<'_>, at: usize, fault: PeerFault) {
        self.record.faults.extend(self.end(at).map(|end| (end.peer.node, fault)));
        self.disconnect(env, at);
    }

    /// Ends the connection on this side. The other side learns of it after the delay of the line.
    fn disconnect(&mut self, env: &Environment<'_>, at: usize) {
        let Some(delay) = self.end(at).map(|end| end.line.delay) else { return };
        if let Some(peer) = self.close(at) {
            let due = self.timers.queue.due(nanos(self.now + delay), Event::Closed { end: peer.end });
            env.post.send(peer.node, due);
        }
        self.start_next(env);
    }

    /// Does the work of the engine's reader task.
    fn handle_received(&mut self, env: &Environment<'_>, at: usize, batch: &Batch) -> Result<(), PeerFault> {
        let Self { now, rng, effort, timers: Timers { queue, .. }, disk, .. } = self;
        let now = *now;
        let Some(Some(end)) = self.connections.ends.get_mut(at) else { return Ok(()) };
        let bounds = Bounds { piece_count: env.geometry.piece_count(), block_len_max: BLOCK_LEN };
        let mut control = &batch.transmit.control[..];
        while !control.is_empty() {
            let len = if env.split { rng.usize(1..=control.len().min(20)) } else { control.len() };
            let (chunk, rest) = control.split_at(len);
            control = rest;
            let mut inbox = std::mem::take(&mut end.inbox);
            let held = !inbox.is_empty();
            if held {
                inbox.extend_from_slice(chunk);
            }
            let (bytes, mut from) = (if held { &inbox[..] } else { chunk }, 0);
            loop {
                let haves = end.link.handle_haves(now, decode_haves(&bytes[from..]))?;
                effort.messages += haves as u64;
                from += haves * HAVE_LEN;
                let Decoded::Message { message, consumed } = decode(&bytes[from..], &bounds)? else { break };
                end.link.handle_message(now, &message)?;
                effort.messages += 1;
                from += consumed;
            }
            if held {
                inbox.drain(..from);
            } else {
                inbox.extend_from_slice(&chunk[from..]);
            }
            end.inbox = inbox;
        }
        for (i, &block) in batch.transmit.blocks.iter().enumerate() {
            let is_right = batch.wrong >> i & 1 == 0;
            let land =
                |open: &OpenPiece<CountingBuffer>, block| open.buffer().land(block, is_right) != Landed::Duplicate;
            let receipt = end.link.receive(now, block.piece.get(), block.begin, block.len, land)?;
            effort.messages += 1;
            if let Some(open) = receipt.completed {
                let written_at = now + env.write_time + disk.delay(rng);
                queue.schedule(nanos(written_at), Event::Hashed(open));
            }
        }
        end.link.end_receive(now);
        if end.link.shared().is_choke_review_due() {
            self.wake_control();
        }
        Ok(())
    }

    /// Does the work of the engine's writer task: sends pending output of an end.
    pub(in crate::bench::swarm) fn wake(&mut self, env: &Environment<'_>, at: usize) {
        self.poll(env, at, !self.access.uplink_busy);
    }

    fn poll(&mut self, env: &Environment<'_>, at: usize, uplink_free: bool) {
        let now = self.now;
        let Some(Some(end)) = self.connections.ends.get_mut(at) else { return };
        if end.leaving.is_some() {
            return;
        }
        if let Err(fault) = end.link.advance(now) {
            return self.handle_fault(env, at, fault);
        }
        if end.link.is_useless() && self.member.is_some() {
            return self.disconnect(env, at);
        }
        self.reject_all(at);
        if self.disk.may_be_corrupted() && self.refuse_corrupted(at) {
            return self.disconnect(env, at);
        }
        let Some(Some(end)) = self.connections.ends.get_mut(at) else { return };
        let mut batch = self.access.spare.pop().unwrap_or_default();
        let may_send = uplink_free && !end.silent && end.in_flight < end.in_flight_max;
        let turn_len = self.settings.uplink_rate / UPLINK_TURNS_PER_S;
        let (mut len, len_max) = (0, turn_len.min(end.line.rate / BATCHES_PER_S));
        let has_output = end.link.poll_transmit(now, &mut batch.transmit, |block| {
            let fits = may_send && (len == 0 || len < len_max);
            len += u64::from(block.len);
            fits
        });
        if env.checked {
            self.check(env, at);
        }
        if has_output {
            self.send(env, at, batch);
        } else {
            self.access.spare.push(batch);
        }
        self.make_ready(at);
    }

    /// Queues an end for the uplink if it has blocks to send.
    fn make_ready(&mut self, at: usize) {
        let Some(Some(end)) = self.connections.ends.get_mut(at) else { return };
        let waits = end.leaving.is_none() && !end.ready && !end.silent && end.link.connection().queued_count() > 0;
        if waits && end.in_flight < end.in_flight_max {
            end.ready = true;
            self.access.ready.push_back(at);
        }
    }

    /// Gives the free uplink to the next end in turn.
    pub(in crate::bench::swarm) fn start_next(&mut self, env: &Environment<'_>) {
        while !self.access.uplink_busy
            && let Some(at) = self.access.ready.pop_front()
        {
            if let Some(end) = self.end_mut(at) {
                end.ready = false;
                self.poll(env, at, true);
            }
        }
    }

    fn send(&mut self, env: &Environment<'_>, at: usize, mut batch: Box<Batch>) {
        self.misbehave(env.geometry, at, &mut batch);
        let Some(Some(end)) = self.connections.ends.get_mut(at) else { return };
        (batch.len, batch.wrong, batch.payload_len) = (batch.transmit.control.len() as u64, 0, 0);
        self.effort.control_len += batch.len;
        for (i, block) in batch.transmit.blocks.iter().enumerate() {
            self.record.served[block.piece.at()] += 1;
            batch.len += PIECE_HEAD_LEN as u64;
            batch.payload_len += u64::from(block.len);
            let corrupts = self.settings.corrupt_share > 0.0 && self.rng.f64() < self.settings.corrupt_share;
            let right = self.disk.is_right(block.piece);
            let honest = self.settings.corrupt_share == 0.0 && self.settings.misbehavior.is_none();
            assert!(right || !honest, "node {} serves piece {} without having it", self.at, block.piece.get());
            if corrupts || !right {
                batch.wrong |= 1 << i;
            }
        }
        batch.len += batch.payload_len;
        let left_at = nanos(self.now) + transfer_nanos(batch.len, self.settings.uplink_rate);
        if batch.transmit.blocks.is_empty() {
            // Control messages are short: they do not wait for the uplink.
            return self.carry(env, at, batch, left_at);
        }
        end.in_flight += batch.len;
        end.leaving = Some(batch);
        self.access.uplink_busy = true;
        self.timers.queue.schedule(left_at, Event::Sent { end: at });
    }

    /// Carries a batch that leaves the uplink at `left_at` over the line to the other end.
    fn carry(&mut self, env: &Environment<'_>, at: usize, mut batch: Box<Batch>, left_at: u64) {
        let Some(Some(end)) = self.connections.ends.get_mut(at) else { return };
        batch.left_at = left_at;
        let left_at = left_at.max(nanos(self.settings.link_down_until));
        end.line_free_at = left_at.max(end.line_free_at + transfer_nanos(batch.len, end.line.rate));
        let arrival = end.line_free_at + nanos(end.line.delay);
        let (torn, peer) = (end.torn, end.peer);
        if torn {
            batch.tear(&mut self.rng);
        }
        let due = self.timers.queue.due(arrival, Event::Arrive { end: peer.end, batch });
        env.post.send(peer.node, due);
        if torn {
            let due = self.timers.queue.due(arrival, Event::Closed { end: peer.end });
            env.post.send(peer.node, due);
            self.close(at);
        }
    }

    fn handle_sent(&mut self, env: &Environment<'_>, at: usize) {
        let Some(end) = self.end_mut(at) else { return };
        let Some(batch) = end.leaving.take() else { return };
        end.link.handle_sent(batch.payload_len);
        self.access.uplink_busy = false;
        self.carry(env, at, batch, nanos(self.now));
        // Control messages leave at once; the next blocks wait for their turn.
        self.poll(env, at, false);
        self.start_next(env);
    }

    /// Writes a complete piece whose hash matches, or discards it.
    fn handle_hashed(&mut self, env: &Environment<'_>, open: &OpenPiece<CountingBuffer>) {
        let swarm = self.swarm.clone();
        let right = open.buffer().is_right(open.piece());
        if right && !self.disk.write(open.piece()) {
            return self.fail(env);
        }
        let mut proven = Vec::new();
        let verdict = if right {
            proven = open.prove();
            assert!(!swarm.pieces.has(open.piece()), "received twice");
            swarm.pieces.handle_written(open)
        } else {
            swarm.totals.corrupt.fetch_add(u64::from(open.len()), Ordering::Relaxed);
            let verdict = swarm.pieces.handle_failed(self.now, open);
            swarm.reorder(&mut self.rng);
            self.record.blamed.extend(verdict.senders.iter().map(|sender| node_of(sender.address())));
            verdict
        };
        if swarm.pieces.is_complete() {
            self.record.completed_at.get_or_insert(self.now);
        }
        self.judge(&verdict, if right { HashOutcome::Verified } else { HashOutcome::Failed });
        if !std::mem::replace(&mut self.timers.flush_due, true) {
            self.schedule(limits::HAVE_GATHER, Event::FlushHaves);
        }
        if !proven.is_empty() {
            // Proven peers may get more requests.
            let is_proven = |end: &End| proven.iter().any(|peer| peer.key() == end.link.shared().key());
            let ends: Vec<usize> =
                self.connections.open.iter().copied().filter(|&at| self.end(at).is_some_and(is_proven)).collect();
            ends.into_iter().for_each(|at| self.wake(env, at));
        }
    }

    /// A write failed: leaves the swarm, as the engine does.
    fn fail(&mut self, env: &Environment<'_>) {
        self.failed = true;
        if let Some(member) = &mut self.member {
            member.online = false;
        }
        for at in self.connections.open.clone() {
            self.disconnect(env, at);
        }
    }

    /// Discards the corrupt pieces among those that the peer requests, and rejects the requests. Returns true if the
    /// peer does not support rejections (BEP 6) and must be disconnected.
    fn refuse_corrupted(&mut self, at: usize) -> bool {
        let Some(Some(end)) = self.connections.ends.get_mut(at) else { return false };
        let queued = end.link.connection().queued();
        let mut corrupted: Vec<PieceIndex> =
            queued.map(|block| block.piece).filter(|&piece| !self.disk.is_right(piece)).collect();
        corrupted.dedup();
        for &piece in &corrupted {
            end.link.refuse_piece(piece);
            self.disk.discard(piece);
            self.swarm.pieces.handle_lost(piece);
            if !std::mem::replace(&mut self.timers.flush_due, true) {
                self.timers.queue.schedule(nanos(self.now + limits::HAVE_GATHER), Event::FlushHaves);
            }
        }
        !corrupted.is_empty() && !end.link.connection().is_fast()
    }

    /// Queues pending haves on all connections and wakes them.
    pub(in crate::bench::swarm) fn flush_haves_all(&mut self, env: &Environment<'_>) {
        for at in self.connections.open.clone() {
            if let Some(end) = self.end_mut(at) {
                end.link.flush_haves();
            }
            self.wake(env, at);
        }
    }

    fn tick(&mut self, env: &Environment<'_>) {
        let now = self.now;
        for at in self.connections.open.clone() {
            let Some(end) = self.end_mut(at).filter(|end| now >= end.link.poll_timeout()) else { continue };
            match end.link.handle_timeout(now) {
                Ok(()) => self.wake(env, at),
                Err(fault) => self.handle_fault(env, at, fault),
            }
        }
        self.schedule(TICK, Event::Tick);
    }

    /// Interest changed: schedules a choke round soon, as the engine does.
    fn wake_control(&mut self) {
        if self.control.is_some() && !std::mem::replace(&mut self.timers.control_woken, true) {
            self.schedule(CONTROL_WAKE, Event::ControlWoken);
        }
    }

    fn run_control(&mut self, env: &Environment<'_>) {
        if self.step_control() {
            self.flush_haves_all(env);
        }
    }

    /// Asserts the invariants of a connection.
    fn check(&self, env: &Environment<'_>, at: usize) {
        let Some(end) = self.end(at) else { return };
        let connection = end.link.connection();
        let Swarm { pieces, .. } = &*self.swarm;
        if self.buffer_count > 0 && !connection.is_backlogged() {
            let lacked = |piece: PieceIndex| !pieces.has(piece) && connection.peer_have().contains(piece);
            // BEP 3: "Interest state must be kept up to date at all times".
            assert_eq!(connection.am_interested(), env.geometry.pieces().any(lacked), "interest of end {at}");
        }
        let void = connection.peer_choking() && !connection.is_fast();
        assert!(!void || connection.outstanding_count() == 0, "end {at} has requests at a peer that chokes it");
        assert!(connection.outstanding_count() <= limits::REQUESTS_OUT_MAX);
    }
}
