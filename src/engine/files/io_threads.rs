//! Work on files that may block: opening, mapping, reading in, dropping.
//!
//! It has threads of its own, and each torrent a share of them, so that a file system that hangs holds up its own torrents
//! alone. Threads start as they are needed and end when they are not. What is written, and synced, is not done here.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::base::limits;

/// See the module. Dropping it waits for nobody.
#[derive(Debug)]
pub(in crate::engine) struct FileThreads(Option<Runtime>);

/// A torrent's work, and its share of the threads. What waits is bounded by who asks for it: a piece or a stretch at a time.
#[derive(Debug, Default)]
pub(in crate::engine) struct FileShare(Arc<Mutex<Share>>);

#[derive(Default)]
struct Share {
    waiting: VecDeque<Box<dyn FnOnce() + Send>>,
    threads: usize,
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} wait for {} threads", self.waiting.len(), self.threads)
    }
}

impl FileThreads {
    pub(in crate::engine) fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(limits::FILE_THREADS_MAX)
            .thread_name("files")
            .thread_keep_alive(limits::FILE_THREAD_IDLE)
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Runs `work` in its turn; `None` when it panicked, or the session has ended.
    pub(in crate::engine) async fn run<T: Send + 'static>(
        &self,
        share: &FileShare,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, done) = oneshot::channel();
        if let Some(worker) = share.push(Box::new(move || drop(sender.send(work())))) {
            self.spawn(move || worker.run());
        }
        done.await.ok()
    }

    /// Runs `work` that nobody waits for, and that is nobody's share.
    pub(in crate::engine) fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        if let Some(runtime) = &self.0 {
            drop(runtime.spawn_blocking(work));
        }
    }
}

impl FileShare {
    fn lock(&self) -> MutexGuard<'_, Share> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of one more thread, where one is needed for it.
    fn push(&self, work: Box<dyn FnOnce() + Send>) -> Option<Worker> {
        let mut share = self.lock();
        share.waiting.push_back(work);
        let has_place = share.threads < limits::FILE_THREADS_EACH;
        share.threads += usize::from(has_place);
        has_place.then(|| Worker { share: FileShare(self.0.clone()), has_left: false })
    }
}

/// One thread's place in a torrent's share, until it leaves or is dropped.
struct Worker {
    share: FileShare,
    has_left: bool,
}

impl Worker {
    /// Does what waits. Work that panics loses its own result alone: its sender is dropped with it.
    fn run(mut self) {
        while let Some(work) = self.next() {
            let _ = catch_unwind(AssertUnwindSafe(work));
        }
    }

    /// Without any work the thread leaves, under the same lock: work that is pushed later finds its place free.
    fn next(&mut self) -> Option<Box<dyn FnOnce() + Send>> {
        let mut share = self.share.lock();
        let next = share.waiting.pop_front();
        if next.is_none() {
            share.threads -= 1;
            self.has_left = true;
        }
        next
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.has_left {
            self.share.lock().threads -= 1;
        }
    }
}

impl Drop for FileThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    #[test]
    fn work_that_panics_costs_neither_threads_nor_other_work() {
        let threads = FileThreads::new().unwrap();
        let share = FileShare::default();
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let panics = || Box::pin(threads.run(&share, || panic!("a test of panics")));
            let mut panicking: Vec<_> = (0..=limits::FILE_THREADS_EACH).map(|_| panics()).collect();
            let mut after = Box::pin(threads.run(&share, || 7));
            let mut context = Context::from_waker(Waker::noop());
            // All of it waits, or runs, before the first result is looked at.
            for work in &mut panicking {
                let _: std::task::Poll<Option<()>> = work.as_mut().poll(&mut context);
            }
            let _ = after.as_mut().poll(&mut context);
            assert_eq!(after.await, Some(7));
            assert_eq!(threads.run(&share, || 8).await, Some(8));
            while share.lock().threads > 0 {
                std::thread::yield_now();
            }
        });
    }

    #[test]
    fn a_worker_that_never_runs_gives_its_place_back() {
        let share = FileShare::default();
        let worker = share.push(Box::new(|| ())).unwrap();
        assert_eq!(share.lock().threads, 1);
        drop(worker);
        assert_eq!(share.lock().threads, 0);
    }

    #[test]
    fn work_that_hangs_holds_its_own_torrent_alone() {
        let threads = FileThreads::new().unwrap();
        let (hung, other) = (FileShare::default(), FileShare::default());
        let (release, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let hang = || {
                let gate = gate.clone();
                threads.run(&hung, move || gate.lock().unwrap().recv().is_err())
            };
            let mut hanging: Vec<_> = (0..=limits::FILE_THREADS_EACH).map(|_| Box::pin(hang())).collect();
            let mut context = Context::from_waker(Waker::noop());
            assert!(hanging.iter_mut().all(|work| work.as_mut().poll(&mut context).is_pending()));
            assert_eq!(hung.lock().threads, limits::FILE_THREADS_EACH);
            for i in 0..3 {
                assert_eq!(threads.run(&other, move || i).await, Some(i));
            }
            drop(release);
            for work in hanging {
                assert_eq!(work.await, Some(true));
            }
            // The last one may not have looked for more work yet.
            while hung.lock().threads > 0 {
                std::thread::yield_now();
            }
        });
    }
}
