//! The two queues of requests: the peer's requests, which wait to be served, and ours, which wait for their blocks.

use std::time::Duration;

use super::request_queue::{Request, RequestQueue};
use super::window::Window;
use crate::base::{BlockRef, Time, limits};

/// One of our requests that the peer has not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outstanding {
    pub block: BlockRef,
    /// When it was queued to be sent.
    pub since: Time,
}

impl Request for Outstanding {
    fn block(&self) -> BlockRef {
        self.block
    }
}

/// The kind of a rejected request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rejection {
    Outstanding,
    /// It was withdrawn, or answered before.
    Past,
    /// The peer has already rejected as many requests as were sent to it.
    Unfounded,
}

/// Our requests, oldest first: peers nearly always answer in this order.
#[derive(Debug)]
pub(super) struct RequestsOut {
    queue: RequestQueue<Outstanding>,
    window: Window,
    /// The number of requests that the peer queues without dropping any (`reqq`, BEP 10).
    pub(super) peer_max: usize,
    /// Requests that were withdrawn (cancel, choke) and whose block may still arrive.
    withdrawn: RequestQueue<BlockRef>,
    /// The number of requests that were sent and that the peer has not rejected.
    rejectable: u64,
    /// When the peer last sent a requested block, or began to owe us blocks.
    pub(super) last_progress: Time,
    pub(super) snubbed: bool,
}

impl RequestsOut {
    pub(super) fn new(now: Time) -> Self {
        Self {
            queue: RequestQueue::default(),
            window: Window::new(now),
            peer_max: limits::REQUESTS_OUT_DEFAULT,
            withdrawn: RequestQueue::default(),
            rejectable: 0,
            last_progress: now,
            snubbed: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The number of requests that may be added to the window.
    pub(super) fn room(&self) -> usize {
        let window = if self.snubbed { 1 } else { self.window.requests(self.peer_max) };
        window.saturating_sub(self.queue.len())
    }

    /// Bytes per second.
    pub(super) fn rate(&self) -> u64 {
        self.window.rate()
    }

    pub(super) fn pipe(&self) -> usize {
        self.window.pipe()
    }

    pub(super) fn window(&self) -> usize {
        self.window.requests(self.peer_max)
    }

    pub(super) fn push(&mut self, now: Time, block: BlockRef) {
        if self.queue.is_empty() {
            self.window.handle_idle(now);
            self.last_progress = now;
        }
        self.queue.push_back(Outstanding { block, since: now });
        self.rejectable += 1;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Outstanding> {
        self.queue.iter()
    }

    /// A block arrived. Returns its latency if it was outstanding.
    pub(super) fn take(&mut self, now: Time, block: BlockRef) -> Option<Duration> {
        let request = self.queue.remove(block)?;
        let latency = now.saturating_sub(request.since);
        self.window.handle_block(now, block.len, latency);
        self.last_progress = now;
        self.snubbed = false;
        Some(latency)
    }

    /// A block arrived that was not outstanding. Returns whether it answers a withdrawn request.
    pub(super) fn take_withdrawn(&mut self, block: BlockRef) -> bool {
        self.withdrawn.remove(block).is_some()
    }

    /// Withdraws a request; its block may still arrive. Returns false if it was not outstanding.
    pub(super) fn withdraw(&mut self, block: BlockRef) -> bool {
        let withdrawn = self.queue.remove(block).is_some();
        if withdrawn {
            self.remember_withdrawn(block);
        }
        withdrawn
    }

    fn remember_withdrawn(&mut self, block: BlockRef) {
        if self.withdrawn.len() >= limits::REQUESTS_WITHDRAWN_MAX {
            self.withdrawn.pop_front();
        }
        self.withdrawn.push_back(block);
    }

    /// The peer rejected this request.
    pub(super) fn reject(&mut self, block: BlockRef) -> Rejection {
        if self.rejectable == 0 {
            return Rejection::Unfounded;
        }
        self.rejectable -= 1;
        if self.queue.remove(block).is_some() {
            return Rejection::Outstanding;
        }
        self.withdrawn.remove(block);
        Rejection::Past
    }

    /// Withdraws all requests and returns them: the peer has choked us, or does not answer.
    pub(super) fn withdraw_all(&mut self) -> Vec<BlockRef> {
        let blocks: Vec<BlockRef> = std::mem::take(&mut self.queue).iter().map(|request| request.block).collect();
        blocks.iter().for_each(|&block| self.remember_withdrawn(block));
        blocks
    }
}

/// The peer's requests. Kept here and not in a socket buffer, so that a choke or a cancel can drop them (BEP 3).
#[derive(Debug, Default)]
pub(super) struct RequestsIn {
    queue: RequestQueue<BlockRef>,
    /// The number of requests that arrived and that the peer has not cancelled.
    cancellable: u64,
}

impl RequestsIn {
    /// Returns false if the queue is full: the peer exceeds our `reqq`.
    pub(super) fn push(&mut self, block: BlockRef) -> bool {
        let room = self.queue.len() < limits::REQUESTS_IN_MAX;
        if room {
            self.queue.push_back(block);
        }
        room
    }

    /// The peer sent a request, which may be queued or refused.
    pub(super) fn count_received(&mut self) {
        self.cancellable += 1;
    }

    /// Counts a cancel. Returns false if the peer has already cancelled as many requests as it sent.
    pub(super) fn count_cancelled(&mut self) -> bool {
        let founded = self.cancellable > 0;
        self.cancellable = self.cancellable.saturating_sub(1);
        founded
    }

    pub(super) fn cancel(&mut self, block: BlockRef) -> bool {
        self.queue.remove(block).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn front(&self) -> Option<BlockRef> {
        self.queue.front().copied()
    }

    pub(super) fn pop(&mut self) -> Option<BlockRef> {
        self.queue.pop_front()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &BlockRef> {
        self.queue.iter()
    }

    /// Removes and returns the requests for which `refused` holds.
    pub(super) fn extract(&mut self, refused: impl Fn(BlockRef) -> bool) -> Vec<BlockRef> {
        self.queue.extract(refused)
    }
}
