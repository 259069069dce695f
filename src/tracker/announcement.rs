//! Announcements to a tracker and its replies, independent of the wire format.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::base::{InfoHash, PeerId};
use crate::codec::tracker_http::Event;

/// One announcement of a peer. An `ip` that the peer claims is left out: only the source address counts, or else any
/// client could direct a swarm at a victim.
#[derive(Clone, Copy, Debug)]
pub struct Announcement {
    pub info_hash: InfoHash,
    pub peer_id: PeerId,
    /// The source address of the announcement.
    pub source: IpAddr,
    /// The address at which the announcement arrived.
    pub local: IpAddr,
    /// The port on which the peer listens; 0 if it does not listen. A peer with port 0 gets peers but is not remembered.
    pub port: u16,
    /// Bytes that the peer still has to download.
    pub left: u64,
    pub event: Event,
    /// Peers that the peer asks for.
    pub numwant: usize,
    /// The reply can hold only peers of the source's address family (BEP 15).
    pub same_family_only: bool,
}

/// A peer in a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SwarmPeer {
    pub addr: SocketAddr,
    pub peer_id: PeerId,
}

/// The reply to an announcement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    pub interval: Duration,
    pub min_interval: Duration,
    pub seeders: usize,
    pub leechers: usize,
    /// Random peers of IPv4 and IPv6, without the peer that announces.
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

/// The seeder that runs with this tracker. A reply names it with the address at which the announcement arrived, since a
/// peer that reaches the tracker there reaches the origin there too. It does not announce itself and does not expire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    pub port: u16,
    pub peer_id: PeerId,
    /// The address at which peers reach the origin, if it differs from the tracker's.
    pub ip: Option<IpAddr>,
}

/// The numbers of one swarm.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SwarmStats {
    pub seeders: usize,
    pub leechers: usize,
    /// `completed` announcements so far.
    pub completed: u64,
}
