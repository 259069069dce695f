//! Who may download from us: BEP 3's choking algorithm.
//!
//! Owns the rounds, the rotation of the optimistic unchoke and the ranking. Does not measure rates, and does not send
//! `choke` or `unchoke`: it says which connections change.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use crate::base::limits::{CHOKE_INTERVAL, OPTIMISTIC_INTERVAL};
use crate::base::{Rng, Time};

/// How many interested peers may download from us at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slots {
    /// BEP 3 has four.
    Count(usize),
    /// Nobody is ever choked.
    All,
}

/// What the choker sees of one connection.
#[derive(Clone, Copy, Debug)]
pub struct PeerView {
    /// The connection's id; never used again for another one.
    pub key: u64,
    /// It wants to download from us.
    pub interested: bool,
    /// We choke it.
    pub choked: bool,
    /// It owes us blocks and sends none.
    pub snubbed: bool,
    /// Bytes per second from the peer.
    pub download_rate: u64,
    /// Bytes per second to the peer.
    pub upload_rate: u64,
}

/// Connections whose choking changes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    pub choke: Vec<u64>,
    pub unchoke: Vec<u64>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.choke.is_empty() && self.unchoke.is_empty()
    }
}

/// The choker of one torrent.
///
/// Call [`handle_timeout`](Self::handle_timeout) when [`poll_timeout`](Self::poll_timeout) says so,
/// [`handle_interested`](Self::handle_interested) and [`handle_disconnected`](Self::handle_disconnected) when that
/// happens to a peer, and apply what they return.
#[derive(Debug)]
pub struct Choker {
    slots: Slots,
    next_round: Time,
    next_rotation: Time,
    /// All connections in the order of the optimistic unchoke; the first one that can use it has it.
    rotation: Vec<u64>,
    optimistic: Option<u64>,
}

impl Choker {
    /// The first round is due at `now`.
    pub fn new(slots: Slots, now: Time) -> Self {
        let next_rotation = now + OPTIMISTIC_INTERVAL;
        Self { slots, next_round: now, next_rotation, rotation: Vec::new(), optimistic: None }
    }

    /// When the next round is due.
    pub fn poll_timeout(&self) -> Time {
        self.next_round
    }

    /// The connection that is unchoked regardless of its rate.
    pub fn optimistic(&self) -> Option<u64> {
        self.optimistic
    }

    /// Plays a round, if one is due: ranks everybody, and every 30 seconds rotates the optimistic unchoke.
    ///
    /// `complete`: we have the whole content.
    pub fn handle_timeout(&mut self, now: Time, peers: &[PeerView], complete: bool, rng: &mut Rng) -> Changes {
        if now < self.next_round {
            return Changes::default();
        }
        self.next_round = now + CHOKE_INTERVAL;
        self.follow_connections(peers, rng);
        if now >= self.next_rotation {
            self.next_rotation = now + OPTIMISTIC_INTERVAL;
            self.rotate(peers);
        }
        let unchoked = self.rank(peers, complete);
        let mut changes = Changes::default();
        for peer in peers {
            match (peer.choked, unchoked.contains(&peer.key)) {
                (true, true) => changes.unchoke.push(peer.key),
                (false, false) => changes.choke.push(peer.key),
                _ => {}
            }
        }
        changes
    }

    /// A peer became interested; `peers` shows it so. Between rounds this alone changes who is choked.
    ///
    /// If it was unchoked already (for its rate, while not interested) and the slots do not suffice now, the worst
    /// one is choked. If it was choked it waits for the round, unless a slot is free: taking a free slot displaces
    /// nobody, so it is no fibrillation, and a peer that waits for nothing wastes the line.
    pub fn handle_interested(&mut self, key: u64, peers: &[PeerView], complete: bool) -> Changes {
        let mut changes = Changes::default();
        let Some(peer) = peers.iter().find(|peer| peer.key == key) else { return changes };
        let used = slots_used(peers);
        match self.slots {
            Slots::All if peer.choked => changes.unchoke.push(key),
            Slots::Count(count) if peer.choked && used < count && reciprocates(peer, complete) => {
                changes.unchoke.push(key);
            }
            Slots::Count(count) if !peer.choked && used > count => {
                let worst = peers
                    .iter()
                    .filter(|peer| peer.interested && !peer.choked && Some(peer.key) != self.optimistic)
                    .min_by_key(|peer| rate(peer, complete));
                changes.choke.extend(worst.map(|peer| peer.key));
            }
            _ => {}
        }
        changes
    }

    /// A connection ended; `peers` no longer shows it. If that freed a slot, the best of those who wait has it at
    /// once: nobody is displaced.
    pub fn handle_disconnected(&mut self, peers: &[PeerView], complete: bool) -> Changes {
        let Slots::Count(count) = self.slots else { return Changes::default() };
        if slots_used(peers) >= count {
            return Changes::default();
        }
        let best = peers
            .iter()
            .filter(|peer| peer.interested && peer.choked && reciprocates(peer, complete))
            .max_by_key(|peer| rate(peer, complete));
        Changes { unchoke: best.map(|peer| peer.key).into_iter().collect(), choke: Vec::new() }
    }

    /// Takes out connections that ended and puts in the new ones: three times as likely at the front, as the current
    /// optimistic unchoke, as anywhere else in the rotation (BEP 3).
    fn follow_connections(&mut self, peers: &[PeerView], rng: &mut Rng) {
        let connected: HashSet<u64> = peers.iter().map(|peer| peer.key).collect();
        self.rotation.retain(|key| connected.contains(key));
        let known: HashSet<u64> = self.rotation.iter().copied().collect();
        for peer in peers.iter().filter(|peer| !known.contains(&peer.key)) {
            let place = rng.usize(0..self.rotation.len() + 3).saturating_sub(2);
            self.rotation.insert(place, peer.key);
        }
    }

    /// Brings the next one that waits to the front, and those before it to the end.
    fn rotate(&mut self, peers: &[PeerView]) {
        let waiting: HashSet<u64> =
            peers.iter().filter(|peer| peer.interested && peer.choked).map(|peer| peer.key).collect();
        if let Some(next) = self.rotation.iter().position(|key| waiting.contains(key)) {
            self.rotation.rotate_left(next);
        }
    }

    /// The connections to be unchoked now.
    fn rank(&mut self, peers: &[PeerView], complete: bool) -> HashSet<u64> {
        let slot_count = match self.slots {
            Slots::All => return peers.iter().map(|peer| peer.key).collect(),
            Slots::Count(0) => return HashSet::new(),
            Slots::Count(count) => count,
        };
        let mut ranked: Vec<&PeerView> = peers.iter().filter(|peer| reciprocates(peer, complete)).collect();
        // Among equals those who are unchoked stay so.
        ranked.sort_by_key(|peer| (Reverse(rate(peer, complete)), peer.choked));

        let best: Vec<&PeerView> = ranked.iter().copied().filter(|peer| peer.interested).take(slot_count - 1).collect();
        // With slots to spare nobody has to be outdone.
        let worst = best.last().filter(|_| best.len() + 1 == slot_count);
        let worst_rate = worst.map_or(0, |peer| rate(peer, complete));
        let mut unchoked: HashSet<u64> = best.iter().map(|peer| peer.key).collect();
        self.optimistic = self.pick_optimistic(peers, &unchoked);
        unchoked.extend(self.optimistic);
        let better = ranked.iter().filter(|peer| !peer.interested && rate(peer, complete) > worst_rate);
        unchoked.extend(better.map(|peer| peer.key));
        unchoked
    }

    /// The first in the rotation that is interested and has no slot by its rate; if nobody is, the first without a
    /// slot, which then does not count.
    fn pick_optimistic(&self, peers: &[PeerView], unchoked: &HashSet<u64>) -> Option<u64> {
        let interested: HashMap<u64, bool> = peers.iter().map(|peer| (peer.key, peer.interested)).collect();
        let mut without_slot = self.rotation.iter().copied().filter(|key| !unchoked.contains(key));
        let first = without_slot.next()?;
        std::iter::once(first).chain(without_slot).find(|key| interested.get(key) == Some(&true)).or(Some(first))
    }
}

/// Interested peers that are unchoked.
fn slots_used(peers: &[PeerView]) -> usize {
    peers.iter().filter(|peer| peer.interested && !peer.choked).count()
}

/// A peer that snubs us gets nothing but the optimistic unchoke. Nobody owes anything to one who is complete.
fn reciprocates(peer: &PeerView, complete: bool) -> bool {
    complete || !peer.snubbed
}

/// The rate that decides.
fn rate(peer: &PeerView, complete: bool) -> u64 {
    if complete { peer.upload_rate } else { peer.download_rate }
}

#[cfg(test)]
#[path = "choker_tests.rs"]
mod tests;
