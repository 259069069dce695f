//! What travels between two nodes, and when: the ends of a connection, each node's queue of events, the post between nodes.

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

/// One direction of a wire.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Bytes per second.
    pub rate: u64,
    /// Not zero.
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

/// The line of a local network.
pub const LAN: Line = Line { rate: 10_000_000, delay: Duration::from_millis(2) };

impl Side {
    /// A well-behaved client on a local network.
    pub fn of(node: usize) -> Self {
        Self { node, fast: true, extension: true, line: LAN, silent: false }
    }
}

/// Where an end is: its node, and its number there.
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
    /// It breaks in the middle of what it sends next.
    pub(super) torn: bool,
    /// Control bytes received and not whole yet.
    pub(super) inbox: Vec<u8>,
    /// On the uplink now.
    pub(super) leaving: Option<Box<Batch>>,
    /// It waits for the uplink.
    pub(super) ready: bool,
    /// Bytes of batches with blocks that were sent and are not known to have been received.
    pub(super) in_flight: u64,
    pub(super) in_flight_max: u64,
    pub(super) line_free_at: u64,
    /// When the last batch is through our downlink, and how many are not yet.
    pub(super) delivered_at: u64,
    pub(super) undelivered: u32,
}

/// What leaves at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) transmit: Transmit,
    /// Bit i: block i has wrong bytes.
    pub(super) wrong: u32,
    pub(super) len: u64,
    pub(super) payload_len: u64,
    /// When it has left the sender's uplink.
    pub(super) left_at: u64,
}

impl Batch {
    /// The connection broke while this left: only a part of it will arrive, and of a block in parts nothing.
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

/// Something that happens at a node; `end` is one of its own.
#[derive(Debug)]
pub(super) enum Event {
    /// This batch reaches the downlink, and has come through it.
    Arrive {
        end: usize,
        batch: Box<Batch>,
    },
    Deliver {
        end: usize,
        batch: Box<Batch>,
    },
    /// The peer has received so many bytes.
    Acknowledged {
        end: usize,
        len: u64,
    },
    /// The peer has ended the connection.
    Closed {
        end: usize,
    },
    /// This end's batch has left the uplink.
    Sent {
        end: usize,
    },
    Hashed(Arc<OpenPiece<CountingBuffer>>),
    /// The connections look at what is new.
    FlushHaves,
    /// Time-outs of connections.
    Tick,
    /// The control thread, in its time and when it is woken.
    Control,
    ControlWoken,
}

/// An event and its time in nanoseconds.
#[derive(Debug)]
pub(super) struct Due {
    at: u64,
    /// Who scheduled it, and how many that one had before: equal times have an order that no thread has a say in.
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
    /// The earliest is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// One node's events by their time.
#[derive(Debug)]
pub(super) struct Queue {
    heap: BinaryHeap<Due>,
    order: u64,
}

impl Queue {
    pub(super) fn new(node: usize) -> Self {
        Self { heap: BinaryHeap::new(), order: (node as u64) << 40 }
    }

    /// An event of this node, or of another one that has to be posted.
    pub(super) fn due(&mut self, at: u64, event: Event) -> Due {
        self.order += 1;
        Due { at, order: self.order, event }
    }

    pub(super) fn schedule(&mut self, at: u64, event: Event) {
        let due = self.due(at, event);
        self.heap.push(due);
    }

    /// The next event before `until`.
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

    /// What the process had begun to write ended with it.
    pub(super) fn cancel_writes(&mut self) {
        self.heap.retain(|due| !matches!(due.event, Event::Hashed(_)));
    }
}

/// What nodes send each other: it never arrives before the current window is over, so that it does not matter which node
/// plays its part of a window first.
#[derive(Debug, Default)]
pub(super) struct Post {
    mailboxes: Vec<Mailbox>,
}

#[derive(Debug)]
struct Mailbox {
    /// The earliest event of the node, here or in its queue.
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

    /// Puts what has come for a node into its queue.
    pub(super) fn fetch(&self, node: usize, queue: &mut Queue) {
        let Mailbox { next_at, events } = &self.mailboxes[node];
        let mut events = lock(events);
        next_at.store(u64::MAX, AtomicOrdering::Relaxed);
        queue.heap.extend(events.drain(..));
    }

    /// The node waits for what its queue holds now.
    pub(super) fn wait(&self, node: usize, queue: &Queue) {
        self.mailboxes[node].next_at.fetch_min(queue.next_at(), AtomicOrdering::Relaxed);
    }

    pub(super) fn is_due(&self, node: usize, until: u64) -> bool {
        self.mailboxes[node].next_at.load(AtomicOrdering::Relaxed) < until
    }

    pub(super) fn due_count(&self, until: u64) -> usize {
        (0..self.mailboxes.len()).filter(|&node| self.is_due(node, until)).count()
    }

    /// The earliest event of all.
    pub(super) fn next_at(&self) -> u64 {
        self.mailboxes.iter().map(|mailbox| mailbox.next_at.load(AtomicOrdering::Relaxed)).min().unwrap_or(u64::MAX)
    }
}
