//! The hosts that have all pieces, shared by the threads of a session and our own tracker.

#![allow(clippy::disallowed_methods, reason = "the tracker may announce before the session has a clock")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tracing::info;

use crate::base::InfoHash;
use crate::base::limits::{HOSTS_COUNTED_IN_ALL_MAX, HOSTS_COUNTED_MAX};
use crate::base::lock::lock;
use crate::swarm::{Counted, HostCompletion, HostCounts, HostTable, Sighting};

/// A [`HostTable`] with its lock and clock.
#[derive(Debug)]
pub(super) struct HostCounter {
    table: Mutex<HostTable>,
    started: Instant,
    has_reported_full: AtomicBool,
}

impl HostCounter {
    pub(super) fn new() -> Self {
        Self { table: Mutex::default(), started: Instant::now(), has_reported_full: AtomicBool::new(false) }
    }

    pub(super) fn handle_sighting(&self, info_hash: InfoHash, sighting: Sighting) {
        let counted = {
            let mut table = lock(&self.table);
            // Read under the lock, so that the time does not decrease.
            table.handle_sighting(self.started.elapsed(), info_hash, sighting)
        };
        if counted == Counted::Full && !self.has_reported_full.swap(true, Ordering::Relaxed) {
            info!(
                "further hosts are not counted: a torrent has {HOSTS_COUNTED_MAX} hosts, or all have \
                 {HOSTS_COUNTED_IN_ALL_MAX}"
            );
        }
    }

    /// Returns the next host that has all pieces of a torrent.
    pub(super) fn poll_completion(&self) -> Option<HostCompletion> {
        lock(&self.table).poll_completion(self.started.elapsed())
    }

    pub(super) fn counts(&self, info_hash: InfoHash) -> HostCounts {
        lock(&self.table).counts(info_hash)
    }

    /// Forgets a torrent.
    pub(super) fn remove(&self, info_hash: InfoHash) {
        lock(&self.table).remove(info_hash);
    }
}
