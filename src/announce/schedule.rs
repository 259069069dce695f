//! Waiting times between announces, each within its limits.

use std::time::Duration;

use crate::base::limits::{
    TRACKER_HUNGRY_INTERVAL, TRACKER_INTERVAL_DEFAULT, TRACKER_INTERVAL_MAX, TRACKER_INTERVAL_MIN, TRACKER_RETRY_MAX,
    TRACKER_RETRY_MIN,
};

/// Until the next regular announce. Both arguments are in seconds, as the tracker told.
pub(super) fn interval(told: Option<u64>, min_told: Option<u64>) -> Duration {
    let told = told.map_or(TRACKER_INTERVAL_DEFAULT, Duration::from_secs);
    let min = min_told.map_or(TRACKER_INTERVAL_MIN, Duration::from_secs);
    told.max(min).clamp(TRACKER_INTERVAL_MIN, TRACKER_INTERVAL_MAX)
}

/// Until an announce for want of peers.
pub(super) fn hungry_interval(min_told: Option<u64>) -> Duration {
    let min = min_told.map_or(TRACKER_HUNGRY_INTERVAL, Duration::from_secs);
    min.clamp(TRACKER_HUNGRY_INTERVAL, TRACKER_INTERVAL_MAX)
}

/// After the given number of failures in a row: doubling, up to an hour.
pub(super) fn back_off(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (TRACKER_RETRY_MIN * (1 << doublings)).min(TRACKER_RETRY_MAX)
}

/// BEP 31's `retry in`, in minutes.
pub(super) fn asked_wait(minutes: u64) -> Duration {
    Duration::from_secs(minutes.saturating_mul(60)).clamp(TRACKER_RETRY_MIN, TRACKER_INTERVAL_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tracker_tells_is_clamped() {
        let seconds = |told, min_told| interval(told, min_told).as_secs();
        assert_eq!(seconds(None, None), 1800);
        assert_eq!(seconds(Some(900), None), 900);
        assert_eq!(seconds(Some(0), None), 60);
        assert_eq!(seconds(Some(u64::MAX), Some(u64::MAX)), 24 * 3600);
        assert_eq!(seconds(Some(100), Some(700)), 700);
        assert_eq!(hungry_interval(None).as_secs(), 30);
        assert_eq!(hungry_interval(Some(5)).as_secs(), 30);
        assert_eq!(hungry_interval(Some(120)).as_secs(), 120);
        assert_eq!(asked_wait(0).as_secs(), 15);
        assert_eq!(asked_wait(u64::MAX).as_secs(), 24 * 3600);
    }

    #[test]
    fn back_off_doubles_to_an_hour() {
        let waits: Vec<u64> = (1..=10).map(|failures| back_off(failures).as_secs()).collect();
        assert_eq!(waits, [15, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(back_off(u32::MAX).as_secs(), 3600);
    }
}
