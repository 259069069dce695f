//! Swarms by info-hash, and the answer to one announcement.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::announcement::{Announcement, Origin, Refusal, Reply, SwarmStats};
use super::swarm::Swarm;
use crate::base::limits::{
    TRACKER_PEER_COUNT_MAX, TRACKER_SHARDS, TRACKER_SWARM_COUNT_MAX, TRACKER_SWARMS_LOOKED_AT, TRACKER_SWEEP_INTERVAL,
};
use crate::base::{InfoHash, Rng, Time};

/// All swarms of one tracker, shared by the threads that answer for it: torrents are spread over shards, each behind a
/// lock that is held for one announcement.
#[derive(Debug)]
pub struct Table {
    shards: Box<[Mutex<Shard>]>,
    /// Swarms come into being when announced to, and end with their last peer.
    open: bool,
    swarm_count: AtomicUsize,
    peer_count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shard {
    swarms: HashMap<InfoHash, Swarm>,
    /// Swarms that came by themselves, in the order in which they are looked at when there is no room.
    turns: VecDeque<InfoHash>,
    next_sweep: Time,
}

impl Table {
    /// A tracker for the torrents named with [`Self::allow`].
    pub fn listed() -> Self {
        Self::new(false)
    }

    /// A tracker for any torrent, at most [`TRACKER_SWARM_COUNT_MAX`] at a time; when it is full, swarms of one source give way.
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

    /// Puts a torrent on the list.
    pub fn allow(&self, info_hash: InfoHash) {
        self.list(info_hash, None);
    }

    /// Puts a torrent on the list together with the seeder that runs here.
    pub fn allow_with_origin(&self, info_hash: InfoHash, origin: Origin) {
        self.list(info_hash, Some(origin));
    }

    /// Takes a torrent off the list; its swarm ends at once, unless the tracker is open.
    pub fn forbid(&self, info_hash: InfoHash) {
        let mut shard = self.shard(info_hash);
        let before = (shard.swarms.len(), peers_of(&shard));
        if !self.open {
            shard.swarms.remove(&info_hash);
        } else if let Some(swarm) = shard.swarms.get_mut(&info_hash) {
            (swarm.listed, swarm.origin) = (false, None);
        }
        self.count_again(&shard, before);
    }

    /// The list is these torrents and no others. Swarms that are not on it any more end at once, unless the tracker is open
    /// or their seeder runs here.
    pub fn allow_only(&self, info_hashes: &HashSet<InfoHash>) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let before = (shard.swarms.len(), peers_of(&shard));
            shard.swarms.retain(|info_hash, swarm| {
                swarm.listed = swarm.origin.is_some() || info_hashes.contains(info_hash);
                swarm.listed || self.open
            });
            self.count_again(&shard, before);
        }
        info_hashes.iter().for_each(|&info_hash| self.allow(info_hash));
    }

    /// Torrents and peers known.
    pub fn counts(&self) -> (usize, usize) {
        (self.swarm_count.load(Ordering::Relaxed), self.peer_count.load(Ordering::Relaxed))
    }

    /// One swarm in numbers, its origin among the seeders.
    pub fn stats(&self, now: Time, info_hash: InfoHash) -> Option<SwarmStats> {
        let mut shard = self.shard(info_hash);
        self.sweep(&mut shard, now);
        shard.swarms.get(&info_hash).map(Swarm::stats)
    }

    /// Hosts that announced that they completed this torrent.
    pub fn completed_host_count(&self, info_hash: InfoHash) -> usize {
        self.shard(info_hash).swarms.get(&info_hash).map_or(0, Swarm::completed_host_count)
    }

    /// Takes an announcement and answers it.
    pub fn handle_announce(&self, now: Time, announcement: &Announcement, rng: &mut Rng) -> Result<Reply, Refusal> {
        let source = SocketAddr::new(announcement.source.to_canonical(), announcement.port);
        if self.open && self.lacks_room(announcement.info_hash, source) {
            self.make_room(announcement.info_hash, source.ip());
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
            shard.turns.push_back(info_hash);
        }
        Ok(shard.swarms.entry(info_hash).or_default())
    }

    /// Whether this peer is new and there is no room for it.
    fn lacks_room(&self, info_hash: InfoHash, peer: SocketAddr) -> bool {
        let no_peers = self.peer_count.load(Ordering::Relaxed) >= TRACKER_PEER_COUNT_MAX;
        let no_swarms = self.swarm_count.load(Ordering::Relaxed) >= TRACKER_SWARM_COUNT_MAX;
        (no_peers || no_swarms)
            && match self.shard(info_hash).swarms.get(&info_hash) {
                Some(swarm) => no_peers && !swarm.knows(peer),
                None => true,
            }
    }

    /// Ends a swarm of a single source, where one is found: it connects nobody. So no flood of torrents keeps others out for
    /// longer than it lasts, nor ends a swarm in which peers have met. The shard that the newcomer goes to gives way first:
    /// else some would shrink by chance until they held nobody but honest peers.
    fn make_room(&self, info_hash: InfoHash, asker: IpAddr) {
        let (others, own) = self.shards.split_at(self.shard_number(info_hash));
        for shard in own.iter().chain(others) {
            if let Some(ended) = lock(shard).end_lonely(asker) {
                self.swarm_count.fetch_sub(1, Ordering::Relaxed);
                self.peer_count.fetch_sub(ended.peer_count(), Ordering::Relaxed);
                return;
            }
        }
    }

    fn list(&self, info_hash: InfoHash, origin: Option<Origin>) {
        let mut shard = self.shard(info_hash);
        let before = (shard.swarms.len(), peers_of(&shard));
        let swarm = shard.swarms.entry(info_hash).or_default();
        swarm.listed = true;
        swarm.origin = origin.or(swarm.origin);
        self.count_again(&shard, before);
    }

    fn shard(&self, info_hash: InfoHash) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.shard_number(info_hash)])
    }

    /// Info-hashes are evenly spread by themselves.
    fn shard_number(&self, info_hash: InfoHash) -> usize {
        let [.., last] = info_hash.0;
        usize::from(last) % self.shards.len()
    }

    /// Forgets peers that went without a word, and swarms that came by themselves and are empty.
    fn sweep(&self, shard: &mut Shard, now: Time) {
        if now < shard.next_sweep {
            return;
        }
        shard.next_sweep = now + TRACKER_SWEEP_INTERVAL;
        let before = (shard.swarms.len(), peers_of(shard));
        shard.swarms.retain(|_, swarm| {
            swarm.expire(now);
            swarm.listed || swarm.peer_count() > 0
        });
        let Shard { swarms, turns, .. } = shard;
        turns.retain(|info_hash| swarms.contains_key(info_hash));
        self.count_again(shard, before);
    }

    /// A shard had `before` swarms and peers.
    fn count_again(&self, shard: &Shard, before: (usize, usize)) {
        shift(&self.swarm_count, before.0, shard.swarms.len());
        shift(&self.peer_count, before.1, peers_of(shard));
    }
}

impl Shard {
    /// Ends a swarm of the next few that nobody is in but `asker`, or else one that nobody is in but a single source: who
    /// fills the table is the first to lose by it.
    fn end_lonely(&mut self, asker: IpAddr) -> Option<Swarm> {
        let few = self.turns.len().min(TRACKER_SWARMS_LOOKED_AT);
        let swarms = || self.turns.iter().take(few).map(|info_hash| self.swarms.get(info_hash));
        let own = swarms().position(|swarm| swarm.is_some_and(|swarm| swarm.is_of_one(Some(asker))));
        let lonely = own.or_else(|| swarms().position(|swarm| swarm.is_some_and(|swarm| swarm.is_of_one(None))));
        let ended = lonely.and_then(|index| self.turns.remove(index));
        self.turns.rotate_left(few - usize::from(ended.is_some()));
        self.swarms.remove(&ended?)
    }
}

fn peers_of(shard: &Shard) -> usize {
    shard.swarms.values().map(Swarm::peer_count).sum()
}

/// No operation leaves a shard half changed.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

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
