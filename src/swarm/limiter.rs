//! Rate limits for one direction, of the session or of one torrent.
//!
//! A bucket in one atomic: the sender or receiver polls before each system call and charges the bytes that it moved
//! afterwards, whatever the rate and the number of blocks. Reads no clock and does not wait: it returns the time until
//! which the caller has to wait.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::Time;

/// An idle limiter saves at most the bytes of this time, and no call should move more.
const BURST_TIME: Time = Time::from_millis(50);
/// A call may move one block at any rate.
const CALL_MIN: u64 = 16 << 10;

/// One direction's limit.
///
/// Stores the time until which the link is busy; each transfer advances it by `len / rate` (a virtual-clock token
/// bucket). So rates add up exactly, however uneven the calls are.
#[derive(Debug)]
pub struct Limiter {
    /// Bytes per second; 0 is no limit.
    rate: u64,
    /// The link is busy until then, in nanoseconds.
    busy_until: AtomicU64,
}

impl Limiter {
    /// `None`: no limit.
    pub fn new(bytes_per_s: Option<u64>) -> Self {
        Self { rate: bytes_per_s.map_or(0, |rate| rate.max(1)), busy_until: AtomicU64::new(0) }
    }

    pub fn is_limited(&self) -> bool {
        self.rate > 0
    }

    /// The number of bytes that the next call may move, at least a block, or as an error the time before which it
    /// should move none.
    pub fn poll(&self, now: Time) -> Result<u64, Time> {
        if self.rate == 0 {
            return Ok(u64::MAX);
        }
        let busy_until = self.busy_until.load(Ordering::Relaxed);
        if busy_until > nanos(now) {
            return Err(Time::from_nanos(busy_until));
        }
        let burst = u128::from(self.rate) * BURST_TIME.as_nanos() / 1_000_000_000;
        Ok(u64::try_from(burst).unwrap_or(u64::MAX).max(CALL_MIN))
    }

    /// These bytes have moved or are about to move.
    pub fn charge(&self, now: Time, bytes: u64) {
        if self.rate > 0 {
            let duration = (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(self.rate));
            let duration = u64::try_from(duration).unwrap_or(u64::MAX);
            // Unused time before the last burst is lost.
            let earliest = nanos(now.saturating_sub(BURST_TIME));
            let advance = |busy_until: u64| Some(busy_until.max(earliest).saturating_add(duration));
            let _ = self.busy_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance);
        }
    }
}

/// Combines two limits, a torrent's and the session's.
pub fn narrowest(polled: [Result<u64, Time>; 2]) -> Result<u64, Time> {
    match polled {
        [Ok(one), Ok(other)] => Ok(one.min(other)),
        [Err(one), Err(other)] => Err(one.max(other)),
        [Err(until), Ok(_)] | [Ok(_), Err(until)] => Err(until),
    }
}

fn nanos(time: Time) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_secs(77);

    /// Moves as much as the limits allow, up to `call_max` at a time, as soon as they allow it. Returns the bytes of
    /// each tenth of a second.
    fn drain(limiters: [&Limiter; 2], call_max: u64, tenths: usize) -> Vec<u64> {
        let mut moved = vec![0; tenths];
        let mut now = START;
        while let Some(tenth) = moved.get_mut(((now - START).as_millis() / 100) as usize) {
            match narrowest(limiters.map(|limiter| limiter.poll(now))) {
                Ok(bytes) => {
                    let bytes = bytes.min(call_max);
                    limiters.iter().for_each(|limiter| limiter.charge(now, bytes));
                    *tenth += bytes;
                }
                Err(until) => {
                    assert!(until > now);
                    now = until;
                }
            }
        }
        moved
    }

    #[test]
    fn slow_and_fast_rates_are_smooth_and_exact() {
        let free = Limiter::new(None);
        for (rate, call_max) in
            [(100_000, 256 << 10), (100_000, 16 << 10), (125_000_000, 256 << 10), (10_000_000_000, 1 << 20)]
        {
            let moved = drain([&Limiter::new(Some(rate)), &free], call_max, 100);
            let total: u64 = moved.iter().sum();
            assert!(total.abs_diff(10 * rate) <= rate / 10 + CALL_MIN, "{rate}: {total}");
            // The first burst is what an idle limiter has saved.
            for tenth in &moved[2..] {
                assert!(tenth.abs_diff(rate / 10) <= rate / 20 + CALL_MIN, "{rate}: {moved:?}");
            }
        }
    }

    #[test]
    fn an_idle_limiter_saves_no_more_than_a_burst() {
        let limiter = Limiter::new(Some(1_000_000));
        assert_eq!(limiter.poll(START), Ok(50_000));
        limiter.charge(START, 50_000);
        assert_eq!(limiter.poll(START), Ok(50_000), "the burst is used up, but no more than it");
        limiter.charge(START, 1_000_000);
        assert_eq!(limiter.poll(START), Err(START + Time::from_secs(1)));
    }

    #[test]
    fn without_a_limit_any_number_of_bytes_may_move() {
        let limiter = Limiter::new(None);
        limiter.charge(START, u64::MAX);
        assert_eq!(limiter.poll(START), Ok(u64::MAX));
    }

    #[test]
    fn the_narrowest_of_several_limits_decides() {
        let (session, torrent) = (Limiter::new(Some(10_000_000)), Limiter::new(Some(1_000_000)));
        let moved: u64 = drain([&session, &torrent], 256 << 10, 10).iter().sum();
        assert!((950_000..=1_100_000).contains(&moved), "{moved}");
        assert!(session.poll(START + Time::from_secs(1)).is_ok());
    }

    #[test]
    fn charges_of_threads_add_up() {
        let limiter = Limiter::new(Some(1_000_000));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| limiter.charge(START, 1000)));
            }
        });
        assert_eq!(limiter.poll(START), Err(START + Time::from_secs(4) - BURST_TIME));
    }
}
