//! The benchmarks. They run the commands that users run, and measure them from outside.
//!
//! Contenders take turns within each round, so that a machine that slows down slows all of them down. Medians are
//! reported.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod at_most;
mod compare;
mod content;
mod error;
mod floor;
mod hash;
mod loopback;
mod machine;
mod measured;
mod pair;
mod process;
mod report;
pub mod swarm;
mod system_calls;

pub use at_most::{AtMost, Resource};
pub use compare::{Change, Older, Row, Verdict, compare, rows};
pub use error::BenchError;
pub use floor::{FloorFigure, FloorFigures, FloorSettings, floor};
pub use hash::{Figure, HashFigures, hash, hash_conditions};
pub use loopback::{CpuKinds, CpuTime, Figures, FloorShare, Medium, Settings, Side, run};
pub use machine::Machine;
pub use measured::{Conditions, Measured, Spread, Unit};
pub use pair::{PairFigures, side};
pub use report::page;

use error::io_error;

/// Returns the median, the mean of the middle two of an even number of values; 0 if there are no values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = |index: usize| values.get(index).copied().unwrap_or(0.0);
    match values.len() {
        0 => 0.0,
        len => f64::midpoint(middle((len - 1) / 2), middle(len / 2)),
    }
}

/// Returns a rate in 10^9 bytes per second; 0 for no time.
#[expect(clippy::cast_precision_loss, reason = "a measurement")]
fn gb_per_s(len: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { len as f64 / seconds / 1e9 } else { 0.0 }
}

/// Returns an amount per 10^9 bytes; 0 for no bytes.
#[expect(clippy::cast_precision_loss, reason = "a measurement")]
fn per_gb(amount: f64, len: u64) -> f64 {
    if len > 0 { amount * 1e9 / len as f64 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_rates() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]).to_bits(), 2f64.to_bits());
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]).to_bits(), 3f64.to_bits());
        assert_eq!(median(Vec::new()).to_bits(), 0f64.to_bits());
        assert!((gb_per_s(3_000_000_000, 2.0) - 1.5).abs() < 1e-9);
        assert!((per_gb(2.0, 4_000_000_000) - 0.5).abs() < 1e-9);
        assert_eq!((gb_per_s(1, 0.0).to_bits(), per_gb(1.0, 0).to_bits()), (0, 0));
    }
}
