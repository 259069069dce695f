//! Rate limits: how many bytes may move now, in one direction, for all of a session or for one torrent.
//!
//! A token bucket in one atomic: whoever sends or receives asks for a grant of bytes, not of blocks, so the cost is one
//! compare-and-swap for each call of the kernel whatever the rate. Reads no clock; waits for nothing: it says until when.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::Time;

/// A quiet limiter saves up at most what this time brings: the line is never silent for longer between bursts.
const BURST_TIME: Time = Time::from_millis(50);
/// A smaller grant is not worth a call of the kernel, unless nobody asks for more: a block.
const GRANT_MIN: u64 = 16 << 10;

/// What came of asking for bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grant {
    /// So many bytes may move now; at least 1, at most what was asked for.
    Bytes(u64),
    /// None before this moment.
    Wait(Time),
}

/// One direction's limit.
///
/// It keeps the moment up to which the line is spoken for: a grant moves it on by the time its bytes take, so that rates
/// add up exactly however uneven the grants are.
#[derive(Debug)]
pub struct Limiter {
    /// Bytes per second; 0 is no limit.
    rate: AtomicU64,
    /// In nanoseconds.
    spoken_for: AtomicU64,
}

impl Limiter {
    /// `None`: no limit.
    pub fn new(bytes_per_s: Option<u64>) -> Self {
        let limiter = Self { rate: AtomicU64::new(0), spoken_for: AtomicU64::new(0) };
        limiter.set_rate(bytes_per_s);
        limiter
    }

    /// Applies to grants from now on.
    pub fn set_rate(&self, bytes_per_s: Option<u64>) {
        self.rate.store(bytes_per_s.map_or(0, |rate| rate.max(1)), Ordering::Relaxed);
    }

    /// Asks for up to `wanted` bytes, at least 1.
    pub fn request(&self, now: Time, wanted: u64) -> Grant {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return Grant::Bytes(wanted);
        }
        let now = nanos(now);
        let burst = nanos(BURST_TIME).max(nanos_for(GRANT_MIN, rate));
        let least = wanted.min(GRANT_MIN);
        let mut spoken_for = self.spoken_for.load(Ordering::Relaxed);
        loop {
            // What was not used longer ago than a burst is lost.
            let from = spoken_for.max(now.saturating_sub(burst));
            let granted = bytes_in(now.saturating_sub(from), rate).min(wanted);
            if granted < least {
                return Grant::Wait(Time::from_nanos(from + nanos_for(least, rate)));
            }
            let until = from + nanos_for(granted, rate);
            match self.spoken_for.compare_exchange_weak(spoken_for, until, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Grant::Bytes(granted),
                Err(newer) => spoken_for = newer,
            }
        }
    }

    /// Bytes moved that nobody asked for: what comes behind them waits for it.
    pub fn charge(&self, now: Time, bytes: u64) {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate > 0 {
            let from = nanos(now).saturating_sub(nanos(BURST_TIME));
            self.spoken_for.fetch_max(from, Ordering::Relaxed);
            self.spoken_for.fetch_add(nanos_for(bytes, rate), Ordering::Relaxed);
        }
    }

    /// Gives back what of a grant was not used.
    pub fn give_back(&self, bytes: u64) {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate > 0 {
            self.spoken_for.fetch_sub(bytes_time_down(bytes, rate), Ordering::Relaxed);
        }
    }
}

/// Asks several limiters, a torrent's and the session's, for the same bytes: all grant them, or none.
pub fn request_all(limiters: &[&Limiter], now: Time, wanted: u64) -> Grant {
    let mut granted = wanted;
    for (at, limiter) in limiters.iter().enumerate() {
        match limiter.request(now, granted) {
            Grant::Bytes(bytes) => {
                limiters.iter().take(at).for_each(|earlier| earlier.give_back(granted - bytes));
                granted = bytes;
            }
            Grant::Wait(until) => {
                limiters.iter().take(at).for_each(|earlier| earlier.give_back(granted));
                return Grant::Wait(until);
            }
        }
    }
    Grant::Bytes(granted)
}

fn nanos(time: Time) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Rounded up, so that no rate is exceeded.
fn nanos_for(bytes: u64, rate: u64) -> u64 {
    let nanos = (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(rate));
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

fn bytes_time_down(bytes: u64, rate: u64) -> u64 {
    u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX)
}

fn bytes_in(nanos: u64, rate: u64) -> u64 {
    u64::try_from(u128::from(nanos) * u128::from(rate) / 1_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_secs(77);

    /// Asks for `wanted` bytes again and again, as soon as it may; bytes in each tenth of a second.
    fn drain(limiter: &Limiter, wanted: u64, tenths: usize) -> Vec<u64> {
        let mut moved = vec![0; tenths];
        let mut now = START;
        while let Some(tenth) = moved.get_mut(((now - START).as_millis() / 100) as usize) {
            match limiter.request(now, wanted) {
                Grant::Bytes(bytes) => {
                    assert!(bytes > 0 && bytes <= wanted);
                    *tenth += bytes;
                }
                Grant::Wait(until) => {
                    assert!(until > now);
                    now = until;
                }
            }
        }
        moved
    }

    #[test]
    fn slow_and_fast_rates_are_smooth_and_exact() {
        for (rate, wanted) in
            [(100_000, 256 << 10), (100_000, 16 << 10), (125_000_000, 256 << 10), (10_000_000_000, 1 << 20)]
        {
            let moved = drain(&Limiter::new(Some(rate)), wanted, 100);
            let total: u64 = moved.iter().sum();
            assert!(total.abs_diff(10 * rate) <= rate / 10 + GRANT_MIN, "{rate}: {total}");
            // The first burst is what a quiet line has saved.
            for tenth in moved.get(2..).unwrap() {
                assert!(tenth.abs_diff(rate / 10) <= rate / 50 + GRANT_MIN, "{rate}: {moved:?}");
            }
        }
    }

    #[test]
    fn a_quiet_line_saves_no_more_than_a_burst() {
        let limiter = Limiter::new(Some(1_000_000));
        assert_eq!(limiter.request(START + Time::from_secs(100), 10 << 20), Grant::Bytes(50_000));
        assert!(matches!(limiter.request(START + Time::from_secs(100), 10 << 20), Grant::Wait(_)));
    }

    #[test]
    fn without_a_limit_everything_is_granted() {
        let limiter = Limiter::new(None);
        assert_eq!(limiter.request(START, u64::MAX), Grant::Bytes(u64::MAX));
        limiter.charge(START, 1 << 40);
        limiter.set_rate(Some(1000));
        assert!(matches!(limiter.request(START, 20), Grant::Bytes(20)), "what went before does not count");
    }

    #[test]
    fn what_was_charged_is_paid_later() {
        let limiter = Limiter::new(Some(1_000_000));
        limiter.charge(START, 1_000_000);
        let Grant::Wait(until) = limiter.request(START, 1 << 20) else { panic!("granted") };
        assert!(until > START + Time::from_millis(950) && until < START + Time::from_millis(1000));
    }

    #[test]
    fn the_narrowest_of_several_limits_decides_and_the_others_lose_nothing() {
        let (session, torrent) = (Limiter::new(Some(10_000_000)), Limiter::new(Some(1_000_000)));
        let (mut now, mut moved) = (START, 0);
        while now < START + Time::from_secs(1) {
            match request_all(&[&session, &torrent], now, 256 << 10) {
                Grant::Bytes(bytes) => moved += bytes,
                Grant::Wait(until) => now = until,
            }
        }
        assert!((950_000..=1_100_000).contains(&moved), "{moved}");
        let rest = (0..).map_while(|_| match session.request(now, 1 << 20) {
            Grant::Bytes(bytes) => Some(bytes),
            Grant::Wait(_) => None,
        });
        assert!(rest.sum::<u64>() > 400_000, "the session's burst is still there");
    }

    #[test]
    fn threads_share_a_limit_exactly() {
        let limiter = Limiter::new(Some(80_000_000));
        let moved = std::sync::atomic::AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for ms in 0..1000 {
                        if let Grant::Bytes(bytes) = limiter.request(START + Time::from_millis(ms), 256 << 10) {
                            moved.fetch_add(bytes, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let moved = moved.into_inner();
        assert!(moved <= 84_000_000 + (256 << 10), "{moved}");
    }
}
