//! What all torrents of the process may hold together of a thing of which the machine has so much: maps, memory for content.

use crate::base::lock::lock;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

/// A bound for the values that all [`BudgetedCache`] of it hold: those held for the longest time give way.
#[derive(Debug)]
pub(super) struct Budget<T> {
    max: u64,
    queue: Mutex<Queue<T>>,
}

#[derive(Debug)]
struct Queue<T> {
    /// In the order in which they came. A value that was taken out meanwhile still counts.
    entries: VecDeque<Entry<T>>,
    used: u64,
}

#[derive(Debug)]
struct Entry<T> {
    cells: Weak<[Cell<T>]>,
    index: usize,
    cost: u64,
}

type Cell<T> = RwLock<Option<Arc<T>>>;

/// Values by index, within a budget. A value that was handed out lives until its user drops it.
#[derive(Debug)]
pub(super) struct BudgetedCache<T> {
    cells: Arc<[Cell<T>]>,
    budget: Arc<Budget<T>>,
}

impl<T> Budget<T> {
    pub(super) fn new(max: u64) -> Arc<Self> {
        Arc::new(Self { max, queue: Mutex::new(Queue { entries: VecDeque::new(), used: 0 }) })
    }

    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// Has the oldest values give way: one divided by `share` of all.
    pub(super) fn make_room(&self, share: u64) {
        let mut queue = lock(&self.queue);
        let left = queue.used - queue.used.div_ceil(share);
        let gone = queue.shrink(left);
        drop(queue);
        drop(gone);
    }
}

impl<T> Queue<T> {
    /// What gives way so that no more than `max` is used, to be dropped without the lock.
    fn shrink(&mut self, max: u64) -> Vec<Arc<T>> {
        let mut gone = Vec::new();
        while self.used > max
            && let Some(entry) = self.entries.pop_front()
        {
            self.used -= entry.cost;
            gone.extend(entry.cells.upgrade().and_then(|cells| take(cells.get(entry.index)?)));
        }
        gone
    }
}

fn take<T>(cell: &Cell<T>) -> Option<Arc<T>> {
    cell.write().unwrap_or_else(PoisonError::into_inner).take()
}

impl<T> BudgetedCache<T> {
    /// One cell for each of `lasting`; what is there from the beginning stays and costs nothing.
    pub(super) fn new(lasting: impl Iterator<Item = Option<Arc<T>>>, budget: Arc<Budget<T>>) -> Self {
        Self { cells: lasting.map(RwLock::new).collect(), budget }
    }

    pub(super) fn budget(&self) -> &Budget<T> {
        &self.budget
    }

    pub(super) fn get(&self, index: usize) -> Option<Arc<T>> {
        self.cells.get(index)?.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn remove(&self, index: usize) {
        drop(self.cells.get(index).and_then(take));
    }

    /// Holds a value instead of what was held, until others need its room.
    pub(super) fn insert(&self, index: usize, value: Arc<T>, cost: u64) {
        let Some(cell) = self.cells.get(index) else { return };
        let replaced = cell.write().unwrap_or_else(PoisonError::into_inner).replace(value);
        let mut queue = lock(&self.budget.queue);
        queue.used += cost;
        queue.entries.push_back(Entry { cells: Arc::downgrade(&self.cells), index, cost });
        let gone = queue.shrink(self.budget.max);
        drop(queue);
        drop((replaced, gone));
    }
}

impl<T> Drop for BudgetedCache<T> {
    fn drop(&mut self) {
        let mut queue = lock(&self.budget.queue);
        let Queue { entries, used } = &mut *queue;
        entries.retain(|entry| {
            let stays = !std::ptr::addr_eq(entry.cells.as_ptr(), Arc::as_ptr(&self.cells));
            *used -= if stays { 0 } else { entry.cost };
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(len: usize, budget: &Arc<Budget<u8>>) -> BudgetedCache<u8> {
        BudgetedCache::new((0..len).map(|_| None), budget.clone())
    }

    #[test]
    fn the_oldest_gives_way_whichever_torrent_it_is_of() {
        let budget = Budget::new(10);
        let (a, b) = (held(3, &budget), held(3, &budget));
        a.insert(0, Arc::new(1), 4);
        b.insert(0, Arc::new(2), 4);
        let used = a.get(0);
        b.insert(1, Arc::new(3), 4);
        assert_eq!((a.get(0), b.get(0), b.get(1)), (None, Some(Arc::new(2)), Some(Arc::new(3))));
        assert_eq!(used, Some(Arc::new(1)), "whoever has it goes on");
        a.insert(2, Arc::new(4), 11);
        assert!(a.get(2).is_none() && b.get(1).is_none(), "more than there is room for");
    }

    #[test]
    fn what_a_torrent_held_is_free_when_it_is_dropped() {
        let budget = Budget::new(10);
        let (a, b) = (held(1, &budget), held(2, &budget));
        b.insert(0, Arc::new(1), 4);
        a.insert(0, Arc::new(2), 6);
        drop(a);
        b.insert(1, Arc::new(3), 6);
        assert!(b.get(0).is_some() && b.get(1).is_some());
        assert_eq!(budget.queue.lock().unwrap().used, 10);
    }

    #[test]
    fn what_is_there_from_the_beginning_stays() {
        let budget = Budget::new(4);
        let held = BudgetedCache::new([Some(Arc::new(9)), None, None].into_iter(), budget.clone());
        held.insert(1, Arc::new(1), 4);
        held.insert(2, Arc::new(2), 4);
        assert!(held.get(0).is_some() && held.get(1).is_none() && held.get(2).is_some());
        budget.make_room(4);
        assert!(held.get(0).is_some() && held.get(2).is_none());
    }
}
