//! What a tracker is told and what it answers, whatever the wire format.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::base::{InfoHash, PeerId};
use crate::codec::tracker_http::Event;

/// One announcement of a peer. An `ip` it claims has no place here: only the address it came from counts, or any
/// client could aim a swarm at a victim.
#[derive(Clone, Copy, Debug)]
pub struct Announcement {
    pub info_hash: InfoHash,
    pub peer_id: PeerId,
    /// Where it came from, and where it arrived.
    pub source: IpAddr,
    pub local: IpAddr,
    /// Where the peer listens; 0 when it does not: it is given peers and not remembered.
    pub port: u16,
    /// Bytes it still has to download.
    pub left: u64,
    pub event: Event,
    /// Peers it wants.
    pub numwant: usize,
    /// The answer has no room for peers of the other family (BEP 15).
    pub own_family_alone: bool,
}

/// A peer as given to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SwarmPeer {
    pub addr: SocketAddr,
    pub peer_id: PeerId,
}

/// The answer to an announcement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    pub interval: Duration,
    pub min_interval: Duration,
    pub seeders: usize,
    pub leechers: usize,
    /// At random, IPv4 and IPv6 mixed, without the peer that announces.
    pub peers: Vec<SwarmPeer>,
}

/// Why an announcement was refused; the text is the `failure reason`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    #[error("this tracker does not serve this torrent")]
    UnknownTorrent,
    #[error("this tracker is full, try another one or come back later")]
    Full,
}

/// The seeder that runs with this tracker. It is given at the address where the announcement arrived: peers that reach
/// the tracker there reach the origin there too. It needs no announcing, and does not expire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    pub port: u16,
    pub peer_id: PeerId,
    /// Where peers reach it, where that is somewhere else.
    pub ip: Option<IpAddr>,
}

/// A swarm in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SwarmStats {
    pub seeders: usize,
    pub leechers: usize,
    /// `completed` announcements so far.
    pub completed: u64,
}
