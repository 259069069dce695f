//! The state that the threads of `seed` share, and the handle by which torrents join the running session.

use std::collections::HashSet;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::origin::Origin;
use super::paths::Version;
use super::prepared::Prepared;
use super::served::ServedTorrent;
use crate::base::lock::lock;
use crate::base::{InfoHash, PeerId};
use crate::cli::exit::{Exit, Failure};
use crate::cli::options::SeedOptions;
use crate::cli::output::Output;
use crate::create::open::shown;
use crate::engine::{Change, ChangeSender, Contents, Made, Source, Timeliness};
use crate::web::site::PendingList;

/// Interval at which a thread checks whether the session serves.
const START_POLL: Duration = Duration::from_millis(10);

/// The flags that SIGHUP sets; each thread resets its own.
#[derive(Default)]
pub(super) struct Reload {
    /// Read the folder of `--watch` again.
    pub(super) watch: Arc<AtomicBool>,
    /// Read the paths of the command line again.
    pub(super) paths: Arc<AtomicBool>,
}

/// The state that the threads of `seed` share.
pub(super) struct SeedState {
    /// The port for peers, set as soon as the session serves.
    pub(super) port: OnceLock<u16>,
    /// Bytes of all torrents that are served.
    pub(super) total_len: Arc<AtomicU64>,
    /// The torrents that are served, or about to be.
    known: Mutex<HashSet<InfoHash>>,
    /// Content that is being hashed.
    pub(super) pending: Arc<PendingList>,
    /// Every path of the command line has been added or refused.
    pub(super) is_complete: AtomicBool,
    /// The user is still to be told how to end `seed`.
    needs_stop_hint: AtomicBool,
    /// Set to end the session.
    pub(super) stop: Arc<AtomicBool>,
}

impl SeedState {
    /// `served` are the torrents that are served from the start; `is_complete` is false if further
    /// content has to be hashed first.
    pub(super) fn new(
        served: &[ServedTorrent],
        is_complete: bool,
        pending: Arc<PendingList>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self {
            port: OnceLock::new(),
            total_len: Arc::new(AtomicU64::new(served.iter().map(|torrent| torrent.total_len).sum())),
            known: Mutex::new(served.iter().map(|torrent| torrent.info_hash).collect()),
            pending,
            is_complete: AtomicBool::new(is_complete),
            needs_stop_hint: AtomicBool::new(io::stderr().is_terminal()),
            stop,
        }
    }

    /// Returns the words that tell how to end `seed`: once, and only on a terminal.
    pub(super) fn take_stop_hint(&self) -> &'static str {
        if self.needs_stop_hint.swap(false, Ordering::Relaxed) { "; Ctrl-C stops" } else { "" }
    }
}

/// Why a torrent was not added to the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotAdded {
    /// Another path has the same torrent.
    Duplicate,
    /// The session has ended, or reported why it cannot open the torrent.
    Refused,
}

impl NotAdded {
    /// The failure of `path`, whose torrent was not added.
    pub(super) fn failure(self, path: &Path) -> Failure {
        match self {
            Self::Duplicate => {
                Failure::new(Exit::Mismatch, format_args!("{}: this torrent is already served", shown(path)))
            }
            Self::Refused => Failure::new(Exit::Failed, format_args!("{}: can't be opened now", shown(path))),
        }
    }
}

/// Adds torrents to the session and removes them. Each thread that does so has a clone.
#[derive(Clone)]
pub(super) struct SessionHandle<'a> {
    pub(super) options: &'a SeedOptions,
    pub(super) output: &'a Output,
    pub(super) origin: Option<&'a Origin>,
    pub(super) peer_id: PeerId,
    pub(super) state: &'a SeedState,
    pub(super) changes: ChangeSender,
    /// The torrents of the session.
    pub(super) contents: Arc<Contents>,
}

impl SessionHandle<'_> {
    /// Whether the session has ended or is about to.
    pub(super) fn is_over(&self) -> bool {
        self.state.stop.load(Ordering::Relaxed) || self.changes.is_closed()
    }

    /// Waits until the session serves. Returns false if it ends first.
    pub(super) fn wait_for_session(&self) -> bool {
        while self.state.port.get().is_none() && !self.is_over() {
            std::thread::sleep(START_POLL);
        }
        !self.is_over()
    }

    pub(super) fn is_known(&self, info_hash: InfoHash) -> bool {
        lock(&self.state.known).contains(&info_hash)
    }

    /// Publishes a torrent and serves it. The session must serve.
    pub(super) fn add(&self, prepared: Prepared) -> Result<ServedTorrent, NotAdded> {
        let Prepared { source, trust, .. } = prepared;
        if !lock(&self.state.known).insert(source.metainfo.info_hash) {
            return Err(NotAdded::Duplicate);
        }
        let torrent = ServedTorrent::new(&source.metainfo, &source.have, &trust);
        if let Some(origin) = self.origin {
            origin.add(source.metainfo.clone(), self.port(), self.peer_id);
        }
        self.start(source, torrent)
    }

    /// Publishes and serves a torrent in place of `old`, which is withdrawn and whose peers are disconnected in any case.
    /// The session must serve.
    pub(super) fn replace(&self, old: &Version, prepared: Prepared) -> Result<ServedTorrent, NotAdded> {
        let Prepared { source, trust, .. } = prepared;
        let info_hash = source.metainfo.info_hash;
        let is_new = {
            let mut known = lock(&self.state.known);
            known.remove(&old.info_hash);
            known.insert(info_hash)
        };
        let torrent = ServedTorrent::new(&source.metainfo, &source.have, &trust);
        if let Some(origin) = self.origin {
            if is_new {
                origin.replace(old.info_hash, source.metainfo.clone(), self.port(), self.peer_id);
            } else {
                origin.withdraw_for(old.info_hash, info_hash);
            }
        }
        self.stop(old.info_hash, old.len);
        if is_new { self.start(source, torrent) } else { Err(NotAdded::Duplicate) }
    }

    /// Whether the session serves nothing of a torrent, or only a part of what it announced.
    pub(super) fn is_stopped(&self, info_hash: InfoHash) -> bool {
        self.contents.has_fault(info_hash) || self.contents.has_unservable(info_hash)
    }

    /// Serves a torrent of the session from this source, whose content is whole. Its peers are disconnected.
    pub(super) fn restart(&self, source: Source) -> Made {
        self.changes.make(Change::Restart(Box::new(source)))
    }

    /// Withdraws a torrent of `len` bytes and stops serving it.
    pub(super) fn remove(&self, info_hash: InfoHash, len: u64) {
        lock(&self.state.known).remove(&info_hash);
        if let Some(origin) = self.origin {
            origin.remove(info_hash);
        }
        self.stop(info_hash, len);
    }

    /// Sets whether the page and the status show a torrent as changed.
    pub(super) fn set_timeliness(&self, info_hash: InfoHash, timeliness: Timeliness) {
        self.contents.set_timeliness(info_hash, timeliness);
        if let Some(origin) = self.origin {
            origin.set_timeliness(info_hash, timeliness);
        }
    }

    fn port(&self) -> u16 {
        self.state.port.get().copied().unwrap_or_default()
    }

    /// Serves a torrent that is known and published.
    fn start(&self, source: Source, torrent: ServedTorrent) -> Result<ServedTorrent, NotAdded> {
        if self.changes.make(Change::Add(Box::new(source))) == Made::No {
            lock(&self.state.known).remove(&torrent.info_hash);
            if let Some(origin) = self.origin {
                origin.remove(torrent.info_hash);
            }
            return Err(NotAdded::Refused);
        }
        self.state.total_len.fetch_add(torrent.total_len, Ordering::Relaxed);
        torrent.announce(self.port(), self.state.take_stop_hint(), self.origin, self.output);
        Ok(torrent)
    }

    fn stop(&self, info_hash: InfoHash, len: u64) {
        // Not made if the session has ended.
        let _ = self.changes.make(Change::Remove(info_hash));
        self.state.total_len.fetch_sub(len, Ordering::Relaxed);
    }
}
