//! Threads for work on files that may block: opening, mapping, populating and dropping; without a ring also writing.
//!
//! Each torrent has a share of the threads, so that a file system that hangs blocks only its own torrents.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;
use tracing::info;

use crate::base::limits;
use crate::base::lock::lock;
use crate::engine::files::writeback::DirtyRange;
use crate::io::{
    AsyncContext, AsyncWrite, AsyncWrites, Driver, FlushStep, Gather, SharedFile, ThreadPool, flush_range,
    flush_range_blocking, write_all_at, write_all_at_blocking,
};
use crate::storage::WritePath;

/// The threads that run work on files that may block. Dropping it does not wait for running work.
#[derive(Debug)]
pub(in crate::engine) struct FileThreads {
    pool: ThreadPool,
    driver: Driver,
    contexts: Arc<IdleContexts>,
}

/// The contexts of a session for direct writes without io_uring that no writer uses now.
#[derive(Debug, Default)]
struct IdleContexts {
    idle: Mutex<Vec<AsyncContext>>,
    /// The kernel has refused a context: writes block, each on a thread of its own.
    is_refused: AtomicBool,
}

/// The queued work of a torrent, and its share of the threads. The callers bound the queue: each entry is for one
/// piece, extent or connection.
#[derive(Debug, Default)]
pub(in crate::engine) struct FileShare(Arc<Mutex<Share>>);

#[derive(Default)]
struct Share {
    waiting: VecDeque<Box<dyn FnOnce() + Send>>,
    threads: usize,
    /// Direct writes, for the one thread that makes them.
    writes: VecDeque<AsyncWrite<Written>>,
    has_writer: bool,
}

/// Gets the result of a write.
type Written = oneshot::Sender<io::Result<()>>;

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queued = self.waiting.len() + self.writes.len();
        write!(f, "{queued} queued for {} threads", self.threads)
    }
}

impl FileThreads {
    /// Starts the first thread. With [`Driver::Ring`], writes and syncs are left to the ring of the calling thread.
    pub(in crate::engine) fn new(driver: Driver) -> io::Result<Self> {
        let pool = ThreadPool::new("files");
        pool.start()?;
        Ok(Self { pool, driver, contexts: Arc::default() })
    }

    /// Runs `work` on a file thread of the torrent's share. Returns `None` if it panicked or the session has ended.
    pub(in crate::engine) async fn run<T: Send + 'static>(
        &self,
        share: &FileShare,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, done) = oneshot::channel();
        self.push(share, Box::new(move || drop(sender.send(work()))));
        done.await.ok()
    }

    fn push(&self, share: &FileShare, work: Box<dyn FnOnce() + Send>) {
        if let Some(worker) = share.push(work) {
            self.spawn(move || worker.run());
        }
    }

    /// The driver of the session.
    pub(in crate::engine) fn driver(&self) -> Driver {
        self.driver
    }

    /// Writes all bytes of `source` at `offset` to a file that was opened for `path`. Must be called on an I/O
    /// thread.
    pub(in crate::engine) async fn write_all_at<G: Gather + Send>(
        &self,
        share: &FileShare,
        file: SharedFile,
        path: WritePath,
        source: G,
        offset: u64,
    ) -> io::Result<()> {
        let written = match (self.driver, path) {
            (Driver::Ring, _) => return write_all_at(file, source, offset).await.0,
            (Driver::Plain, WritePath::Direct) if !self.contexts.is_refused.load(Ordering::Relaxed) => {
                let (tag, done) = oneshot::channel();
                if let Some(writer) = share.push_write(AsyncWrite { file, source: Box::new(source), offset, tag }) {
                    let contexts = self.contexts.clone();
                    self.push(share, Box::new(move || writer.run(&contexts)));
                }
                done.await.ok()
            }
            (Driver::Plain, _) => self.run(share, move || write_all_at_blocking(&file, &source, offset)).await,
        };
        written.unwrap_or_else(|| Err(lost()))
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

impl IdleContexts {
    /// Returns `None` if the kernel grants no further context.
    fn take(&self) -> Option<AsyncContext> {
        let idle = lock(&self.idle).pop();
        idle.or_else(|| AsyncContext::new().inspect_err(|error| self.handle_refused(error)).ok())
    }

    fn handle_refused(&self, error: &io::Error) {
        if !self.is_refused.swap(true, Ordering::Relaxed) {
            info!("without asynchronous I/O ({error}): each write occupies a thread");
        }
    }

    fn put(&self, context: AsyncContext) {
        let mut idle = lock(&self.idle);
        if idle.len() < limits::ASYNC_CONTEXTS_IDLE_MAX {
            idle.push(context);
        }
    }
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

    /// Queues a write. Returns a writer, to be run on another thread, if there is none.
    fn push_write(&self, write: AsyncWrite<Written>) -> Option<Writer> {
        let mut share = self.lock();
        share.writes.push_back(write);
        let has_writer = std::mem::replace(&mut share.has_writer, true);
        (!has_writer).then(|| Writer { share: FileShare(self.0.clone()), has_left: false })
    }
}

/// Makes the direct writes of a torrent until none is left. The kernel carries out many at a time; without a context
/// those that are queued already follow one another.
struct Writer {
    share: FileShare,
    has_left: bool,
}

impl Writer {
    fn run(mut self, contexts: &IdleContexts) {
        let mut writes = AsyncWrites::new(contexts.take());
        while self.take_queued(&mut writes) {
            writes.wait(|written, result| _ = written.send(result));
        }
        writes.into_context().into_iter().for_each(|context| contexts.put(context));
    }

    /// Adds queued writes to `writes`. If there is none at all, the writer leaves under the same lock and returns false;
    /// the next write gets a new one.
    fn take_queued(&mut self, writes: &mut AsyncWrites<Written>) -> bool {
        let mut share = self.share.lock();
        let count = share.writes.len().min(writes.room());
        share.writes.drain(..count).for_each(|write| writes.add(write));
        self.has_left = writes.is_empty();
        share.has_writer = !self.has_left;
        !self.has_left
    }
}

/// Drops the queued writes if the writer never ran, or panicked.
impl Drop for Writer {
    fn drop(&mut self) {
        if self.has_left {
            return;
        }
        let mut share = self.share.lock();
        share.has_writer = false;
        let dropped = std::mem::take(&mut share.writes);
        drop(share);
        drop(dropped);
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

/// Drops the queued work if no other worker would take it. Its callers get no result.
impl Drop for Worker {
    fn drop(&mut self) {
        if self.has_left {
            return;
        }
        let mut share = self.share.lock();
        share.threads -= 1;
        let dropped = if share.threads == 0 { std::mem::take(&mut share.waiting) } else { VecDeque::new() };
        drop(share);
        drop(dropped);
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
        assert!(share.lock().waiting.is_empty(), "its callers would wait forever");
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

    #[test]
    fn writes_of_a_writer_that_never_runs_are_dropped() {
        let share = FileShare::default();
        let push = |tag| {
            let file = Arc::new(tempfile::tempfile().unwrap());
            share.push_write(AsyncWrite { file, source: Box::new(Box::<[u8]>::from(*b"abc")), offset: 0, tag })
        };
        let (tag, mut done) = oneshot::channel();
        let writer = push(tag).unwrap();
        drop(writer);
        assert!(done.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        let (tag, mut done) = oneshot::channel();
        let writer = push(tag).unwrap();
        assert!(push(oneshot::channel().0).is_none());
        writer.run(&IdleContexts::default());
        done.try_recv().unwrap().unwrap();
        assert!(!share.lock().has_writer);
    }
}
