//! Runs the choker on live connections: measures their rates, follows their interest and sets which peers are unchoked.
//!
//! Owns one torrent's [`Choker`] and its rate meters. Knows a connection only as its [`PeerShared`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::choker::{Changes, Choker, PeerView, Role, Slots, Uplink};
use super::open_piece::PieceMemory;
use super::peer_shared::PeerShared;
use super::rate::RateMeter;
use super::shared::Swarm;
use crate::base::{Rng, Time, limits};

/// The interval at which rates are sampled and the uplink is checked for idleness.
const SAMPLE_INTERVAL: Time = Time::from_millis(100);
/// The number of samples in the recent upload rate: enough that the filling of a socket buffer does not count as
/// upload.
const RECENT_SAMPLES: usize = 3;

/// Runs one torrent's [`Choker`] on its live connections.
#[derive(Debug)]
pub struct ChokeDriver {
    choker: Choker,
    /// By key.
    rates: HashMap<u32, Rates>,
    uploading: RateMeter,
    /// Bytes uploaded between the last samples.
    recent: [u64; RECENT_SAMPLES],
    sample_count: usize,
    sample_at: Time,
    peer_count: usize,
    change_count: u64,
    ranked_count: u64,
}

#[derive(Debug)]
struct Rates {
    since: Time,
    /// `None` until a byte has moved: idle peers are many, and the meters are large.
    meters: Option<Box<Meters>>,
}

#[derive(Debug)]
struct Meters {
    download: RateMeter,
    upload: RateMeter,
}

impl Rates {
    /// Takes the totals of a peer. Returns the bytes uploaded since the last call.
    fn handle_totals(&mut self, now: Time, peer: &PeerShared) -> u64 {
        if self.meters.is_none() && peer.has_transferred() {
            let meter = || RateMeter::new(self.since);
            self.meters = Some(Box::new(Meters { download: meter(), upload: meter() }));
        }
        self.meters.as_mut().map_or(0, |meters| {
            meters.download.handle_total(now, peer.downloaded());
            meters.upload.handle_total(now, peer.uploaded())
        })
    }

    /// Upload and download in bytes/s.
    fn bytes_per_s(&self, now: Time) -> (u64, u64) {
        let meters = self.meters.as_ref();
        meters.map_or((0, 0), |meters| (meters.upload.bytes_per_s(now), meters.download.bytes_per_s(now)))
    }
}

impl ChokeDriver {
    pub fn new(slots: Slots, now: Time) -> Self {
        Self {
            choker: Choker::new(slots, now),
            rates: HashMap::new(),
            uploading: RateMeter::new(now),
            recent: [0; RECENT_SAMPLES],
            sample_count: 0,
            sample_at: now,
            peer_count: 0,
            change_count: 0,
            ranked_count: 0,
        }
    }

    /// The number of chokes and unchokes so far.
    pub fn change_count(&self) -> u64 {
        self.change_count
    }

    /// The number of peers examined in all choke decisions so far.
    pub fn ranked_count(&self) -> u64 {
        self.ranked_count
    }

    /// A peer's upload and download in bytes/s.
    pub fn rates(&self, now: Time, peer: &PeerShared) -> (u64, u64) {
        self.rates.get(&peer.key()).map_or((0, 0), |rates| rates.bytes_per_s(now))
    }

    /// Runs what is due. To be called many times a second with all connections. Returns true if a peer was choked or
    /// unchoked.
    pub fn step(&mut self, now: Time, peers: &[Arc<PeerShared>], role: Role, rng: &mut Rng) -> bool {
        let is_sample_due = now >= self.sample_at;
        if is_sample_due {
            self.sample_at = now + SAMPLE_INTERVAL;
            self.sample(now, peers);
        }
        let is_idle = is_sample_due && (is_idle(peers) || self.is_held_up(peers));
        let uplink = if is_idle { Uplink::Idle } else { Uplink::Busy };
        let mut freed = peers.len() < self.peer_count;
        self.peer_count = peers.len();
        let mut interested = Vec::new();
        for peer in peers.iter().filter(|peer| peer.take_choke_review()) {
            if peer.wants_blocks() {
                interested.push(u64::from(peer.key()));
            } else {
                freed = true;
            }
        }
        let round = now >= self.choker.poll_timeout();
        if !round && !is_sample_due && !freed && interested.is_empty() {
            return false;
        }
        let before = self.change_count;
        if round {
            let views = self.views(now, peers.iter());
            let changes = self.choker.handle_timeout(now, &views, role, rng);
            self.apply(peers, &changes);
        }
        for key in interested {
            let views = self.views(now, slot_users(peers));
            let changes = self.choker.handle_interested(key, &views, role);
            self.apply(peers, &changes);
        }
        if freed {
            let views = self.views(now, slot_users(peers));
            let changes = self.choker.handle_freed(&views, role);
            self.apply(peers, &changes);
        }
        if is_sample_due {
            let rate = self.uploading.bytes_per_s(now).max(self.recent_rate());
            let views = self.views(now, slot_users(peers));
            let changes = self.choker.handle_load(rate, uplink, &views, role);
            self.apply(peers, &changes);
        }
        self.change_count > before
    }

    /// The number of connections at which a download stops looking for more. Useless ones do not count: idle peers must
    /// not keep a download from useful ones.
    pub fn connections_sought<S: PieceMemory>(&self, now: Time, swarm: &Swarm<S>, peers: &[Arc<PeerShared>]) -> usize {
        let useless = self.useless(now, peers, limits::USELESS_AT_CAP_AFTER).take(limits::CONNECTIONS_LEECHING_MAX);
        swarm.connections_sought(peers) + useless.count()
    }

    /// Candidates for eviction: for `after` and longer no payload has moved over them, and the peer is not interested
    /// or does not read the blocks that it requested.
    pub fn useless<'a>(
        &self,
        now: Time,
        peers: &'a [Arc<PeerShared>],
        after: Time,
    ) -> impl Iterator<Item = &'a Arc<PeerShared>> {
        peers.iter().filter(move |peer| {
            let rates = self.rates.get(&peer.key());
            let is_quiet = |rates: &Rates| now >= rates.since + after && rates.bytes_per_s(now) == (0, 0);
            !peer.wants_blocks() && rates.is_some_and(is_quiet)
        })
    }

    fn sample(&mut self, now: Time, peers: &[Arc<PeerShared>]) {
        if self.rates.len() > peers.len() + peers.len() / 8 {
            let connected: HashSet<u32> = peers.iter().map(|peer| peer.key()).collect();
            self.rates.retain(|key, _| connected.contains(key));
        }
        let mut uploaded = 0;
        for peer in peers {
            let rates = self.rates.entry(peer.key()).or_insert_with(|| Rates { since: now, meters: None });
            uploaded += rates.handle_totals(now, peer);
        }
        self.uploading.handle_bytes(now, uploaded);
        self.recent[self.sample_count % RECENT_SAMPLES] = uploaded;
        self.sample_count += 1;
    }

    /// Nothing leaves, and an unchoked peer does not read: stalled peers hold the slots and the uplink is idle.
    fn is_held_up(&self, peers: &[Arc<PeerShared>]) -> bool {
        self.recent_rate() == 0 && peers.iter().any(|peer| peer.is_unchoked() && peer.is_stalled())
    }

    /// The upload rate over the last samples, in bytes per second: a starting swarm can't wait for an average.
    fn recent_rate(&self) -> u64 {
        let span_ms = SAMPLE_INTERVAL.as_millis() * RECENT_SAMPLES as u128;
        u64::try_from(u128::from(self.recent.iter().sum::<u64>()) * 1000 / span_ms).unwrap_or(u64::MAX)
    }

    fn views<'a>(&mut self, now: Time, peers: impl Iterator<Item = &'a Arc<PeerShared>>) -> Vec<PeerView> {
        let view = |peer: &Arc<PeerShared>| {
            let (upload_rate, download_rate) = self.rates(now, peer);
            PeerView {
                key: u64::from(peer.key()),
                interested: peer.wants_blocks(),
                choked: !peer.is_unchoked(),
                snubbed: peer.is_snubbed(),
                download_rate,
                upload_rate,
                uploaded: peer.uploaded(),
            }
        };
        let views: Vec<PeerView> = peers.map(view).collect();
        self.ranked_count += views.len() as u64;
        views
    }

    fn apply(&mut self, peers: &[Arc<PeerShared>], changes: &Changes) {
        for (keys, unchoke) in [(&changes.choke, false), (&changes.unchoke, true)] {
            for peer in peers.iter().filter(|peer| keys.contains(&u64::from(peer.key()))) {
                peer.set_unchoked(unchoke);
                self.change_count += 1;
            }
        }
    }
}

/// The peers that count between rounds: those that use a slot or wait for one.
fn slot_users(peers: &[Arc<PeerShared>]) -> impl Iterator<Item = &Arc<PeerShared>> {
    peers.iter().filter(|peer| peer.wants_blocks())
}

/// No unchoked peer that reads waits for a block.
fn is_idle(peers: &[Arc<PeerShared>]) -> bool {
    let mut served = peers.iter().filter(|peer| peer.is_unchoked() && !peer.is_stalled());
    served.all(|peer| peer.queued_count() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Bitfield, Geometry};
    use crate::swarm::testing::NoMemory;

    fn peer(key: u32) -> Arc<PeerShared> {
        let peer = PeerShared::new(key, ([127, 0, 0, 1], 6881).into());
        peer.set_interested(true);
        peer.request_choke_review();
        peer.set_queued_count(100);
        Arc::new(peer)
    }

    #[test]
    fn idle_peers_do_not_end_the_search_for_more() {
        let rng = &mut Rng::with_seed(1);
        let geometry = Arc::new(Geometry::new(1, [10]).unwrap());
        let swarm = Swarm::<NoMemory>::new(geometry, &Bitfield::new(10), Vec::new(), rng);
        let mut driver = ChokeDriver::new(Slots::Auto, Time::ZERO);
        let idle_peers: Vec<_> = (0..100).map(peer).collect();
        for peer in &idle_peers[..90] {
            peer.set_interested(false);
        }
        idle_peers[90].set_stalled(true);
        let mut sought = |ms, peers: &[Arc<PeerShared>]| {
            driver.step(Time::from_millis(ms), peers, Role::Downloading, rng);
            driver.connections_sought(Time::from_millis(ms), &swarm, peers)
        };
        assert_eq!(sought(0, &idle_peers[80..]), limits::CONNECTIONS_SOUGHT, "they have just connected");
        assert_eq!(sought(10_000, &idle_peers[80..]), limits::CONNECTIONS_SOUGHT + 11);
        idle_peers[80].count_downloaded(1000);
        assert_eq!(sought(10_100, &idle_peers[80..]), limits::CONNECTIONS_SOUGHT + 10, "a peer sends blocks");
        sought(10_200, &idle_peers);
        assert_eq!(sought(30_000, &idle_peers), limits::CONNECTIONS_SOUGHT + limits::CONNECTIONS_LEECHING_MAX);
    }

    #[test]
    fn a_reading_peer_gets_the_slots_of_stalled_ones() {
        let ms = Time::from_millis;
        let rng = &mut Rng::with_seed(1);
        let mut driver = ChokeDriver::new(Slots::Auto, ms(0));
        let mut peers: Vec<_> = (0..u32::try_from(4 * limits::UPLOAD_SLOTS_MAX).unwrap()).map(peer).collect();
        driver.step(ms(0), &peers, Role::Seeding, rng);
        peers.push(peer(10_000));
        let reader = peers.last().unwrap().clone();
        driver.step(ms(50), &peers, Role::Seeding, rng);
        assert!(!reader.is_unchoked(), "no slot is free");
        let mut now = ms(100);
        for _ in 0..200 {
            // No other peer reads a byte; the engine reports that after a while.
            for stalled in peers.iter().filter(|peer| peer.key() != reader.key() && peer.is_unchoked()) {
                if stalled.set_stalled(true) {
                    stalled.request_choke_review();
                }
            }
            driver.step(now, &peers, Role::Seeding, rng);
            now += SAMPLE_INTERVAL;
        }
        assert!(reader.is_unchoked());
        let unchoked = || peers.iter().filter(|peer| peer.is_unchoked()).count();
        assert_eq!(unchoked(), 1, "stalled peers lose their slots in the round");
        // A peer that reads again gets a slot too.
        peers[0].set_stalled(false);
        peers[0].request_choke_review();
        driver.step(now, &peers, Role::Seeding, rng);
        assert_eq!(unchoked(), 2);
    }
}
