//! What a session counts of its own work.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use hdrhistogram::Histogram;

use crate::base::lock::lock;
use crate::engine::metrics::usage::{Memory, Threads, Usage};

/// The longest latency that is told apart: an hour, in microseconds.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Latencies are shown in buckets, each so many times as wide as the one before: two for each doubling.
const BUCKET_RATIO: f64 = std::f64::consts::SQRT_2;
/// Upper bound of the first bucket in microseconds.
const BUCKET_FIRST_US: u64 = 16;

/// Latencies in microseconds, three digits.
#[expect(clippy::unwrap_used, reason = "the bounds are constants that the crate accepts")]
pub(in crate::engine) fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).unwrap()
}

/// Counted while the session runs, by whoever does the work.
#[derive(Debug)]
pub(in crate::engine) struct Counters {
    /// Bytes that left by zero-copy sends, uncopied; and those that the kernel copied after all.
    pub(in crate::engine) zero_copied: AtomicU64,
    pub(in crate::engine) zero_copy_copied: AtomicU64,
    /// Connections that came in and did not begin with BitTorrent's handshake.
    pub(in crate::engine) foreign_handshakes: AtomicU64,
    /// From a request to its block, in microseconds.
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

    /// Adds what a ring thread has measured.
    pub(in crate::engine) fn merge_latency(&self, measured: &Histogram<u64>) {
        // Both have the same bounds, so this cannot fail.
        let _ = lock(&self.latency).add(measured);
    }

    pub(in crate::engine) fn latency(&self) -> Histogram<u64> {
        lock(&self.latency).clone()
    }

    /// Looks at the process's memory; the largest that was seen is kept.
    pub(in crate::engine) fn sample_memory(&self) -> Memory {
        let mut memory = lock(&self.memory);
        *memory = memory.max(Memory::of_this_process());
        *memory
    }
}

/// What a session used and how long things took.
#[derive(Debug)]
pub struct Stats {
    pub usage: Usage,
    /// At the session's end, before its threads are stopped.
    pub threads: Threads,
    /// The largest of each that was seen once a second and at the end.
    pub memory: Memory,
    /// From queueing a request to its block.
    pub latency: Latency,
    /// Its distribution: upper bounds in microseconds, ascending, and how many blocks came that fast.
    pub latency_buckets: Vec<(u64, u64)>,
    pub zero_copied: u64,
    pub zero_copy_copied: u64,
}

/// How long something took, in microseconds.
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

/// Empty ones at both ends are left out.
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
