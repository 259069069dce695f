//! `bt-fast get`.

use super::exit::Failure;
use super::options::GetOptions;
use super::output::Output;

pub(super) fn run(_options: GetOptions, _output: &Output) -> Result<(), Failure> {
    Err(Failure::not_yet("get"))
}
