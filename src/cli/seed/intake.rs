//! The thread that prepares the content of the command line: it hashes content before it is served, and then follows
//! its changes.

use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use super::follow::Follower;
use super::handle::{NotAdded, SessionHandle};
use super::paths::{PathState, SeededPath, Version};
use super::prepare::prepare;
use super::prepared::Prepared;
use super::refusals::{Refusals, warn_of_duplicate};
use crate::cli::exit::{Exit, Failure};

/// Hashes content of the command line, one path after another, and adds each torrent to the session as it becomes
/// ready. Then keeps the session in step with the paths.
pub(super) struct Intake<'a> {
    pub(super) paths: Vec<SeededPath>,
    pub(super) session: SessionHandle<'a>,
    pub(super) refusals: Refusals<'a>,
    /// Torrents that are served so far.
    pub(super) served_count: usize,
    /// Dropped when the first path is hashed or refused.
    pub(super) first_hashed: SyncSender<Infallible>,
    /// Set by SIGHUP.
    pub(super) reload: &'a AtomicBool,
}

impl Intake<'_> {
    /// Returns the failure that ends `seed` if nothing is left to serve.
    pub(super) fn run(mut self) -> Option<Failure> {
        let (mut paths, session, first_hashed) = (self.paths, self.session, self.first_hashed);
        let mut unhashed = paths.iter_mut().filter(|seeded| matches!(seeded.state, PathState::Unhashed));
        let mut prepared = unhashed.next().map(|seeded| (prepare(&seeded.path, &session), seeded));
        drop(first_hashed);
        if !session.wait_for_session() {
            return None;
        }
        while let Some((result, seeded)) = prepared {
            seeded.state = match result {
                Ok(prepared) => add(&seeded.path, prepared, &session),
                Err(failure) if failure.exit == Exit::Interrupted => return None,
                Err(failure) => {
                    let reason = failure.line.clone();
                    self.refusals.add(seeded.kind, &seeded.path, failure);
                    PathState::Refused(reason)
                }
            };
            if session.is_over() {
                return None;
            }
            self.served_count += usize::from(matches!(seeded.state, PathState::Served(_)));
            prepared = unhashed.next().map(|seeded| (prepare(&seeded.path, &session), seeded));
        }
        session.state.is_complete.store(true, Ordering::Relaxed);
        let failure = self.refusals.conclude(self.served_count);
        if failure.is_some() {
            session.state.stop.store(true, Ordering::Relaxed);
            return failure;
        }
        Follower::new(paths, session, self.reload).run();
        None
    }
}

fn add(path: &Path, prepared: Prepared, session: &SessionHandle<'_>) -> PathState {
    let (fingerprint, info_hash) = (prepared.fingerprint, prepared.source.metainfo.info_hash);
    match session.add(prepared) {
        Ok(torrent) => PathState::Served(Version::new(&torrent, fingerprint)),
        Err(NotAdded::Duplicate) => {
            warn_of_duplicate(path, session.output);
            PathState::Duplicate { info_hash, fingerprint }
        }
        Err(NotAdded::Refused) => PathState::Refused(NotAdded::Refused.failure(path).line),
    }
}
