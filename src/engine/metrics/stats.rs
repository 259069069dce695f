//! The counters and statistics of a session.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use hdrhistogram::Histogram;

use crate::base::lock::lock;
use crate::engine::metrics::usage::{Memory, Threads, Usage};
use crate::io::Driver;

/// The longest latency that is recorded exactly: one hour, in microseconds.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// The ratio of the widths of successive latency buckets: two buckets for each doubling.
const BUCKET_RATIO: f64 = std::f64::consts::SQRT_2;
/// Upper bound of the first bucket in microseconds.
const BUCKET_FIRST_US: u64 = 16;

/// Returns an empty histogram of latencies in microseconds with three significant digits.
#[expect(clippy::unwrap_used, reason = "the bounds are constants that the crate accepts")]
pub(in crate::engine) fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).unwrap()
}

/// Counters that all threads of a running session update.
#[derive(Debug)]
pub(in crate::engine) struct Counters {
    /// Bytes of zero-copy sends that the kernel did not copy.
    pub(in crate::engine) zero_copied: AtomicU64,
    /// Bytes of zero-copy sends that the kernel copied.
    pub(in crate::engine) zero_copy_copied: AtomicU64,
    /// Incoming connections that did not begin with a BitTorrent handshake.
    pub(in crate::engine) foreign_handshakes: AtomicU64,
    /// From queueing a request to receiving its block, in microseconds.
    latency: Mutex<Histogram<u64>>,
    memory: Mutex<Memory>,
}

impl Counters {
    pub(in crate::engine) fn new() -> Self {
        Self {
            zero_copied: AtomicU64::new(0),
            zero_copy_copied: AtomicU64::new(0),
            foreign_handshakes: AtomicU64::new(0),
            latency: Mutex::new(latency_histogram()),
            memory: Mutex::default(),
        }
    }

    /// Adds the measurements of a ring thread.
    pub(in crate::engine) fn merge_latency(&self, measured: &Histogram<u64>) {
        // Both have the same bounds, so this cannot fail.
        let _ = lock(&self.latency).add(measured);
    }

    pub(in crate::engine) fn latency(&self) -> Histogram<u64> {
        lock(&self.latency).clone()
    }

    /// Samples the memory of the process. Returns the largest values so far.
    pub(in crate::engine) fn sample_memory(&self) -> Memory {
        let mut memory = lock(&self.memory);
        *memory = memory.max(Memory::of_this_process());
        *memory
    }
}

/// The resource usage and latencies of a session.
#[derive(Debug)]
pub struct Stats {
    pub driver: Driver,
    pub usage: Usage,
    /// At the session's end, before its threads are stopped.
    pub threads: Threads,
    /// The largest value of each, sampled once a second and at the end.
    pub memory: Memory,
    /// From queueing a request to receiving its block.
    pub latency: Latency,
    /// Its distribution: ascending upper bounds in microseconds, each with its number of blocks.
    pub latency_buckets: Vec<(u64, u64)>,
    pub zero_copied: u64,
    pub zero_copy_copied: u64,
}

/// Percentiles of a latency in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    pub p50_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
}

impl Latency {
    pub(in crate::engine) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self { p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999) }
    }
}

/// Returns ascending upper bounds with the counts of their buckets. Empty buckets at both ends are left out.
pub(in crate::engine) fn buckets(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let steps = histogram.iter_log(BUCKET_FIRST_US, BUCKET_RATIO);
    let all = steps.map(|step| (step.value_iterated_to(), step.count_since_last_iteration()));
    all.skip_while(|(_, count)| *count == 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_everything_once_and_ascend() {
        let mut histogram = latency_histogram();
        assert_eq!(buckets(&histogram), []);
        for value in [1, 100, 100, 101, 5_000, 2_000_000] {
            histogram.record(value).unwrap();
        }
        let buckets = buckets(&histogram);
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 6);
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0), "{buckets:?}");
        assert!(buckets.len() < 100 && buckets.last().is_some_and(|last| last.1 == 1));
    }
}
