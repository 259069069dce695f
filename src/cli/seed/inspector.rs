//! Reads the state of files on a thread of its own. The thread is left behind when the session ends, since a call to a
//! file system that hangs cannot be canceled.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::handle::SessionHandle;
use super::path_kind::PathKind;
use super::paths::{Matched, search};
use crate::create::Fingerprint;
use crate::io::{StartError, start_thread};

/// Interval at which a caller that waits for the files checks whether the session is over.
const POLL: Duration = Duration::from_millis(50);

type Job = Box<dyn FnOnce() + Send>;

/// The thread that reads the state of files.
pub(super) struct Inspector {
    jobs: SyncSender<Job>,
}

/// The state of the files at a path.
pub(super) struct Inspection {
    pub(super) kind: PathKind,
    pub(super) presence: Presence,
    /// `None` if the files cannot be listed.
    pub(super) seen: Option<Fingerprint>,
    /// Time that it took to list them.
    pub(super) took: Duration,
}

/// Whether a path exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Presence {
    Present,
    Gone,
}

impl Inspection {
    fn of(path: &Path) -> Self {
        let started = Instant::now();
        let presence = if path.symlink_metadata().is_ok() { Presence::Present } else { Presence::Gone };
        let (kind, seen) = (PathKind::of(path), Fingerprint::read(path).ok());
        Self { kind, presence, seen, took: started.elapsed() }
    }
}

impl Inspector {
    pub(super) fn start() -> Result<Self, StartError> {
        let (jobs, inbox) = sync_channel::<Job>(1);
        start_thread("content", move || inbox.into_iter().for_each(|job| job()))?;
        Ok(Self { jobs })
    }

    /// Reads the state of the files at a path. Returns `None` if the session ends first.
    pub(super) fn read(&self, path: &Path, session: &SessionHandle<'_>) -> Option<Inspection> {
        let path = path.to_owned();
        self.run(session, move || Inspection::of(&path))
    }

    /// Finds the paths that paths of the command line stand for. Returns `None` if the session ends first.
    pub(super) fn search(&self, paths: &[PathBuf], session: &SessionHandle<'_>) -> Option<Vec<Matched>> {
        let paths = paths.to_owned();
        self.run(session, move || search(&paths))
    }

    fn run<T: Send + 'static>(
        &self,
        session: &SessionHandle<'_>,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (outbox, result) = sync_channel(1);
        // Fails if the session is over.
        let job = Box::new(move || outbox.send(job()).unwrap_or_default());
        self.jobs.send(job).ok()?;
        loop {
            match result.recv_timeout(POLL) {
                Ok(found) => return Some(found),
                Err(RecvTimeoutError::Timeout) if !session.is_over() => {}
                Err(_) => return None,
            }
        }
    }
}
