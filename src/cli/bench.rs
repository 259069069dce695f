//! `bt-fast bench loopback`.

use super::exit::Failure;
use super::options::LoopbackOptions;
use super::output::Output;

pub(super) fn run(_options: LoopbackOptions, _output: &Output) -> Result<(), Failure> {
    Err(Failure::not_yet("bench loopback"))
}
