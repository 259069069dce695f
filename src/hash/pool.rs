//! The hash pool, which hashes pieces in memory in batches.
//!
//! The queue has no bound of its own: each job holds a buffer of the piece arena, and the number of buffers is bounded.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::sha1_batch;
use crate::base::PieceHash;
use crate::base::limits::{HASH_BATCH_PIECES, HASH_GATHER};
use crate::base::lock::lock;

/// A piece in memory that is to be hashed.
pub trait Job: Send + Sized + 'static {
    /// Returns the bytes to hash, in order.
    fn bytes(&self) -> &[u8];
    /// Called on a worker thread with the jobs of one batch and their hashes, so that their receiver is notified once.
    fn finish_batch(jobs: impl Iterator<Item = (Self, PieceHash)>);
}

/// Threads that hash pieces. Dropping the pool does not wait for them.
pub struct Pool<J> {
    threads: rayon::ThreadPool,
    queue: Arc<Queue<J>>,
}

struct Queue<J> {
    waiting: Mutex<Waiting<J>>,
    /// Notified when enough jobs wait for a batch, or when no job follows soon.
    enough: Condvar,
    workers: AtomicUsize,
    workers_max: usize,
    batches: AtomicU64,
    pieces: AtomicU64,
}

struct Waiting<J> {
    jobs: VecDeque<J>,
    /// No job follows soon, so a worker must not wait for more.
    no_more_soon: bool,
}

/// Counts of the work of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hashed {
    pub batches: u64,
    pub pieces: u64,
}

impl Hashed {
    /// Mean number of pieces in a batch; 0 if there was none.
    #[expect(clippy::cast_precision_loss, reason = "a measurement")]
    pub fn batch_mean(&self) -> f64 {
        self.pieces as f64 / self.batches.max(1) as f64
    }
}

impl<J: Job> Pool<J> {
    /// Starts a pool of `thread_count` threads.
    pub fn new(thread_count: usize) -> std::io::Result<Self> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(thread_count)
            .thread_name(|index| format!("hash-{index}"))
            .build()
            .map_err(std::io::Error::other)?;
        let queue = Queue {
            waiting: Mutex::new(Waiting { jobs: VecDeque::new(), no_more_soon: false }),
            enough: Condvar::new(),
            workers: AtomicUsize::new(0),
            workers_max: thread_count.max(1),
            batches: AtomicU64::new(0),
            pieces: AtomicU64::new(0),
        };
        Ok(Self { threads, queue: Arc::new(queue) })
    }

    /// Queues a piece, which is hashed together with other waiting pieces. `last` means that no further piece follows
    /// soon, so that the worker does not wait for one.
    pub fn submit(&self, job: J, last: bool) {
        let waiting = {
            let mut waiting = self.queue.lock_waiting();
            waiting.jobs.push_back(job);
            waiting.no_more_soon |= last;
            waiting.jobs.len()
        };
        if last || waiting == HASH_BATCH_PIECES {
            self.queue.enough.notify_one();
        }
        if self.queue.hire(waiting) {
            let queue = self.queue.clone();
            self.threads.spawn(move || queue.work());
        }
    }

    /// Returns the counts since the start of the pool.
    pub fn hashed(&self) -> Hashed {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Hashed { batches: load(&self.queue.batches), pieces: load(&self.queue.pieces) }
    }
}

impl<J: Job> Queue<J> {
    fn lock_waiting(&self) -> MutexGuard<'_, Waiting<J>> {
        lock(&self.waiting)
    }

    /// Counts one more worker and returns true if it may start: the first for any job, each further one for every
    /// batch of waiting jobs.
    fn hire(&self, waiting: usize) -> bool {
        let more =
            |workers| (workers < self.workers_max && waiting > workers * HASH_BATCH_PIECES).then_some(workers + 1);
        self.workers.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    fn work(&self) {
        loop {
            let is_too_few = |waiting: &mut Waiting<J>| {
                !waiting.no_more_soon && (1..HASH_BATCH_PIECES).contains(&waiting.jobs.len())
            };
            let gathered = self.enough.wait_timeout_while(self.lock_waiting(), HASH_GATHER, is_too_few);
            let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
            waiting.no_more_soon = false;
            let len = waiting.jobs.len().min(HASH_BATCH_PIECES);
            if len == 0 {
                // Under the lock, so that a job pushed after this may start a worker.
                self.workers.fetch_sub(1, Ordering::AcqRel);
                return;
            }
            let batch: Vec<J> = waiting.jobs.drain(..len).collect();
            drop(waiting);
            self.batches.fetch_add(1, Ordering::Relaxed);
            self.pieces.fetch_add(len as u64, Ordering::Relaxed);
            let hashes = sha1_batch(batch.iter().map(|job| [job.bytes()]));
            J::finish_batch(batch.into_iter().zip(hashes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha1::Digest as _;
    use std::sync::mpsc;

    struct Text(Vec<u8>, mpsc::Sender<(Vec<u8>, PieceHash)>);

    impl Job for Text {
        fn bytes(&self) -> &[u8] {
            &self.0
        }

        fn finish_batch(jobs: impl Iterator<Item = (Self, PieceHash)>) {
            jobs.for_each(|(Self(bytes, sender), hash)| sender.send((bytes, hash)).unwrap());
        }
    }

    #[test]
    fn every_job_is_finished_once_with_its_hash() {
        let pool = Pool::new(3).unwrap();
        let (sender, receiver) = mpsc::channel();
        for i in 0..500u32 {
            pool.submit(Text(i.to_be_bytes().repeat(100), sender.clone()), i % 50 == 49);
        }
        drop(sender);
        let mut seen: Vec<Vec<u8>> = receiver
            .iter()
            .map(|(bytes, hash)| {
                assert_eq!(hash.0, *sha1::Sha1::digest(&bytes));
                bytes
            })
            .collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 500);
        let hashed = pool.hashed();
        assert!(hashed.pieces == 500 && (32..=500).contains(&hashed.batches), "{hashed:?}");
    }

    /// A job that reports when a worker reads it and blocks the worker until the gate opens.
    struct Gated(Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>, mpsc::Sender<usize>);

    impl Job for Gated {
        fn bytes(&self) -> &[u8] {
            if let Some((reached, gate)) = &self.0 {
                reached.send(()).unwrap();
                gate.recv().unwrap();
            }
            b""
        }

        fn finish_batch(jobs: impl Iterator<Item = (Self, PieceHash)>) {
            let jobs: Vec<_> = jobs.collect();
            jobs[0].0.1.send(jobs.len()).unwrap();
        }
    }

    #[test]
    fn jobs_that_waited_together_are_finished_together() {
        let pool = Pool::new(1).unwrap();
        let (batches, batch_lens) = mpsc::channel();
        let ((reached, is_reached), (open, gate)) = (mpsc::channel(), mpsc::channel());
        pool.submit(Gated(Some((reached, gate)), batches.clone()), true);
        is_reached.recv().unwrap();
        (0..HASH_BATCH_PIECES + 1).for_each(|_| pool.submit(Gated(None, batches.clone()), false));
        open.send(()).unwrap();
        drop(batches);
        assert_eq!(batch_lens.iter().collect::<Vec<_>>(), [1, HASH_BATCH_PIECES, 1]);
    }
}
