//! Tests of the real program.

#[path = "support/run.rs"]
mod run;

mod cli;
mod create;
