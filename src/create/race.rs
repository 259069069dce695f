//! Whether content in memory is hashed faster in a map of its file or in a copy: kernels and file systems differ.
#![allow(clippy::disallowed_methods, reason = "the race is timed")]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::base::limits::HASH_RACE_RUNS;

/// A way to hash content in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Copy,
    Map,
}

/// The times of the first runs, which take turns. The shortest of each method counts, since other programs use the
/// processor too.
#[derive(Debug)]
pub(super) struct Race {
    turns: AtomicU32,
    /// Nanoseconds per MiB of the fastest run, by method.
    fastest: [AtomicU64; 2],
}

/// The work on one run.
#[derive(Debug)]
pub(super) struct Lap {
    method: Method,
    /// Bytes hashed.
    len: u64,
    time: Duration,
}

impl Lap {
    pub(super) fn new(method: Method) -> Self {
        Self { method, len: 0, time: Duration::ZERO }
    }

    /// `len` bytes of the run were hashed since `start`.
    pub(super) fn handle_hashed(&mut self, len: u64, start: Instant) {
        self.len += len;
        self.time += start.elapsed();
    }
}

pub(super) fn now() -> Instant {
    Instant::now()
}

impl Race {
    pub(super) fn new() -> Self {
        Self { turns: AtomicU32::new(0), fastest: [const { AtomicU64::new(u64::MAX) }; 2] }
    }

    /// The method for the next run.
    pub(super) fn next(&self) -> Method {
        let turn = self.turns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |turn| turn.checked_add(1));
        let [copy, map] = self.fastest.each_ref().map(|fastest| fastest.load(Ordering::Relaxed));
        match turn.unwrap_or(u32::MAX) {
            turn if turn < HASH_RACE_RUNS && turn % 2 == 0 => Method::Map,
            turn if turn < HASH_RACE_RUNS => Method::Copy,
            _ if copy < map => Method::Copy,
            _ => Method::Map,
        }
    }

    pub(super) fn record(&self, lap: &Lap) {
        let time_ns = u64::try_from(lap.time.as_nanos()).unwrap_or(u64::MAX);
        if let Some(pace) = (u128::from(time_ns) << 20).checked_div(u128::from(lap.len)) {
            let pace = u64::try_from(pace).unwrap_or(u64::MAX);
            self.fastest[lap.method as usize].fetch_min(pace, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn winner(copy_ms: u64, map_ms: u64) -> Method {
        let race = Race::new();
        for turn in 0..HASH_RACE_RUNS {
            let method = race.next();
            // The first run of each method is slow.
            let ms = if turn < 2 { 100 } else { [copy_ms, map_ms][method as usize] };
            race.record(&Lap { method, len: 16 << 20, time: Duration::from_millis(ms) });
        }
        let winner = race.next();
        assert_eq!(race.next(), winner);
        winner
    }

    #[test]
    fn the_faster_method_wins() {
        assert_eq!(winner(10, 8), Method::Map);
        assert_eq!(winner(8, 10), Method::Copy);
    }

    #[test]
    fn a_race_without_results_maps() {
        let race = Race::new();
        race.record(&Lap { method: Method::Map, len: 0, time: Duration::from_secs(1) });
        let methods: Vec<_> = (0..=HASH_RACE_RUNS).map(|_| race.next()).collect();
        assert_eq!(methods.iter().filter(|&&method| method == Method::Copy).count() * 2, HASH_RACE_RUNS as usize);
        assert_eq!(methods.last(), Some(&Method::Map));
    }
}
