//! The parts of a run of `get` that all of its steps need.

use std::sync::atomic::AtomicBool;

use crate::cli::load::{Loader, Purpose};
use crate::cli::options::GetOptions;
use crate::cli::output::Output;
use crate::engine::Config;
use crate::engine::magnet::Listening;

/// The options, the stop flag and output of one run of `get`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Command<'a> {
    pub(super) options: &'a GetOptions,
    pub(super) stop: &'a AtomicBool,
    pub(super) output: &'a Output,
}

impl<'a> Command<'a> {
    pub(super) fn loader(self, config: &'a Config, listening: Listening, purpose: Purpose) -> Loader<'a> {
        let Self { options, stop, output } = self;
        let (network, limits) = (&options.network, &options.engine.metainfo);
        Loader { network, limits, config, listening, purpose, stop, output }
    }
}
