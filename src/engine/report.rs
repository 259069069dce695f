//! The result of a session: its report, or its error.

use std::fmt;
use std::num::NonZeroUsize;

use crate::base::{Bitfield, InfoHash, Time};
use crate::engine::metrics::monitor::Snapshot;
use crate::engine::metrics::stats::Stats;
use crate::engine::network::listen::ListenError;
use crate::hash::Hashed;
use crate::io::StartError;
use crate::storage::StorageError;

/// The result of a session that ended without an error.
#[derive(Debug)]
pub struct Report {
    pub totals: Snapshot,
    pub elapsed: Time,
    pub stats: Stats,
    pub hashed: Hashed,
}

/// The end of a download that left its session without an error.
#[derive(Debug)]
pub struct DownloadEnd {
    /// Every wanted piece is on disk. False if the session was stopped earlier.
    pub complete: bool,
    /// Pieces from before the session that must be hashed, since another program may have changed their files.
    pub doubtful: Option<Bitfield>,
    /// The totals of this download; time and resource use are those of the session so far.
    pub report: Report,
}

/// A download that has left its session.
#[derive(Debug)]
pub struct Departure {
    pub info_hash: InfoHash,
    pub result: Result<DownloadEnd, EngineError>,
}

/// Delivers the departures of a session, at most [`crate::base::limits::DEPARTURES_WAITING_MAX`] at a time.
pub type Departures = std::sync::mpsc::SyncSender<Departure>;

/// Why a session could not run, or ended early. One line each.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("piece arena: {0}: choose a smaller one with --arena")]
    Arena(std::io::Error),
    #[error("threads: {0}")]
    Threads(std::io::Error),
    #[error("no torrent is left to serve")]
    NothingLeft,
    #[error("no peers: {0}: check the trackers and the network, or name a peer with --peer ADDR:PORT")]
    NoPeers(String),
    #[error("no peers: {0}: name one that has the torrent and takes plain connections with --peer ADDR:PORT")]
    HungUp(HungUp),
}

/// The number of peers that closed their connections at our handshake: peers without the torrent do that, and peers
/// that accept only encrypted connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HungUp(NonZeroUsize);

impl HungUp {
    /// Returns `None` if `count` is 0.
    pub(super) fn new(count: usize) -> Option<Self> {
        NonZeroUsize::new(count).map(Self)
    }
}

impl fmt::Display for HungUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get() {
            1 => f.write_str(
                "1 peer hung up on the handshake: it doesn't have this torrent or probably demands encryption",
            )?,
            count => write!(
                f,
                "{count} peers hung up on the handshake: they don't have this torrent or probably demand encryption"
            )?,
        }
        f.write_str(", which bt-fast does not speak")
    }
}
