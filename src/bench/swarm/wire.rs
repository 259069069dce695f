//! Transport between nodes: the ends of a connection, the event queue of each node, and the [`Post`] that carries
//! events from node to node.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering as AtomicOrdering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::counting_buffer::CountingBuffer;
use crate::base::Rng;
use crate::base::lock::lock;
use crate::peer::Transmit;
use crate::swarm::{Link, OpenPiece};

/// One direction of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Bytes per second.
    pub rate: u64,
    /// The one-way delay; not zero.
    pub delay: Duration,
}

/// The properties of one end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    pub node: usize,
    pub fast: bool,
    pub extension: bool,
    /// The line from this end to the other.
    pub line: Line,
    /// The end accepts requests and never sends a block.
    pub silent: bool,
}

/// The line of a local network.
pub const LAN: Line = Line { rate: 10_000_000, delay: Duration::from_millis(2) };

impl Side {
    /// A well-behaved client on a local network.
    pub fn of(node: usize) -> Self {
        Self { node, fast: true, extension: true, line: LAN, silent: false }
    }
}

/// Identifies an end by its node and its number there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct EndId {
    pub(super) node: usize,
    pub(super) end: usize,
}

/// One end of a connection.
#[derive(Debug)]
pub struct End {
    pub node: usize,
    pub link: Link<CountingBuffer>,
    /// The other end.
    pub(super) peer: EndId,
    pub(super) line: Line,
    pub(super) silent: bool,
    /// The connection breaks in the middle of the next batch.
    pub(super) torn: bool,
    /// Received bytes of an incomplete control message.
    pub(super) inbox: Vec<u8>,
    /// The batch on the uplink.
    pub(super) leaving: Option<Box<Batch>>,
    /// The end is queued for the uplink.
    pub(super) ready: bool,
    /// Bytes of sent batches with blocks that the peer has not acknowledged.
    pub(super) in_flight: u64,
    pub(super) in_flight_max: u64,
    pub(super) line_free_at: u64,
    /// The time in nanoseconds at which the last batch has passed the downlink.
    pub(super) delivered_at: u64,
    /// The number of batches on the downlink.
    pub(super) undelivered: u32,
}

/// Messages and blocks that leave together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) transmit: Transmit,
    /// Bit i is set if block i is corrupt.
    pub(super) wrong: u32,
    pub(super) len: u64,
    pub(super) payload_len: u64,
    /// The time in nanoseconds at which the batch has left the sender's uplink.
    pub(super) left_at: u64,
}

impl Batch {
    /// Truncates the batch at random, as if the connection broke while it was sent. Of a partly sent block nothing
    /// arrives.
    pub(super) fn tear(&mut self, rng: &mut Rng) {
        let Transmit { control, blocks, .. } = &mut self.transmit;
        if blocks.is_empty() || rng.bool() {
            blocks.clear();
            control.truncate(rng.usize(..=control.len()));
        } else {
            blocks.truncate(rng.usize(..blocks.len()));
        }
    }
}

/// An event at a node. `end` is the number of one of its ends.
#[derive(Debug)]
pub(super) enum Event {
    /// The batch reaches the downlink.
    Arrive { end: usize, batch: Box<Batch> },
    /// The batch has passed the downlink.
    Deliver { end: usize, batch: Box<Batch> },
    /// The peer has received `len` bytes.
    Acknowledged { end: usize, len: u64 },
    /// The peer has ended the connection.
    Closed { end: usize },
    /// This end's batch has left the uplink.
    Sent { end: usize },
    /// A complete piece is hashed and written.
    Hashed(Arc<OpenPiece<CountingBuffer>>),
    /// All connections send their pending haves.
    FlushHaves,
    /// Check the timeouts of all connections.
    Tick,
    /// A regular step of the control thread.
    Control,
    /// A step of the control thread after a wake-up.
    ControlWoken,
}

/// An event and its time in nanoseconds.
#[derive(Debug)]
pub(super) struct Due {
    at: u64,
    /// The scheduling node and the number of its event. Makes the order of simultaneous events independent of threads.
    order: u64,
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
    /// Reversed: the heap returns the greatest event, which must be the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// The events of one node in the order of their times.
#[derive(Debug)]
pub(super) struct Queue {
    heap: BinaryHeap<Due>,
    order: u64,
}

impl Queue {
    pub(super) fn new(node: usize) -> Self {
        Self { heap: BinaryHeap::new(), order: (node as u64) << 40 }
    }

    /// Creates an event for this node, or for another one to be sent by the [`Post`].
    pub(super) fn due(&mut self, at: u64, event: Event) -> Due {
        self.order += 1;
        Due { at, order: self.order, event }
    }

    pub(super) fn schedule(&mut self, at: u64, event: Event) {
        let due = self.due(at, event);
        self.heap.push(due);
    }

    /// Removes the next event, if it is before `until`.
    pub(super) fn pop(&mut self, until: u64) -> Option<(u64, Event)> {
        self.heap.peek().filter(|due| due.at < until)?;
        self.heap.pop().map(|due| (due.at, due.event))
    }

    fn next_at(&self) -> u64 {
        self.heap.peek().map_or(u64::MAX, |due| due.at)
    }

    pub(super) fn clear(&mut self) {
        self.heap.clear();
    }

    /// Removes pending writes, since the process has ended.
    pub(super) fn cancel_writes(&mut self) {
        self.heap.retain(|due| !matches!(due.event, Event::Hashed(_)));
    }
}

/// Carries events between nodes. They never become due within the current window, so the order in which nodes process a
/// window does not matter.
#[derive(Debug, Default)]
pub(super) struct Post {
    mailboxes: Vec<Mailbox>,
}

#[derive(Debug)]
struct Mailbox {
    /// The time of the earliest event of the node, in this mailbox or its queue; `u64::MAX` for none.
    next_at: AtomicU64,
    events: Mutex<Vec<Due>>,
}

impl Post {
    pub(super) fn add_node(&mut self) {
        self.mailboxes.push(Mailbox { next_at: AtomicU64::new(u64::MAX), events: Mutex::default() });
    }

    pub(super) fn send(&self, to: usize, due: Due) {
        let Mailbox { next_at, events } = &self.mailboxes[to];
        let mut events = lock(events);
        next_at.fetch_min(due.at, AtomicOrdering::Relaxed);
        events.push(due);
    }

    /// Moves the events for a node to its queue.
    pub(super) fn fetch(&self, node: usize, queue: &mut Queue) {
        let Mailbox { next_at, events } = &self.mailboxes[node];
        let mut events = lock(events);
        next_at.store(u64::MAX, AtomicOrdering::Relaxed);
        queue.heap.extend(events.drain(..));
    }

    /// Records the time of the earliest event in the queue of a node.
    pub(super) fn wait(&self, node: usize, queue: &Queue) {
        self.mailboxes[node].next_at.fetch_min(queue.next_at(), AtomicOrdering::Relaxed);
    }

    pub(super) fn is_due(&self, node: usize, until: u64) -> bool {
        self.mailboxes[node].next_at.load(AtomicOrdering::Relaxed) < until
    }

    pub(super) fn due_count(&self, until: u64) -> usize {
        (0..self.mailboxes.len()).filter(|&node| self.is_due(node, until)).count()
    }

    /// Returns the time of the earliest event of all nodes.
    pub(super) fn next_at(&self) -> u64 {
        self.mailboxes.iter().map(|mailbox| mailbox.next_at.load(AtomicOrdering::Relaxed)).min().unwrap_or(u64::MAX)
    }
}
