//! The number of bytes that must have arrived from a fast peer before its reader is woken, for fewer and larger
//! receives.
//!
//! Owns the measurement of the peer's rate and the choice of the mark (`SO_RCVLOWAT`); the engine sets it on the
//! socket. Without it a reader wakes for every segment, and so does a sender on the same machine.

use std::time::Duration;

use crate::base::{Time, geometry::BLOCK_LEN, limits};

/// The shortest time over which a rate is measured.
const SAMPLE_MIN: Duration = Duration::from_millis(10);
/// Silence after which the mark is reset: bytes below it would not wake the reader.
const SILENCE: Duration = Duration::from_millis(50);
/// The mark at which any byte wakes the reader.
const ANY: u32 = 1;

/// Chooses a connection's low-water mark (`SO_RCVLOWAT`) from the measured rate of the peer.
#[derive(Debug)]
pub struct LowWater {
    sample_start: Time,
    sample_len: u64,
    newest: Time,
    /// The number of bytes that arrive in [`limits::LOW_WATER_TIME`].
    interval_len: u64,
    /// The mark that is set on the socket.
    mark: u32,
}

impl LowWater {
    pub fn new(now: Time) -> Self {
        Self { sample_start: now, sample_len: 0, newest: now, interval_len: 0, mark: ANY }
    }

    /// One receive has brought `len` bytes.
    pub fn handle_received(&mut self, now: Time, len: usize) {
        self.sample_len += len as u64;
        self.newest = now;
        let elapsed = now.saturating_sub(self.sample_start);
        if elapsed >= SAMPLE_MIN {
            let interval_len =
                u128::from(self.sample_len) * limits::LOW_WATER_TIME.as_micros() / elapsed.as_micros().max(1);
            let interval_len = u64::try_from(interval_len).unwrap_or(u64::MAX);
            self.interval_len = if self.interval_len == 0 {
                interval_len
            } else {
                (self.interval_len - self.interval_len / 4).saturating_add(interval_len / 4)
            };
            (self.sample_start, self.sample_len) = (now, 0);
        }
    }

    /// The new mark in bytes, if it should change. The peer owes `outstanding_count` blocks. The mark is at most a
    /// quarter of these, so that the last blocks wake the reader too.
    pub fn poll_mark(&mut self, outstanding_count: usize) -> Option<u32> {
        let owed = outstanding_count as u64 * u64::from(BLOCK_LEN);
        let most = self.interval_len.min(owed / 4).min(limits::LOW_WATER_LEN_MAX.into());
        let mark = u32::try_from(most).ok().and_then(u32::checked_ilog2).map_or(ANY, |log| 1 << log);
        self.change(if mark < limits::LOW_WATER_LEN_MIN { ANY } else { mark })
    }

    /// Resets the mark after 50 ms of silence, so that bytes below it wake the reader. Returns the new mark if it
    /// changes.
    pub fn handle_tick(&mut self, now: Time) -> Option<u32> {
        if self.mark == ANY || now.saturating_sub(self.newest) < SILENCE {
            return None;
        }
        self.interval_len = 0;
        self.change(ANY)
    }

    /// Lets any byte wake the next receive: a message is expected that is no requested block. Returns the new mark if
    /// it changes.
    pub fn poll_any(&mut self) -> Option<u32> {
        self.change(ANY)
    }

    fn change(&mut self, mark: u32) -> Option<u32> {
        (std::mem::replace(&mut self.mark, mark) != mark).then_some(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Duration::from_millis(ms)
    }

    /// A peer that has sent at this rate for a second.
    fn steady(bytes_per_ms: usize) -> LowWater {
        let mut low_water = LowWater::new(at(0));
        (1..=1000).for_each(|ms| low_water.handle_received(at(ms), bytes_per_ms));
        low_water
    }

    #[test]
    fn a_fast_peer_has_a_mark_and_a_slow_one_none() {
        assert_eq!(steady(3_000_000).poll_mark(4096), Some(limits::LOW_WATER_LEN_MAX));
        assert_eq!(steady(150_000).poll_mark(4096), Some(128 << 10));
        assert_eq!(steady(10_000).poll_mark(4096), None);
    }

    #[test]
    fn the_mark_stays_below_the_owed_bytes() {
        let mut low_water = steady(1_000_000);
        for owed in (0..2000).rev() {
            let mark = low_water.poll_mark(owed).unwrap_or(low_water.mark);
            assert!(mark == ANY || u64::from(mark) * 4 <= owed as u64 * u64::from(BLOCK_LEN), "{owed}: {mark}");
        }
        assert_eq!(low_water.mark, ANY);
    }

    #[test]
    fn other_messages_do_not_make_a_peer_slow() {
        let mut low_water = steady(1_000_000);
        let mark = low_water.poll_mark(4096);
        assert_eq!(low_water.poll_any(), Some(ANY));
        assert_eq!(low_water.poll_any(), None, "returned once");
        assert_eq!(low_water.poll_mark(4096), mark);
    }

    #[test]
    fn silence_resets_the_mark_until_the_rate_is_known_again() {
        let mut low_water = steady(1_000_000);
        assert!(low_water.poll_mark(4096).is_some());
        assert_eq!(low_water.handle_tick(at(1049)), None);
        assert_eq!(low_water.handle_tick(at(1050)), Some(ANY));
        assert_eq!(low_water.handle_tick(at(2000)), None, "returned once");
        assert_eq!(low_water.poll_mark(4096), None);
        low_water.handle_received(at(2000), 100_000_000);
        assert_eq!(low_water.poll_mark(4096), Some(64 << 10), "the rate includes the silence");
    }
}
