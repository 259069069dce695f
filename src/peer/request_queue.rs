//! A queue of requests, oldest first, from which each can be removed by its block.
//!
//! Nearly all requests leave at the front. The others are found by an index. The first look-up behind the front reads
//! the whole queue to build it; it is kept up to date until the queue is empty or requests are extracted. So a peer
//! that names blocks in an order of its choice does not cause a search of the whole queue for each.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};

use crate::base::BlockRef;

/// The number of entries at the front, holes included, that are compared before the index is used.
const NEAR: usize = 16;
/// The number of holes that a queue may have beyond one for each request before it is compacted, so that a short queue
/// is not compacted again and again.
const HOLES_ALLOWED: usize = 64;

/// An element of the queue.
pub(super) trait Request: Copy {
    fn block(&self) -> BlockRef;
}

impl Request for BlockRef {
    fn block(&self) -> BlockRef {
        *self
    }
}

/// A queue of requests, oldest first, from which each can be removed by its block.
#[derive(Debug)]
pub(super) struct RequestQueue<T> {
    /// `None` where a request was removed; never at the front.
    entries: VecDeque<Option<T>>,
    /// The number of the entry at the front.
    first: u32,
    /// The number of requests in the queue.
    len: usize,
    /// `None` until a look-up needs it.
    index: Option<Index>,
}

/// Finds the earliest request of a block.
#[derive(Debug, Default)]
struct Index {
    /// The entries of each block's requests.
    blocks: HashMap<BlockRef, Occurrences>,
    /// For an entry whose block was requested again: the number of the next request for that block.
    next: HashMap<u32, u32>,
}

/// The entry numbers of the earliest and the latest request for a block.
#[derive(Debug)]
struct Occurrences {
    first: u32,
    last: u32,
}

impl Index {
    /// Adds the entry at the back of the queue.
    fn push_back(&mut self, block: BlockRef, number: u32) {
        match self.blocks.entry(block) {
            Entry::Vacant(vacant) => _ = vacant.insert(Occurrences { first: number, last: number }),
            Entry::Occupied(mut occurrences) => {
                self.next.insert(occurrences.get().last, number);
                occurrences.get_mut().last = number;
            }
        }
    }

    /// Removes the earliest request for a block. The next one, if any, becomes the earliest.
    fn remove_first(&mut self, block: BlockRef) {
        let Entry::Occupied(mut occurrences) = self.blocks.entry(block) else { return };
        let Occurrences { first, last } = *occurrences.get();
        match if first == last { None } else { self.next.remove(&first) } {
            Some(next) => occurrences.get_mut().first = next,
            None => _ = occurrences.remove(),
        }
    }
}

impl<T> Default for RequestQueue<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), first: 0, len: 0, index: None }
    }
}

impl<T: Request> RequestQueue<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.entries.front()?.as_ref()
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().flatten()
    }

    pub(super) fn push_back(&mut self, request: T) {
        let number = number_of(self.first, self.entries.len());
        if let Some(index) = &mut self.index {
            index.push_back(request.block(), number);
        }
        self.entries.push_back(Some(request));
        self.len += 1;
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        self.take_at(0)
    }

    /// Removes the earliest request for this block.
    pub(super) fn remove(&mut self, block: BlockRef) -> Option<T> {
        let is_it = |entry: &Option<T>| entry.is_some_and(|request| request.block() == block);
        match self.entries.iter().take(NEAR).position(is_it) {
            Some(at) => self.take_at(at),
            None if self.entries.len() <= NEAR => None,
            None => {
                if self.index.is_none() {
                    self.build_index();
                }
                let occurrences = self.index.as_ref()?.blocks.get(&block)?;
                self.take_at(occurrences.first.wrapping_sub(self.first) as usize)
            }
        }
    }

    /// Removes the requests for which `wanted` holds, and returns them oldest first.
    pub(super) fn extract(&mut self, wanted: impl Fn(BlockRef) -> bool) -> Vec<T> {
        if !self.iter().any(|request| wanted(request.block())) {
            return Vec::new();
        }
        let mut out = Vec::new();
        self.entries.retain(|entry| match entry {
            Some(request) if wanted(request.block()) => {
                out.push(*request);
                false
            }
            entry => entry.is_some(),
        });
        self.len -= out.len();
        self.index = None;
        out
    }

    /// Removes the request at this distance from the front. It must be the earliest for its block.
    fn take_at(&mut self, at: usize) -> Option<T> {
        let request = self.entries.get_mut(at)?.take()?;
        self.len -= 1;
        if let Some(index) = &mut self.index {
            index.remove_first(request.block());
        }
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        if self.entries.is_empty() {
            self.index = None;
        } else if self.entries.len() > 2 * self.len + HOLES_ALLOWED {
            self.entries.retain(Option::is_some);
            if self.index.is_some() {
                self.build_index();
            }
        }
        Some(request)
    }

    fn build_index(&mut self) {
        let mut index = Index::default();
        for (at, request) in self.entries.iter().enumerate() {
            if let Some(request) = request {
                index.push_back(request.block(), number_of(self.first, at));
            }
        }
        self.index = Some(index);
    }
}

/// The number of the entry at this distance from the front. Numbers count modulo 2^32, which is more than the queue's
/// length, so they identify entries.
#[expect(clippy::cast_possible_truncation, reason = "modulo 2^32")]
fn number_of(first: u32, at: usize) -> u32 {
    first.wrapping_add(at as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Geometry, Rng};

    fn blocks(count: u32) -> Vec<BlockRef> {
        let geometry = Geometry::new(16, [u64::from(count) * 16]).unwrap();
        geometry.pieces().map(|piece| geometry.span(piece.get(), 0, 16).unwrap()).collect()
    }

    #[test]
    fn requests_leave_by_block_as_from_a_list() {
        let blocks = blocks(300);
        // Entry numbers wrap early, late or never.
        for seed in 0..20 {
            let mut rng = Rng::with_seed(seed);
            let first = 0_u32.wrapping_sub(u32::try_from(seed).unwrap() * 100);
            let (mut queue, mut list) = (RequestQueue { first, ..RequestQueue::default() }, Vec::new());
            for step in 0..4000 {
                let block = blocks[rng.usize(..blocks.len())];
                match rng.usize(..if step % 1000 < 500 { 4 } else { 8 }) {
                    0 | 1 => {
                        queue.push_back(block);
                        list.push(block);
                    }
                    2 => {
                        let front = (!list.is_empty()).then(|| list.remove(0));
                        assert_eq!(queue.pop_front(), front);
                    }
                    _ => {
                        let earliest = list.iter().position(|&listed| listed == block);
                        assert_eq!(queue.remove(block), earliest.map(|at| list.remove(at)));
                    }
                }
                assert_eq!((queue.len(), queue.front()), (list.len(), list.first()), "seed {seed}");
                if step % 50 == 0 {
                    assert!(queue.iter().eq(&list), "seed {seed}");
                }
            }
            assert!(queue.iter().eq(&list), "seed {seed}");
            let even = |block: BlockRef| block.piece.get().is_multiple_of(2);
            let (out, kept): (Vec<BlockRef>, Vec<BlockRef>) = list.into_iter().partition(|&block| even(block));
            assert_eq!(queue.extract(even), out);
            assert!(queue.iter().eq(&kept) && kept.iter().all(|&block| queue.remove(block).is_some()));
            assert!(queue.is_empty() && queue.entries.is_empty() && queue.index.is_none());
        }
    }

    #[test]
    fn a_block_may_be_queued_twice() {
        let mut queue = RequestQueue::default();
        let blocks = blocks(100);
        blocks.iter().chain(&blocks).for_each(|&block| queue.push_back(block));
        assert_eq!(queue.remove(blocks[70]), Some(blocks[70]));
        assert_eq!(queue.iter().filter(|&&block| block == blocks[70]).count(), 1);
        assert_eq!(queue.remove(blocks[70]), Some(blocks[70]), "the later request of the same block");
        assert_eq!(queue.remove(blocks[70]), None);
        let left: Vec<BlockRef> = std::iter::from_fn(|| queue.pop_front()).collect();
        assert_eq!(left.len(), 198);
    }

    /// A request that can be distinguished from other requests for the same block.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Numbered(BlockRef, u32);

    impl Request for Numbered {
        fn block(&self) -> BlockRef {
            self.0
        }
    }

    #[test]
    fn the_earliest_of_equal_requests_leaves_first() {
        let blocks = blocks(40);
        let mut queue = RequestQueue::default();
        (0..3).for_each(|turn| blocks.iter().for_each(|&block| queue.push_back(Numbered(block, turn))));
        // Found by comparison at the front, and by the index behind it.
        for block in [blocks[2], blocks[30]] {
            let left: Vec<u32> = std::iter::from_fn(|| queue.remove(block)).map(|Numbered(_, turn)| turn).collect();
            assert_eq!(left, [0, 1, 2]);
        }
        // Requests that leave at the front while there is an index leave the later ones in it.
        while queue.front().is_some_and(|request| request.1 == 0) {
            queue.pop_front();
        }
        assert_eq!(queue.remove(blocks[39]), Some(Numbered(blocks[39], 1)));
        assert_eq!(queue.remove(blocks[39]), Some(Numbered(blocks[39], 2)));
    }

    #[test]
    fn extracting_nothing_keeps_the_index() {
        let blocks = blocks(100);
        let mut queue = RequestQueue::default();
        blocks.iter().for_each(|&block| queue.push_back(block));
        queue.remove(blocks[50]);
        assert!(queue.extract(|block| block == blocks[50]).is_empty() && queue.index.is_some());
        assert_eq!(queue.extract(|block| block == blocks[0] || block == blocks[99]), [blocks[0], blocks[99]]);
        assert_eq!((queue.len(), queue.front()), (97, Some(&blocks[1])));
        assert_eq!(queue.remove(blocks[98]), Some(blocks[98]));
    }

    /// The front does not move while requests are added and removed behind it.
    #[test]
    fn holes_do_not_pile_up() {
        let mut queue = RequestQueue::default();
        let blocks = blocks(100);
        blocks.iter().for_each(|&block| queue.push_back(block));
        for _ in 0..100_000 {
            assert!(queue.remove(blocks[99]).is_some());
            queue.push_back(blocks[99]);
        }
        assert!(queue.entries.len() <= 2 * 100 + HOLES_ALLOWED && queue.len() == 100);
    }
}
