//! Bounds what has been written through the page cache and is not on disk yet: without it the kernel takes gigabytes in,
//! then stops every writer of the machine until they are out.

use std::collections::HashSet;
use std::io;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::base::limits;
use crate::uring::{SharedFile, flush_range};

/// How verified pieces are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteMode {
    /// Past the page cache as long as no peer wants our pieces and we will not seed.
    #[default]
    Auto,
    Buffered,
    Direct,
}

/// One torrent's dirty bytes, and the files that are open for them. Who has no room waits, and with it the slot it writes from.
#[derive(Debug)]
pub(in crate::engine) struct Writeback {
    /// A permit for each byte.
    dirty_bytes: Semaphore,
    /// Bytes that are flushed at a time, and the most that one write may reserve.
    run_len: usize,
    reserve_max: u32,
    /// A permit for each file that is being written to or waits for a flush.
    open_files: Semaphore,
    /// Files that a flush has at most: others may be written to while it lasts.
    flush_files_max: usize,
    written: Mutex<Written>,
}

/// Written since the last flush was begun.
#[derive(Debug, Default)]
struct Written {
    ranges: Vec<Range>,
    /// Bytes of room that they hold.
    reserved: usize,
    /// Files they are of: a place each.
    files: HashSet<usize>,
}

#[derive(Debug)]
struct Range {
    file: SharedFile,
    file_index: usize,
    offset: u64,
    len: u32,
}

/// Ranges to be flushed, and the room they hold.
#[derive(Debug)]
pub(in crate::engine) struct Flush(Written);

/// Room for a write to come, given back when it is dropped before the write has ended.
#[derive(Debug)]
pub(in crate::engine) struct DirtyPermit<'a>(Option<SemaphorePermit<'a>>);

/// Room and places of a flush that is under way, given back at its end.
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

/// The right to have one more file open.
#[derive(Debug)]
pub(in crate::engine) struct OpenFilePermit<'a>(Option<SemaphorePermit<'a>>);

impl Writeback {
    /// `len_max`: bytes that may be dirty; `files_max`: files that are open for all this at a time, at least two.
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

    /// Waits until one more file may be open. Taken before any room is reserved.
    pub(in crate::engine) async fn acquire_open_file(&self) -> OpenFilePermit<'_> {
        // It is never closed.
        OpenFilePermit(self.open_files.acquire().await.ok())
    }

    /// Waits until `len` bytes more may be dirty. A longer write counts as all of the room that a flush may leave.
    pub(in crate::engine) async fn reserve(&self, len: u32) -> DirtyPermit<'_> {
        // It is never closed.
        DirtyPermit(self.dirty_bytes.acquire_many(len.min(self.reserve_max)).await.ok())
    }

    /// A write is in the page cache. Returns what has to be flushed now.
    pub(in crate::engine) fn handle_written(
        &self,
        (file, file_index): (SharedFile, usize),
        (offset, len): (u64, u32),
        (DirtyPermit(reserved), OpenFilePermit(permit)): (DirtyPermit<'_>, OpenFilePermit<'_>),
    ) -> Option<Flush> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.ranges.push(Range { file, file_index, offset, len });
        if let Some(permits) = reserved {
            written.reserved += permits.num_permits();
            permits.forget();
        }
        if written.files.insert(file_index) {
            permit.into_iter().for_each(SemaphorePermit::forget);
        }
        let is_enough = written.reserved >= self.run_len || written.files.len() >= self.flush_files_max;
        is_enough.then(|| Flush(std::mem::take(&mut written)))
    }

    /// Brings a flush to its end and gives its room back; `Err` names the file that could not be written.
    pub(in crate::engine) async fn flush(&self, Flush(written): Flush) -> Result<(), (usize, io::Error)> {
        let _guard = FlushGuard { writeback: self, reserved: written.reserved, file_count: written.files.len() };
        // Dropped first: the descriptors are closed before their places are free.
        let ranges = written.ranges;
        let mut result = Ok(());
        // First everything is started, then waited for.
        for wait in [false, true] {
            for Range { file, file_index, offset, len } in &ranges {
                if let Err(error) = flush_range(file.clone(), *offset, *len, wait).await {
                    result = Err((*file_index, error));
                }
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::{no_op, run_ring, spawn};
    use std::cell::Cell;
    use std::rc::Rc;
    use std::sync::Arc;

    const MIB: u32 = 1 << 20;

    /// A write to this file, if the torrent has that many.
    async fn written(writeback: &Writeback, file: &SharedFile, file_index: usize, len: u32) -> Option<Flush> {
        let permit = writeback.acquire_open_file().await;
        let reserved = writeback.reserve(len).await;
        writeback.handle_written((file.clone(), file_index), (0, len.min(MIB)), (reserved, permit))
    }

    #[test]
    fn who_writes_faster_than_the_disk_waits_for_a_flush() {
        let file: SharedFile = Arc::new(tempfile::tempfile().unwrap());
        run_ring(|| async move {
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
            assert!(!passed.get(), "there is no room");
            writeback.flush(flushes.pop().unwrap()).await.unwrap();
            waiter.await.unwrap();
            assert!(passed.get());
        })
        .unwrap();
    }

    #[test]
    fn the_longest_piece_finds_room_behind_what_no_flush_has_begun_for() {
        let file: SharedFile = Arc::new(tempfile::tempfile().unwrap());
        run_ring(|| async move {
            let writeback = Writeback::new(limits::DIRTY_LEN_MIN, 100);
            assert!(written(&writeback, &file, 0, MIB / 4).await.is_none());
            let flush = written(&writeback, &file, 0, limits::PIECE_LEN_READ_MAX).await.unwrap();
            writeback.flush(flush).await.unwrap();
            assert_eq!(writeback.dirty_bytes.available_permits(), limits::DIRTY_LEN_MIN);
        })
        .unwrap();
    }

    #[test]
    fn however_many_files_are_written_to_few_are_open() {
        const FILES_MAX: usize = 8;
        let file: SharedFile = Arc::new(tempfile::tempfile().unwrap());
        run_ring(|| async move {
            let writeback = Writeback::new(limits::DIRTY_LEN_MAX, FILES_MAX);
            for file_index in 0..1000 {
                // Twice: a file has one place.
                let flush = written(&writeback, &file, file_index, 10).await;
                let again = written(&writeback, &file, file_index, 10).await;
                assert!(Arc::strong_count(&file) <= 2 + 2 * FILES_MAX);
                for flush in flush.into_iter().chain(again) {
                    writeback.flush(flush).await.unwrap();
                }
            }
            assert!(writeback.open_files.available_permits() > FILES_MAX / 2);
            writeback.open_files.close();
        })
        .unwrap();
    }
}
