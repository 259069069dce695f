//! Pieces on their way through the lanes: where the next whole blocks lie, what straddles two spans, the padding.

use super::kernels::{Block, INITIAL_STATE, LANES_MAX, Plan, State, chosen};
use crate::base::PieceHash;

const BLOCK_LEN: usize = size_of::<Block>();

/// What ends a message's padding: its length in bits (FIPS 180-4, 5.1.1).
const BIT_COUNT_LEN: usize = size_of::<u64>();

/// Runs of at least this many blocks are worth a [stagger](Lanes::stagger).
const STAGGER_RUN_MIN: usize = 256;
/// Lanes that stay abreast. A cache set has eight places; these leave some for what is read ahead.
const ABREAST: usize = 4;

/// The hash of one piece that lies in `spans`, in order (BEP 3).
pub fn sha1(spans: &[&[u8]]) -> PieceHash {
    let mut hasher = PieceHasher::default();
    hash_with(chosen(), std::slice::from_mut(&mut hasher), [spans.iter().copied()], End::Pad);
    hasher.hash()
}

/// The hash of every piece, in order. A piece is a list of spans, which are hashed where they lie.
pub fn sha1_batch<'a, P>(pieces: impl IntoIterator<Item = P>) -> Vec<PieceHash>
where
    P: IntoIterator<Item = &'a [u8]>,
{
    sha1_batch_with(chosen(), pieces)
}

/// [`sha1_batch`], whatever was chosen.
pub fn sha1_batch_with<'a, P>(plan: &Plan, pieces: impl IntoIterator<Item = P>) -> Vec<PieceHash>
where
    P: IntoIterator<Item = &'a [u8]>,
{
    let pieces: Vec<P> = pieces.into_iter().collect();
    let mut hashers = vec![PieceHasher::default(); pieces.len()];
    hash_with(plan, &mut hashers, pieces, End::Pad);
    hashers.iter().map(PieceHasher::hash).collect()
}

/// The hash of one piece whose bytes come a part at a time: for pieces too long to hold whole.
#[derive(Clone)]
pub struct PieceHasher {
    state: State,
    /// Bytes taken from spans.
    len: u64,
    /// What does not lie in one span as a whole block: the end of one with the start of the next; the padding.
    staged: [Block; 2],
    /// Bytes in `staged`.
    staged_len: usize,
}

impl Default for PieceHasher {
    fn default() -> Self {
        Self { state: INITIAL_STATE, len: 0, staged: [[0; BLOCK_LEN]; 2], staged_len: 0 }
    }
}

impl PieceHasher {
    pub fn update(&mut self, bytes: &[u8]) {
        Self::update_batch(std::slice::from_mut(self), &[bytes]);
    }

    /// The hash of everything since the last `finish`, and a fresh start.
    pub fn finish(&mut self) -> PieceHash {
        let mut hash = [PieceHash([0; _])];
        Self::finish_batch(std::slice::from_mut(self), &mut hash);
        let [hash] = hash;
        hash
    }

    /// The next part of each piece, side by side. Parts of one length are fastest.
    ///
    /// # Panics
    /// When there are not as many parts as hashers.
    pub fn update_batch(hashers: &mut [Self], parts: &[&[u8]]) {
        assert_eq!(hashers.len(), parts.len());
        hash_with(chosen(), hashers, parts.iter().map(|part| [*part]), End::Keep);
    }

    /// [`Self::finish`] for each piece, side by side.
    ///
    /// # Panics
    /// When there are not as many hashes as hashers.
    pub fn finish_batch(hashers: &mut [Self], hashes: &mut [PieceHash]) {
        assert_eq!(hashers.len(), hashes.len());
        hash_with(chosen(), hashers, std::iter::repeat([]), End::Pad);
        for (hash, hasher) in hashes.iter_mut().zip(hashers) {
            *hash = std::mem::take(hasher).hash();
        }
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

    fn hash(&self) -> PieceHash {
        let mut hash = PieceHash([0; _]);
        for (bytes, word) in hash.0.as_chunks_mut().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        hash
    }
}

/// What happens when a lane has no more spans.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// More will come another time: what is staged waits.
    Keep,
    /// The piece ends here.
    Pad,
}

/// Takes `pieces`, one list of spans for each hasher, through the lanes.
fn hash_with<'a, P>(plan: &Plan, hashers: &mut [PieceHasher], pieces: impl IntoIterator<Item = P>, end: End)
where
    P: IntoIterator<Item = &'a [u8]>,
{
    let lanes = hashers.iter_mut().zip(pieces);
    let mut waiting = lanes.map(|(hasher, spans)| Lane { hasher, spans: spans.into_iter().fuse(), span: &[], end });
    let mut lanes = Lanes { plan, active: Vec::with_capacity(plan.lanes_max()) };
    lanes.fill(&mut waiting);
    lanes.stagger();
    while !lanes.active.is_empty() {
        lanes.advance(lanes.active.len(), usize::MAX);
        lanes.fill(&mut waiting);
    }
}

/// A piece and its bytes to come.
struct Lane<'h, 'a, S> {
    hasher: &'h mut PieceHasher,
    spans: S,
    /// What is left of the span that was taken last.
    span: &'a [u8],
    end: End,
}

impl<'a, S: Iterator<Item = &'a [u8]>> Lane<'_, 'a, S> {
    /// Finds the next whole blocks. False when there are none.
    fn prepare(&mut self) -> bool {
        loop {
            let staged_len = self.hasher.staged_len;
            if staged_len >= BLOCK_LEN || (staged_len == 0 && self.span.len() >= BLOCK_LEN) {
                return true;
            }
            if !self.span.is_empty() {
                self.hasher.stage(&mut self.span);
            } else if let Some(span) = self.spans.next() {
                self.hasher.len += span.len() as u64;
                self.span = span;
            } else if self.end == End::Pad {
                self.hasher.pad();
                self.end = End::Keep;
            } else {
                return false;
            }
        }
    }

    /// The blocks that come next, in one place.
    fn run(&self) -> &[Block] {
        match self.hasher.staged_len {
            0 => self.span.as_chunks().0,
            len => &self.hasher.staged[..len / BLOCK_LEN],
        }
    }

    /// Passes over the first `count` blocks of the run.
    fn consume(&mut self, count: usize) {
        let hasher = &mut *self.hasher;
        if hasher.staged_len == 0 {
            self.span = &self.span[count * BLOCK_LEN..];
        } else {
            hasher.staged.swap(0, count % 2);
            hasher.staged_len -= count * BLOCK_LEN;
        }
    }
}

/// The pieces in hand, each [prepared](Lane::prepare).
struct Lanes<'p, 'h, 'a, S> {
    plan: &'p Plan,
    active: Vec<Lane<'h, 'a, S>>,
}

impl<'h, 'a, S: Iterator<Item = &'a [u8]>> Lanes<'_, 'h, 'a, S> {
    /// Lets finished pieces go and takes waiting ones in their place.
    fn fill(&mut self, waiting: &mut impl Iterator<Item = Lane<'h, 'a, S>>) {
        self.active.retain_mut(Lane::prepare);
        let room = self.plan.lanes_max() - self.active.len();
        self.active.extend(waiting.filter_map(|mut lane| lane.prepare().then_some(lane)).take(room));
    }

    /// Takes as many blocks as all of the first `lane_count` lanes have in one place, at most `count_max`.
    fn advance(&mut self, lane_count: usize, count_max: usize) {
        let lanes = &mut self.active[..lane_count];
        let count = lanes.iter().map(|lane| lane.run().len()).min().map_or(0, |count| count.min(count_max));
        let mut states = [INITIAL_STATE; LANES_MAX];
        let mut runs: [&[Block]; LANES_MAX] = [&[]; LANES_MAX];
        for (lane, (state, run)) in lanes.iter().zip(states.iter_mut().zip(&mut runs)) {
            *state = lane.hasher.state;
            *run = &lane.run()[..count];
        }
        self.plan.compress(&mut states[..lane_count], &runs[..lane_count]);
        for (lane, state) in lanes.iter_mut().zip(states) {
            lane.hasher.state = state;
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

#[cfg(test)]
#[path = "piece_tests.rs"]
mod tests;
