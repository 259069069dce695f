//! `--compare` of the benchmarks: an earlier run beside the new one.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::exit::{Exit, Failure};
use super::options::CompareOptions;
use super::output::Output;
use crate::base::limits::BENCH_RESULT_LEN_MAX;
use crate::base::units::Bytes;
use crate::bench::{Change, Conditions, Measured, Older, Row, Spread, Unit, Verdict, compare};
use crate::create::open::shown;

/// The figures of an earlier run, read before the measurement.
pub(super) struct Comparison {
    result: Value,
    /// `None` for a result without conditions and rounds.
    older: Option<Older>,
}

impl Comparison {
    /// Reads the earlier run, if one is given, and refuses it if its conditions are not `conditions`.
    pub(super) fn read(
        options: Option<&CompareOptions>,
        conditions: &Conditions,
        output: &Output,
    ) -> Result<Option<Self>, Failure> {
        let Some(CompareOptions { path, force }) = options else { return Ok(None) };
        let result = read(path)?;
        let older = Older::of(&result);
        let difference = match &older {
            None => vec!["it has no conditions and rounds: an older version wrote it".to_owned()],
            Some(older) => conditions.differences(&older.conditions),
        };
        if !difference.is_empty() {
            let line = format!("{}: {}", shown(path), difference.join("; "));
            if !force {
                let remedy = "measure it again under the same conditions, or give --force";
                return Err(Failure::new(Exit::Usage, format_args!("--compare: {line}: {remedy}")));
            }
            output.warning(format_args!("--compare: {line}"));
        }
        Ok(Some(Self { result, older }))
    }

    /// Prints a row for each figure of both runs. `-v`, and a result without rounds, print every number.
    pub(super) fn show(&self, result: &impl Serialize, measured: &[Measured], output: &Output) {
        let rows = self.older.as_ref().map(|older| older.rows(measured)).unwrap_or_default();
        if !rows.is_empty() {
            show_rows(["old", "new"], &rows, output);
        }
        if self.older.is_none() || output.is_verbose() {
            self.show_numbers(result, output);
        }
    }

    fn show_numbers(&self, result: &impl Serialize, output: &Output) {
        let changes = compare(&self.result, &serde_json::to_value(result).unwrap_or_default());
        output.result(format_args!("{:<36}{:>14}{:>14}", "all numbers", "old", "new"));
        for Change { name, old, new } in &changes {
            output.result(format_args!("{name:<36}{:>14}{:>14}", shown_number(*old), shown_number(*new)));
        }
    }
}

/// Reads a file of JSON output, and takes the last object in it: the latest run.
fn read(path: &Path) -> Result<Value, Failure> {
    let text = read_text(path).map_err(|error| Failure::io("can't read", &shown(path), &error))?;
    let lines = text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let whole = serde_json::from_str::<Value>(&text).ok();
    whole.into_iter().chain(lines).find(Value::is_object).ok_or_else(|| {
        let line =
            format!("--compare: {}: it has no JSON object: give the output of an earlier --json run", shown(path));
        Failure::new(Exit::Usage, line)
    })
}

/// Reads a file of at most [`BENCH_RESULT_LEN_MAX`] bytes, which may be a pipe.
fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(BENCH_RESULT_LEN_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > BENCH_RESULT_LEN_MAX {
        return Err(io::Error::other(format!("more than {}: give one run", Bytes(BENCH_RESULT_LEN_MAX))));
    }
    Ok(text)
}

/// Prints a row for each figure of two runs with these names.
pub(super) fn show_rows(names: [&str; 2], rows: &[Row], output: &Output) {
    let [old, new] = names.map(|name| format!("{name}, lowest–highest"));
    output.result(format_args!("{:<40}{old:>26}{new:>26}   verdict", "compared"));
    for row in rows {
        let Row { name, unit, old, new, verdict } = row;
        let name = format!("{name}{}", shown_unit(*unit));
        let (old, new) = (shown_spread(*unit, *old), shown_spread(*unit, *new));
        output.result(format_args!("{name:<40}{old:>26}{new:>26}   {}", shown_verdict(*unit, *verdict)));
    }
    if rows.iter().any(|row| row.verdict == Verdict::OneRound) {
        output.result("no verdict: one round has no spread: give --rounds 3");
    }
    let is_other_pair = |row: &Row| row.name == "bare pair" && matches!(row.verdict, Verdict::Beyond(_));
    if rows.iter().any(is_other_pair) {
        output.result("the bare pair changed too, so the machine did: judge by the share of the bare pair");
    }
}

fn shown_spread(unit: Unit, spread: Spread) -> String {
    let shown = |figure| shown_figure(unit, figure);
    let Spread { rounds, min, median, max } = spread;
    if rounds == 1 { shown(median) } else { format!("{}, {}–{}", shown(median), shown(min), shown(max)) }
}

fn shown_figure(unit: Unit, figure: f64) -> String {
    match unit {
        Unit::GbPerS | Unit::CpuSPerGb | Unit::Share => format!("{figure:.2}"),
        Unit::Microseconds => format!("{:.2}", figure / 1000.0),
        Unit::Bytes => format!("{:.1}", figure / f64::from(1 << 20)),
    }
}

/// Returns the unit of [`shown_figure`], as it follows a figure's name.
fn shown_unit(unit: Unit) -> &'static str {
    match unit {
        Unit::GbPerS => ", GB/s",
        Unit::CpuSPerGb => ", CPU-s/GB",
        Unit::Microseconds => ", ms",
        Unit::Bytes => ", MiB",
        Unit::Share => "",
    }
}

/// Names a verdict for a figure: `12 % faster`, `within the spread`.
fn shown_verdict(unit: Unit, verdict: Verdict) -> String {
    let ratio = match verdict {
        Verdict::OneRound => return "-".to_owned(),
        Verdict::WithinSpread => return "within the spread".to_owned(),
        Verdict::Beyond(ratio) => ratio,
    };
    let (more, less) = match unit {
        Unit::GbPerS | Unit::Share => ("faster", "slower"),
        Unit::CpuSPerGb | Unit::Bytes => ("more", "less"),
        Unit::Microseconds => ("longer", "shorter"),
    };
    format!("{:.0} % {}", (ratio - 1.0).abs() * 100.0, if ratio > 1.0 { more } else { less })
}

/// Shows whole and large numbers without decimals, and all other numbers with four.
fn shown_number(number: Option<f64>) -> String {
    match number {
        None => "-".to_owned(),
        Some(number) if number.fract() == 0.0 || number.abs() >= 1000.0 => format!("{number:.0}"),
        Some(number) => format!("{number:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_says_how_a_figure_changed() {
        assert_eq!(shown_verdict(Unit::GbPerS, Verdict::Beyond(1.12)), "12 % faster");
        assert_eq!(shown_verdict(Unit::Share, Verdict::Beyond(0.5)), "50 % slower");
        assert_eq!(shown_verdict(Unit::CpuSPerGb, Verdict::Beyond(0.9)), "10 % less");
        assert_eq!(shown_verdict(Unit::Microseconds, Verdict::Beyond(3.0)), "200 % longer");
        assert_eq!(shown_verdict(Unit::Bytes, Verdict::WithinSpread), "within the spread");
        assert_eq!(shown_verdict(Unit::Bytes, Verdict::OneRound), "-");
    }

    #[test]
    fn a_spread_has_the_unit_of_its_figure() {
        let spread = Spread { rounds: 3, min: 1024.0 * 1024.0, median: 1536.0 * 1024.0, max: 2048.0 * 1024.0 };
        assert_eq!(shown_spread(Unit::Bytes, spread), "1.5, 1.0–2.0");
        let one = Spread { rounds: 1, min: 700.0, median: 700.0, max: 700.0 };
        assert_eq!(shown_spread(Unit::Microseconds, one), "0.70");
    }
}
