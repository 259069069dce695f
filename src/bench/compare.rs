//! Comparison of figures with those of an earlier run.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::measured::{Conditions, Measured, Spread, Unit};

/// The part of an earlier result that is compared.
#[derive(Debug, Clone, Deserialize)]
pub struct Older {
    pub conditions: Conditions,
    pub measured: Vec<Measured>,
}

impl Older {
    /// Returns `None` for a result without conditions and rounds, which an older version wrote.
    pub fn of(result: &Value) -> Option<Self> {
        Self::deserialize(result).ok()
    }

    /// Returns a row for each figure of both runs, in the order of the new ones.
    pub fn rows(&self, new: &[Measured]) -> Vec<Row> {
        rows(&self.measured, new)
    }
}

/// Returns a row for each figure of both runs, in the order of the new ones.
pub fn rows(old: &[Measured], new: &[Measured]) -> Vec<Row> {
    let older = |measured: &Measured| old.iter().find(|older| older.name == measured.name);
    let row = |measured: &Measured| {
        Some(Row::of(&measured.name, measured.unit, older(measured)?.spread()?, measured.spread()?))
    };
    new.iter().filter_map(row).collect()
}

/// A figure of both runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub name: String,
    pub unit: Unit,
    pub old: Spread,
    pub new: Spread,
    pub verdict: Verdict,
}

/// The meaning of a difference between two runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// A run has one round, whose spread is unknown.
    OneRound,
    WithinSpread,
    /// The new median is this many times the old one.
    Beyond(f64),
}

impl Row {
    fn of(name: &str, unit: Unit, old: Spread, new: Spread) -> Self {
        Self { name: name.to_owned(), unit, old, new, verdict: Verdict::of(old, new) }
    }
}

impl Verdict {
    /// Judges two runs. They differ if no round of one reaches the rounds of the other, and if the medians are further
    /// apart than the rounds of either run.
    fn of(old: Spread, new: Spread) -> Self {
        if old.rounds < 2 || new.rounds < 2 {
            return Self::OneRound;
        }
        let is_apart = old.max < new.min || new.max < old.min;
        let widest = (old.max - old.min).max(new.max - new.min);
        if is_apart && (new.median - old.median).abs() > widest && old.median > 0.0 {
            Self::Beyond(new.median / old.median)
        } else {
            Self::WithinSpread
        }
    }
}

/// One number in both runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The keys that lead to the number, joined by dots.
    pub name: String,
    pub old: Option<f64>,
    pub new: Option<f64>,
}

/// Returns the numbers of both runs, sorted by name. Lists are left out, because their members have no counterparts,
/// except for members that have a name (`work`).
pub fn compare(old: &Value, new: &Value) -> Vec<Change> {
    let mut changes: BTreeMap<String, (Option<f64>, Option<f64>)> = BTreeMap::new();
    numbers("", old, &mut |name, number| changes.entry(name).or_default().0 = Some(number));
    numbers("", new, &mut |name, number| changes.entry(name).or_default().1 = Some(number));
    changes.into_iter().map(|(name, (old, new))| Change { name, old, new }).collect()
}

fn numbers(name: &str, value: &Value, found: &mut dyn FnMut(String, f64)) {
    let inner = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        Value::Number(number) => number.as_f64().into_iter().for_each(|number| found(name.to_owned(), number)),
        Value::Object(members) => members.iter().for_each(|(key, member)| numbers(&inner(key), member, found)),
        Value::Array(members) => {
            for member in members {
                if let Some(work) = member.get("work").and_then(Value::as_str) {
                    numbers(&inner(work), member, found);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spread(rounds: &[f64]) -> Spread {
        Measured::new("", Unit::GbPerS, rounds.to_vec()).spread().unwrap()
    }

    fn verdict(old: &[f64], new: &[f64]) -> Verdict {
        Verdict::of(spread(old), spread(new))
    }

    #[test]
    fn a_verdict_needs_a_difference_beyond_the_spread() {
        assert_eq!(verdict(&[1.9, 2.0, 2.1], &[2.9, 3.0, 3.1]), Verdict::Beyond(1.5));
        assert_eq!(verdict(&[2.0, 2.1], &[1.0, 1.05]), Verdict::Beyond(0.5));
        assert_eq!(verdict(&[2.0, 2.1, 2.6], &[2.5, 2.7, 2.8]), Verdict::WithinSpread, "the ranges overlap");
        assert_eq!(verdict(&[1.0, 2.0, 2.1], &[2.2, 2.3, 2.4]), Verdict::WithinSpread, "one run varies more than that");
        assert_eq!(verdict(&[2.0, 2.0], &[2.0, 2.0]), Verdict::WithinSpread);
        assert_eq!(verdict(&[0.0, 0.0], &[1.0, 1.0]), Verdict::WithinSpread, "no ratio to zero");
    }

    #[test]
    fn one_round_has_no_verdict() {
        assert_eq!(verdict(&[1.0], &[5.0, 5.1]), Verdict::OneRound);
        assert_eq!(verdict(&[1.0, 1.1], &[5.0]), Verdict::OneRound);
    }

    #[test]
    fn rows_are_the_figures_of_both_runs() {
        let older = json!({
            "conditions": { "size": "1 GiB" },
            "measured": [
                { "name": "rate", "unit": "gb_per_s", "rounds": [1.0, 1.1] },
                { "name": "gone", "unit": "bytes", "rounds": [1.0] },
            ],
            "other": 5,
        });
        let older = Older::of(&older).unwrap();
        let new = [Measured::new("fresh", Unit::Share, vec![1.0]), Measured::new("rate", Unit::GbPerS, vec![3.0, 3.3])];
        let rows = older.rows(&new);
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((row.name.as_str(), row.unit), ("rate", Unit::GbPerS));
        assert!(matches!(row.verdict, Verdict::Beyond(ratio) if (ratio - 3.0).abs() < 1e-9), "{row:?}");
        assert!(Older::of(&json!({ "gb_per_s": 1.0 })).is_none(), "an older version wrote it");
    }

    #[test]
    fn numbers_are_matched_by_name() {
        let old =
            json!({ "gb_per_s": 2.0, "gone": 1, "zero": 0, "seed": { "cpu": 4 }, "name": "x", "list": [1, [2, 3]] });
        let new = json!({ "gb_per_s": 3.0, "zero": 5, "seed": { "cpu": 1, "fresh": 7 }, "figures": [{ "work": "tcp", "gb": 1 }] });
        let changes = compare(&old, &new);
        let names: Vec<&str> = changes.iter().map(|change| change.name.as_str()).collect();
        assert_eq!(names, ["figures.tcp.gb", "gb_per_s", "gone", "seed.cpu", "seed.fresh", "zero"]);
        let of = |name| changes.iter().find(|change| change.name == name).map(|change| (change.old, change.new));
        assert_eq!(of("gb_per_s"), Some((Some(2.0), Some(3.0))));
        assert_eq!((of("gone"), of("seed.fresh")), (Some((Some(1.0), None)), Some((None, Some(7.0)))));
        assert_eq!(compare(&Value::Null, &json!([1])), []);
    }
}
