//! Requests in the order in which they were made, each of which can be taken out by its block.
//!
//! Nearly all of them leave at the front. The others are found by an index, which is built when the first of them is looked for
//! and kept until the queue is empty: whatever a peer names, the queue is not searched from end to end for it.

use std::collections::{HashMap, VecDeque};

use crate::base::BlockRef;

/// Requests at the front that are compared before the index is asked.
const NEAR: usize = 16;
/// Holes that requests may leave in the queue beside as many as there are requests.
const HOLES_MIN: usize = 64;

/// What the queue holds.
pub(super) trait Request: Copy {
    fn block(&self) -> BlockRef;
}

impl Request for BlockRef {
    fn block(&self) -> BlockRef {
        *self
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct RequestQueue<T> {
    /// `None` where a request was taken out; never at the front.
    slots: VecDeque<Option<T>>,
    /// Number of the slot at the front.
    first: u32,
    /// Requests in the queue.
    len: usize,
    /// `None`: not needed so far.
    index: Option<Index>,
}

/// Where the requests of a block are, by slot number.
#[derive(Debug, Default)]
struct Index {
    /// Of a block that was requested several times the last slot.
    last: HashMap<BlockRef, u32>,
    /// The slot of the request before, of the same block, for slots that are in the queue.
    previous: HashMap<u32, u32>,
}

impl Index {
    fn insert(&mut self, block: BlockRef, number: u32) {
        if let Some(previous) = self.last.insert(block, number) {
            self.previous.insert(number, previous);
        }
    }
}

impl<T> Default for RequestQueue<T> {
    fn default() -> Self {
        Self { slots: VecDeque::new(), first: 0, len: 0, index: None }
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
        self.slots.front()?.as_ref()
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }

    pub(super) fn push_back(&mut self, request: T) {
        let number = number_of(self.first, self.slots.len());
        if let Some(index) = &mut self.index {
            index.insert(request.block(), number);
        }
        self.slots.push_back(Some(request));
        self.len += 1;
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        self.take_at(0)
    }

    /// Takes out a request of this block.
    pub(super) fn remove(&mut self, block: BlockRef) -> Option<T> {
        let is_it = |slot: &Option<T>| slot.is_some_and(|request| request.block() == block);
        match self.slots.iter().take(NEAR).position(is_it) {
            Some(at) => self.take_at(at),
            None if self.slots.len() <= NEAR => None,
            None => {
                if self.index.is_none() {
                    self.build_index();
                }
                let number = *self.index.as_ref()?.last.get(&block)?;
                self.take_at(number.wrapping_sub(self.first) as usize)
            }
        }
    }

    /// Takes out the requests for which `wanted` holds, oldest first.
    pub(super) fn extract(&mut self, wanted: impl Fn(BlockRef) -> bool) -> Vec<T> {
        let (out, kept): (Vec<T>, Vec<T>) = self.iter().copied().partition(|request| wanted(request.block()));
        *self = Self::default();
        kept.into_iter().for_each(|request| self.push_back(request));
        out
    }

    fn take_at(&mut self, at: usize) -> Option<T> {
        let request = self.slots.get_mut(at)?.take()?;
        self.len -= 1;
        self.unindex(request.block(), number_of(self.first, at));
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.index.as_mut().map(|index| index.previous.remove(&self.first));
            self.first = self.first.wrapping_add(1);
        }
        if self.slots.is_empty() {
            self.index = None;
        } else if self.slots.len() > 2 * self.len + HOLES_MIN {
            self.slots.retain(Option::is_some);
            if self.index.is_some() {
                self.build_index();
            }
        }
        Some(request)
    }

    /// The request of this slot is gone: an earlier one of its block takes its place. Each empty slot is passed over once.
    fn unindex(&mut self, block: BlockRef, number: u32) {
        let Some(index) = &mut self.index else { return };
        if index.last.get(&block) != Some(&number) {
            return;
        }
        index.last.remove(&block);
        let mut earlier = index.previous.get(&number).copied();
        while let Some(number) = earlier
            && let Some(slot) = self.slots.get(number.wrapping_sub(self.first) as usize)
        {
            if slot.is_some() {
                index.last.insert(block, number);
                return;
            }
            earlier = index.previous.get(&number).copied();
        }
    }

    fn build_index(&mut self) {
        let mut index = Index::default();
        for (at, request) in self.slots.iter().enumerate() {
            request.iter().for_each(|request| index.insert(request.block(), number_of(self.first, at)));
        }
        self.index = Some(index);
    }
}

/// Numbers wrap: only their distance from the front counts.
fn number_of(first: u32, at: usize) -> u32 {
    first.wrapping_add(u32::try_from(at).unwrap_or(u32::MAX))
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
    fn requests_leave_by_block_from_any_place_as_from_a_list() {
        let blocks = blocks(300);
        for seed in 0..20 {
            let mut rng = Rng::with_seed(seed);
            let (mut queue, mut list) = (RequestQueue::default(), Vec::new());
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
                        // Which one of several requests of a block leaves does not matter.
                        let count = list.iter().filter(|&&listed| listed == block).count();
                        assert_eq!(queue.remove(block), (count > 0).then_some(block));
                        let others = |listed: &&BlockRef| **listed != block;
                        assert!(queue.iter().filter(others).eq(list.iter().filter(others)));
                        list = queue.iter().copied().collect();
                        assert_eq!(list.iter().filter(|&&listed| listed == block).count(), count.saturating_sub(1));
                    }
                }
                assert_eq!((queue.len(), queue.front()), (list.len(), list.first()));
            }
            assert!(queue.iter().eq(&list));
            let even = |block: BlockRef| block.piece.get().is_multiple_of(2);
            let (out, kept): (Vec<BlockRef>, Vec<BlockRef>) = list.into_iter().partition(|&block| even(block));
            assert_eq!(queue.extract(even), out);
            assert!(queue.iter().eq(&kept) && kept.iter().all(|&block| queue.remove(block).is_some()));
            assert!(queue.is_empty() && queue.slots.is_empty() && queue.index.is_none());
        }
    }

    #[test]
    fn a_block_requested_again_is_there_again() {
        let mut queue = RequestQueue::default();
        let blocks = blocks(100);
        blocks.iter().chain(&blocks).for_each(|&block| queue.push_back(block));
        assert_eq!(queue.remove(blocks[70]), Some(blocks[70]));
        assert_eq!(queue.iter().filter(|&&block| block == blocks[70]).count(), 1);
        assert_eq!(queue.remove(blocks[70]), Some(blocks[70]), "the earlier request of the same block");
        assert_eq!(queue.remove(blocks[70]), None);
        let left: Vec<BlockRef> = std::iter::from_fn(|| queue.pop_front()).collect();
        assert_eq!(left.len(), 198);
    }

    /// The front does not move while requests come and are taken back behind it.
    #[test]
    fn holes_do_not_pile_up() {
        let mut queue = RequestQueue::default();
        let blocks = blocks(100);
        blocks.iter().for_each(|&block| queue.push_back(block));
        for _ in 0..100_000 {
            assert!(queue.remove(blocks[99]).is_some());
            queue.push_back(blocks[99]);
        }
        assert!(queue.slots.len() <= 2 * 100 + HOLES_MIN && queue.len() == 100);
    }
}
