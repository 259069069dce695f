//! What a session is given, what it shows, and what it leaves.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::cidr::AddressFilter;
use crate::base::{Bitfield, FileIdentity, InfoHash, PeerId, Rng, Time};
use crate::codec::metainfo::Metainfo;
use crate::engine::contents::Contents;
use crate::engine::files::resume::Earlier;
use crate::engine::metrics::monitor::Monitor;
use crate::engine::metrics::stats::Stats;
use crate::engine::network::egress::Way;
use crate::engine::network::listen::ListenError;
use crate::engine::shared::page_cache::CacheMode;
use crate::hash::Hashed;
use crate::storage::{StorageError, Target};
use crate::swarm::Choice;
use crate::swarm::choker::Slots;
use crate::uring::{Device, RingError, ZeroCopyMode};

/// How a session is run.
#[derive(Debug)]
pub struct Config {
    pub identity: Identity,
    pub listen: Listen,
    /// Ring threads, at least 1.
    pub ring_count: usize,
    /// Bytes of piece memory; never less than two pieces.
    pub arena_len: u64,
    pub slots: Slots,
    /// Connections, handshakes included.
    pub connections_max: usize,
    /// A torrent that lacks pieces accepts no more at so many.
    pub leeching_max: usize,
    /// Peers to connect to beside those the trackers tell.
    pub peers: Vec<SocketAddr>,
    /// Whom we connect to and accept.
    pub filter: AddressFilter,
    /// The interface that peer connections go through.
    pub device: Option<Device>,
    /// Their mark for routers (RFC 2474), 0 to 63.
    pub dscp: Option<u8>,
    /// BEP 3's `ip`, told to trackers.
    pub announce_ip: Option<String>,
    /// Trackers that the user named, not a torrent: on this host too they may have any path.
    pub users_trackers: Arc<[String]>,
    pub write_mode: WriteMode,
    pub cache_mode: CacheMode,
    pub zero_copy: ZeroCopyMode,
    /// Disk space is reserved at the start, in the background.
    pub preallocate: bool,
    /// Go on when everything is complete.
    pub keep_seeding: bool,
    /// End after this long without any peer.
    pub timeout: Option<Duration>,
    /// Pieces by index instead of rarest first.
    pub sequential: bool,
    /// What is complete is shown piece by piece (BEP 16).
    pub super_seed: bool,
    pub rates: RateLimits,
    /// Is shown a picture of the session once a second.
    pub monitor: Option<Arc<Monitor>>,
    /// Gives others than peers the content that this session serves.
    pub contents: Arc<Contents>,
}

impl Config {
    /// How trackers and other servers are reached: as peers are.
    pub fn way(&self) -> Way {
        Way { device: self.device, local: self.listen.local_address().map(|address| address.ip()) }
    }
}

/// Where peers reach us.
#[derive(Debug)]
pub enum Listen {
    /// All addresses, the first free port of 6881 to 6889 (BEP 3).
    FirstFree,
    At(SocketAddr),
    /// A socket that listens already. Whoever opened it may go on with it when the session has ended.
    Handed(TcpListener),
}

impl Listen {
    /// The address that our own connections come from, where one was chosen; any port.
    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::At(address) if !address.ip().is_unspecified() => Some(SocketAddr::new(address.ip(), 0)),
            _ => None,
        }
    }
}

/// Bytes per second at most; `None` is no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct RateLimits {
    /// All torrents together.
    pub up: Option<u64>,
    pub down: Option<u64>,
    /// Of each torrent.
    pub up_each: Option<u64>,
}

/// Who we are to peers and trackers: one for a run.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    pub peer_id: PeerId,
    /// BEP 3's `key`, told to trackers.
    pub key: u32,
}

impl Identity {
    pub fn generate(rng: &mut Rng) -> Self {
        Self { peer_id: PeerId::generate(rng), key: rng.u32(..) }
    }
}

/// How verified pieces are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteMode {
    /// Past the page cache as long as no peer wants our pieces and we will not seed.
    #[default]
    Auto,
    Buffered,
    Direct,
}

/// One torrent to be run.
#[derive(Debug)]
pub struct Source {
    pub metainfo: Metainfo,
    /// Folder that holds the torrent's name.
    pub folder: PathBuf,
    /// Pieces that are there.
    pub have: Bitfield,
    /// What becomes of each file, pad files kept; `None`: all are wanted.
    pub choices: Option<Box<[Choice]>>,
    pub provenance: Provenance,
    /// The right to make and write the files; nothing is written without.
    pub target: Option<Target>,
    /// What of `have` was there before.
    pub earlier: Option<Earlier>,
    /// Trackers by tier (BEP 12).
    pub tiers: Vec<Vec<String>>,
    /// Peers that are known already.
    pub peers: Vec<SocketAddr>,
}

/// Why the pieces of a source that are there need no hash before they are served.
#[derive(Debug)]
pub enum Provenance {
    /// They need one.
    Unknown,
    /// They were hashed, or the user vouches for them, when the files were these. `None`, by file of the torrent: its pieces
    /// need a hash.
    Known(Box<[Option<FileIdentity>]>),
    /// This session makes and writes the files, and an earlier check has left the pieces that are there.
    Written,
}

/// What becomes of a session's torrents while it runs.
#[derive(Debug)]
pub enum Change {
    Add(Box<Source>),
    /// Its trackers are told that we leave, its peers are let go.
    Remove(InfoHash),
}

/// Changes to come, at most [`crate::base::limits::CHANGES_AT_ONCE`] at a time.
pub type Changes = tokio::sync::mpsc::Receiver<Change>;

/// What a session has done.
#[derive(Debug)]
pub struct Report {
    pub totals: Snapshot,
    pub elapsed: Time,
    /// Everything wanted is there; false when it was stopped before.
    pub complete: bool,
    /// Pieces that were there before, of files that another program has changed meanwhile.
    pub doubtful: Option<Bitfield>,
    pub stats: Stats,
    pub hashed: Hashed,
}

/// How long something took, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    pub p50_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
}

/// Why a session could not run, or ended early. One line each.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Ring(#[from] RingError),
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

/// The number of peers that closed their connections at our handshake: peers without the torrent do that, and peers that
/// accept only encrypted connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HungUp(NonZeroUsize);

impl HungUp {
    /// `None` where no peer did.
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

/// A session as it stands, all torrents together. Bytes are payload.
#[derive(Debug, Clone, Copy, Default)]
pub struct Snapshot {
    /// Wanted, verified and written.
    pub have_len: u64,
    pub downloaded: u64,
    pub uploaded: u64,
    pub wasted: u64,
    pub corrupt: u64,
    pub peer_count: usize,
    /// Peers that had everything when they left; of several torrents, of the one with the fewest.
    pub copies: usize,
    /// Where we listen.
    pub port: u16,
    pub down_bytes_per_s: f64,
    pub up_bytes_per_s: f64,
}
