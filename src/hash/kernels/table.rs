//! One hash: its compression functions, and which of them runs for how many lanes.

use std::fmt;

use super::{Block, Kernel, LANES_MAX, State};

/// One compression function.
#[derive(Clone, Copy)]
pub(super) struct Unit<const WORDS: usize> {
    pub(super) name: &'static str,
    pub(super) lanes_max: usize,
    /// Takes one run of blocks into each state. Runs are equally long; there are 1 to `lanes_max` of them.
    pub(super) compress: fn(&mut [State<WORDS>], &[&[Block]]),
}

/// The compression functions that this processor has.
#[derive(Clone, Copy)]
pub(super) struct Units<const WORDS: usize> {
    pub(super) portable: Unit<WORDS>,
    /// Eight lanes and sixteen lanes.
    pub(super) avx512: Option<[Unit<WORDS>; 2]>,
    pub(super) avx2: Option<Unit<WORDS>>,
    /// One to four streams.
    pub(super) shani: Option<[Unit<WORDS>; 4]>,
    /// Lanes from which AVX-512's eight and sixteen are worth it, where they are faster than SHA streams when full.
    pub(super) avx512_from: [usize; 2],
    /// Whether the first takes so many lanes along faster than the second, as found out by trying.
    pub(super) is_faster: fn(&Unit<WORDS>, &Unit<WORDS>, usize) -> bool,
}

/// Which compression function runs for how many lanes. It displays as that.
pub(in crate::hash) struct Table<const WORDS: usize> {
    /// By lane count less one.
    units: [Unit<WORDS>; LANES_MAX],
}

impl<const WORDS: usize> Table<WORDS> {
    pub(super) const fn filled(unit: Unit<WORDS>) -> Self {
        Self { units: [unit; LANES_MAX] }
    }

    /// `None` when the kernel's units are missing.
    pub(super) fn new(kernel: Kernel, units: &Units<WORDS>) -> Option<Self> {
        let mut table = Self::filled(units.portable);
        match kernel {
            Kernel::Auto => table = Self::fastest(units),
            Kernel::Avx512 => {
                let [x8, x16] = units.avx512?;
                table.fill(1, x8);
                table.fill(9, x16);
            }
            Kernel::Avx2 => table.fill(1, units.avx2?),
            Kernel::ShaNi => units.shani?.into_iter().for_each(|unit| table.fill(unit.lanes_max, unit)),
            Kernel::Portable => {}
        }
        Some(table)
    }

    /// The choice for a processor that has these: from the benchmark `hash`; where two are close, a short race decides.
    fn fastest(units: &Units<WORDS>) -> Self {
        let mut table = Self::filled(units.portable);
        // One stream is what the crates do too.
        for unit in units.shani.into_iter().flatten().skip(1) {
            table.fill(unit.lanes_max, unit);
        }
        let widest_shani = units.shani.map(|[.., widest]| widest);
        match (units.avx512, units.avx2, widest_shani) {
            (Some([x8, x16]), _, Some(streams)) => {
                let [x8_from, x16_from] = units.avx512_from;
                if (units.is_faster)(&x8, &streams, 8) {
                    table.fill(x8_from, x8);
                }
                if (units.is_faster)(&x16, &streams, 16) {
                    table.fill(x16_from, x16);
                }
            }
            (Some([x8, x16]), _, None) => {
                table.fill(2, x8);
                table.fill(9, x16);
            }
            (None, Some(x8), None) => table.fill(2, x8),
            (None, Some(x8), Some(streams)) if (units.is_faster)(&x8, &streams, 8) => table.fill(7, x8),
            _ => {}
        }
        table
    }

    /// `unit` for `lane_count` lanes and more.
    fn fill(&mut self, lane_count: usize, unit: Unit<WORDS>) {
        self.units.iter_mut().skip(lane_count - 1).for_each(|place| *place = unit);
    }

    /// How many lanes are worth filling.
    pub(in crate::hash) fn lanes_max(&self) -> usize {
        self.units[LANES_MAX - 1].lanes_max
    }

    /// Takes one run of blocks into each state.
    ///
    /// # Panics
    /// When runs are not equally long or not as many as states.
    pub(in crate::hash) fn compress(&self, mut states: &mut [State<WORDS>], mut runs: &[&[Block]]) {
        while let Some(last) = runs.len().checked_sub(1) {
            let unit = &self.units[last.min(LANES_MAX - 1)];
            let (states_now, states_later) = states.split_at_mut(unit.lanes_max.min(runs.len()));
            let (runs_now, runs_later) = runs.split_at(states_now.len());
            (unit.compress)(states_now, runs_now);
            (states, runs) = (states_later, runs_later);
        }
    }
}

/// `1: portable, 2–4: shani, 5–10: avx512x8, 11–16: avx512x16`.
impl<const WORDS: usize> fmt::Display for Table<WORDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = 1;
        for group in self.units.chunk_by(|a, b| a.name == b.name) {
            let last = first + group.len() - 1;
            let separator = if first == 1 { "" } else { ", " };
            match group {
                [unit] => write!(f, "{separator}{first}: {}", unit.name)?,
                [unit, ..] => write!(f, "{separator}{first}–{last}: {}", unit.name)?,
                [] => {}
            }
            first = last + 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SHA1_PORTABLE, SHA1_START, SHA256_START, processor};
    use super::*;

    #[test]
    fn a_table_says_what_it_does() {
        let mut table = Table::filled(SHA1_PORTABLE);
        assert_eq!(table.to_string(), "1–16: portable");
        table.fill(2, Unit { name: "two", ..SHA1_PORTABLE });
        table.fill(11, Unit { name: "many", ..SHA1_PORTABLE });
        assert_eq!(table.to_string(), "1: portable, 2–10: two, 11–16: many");
    }

    /// Whatever a processor lacks, the others' choice hashes as the portable unit does.
    fn every_processor_hashes_alike<const WORDS: usize>(units: &Units<WORDS>, start: State<WORDS>) {
        let mut content = [[0; 64]; 40 + 3];
        fastrand::Rng::with_seed(1).fill(content.as_flattened_mut());
        for lacking in 0..8 {
            let [avx512, avx2, shani] = [1, 2, 4].map(|bit| lacking & bit == 0);
            let table = Table::fastest(&Units {
                avx512: units.avx512.filter(|_| avx512),
                avx2: units.avx2.filter(|_| avx2),
                shani: units.shani.filter(|_| shani),
                ..*units
            });
            for lane_count in 1..=40 {
                let runs: Vec<&[Block]> = content.windows(3).take(lane_count).collect();
                let mut states = vec![start; lane_count];
                table.compress(&mut states, &runs);
                let mut wanted = vec![start; lane_count];
                (units.portable.compress)(&mut wanted, &runs);
                assert_eq!(states, wanted, "{lane_count} lanes, {table}");
            }
        }
    }

    #[test]
    fn every_processor_hashes_sha1_alike() {
        every_processor_hashes_alike(&processor::sha1(), SHA1_START);
    }

    #[test]
    fn every_processor_hashes_sha256_alike() {
        every_processor_hashes_alike(&processor::sha256(), SHA256_START);
    }
}
