//! Delivers the results of downloads that leave a session.

use std::thread;

use tracing::warn;

use crate::engine::report::{Departure, Departures};

/// The receiver of the results, and the threads that save downloads which have left.
#[derive(Debug)]
pub(super) struct Leavers {
    /// See [`crate::engine::Channels::departures`].
    departures: Option<Departures>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Leavers {
    pub(super) fn new(departures: Option<Departures>) -> Self {
        Self { departures, threads: Vec::new() }
    }

    /// Whether downloads leave the session one by one.
    pub(super) fn are_reported(&self) -> bool {
        self.departures.is_some()
    }

    /// Sends the result of a download that leaves, on a thread of its own, because saving it takes long and the receiver
    /// may be busy. Returns false if the thread could not be started.
    pub(super) fn send(&mut self, departure: impl FnOnce() -> Departure + Send + 'static) -> bool {
        let Some(departures) = self.departures.clone() else { return false };
        // Fails if the receiver is gone, and then needs no result.
        let work = move || _ = departures.send(departure());
        self.threads.retain(|thread| !thread.is_finished());
        let started = thread::Builder::new().name("checkpoint".to_owned()).spawn(work);
        let started = started.inspect_err(|error| warn!("can't save a download: thread: {error}"));
        let is_started = started.is_ok();
        self.threads.extend(started);
        is_started
    }

    /// Returns the threads, to be waited for.
    pub(super) fn into_threads(self) -> Vec<thread::JoinHandle<()>> {
        self.threads
    }
}
