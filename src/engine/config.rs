//! The configuration of a session, and the sources of its torrents.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::cidr::AddressFilter;
use crate::base::{Bitfield, FileIdentity, PeerId, Rng};
use crate::codec::metainfo::Metainfo;
use crate::engine::contents::Contents;
use crate::engine::files::content::LossReports;
use crate::engine::files::resume::Earlier;
use crate::engine::files::writeback::WriteMode;
use crate::engine::metrics::monitor::Monitor;
use crate::engine::network::egress::Egress;
use crate::engine::network::listen::Listen;
use crate::io::{Device, Driver, ZeroCopyMode};
use crate::storage::Target;
use crate::swarm::Choice;
use crate::swarm::choker::Slots;

/// The configuration of a session.
#[derive(Debug)]
pub struct Config {
    pub identity: Identity,
    pub listen: Listen,
    /// Ring threads, at least 1.
    pub ring_count: usize,
    pub streams: StreamLimit,
    /// Bytes of piece memory. The arena holds at least two pieces even if this is less.
    pub arena_len: u64,
    pub slots: Slots,
    /// Connections, handshakes included.
    pub connections_max: usize,
    /// An incomplete torrent accepts no more connections once it has this many.
    pub leeching_max: usize,
    /// Peers to connect to beside those that trackers name.
    pub peers: Vec<SocketAddr>,
    /// The addresses that we connect to and accept.
    pub filter: AddressFilter,
    /// The interface that peer connections go through.
    pub device: Option<Device>,
    /// The DSCP of peer connections (RFC 2474), 0 to 63.
    pub dscp: Option<u8>,
    /// The `ip` parameter of announces (BEP 3).
    pub announce_ip: Option<String>,
    /// Trackers that the user named rather than a torrent: they may have any path, even on this host.
    pub users_trackers: Arc<[String]>,
    pub write_mode: WriteMode,
    pub cache_mode: CacheMode,
    pub driver: Driver,
    /// Must be [`ZeroCopyMode::Off`] without a ring.
    pub zero_copy: ZeroCopyMode,
    /// Reserves disk space at the start, in the background.
    pub preallocate: bool,
    /// Keeps running once everything is complete.
    pub keep_seeding: bool,
    /// Ends the session after this time without a peer.
    pub timeout: Option<Duration>,
    /// Requests pieces by index instead of rarest first.
    pub sequential: bool,
    /// Super-seeds: a complete torrent reveals its pieces one by one (BEP 16).
    pub super_seed: bool,
    pub rates: RateLimits,
    /// Receives the status of the session once a second.
    pub monitor: Option<Arc<Monitor>>,
    /// Gives readers other than peers the content that this session serves.
    pub contents: Arc<Contents>,
}

impl Config {
    /// The egress of connections to trackers and other servers: the same as of peer connections.
    pub fn egress(&self) -> Egress {
        Egress { device: self.device, local: self.listen.local_address().map(|address| address.ip()) }
    }
}

/// The connections that we agree to have with one peer of ours (`bf_streams`), each on another ring thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimit {
    /// The first connection included, so at least 1.
    pub max: u8,
    pub opening: StreamOpening,
}

/// When further connections to a peer are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamOpening {
    /// While a ring thread has no processor time left, and the peer's connection carries much.
    WhenBusy,
    AtOnce,
}

impl StreamLimit {
    /// One connection for each peer.
    pub const NONE: Self = Self { max: 1, opening: StreamOpening::WhenBusy };
}

/// Rate limits in bytes/s; `None` is unlimited.
#[derive(Debug, Clone, Copy, Default)]
pub struct RateLimits {
    /// Upload of all torrents together.
    pub up: Option<u64>,
    /// Download of all torrents together.
    pub down: Option<u64>,
    /// Upload of each torrent.
    pub up_each: Option<u64>,
}

/// Our identity to peers and trackers, one for each run.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    pub peer_id: PeerId,
    /// The `key` parameter of announces (BEP 3).
    pub key: u32,
}

impl Identity {
    pub fn generate(rng: &mut Rng) -> Self {
        Self { peer_id: PeerId::generate(rng), key: rng.u32(..) }
    }
}

/// The treatment of served content in the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// Leave it to the kernel.
    #[default]
    Keep,
    /// Drop it some way behind the readers, so that a long-running origin does not push other data out of memory.
    DropBehind,
}

/// A torrent to run.
#[derive(Debug)]
pub struct Source {
    pub metainfo: Metainfo,
    /// The folder that contains the torrent's file or folder.
    pub folder: PathBuf,
    /// The pieces on disk.
    pub have: Bitfield,
    /// The choice for each file, [`Choice::Kept`] for pad files; `None` if all files are wanted.
    pub choices: Option<Box<[Choice]>>,
    pub provenance: Provenance,
    /// The right to create and write the files; without it nothing is written.
    pub target: Option<Target>,
    /// The part of `have` that was on disk before this run.
    pub earlier: Option<Earlier>,
    /// Trackers by tier (BEP 12).
    pub tiers: Vec<Vec<String>>,
    /// Peers that are already known.
    pub peers: Vec<SocketAddr>,
    /// Peers that the torrent's link names; treated like those that the user names.
    pub link_peers: Vec<SocketAddr>,
    pub loss_reports: LossReports,
}

/// Whether the pieces on disk must be hashed before they are served.
#[derive(Debug)]
pub enum Provenance {
    /// They must be hashed.
    Unknown,
    /// They were hashed, or the user vouched for them, when each file had this identity. By file of the torrent; the
    /// pieces of a file with `None` must be hashed.
    Known(Box<[Option<FileIdentity>]>),
    /// This session creates and writes the files, and the pieces on disk have passed a check.
    Written,
}
