//! Messages on their way through the lanes: where the next whole blocks lie, what straddles two spans, the padding.

use super::kernels::{Block, LANES_MAX, State, Table};

const BLOCK_LEN: usize = size_of::<Block>();

/// What ends a message's padding: its length in bits (FIPS 180-4, 5.1.1).
const BIT_COUNT_LEN: usize = size_of::<u64>();

/// Runs of at least this many blocks are worth a [stagger](Lanes::stagger).
const STAGGER_RUN_MIN: usize = 256;
/// Lanes that stay abreast. A cache set has eight places; these leave some for what is read ahead.
const ABREAST: usize = 4;

/// One message whose bytes come a part at a time, on its way to a hash of `WORDS` words.
#[derive(Clone)]
pub(super) struct Message<const WORDS: usize> {
    state: State<WORDS>,
    /// Bytes taken from spans.
    len: u64,
    /// What does not lie in one span as a whole block: the end of one with the start of the next; the padding.
    staged: [Block; 2],
    /// Bytes in `staged`.
    staged_len: usize,
}

impl<const WORDS: usize> Message<WORDS> {
    /// The empty message, from the hash's initial state.
    pub(super) const fn new(start: State<WORDS>) -> Self {
        Self { state: start, len: 0, staged: [[0; BLOCK_LEN]; 2], staged_len: 0 }
    }

    /// The hash, once the message has been padded; four bytes for each word.
    pub(super) fn hash<const LEN: usize>(&self) -> [u8; LEN] {
        let mut hash = [0; LEN];
        for (bytes, word) in hash.as_chunks_mut().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        hash
    }

    /// Moves bytes from the front of `span` until a block is staged whole or the span is used up.
    fn stage(&mut self, span: &mut &[u8]) {
        let len = span.len().min(BLOCK_LEN - self.staged_len);
        let (front, rest) = span.split_at(len);
        self.staged.as_flattened_mut()[self.staged_len..][..len].copy_from_slice(front);
        self.staged_len += len;
        *span = rest;
    }

    /// Completes what is staged to one or two whole blocks (FIPS 180-4, 5.1.1).
    fn pad(&mut self) {
        let padded_len = (self.staged_len + 1 + BIT_COUNT_LEN).next_multiple_of(BLOCK_LEN);
        let staged = self.staged.as_flattened_mut();
        staged[self.staged_len..padded_len].fill(0);
        staged[self.staged_len] = 0x80;
        staged[padded_len - BIT_COUNT_LEN..padded_len].copy_from_slice(&(self.len * 8).to_be_bytes());
        self.staged_len = padded_len;
    }
}

/// What happens when a lane has no more spans.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// More will come another time: what is staged waits.
    Keep,
    /// The piece ends here.
    Pad,
}

/// Takes `pieces`, one list of spans for each message, through the lanes.
pub(super) fn hash_with<'h, 'a, const WORDS: usize, P>(
    table: &Table<WORDS>,
    messages: impl IntoIterator<Item = &'h mut Message<WORDS>>,
    pieces: impl IntoIterator<Item = P>,
    end: End,
) where
    P: IntoIterator<Item = &'a [u8]>,
{
    let lanes = messages.into_iter().zip(pieces);
    let mut waiting = lanes.map(|(message, spans)| Lane { message, spans: spans.into_iter().fuse(), span: &[], end });
    let mut lanes = Lanes { table, active: Vec::with_capacity(table.lanes_max()) };
    lanes.fill(&mut waiting);
    lanes.stagger();
    while !lanes.active.is_empty() {
        lanes.advance(lanes.active.len(), usize::MAX);
        lanes.fill(&mut waiting);
    }
}

/// A piece and its bytes to come.
struct Lane<'h, 'a, S, const WORDS: usize> {
    message: &'h mut Message<WORDS>,
    spans: S,
    /// What is left of the span that was taken last.
    span: &'a [u8],
    end: End,
}

impl<'a, S: Iterator<Item = &'a [u8]>, const WORDS: usize> Lane<'_, 'a, S, WORDS> {
    /// Finds the next whole blocks. False when there are none.
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
            } else if self.end == End::Pad {
                self.message.pad();
                self.end = End::Keep;
            } else {
                return false;
            }
        }
    }

    /// The blocks that come next, in one place.
    fn run(&self) -> &[Block] {
        match self.message.staged_len {
            0 => self.span.as_chunks().0,
            len => &self.message.staged[..len / BLOCK_LEN],
        }
    }

    /// Passes over the first `count` blocks of the run.
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

/// The pieces in hand, each [prepared](Lane::prepare).
struct Lanes<'t, 'h, 'a, S, const WORDS: usize> {
    table: &'t Table<WORDS>,
    active: Vec<Lane<'h, 'a, S, WORDS>>,
}

impl<'h, 'a, S: Iterator<Item = &'a [u8]>, const WORDS: usize> Lanes<'_, 'h, 'a, S, WORDS> {
    /// Lets finished pieces go and takes waiting ones in their place.
    fn fill(&mut self, waiting: &mut impl Iterator<Item = Lane<'h, 'a, S, WORDS>>) {
        self.active.retain_mut(Lane::prepare);
        let room = self.table.lanes_max() - self.active.len();
        self.active.extend(waiting.filter_map(|mut lane| lane.prepare().then_some(lane)).take(room));
    }

    /// Takes as many blocks as all of the first `lane_count` lanes have in one place, at most `count_max`.
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

    /// Gives earlier lanes a start of a few blocks.
    ///
    /// Pieces lie a power of two apart, so that equal places in them share one set of each cache: sixteen lanes abreast
    /// push each other's lines out before they are used. A block's distance is enough; it is worth a sixth of the speed.
    fn stagger(&mut self) {
        if self.active.iter().any(|lane| lane.run().len() < STAGGER_RUN_MIN) {
            return;
        }
        let starts = (1..self.active.len().div_ceil(ABREAST)).rev();
        starts.for_each(|group| self.advance(group * ABREAST, 1));
    }
}
