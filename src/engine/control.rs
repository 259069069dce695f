//! The control thread: trackers, choking, connecting, the order of pieces, progress and the end.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::announcer::{self, Found, Identity, Totals};
use super::config::{Config, Snapshot};
use super::monitor::{self, TorrentStatus};
use super::shared::{Command, Counted, Shared};
use super::torrent::Torrent;
use crate::announce::Announce;
use crate::base::{PeerId, Rng, Time, limits};
use crate::swarm::PeerShared;
use crate::swarm::choker::{Changes, Choker, PeerView};
use crate::swarm::peer_list::Source;
use crate::swarm::rate::RateMeter;

/// How often progress is shown and the stop flag is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often rates are sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// Progress shows the rate of this long.
const SHOWN_RATE_WINDOW: Duration = Duration::from_secs(3);
/// A download with fewer peers than this asks its trackers for more.
const PEERS_WANTED: usize = 20;

/// How a session came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Complete,
    Stopped,
    Failed,
    NoPeers,
}

/// One torrent's part of the control thread.
struct Steered {
    torrent: Arc<Torrent>,
    choker: Choker,
    rates: HashMap<u32, PeerRates>,
    peer_count: usize,
    expected_ids: HashMap<SocketAddr, PeerId>,
    commands: mpsc::Sender<announcer::Command>,
    found: mpsc::Receiver<Vec<Found>>,
    announcer: JoinHandle<()>,
    complete: bool,
    reorder_at: Time,
}

struct PeerRates {
    download: RateMeter,
    upload: RateMeter,
}

/// See the module. Runs on the control thread's runtime until the session is over.
pub(super) async fn run(
    shared: &Arc<Shared>,
    config: &Config,
    tiers: Vec<(Arc<Torrent>, Vec<Vec<String>>)>,
    stop: &AtomicBool,
    observer: &mut dyn FnMut(&Snapshot),
) -> Outcome {
    let slots = announcer::announce_slots();
    let mut rng = Rng::new();
    let mut steered: Vec<Steered> = Vec::new();
    for (torrent, tiers) in tiers {
        let announce = Announce::new(tiers, torrent.swarm.pieces.is_complete(), &mut rng);
        let identity = Identity {
            info_hash: torrent.info_hash,
            peer_id: shared.peer_id,
            ip: config.announce_ip.clone(),
            port: shared.listen_port,
            key: config.identity.key,
        };
        let (commands, inbox) = mpsc::channel(4);
        let (found_in, found) = mpsc::channel(16);
        let totals = {
            let torrent = torrent.clone();
            move || totals(&torrent)
        };
        let announcer = tokio::spawn(announcer::run(announce, identity, totals, slots.clone(), inbox, found_in));
        steered.push(Steered::new(torrent, config, commands, found, announcer, shared.now(), &mut rng));
    }
    let outcome = steer(shared, config, &mut steered, stop, observer, &mut rng).await;
    for one in &steered {
        let _ = one.commands.try_send(announcer::Command::Stop);
    }
    for one in steered {
        let _ = tokio::time::timeout(limits::TRACKER_STOP_TIMEOUT, one.announcer).await;
    }
    outcome
}

fn totals(torrent: &Torrent) -> Totals {
    let swarm = &torrent.swarm;
    Totals {
        uploaded: swarm.totals.uploaded.load(Ordering::Relaxed),
        downloaded: swarm.totals.downloaded.load(Ordering::Relaxed),
        left: swarm.pieces.left(),
    }
}

async fn steer(
    shared: &Arc<Shared>,
    config: &Config,
    steered: &mut [Steered],
    stop: &AtomicBool,
    observer: &mut dyn FnMut(&Snapshot),
    rng: &mut Rng,
) -> Outcome {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut shown = ShownRates::default();
    let (mut sampled_at, mut pictured_at) = (Time::ZERO, Time::ZERO);
    let mut alone_since = shared.now();
    loop {
        let ticked = tokio::select! {
            () = shared.control.notified() => false,
            _ = tick.tick() => true,
        };
        let now = shared.now();
        let sample = now >= sampled_at + SAMPLE_INTERVAL;
        if sample {
            sampled_at = now;
            shared.counters.sample_memory();
        }
        for one in steered.iter_mut().filter(|one| !one.torrent.has_failed()) {
            one.step(shared, config, now, sample, rng);
        }
        let peer_count = steered.iter().map(|one| one.peer_count).sum();
        if ticked || stop.load(Ordering::Relaxed) {
            let snapshot = Snapshot { port: shared.listen_port, ..shown.snapshot(steered, now, peer_count) };
            observer(&snapshot);
            if let Some(monitor) = config.monitor.as_deref().filter(|_| now >= pictured_at + SAMPLE_INTERVAL) {
                pictured_at = now;
                let with_peers = monitor.take_wish();
                let torrents = steered.iter().map(|one| one.status(now, with_peers)).collect();
                monitor.show(monitor::status(shared, &snapshot, torrents));
            }
        }
        if peer_count > 0 {
            alone_since = now;
        }
        if stop.load(Ordering::Relaxed) {
            return Outcome::Stopped;
        }
        if steered.iter().all(|one| one.torrent.has_failed()) {
            return Outcome::Failed;
        }
        if !config.keep_seeding && steered.iter().all(|one| one.complete) {
            observer(&Snapshot { port: shared.listen_port, ..shown.snapshot(steered, now, peer_count) });
            return Outcome::Complete;
        }
        if config.timeout.is_some_and(|timeout| now >= alone_since + timeout) {
            return Outcome::NoPeers;
        }
    }
}

impl Steered {
    fn new(
        torrent: Arc<Torrent>,
        config: &Config,
        commands: mpsc::Sender<announcer::Command>,
        found: mpsc::Receiver<Vec<Found>>,
        announcer: JoinHandle<()>,
        now: Time,
        rng: &mut Rng,
    ) -> Self {
        torrent.peer_list().handle_announced(config.peers.iter().copied(), Source::User, rng);
        Self {
            complete: torrent.swarm.pieces.is_complete(),
            torrent,
            choker: Choker::new(config.slots, now),
            rates: HashMap::new(),
            peer_count: 0,
            expected_ids: HashMap::new(),
            commands,
            found,
            announcer,
            reorder_at: now,
        }
    }

    fn step(&mut self, shared: &Arc<Shared>, config: &Config, now: Time, sample: bool, rng: &mut Rng) {
        self.take_found(rng);
        self.steer_choking(shared, now, sample, rng);
        if now >= self.reorder_at {
            self.reorder_at = now + limits::ORDER_INTERVAL;
            self.torrent.swarm.reorder_if_changed(rng);
        }
        if !self.complete && self.torrent.swarm.pieces.is_complete() {
            self.complete = true;
            let _ = self.commands.try_send(announcer::Command::Complete);
        }
        // Who has everything waits to be connected to: what it would gain is only others' gain to seek.
        if !self.complete || config.keep_seeding {
            self.connect(shared, now, rng);
        }
        if sample && !self.complete && self.peer_count < PEERS_WANTED {
            let _ = self.commands.try_send(announcer::Command::Hungry);
        }
    }

    fn take_found(&mut self, rng: &mut Rng) {
        while let Ok(found) = self.found.try_recv() {
            for peer in &found {
                match peer.peer_id {
                    Some(id) if self.expected_ids.len() < limits::PEER_LIST_MAX => {
                        self.expected_ids.insert(peer.address, id);
                    }
                    _ => drop(self.expected_ids.remove(&peer.address)),
                }
            }
            let addresses = found.iter().take(limits::TRACKER_REPLY_PEERS_MAX).map(|peer| peer.address);
            self.torrent.peer_list().handle_announced(addresses, Source::Tracker, rng);
        }
    }

    /// A complete torrent opens connections only to those the user named: leechers come by themselves.
    fn connect(&mut self, shared: &Arc<Shared>, now: Time, rng: &mut Rng) {
        let half_open = shared.half_open_count.load(Ordering::Relaxed);
        let open = shared.connection_count.load(Ordering::Relaxed);
        let room = limits::HALF_OPEN_MAX.saturating_sub(half_open).min(shared.connections_max.saturating_sub(open));
        if room == 0 || shared.rings().is_empty() {
            return;
        }
        let chosen = self.torrent.peer_list().poll_connect(now, room, rng);
        for address in chosen {
            let Some((index, ring)) = shared.idlest_ring().and_then(|index| Some((index, shared.rings().get(index)?)))
            else {
                return;
            };
            let command = Command::Connect {
                torrent: self.torrent.clone(),
                address,
                expected_id: self.expected_ids.get(&address).copied(),
                counted: Counted::new(shared, index),
            };
            shared.half_open_count.fetch_add(1, Ordering::Relaxed);
            if ring.commands.try_send(command).is_err() {
                shared.half_open_count.fetch_sub(1, Ordering::Relaxed);
                self.torrent.peer_list().handle_failed(now, address);
            }
        }
    }

    fn steer_choking(&mut self, shared: &Shared, now: Time, sample: bool, rng: &mut Rng) {
        let peers = self.torrent.peers();
        let gone = peers.len() < self.peer_count;
        self.peer_count = peers.len();
        if sample || gone {
            self.rates.retain(|key, _| peers.iter().any(|peer| peer.key == *key));
        }
        for peer in peers.iter().filter(|_| sample) {
            let rates = self
                .rates
                .entry(peer.key)
                .or_insert_with(|| PeerRates { download: RateMeter::new(now), upload: RateMeter::new(now) });
            rates.download.handle_total(now, peer.downloaded.load(Ordering::Relaxed));
            rates.upload.handle_total(now, peer.uploaded.load(Ordering::Relaxed));
        }
        let due: Vec<u32> = peers
            .iter()
            .filter(|peer| peer.choker_due.swap(false, Ordering::AcqRel) && peer.interested.load(Ordering::Relaxed))
            .map(|peer| peer.key)
            .collect();
        let round = now >= self.choker.poll_timeout();
        if !round && due.is_empty() && !gone {
            return;
        }
        let complete = self.torrent.swarm.pieces.is_complete();
        let mut changed = false;
        if round {
            let changes = self.choker.handle_timeout(now, &self.views(&peers, now), complete, rng);
            changed |= apply(&peers, &changes);
        }
        for key in due {
            let changes = self.choker.handle_interested(u64::from(key), &self.views(&peers, now), complete);
            changed |= apply(&peers, &changes);
        }
        if gone {
            let changes = self.choker.handle_disconnected(&self.views(&peers, now), complete);
            changed |= apply(&peers, &changes);
        }
        if changed {
            shared.spread_news();
        }
    }

    fn status(&self, now: Time, with_peers: bool) -> TorrentStatus {
        let rates = |peer: &PeerShared| {
            let rates = self.rates.get(&peer.key);
            rates.map_or((0, 0), |rates| (rates.upload.bytes_per_s(now), rates.download.bytes_per_s(now)))
        };
        monitor::torrent_status(&self.torrent, with_peers, rates)
    }

    fn views(&self, peers: &[Arc<PeerShared>], now: Time) -> Vec<PeerView> {
        let rate = |meter: fn(&PeerRates) -> &RateMeter, key| {
            self.rates.get(&key).map_or(0, |rates| meter(rates).bytes_per_s(now))
        };
        let view = |peer: &Arc<PeerShared>| PeerView {
            key: u64::from(peer.key),
            interested: peer.interested.load(Ordering::Relaxed),
            choked: !peer.is_unchoked(),
            snubbed: peer.snubbed.load(Ordering::Relaxed),
            download_rate: rate(|rates| &rates.download, peer.key),
            upload_rate: rate(|rates| &rates.upload, peer.key),
        };
        peers.iter().map(view).collect()
    }
}

fn apply(peers: &[Arc<PeerShared>], changes: &Changes) -> bool {
    for (keys, unchoke) in [(&changes.choke, false), (&changes.unchoke, true)] {
        for peer in peers.iter().filter(|peer| keys.contains(&u64::from(peer.key))) {
            peer.unchoke.store(unchoke, Ordering::Relaxed);
        }
    }
    !changes.is_empty()
}

/// Totals over the last moments, for the rates that people see.
#[derive(Default)]
struct ShownRates(VecDeque<(Time, u64, u64)>);

impl ShownRates {
    #[expect(clippy::cast_precision_loss, reason = "a rate is a measurement")]
    fn snapshot(&mut self, steered: &[Steered], now: Time, peer_count: usize) -> Snapshot {
        let mut snapshot = snapshot(steered.iter().map(|one| &*one.torrent));
        snapshot.peer_count = peer_count;
        self.0.push_back((now, snapshot.downloaded, snapshot.uploaded));
        while self.0.front().is_some_and(|(at, ..)| *at + SHOWN_RATE_WINDOW < now) {
            self.0.pop_front();
        }
        if let Some(&(at, downloaded, uploaded)) = self.0.front() {
            let seconds = (now - at).as_secs_f64().max(TICK.as_secs_f64());
            snapshot.down_bytes_per_s = (snapshot.downloaded - downloaded) as f64 / seconds;
            snapshot.up_bytes_per_s = (snapshot.uploaded - uploaded) as f64 / seconds;
        }
        snapshot
    }
}

/// The totals of these torrents.
pub(super) fn snapshot<'a>(torrents: impl Iterator<Item = &'a Torrent>) -> Snapshot {
    let mut sum = Snapshot { copies: usize::MAX, ..Snapshot::default() };
    for torrent in torrents {
        sum.copies = sum.copies.min(torrent.copies());
        let totals = &torrent.swarm.totals;
        sum.have_len += torrent.swarm.geometry.total_len() - torrent.swarm.pieces.left();
        sum.downloaded += totals.downloaded.load(Ordering::Relaxed);
        sum.uploaded += totals.uploaded.load(Ordering::Relaxed);
        sum.wasted += totals.wasted.load(Ordering::Relaxed);
        sum.corrupt += totals.corrupt.load(Ordering::Relaxed);
    }
    sum
}
