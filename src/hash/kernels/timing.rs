//! Times the units of a processor against each other.

use super::unit::{Block, Counter, LANES_MAX, Timed, Unit};

/// Runs of each unit when the units are timed, once for each hash function at first use.
const TURNS: usize = 8;

/// Measures the ticks of each unit with all of its lanes busy. The units take turns, narrow registers first, and the
/// shortest run of each counts: wide registers take a while to reach full speed and may lower the clock afterwards, and
/// another process may use the core meanwhile.
pub(super) fn time<const WORDS: usize>(counter: Counter, timed: &mut [Timed<WORDS>]) {
    let run: &[Block] = &vec![[0; 64]; counter.calibration_blocks];
    for _ in 0..TURNS {
        for Timed { unit, ticks: shortest } in &mut *timed {
            *shortest = ticks(counter, unit, &[run; LANES_MAX][..unit.lanes_max]).min(*shortest);
        }
    }
}

/// Returns the ticks that `unit` takes for these runs, one for each lane; `u64::MAX` if the counter went back, as it may
/// on another core.
fn ticks<const WORDS: usize>(counter: Counter, unit: &Unit<WORDS>, runs: &[&[Block]]) -> u64 {
    let mut states = [[0; WORDS]; LANES_MAX];
    let states = &mut states[..runs.len()];
    let start = (counter.read)();
    (unit.compress)(states, runs);
    std::hint::black_box(states);
    (counter.read)().checked_sub(start).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::processor;
    use super::super::unit::SHA1_PORTABLE;
    use super::*;

    #[test]
    fn the_shortest_of_several_runs_counts() {
        // Runs take 5, 1, 7 ticks and so on; the counter goes back in the fourth.
        static READS: AtomicU64 = AtomicU64::new(0);
        const COUNTS: [u64; 16] = [0, 5, 10, 11, 20, 27, 30, 29, 40, 49, 50, 59, 60, 69, 70, 79];
        let read = || COUNTS[usize::try_from(READS.fetch_add(1, Ordering::Relaxed)).unwrap()];
        let mut timed = [Timed { unit: SHA1_PORTABLE, ticks: u64::MAX }];
        time(Counter { read, calibration_blocks: 1 }, &mut timed);
        assert_eq!(timed[0].ticks, 1);
    }

    #[test]
    fn the_counter_of_this_processor_advances() {
        let Some(counter) = processor::sha1().counter else { return };
        let mut timed = [Timed { unit: SHA1_PORTABLE, ticks: u64::MAX }];
        time(counter, &mut timed);
        assert!((1..u64::MAX).contains(&timed[0].ticks), "{}", timed[0].ticks);
    }
}
