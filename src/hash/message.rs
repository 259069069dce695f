//! Messages in the lanes: the location of their next whole blocks, blocks that straddle two spans, and the padding.

use super::kernels::{Block, LANES_MAX, State, Table};

const BLOCK_LEN: usize = size_of::<Block>();

/// Length in bytes of the bit count that ends the padding of a message (FIPS 180-4, 5.1.1).
const BIT_COUNT_LEN: usize = size_of::<u64>();

/// Length in blocks of the shortest run that is worth a [stagger](Lanes::stagger).
const STAGGER_RUN_MIN: usize = 256;
/// Lanes that advance together. A cache set has eight lines, and the prefetcher needs some of them.
const LANES_TOGETHER: usize = 4;

/// One message whose bytes arrive in parts, with the state of its hash in `WORDS` words.
#[derive(Clone)]
pub(super) struct Message<const WORDS: usize> {
    state: State<WORDS>,
    /// Bytes taken from spans.
    len: u64,
    /// Bytes that are no whole block of one span: the end of one span with the start of the next, and the padding.
    staged: [Block; 2],
    /// Bytes in `staged`.
    staged_len: usize,
}

impl<const WORDS: usize> Message<WORDS> {
    /// An empty message with the initial state of the hash.
    pub(super) const fn new(start: State<WORDS>) -> Self {
        Self { state: start, len: 0, staged: [[0; BLOCK_LEN]; 2], staged_len: 0 }
    }

    /// Returns the hash of a padded message, four bytes for each word.
    pub(super) fn hash<const LEN: usize>(&self) -> [u8; LEN] {
        let mut hash = [0; LEN];
        for (bytes, word) in hash.as_chunks_mut().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        hash
    }

    /// Moves bytes from the front of `span` until a whole block is staged or the span is empty.
    fn stage(&mut self, span: &mut &[u8]) {
        let len = span.len().min(BLOCK_LEN - self.staged_len);
        let (front, rest) = span.split_at(len);
        self.staged.as_flattened_mut()[self.staged_len..][..len].copy_from_slice(front);
        self.staged_len += len;
        *span = rest;
    }

    /// Pads the staged bytes to one or two whole blocks (FIPS 180-4, 5.1.1).
    fn pad(&mut self) {
        let padded_len = (self.staged_len + 1 + BIT_COUNT_LEN).next_multiple_of(BLOCK_LEN);
        let staged = self.staged.as_flattened_mut();
        staged[self.staged_len..padded_len].fill(0);
        staged[self.staged_len] = 0x80;
        staged[padded_len - BIT_COUNT_LEN..padded_len].copy_from_slice(&(self.len * 8).to_be_bytes());
        self.staged_len = padded_len;
    }
}

/// The action when a lane has no more spans.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OnEnd {
    /// Keep the staged bytes; a later call continues the message.
    Keep,
    /// Pad: the message is complete.
    Pad,
}

/// Hashes `pieces`, one list of spans for each message.
pub(super) fn hash_with<'h, 'a, const WORDS: usize, P>(
    table: &Table<WORDS>,
    messages: impl IntoIterator<Item = &'h mut Message<WORDS>>,
    pieces: impl IntoIterator<Item = P>,
    on_end: OnEnd,
) where
    P: IntoIterator<Item = &'a [u8]>,
{
    let lanes = messages.into_iter().zip(pieces);
    let mut waiting =
        lanes.map(|(message, spans)| Lane { message, spans: spans.into_iter().fuse(), span: &[], on_end });
    let mut lanes = Lanes { table, active: Vec::with_capacity(table.lanes_max()) };
    lanes.fill(&mut waiting);
    lanes.stagger();
    while !lanes.active.is_empty() {
        lanes.advance(lanes.active.len(), usize::MAX);
        lanes.fill(&mut waiting);
    }
}

/// A message and the bytes that are still to be hashed.
struct Lane<'h, 'a, S, const WORDS: usize> {
    message: &'h mut Message<WORDS>,
    spans: S,
    /// The unread rest of the last span taken.
    span: &'a [u8],
    on_end: OnEnd,
}

impl<'a, S: Iterator<Item = &'a [u8]>, const WORDS: usize> Lane<'_, 'a, S, WORDS> {
    /// Finds the next whole blocks; returns false if there are none.
    fn prepare(&mut self) -> bool {
        loop {
            let staged_len = self.message.staged_len;
            if staged_len >= BLOCK_LEN || (staged_len == 0 && self.span.len() >= BLOCK_LEN) {
                return true;
            }
            if !self.span.is_empty() {
                self.message.stage(&mut self.span);
            } else if let Some(span) = self.spans.next() {
                self.message.len += span.len() as u64;
                self.span = span;
            } else if self.on_end == OnEnd::Pad {
                self.message.pad();
                self.on_end = OnEnd::Keep;
            } else {
                return false;
            }
        }
    }

    /// Returns the next contiguous blocks.
    fn run(&self) -> &[Block] {
        match self.message.staged_len {
            0 => self.span.as_chunks().0,
            len => &self.message.staged[..len / BLOCK_LEN],
        }
    }

    /// Skips the first `count` blocks of the run.
    fn consume(&mut self, count: usize) {
        let message = &mut *self.message;
        if message.staged_len == 0 {
            self.span = &self.span[count * BLOCK_LEN..];
        } else {
            message.staged.swap(0, count % 2);
            message.staged_len -= count * BLOCK_LEN;
        }
    }
}

/// The messages being hashed, each [prepared](Lane::prepare).
struct Lanes<'t, 'h, 'a, S, const WORDS: usize> {
    table: &'t Table<WORDS>,
    active: Vec<Lane<'h, 'a, S, WORDS>>,
}

impl<'h, 'a, S: Iterator<Item = &'a [u8]>, const WORDS: usize> Lanes<'_, 'h, 'a, S, WORDS> {
    /// Replaces finished messages by waiting ones.
    fn fill(&mut self, waiting: &mut impl Iterator<Item = Lane<'h, 'a, S, WORDS>>) {
        self.active.retain_mut(Lane::prepare);
        let room = self.table.lanes_max() - self.active.len();
        self.active.extend(waiting.filter_map(|mut lane| lane.prepare().then_some(lane)).take(room));
    }

    /// Compresses, in the first `lane_count` lanes, the number of contiguous blocks that all of them have, at most
    /// `count_max`.
    fn advance(&mut self, lane_count: usize, count_max: usize) {
        let lanes = &mut self.active[..lane_count];
        let count = lanes.iter().map(|lane| lane.run().len()).min().map_or(0, |count| count.min(count_max));
        let mut states = [[0; WORDS]; LANES_MAX];
        let mut runs: [&[Block]; LANES_MAX] = [&[]; LANES_MAX];
        for (lane, (state, run)) in lanes.iter().zip(states.iter_mut().zip(&mut runs)) {
            *state = lane.message.state;
            *run = &lane.run()[..count];
        }
        self.table.compress(&mut states[..lane_count], &runs[..lane_count]);
        for (lane, state) in lanes.iter_mut().zip(states) {
            lane.message.state = state;
            lane.consume(count);
        }
    }

    /// Advances earlier lanes by a few blocks.
    ///
    /// Pieces lie a power of two apart, so equal offsets in them share one set of each cache: sixteen lanes at one
    /// offset evict each other's lines before they are used. A distance of one block avoids that.
    fn stagger(&mut self) {
        if self.active.iter().any(|lane| lane.run().len() < STAGGER_RUN_MIN) {
            return;
        }
        let starts = (1..self.active.len().div_ceil(LANES_TOGETHER)).rev();
        starts.for_each(|group| self.advance(group * LANES_TOGETHER, 1));
    }
}
