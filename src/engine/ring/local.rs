//! State that the connections of one ring thread share.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::engine::metrics::stats::latency_histogram;
use crate::engine::shared::Shared;
use crate::io::{ZeroCopyRing, ZeroCopyUsage};

/// State that the connections of one ring thread share. Lives on that thread.
pub(in crate::engine) struct Local {
    /// The number of the ring.
    pub(in crate::engine) index: usize,
    pub(in crate::engine) shared: Arc<Shared>,
    /// `None`: sends are copied.
    pub(in crate::engine) zero_copy: Option<ZeroCopyRing>,
    /// From queueing a request to receiving its block, since the last [`Self::flush_counts`].
    latency: RefCell<Histogram<u64>>,
}

impl Local {
    pub(in crate::engine) fn new(index: usize, shared: Arc<Shared>) -> Self {
        // Zero copy is optional: without its ring, sends are copied.
        let zero_copy = ZeroCopyRing::start(shared.zero_copy).ok().flatten();
        Self { index, shared, zero_copy, latency: RefCell::new(latency_histogram()) }
    }

    pub(in crate::engine) fn record_latency(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
        self.latency.borrow_mut().saturating_record(micros);
    }

    /// Adds the measurements of this ring to those of the session.
    pub(in crate::engine) fn flush_counts(&self) {
        let counters = &self.shared.counters;
        if let Some(zero_copy) = &self.zero_copy {
            let ZeroCopyUsage { uncopied, copied } = zero_copy.take_usage();
            counters.zero_copied.fetch_add(uncopied, Ordering::Relaxed);
            counters.zero_copy_copied.fetch_add(copied, Ordering::Relaxed);
        }
        let mut latency = self.latency.borrow_mut();
        if !latency.is_empty() {
            counters.merge_latency(&latency);
            latency.reset();
        }
    }
}
