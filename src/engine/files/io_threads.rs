//! Threads for work on files that may block: opening, mapping, populating and dropping; without a ring also writing.
//!
//! Each torrent has a share of the threads, so that a file system that hangs blocks only its own torrents.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

use crate::base::limits;
use crate::base::lock::lock;
use crate::engine::files::writeback::DirtyRange;
use crate::io::{
    Driver, FlushStep, Gather, SharedFile, ThreadPool, flush_range, flush_range_blocking, write_all_at,
    write_all_at_blocking,
};

/// The threads that run work on files that may block. Dropping it does not wait for running work.
#[derive(Debug)]
pub(in crate::engine) struct FileThreads {
    pool: ThreadPool,
    driver: Driver,
}

/// The queued work of a torrent, and its share of the threads. The callers bound the queue: each entry is for one
/// piece, extent or connection.
#[derive(Debug, Default)]
pub(in crate::engine) struct FileShare(Arc<Mutex<Share>>);

#[derive(Default)]
struct Share {
    waiting: VecDeque<Box<dyn FnOnce() + Send>>,
    threads: usize,
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} queued for {} threads", self.waiting.len(), self.threads)
    }
}

impl FileThreads {
    /// Starts the first thread. With [`Driver::Ring`], writes and syncs are left to the ring of the calling thread.
    pub(in crate::engine) fn new(driver: Driver) -> io::Result<Self> {
        let pool = ThreadPool::new("files");
        pool.start()?;
        Ok(Self { pool, driver })
    }

    /// Runs `work` on a file thread of the torrent's share. Returns `None` if it panicked or the session has ended.
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

    /// The driver of the session.
    pub(in crate::engine) fn driver(&self) -> Driver {
        self.driver
    }

    /// Writes all bytes of `source` at `offset`. Must be called on an I/O thread.
    pub(in crate::engine) async fn write_all_at<G: Gather + Send>(
        &self,
        share: &FileShare,
        file: SharedFile,
        source: G,
        offset: u64,
    ) -> io::Result<()> {
        match self.driver {
            Driver::Ring => write_all_at(file, source, offset).await.0,
            Driver::Plain => {
                let written = self.run(share, move || write_all_at_blocking(&file, &source, offset));
                written.await.unwrap_or_else(|| Err(lost()))
            }
        }
    }

    /// Takes a step of writing out a range. Must be called on an I/O thread.
    pub(in crate::engine) async fn flush_range(
        &self,
        share: &FileShare,
        range: &DirtyRange,
        step: FlushStep,
    ) -> io::Result<()> {
        let (file, offset, len) = (range.file.clone(), range.offset, range.len);
        match self.driver {
            Driver::Ring => flush_range(file, offset, len, step).await,
            Driver::Plain => {
                let flushed = self.run(share, move || flush_range_blocking(&file, offset, len, step));
                flushed.await.unwrap_or_else(|| Err(lost()))
            }
        }
    }

    /// Runs `work` outside the shares of torrents, without a result.
    pub(in crate::engine) fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        self.pool.spawn(work);
    }
}

fn lost() -> io::Error {
    io::Error::other("the write panicked, or the session has ended")
}

impl FileShare {
    fn lock(&self) -> MutexGuard<'_, Share> {
        lock(&self.0)
    }

    /// Queues `work`. Returns a worker, to be run on another thread, if the share has a free one.
    fn push(&self, work: Box<dyn FnOnce() + Send>) -> Option<Worker> {
        let mut share = self.lock();
        share.waiting.push_back(work);
        let has_free_thread = share.threads < limits::FILE_THREADS_EACH;
        share.threads += usize::from(has_free_thread);
        has_free_thread.then(|| Worker { share: FileShare(self.0.clone()), has_left: false })
    }
}

/// Occupies one thread of a torrent's share until it leaves or is dropped.
struct Worker {
    share: FileShare,
    has_left: bool,
}

impl Worker {
    /// Runs queued work until there is none. Work that panics loses only its own result: its sender is dropped with it.
    fn run(mut self) {
        while let Some(work) = self.next() {
            let _ = catch_unwind(AssertUnwindSafe(work));
        }
    }

    /// Takes the next work. Without any, the worker leaves under the same lock, so that work pushed later gets a new
    /// one.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::task::{Context, Waker};
    use tokio::runtime::Builder;

    #[test]
    fn work_that_panics_costs_neither_threads_nor_other_work() {
        let threads = FileThreads::new(Driver::Ring).unwrap();
        let share = FileShare::default();
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let panics = || Box::pin(threads.run(&share, || panic!("a test of panics")));
            let mut panicking: Vec<_> = (0..=limits::FILE_THREADS_EACH).map(|_| panics()).collect();
            let mut after = Box::pin(threads.run(&share, || 7));
            let mut context = Context::from_waker(Waker::noop());
            // All work is queued or runs before the first result is awaited.
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
    fn a_worker_that_never_runs_frees_its_thread() {
        let share = FileShare::default();
        let worker = share.push(Box::new(|| ())).unwrap();
        assert_eq!(share.lock().threads, 1);
        drop(worker);
        assert_eq!(share.lock().threads, 0);
    }

    #[test]
    fn hanging_work_blocks_only_its_own_torrent() {
        let threads = FileThreads::new(Driver::Ring).unwrap();
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
            // The last worker may not have left yet.
            while hung.lock().threads > 0 {
                std::thread::yield_now();
            }
        });
    }
}
