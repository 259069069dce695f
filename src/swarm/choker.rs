//! Decides which peers may download from us: BEP 3's choking algorithm while we download, turns while we seed.
//!
//! Owns the rounds, the number of upload slots, the rotation of the optimistic unchoke and the ranking. Does not
//! measure rates and sends no `choke` or `unchoke`: it returns the connections whose choking changes.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use crate::base::limits::{
    CHOKE_INTERVAL, NEWCOMER_SHARE, OPTIMISTIC_INTERVAL, SLOT_RATE_AMPLE, SPARE_SLOTS_GROWTH, SPARE_SLOTS_PART,
    TURN_LEN, TURN_TIME_MAX, TURN_TIME_MIN, UPLOAD_SLOTS_GET, UPLOAD_SLOTS_MAX, UPLOAD_SLOTS_SEED_MIN,
};
use crate::base::{Rng, Time};

/// The number of interested peers that may download from us at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slots {
    /// A fixed number; BEP 3 has four.
    Count(usize),
    /// Four, one more for each [`SLOT_RATE_AMPLE`] of upload rate, and more while these slots leave the uplink idle.
    Auto,
    /// Every peer is unchoked.
    All,
}

/// Our part in the transfer, which decides how peers are ranked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// We lack pieces: the peers that send to us at the best rates are unchoked.
    Downloading,
    /// We lack no wanted piece: peers are served in turns.
    Seeding,
}

/// Whether the uplink has room for more upload slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Uplink {
    /// No unchoked peer that reads waits for a block, or nothing leaves because unchoked peers do not read.
    Idle,
    Busy,
}

/// One connection as the choker sees it.
#[derive(Clone, Copy, Debug)]
pub struct PeerView {
    /// The connection's id. Never reused, and greater than the ids of older connections.
    pub key: u64,
    /// The peer wants to download from us.
    pub interested: bool,
    /// We choke the peer.
    pub choked: bool,
    /// The peer owes us blocks and sends none.
    pub snubbed: bool,
    /// Bytes per second from the peer.
    pub download_rate: u64,
    /// Bytes per second to the peer.
    pub upload_rate: u64,
    /// Bytes sent to the peer so far.
    pub uploaded: u64,
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
/// Call [`handle_timeout`](Self::handle_timeout) when [`poll_timeout`](Self::poll_timeout) is due, and
/// [`handle_interested`](Self::handle_interested), [`handle_freed`](Self::handle_freed) and
/// [`handle_load`](Self::handle_load) at these events. Apply the changes that they return.
#[derive(Debug)]
pub struct Choker {
    slots: Slots,
    next_round: Time,
    next_rotation: Time,
    /// All connections in the order of the optimistic unchoke: the first one that can use it gets it.
    rotation: Vec<u64>,
    optimistic: Option<u64>,
    /// The slots of [`Slots::Auto`] that the upload rate justifies. The spare slots were added because the uplink was
    /// idle.
    base_slots: usize,
    spare_slots: usize,
    /// The uplink was idle since the last round.
    was_idle: bool,
    turns: HashMap<u64, Turn>,
    /// Free slots that a seeder granted between rounds.
    granted_count: usize,
}

/// A connection's state in a seeder's rotation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// It was never served and has waited since then.
    New { since: Time },
    /// It has been served since then. `uploaded` is the total sent to it before.
    Served { since: Time, uploaded: u64 },
    /// Its last turn ended then.
    Waiting { since: Time },
}

impl Choker {
    /// The first round is due at `now`.
    pub fn new(slots: Slots, now: Time) -> Self {
        Self {
            slots,
            next_round: now,
            next_rotation: now + OPTIMISTIC_INTERVAL,
            rotation: Vec::new(),
            optimistic: None,
            base_slots: UPLOAD_SLOTS_GET,
            spare_slots: 0,
            was_idle: false,
            turns: HashMap::new(),
            granted_count: 0,
        }
    }

    /// When the next round is due.
    pub fn poll_timeout(&self) -> Time {
        self.next_round
    }

    /// The connection that is unchoked regardless of its rate.
    pub fn optimistic(&self) -> Option<u64> {
        self.optimistic
    }

    /// The number of interested peers that may be unchoked; `None` is no limit.
    pub fn slot_count(&self, role: Role) -> Option<usize> {
        match self.slots {
            Slots::Count(count) => Some(count),
            Slots::Auto => {
                let least =
                    if role == Role::Seeding { self.base_slots.max(UPLOAD_SLOTS_SEED_MIN) } else { self.base_slots };
                Some((least + self.spare_slots).min(UPLOAD_SLOTS_MAX))
            }
            Slots::All => None,
        }
    }

    /// Runs a choke round if one is due: ranks all peers. Every 30 seconds it also rotates the optimistic unchoke.
    pub fn handle_timeout(&mut self, now: Time, peers: &[PeerView], role: Role, rng: &mut Rng) -> Changes {
        if now < self.next_round {
            return Changes::default();
        }
        self.next_round = now + CHOKE_INTERVAL;
        if !std::mem::take(&mut self.was_idle) {
            self.spare_slots -= self.spare_slots.div_ceil(SPARE_SLOTS_PART);
        }
        self.follow_connections(peers, rng);
        if now >= self.next_rotation {
            self.next_rotation = now + OPTIMISTIC_INTERVAL;
            self.rotate(peers);
        }
        let unchoked = match self.slot_count(role) {
            None => peers.iter().map(|peer| peer.key).collect(),
            Some(slot_count) if role == Role::Seeding => {
                self.optimistic = None;
                self.follow_turns(now, peers);
                let unchoked: HashSet<u64> =
                    rank_for_seeding(now, peers, &self.turns, &self.rotation, slot_count).into_iter().collect();
                self.begin_turns(now, peers.iter().filter(|peer| unchoked.contains(&peer.key)));
                unchoked
            }
            Some(slot_count) => {
                let ranking = rank_for_downloading(peers, &self.rotation, slot_count);
                self.optimistic = ranking.optimistic;
                ranking.unchoked
            }
        };
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

    /// A peer became interested; `peers` includes that. Between rounds, choking changes only here and when slots become
    /// free.
    ///
    /// If the peer was already unchoked (for its rate, while not interested) and there are not enough slots, the
    /// slowest peer is choked. If the peer was choked, it waits for the round, unless a slot is free: taking a free
    /// slot displaces no peer, so this cannot cause fibrillation (BEP 3), and leaving the slot empty would idle the
    /// uplink.
    pub fn handle_interested(&mut self, key: u64, peers: &[PeerView], role: Role) -> Changes {
        let mut changes = Changes::default();
        let Some(peer) = peers.iter().find(|peer| peer.key == key) else { return changes };
        let used = slots_used(peers);
        match self.slot_count(role) {
            None if peer.choked => changes.unchoke.push(key),
            Some(count) if peer.choked && used < count && reciprocates(peer, role) => changes.unchoke.push(key),
            // The peer read nothing for a while and another one got its slot: no peer loses its turn to it.
            Some(count) if !peer.choked && used > count && role == Role::Seeding => changes.choke.push(key),
            Some(count) if !peer.choked && used > count => {
                let worst = peers
                    .iter()
                    .filter(|peer| peer.interested && !peer.choked && Some(peer.key) != self.optimistic)
                    .min_by_key(|peer| peer.download_rate);
                changes.choke.extend(worst.map(|peer| peer.key));
            }
            _ => {}
        }
        changes
    }

    /// Slots may have become free: a connection ended, or a peer lost interest. They go to the best waiting peers at
    /// once, which displaces no peer.
    pub fn handle_freed(&mut self, peers: &[PeerView], role: Role) -> Changes {
        let Some(count) = self.slot_count(role) else { return Changes::default() };
        let free = count.saturating_sub(slots_used(peers));
        if free == 0 {
            return Changes::default();
        }
        let mut waiting: Vec<&PeerView> =
            peers.iter().filter(|peer| peer.interested && peer.choked && reciprocates(peer, role)).collect();
        let mut unchoke = Vec::new();
        if role == Role::Seeding {
            waiting.sort_by_key(|peer| self.turns.get(&peer.key).map(|turn| turn.since()));
            for _ in 0..free.min(waiting.len()) {
                unchoke.push(waiting.remove(self.next_to_grant(&waiting)).key);
            }
        } else {
            waiting.sort_by_key(|peer| Reverse(peer.download_rate));
            unchoke.extend(waiting.iter().take(free).map(|peer| peer.key));
        }
        Changes { unchoke, choke: Vec::new() }
    }

    /// The position of the waiting peer that gets a seeder's free slot: the one that waits longest. Once in
    /// [`NEWCOMER_SHARE`] it is the newest one, which would otherwise wait until every older peer had a turn.
    fn next_to_grant(&mut self, waiting: &[&PeerView]) -> usize {
        self.granted_count = self.granted_count.wrapping_add(1);
        let is_new =
            |peer: &PeerView| !matches!(self.turns.get(&peer.key), Some(Turn::Served { .. } | Turn::Waiting { .. }));
        let came = waiting.iter().enumerate().filter(|(_, peer)| is_new(peer));
        let last = came.max_by_key(|(_, peer)| peer.key).filter(|_| self.granted_count % NEWCOMER_SHARE == 1);
        last.map_or(0, |(at, _)| at)
    }

    /// Adapts [`Slots::Auto`] to the upload rate over all connections. New slots are granted at once, and withdrawn
    /// only in rounds.
    pub fn handle_load(&mut self, bytes_per_s: u64, uplink: Uplink, peers: &[PeerView], role: Role) -> Changes {
        let grown = usize::try_from(bytes_per_s / SLOT_RATE_AMPLE).unwrap_or(usize::MAX);
        self.base_slots = UPLOAD_SLOTS_GET.saturating_add(grown).min(UPLOAD_SLOTS_MAX);
        let scarce = |count| slots_used(peers) >= count && count < UPLOAD_SLOTS_MAX;
        if uplink == Uplink::Idle && matches!(self.slots, Slots::Auto) && self.slot_count(role).is_some_and(scarce) {
            self.was_idle = true;
            self.spare_slots += 1 + slots_used(peers) / SPARE_SLOTS_GROWTH;
        }
        self.handle_freed(peers, role)
    }

    /// Removes connections that ended and inserts the new ones: at the front, as the current optimistic unchoke, three
    /// times as likely as at any other place of the rotation (BEP 3).
    fn follow_connections(&mut self, peers: &[PeerView], rng: &mut Rng) {
        let connected: HashSet<u64> = peers.iter().map(|peer| peer.key).collect();
        self.rotation.retain(|key| connected.contains(key));
        self.turns.retain(|key, _| connected.contains(key));
        let known: HashSet<u64> = self.rotation.iter().copied().collect();
        for peer in peers.iter().filter(|peer| !known.contains(&peer.key)) {
            let place = rng.usize(0..self.rotation.len() + 3).saturating_sub(2);
            self.rotation.insert(place, peer.key);
        }
    }

    /// Begins and ends turns: as peers were unchoked and choked since the last round, and when a turn has lasted long
    /// enough.
    fn follow_turns(&mut self, now: Time, peers: &[PeerView]) {
        for peer in peers {
            let served = !peer.choked && peer.interested;
            match (self.turns.get(&peer.key), served) {
                (Some(Turn::Served { .. }), false) => _ = self.turns.insert(peer.key, Turn::Waiting { since: now }),
                (Some(turn @ Turn::Served { .. }), true) if turn.is_over(now, peer.uploaded) => {
                    self.turns.insert(peer.key, Turn::Waiting { since: now });
                }
                (Some(Turn::Served { .. }), true) => {}
                // The peer was unchoked between rounds.
                (_, true) => self.begin_turns(now, [peer]),
                (None, false) if peer.interested => {
                    self.turns.insert(peer.key, Turn::New { since: now });
                }
                _ => {}
            }
        }
    }

    fn begin_turns<'a>(&mut self, now: Time, peers: impl IntoIterator<Item = &'a PeerView>) {
        for peer in peers {
            let turn = self.turns.entry(peer.key).or_insert(Turn::Waiting { since: now });
            if !matches!(turn, Turn::Served { .. }) {
                *turn = Turn::Served { since: now, uploaded: peer.uploaded };
            }
        }
    }

    /// Rotates the first waiting connection to the front, and those before it to the end.
    fn rotate(&mut self, peers: &[PeerView]) {
        let waiting: HashSet<u64> =
            peers.iter().filter(|peer| peer.interested && peer.choked).map(|peer| peer.key).collect();
        if let Some(next) = self.rotation.iter().position(|key| waiting.contains(key)) {
            self.rotation.rotate_left(next);
        }
    }
}

impl Turn {
    fn since(self) -> Time {
        match self {
            Self::New { since } | Self::Served { since, .. } | Self::Waiting { since } => since,
        }
    }

    /// A turn lasts until [`TURN_LEN`] bytes were sent, at least [`TURN_TIME_MIN`] and at most [`TURN_TIME_MAX`].
    fn is_over(self, now: Time, total: u64) -> bool {
        match self {
            Self::Served { since, uploaded } => {
                let lasted = now.saturating_sub(since);
                let is_enough = total.saturating_sub(uploaded) >= TURN_LEN;
                lasted >= TURN_TIME_MAX || (lasted >= TURN_TIME_MIN && is_enough)
            }
            Self::New { .. } | Self::Waiting { .. } => true,
        }
    }
}

/// The unchoked connections after a round while we download, among them the optimistic unchoke.
#[derive(Debug, Default)]
pub struct Ranking {
    pub unchoked: HashSet<u64>,
    pub optimistic: Option<u64>,
}

/// BEP 3's ranking: the interested peers with the best download rates, all uninterested peers with better ones, and the
/// first peer of `rotation` that has no slot by its rate.
pub fn rank_for_downloading(peers: &[PeerView], rotation: &[u64], slot_count: usize) -> Ranking {
    let Some(by_rate) = slot_count.checked_sub(1) else { return Ranking::default() };
    let mut ranked: Vec<&PeerView> = peers.iter().filter(|peer| !peer.snubbed).collect();
    // Among equal rates, unchoked peers stay unchoked.
    ranked.sort_by_key(|peer| (Reverse(peer.download_rate), peer.choked));

    let best: Vec<&PeerView> = ranked.iter().copied().filter(|peer| peer.interested).take(by_rate).collect();
    // With spare slots, any rate above zero suffices.
    let worst_rate = best.last().filter(|_| best.len() == by_rate).map_or(0, |peer| peer.download_rate);
    let mut unchoked: HashSet<u64> = best.iter().map(|peer| peer.key).collect();
    let optimistic = pick_optimistic(peers, rotation, &unchoked);
    unchoked.extend(optimistic);
    let better = ranked.iter().filter(|peer| !peer.interested && peer.download_rate > worst_rate);
    unchoked.extend(better.map(|peer| peer.key));
    Ranking { unchoked, optimistic }
}

/// The first interested peer in the rotation that has no slot by its rate. If there is none, the first peer without a
/// slot: it is not interested and does not count.
fn pick_optimistic(peers: &[PeerView], rotation: &[u64], unchoked: &HashSet<u64>) -> Option<u64> {
    let interested: HashMap<u64, bool> = peers.iter().map(|peer| (peer.key, peer.interested)).collect();
    let mut without_slot = rotation.iter().copied().filter(|key| !unchoked.contains(key));
    let first = without_slot.next()?;
    std::iter::once(first).chain(without_slot).find(|key| interested.get(key) == Some(&true)).or(Some(first))
}

/// A seeder's ranking. Peers in their turn stay, best upload rate first. The other slots go to the peers whose last
/// turn ended longest ago; one of each [`NEWCOMER_SHARE`] goes to a peer that had no turn yet.
pub fn rank_for_seeding(
    now: Time,
    peers: &[PeerView],
    turns: &HashMap<u64, Turn>,
    rotation: &[u64],
    slot_count: usize,
) -> Vec<u64> {
    let interested = || peers.iter().filter(|peer| peer.interested);
    let in_turn = |peer: &&PeerView| turns.get(&peer.key).is_some_and(|turn| !turn.is_over(now, peer.uploaded));
    let mut unchoked: Vec<&PeerView> = interested().filter(in_turn).collect();
    unchoked.sort_by_key(|peer| Reverse(peer.upload_rate));
    unchoked.truncate(slot_count);
    let mut unchoked: Vec<u64> = unchoked.iter().map(|peer| peer.key).collect();

    let place: HashMap<u64, usize> = rotation.iter().enumerate().map(|(place, &key)| (key, place)).collect();
    let mut waiting: Vec<&PeerView> = interested().filter(|peer| !in_turn(peer)).collect();
    // Peers whose turn ends in this round keep their slots if no other peer wants them.
    waiting.sort_by_key(|peer| (!peer.choked, turns.get(&peer.key).map(|turn| turn.since()), place.get(&peer.key)));
    let is_new = |peer: &&PeerView| matches!(turns.get(&peer.key), Some(Turn::New { .. }));
    for at in 0..(slot_count - unchoked.len()).min(waiting.len()) {
        let newcomer = if at % NEWCOMER_SHARE == 0 { waiting.iter().position(is_new) } else { None };
        unchoked.push(waiting.remove(newcomer.unwrap_or(0)).key);
    }
    unchoked
}

/// The number of interested peers that are unchoked.
fn slots_used(peers: &[PeerView]) -> usize {
    peers.iter().filter(|peer| peer.interested && !peer.choked).count()
}

/// A peer that snubs us gets nothing but the optimistic unchoke. A peer owes nothing to a seeder.
fn reciprocates(peer: &PeerView, role: Role) -> bool {
    role == Role::Seeding || !peer.snubbed
}

#[cfg(test)]
#[path = "choker_tests.rs"]
mod tests;
