//! Torrents that join a session which runs already: content that has to be hashed first, and files of `--watch`.

use std::collections::HashSet;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::origin::Origin;
use super::{Named, Refusals, Trust, prepare};
use crate::base::{InfoHash, PeerId};
use crate::cli::exit::{Exit, Failure};
use crate::cli::options::SeedOptions;
use crate::cli::output::Output;
use crate::engine::{Change, Source};
use crate::web::site::PendingList;

/// How often a thread looks whether the session has begun.
const START_POLL: Duration = Duration::from_millis(10);

/// What the threads that add torrents share with the rest of `seed`.
#[derive(Clone)]
pub(super) struct Surroundings<'a> {
    pub(super) options: &'a SeedOptions,
    pub(super) output: &'a Output,
    pub(super) origin: Option<&'a Origin>,
    pub(super) peer_id: PeerId,
    /// Set when the session serves.
    pub(super) port: &'a OnceLock<u16>,
    /// Bytes of all torrents that are served.
    pub(super) total_len: &'a AtomicU64,
    /// The torrents that are served, or about to be.
    pub(super) known: &'a Mutex<HashSet<InfoHash>>,
    /// Content that is hashed, or waits for that.
    pub(super) pending: &'a PendingList,
    pub(super) stop: &'a AtomicBool,
    pub(super) changes: mpsc::Sender<Change>,
}

impl Surroundings<'_> {
    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.changes.is_closed()
    }

    /// Waits until the session serves; false if it ended before.
    pub(super) fn wait_for_session(&self) -> bool {
        while self.port.get().is_none() && !self.is_over() {
            std::thread::sleep(START_POLL);
        }
        !self.is_over()
    }

    pub(super) fn is_known(&self, info_hash: InfoHash) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&info_hash)
    }

    pub(super) fn forget(&self, info_hash: InfoHash) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&info_hash);
    }

    /// Publishes a torrent and serves it; `None` if it was known before. The session runs.
    pub(super) fn add(&self, source: Source, trust: &Trust) -> Option<Named> {
        let info_hash = source.metainfo.info_hash;
        if !self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(info_hash) {
            return None;
        }
        let named = Named::new(&source.metainfo, &source.have, trust);
        let port = self.port.get().copied().unwrap_or_default();
        if let Some(origin) = self.origin {
            origin.add(source.metainfo.clone(), (port, self.peer_id));
        }
        if self.changes.blocking_send(Change::Add(Box::new(source))).is_ok() {
            self.total_len.fetch_add(named.total_len, Ordering::Relaxed);
            named.announce(port, self.origin, self.output);
        }
        Some(named)
    }
}

/// Hashes content of the command line, one path after another, and adds each to the session as it becomes ready.
pub(super) struct Intake<'a> {
    pub(super) paths: &'a [PathBuf],
    pub(super) around: Surroundings<'a>,
    pub(super) refusals: Refusals<'a>,
    /// Torrents that are served without it.
    pub(super) served_count: usize,
    /// Set when every path has been added or refused.
    pub(super) is_done: &'a AtomicBool,
    /// Dropped when the first path is hashed or refused.
    pub(super) first_hashed: SyncSender<Infallible>,
}

impl Intake<'_> {
    /// The failure that ends `seed`, if nothing is left to serve.
    pub(super) fn run(mut self) -> Option<Failure> {
        let (mut paths, first_hashed) = (self.paths.iter(), self.first_hashed);
        let mut prepared = paths.next().map(|path| (path, prepare(path, &self.around)));
        drop(first_hashed);
        if !self.around.wait_for_session() {
            return None;
        }
        while let Some((path, result)) = prepared {
            match result.map(|(source, trust)| add(path, source, &trust, &self.around)) {
                Ok(count) => self.served_count += count,
                Err(failure) if failure.exit == Exit::Interrupted => return None,
                Err(failure) => self.refusals.add(path, failure),
            }
            prepared = paths.next().map(|path| (path, prepare(path, &self.around)));
        }
        self.is_done.store(true, Ordering::Relaxed);
        let failure = self.refusals.conclude(self.served_count);
        if failure.is_some() {
            self.around.stop.store(true, Ordering::Relaxed);
        }
        failure
    }
}

/// The number of torrents that were added: one or none.
fn add(path: &Path, source: Source, trust: &Trust, around: &Surroundings<'_>) -> usize {
    if around.add(source, trust).is_some() {
        return 1;
    }
    super::warn_of_duplicate(path, around.output);
    0
}
