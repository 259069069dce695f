//! The choice of a compression function for each number of lanes.

use std::fmt;

use super::unit::{Block, LANES_MAX, State, Unit, Units};

/// The compression function for each number of lanes. It displays as that list.
pub(in crate::hash) struct Table<const WORDS: usize> {
    /// Indexed by the number of lanes less one.
    units: [Unit<WORDS>; LANES_MAX],
}

impl<const WORDS: usize> Table<WORDS> {
    pub(super) const fn filled(unit: Unit<WORDS>) -> Self {
        Self { units: [unit; LANES_MAX] }
    }

    /// AVX-512 for any number of lanes, or `None` if the processor lacks it.
    pub(super) fn avx512(units: &Units<WORDS>) -> Option<Self> {
        let [x8, x16] = units.avx512?;
        let mut table = Self::filled(x8);
        table.fill(9, x16);
        Some(table)
    }

    /// AVX2 for any number of lanes, or `None` if the processor lacks it.
    pub(super) fn avx2(units: &Units<WORDS>) -> Option<Self> {
        units.avx2.map(Self::filled)
    }

    /// The SHA instructions for any number of lanes, or `None` if the processor lacks them.
    pub(super) fn shani(units: &Units<WORDS>) -> Option<Self> {
        let mut table = Self::filled(units.portable);
        units.shani?.into_iter().for_each(|unit| table.fill(unit.lanes_max, unit));
        Some(table)
    }

    /// The fastest choice from these units, by the results of the benchmark `hash`. Units that are close in speed are
    /// timed against each other.
    pub(super) fn fastest(units: &Units<WORDS>) -> Self {
        let mut table = Self::filled(units.portable);
        // For one lane the portable crates use the SHA instructions too.
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

    /// Chooses `unit` for `lane_count` lanes and more.
    fn fill(&mut self, lane_count: usize, unit: Unit<WORDS>) {
        self.units.iter_mut().skip(lane_count - 1).for_each(|entry| *entry = unit);
    }

    /// Returns the number of lanes that are worth filling.
    pub(in crate::hash) fn lanes_max(&self) -> usize {
        self.units[LANES_MAX - 1].lanes_max
    }

    /// Compresses one run of blocks into each state.
    ///
    /// # Panics
    /// If the runs differ in length or in number from the states.
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
    use super::super::processor;
    use super::super::unit::{SHA1_PORTABLE, SHA1_START, SHA256_START};
    use super::*;

    #[test]
    fn a_table_displays_its_choice() {
        let mut table = Table::filled(SHA1_PORTABLE);
        assert_eq!(table.to_string(), "1–16: portable");
        table.fill(2, Unit { name: "two", ..SHA1_PORTABLE });
        table.fill(11, Unit { name: "many", ..SHA1_PORTABLE });
        assert_eq!(table.to_string(), "1: portable, 2–10: two, 11–16: many");
    }

    /// Checks that the choice without any combination of units hashes like the portable unit.
    fn check_every_processor<const WORDS: usize>(units: &Units<WORDS>, start: State<WORDS>) {
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
    fn sha1_is_the_same_on_every_processor() {
        check_every_processor(&processor::sha1(), SHA1_START);
    }

    #[test]
    fn sha256_is_the_same_on_every_processor() {
        check_every_processor(&processor::sha256(), SHA256_START);
    }
}
