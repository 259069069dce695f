//! What travels between two nodes, and the virtual clock's queue of events.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use super::slot::CountingSlot;
use crate::peer::Transmit;
use crate::swarm::{Link, OpenPiece};

/// One direction of a wire.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Bytes per second.
    pub rate: u64,
    pub delay: Duration,
}

/// How one end of a connection is.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    pub node: usize,
    pub fast: bool,
    pub extension: bool,
    /// What leaves here.
    pub line: Line,
    /// Requests are taken and never answered with a block.
    pub silent: bool,
}

/// One end of a connection.
#[derive(Debug)]
pub struct End {
    pub node: usize,
    pub link: Link<CountingSlot>,
    pub(super) line: Line,
    pub(super) silent: bool,
    /// Control bytes received and not whole yet.
    pub(super) inbox: Vec<u8>,
    /// A batch is on the uplink.
    pub(super) sending: bool,
    /// It waits for the uplink.
    pub(super) ready: bool,
    /// Bytes sent and not received yet.
    pub(super) in_flight: u64,
    pub(super) in_flight_max: u64,
    pub(super) line_free_at: u64,
    pub(super) delivered_at: u64,
}

/// What leaves at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) transmit: Transmit,
    /// Bit i: block i has wrong bytes.
    pub(super) wrong: u32,
    pub(super) len: u64,
    pub(super) payload_len: u64,
}

#[derive(Debug)]
pub(super) enum Event {
    /// This batch reaches this end.
    Deliver {
        end: usize,
        batch: usize,
    },
    /// This end's batch has left the uplink.
    Sent {
        end: usize,
        batch: usize,
    },
    Hashed {
        node: usize,
        open: Arc<OpenPiece<CountingSlot>>,
    },
    /// The connections of a node look at what is new.
    News {
        node: usize,
    },
    /// Time-outs of connections.
    Tick,
    /// The control threads.
    Control,
    /// That of one node, before its time.
    Woken {
        node: usize,
    },
}

#[derive(Debug)]
struct Due {
    at: u64,
    sequence: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// The earliest is the greatest; what was scheduled first comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

/// Events by their time, in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Due>,
    scheduled: u64,
}

impl Queue {
    pub(super) fn schedule(&mut self, at: u64, event: Event) {
        self.heap.push(Due { at, sequence: self.scheduled, event });
        self.scheduled += 1;
    }

    /// The next event, if it is due at `deadline` or before.
    pub(super) fn pop(&mut self, deadline: u64) -> Option<(u64, Event)> {
        self.heap.peek().filter(|due| due.at <= deadline)?;
        self.heap.pop().map(|due| (due.at, due.event))
    }

    pub(super) fn clear(&mut self) {
        self.heap.clear();
    }
}

/// Batches under way, their memory used again and again.
#[derive(Debug, Default)]
pub(super) struct Batches {
    batches: Vec<Batch>,
    free: Vec<usize>,
}

impl Batches {
    pub(super) fn put(&mut self, batch: Batch) -> usize {
        match self.free.pop() {
            Some(at) => {
                self.batches[at] = batch;
                at
            }
            None => {
                self.batches.push(batch);
                self.batches.len() - 1
            }
        }
    }

    pub(super) fn take(&mut self, at: usize) -> Batch {
        self.free.push(at);
        std::mem::take(&mut self.batches[at])
    }

    pub(super) fn get(&self, at: usize) -> &Batch {
        &self.batches[at]
    }
}
