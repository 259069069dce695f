//! Transfer rates: an average over the last [`RATE_WINDOW`].
//!
//! Owns the averaging. The caller decides which bytes are counted, and when.

use crate::base::Time;
use crate::base::limits::RATE_WINDOW;

/// One second each.
#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const BUCKET_COUNT: usize = RATE_WINDOW.as_secs() as usize;
/// A younger meter divides by this time: the first burst of a connection is not its rate.
const SPAN_MIN: Time = Time::from_secs(1);

/// Bytes per second over a sliding window, in buckets of one second.
#[derive(Clone, Debug)]
pub struct RateMeter {
    started_at: Time,
    /// `buckets[s % BUCKET_COUNT]` holds the bytes of second `s`, for the seconds up to `newest_s`.
    buckets: [u64; BUCKET_COUNT],
    newest_s: u64,
    /// The last total passed to [`Self::handle_total`].
    total: u64,
}

impl RateMeter {
    /// Starts measuring at `now`.
    pub fn new(now: Time) -> Self {
        Self { started_at: now, buckets: [0; BUCKET_COUNT], newest_s: now.as_secs(), total: 0 }
    }

    /// Counts bytes moved since the last call.
    pub fn handle_bytes(&mut self, now: Time, bytes: u64) {
        self.forget_old(now);
        let bucket = bucket_of(self.newest_s);
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count = count.saturating_add(bytes);
        }
    }

    /// Takes a running total of bytes, counted from 0 when the meter was made. Returns the increase; a total that
    /// decreased counts as 0.
    pub fn handle_total(&mut self, now: Time, total: u64) -> u64 {
        let bytes = total.saturating_sub(self.total);
        self.total = total;
        self.handle_bytes(now, bytes);
        bytes
    }

    /// Bytes per second over the window, or since the start while that is shorter.
    pub fn bytes_per_s(&self, now: Time) -> u64 {
        let now_s = now.as_secs().max(self.newest_s);
        let oldest_s = (now_s + 1).saturating_sub(BUCKET_COUNT as u64);
        let bytes: u64 = (oldest_s..=self.newest_s).filter_map(|s| self.buckets.get(bucket_of(s))).sum();
        let window_start = Time::from_secs(oldest_s).max(self.started_at);
        let span = now.saturating_sub(window_start).max(SPAN_MIN);
        let rate = u128::from(bytes) * 1000 / span.as_millis();
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    /// Empties the buckets of the seconds that passed without a sample.
    fn forget_old(&mut self, now: Time) {
        let now_s = now.as_secs();
        if now_s.saturating_sub(self.newest_s) >= BUCKET_COUNT as u64 {
            self.buckets = [0; BUCKET_COUNT];
        } else {
            for s in self.newest_s + 1..=now_s {
                if let Some(count) = self.buckets.get_mut(bucket_of(s)) {
                    *count = 0;
                }
            }
        }
        // If the clock went back, bytes count into the newest bucket.
        self.newest_s = self.newest_s.max(now_s);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "smaller than BUCKET_COUNT")]
fn bucket_of(second: u64) -> usize {
    (second % BUCKET_COUNT as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn a_steady_stream_is_its_rate_from_the_first_seconds_on() {
        let start = ms(123_456);
        let mut meter = RateMeter::new(start);
        for tick in 1..=1000u64 {
            let now = start + ms(100 * tick);
            meter.handle_bytes(now, 100);
            if tick >= 20 {
                let rate = meter.bytes_per_s(now);
                assert!((950..=1060).contains(&rate), "{rate} at tick {tick}");
            }
        }
    }

    #[test]
    fn the_first_burst_is_spread_over_a_second() {
        let mut meter = RateMeter::new(ms(5000));
        meter.handle_bytes(ms(5001), 1 << 20);
        assert_eq!(meter.bytes_per_s(ms(5001)), 1 << 20);
        assert_eq!(meter.bytes_per_s(ms(9000)), 1 << 18);
    }

    #[test]
    fn bytes_leave_with_the_window() {
        let mut meter = RateMeter::new(ms(0));
        meter.handle_bytes(ms(500), 20_000);
        assert!(meter.bytes_per_s(ms(19_999)) >= 1000);
        assert_eq!(meter.bytes_per_s(ms(20_000)), 0);
        meter.handle_bytes(ms(3_600_000), 1900);
        assert_eq!(meter.bytes_per_s(ms(3_600_000)), 100);
    }

    #[test]
    fn totals_count_by_their_difference() {
        let mut meter = RateMeter::new(ms(0));
        for second in 1..=60u64 {
            meter.handle_total(ms(1000 * second), 5000 * second);
        }
        assert!((4900..=5300).contains(&meter.bytes_per_s(ms(60_000))));
        meter.handle_total(ms(60_000), 0);
        assert!((4900..=5300).contains(&meter.bytes_per_s(ms(60_000))));
    }

    #[test]
    fn a_clock_that_goes_back_does_not_break_the_meter() {
        let mut meter = RateMeter::new(ms(50_000));
        meter.handle_bytes(ms(60_000), 1000);
        meter.handle_bytes(ms(40_000), 1000);
        assert_eq!(meter.bytes_per_s(ms(60_000)), 200);
        assert!(meter.bytes_per_s(ms(0)) > 0);
    }
}
