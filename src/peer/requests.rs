//! The two pipelines of requests: the peer's to us, waiting to be sent; ours to the peer, waiting to arrive.

use std::collections::VecDeque;
use std::time::Duration;

use super::window::Window;
use crate::base::{BlockRef, Time, limits};

/// One of our requests that the peer has not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outstanding {
    pub block: BlockRef,
    /// When it was queued to be sent.
    pub since: Time,
}

/// Our requests, in the order in which peers answer nearly always.
#[derive(Debug)]
pub(super) struct RequestsOut {
    queue: VecDeque<Outstanding>,
    window: Window,
    /// What the peer says it queues without dropping (`reqq`, BEP 10).
    pub(super) peer_max: usize,
    /// Requests that were taken back (cancel, choke) and whose block may still come.
    stale: usize,
    /// When the peer last gave us something we asked for, or began to owe us something.
    pub(super) last_progress: Time,
    pub(super) snubbed: bool,
}

impl RequestsOut {
    pub(super) fn new(now: Time) -> Self {
        Self {
            queue: VecDeque::new(),
            window: Window::new(now),
            peer_max: limits::REQUESTS_OUT_UNTOLD,
            stale: 0,
            last_progress: now,
            snubbed: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// How many more requests the window takes.
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
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Outstanding> {
        self.queue.iter()
    }

    /// A block came: its latency when it was outstanding.
    pub(super) fn take(&mut self, now: Time, block: BlockRef) -> Option<Duration> {
        let position = self.queue.iter().position(|request| request.block == block)?;
        let request = self.queue.remove(position)?;
        let latency = now.saturating_sub(request.since);
        self.window.handle_block(now, block.len, latency);
        self.last_progress = now;
        self.snubbed = false;
        Some(latency)
    }

    /// A block came that was not outstanding: whether it may be the answer to a request that was taken back.
    pub(super) fn take_stale(&mut self) -> bool {
        let expected = self.stale > 0;
        self.stale = self.stale.saturating_sub(1);
        expected
    }

    /// Takes a request back; its block may come all the same.
    pub(super) fn withdraw(&mut self, block: BlockRef) -> bool {
        let Some(position) = self.queue.iter().position(|request| request.block == block) else { return false };
        self.queue.remove(position);
        self.stale += 1;
        true
    }

    /// The peer will not answer this one.
    pub(super) fn reject(&mut self, block: BlockRef) -> bool {
        let position = self.queue.iter().position(|request| request.block == block);
        match position {
            Some(position) => self.queue.remove(position).is_some(),
            None => {
                self.stale = self.stale.saturating_sub(1);
                false
            }
        }
    }

    /// All requests, taken back: the peer has choked us, or is not answering.
    pub(super) fn withdraw_all(&mut self) -> Vec<BlockRef> {
        self.stale += self.queue.len();
        self.queue.drain(..).map(|request| request.block).collect()
    }
}

/// The peer's requests, kept here and not in a socket buffer, so that a choke or a cancel can throw them out (BEP 3).
#[derive(Debug, Default)]
pub(super) struct RequestsIn {
    queue: VecDeque<BlockRef>,
}

impl RequestsIn {
    /// False when the peer has more queued than we promised to take.
    pub(super) fn push(&mut self, block: BlockRef) -> bool {
        let room = self.queue.len() < limits::REQUESTS_IN_MAX;
        if room {
            self.queue.push_back(block);
        }
        room
    }

    pub(super) fn cancel(&mut self, block: BlockRef) -> bool {
        let position = self.queue.iter().position(|&queued| queued == block);
        position.is_some_and(|position| self.queue.remove(position).is_some())
    }

    pub(super) fn front(&self) -> Option<BlockRef> {
        self.queue.front().copied()
    }

    pub(super) fn pop(&mut self) -> Option<BlockRef> {
        self.queue.pop_front()
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &BlockRef> {
        self.queue.iter()
    }

    /// Takes out the requests for which `refused` holds.
    pub(super) fn extract(&mut self, refused: impl Fn(BlockRef) -> bool) -> Vec<BlockRef> {
        let (out, keep) = self.queue.drain(..).partition(|&block| refused(block));
        self.queue = keep;
        Vec::from(out as VecDeque<BlockRef>)
    }
}
