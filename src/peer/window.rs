//! The number of requests to keep outstanding: enough to fill the pipe twice, no more.
//!
//! BEP 3: "downloaders should keep several piece requests queued up at once in order to get good TCP performance".

use std::time::Duration;

use crate::base::{Time, geometry::BLOCK_LEN, limits};

/// The lower bound of a round trip: threads need time to switch, however short the wire.
const ROUND_TRIP_MIN: Duration = Duration::from_millis(4);
/// The shortest time over which a rate is measured.
const SAMPLE_MIN: Duration = Duration::from_millis(20);
/// The number of samples. The rate is their median, so that a pause does not close the window, and a moment in which
/// the peer served no other peer does not open it for long.
const SAMPLES: usize = 3;
/// Age at which the shortest round trip is forgotten.
const ROUND_TRIP_AGE: Duration = Duration::from_secs(10);
/// A recent round trip counts up to twice the shortest ever plus this time: the rest is the waiting of our own requests
/// at the peer.
const ROUND_TRIP_SLACK: Duration = Duration::from_millis(10);

/// Window = 2 × recent rate × shortest recent round trip: doubles per round trip until the pipe is full. It is at least
/// the number of requests that the peer answers in twice its longest pause, since some peers answer in bursts. That
/// number is bounded: blocks that wait at a busy peer are requested from no other peer.
#[derive(Debug)]
pub(super) struct Window {
    sample_start: Time,
    sample_bytes: u64,
    /// When the last block arrived, or the first was requested after a pause. Blocks of one moment, which arrive in one
    /// receive, belong to one sample.
    newest: Time,
    /// The longest pauses between blocks, in the current and the previous age, while requests were outstanding.
    pause: Duration,
    previous_pause: Duration,
    /// Bytes per second; the newest overwrites the oldest.
    samples: [u64; SAMPLES],
    next_sample: usize,
    /// The shortest round trips of the current and the previous age.
    round_trip: Duration,
    previous_round_trip: Duration,
    shortest_ever: Duration,
    age_start: Time,
}

impl Window {
    pub(super) fn new(now: Time) -> Self {
        Self {
            sample_start: now,
            sample_bytes: 0,
            newest: now,
            pause: Duration::ZERO,
            previous_pause: Duration::ZERO,
            samples: [0; SAMPLES],
            next_sample: 0,
            round_trip: Duration::MAX,
            previous_round_trip: Duration::MAX,
            shortest_ever: Duration::MAX,
            age_start: now,
        }
    }

    /// A requested block of `len` bytes arrived `latency` after its request.
    pub(super) fn handle_block(&mut self, now: Time, len: u32, latency: Duration) {
        if now.saturating_sub(self.age_start) > ROUND_TRIP_AGE {
            self.previous_round_trip = std::mem::replace(&mut self.round_trip, Duration::MAX);
            self.previous_pause = std::mem::take(&mut self.pause);
            self.age_start = now;
        }
        self.round_trip = self.round_trip.min(latency);
        self.shortest_ever = self.shortest_ever.min(latency);
        if now > self.newest {
            self.pause = self.pause.max(now - self.newest.max(self.sample_start));
            self.take_sample(SAMPLE_MIN.max(self.shortest_round_trip()));
        }
        self.newest = now;
        self.sample_bytes += u64::from(len);
    }

    /// Takes the time up to the newest block as a sample, if it is long enough.
    fn take_sample(&mut self, span_min: Duration) {
        let span = self.newest.saturating_sub(self.sample_start);
        if span >= span_min && self.sample_bytes > 0 {
            let rate = u128::from(self.sample_bytes) * 1_000_000 / span.as_micros().max(1);
            self.samples[self.next_sample] = u64::try_from(rate).unwrap_or(u64::MAX);
            self.next_sample = (self.next_sample + 1) % SAMPLES;
            self.sample_start = self.newest;
            self.sample_bytes = 0;
        }
    }

    /// A block is requested after none was outstanding: the time since the last block was not the peer's pause.
    pub(super) fn handle_idle(&mut self, now: Time) {
        self.take_sample(SAMPLE_MIN);
        self.sample_start += now.saturating_sub(self.newest);
        self.newest = now;
    }

    fn shortest_round_trip(&self) -> Duration {
        match self.round_trip.min(self.previous_round_trip) {
            Duration::MAX => ROUND_TRIP_MIN,
            recent => recent.min(2 * self.shortest_ever + ROUND_TRIP_SLACK).max(ROUND_TRIP_MIN),
        }
    }

    /// The recent rate in bytes per second; 0 while it is unknown.
    pub(super) fn rate(&self) -> u64 {
        let [a, b, c] = self.samples;
        let middle = a.max(b).min(c).max(a.min(b));
        if a.min(b).min(c) == 0 { a.max(b).max(c) } else { middle }
    }

    /// The number of requests that the peer answers in twice its longest pause, within bounds.
    fn floor(&self, rate_bytes_per_s: u64) -> usize {
        if rate_bytes_per_s == 0 {
            return limits::REQUESTS_OUT_START;
        }
        let pause = self.pause.max(self.previous_pause);
        let time = (2 * pause).clamp(limits::REQUESTS_OUT_TIME_MIN, limits::REQUESTS_OUT_TIME_MAX);
        let bytes = u128::from(rate_bytes_per_s) * time.as_micros() / 1_000_000;
        let blocks = usize::try_from(bytes / u128::from(BLOCK_LEN)).unwrap_or(usize::MAX);
        blocks.clamp(limits::REQUESTS_OUT_SLOW, limits::REQUESTS_OUT_STEADY)
    }

    /// The number of requests to keep outstanding with a peer that queues at most `peer_max`.
    pub(super) fn requests(&self, peer_max: usize) -> usize {
        self.pipe().max(self.floor(self.rate())).min(peer_max).clamp(1, limits::REQUESTS_OUT_MAX)
    }

    /// The number of requests that fill the pipe twice, pauses of the peer aside.
    pub(super) fn pipe(&self) -> usize {
        let bytes = 2 * u128::from(self.rate()) * self.shortest_round_trip().as_micros() / 1_000_000;
        usize::try_from(bytes / u128::from(BLOCK_LEN)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe of this rate and round trip, filled as the window allows; returns the window after `seconds`.
    fn settle(rate_bytes_per_s: f64, round_trip: Duration, seconds: f64) -> usize {
        let block_time = Duration::from_secs_f64(f64::from(BLOCK_LEN) / rate_bytes_per_s);
        let mut now = Duration::ZERO;
        let mut window = Window::new(now);
        let mut requested_at = std::collections::VecDeque::new();
        while now.as_secs_f64() < seconds {
            while requested_at.len() < window.requests(4096) {
                requested_at.push_back(now);
            }
            let since = requested_at.pop_front().unwrap();
            now = (since + round_trip).max(now) + block_time;
            window.handle_block(now, BLOCK_LEN, now - since);
        }
        window.requests(4096)
    }

    #[test]
    fn a_long_fast_pipe_is_filled_within_a_second() {
        // 1 Gbit/s over 50 ms: 382 blocks in flight.
        let window = settle(125e6, Duration::from_millis(50), 1.0);
        assert!((382..=2 * 400).contains(&window), "{window}");
    }

    #[test]
    fn a_short_pipe_keeps_a_bounded_window() {
        assert_eq!(settle(125e6, Duration::from_micros(100), 1.0), limits::REQUESTS_OUT_STEADY);
    }

    /// All outstanding blocks arrive in one receive, and then none is outstanding.
    #[test]
    fn blocks_of_one_moment_are_one_sample() {
        let mut window = Window::new(Duration::ZERO);
        let mut now = Duration::ZERO;
        for _ in 0..10 {
            let outstanding = window.requests(4096);
            window.handle_idle(now);
            now += Duration::from_millis(100);
            (0..outstanding).for_each(|_| window.handle_block(now, BLOCK_LEN, Duration::from_millis(100)));
        }
        window.handle_idle(now);
        assert!(window.requests(4096) >= limits::REQUESTS_OUT_STEADY);
    }

    /// A fast peer may answer all outstanding requests before we look.
    #[test]
    fn a_window_that_is_answered_whole_each_time_grows() {
        let mut window = Window::new(Duration::ZERO);
        let mut now = Duration::ZERO;
        for _ in 0..100 {
            window.handle_idle(now);
            let outstanding = window.requests(4096);
            now += Duration::from_micros(500);
            (0..outstanding).for_each(|_| window.handle_block(now, BLOCK_LEN, Duration::from_micros(500)));
            now += Duration::from_secs(1);
        }
        assert!(window.requests(4096) >= limits::REQUESTS_OUT_STEADY);
    }

    #[test]
    fn a_peer_that_answers_in_bursts_is_asked_for_more_each_time() {
        let mut window = Window::new(Duration::ZERO);
        let mut now = Duration::ZERO;
        for _ in 0..12 {
            let outstanding = window.requests(4096);
            now += Duration::from_millis(500);
            // The last blocks were requested during the burst and answered at once: the round trip looks short.
            (0..outstanding).for_each(|_| window.handle_block(now, BLOCK_LEN, Duration::from_millis(1)));
        }
        assert_eq!(window.requests(4096), limits::REQUESTS_OUT_STEADY);
    }

    /// The window exceeds the pipe: the other requests wait at the peer, and its latency grows with them.
    #[test]
    fn a_queue_of_our_own_making_is_no_longer_round_trip() {
        let window = settle(125e6, Duration::from_millis(50), 120.0);
        assert!((382..=1700).contains(&window), "{window}");
    }

    #[test]
    fn a_slow_peer_holds_few_blocks() {
        // A modem: a block every three seconds.
        let window = settle(5e3, Duration::from_millis(100), 60.0);
        assert!((limits::REQUESTS_OUT_SLOW..=8).contains(&window), "{window}");
        let window = settle(100e3, Duration::from_millis(100), 60.0);
        assert!((6..=9).contains(&window), "{window}");
    }

    #[test]
    fn the_peers_own_limit_is_kept() {
        let window = Window::new(Duration::ZERO);
        assert_eq!(window.requests(4096), limits::REQUESTS_OUT_START);
        assert_eq!(window.requests(5), 5);
        assert_eq!(window.requests(0), 1);
    }
}
