//! The hosts of one torrent that were seen, and those that have all pieces.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::base::limits::HOSTS_COUNTED_MAX;
use crate::base::{PeerId, Time, host_of};

/// The number of hosts of a torrent that were seen, and of those that have all its pieces. A host that left is still
/// counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HostCounts {
    pub seen: usize,
    pub complete: usize,
}

/// One observation of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sighting {
    pub ip: IpAddr,
    pub peer_id: PeerId,
    pub holding: Holding,
}

/// The pieces that a peer has, according to a connection or an announcement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holding {
    /// It lacks pieces.
    Partial,
    /// It announced that nothing is left to download, but not that it has completed a download.
    Claimed,
    /// It has all pieces.
    Complete,
}

/// The hosts of one torrent. A host counts once, whatever the number of its peers, by the address of [`host_of`]. An
/// IPv4 and an IPv6 address that one peer id uses count as one host.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    hosts: Vec<Host>,
    /// The index of the host of each address.
    by_address: HashMap<IpAddr, usize>,
    /// The index of the host that was the first to use each peer id.
    by_peer_id: HashMap<PeerId, usize>,
    complete_count: usize,
}

#[derive(Debug)]
struct Host {
    state: State,
    family: Family,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Incomplete,
    /// It announced that nothing is left to download.
    Claims {
        since: Time,
    },
    Complete,
}

/// The address families at which a host was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Family {
    V4,
    V6,
    Both,
}

/// Whether there is room for a host or a claim that is not held yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Room {
    Free,
    Full,
}

impl Room {
    pub(super) fn of(count: usize, max: usize) -> Self {
        if count < max { Self::Free } else { Self::Full }
    }
}

/// The room in the table of all torrents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rooms {
    pub(super) hosts: Room,
    pub(super) claims: Room,
}

/// The effect of a sighting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    None,
    /// The host with this index claims to be complete from now on.
    Claims(usize),
    /// The host has become complete.
    Completed,
    /// The host is not counted: there are too many hosts.
    Full,
}

impl Family {
    fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn is_opposite(self, other: Self) -> bool {
        matches!((self, other), (Self::V4, Self::V6) | (Self::V6, Self::V4))
    }
}

impl Hosts {
    pub(super) fn counts(&self) -> HostCounts {
        HostCounts { seen: self.hosts.len(), complete: self.complete_count }
    }

    /// Takes a sighting of a peer. A new host is counted only if there is room for it. A claim is ignored if there is no
    /// room for it; a later claim of the host then counts.
    pub(super) fn handle(&mut self, now: Time, sighting: Sighting, room: Rooms) -> Effect {
        let Some(index) = self.locate(sighting, room.hosts) else { return Effect::Full };
        let Some(host) = self.hosts.get_mut(index) else { return Effect::None };
        match (host.state, sighting.holding) {
            (State::Complete, _) | (State::Claims { .. }, Holding::Claimed) => Effect::None,
            (_, Holding::Partial) => {
                host.state = State::Incomplete;
                Effect::None
            }
            (State::Incomplete, Holding::Claimed) if room.claims == Room::Full => Effect::None,
            (State::Incomplete, Holding::Claimed) => {
                host.state = State::Claims { since: now };
                Effect::Claims(index)
            }
            (_, Holding::Complete) => {
                host.state = State::Complete;
                self.complete_count += 1;
                Effect::Completed
            }
        }
    }

    /// The time after a claim has passed. Returns true if the host was not seen to lack pieces meanwhile: it counts as
    /// complete.
    pub(super) fn settle(&mut self, index: usize, since: Time) -> bool {
        let host = self.hosts.get_mut(index).filter(|host| host.state == State::Claims { since });
        let is_complete = host.map(|host| host.state = State::Complete).is_some();
        self.complete_count += usize::from(is_complete);
        is_complete
    }

    /// Returns the index of a peer's host. Returns `None` if the host is new and there is no room for it.
    fn locate(&mut self, sighting: Sighting, room: Room) -> Option<usize> {
        let address = host_of(sighting.ip);
        if let Some(&index) = self.by_address.get(&address) {
            return Some(index);
        }
        let family = Family::of(address);
        let twin = self.by_peer_id.get(&sighting.peer_id).copied();
        if let Some(index) = twin
            && let Some(host) = self.hosts.get_mut(index)
            && host.family.is_opposite(family)
        {
            host.family = Family::Both;
            self.by_address.insert(address, index);
            return Some(index);
        }
        if room == Room::Full || self.hosts.len() >= HOSTS_COUNTED_MAX {
            return None;
        }
        let index = self.hosts.len();
        self.hosts.push(Host { state: State::Incomplete, family });
        self.by_address.insert(address, index);
        self.by_peer_id.entry(sighting.peer_id).or_insert(index);
        Some(index)
    }
}
