//! The swarms of a tracker by info-hash.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::announcement::{Announcement, Origin, Refusal, Reply, SwarmStats};
use super::swarm::Swarm;
use crate::base::limits::{
    TRACKER_EVICTION_CANDIDATES, TRACKER_PEER_COUNT_MAX, TRACKER_SHARDS, TRACKER_SWARM_COUNT_MAX,
    TRACKER_SWEEP_INTERVAL,
};
use crate::base::lock::lock;
use crate::base::{InfoHash, Rng, Time};

/// All swarms of one tracker, shared by its threads. Torrents are spread over shards, each with a lock that is held for
/// one announcement.
#[derive(Debug)]
pub struct Table {
    shards: Box<[Mutex<Shard>]>,
    /// The tracker serves any torrent: its first announcement creates a swarm, which ends with its last peer.
    open: bool,
    swarm_count: AtomicUsize,
    peer_count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shard {
    swarms: HashMap<InfoHash, Swarm>,
    /// Swarms that an announcement created, in the order in which they are examined for eviction.
    eviction_order: VecDeque<InfoHash>,
    next_sweep: Time,
}

/// The numbers of swarms and peers, of a shard or of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counts {
    pub swarms: usize,
    pub peers: usize,
}

impl Table {
    /// Returns a tracker for the torrents named with [`Self::allow`].
    pub fn listed() -> Self {
        Self::new(false)
    }

    /// Returns a tracker for any torrent, for at most [`TRACKER_SWARM_COUNT_MAX`] at a time. If it is full, it evicts
    /// swarms whose peers are all on one host.
    pub fn open() -> Self {
        Self::new(true)
    }

    fn new(open: bool) -> Self {
        Self {
            shards: (0..TRACKER_SHARDS).map(|_| Mutex::default()).collect(),
            open,
            swarm_count: AtomicUsize::new(0),
            peer_count: AtomicUsize::new(0),
        }
    }

    /// Adds a torrent to the list.
    pub fn allow(&self, info_hash: InfoHash) {
        self.list(info_hash, None);
    }

    /// Adds a torrent to the list with the seeder that runs with this tracker.
    pub fn allow_with_origin(&self, info_hash: InfoHash, origin: Origin) {
        self.list(info_hash, Some(origin));
    }

    /// Removes a torrent from the list. Its swarm ends at once, unless the tracker is open.
    pub fn forbid(&self, info_hash: InfoHash) {
        let mut shard = self.shard(info_hash);
        let before = shard.counts();
        if !self.open {
            shard.swarms.remove(&info_hash);
        } else if let Some(swarm) = shard.swarms.get_mut(&info_hash) {
            (swarm.listed, swarm.origin) = (false, None);
        }
        self.count_again(&shard, before);
    }

    /// Replaces the list by these torrents. Swarms of other torrents end at once, unless the tracker is open or their
    /// seeder runs with it.
    pub fn allow_only(&self, info_hashes: &HashSet<InfoHash>) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let before = shard.counts();
            shard.swarms.retain(|info_hash, swarm| {
                swarm.listed = swarm.origin.is_some() || info_hashes.contains(info_hash);
                swarm.listed || self.open
            });
            self.count_again(&shard, before);
        }
        info_hashes.iter().for_each(|&info_hash| self.allow(info_hash));
    }

    pub fn counts(&self) -> Counts {
        Counts { swarms: self.swarm_count.load(Ordering::Relaxed), peers: self.peer_count.load(Ordering::Relaxed) }
    }

    /// Returns the numbers of one swarm, with the origin among the seeders, or `None` if there is no such swarm.
    pub fn stats(&self, now: Time, info_hash: InfoHash) -> Option<SwarmStats> {
        let mut shard = self.shard(info_hash);
        self.sweep(&mut shard, now);
        shard.swarms.get(&info_hash).map(Swarm::stats)
    }

    /// Records an announcement and returns the reply, or the reason for a refusal.
    pub fn handle_announce(&self, now: Time, announcement: &Announcement, rng: &mut Rng) -> Result<Reply, Refusal> {
        let source = SocketAddr::new(announcement.source.to_canonical(), announcement.port);
        if self.open && self.lacks_room(announcement.info_hash, source) {
            self.evict_swarm(announcement.info_hash, source.ip());
        }
        let mut shard = self.shard(announcement.info_hash);
        self.sweep(&mut shard, now);
        let full = self.peer_count.load(Ordering::Relaxed) >= TRACKER_PEER_COUNT_MAX;
        let swarm = self.swarm(&mut shard, announcement.info_hash)?;
        let before = swarm.peer_count();
        swarm.record(now, source, announcement, full);
        shift(&self.peer_count, before, swarm.peer_count());
        Ok(swarm.reply(now, source, announcement, rng))
    }

    fn swarm<'a>(&self, shard: &'a mut Shard, info_hash: InfoHash) -> Result<&'a mut Swarm, Refusal> {
        if !shard.swarms.contains_key(&info_hash) {
            if !self.open {
                return Err(Refusal::UnknownTorrent);
            }
            if self.swarm_count.load(Ordering::Relaxed) >= TRACKER_SWARM_COUNT_MAX {
                return Err(Refusal::Full);
            }
            self.swarm_count.fetch_add(1, Ordering::Relaxed);
            shard.eviction_order.push_back(info_hash);
        }
        Ok(shard.swarms.entry(info_hash).or_default())
    }

    /// Returns whether this peer is new and there is no room for it.
    fn lacks_room(&self, info_hash: InfoHash, peer: SocketAddr) -> bool {
        let no_peers = self.peer_count.load(Ordering::Relaxed) >= TRACKER_PEER_COUNT_MAX;
        let no_swarms = self.swarm_count.load(Ordering::Relaxed) >= TRACKER_SWARM_COUNT_MAX;
        (no_peers || no_swarms)
            && match self.shard(info_hash).swarms.get(&info_hash) {
                Some(swarm) => no_peers && !swarm.knows(peer),
                None => true,
            }
    }

    /// Evicts a swarm whose peers are all on one host, if one is found, since it connects no peers. A flood of torrents
    /// thus keeps other torrents out only while it lasts, and never ends a swarm of several hosts. The shard of the new
    /// torrent is searched first; otherwise some shards would shrink by chance until they held only swarms that cannot
    /// be evicted.
    fn evict_swarm(&self, info_hash: InfoHash, source: IpAddr) {
        let (others, own) = self.shards.split_at(self.shard_number(info_hash));
        for shard in own.iter().chain(others) {
            if let Some(evicted) = lock(shard).evict_one_host_swarm(source) {
                self.swarm_count.fetch_sub(1, Ordering::Relaxed);
                self.peer_count.fetch_sub(evicted.peer_count(), Ordering::Relaxed);
                return;
            }
        }
    }

    fn list(&self, info_hash: InfoHash, origin: Option<Origin>) {
        let mut shard = self.shard(info_hash);
        let before = shard.counts();
        let swarm = shard.swarms.entry(info_hash).or_default();
        swarm.listed = true;
        swarm.origin = origin.or(swarm.origin);
        self.count_again(&shard, before);
    }

    fn shard(&self, info_hash: InfoHash) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.shard_number(info_hash)])
    }

    /// Returns the shard of a torrent. Info-hashes are evenly distributed.
    fn shard_number(&self, info_hash: InfoHash) -> usize {
        let [.., last] = info_hash.0;
        usize::from(last) % self.shards.len()
    }

    /// Forgets expired peers, and empty swarms that are not listed.
    fn sweep(&self, shard: &mut Shard, now: Time) {
        if now < shard.next_sweep {
            return;
        }
        shard.next_sweep = now + TRACKER_SWEEP_INTERVAL;
        let before = shard.counts();
        shard.swarms.retain(|_, swarm| {
            swarm.expire(now);
            swarm.listed || swarm.peer_count() > 0
        });
        let Shard { swarms, eviction_order, .. } = shard;
        eviction_order.retain(|info_hash| swarms.contains_key(info_hash));
        self.count_again(shard, before);
    }

    /// Adds the changes of a shard since it had `before` swarms and peers.
    fn count_again(&self, shard: &Shard, before: Counts) {
        let Counts { swarms, peers } = shard.counts();
        shift(&self.swarm_count, before.swarms, swarms);
        shift(&self.peer_count, before.peers, peers);
    }
}

impl Shard {
    fn counts(&self) -> Counts {
        Counts { swarms: self.swarms.len(), peers: self.swarms.values().map(Swarm::peer_count).sum() }
    }

    /// Evicts, of the next few swarms, one whose peers are all on the host of `source`, or else one whose peers are all
    /// on any one host. A host that fills the table is thus the first to lose its swarms.
    fn evict_one_host_swarm(&mut self, source: IpAddr) -> Option<Swarm> {
        let candidates = self.eviction_order.len().min(TRACKER_EVICTION_CANDIDATES);
        let swarms = || self.eviction_order.iter().take(candidates).map(|info_hash| self.swarms.get(info_hash));
        let own = swarms().position(|swarm| swarm.is_some_and(|swarm| swarm.has_one_host(Some(source))));
        let index = own.or_else(|| swarms().position(|swarm| swarm.is_some_and(|swarm| swarm.has_one_host(None))));
        let evicted = index.and_then(|index| self.eviction_order.remove(index));
        self.eviction_order.rotate_left(candidates - usize::from(evicted.is_some()));
        self.swarms.remove(&evicted?)
    }
}

/// Changes a count by the difference of a part of it.
fn shift(count: &AtomicUsize, before: usize, after: usize) {
    if after > before {
        count.fetch_add(after - before, Ordering::Relaxed);
    } else {
        count.fetch_sub(before - after, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
