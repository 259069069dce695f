//! Bounds the dirty bytes of buffered writes. Without a bound the kernel accepts gigabytes, then blocks every writer of
//! the machine until they are on disk.

use std::collections::HashSet;
use std::io;
use std::sync::Mutex;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::base::limits;
use crate::base::lock::lock;
use crate::io::{FlushStep, SharedFile};

/// How verified pieces are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteMode {
    /// Direct while no peer is interested and the session will not seed, otherwise buffered.
    #[default]
    Auto,
    Buffered,
    Direct,
}

/// Limits one torrent's dirty bytes, and the files that are open for them. A write without a permit waits, and keeps
/// its piece buffer.
#[derive(Debug)]
pub(in crate::engine) struct Writeback {
    /// A permit for each byte that may be dirty.
    dirty_bytes: Semaphore,
    /// Bytes that are flushed at a time.
    run_len: usize,
    /// The most that one write may reserve.
    reserve_max: u32,
    /// A permit for each file that is being written to or waits for a flush.
    open_files: Semaphore,
    /// The maximum number of files in a flush, so that other files can be written to meanwhile.
    flush_files_max: usize,
    written: Mutex<Written>,
}

/// Writes since the last flush began.
#[derive(Debug, Default)]
struct Written {
    ranges: Vec<DirtyRange>,
    /// The number of byte permits that they hold.
    reserved: usize,
    /// Their files. Each holds one permit.
    files: HashSet<usize>,
}

/// A written range of a file that is not on disk yet.
#[derive(Debug)]
pub(in crate::engine) struct DirtyRange {
    pub(in crate::engine) file: SharedFile,
    pub(in crate::engine) file_index: usize,
    pub(in crate::engine) offset: u64,
    pub(in crate::engine) len: u32,
}

/// Ranges to be flushed, with their permits.
#[derive(Debug)]
pub(in crate::engine) struct Flush(Written);

/// Permission to make bytes dirty. Released if it is dropped before the write has ended.
#[derive(Debug)]
pub(in crate::engine) struct DirtyPermit<'a>(Option<SemaphorePermit<'a>>);

/// The permits of a flush in progress, released on drop.
struct FlushGuard<'a> {
    writeback: &'a Writeback,
    reserved: usize,
    file_count: usize,
}

impl Drop for FlushGuard<'_> {
    fn drop(&mut self) {
        self.writeback.dirty_bytes.add_permits(self.reserved);
        self.writeback.open_files.add_permits(self.file_count);
    }
}

/// Permission to have one more file open.
#[derive(Debug)]
pub(in crate::engine) struct OpenFilePermit<'a>(Option<SemaphorePermit<'a>>);

impl Writeback {
    /// At most `len_max` bytes may be dirty, and at most `files_max` files (at least two) open at a time.
    pub(in crate::engine) fn new(len_max: usize, files_max: usize) -> Self {
        let run_len = len_max / limits::DIRTY_RUN_SHARE;
        Self {
            dirty_bytes: Semaphore::new(len_max),
            run_len,
            reserve_max: u32::try_from(len_max - run_len).unwrap_or(u32::MAX),
            open_files: Semaphore::new(files_max.max(2)),
            flush_files_max: (files_max / 2).max(1),
            written: Mutex::default(),
        }
    }

    /// Waits until one more file may be open. Called before [`Self::reserve`].
    pub(in crate::engine) async fn acquire_open_file(&self) -> OpenFilePermit<'_> {
        // The semaphore is never closed.
        OpenFilePermit(self.open_files.acquire().await.ok())
    }

    /// Waits until `len` bytes more may be dirty. A write counts as no more bytes than are free while a full run waits
    /// for its flush.
    pub(in crate::engine) async fn reserve(&self, len: u32) -> DirtyPermit<'_> {
        // The semaphore is never closed.
        DirtyPermit(self.dirty_bytes.acquire_many(len.min(self.reserve_max)).await.ok())
    }

    /// A write is in the page cache. Returns the flush that is due, if any.
    pub(in crate::engine) fn handle_written(
        &self,
        range: DirtyRange,
        DirtyPermit(reserved): DirtyPermit<'_>,
        OpenFilePermit(open_file): OpenFilePermit<'_>,
    ) -> Option<Flush> {
        let mut written = lock(&self.written);
        let file_index = range.file_index;
        written.ranges.push(range);
        if let Some(permits) = reserved {
            written.reserved += permits.num_permits();
            permits.forget();
        }
        if written.files.insert(file_index) {
            open_file.into_iter().for_each(SemaphorePermit::forget);
        }
        let is_enough = written.reserved >= self.run_len || written.files.len() >= self.flush_files_max;
        is_enough.then(|| Flush(std::mem::take(&mut written)))
    }

    /// Runs a flush by calls of `sync` and releases its permits. `sync` starts to write out a range, or waits for its
    /// end. An error comes with the index of the file that could not be written.
    pub(in crate::engine) async fn flush(
        &self,
        Flush(written): Flush,
        sync: impl AsyncFn(&DirtyRange, FlushStep) -> io::Result<()>,
    ) -> Result<(), (usize, io::Error)> {
        let _guard = FlushGuard { writeback: self, reserved: written.reserved, file_count: written.files.len() };
        // Dropped before the guard, so that the descriptors are closed before their permits are released.
        let ranges = written.ranges;
        let mut result = Ok(());
        for step in [FlushStep::Start, FlushStep::Wait] {
            for range in &ranges {
                if let Err(error) = sync(range, step).await {
                    result = Err((range.file_index, error));
                }
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Driver, no_op, run_thread, spawn};
    use std::cell::Cell;
    use std::rc::Rc;
    use std::sync::Arc;

    const MIB: u32 = 1 << 20;

    async fn no_disk(_range: &DirtyRange, _step: FlushStep) -> io::Result<()> {
        Ok(())
    }

    /// Writes `len` bytes to `file` as the file `file_index` of the torrent.
    async fn written(writeback: &Writeback, file: &SharedFile, file_index: usize, len: u32) -> Option<Flush> {
        let permit = writeback.acquire_open_file().await;
        let reserved = writeback.reserve(len).await;
        let range = DirtyRange { file: file.clone(), file_index, offset: 0, len: len.min(MIB) };
        writeback.handle_written(range, reserved, permit)
    }

    #[test]
    fn a_writer_faster_than_the_disk_waits_for_a_flush() {
        let file: SharedFile = Arc::new(tempfile::tempfile().unwrap());
        run_thread(Driver::Plain, || async move {
            let writeback = Rc::new(Writeback::new(limits::DIRTY_LEN_MAX, 100));
            let mut flushes = Vec::new();
            for _ in 0..limits::DIRTY_LEN_MAX / MIB as usize {
                flushes.extend(written(&writeback, &file, 0, MIB).await);
            }
            assert_eq!(flushes.len(), limits::DIRTY_RUN_SHARE);
            let passed = Rc::new(Cell::new(false));
            let waiter = spawn({
                let (writeback, passed) = (writeback.clone(), passed.clone());
                async move {
                    let _ = writeback.reserve(MIB).await;
                    passed.set(true);
                }
            });
            no_op().await;
            no_op().await;
            assert!(!passed.get(), "no byte is free");
            writeback.flush(flushes.pop().unwrap(), no_disk).await.unwrap();
            waiter.await.unwrap();
            assert!(passed.get());
        })
        .unwrap();
    }

    #[test]
    fn the_longest_piece_fits_beside_unflushed_bytes() {
        let file: SharedFile = Arc::new(tempfile::tempfile().unwrap());
        run_thread(Driver::Plain, || async move {
            let writeback = Writeback::new(limits::DIRTY_LEN_MIN, 100);
            assert!(written(&writeback, &file, 0, MIB / 4).await.is_none());
            let flush = written(&writeback, &file, 0, limits::PIECE_LEN_READ_MAX).await.unwrap();
            writeback.flush(flush, no_disk).await.unwrap();
            assert_eq!(writeback.dirty_bytes.available_permits(), limits::DIRTY_LEN_MIN);
        })
        .unwrap();
    }

    #[test]
    fn few_files_are_open_at_a_time() {
        const FILES_MAX: usize = 8;
        let file: SharedFile = Arc::new(tempfile::tempfile().unwrap());
        run_thread(Driver::Plain, || async move {
            let writeback = Writeback::new(limits::DIRTY_LEN_MAX, FILES_MAX);
            for file_index in 0..1000 {
                // Twice: a file holds one permit.
                let flush = written(&writeback, &file, file_index, 10).await;
                let again = written(&writeback, &file, file_index, 10).await;
                assert!(Arc::strong_count(&file) <= 2 + 2 * FILES_MAX);
                for flush in flush.into_iter().chain(again) {
                    writeback.flush(flush, no_disk).await.unwrap();
                }
            }
            assert!(writeback.open_files.available_permits() > FILES_MAX / 2);
            writeback.open_files.close();
        })
        .unwrap();
    }
}
