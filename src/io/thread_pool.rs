//! Threads for work that may block. They start on demand, and all but the last one end when idle.
//!
//! The blocking threads of the crate tokio are not used: it panics if none can be started.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;
use tracing::debug;

use crate::base::limits;
use crate::base::lock::lock;

/// Runs work on up to [`limits::FILE_THREADS_MAX`] threads. Dropping it drops work that has not begun, and does not
/// wait for work that runs.
#[derive(Debug)]
pub struct ThreadPool(Arc<Pool>);

/// The threads and their queue.
struct Pool {
    name: &'static str,
    state: Mutex<State>,
    /// There is work, or the pool is closed.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Bounded by the callers.
    waiting: VecDeque<Work>,
    threads: usize,
    /// Threads that wait for work, or have been woken for it.
    idle: usize,
    is_closed: bool,
}

type Work = Box<dyn FnOnce() + Send>;

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        write!(f, "{} queued for {} {} threads", state.waiting.len(), state.threads, self.name)
    }
}

impl ThreadPool {
    /// `name` is the name of the threads. The first one starts with the first work.
    pub fn new(name: &'static str) -> Self {
        Self(Arc::new(Pool { name, state: Mutex::default(), changed: Condvar::new() }))
    }

    /// Starts a thread, so that work is done even if no other one can be started later.
    pub fn start(&self) -> io::Result<()> {
        lock(&self.0.state).threads += 1;
        self.0.start_counted()
    }

    /// Queues work, and starts a thread for it if all are busy. If none can be started, a running one does it later;
    /// without a running one the work is dropped.
    pub fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        self.0.push(Box::new(work));
    }

    /// Runs `work` and returns its result, or `None` if it panicked or was dropped.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (sender, done) = oneshot::channel();
        self.spawn(move || drop(sender.send(work())));
        done.await.ok()
    }
}

impl Pool {
    fn push(self: &Arc<Self>, work: Work) {
        let mut state = lock(&self.state);
        if state.is_closed {
            return;
        }
        state.waiting.push_back(work);
        if state.waiting.len() <= state.idle {
            self.changed.notify_one();
        } else if state.threads < limits::FILE_THREADS_MAX {
            state.threads += 1;
            drop(state);
            if let Err(error) = self.start_counted() {
                debug!("can't start another thread for {}: {error}", self.name);
                self.drop_unless_running();
            }
        }
    }

    /// Starts a thread that is counted already.
    fn start_counted(self: &Arc<Self>) -> io::Result<()> {
        let pool = self.clone();
        let started = thread::Builder::new().name(self.name.to_owned()).spawn(move || pool.run());
        started.map(drop).inspect_err(|_| lock(&self.state).threads -= 1)
    }

    /// Drops the queued work if no thread would ever take it.
    fn drop_unless_running(&self) {
        let mut state = lock(&self.state);
        let dropped = if state.threads == 0 { std::mem::take(&mut state.waiting) } else { VecDeque::new() };
        drop(state);
        drop(dropped);
    }

    fn run(&self) {
        while let Some(work) = self.next() {
            // Work that panics loses only its own result.
            let _ = catch_unwind(AssertUnwindSafe(work));
        }
    }

    /// Waits for the next work. Returns `None` if the thread is to end. The last thread stays, as another one might not
    /// start.
    fn next(&self) -> Option<Work> {
        let mut state = lock(&self.state);
        loop {
            if state.is_closed {
                state.threads -= 1;
                return None;
            }
            if let Some(work) = state.waiting.pop_front() {
                return Some(work);
            }
            state.idle += 1;
            let (woken, waited) =
                self.changed.wait_timeout(state, limits::FILE_THREAD_IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.waiting.is_empty() && state.threads > 1 {
                state.threads -= 1;
                return None;
            }
        }
    }
}

/// Drops queued work, whose callers then get no result.
impl Drop for ThreadPool {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.is_closed = true;
        let dropped = std::mem::take(&mut state.waiting);
        drop(state);
        drop(dropped);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn more_work_than_threads_is_done_in_the_end() {
        const COUNT: usize = 2 * limits::FILE_THREADS_MAX;
        let threads = ThreadPool::new("test");
        let (done, all) = mpsc::channel();
        for _ in 0..COUNT {
            let done = done.clone();
            threads.spawn(move || done.send(()).unwrap());
        }
        assert_eq!(all.iter().take(COUNT).count(), COUNT);
        let started = lock(&threads.0.state).threads;
        assert!((1..=limits::FILE_THREADS_MAX).contains(&started), "{started}");
    }

    #[tokio::test]
    async fn work_that_panics_has_no_result() {
        let threads = ThreadPool::new("test");
        assert_eq!(threads.run(|| panic!("a test of panics")).await, None::<()>);
        assert_eq!(threads.run(|| 7).await, Some(7));
    }

    #[test]
    fn work_of_a_closed_pool_is_dropped() {
        let threads = ThreadPool::new("test");
        let (release, gate) = mpsc::channel::<()>();
        lock(&threads.0.state).is_closed = true;
        threads.spawn(move || drop(release));
        assert!(gate.recv().is_err());
    }

    #[test]
    fn work_that_no_thread_would_take_is_dropped() {
        let threads = ThreadPool::new("test");
        let (release, gate) = mpsc::channel::<()>();
        lock(&threads.0.state).waiting.push_back(Box::new(move || drop(release)));
        threads.0.drop_unless_running();
        assert!(gate.recv().is_err());
    }
}
