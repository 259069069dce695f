//! `bt-fast seed`.

use super::exit::Failure;
use super::options::SeedOptions;
use super::output::Output;

pub(super) fn run(_options: SeedOptions, _output: &Output) -> Result<(), Failure> {
    Err(Failure::not_yet("seed"))
}
