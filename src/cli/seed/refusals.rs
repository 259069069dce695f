//! Reports of paths that `seed` cannot serve.

use std::path::Path;

use super::path_kind::PathKind;
use crate::base::escape::printable;
use crate::cli::exit::Failure;
use crate::cli::options::{SeedOptions, is_pattern};
use crate::cli::output::Output;
use crate::cli::records::Record;
use crate::create::open::shown;

/// The paths of the command line that cannot be served. One such path does not keep the other paths from being served.
pub(super) struct Refusals<'a> {
    output: &'a Output,
    /// The command line gives one path, and no torrent can be added later.
    is_only_path: bool,
    /// `--watch` or a pattern is given, so that torrents may be added later.
    is_waiting: bool,
    first: Option<Failure>,
}

impl<'a> Refusals<'a> {
    pub(super) fn new(options: &SeedOptions, output: &'a Output) -> Self {
        let is_waiting = options.watch.is_some() || options.torrents.iter().any(|path| is_pattern(path));
        Self { output, is_only_path: options.torrents.len() == 1 && !is_waiting, is_waiting, first: None }
    }

    /// Reports a path that cannot be served. The failure of a path that is the only one ends `seed` and is reported
    /// then.
    pub(super) fn add(&mut self, kind: PathKind, path: &Path, failure: Failure) {
        if !self.is_only_path {
            self.output.error(not_served(kind, &failure));
            record_not_served(path, &failure, self.output);
        }
        self.first.get_or_insert(failure);
    }

    /// Returns the failure that ends `seed` if `served_count` is 0 and no torrent can be added later.
    pub(super) fn conclude(&mut self, served_count: usize) -> Option<Failure> {
        if served_count > 0 || self.is_waiting {
            return None;
        }
        let Failure { exit, line } = self.first.take()?;
        let line = if self.is_only_path { line } else { format!("nothing is left to serve: {line}") };
        Some(Failure { exit, line })
    }
}

/// Returns the line for a path of the command line that is not served.
pub(super) fn not_served(kind: PathKind, failure: &Failure) -> String {
    match kind {
        PathKind::Content => format!("not served: {failure}: it is served as soon as it has readable content"),
        PathKind::Torrent => format!("not served: {failure}"),
    }
}

/// Writes the record of a path that is not served.
pub(super) fn record_not_served(path: &Path, failure: &Failure, output: &Output) {
    let message = printable(failure.line.as_bytes());
    output.record(&Record::NotServed { path: &shown(path), exit: failure.exit as u8, message: &message });
}

pub(super) fn warn_of_duplicate(path: &Path, output: &Output) {
    output.warning(format_args!("{}: this torrent is given more than once and is seeded once", shown(path)));
}
