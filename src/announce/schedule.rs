//! Waiting times between announces, within their limits.

use std::time::Duration;

use crate::base::limits::{
    TRACKER_EARLY_INTERVAL, TRACKER_INTERVAL_DEFAULT, TRACKER_INTERVAL_MAX, TRACKER_INTERVAL_MIN, TRACKER_RETRY_MAX,
    TRACKER_RETRY_MIN,
};

/// Returns the time until the next regular announce, from the tracker's `interval` and `min interval` in seconds.
pub(super) fn interval(interval: Option<u64>, min_interval: Option<u64>) -> Duration {
    let interval = interval.map_or(TRACKER_INTERVAL_DEFAULT, Duration::from_secs);
    let min = min_interval.map_or(TRACKER_INTERVAL_MIN, Duration::from_secs);
    interval.max(min).clamp(TRACKER_INTERVAL_MIN, TRACKER_INTERVAL_MAX)
}

/// Returns the time until an early announce for more peers, from the tracker's `min interval` in seconds.
pub(super) fn early_interval(min_interval: Option<u64>) -> Duration {
    let min = min_interval.map_or(TRACKER_EARLY_INTERVAL, Duration::from_secs);
    min.clamp(TRACKER_EARLY_INTERVAL, TRACKER_INTERVAL_MAX)
}

/// Returns the wait after this number of consecutive failures. It doubles from `first` to [`TRACKER_RETRY_MAX`].
pub(super) fn back_off(first: Duration, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (first * (1 << doublings)).min(TRACKER_RETRY_MAX)
}

/// Returns the wait for a `retry in` (BEP 31) of this number of minutes.
pub(super) fn retry_wait(minutes: u64) -> Duration {
    Duration::from_secs(minutes.saturating_mul(60)).clamp(TRACKER_RETRY_MIN, TRACKER_INTERVAL_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::TRACKER_RETRY_UNANSWERED_MIN;

    #[test]
    fn intervals_of_a_tracker_are_limited() {
        let seconds = |regular, min| interval(regular, min).as_secs();
        assert_eq!(seconds(None, None), 1800);
        assert_eq!(seconds(Some(900), None), 900);
        assert_eq!(seconds(Some(0), None), 60);
        assert_eq!(seconds(Some(u64::MAX), Some(u64::MAX)), 24 * 3600);
        assert_eq!(seconds(Some(100), Some(700)), 700);
        assert_eq!(early_interval(None).as_secs(), 30);
        assert_eq!(early_interval(Some(5)).as_secs(), 30);
        assert_eq!(early_interval(Some(120)).as_secs(), 120);
        assert_eq!(retry_wait(0).as_secs(), 15);
        assert_eq!(retry_wait(u64::MAX).as_secs(), 24 * 3600);
    }

    #[test]
    fn back_off_doubles_to_an_hour() {
        let waits = |first, counts: std::ops::RangeInclusive<u32>| -> Vec<u64> {
            counts.map(|failures| back_off(first, failures).as_secs()).collect()
        };
        assert_eq!(waits(TRACKER_RETRY_MIN, 1..=10), [15, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(waits(TRACKER_RETRY_UNANSWERED_MIN, 1..=5), [1, 2, 4, 8, 16]);
        assert_eq!(waits(TRACKER_RETRY_UNANSWERED_MIN, u32::MAX..=u32::MAX), [3600]);
    }
}
