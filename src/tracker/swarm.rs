//! The peers of one torrent, their age, and the choice of peers for a reply.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::announcement::{Announcement, Origin, Reply, SwarmPeer, SwarmStats};
use crate::base::limits::{
    TRACKER_LEECHERS_SHARE, TRACKER_PEER_EXPIRY, TRACKER_PEERS_GIVEN_MAX, TRACKER_PEERS_PER_IP_MAX,
    TRACKER_SERVED_INTERVAL, TRACKER_SERVED_INTERVAL_MIN, TRACKER_SWARM_MAX,
};
use crate::base::{PeerId, Rng, Time, host_of};
use crate::codec::tracker_http::Event;

/// The swarm of one torrent. The time of each operation but [`Self::expire`] is independent of the number of peers.
#[derive(Debug, Default)]
pub(super) struct Swarm {
    /// The torrent is on the operator's list, so the swarm stays when it is empty.
    pub(super) listed: bool,
    pub(super) origin: Option<Origin>,
    /// The position of each peer in the pools.
    positions: HashMap<SocketAddr, Position>,
    seeders: Pools,
    leechers: Pools,
    /// Number of peers of each host.
    source_counts: HashMap<IpAddr, usize>,
    completed: u64,
    /// Time of the first announcement since the swarm was empty.
    began_at: Option<Time>,
}

/// Peers of one role by address family, in no order.
#[derive(Debug, Default)]
struct Pools {
    v4: Vec<Entry>,
    v6: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    addr: SocketAddr,
    peer_id: PeerId,
    seen_at: Time,
}

/// The role of a peer in a swarm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Seeder,
    Leecher,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    role: Role,
    index: usize,
}

impl Pools {
    fn of(&mut self, addr: SocketAddr) -> &mut Vec<Entry> {
        if addr.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }

    fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Returns the peers with which `announcement` can be answered, by family.
    fn usable(&self, announcement: &Announcement) -> [&[Entry]; 2] {
        let v4 = !announcement.same_family_only || announcement.source.to_canonical().is_ipv4();
        let v6 = !announcement.same_family_only || !v4;
        [if v4 { &self.v4 } else { &[] }, if v6 { &self.v6 } else { &[] }]
    }
}

impl Swarm {
    /// Returns the numbers of the swarm, with the origin among the seeders.
    pub(super) fn stats(&self) -> SwarmStats {
        SwarmStats {
            seeders: self.seeders.len() + usize::from(self.origin.is_some()),
            leechers: self.leechers.len(),
            completed: self.completed,
        }
    }

    /// Returns the number of remembered peers, without the origin.
    pub(super) fn peer_count(&self) -> usize {
        self.positions.len()
    }

    pub(super) fn knows(&self, peer: SocketAddr) -> bool {
        self.positions.contains_key(&peer)
    }

    /// Returns whether the torrent is not listed and all its peers are on one host; on the host of `ip` if that is
    /// given.
    pub(super) fn has_one_host(&self, ip: Option<IpAddr>) -> bool {
        let fits = |one: &IpAddr| ip.is_none_or(|ip| host_of(ip) == *one);
        !self.listed && self.origin.is_none() && self.source_counts.len() <= 1 && self.source_counts.keys().all(fits)
    }

    /// Remembers the peer if there is room, or forgets it if it stops. `full` means that the whole tracker is full.
    pub(super) fn record(&mut self, now: Time, source: SocketAddr, announcement: &Announcement, full: bool) {
        self.began_at.get_or_insert(now);
        if announcement.event == Event::Stopped {
            self.remove(source);
            return;
        }
        let role = if announcement.left == 0 { Role::Seeder } else { Role::Leecher };
        let entry = Entry { addr: source, peer_id: announcement.peer_id, seen_at: now };
        match self.positions.get(&source).copied() {
            Some(known) => {
                if announcement.event == Event::Completed && known.role == Role::Leecher {
                    self.completed += 1;
                }
                if known.role == role {
                    if let Some(previous) = self.pools(role).of(source).get_mut(known.index) {
                        *previous = entry;
                    }
                } else {
                    self.remove(source);
                    self.insert(entry, role);
                }
            }
            None if source.port() != 0 && !full && self.has_room_for(source.ip()) => self.insert(entry, role),
            None => {}
        }
    }

    /// Returns the reply to an announcement; a peer that stops is given no peers.
    pub(super) fn reply(&self, now: Time, source: SocketAddr, announcement: &Announcement, rng: &mut Rng) -> Reply {
        let SwarmStats { seeders, leechers, .. } = self.stats();
        let peers = if announcement.event == Event::Stopped {
            Vec::new()
        } else {
            self.choose_peers(source, announcement, rng)
        };
        Reply { interval: self.interval(now), min_interval: TRACKER_SERVED_INTERVAL_MIN, seeders, leechers, peers }
    }

    /// Forgets peers that did not announce for [`TRACKER_PEER_EXPIRY`].
    pub(super) fn expire(&mut self, now: Time) {
        let all = [&self.seeders.v4, &self.seeders.v6, &self.leechers.v4, &self.leechers.v6];
        let silent = |entry: &&Entry| now >= entry.seen_at + TRACKER_PEER_EXPIRY;
        let gone: Vec<SocketAddr> = all.into_iter().flatten().filter(silent).map(|entry| entry.addr).collect();
        gone.into_iter().for_each(|addr| self.remove(addr));
        if self.positions.is_empty() {
            self.began_at = None;
        }
    }

    /// Returns the announce interval, which is the age of the swarm within limits: a young swarm changes quickly.
    fn interval(&self, now: Time) -> Duration {
        let age = now.saturating_sub(self.began_at.unwrap_or(now));
        age.clamp(TRACKER_SERVED_INTERVAL_MIN, TRACKER_SERVED_INTERVAL)
    }

    fn pools(&mut self, role: Role) -> &mut Pools {
        match role {
            Role::Seeder => &mut self.seeders,
            Role::Leecher => &mut self.leechers,
        }
    }

    fn insert(&mut self, entry: Entry, role: Role) {
        let addr = entry.addr;
        let pool = self.pools(role).of(addr);
        let index = pool.len();
        pool.push(entry);
        self.positions.insert(addr, Position { role, index });
        *self.source_counts.entry(host_of(addr.ip())).or_default() += 1;
    }

    fn remove(&mut self, addr: SocketAddr) {
        let Some(Position { role, index }) = self.positions.remove(&addr) else { return };
        let pool = self.pools(role).of(addr);
        pool.swap_remove(index);
        // The last peer of the pool has moved to this index.
        let moved = pool.get(index).map(|moved| moved.addr);
        if let Some(position) = moved.and_then(|moved| self.positions.get_mut(&moved)) {
            position.index = index;
        }
        if let Some(count) = self.source_counts.get_mut(&host_of(addr.ip())) {
            *count -= 1;
            if *count == 0 {
                self.source_counts.remove(&host_of(addr.ip()));
            }
        }
    }

    fn has_room_for(&self, ip: IpAddr) -> bool {
        let on_this_host = self.source_counts.get(&host_of(ip)).copied().unwrap_or(0);
        self.positions.len() < TRACKER_SWARM_MAX && on_this_host < TRACKER_PEERS_PER_IP_MAX
    }

    /// Chooses random peers. A leecher is given seeders first, but always some leechers too, so that it has peers to
    /// upload to. A seeder is given no seeders, except at its start: aria2 announces a magnet link with nothing left.
    fn choose_peers(&self, source: SocketAddr, announcement: &Announcement, rng: &mut Rng) -> Vec<SwarmPeer> {
        let seeder = announcement.left == 0 && announcement.event != Event::Started;
        let wanted = announcement.numwant.min(TRACKER_PEERS_GIVEN_MAX);
        let local = announcement.local.to_canonical();
        let fits = |origin: &Origin| {
            let ip = origin.ip.unwrap_or(local);
            !announcement.same_family_only || ip.is_ipv4() == announcement.source.to_canonical().is_ipv4()
        };
        let origin = self.origin.filter(|origin| !seeder && wanted > 0 && fits(origin));
        let mut peers = Vec::with_capacity(wanted.min(1 + self.positions.len()));
        peers.extend(origin.map(|Origin { port, peer_id, ip }| SwarmPeer {
            addr: SocketAddr::new(ip.unwrap_or(local), port),
            peer_id,
        }));

        let seeders = if seeder { Default::default() } else { self.seeders.usable(announcement) };
        let leechers = self.leechers.usable(announcement);
        let is_other = |entry: &&Entry| entry.addr != source && entry.peer_id != announcement.peer_id;
        let kept = (leechers[0].len() + leechers[1].len()).min(wanted / TRACKER_LEECHERS_SHARE);
        for (pools, up_to) in [(seeders, wanted - kept), (leechers, wanted)] {
            let room = up_to.saturating_sub(peers.len());
            // One more, since the peer itself may be among them.
            let chosen = pick(pools, room + 1, rng).filter(is_other).take(room);
            peers.extend(chosen.map(|entry| SwarmPeer { addr: entry.addr, peer_id: entry.peer_id }));
        }
        rng.shuffle(&mut peers);
        peers
    }
}

/// Picks `count` random peers, one from each of `count` sections of equal length. No peer is picked twice, and the time
/// is independent of the number of peers.
fn pick<'a>(pools: [&'a [Entry]; 2], count: usize, rng: &mut Rng) -> impl Iterator<Item = &'a Entry> {
    let [first, second] = pools;
    let total = first.len() + second.len();
    let count = count.min(total);
    let rotation = rng.usize(..total.max(1));
    (0..count).filter_map(move |number| {
        let section = number * total / count..(number + 1) * total / count;
        let index = (rng.usize(section) + rotation) % total;
        first.get(index).or_else(|| second.get(index - first.len()))
    })
}
