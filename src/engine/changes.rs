//! Changes to the torrents of a running session, and the channel that brings them to it.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};

use tokio::sync::mpsc;

use crate::base::{InfoHash, limits};
use crate::engine::config::Source;
use crate::engine::report::Departures;

/// A change to the torrents of a running session.
#[derive(Debug)]
pub enum Change {
    Add(Box<Source>),
    /// Serves a torrent of the session from this source, or as before if the source cannot be opened. Its hosts stay
    /// counted.
    Restart(Box<Source>),
    /// Forgets its hosts, tells its trackers that we leave, and closes its connections.
    Remove(InfoHash),
}

/// Whether a session has made a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// Peers find the session changed: those of an added torrent are accepted.
    Yes,
    /// The session has ended, or the source cannot be opened.
    No,
}

/// A change for a session to make.
#[derive(Debug)]
pub(in crate::engine) struct ChangeRequest {
    pub(in crate::engine) change: Change,
    /// Dropped without a word if the change cannot be made.
    pub(in crate::engine) made: Option<SyncSender<()>>,
}

/// Sends changes to a session. While one of these exists, the session ends only when it is stopped.
#[derive(Debug, Clone)]
pub struct ChangeSender(mpsc::Sender<ChangeRequest>);

/// Delivers changes to a session, at most [`limits::CHANGES_AT_ONCE`] at a time.
#[derive(Debug)]
pub struct Changes(mpsc::Receiver<ChangeRequest>);

/// The ways by which torrents enter and leave a running session.
#[derive(Debug, Default)]
pub struct Channels {
    /// Adds and removes torrents. While the channel is open, the session lasts until it is stopped.
    pub changes: Option<Changes>,
    /// With it the torrents are downloads: each leaves as soon as it is complete (unless `keep_seeding`) or cannot go
    /// on, or else at the end of the session, which comes when none is left.
    pub departures: Option<Departures>,
}

/// Returns a sender for the threads that change the torrents of a session, and the session's end.
#[must_use]
pub fn change_channel() -> (ChangeSender, Changes) {
    let (sender, receiver) = mpsc::channel(limits::CHANGES_AT_ONCE);
    (ChangeSender(sender), Changes(receiver))
}

impl ChangeSender {
    /// Sends a change, and waits only if [`limits::CHANGES_AT_ONCE`] are waiting. Has no effect if the session has
    /// ended. Must not be called on a thread of the session.
    pub fn send(&self, change: Change) {
        let _ = self.0.blocking_send(ChangeRequest { change, made: None });
    }

    /// Waits until the session has made the change, or has ended. A file system that hangs while the session opens the
    /// torrent holds this up too. Must not be called on a thread of the session.
    #[must_use]
    pub fn make(&self, change: Change) -> Made {
        let (sender, made) = sync_channel(1);
        if self.0.blocking_send(ChangeRequest { change, made: Some(sender) }).is_err() {
            return Made::No;
        }
        loop {
            // Read before the wait, as the last change may be made just before the end.
            let has_ended = self.is_closed();
            match made.recv_timeout(limits::CHANGE_POLL) {
                Ok(()) => return Made::Yes,
                // A request that comes late stays in the channel of an ended session.
                Err(RecvTimeoutError::Timeout) if !has_ended => {}
                Err(_) => return Made::No,
            }
        }
    }

    /// Whether the session has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl Changes {
    /// Returns the next change, or `None` if there will be none.
    pub(in crate::engine) async fn recv(&mut self) -> Option<ChangeRequest> {
        self.0.recv().await
    }

    /// Returns a change that waits.
    pub(in crate::engine) fn try_recv(&mut self) -> Option<ChangeRequest> {
        self.0.try_recv().ok()
    }
}
