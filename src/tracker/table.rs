//! Swarms by info-hash, and the answer to one announcement.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::base::limits::{
    TRACKER_PEER_COUNT_MAX, TRACKER_PEER_EXPIRY, TRACKER_PEERS_GIVEN_MAX, TRACKER_PEERS_PER_IP_MAX,
    TRACKER_SERVED_INTERVAL, TRACKER_SERVED_INTERVAL_MIN, TRACKER_SWARM_COUNT_MAX, TRACKER_SWARM_MAX,
    TRACKER_SWEEP_INTERVAL,
};
use crate::base::{InfoHash, PeerId, Rng, Time};
use crate::codec::tracker_http::Event;

/// One announcement of a peer. An `ip` it claims has no place here: only the address it came from counts, or anybody
/// could aim a swarm at a victim.
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
    /// At random, IPv4 and IPv6 mixed, without whoever asks.
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
}

/// A swarm in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SwarmStats {
    pub seeders: usize,
    pub leechers: usize,
    /// `completed` announcements so far.
    pub completed: u64,
}

/// All swarms of one tracker.
#[derive(Debug, Default)]
pub struct Table {
    swarms: HashMap<InfoHash, Swarm>,
    /// Swarms come into being when announced to, and end with their last peer.
    open: bool,
    peer_count: usize,
    next_sweep: Time,
}

#[derive(Debug, Default)]
struct Swarm {
    /// Put on the list by us: it stays when it is empty.
    listed: bool,
    origin: Option<Origin>,
    peers: BTreeMap<SocketAddr, Entry>,
    completed: u64,
}

#[derive(Debug)]
struct Entry {
    peer_id: PeerId,
    seeder: bool,
    seen_at: Time,
}

impl Table {
    /// A tracker for the torrents named with [`Self::allow`].
    pub fn listed() -> Self {
        Self::default()
    }

    /// A tracker for any torrent, at most [`TRACKER_SWARM_COUNT_MAX`] at a time.
    pub fn open() -> Self {
        Self { open: true, ..Self::default() }
    }

    /// Puts a torrent on the list.
    pub fn allow(&mut self, info_hash: InfoHash) {
        self.swarms.entry(info_hash).or_default().listed = true;
    }

    /// Puts a torrent on the list together with the seeder that runs here.
    pub fn allow_with_origin(&mut self, info_hash: InfoHash, origin: Origin) {
        self.allow(info_hash);
        if let Some(swarm) = self.swarms.get_mut(&info_hash) {
            swarm.origin = Some(origin);
        }
    }

    /// The torrents known, in no order.
    pub fn info_hashes(&self) -> impl Iterator<Item = InfoHash> + '_ {
        self.swarms.keys().copied()
    }

    /// One swarm in numbers, its origin among the seeders.
    pub fn stats(&self, info_hash: InfoHash) -> Option<SwarmStats> {
        self.swarms.get(&info_hash).map(Swarm::stats)
    }

    /// Takes an announcement and answers it.
    pub fn handle_announce(&mut self, now: Time, announcement: &Announcement, rng: &mut Rng) -> Result<Reply, Refusal> {
        let source = SocketAddr::new(announcement.source.to_canonical(), announcement.port);
        self.sweep(now);
        let full = self.peer_count >= TRACKER_PEER_COUNT_MAX;
        let swarm = self.swarm(announcement)?;
        let before = swarm.peers.len();
        swarm.record(now, source, announcement, full);
        let after = swarm.peers.len();
        let reply = swarm.reply(source, announcement, rng);
        self.peer_count = self.peer_count + after - before;
        Ok(reply)
    }

    fn swarm(&mut self, announcement: &Announcement) -> Result<&mut Swarm, Refusal> {
        let info_hash = announcement.info_hash;
        if !self.swarms.contains_key(&info_hash) {
            if !self.open {
                return Err(Refusal::UnknownTorrent);
            }
            if self.swarms.len() >= TRACKER_SWARM_COUNT_MAX {
                return Err(Refusal::Full);
            }
        }
        Ok(self.swarms.entry(info_hash).or_default())
    }

    /// Forgets peers that went without a word, and swarms that came by themselves and are empty.
    fn sweep(&mut self, now: Time) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + TRACKER_SWEEP_INTERVAL;
        self.swarms.retain(|_, swarm| {
            swarm.peers.retain(|_, entry| now < entry.seen_at + TRACKER_PEER_EXPIRY);
            swarm.listed || !swarm.peers.is_empty()
        });
        self.peer_count = self.swarms.values().map(|swarm| swarm.peers.len()).sum();
    }
}

impl Swarm {
    fn stats(&self) -> SwarmStats {
        let seeding = self.peers.values().filter(|entry| entry.seeder).count();
        SwarmStats {
            seeders: seeding + usize::from(self.origin.is_some()),
            leechers: self.peers.len() - seeding,
            completed: self.completed,
        }
    }

    /// Remembers the peer where there is room, or forgets it when it stops.
    fn record(&mut self, now: Time, source: SocketAddr, announcement: &Announcement, full: bool) {
        if announcement.event == Event::Stopped {
            self.peers.remove(&source);
            return;
        }
        let seeder = announcement.left == 0;
        let entry = Entry { peer_id: announcement.peer_id, seeder, seen_at: now };
        if let Some(known) = self.peers.get_mut(&source) {
            if announcement.event == Event::Completed && !known.seeder {
                self.completed += 1;
            }
            *known = entry;
        } else if source.port() != 0 && !full && self.has_room_for(source.ip()) {
            self.peers.insert(source, entry);
        }
    }

    fn has_room_for(&self, ip: IpAddr) -> bool {
        let of_this_ip = self.peers.range(SocketAddr::new(ip, 0)..=SocketAddr::new(ip, u16::MAX)).count();
        self.peers.len() < TRACKER_SWARM_MAX && of_this_ip < TRACKER_PEERS_PER_IP_MAX
    }

    fn reply(&self, source: SocketAddr, announcement: &Announcement, rng: &mut Rng) -> Reply {
        let SwarmStats { seeders, leechers, .. } = self.stats();
        Reply {
            interval: TRACKER_SERVED_INTERVAL,
            min_interval: TRACKER_SERVED_INTERVAL_MIN,
            seeders,
            leechers,
            peers: if announcement.event == Event::Stopped {
                Vec::new()
            } else {
                self.choose_peers(source, announcement, rng)
            },
        }
    }

    /// Seeders are of no use to a seeder.
    fn choose_peers(&self, source: SocketAddr, announcement: &Announcement, rng: &mut Rng) -> Vec<SwarmPeer> {
        let seeder = announcement.left == 0;
        let wanted = announcement.numwant.min(TRACKER_PEERS_GIVEN_MAX);
        let origin = self.origin.filter(|_| !seeder && wanted > 0).map(|origin| SwarmPeer {
            addr: SocketAddr::new(announcement.local.to_canonical(), origin.port),
            peer_id: origin.peer_id,
        });
        let others = self
            .peers
            .iter()
            .filter(|&(&addr, entry)| addr != source && entry.peer_id != announcement.peer_id)
            .filter(|(_, entry)| !(seeder && entry.seeder))
            .map(|(&addr, entry)| SwarmPeer { addr, peer_id: entry.peer_id });
        let mut peers = rng.choose_multiple(others, wanted - usize::from(origin.is_some()));
        peers.extend(origin);
        rng.shuffle(&mut peers);
        peers
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
