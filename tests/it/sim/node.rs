//! One client: its swarm, and choking as the engine's control thread does it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bt_fast::base::{Rng, Time, limits};
use bt_fast::swarm::choker::{Changes, Choker, PeerView, Slots};
use bt_fast::swarm::rate::RateMeter;
use bt_fast::swarm::{PeerShared, Swarm};

use super::slot::CountingSlot;

pub(super) struct Node {
    pub(super) swarm: Arc<Swarm<CountingSlot>>,
    pub(super) slot_count: usize,
    pub(super) peers: Vec<Arc<PeerShared>>,
    /// Bytes per second, over all connections.
    pub(super) uplink_rate: u64,
    pub(super) uplink_free_at: Time,
    /// The share of blocks it sends wrong.
    pub(super) corrupts: f64,
    /// Blocks sent, by piece.
    pub(super) served: Vec<u32>,
    /// Nodes that had a part in pieces that were wrong here.
    pub(super) blamed: BTreeSet<usize>,
    /// `None`: somebody else decides who is choked.
    pub(super) choker: Option<Choker>,
    /// Download and upload.
    rates: HashMap<u32, [RateMeter; 2]>,
    peer_count: usize,
    sample_at: Time,
    reorder_at: Time,
}

impl Node {
    pub(super) fn new(swarm: Arc<Swarm<CountingSlot>>, upload_slots: Slots, now: Time) -> Self {
        Self {
            slot_count: swarm.pieces.free_slots(),
            served: vec![0; swarm.geometry.piece_count() as usize],
            swarm,
            peers: Vec::new(),
            uplink_rate: 1_000_000_000,
            uplink_free_at: now,
            corrupts: 0.0,
            blamed: BTreeSet::new(),
            choker: Some(Choker::new(upload_slots, now)),
            rates: HashMap::new(),
            peer_count: 0,
            sample_at: now,
            reorder_at: now,
        }
    }

    pub(super) fn describe(&self) -> String {
        let Swarm { pieces, geometry, .. } = &*self.swarm;
        format!("has {} of {}, {} slots free", pieces.have_count(), geometry.piece_count(), pieces.free_slots())
    }

    /// One step of the control thread; true when connections have to look who is choked.
    pub(super) fn steer(&mut self, now: Time, rng: &mut Rng) -> bool {
        if now >= self.reorder_at {
            self.reorder_at = now + limits::ORDER_INTERVAL;
            self.swarm.reorder_if_changed(rng);
        }
        self.sample(now);
        let Some(mut choker) = self.choker.take() else { return false };
        let gone = self.peers.len() < self.peer_count;
        self.peer_count = self.peers.len();
        let due: Vec<u32> = self
            .peers
            .iter()
            .filter(|peer| peer.choker_due.swap(false, Ordering::AcqRel) && peer.interested.load(Ordering::Relaxed))
            .map(|peer| peer.key)
            .collect();
        let complete = self.swarm.pieces.is_complete();
        let mut changed = self.apply(&choker.handle_timeout(now, &self.views(now), complete, rng));
        for key in due {
            changed |= self.apply(&choker.handle_interested(u64::from(key), &self.views(now), complete));
        }
        if gone {
            changed |= self.apply(&choker.handle_disconnected(&self.views(now), complete));
        }
        self.choker = Some(choker);
        changed
    }

    fn sample(&mut self, now: Time) {
        if now < self.sample_at {
            return;
        }
        self.sample_at = now + Time::from_secs(1);
        for peer in &self.peers {
            let new = || [RateMeter::new(now), RateMeter::new(now)];
            let [download, upload] = self.rates.entry(peer.key).or_insert_with(new);
            download.handle_total(now, peer.downloaded.load(Ordering::Relaxed));
            upload.handle_total(now, peer.uploaded.load(Ordering::Relaxed));
        }
    }

    fn views(&self, now: Time) -> Vec<PeerView> {
        let view = |peer: &Arc<PeerShared>| {
            let rate = |at: usize| self.rates.get(&peer.key).map_or(0, |rates| rates[at].bytes_per_s(now));
            PeerView {
                key: u64::from(peer.key),
                interested: peer.interested.load(Ordering::Relaxed),
                choked: !peer.is_unchoked(),
                snubbed: peer.snubbed.load(Ordering::Relaxed),
                download_rate: rate(0),
                upload_rate: rate(1),
            }
        };
        self.peers.iter().map(view).collect()
    }

    fn apply(&self, changes: &Changes) -> bool {
        for peer in &self.peers {
            let key = u64::from(peer.key);
            if changes.choke.contains(&key) || changes.unchoke.contains(&key) {
                peer.unchoke.store(changes.unchoke.contains(&key), Ordering::Relaxed);
            }
        }
        !changes.is_empty()
    }
}
