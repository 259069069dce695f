//! Caches of all torrents that share one budget of a limited resource: maps, or memory for content.

use crate::base::lock::lock;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

/// A limit on the total cost of the values in all [`BudgetedCache`]s that share it. The oldest values are evicted
/// first.
#[derive(Debug)]
pub(super) struct Budget<T> {
    max: u64,
    queue: Mutex<Queue<T>>,
}

#[derive(Debug)]
struct Queue<T> {
    /// In order of insertion. A value that was removed from its cache counts until its entry is evicted.
    entries: VecDeque<Entry<T>>,
    used: u64,
}

#[derive(Debug)]
struct Entry<T> {
    cells: Weak<[Cell<T>]>,
    index: usize,
    /// Another value may have taken its place.
    value: Weak<T>,
    cost: u64,
}

type Cell<T> = RwLock<Option<Arc<T>>>;

/// Values by index, within a budget. An evicted value lives until its last user drops it.
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

    /// Evicts the oldest values, at least 1/`share` of the cost in use.
    pub(super) fn make_room(&self, share: u64) {
        let mut queue = lock(&self.queue);
        let target = queue.used - queue.used.div_ceil(share);
        let evicted = queue.shrink(target);
        drop(queue);
        drop(evicted);
    }
}

impl<T> Queue<T> {
    /// Evicts values until at most `max` is in use. The caller drops the returned values after it has released the
    /// lock.
    fn shrink(&mut self, max: u64) -> Vec<Arc<T>> {
        let mut evicted = Vec::new();
        while self.used > max
            && let Some(entry) = self.entries.pop_front()
        {
            self.used -= entry.cost;
            evicted.extend(entry.cells.upgrade().and_then(|cells| take_value(cells.get(entry.index)?, &entry.value)));
        }
        evicted
    }
}

/// Empties the cell if it has this value.
fn take_value<T>(cell: &Cell<T>, value: &Weak<T>) -> Option<Arc<T>> {
    let mut cell = cell.write().unwrap_or_else(PoisonError::into_inner);
    cell.take_if(|current| Arc::as_ptr(current) == value.as_ptr())
}

fn take<T>(cell: &Cell<T>) -> Option<Arc<T>> {
    cell.write().unwrap_or_else(PoisonError::into_inner).take()
}

impl<T> BudgetedCache<T> {
    /// Creates a cache with one cell for each element of `lasting`. The values given here are never evicted and cost
    /// nothing.
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

    /// Sets a value, which is kept until newer ones need its share of the budget.
    pub(super) fn insert(&self, index: usize, value: Arc<T>, cost: u64) {
        let Some(cell) = self.cells.get(index) else { return };
        let weak = Arc::downgrade(&value);
        let replaced = cell.write().unwrap_or_else(PoisonError::into_inner).replace(value);
        let mut queue = lock(&self.budget.queue);
        queue.used += cost;
        queue.entries.push_back(Entry { cells: Arc::downgrade(&self.cells), index, value: weak, cost });
        let evicted = queue.shrink(self.budget.max);
        drop(queue);
        drop((replaced, evicted));
    }
}

impl<T> Drop for BudgetedCache<T> {
    fn drop(&mut self) {
        let mut queue = lock(&self.budget.queue);
        let Queue { entries, used } = &mut *queue;
        entries.retain(|entry| {
            let is_kept = !std::ptr::addr_eq(entry.cells.as_ptr(), Arc::as_ptr(&self.cells));
            *used -= if is_kept { 0 } else { entry.cost };
            is_kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(len: usize, budget: &Arc<Budget<u8>>) -> BudgetedCache<u8> {
        BudgetedCache::new((0..len).map(|_| None), budget.clone())
    }

    /// Two threads may load the same value.
    #[test]
    fn a_value_is_not_evicted_for_the_one_that_it_replaced() {
        let budget = Budget::new(10);
        let cache = cache(1, &budget);
        for value in 0..3 {
            cache.insert(0, Arc::new(value), 9);
            assert_eq!(cache.get(0).as_deref(), Some(&value));
        }
    }

    #[test]
    fn the_oldest_value_of_all_caches_is_evicted() {
        let budget = Budget::new(10);
        let (a, b) = (cache(3, &budget), cache(3, &budget));
        a.insert(0, Arc::new(1), 4);
        b.insert(0, Arc::new(2), 4);
        let used = a.get(0);
        b.insert(1, Arc::new(3), 4);
        assert_eq!((a.get(0), b.get(0), b.get(1)), (None, Some(Arc::new(2)), Some(Arc::new(3))));
        assert_eq!(used, Some(Arc::new(1)), "a user keeps it");
        a.insert(2, Arc::new(4), 11);
        assert!(a.get(2).is_none() && b.get(1).is_none(), "more than the budget");
    }

    #[test]
    fn a_dropped_cache_frees_its_share_of_the_budget() {
        let budget = Budget::new(10);
        let (a, b) = (cache(1, &budget), cache(2, &budget));
        b.insert(0, Arc::new(1), 4);
        a.insert(0, Arc::new(2), 6);
        drop(a);
        b.insert(1, Arc::new(3), 6);
        assert!(b.get(0).is_some() && b.get(1).is_some());
        assert_eq!(budget.queue.lock().unwrap().used, 10);
    }

    #[test]
    fn initial_values_are_never_evicted() {
        let budget = Budget::new(4);
        let cache = BudgetedCache::new([Some(Arc::new(9)), None, None].into_iter(), budget.clone());
        cache.insert(1, Arc::new(1), 4);
        cache.insert(2, Arc::new(2), 4);
        assert!(cache.get(0).is_some() && cache.get(1).is_none() && cache.get(2).is_some());
        budget.make_room(4);
        assert!(cache.get(0).is_some() && cache.get(2).is_none());
    }
}
