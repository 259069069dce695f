//! The choice of a compression function for each number of lanes.

use std::fmt;

use super::timing::time;
use super::unit::{Block, LANES_MAX, State, Timed, Unit, Units};

/// A later unit must save more than the ticks divided by this: a wider one may lower the clock of all code, and
/// measurements vary.
const MARGIN_DIVISOR: u64 = 32;

/// The compression function for each number of lanes. It displays as that list.
pub(in crate::hash) struct Table<const WORDS: usize> {
    /// The first unit to use, indexed by the number of lanes less one.
    units: [Unit<WORDS>; LANES_MAX],
    /// Number of lanes that are worth filling.
    lanes_max: usize,
}

impl<const WORDS: usize> Table<WORDS> {
    pub(super) const fn filled(unit: Unit<WORDS>) -> Self {
        Self { units: [unit; LANES_MAX], lanes_max: unit.lanes_max }
    }

    /// The units of this name for any number of lanes, or `None` if the processor lacks them.
    pub(super) fn named(units: &Units<WORDS>, name: &str) -> Option<Self> {
        let mut table = Self::filled(units.all().filter(|unit| unit.name == name).last()?);
        for unit in units.all().filter(|unit| unit.name == name) {
            table.units[unit.lanes_min - 1..unit.lanes_max].fill(unit);
        }
        Some(table)
    }

    /// The fastest choice from these units, which are timed against each other.
    pub(super) fn fastest(units: &Units<WORDS>) -> Self {
        let mut timed: Vec<Timed<WORDS>> = units.all().map(|unit| Timed { unit, ticks: u64::MAX }).collect();
        if let Some(counter) = units.counter {
            time(counter, &mut timed);
        }
        Self::of_ticks(units.portable, &timed)
    }

    /// The choice with the fewest ticks. For each number of lanes that is one unit for the first lanes, and the choice
    /// for the lanes that are left. A unit of `timed` wins over the units before it if it is clearly faster. `portable`
    /// runs with any number of lanes.
    pub(super) fn of_ticks(portable: Unit<WORDS>, timed: &[Timed<WORDS>]) -> Self {
        let mut table = Self::filled(portable);
        // Ticks of the choice for each number of lanes, from zero.
        let mut ticks = [0u64; LANES_MAX + 1];
        for lane_count in 1..=LANES_MAX {
            let mut least = u64::MAX;
            for Timed { unit, ticks: unit_ticks } in timed.iter().filter(|timed| timed.unit.lanes_min <= lane_count) {
                let left = lane_count - unit.lanes_max.min(lane_count);
                let next = left.checked_sub(1).and_then(|last| table.units.get(last));
                // Within a choice, units go from wide to narrow: this rules out permutations of the same units.
                let is_in_order = next.is_none_or(|next| next.lanes_max <= unit.lanes_max);
                let sum = unit_ticks.saturating_add(ticks[left]);
                if is_in_order && sum < least - least / MARGIN_DIVISOR {
                    (least, table.units[lane_count - 1]) = (sum, *unit);
                }
            }
            ticks[lane_count] = least;
        }
        table.lanes_max = table.units.iter().map(|unit| unit.lanes_max).max().unwrap_or(1);
        // More lanes than these are not filled.
        let widest = table.units[table.lanes_max - 1];
        table.units[table.lanes_max..].fill(widest);
        table
    }

    /// Returns the number of lanes that are worth filling.
    pub(in crate::hash) fn lanes_max(&self) -> usize {
        self.lanes_max
    }

    /// Returns the names of the units that compress this many lanes together: `avx512x8 + shani`.
    pub(super) fn names(&self, lane_count: usize) -> String {
        let mut names = Vec::new();
        let mut left = lane_count.min(self.lanes_max);
        while let Some(unit) = left.checked_sub(1).and_then(|last| self.units.get(last)) {
            names.push(unit.name);
            left -= unit.lanes_max.min(left);
        }
        names.join(" + ")
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
    use super::super::unit::{SHA1_PORTABLE, SHA1_START, SHA1_WORDS, SHA256_START};
    use super::*;

    #[test]
    fn a_table_displays_its_choice() {
        let mut table = Table::filled(SHA1_PORTABLE);
        assert_eq!(table.to_string(), "1–16: portable");
        table.units[1..10].fill(Unit { name: "two", ..SHA1_PORTABLE });
        table.units[10..].fill(Unit { name: "many", ..SHA1_PORTABLE });
        assert_eq!(table.to_string(), "1: portable, 2–10: two, 11–16: many");
    }

    /// A unit that takes this many ticks; it compresses nothing.
    fn timed(name: &'static str, lanes_min: usize, lanes_max: usize, ticks: u64) -> Timed<SHA1_WORDS> {
        Timed { unit: Unit { name, lanes_min, lanes_max, compress: |_, _| () }, ticks }
    }

    /// Returns units whose SHA streams take `shani` ticks for one to four lanes, with these vectors.
    fn units(portable: u64, shani: [u64; 4], vectors: &[Timed<SHA1_WORDS>]) -> Vec<Timed<SHA1_WORDS>> {
        let streams = (1..).zip(shani).map(|(lanes, ticks)| timed("shani", lanes, lanes, ticks));
        std::iter::once(timed("portable", 1, 1, portable)).chain(streams).chain(vectors.iter().copied()).collect()
    }

    #[test]
    fn the_fastest_unit_is_chosen_for_each_lane_count() {
        let choice = |timed: &[Timed<SHA1_WORDS>]| Table::of_ticks(SHA1_PORTABLE, timed).to_string();
        let vectors = |x8, x16| [timed("avx512x8", 1, 8, x8), timed("avx512x16", 1, 16, x16)];
        // Eight lanes of which half are idle are faster than four streams.
        assert_eq!(
            choice(&units(100, [105, 120, 180, 240], &vectors(165, 210))),
            "1: portable, 2: shani, 3–8: avx512x8, 9–16: avx512x16"
        );
        // For nine to twelve lanes, eight lanes and some streams are faster than sixteen mostly idle ones.
        assert_eq!(
            choice(&units(100, [100, 105, 110, 115], &vectors(150, 270))),
            "1: portable, 2–4: shani, 5–12: avx512x8, 13–16: avx512x16"
        );
        // Streams win for any number of lanes.
        assert_eq!(choice(&units(100, [100, 110, 115, 120], &vectors(400, 900))), "1: portable, 2–16: shani");
        let avx2 = [timed("portable", 1, 1, 100), timed("avx2x8", 1, 8, 350)];
        assert_eq!(choice(&avx2), "1–3: portable, 4–16: avx2x8");
        assert_eq!(choice(&[timed("portable", 1, 1, 100)]), "1–16: portable");
    }

    #[test]
    fn a_wider_unit_must_be_clearly_faster() {
        let of = |ticks| Table::of_ticks(SHA1_PORTABLE, &[timed("portable", 1, 1, 100), timed("wide", 1, 16, ticks)]);
        assert_eq!((of(99).units[0].name, of(96).units[0].name), ("portable", "wide"));
        assert_eq!((of(99).lanes_max(), of(2000).lanes_max()), (16, 1));
    }

    #[test]
    fn names_tell_the_units_of_each_lane_count() {
        let vectors = [timed("avx512x8", 1, 8, 150), timed("avx512x16", 1, 16, 270)];
        let table = Table::of_ticks(SHA1_PORTABLE, &units(100, [100, 105, 110, 115], &vectors));
        assert_eq!(
            [1, 8, 10, 40].map(|lanes| table.names(lanes)),
            ["portable", "avx512x8", "avx512x8 + shani", "avx512x16"]
        );
        assert_eq!(Table::filled(SHA1_PORTABLE).names(16), "portable", "one lane at a time");
    }

    /// Checks that the choice by measured ticks, and by random ticks of any combination of units, hashes like the
    /// portable unit.
    fn check_every_processor<const WORDS: usize>(units: &Units<WORDS>, start: State<WORDS>) {
        let mut content = [[0; 64]; 40 + 3];
        let mut rng = fastrand::Rng::with_seed(1);
        rng.fill(content.as_flattened_mut());
        for turn in 0..40 {
            let table = if turn == 0 {
                Table::fastest(units)
            } else {
                let some: Vec<_> = units.all().filter(|_| rng.bool()).collect();
                let timed: Vec<_> = some
                    .into_iter()
                    .map(|unit| Timed { unit, ticks: rng.u64(1..=300 * unit.lanes_max as u64) })
                    .collect();
                Table::of_ticks(units.portable, &timed)
            };
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
