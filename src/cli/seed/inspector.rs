//! Reads the state of files on a thread of its own. The thread is left behind when the session ends, since a call to a
//! file system that hangs cannot be canceled.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use std::{io, thread};

use super::handle::SessionHandle;
use crate::create::Fingerprint;

/// Interval at which a caller that waits for the files checks whether the session is over.
const POLL: Duration = Duration::from_millis(50);

/// The thread that reads the state of files.
pub(super) struct Inspector {
    paths: SyncSender<PathBuf>,
    inspections: Receiver<Inspection>,
}

/// The state of the files at a path.
pub(super) struct Inspection {
    /// `None` if the files cannot be listed.
    pub(super) seen: Option<Fingerprint>,
    /// Time that it took to list them.
    pub(super) took: Duration,
}

impl Inspector {
    pub(super) fn start() -> io::Result<Self> {
        let (paths, inbox) = sync_channel::<PathBuf>(1);
        let (outbox, inspections) = sync_channel(1);
        let inspect = move || {
            for path in inbox {
                let started = Instant::now();
                let seen = Fingerprint::read(&path).ok();
                if outbox.send(Inspection { seen, took: started.elapsed() }).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("content".to_owned()).spawn(inspect)?;
        Ok(Self { paths, inspections })
    }

    /// Reads the state of the files at a path. Returns `None` if the session ends first.
    pub(super) fn read(&self, path: &Path, session: &SessionHandle<'_>) -> Option<Inspection> {
        self.paths.send(path.to_owned()).ok()?;
        loop {
            match self.inspections.recv_timeout(POLL) {
                Ok(inspection) => return Some(inspection),
                Err(RecvTimeoutError::Timeout) if !session.is_over() => {}
                Err(_) => return None,
            }
        }
    }
}
