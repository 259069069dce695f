//! The measuring commands. They run what users run, and measure it from outside.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod content;
mod loopback;

pub use loopback::{BenchError, Figures, Settings, Side, run};
