//! What a session is given.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::cidr::AddressFilter;
use crate::base::{Bitfield, FileIdentity, InfoHash, PeerId, Rng};
use crate::codec::metainfo::Metainfo;
use crate::engine::contents::Contents;
use crate::engine::files::resume::Earlier;
use crate::engine::files::writeback::WriteMode;
use crate::engine::metrics::monitor::Monitor;
use crate::engine::network::egress::Egress;
use crate::engine::network::listen::Listen;
use crate::storage::Target;
use crate::swarm::Choice;
use crate::swarm::choker::Slots;
use crate::uring::{Device, ZeroCopyMode};

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
    pub fn egress(&self) -> Egress {
        Egress { device: self.device, local: self.listen.local_address().map(|address| address.ip()) }
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

/// What becomes of content in the page cache when it was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// It stays as long as the kernel likes.
    #[default]
    Keep,
    /// It is dropped some way behind, so that a long-running origin pushes nothing else out of memory.
    DropBehind,
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
