//! Bounds what has been written through the page cache and is not on disk yet: without it the kernel takes gigabytes in,
//! then stops every writer of the machine until they are out.

use std::io;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::base::limits;
use crate::uring::{SharedFile, flush_range};

/// One torrent's dirty bytes. Who has no room waits, and with it the slot it writes from.
#[derive(Debug)]
pub(super) struct Writeback {
    /// A permit for each byte.
    room: Semaphore,
    written: Mutex<Written>,
}

/// Written since the last flush was begun.
#[derive(Debug, Default)]
struct Written {
    ranges: Vec<Range>,
    /// Bytes of room that they hold.
    reserved: usize,
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
pub(super) struct Flush(Written);

/// Room for a write to come.
#[derive(Debug)]
pub(super) struct Reserved(u32);

impl Writeback {
    pub(super) fn new() -> Self {
        Self { room: Semaphore::new(limits::DIRTY_LEN_MAX), written: Mutex::default() }
    }

    /// Waits until `len` bytes more may be dirty. A longer write counts as all of the room that a flush may leave.
    pub(super) async fn reserve(&self, len: u32) -> Reserved {
        let most = u32::try_from(limits::DIRTY_LEN_MAX - limits::DIRTY_RUN_LEN).unwrap_or(u32::MAX);
        let len = len.min(most);
        // It is never closed.
        if let Ok(permits) = self.room.acquire_many(len).await {
            permits.forget();
        }
        Reserved(len)
    }

    /// A write is in the page cache. Returns what has to be flushed now.
    pub(super) fn handle_written(
        &self,
        (file, file_index): (SharedFile, usize),
        (offset, len): (u64, u32),
        Reserved(reserved): Reserved,
    ) -> Option<Flush> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.ranges.push(Range { file, file_index, offset, len });
        written.reserved += reserved as usize;
        (written.reserved >= limits::DIRTY_RUN_LEN).then(|| Flush(std::mem::take(&mut written)))
    }

    /// Brings a flush to its end and gives its room back; `Err` names the file that could not be written.
    pub(super) async fn flush(&self, Flush(written): Flush) -> Result<(), (usize, io::Error)> {
        let mut result = Ok(());
        // First everything is started, then waited for.
        for wait in [false, true] {
            for Range { file, file_index, offset, len } in &written.ranges {
                if let Err(error) = flush_range(file.clone(), *offset, *len, wait).await {
                    result = Err((*file_index, error));
                }
            }
        }
        self.room.add_permits(written.reserved);
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

    fn written(writeback: &Writeback, file: &SharedFile, reserved: Reserved) -> Option<Flush> {
        writeback.handle_written((file.clone(), 0), (0, MIB), reserved)
    }

    #[test]
    fn who_writes_faster_than_the_disk_waits_for_a_flush() {
        let file: SharedFile = Arc::new(tempfile::tempfile().unwrap());
        run_ring(|| async move {
            let writeback = Rc::new(Writeback::new());
            let mut flushes = Vec::new();
            for _ in 0..limits::DIRTY_LEN_MAX / MIB as usize {
                let reserved = writeback.reserve(MIB).await;
                flushes.extend(written(&writeback, &file, reserved));
            }
            assert_eq!(flushes.len(), limits::DIRTY_LEN_MAX / limits::DIRTY_RUN_LEN);
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
            let writeback = Writeback::new();
            let reserved = writeback.reserve(MIB).await;
            assert!(written(&writeback, &file, reserved).is_none());
            let reserved = writeback.reserve(limits::PIECE_LEN_READ_MAX).await;
            let flush = written(&writeback, &file, reserved).unwrap();
            writeback.flush(flush).await.unwrap();
            assert_eq!(writeback.room.available_permits(), limits::DIRTY_LEN_MAX);
        })
        .unwrap();
    }
}
