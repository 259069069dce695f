//! One torrent's peers: who is there, since when, and whom to give to whom.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::announcement::{Announcement, Origin, Reply, SwarmPeer, SwarmStats};
use crate::base::limits::{
    TRACKER_LEECHERS_SHARE, TRACKER_PEER_EXPIRY, TRACKER_PEERS_GIVEN_MAX, TRACKER_PEERS_PER_IP_MAX,
    TRACKER_SERVED_INTERVAL, TRACKER_SERVED_INTERVAL_MIN, TRACKER_SWARM_MAX,
};
use crate::base::{PeerId, Rng, Time, host_of};
use crate::codec::tracker_http::Event;

/// See the module. Every operation but [`Self::expire`] takes a time that does not grow with the swarm.
#[derive(Debug, Default)]
pub(super) struct Swarm {
    /// Put on the list by us: it stays when it is empty.
    pub(super) listed: bool,
    pub(super) origin: Option<Origin>,
    /// Where in `pools` a peer stands.
    places: HashMap<SocketAddr, Place>,
    seeders: Pools,
    leechers: Pools,
    /// Peers of one host.
    source_counts: HashMap<IpAddr, usize>,
    completed: u64,
    /// Hosts that announced that they completed.
    completed_hosts: HashSet<IpAddr>,
    /// The first announcement since it was empty.
    began_at: Option<Time>,
}

/// Peers by family, in no order.
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

#[derive(Clone, Copy, Debug)]
struct Place {
    seeder: bool,
    index: usize,
}

impl Pools {
    fn of(&mut self, addr: SocketAddr) -> &mut Vec<Entry> {
        if addr.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }

    fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Those that `announcement` can be answered with.
    fn usable(&self, announcement: &Announcement) -> [&[Entry]; 2] {
        let v4 = !announcement.own_family_alone || announcement.source.to_canonical().is_ipv4();
        let v6 = !announcement.own_family_alone || !v4;
        [if v4 { &self.v4 } else { &[] }, if v6 { &self.v6 } else { &[] }]
    }
}

impl Swarm {
    pub(super) fn stats(&self) -> SwarmStats {
        SwarmStats {
            seeders: self.seeders.len() + usize::from(self.origin.is_some()),
            leechers: self.leechers.len(),
            completed: self.completed,
        }
    }

    /// Hosts that announced that they completed: a host that says so again, or under other ports, is counted once.
    pub(super) fn completed_host_count(&self) -> usize {
        self.completed_hosts.len()
    }

    /// Peers remembered, the origin not among them.
    pub(super) fn peer_count(&self) -> usize {
        self.places.len()
    }

    pub(super) fn knows(&self, peer: SocketAddr) -> bool {
        self.places.contains_key(&peer)
    }

    /// It came by itself, and all its peers are of one source: of this one, if it is given.
    pub(super) fn is_of_one(&self, ip: Option<IpAddr>) -> bool {
        let fits = |one: &IpAddr| ip.is_none_or(|ip| host_of(ip) == *one);
        !self.listed && self.origin.is_none() && self.source_counts.len() <= 1 && self.source_counts.keys().all(fits)
    }

    /// Remembers the peer where there is room, or forgets it when it stops. `full` is the whole tracker.
    pub(super) fn record(&mut self, now: Time, source: SocketAddr, announcement: &Announcement, full: bool) {
        self.began_at.get_or_insert(now);
        if announcement.event == Event::Stopped {
            self.remove(source);
            return;
        }
        let seeder = announcement.left == 0;
        let entry = Entry { addr: source, peer_id: announcement.peer_id, seen_at: now };
        match self.places.get(&source).copied() {
            Some(known) => {
                if announcement.event == Event::Completed && !known.seeder {
                    self.completed += 1;
                    if self.completed_hosts.len() < TRACKER_SWARM_MAX {
                        self.completed_hosts.insert(host_of(source.ip()));
                    }
                }
                if known.seeder == seeder {
                    if let Some(place) = self.pools(seeder).of(source).get_mut(known.index) {
                        *place = entry;
                    }
                } else {
                    self.remove(source);
                    self.insert(entry, seeder);
                }
            }
            None if source.port() != 0 && !full && self.has_room_for(source.ip()) => self.insert(entry, seeder),
            None => {}
        }
    }

    pub(super) fn reply(&self, now: Time, source: SocketAddr, announcement: &Announcement, rng: &mut Rng) -> Reply {
        let SwarmStats { seeders, leechers, .. } = self.stats();
        let peers = if announcement.event == Event::Stopped {
            Vec::new()
        } else {
            self.choose_peers(source, announcement, rng)
        };
        Reply { interval: self.interval(now), min_interval: TRACKER_SERVED_INTERVAL_MIN, seeders, leechers, peers }
    }

    /// Forgets peers that went without a word.
    pub(super) fn expire(&mut self, now: Time) {
        let all = [&self.seeders.v4, &self.seeders.v6, &self.leechers.v4, &self.leechers.v6];
        let silent = |entry: &&Entry| now >= entry.seen_at + TRACKER_PEER_EXPIRY;
        let gone: Vec<SocketAddr> = all.into_iter().flatten().filter(silent).map(|entry| entry.addr).collect();
        gone.into_iter().for_each(|addr| self.remove(addr));
        if self.places.is_empty() {
            self.began_at = None;
        }
    }

    /// A swarm that has just begun changes from moment to moment, an old one does not.
    fn interval(&self, now: Time) -> Duration {
        let age = now.saturating_sub(self.began_at.unwrap_or(now));
        age.clamp(TRACKER_SERVED_INTERVAL_MIN, TRACKER_SERVED_INTERVAL)
    }

    fn pools(&mut self, seeder: bool) -> &mut Pools {
        if seeder { &mut self.seeders } else { &mut self.leechers }
    }

    fn insert(&mut self, entry: Entry, seeder: bool) {
        let addr = entry.addr;
        let pool = self.pools(seeder).of(addr);
        let index = pool.len();
        pool.push(entry);
        self.places.insert(addr, Place { seeder, index });
        *self.source_counts.entry(host_of(addr.ip())).or_default() += 1;
    }

    fn remove(&mut self, addr: SocketAddr) {
        let Some(Place { seeder, index }) = self.places.remove(&addr) else { return };
        let pool = self.pools(seeder).of(addr);
        pool.swap_remove(index);
        // The last one has taken its place.
        let moved = pool.get(index).map(|moved| moved.addr);
        if let Some(place) = moved.and_then(|moved| self.places.get_mut(&moved)) {
            place.index = index;
        }
        if let Some(count) = self.source_counts.get_mut(&host_of(addr.ip())) {
            *count -= 1;
            if *count == 0 {
                self.source_counts.remove(&host_of(addr.ip()));
            }
        }
    }

    fn has_room_for(&self, ip: IpAddr) -> bool {
        let of_this_source = self.source_counts.get(&host_of(ip)).copied().unwrap_or(0);
        self.places.len() < TRACKER_SWARM_MAX && of_this_source < TRACKER_PEERS_PER_IP_MAX
    }

    /// Seeders first for a leecher, and some leechers in any case, or its only neighbours would be those that need nothing
    /// of it. Seeders are of no use to a seeder; but one that starts may have a magnet link alone, and not know yet that it
    /// lacks anything (aria2).
    fn choose_peers(&self, source: SocketAddr, announcement: &Announcement, rng: &mut Rng) -> Vec<SwarmPeer> {
        let seeder = announcement.left == 0 && announcement.event != Event::Started;
        let wanted = announcement.numwant.min(TRACKER_PEERS_GIVEN_MAX);
        let local = announcement.local.to_canonical();
        let fits = |origin: &Origin| {
            let ip = origin.ip.unwrap_or(local);
            !announcement.own_family_alone || ip.is_ipv4() == announcement.source.to_canonical().is_ipv4()
        };
        let origin = self.origin.filter(|origin| !seeder && wanted > 0 && fits(origin));
        let mut peers = Vec::with_capacity(wanted.min(1 + self.places.len()));
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
            // One more, as the peer itself may be among them.
            let chosen = pick(pools, room + 1, rng).filter(is_other).take(room);
            peers.extend(chosen.map(|entry| SwarmPeer { addr: entry.addr, peer_id: entry.peer_id }));
        }
        rng.shuffle(&mut peers);
        peers
    }
}

/// So many at random, one from each of as many stretches of equal length: none comes twice, and it takes no longer in a
/// larger swarm.
fn pick<'a>(pools: [&'a [Entry]; 2], count: usize, rng: &mut Rng) -> impl Iterator<Item = &'a Entry> {
    let [first, second] = pools;
    let total = first.len() + second.len();
    let count = count.min(total);
    let turn = rng.usize(..total.max(1));
    (0..count).filter_map(move |number| {
        let stretch = number * total / count..(number + 1) * total / count;
        let index = (rng.usize(stretch) + turn) % total;
        first.get(index).or_else(|| second.get(index - first.len()))
    })
}
