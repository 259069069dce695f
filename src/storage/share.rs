//! The share of each download in the descriptors of the process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::error::StorageError;
use crate::base::limits;
use crate::io::Descriptors;

static DOWNLOADS: AtomicUsize = AtomicUsize::new(0);

/// Counts a download until it is dropped.
#[derive(Debug)]
pub(super) struct CountedDownload(());

impl CountedDownload {
    pub(super) fn begin() -> Self {
        DOWNLOADS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for CountedDownload {
    fn drop(&mut self) {
        DOWNLOADS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The descriptors that one download may have at present.
pub(super) fn descriptors() -> Descriptors {
    Descriptors::of_process().shared_by(DOWNLOADS.load(Ordering::Relaxed))
}

/// Calls `open` until it does not lack descriptors or memory, for at most a few seconds. Blocks.
pub(super) fn wait_to_open<T>(open: impl Fn() -> Result<T, StorageError>) -> Result<T, StorageError> {
    for _ in 0..limits::OPEN_RETRIES_MAX {
        match open() {
            Err(error) if error.is_transient() => thread::sleep(limits::READ_RETRY_PAUSE),
            opened => return opened,
        }
    }
    open()
}
