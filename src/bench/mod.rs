//! The measuring commands. They run what users run, and measure it from outside.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod content;
mod hash;
mod loopback;
pub mod swarm;

pub use hash::{Figure, HashFigures, hash};
pub use loopback::{BenchError, Figures, Settings, Side, run};
