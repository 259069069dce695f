//! The part of a result that a later run is compared with: its conditions, and its figures in every round.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Machine, median};

/// The condition that names the benchmark.
const BENCHMARK: &str = "benchmark";

/// A figure in every round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub name: String,
    pub unit: Unit,
    pub rounds: Vec<f64>,
}

impl Measured {
    pub(super) fn new(name: impl Into<String>, unit: Unit, rounds: Vec<f64>) -> Self {
        Self { name: name.into(), unit, rounds }
    }

    /// Returns the median and both extremes, or `None` if there is no round.
    pub fn spread(&self) -> Option<Spread> {
        let max = self.rounds.iter().copied().max_by(f64::total_cmp)?;
        let min = self.rounds.iter().copied().min_by(f64::total_cmp)?;
        Some(Spread { rounds: self.rounds.len(), min, median: median(self.rounds.clone()), max })
    }
}

/// The unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// 10^9 bytes per second.
    GbPerS,
    /// Processor seconds for each 10^9 bytes.
    CpuSPerGb,
    Microseconds,
    Bytes,
    /// One rate divided by another.
    Share,
}

/// The median of a figure over the rounds, and its extremes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub rounds: usize,
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

/// Conditions of a run, by name. Runs of different conditions have no figures to compare.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Conditions(BTreeMap<String, String>);

impl Conditions {
    /// The conditions of this benchmark on this machine. The program's version is not among them, so that versions can
    /// be compared.
    pub(super) fn of(benchmark: &str) -> Self {
        let Machine { cpu, cores, kernel, .. } = Machine::this();
        Self::default()
            .and(BENCHMARK, benchmark)
            .and("processor", cpu)
            .and("cores", cores.to_string())
            .and("kernel", kernel)
    }

    pub(super) fn and(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Describes each condition of the older run that differs here: `size: 1 GiB, here 64 MiB`. For a run of another
    /// benchmark, this is its name alone.
    pub fn differences(&self, older: &Self) -> Vec<String> {
        if let (Some(here), Some(there)) = (self.0.get(BENCHMARK), older.0.get(BENCHMARK))
            && here != there
        {
            return vec![format!("it is a result of bench {there}, not of bench {here}")];
        }
        let names: BTreeSet<&String> = self.0.keys().chain(older.0.keys()).collect();
        let shown = |conditions: &Self, name| match conditions.0.get(name) {
            Some(value) if !value.is_empty() => value.clone(),
            _ => "none".to_owned(),
        };
        let differs = |name: &&String| self.0.get(*name) != older.0.get(*name);
        names
            .into_iter()
            .filter(differs)
            .map(|name| format!("{name}: {}, here {}", shown(older, name), shown(self, name)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_median_and_both_extremes() {
        let of = |rounds: &[f64]| Measured::new("rate", Unit::GbPerS, rounds.to_vec()).spread();
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some(Spread { rounds: 3, min: 1.0, median: 2.0, max: 3.0 }));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn every_different_condition_is_named() {
        let older = Conditions::default().and("size", "1 GiB").and("place", "disk").and("flags", "");
        let here = Conditions::default().and("size", "64 MiB").and("place", "disk").and("flags", "--dscp 8");
        assert_eq!(here.differences(&older), ["flags: none, here --dscp 8", "size: 1 GiB, here 64 MiB"]);
        assert!(here.differences(&here).is_empty());
        assert_eq!(here.differences(&Conditions::default()).len(), 3);
    }
}
