//! Content of the command line that has to be hashed before it is served.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;

use super::handle::SessionHandle;
use super::prepare::prepare;
use super::refusals::{Refusals, warn_of_duplicate};
use super::trust::Trust;
use crate::cli::exit::{Exit, Failure};
use crate::engine::Source;

/// Hashes content of the command line, one path after another, and adds each torrent to the session as it becomes
/// ready.
pub(super) struct Intake<'a> {
    pub(super) paths: &'a [PathBuf],
    pub(super) session: SessionHandle<'a>,
    pub(super) refusals: Refusals<'a>,
    /// Torrents that are served so far.
    pub(super) served_count: usize,
    /// Dropped when the first path is hashed or refused.
    pub(super) first_hashed: SyncSender<Infallible>,
}

impl Intake<'_> {
    /// Returns the failure that ends `seed` if nothing is left to serve.
    pub(super) fn run(mut self) -> Option<Failure> {
        let (mut paths, first_hashed) = (self.paths.iter(), self.first_hashed);
        let mut prepared = paths.next().map(|path| (path, prepare(path, &self.session)));
        drop(first_hashed);
        if !self.session.wait_for_session() {
            return None;
        }
        while let Some((path, result)) = prepared {
            match result.map(|(source, trust)| add(path, source, &trust, &self.session)) {
                Ok(count) => self.served_count += count,
                Err(failure) if failure.exit == Exit::Interrupted => return None,
                Err(failure) => self.refusals.add(path, failure),
            }
            prepared = paths.next().map(|path| (path, prepare(path, &self.session)));
        }
        self.session.state.is_complete.store(true, Ordering::Relaxed);
        let failure = self.refusals.conclude(self.served_count);
        if failure.is_some() {
            self.session.state.stop.store(true, Ordering::Relaxed);
        }
        failure
    }
}

/// Returns the number of torrents that were added: 1, or 0 for a duplicate.
fn add(path: &Path, source: Source, trust: &Trust, session: &SessionHandle<'_>) -> usize {
    if session.add(source, trust).is_some() {
        return 1;
    }
    warn_of_duplicate(path, session.output);
    0
}
