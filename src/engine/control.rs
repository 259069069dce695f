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
use crate::swarm::peer_list::Source;
use crate::swarm::steering::Steering;

/// How often progress is shown and the stop flag is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often memory is measured, a record is due, and a download that lacks peers says so to its trackers.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Progress shows the rate of this long.
const SHOWN_RATE_WINDOW: Duration = Duration::from_secs(3);

/// How a session came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Complete,
    Stopped,
    Failed,
    NoPeers,
    /// Those there were are banned, and nobody can tell of others.
    AllBanned,
}

/// One torrent's part of the control thread.
struct Steered {
    torrent: Arc<Torrent>,
    steering: Steering,
    peer_count: usize,
    expected_ids: HashMap<SocketAddr, PeerId>,
    commands: mpsc::Sender<announcer::Command>,
    found: mpsc::Receiver<Vec<Found>>,
    announcer: JoinHandle<()>,
    has_trackers: bool,
    complete: bool,
    reorder_at: Time,
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
        let announce = Announce::new(tiers, torrent.swarm.pieces.has_all(), &mut rng);
        let has_trackers = announce.has_trackers();
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
        let one = Steered::new(torrent, config, commands, found, announcer, shared.now(), &mut rng);
        steered.push(Steered { has_trackers, ..one });
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
    let (mut looked_at, mut pictured_at) = (Time::ZERO, Time::ZERO);
    let mut alone_since = shared.now();
    loop {
        let ticked = tokio::select! {
            () = shared.control.notified() => false,
            _ = tick.tick() => true,
        };
        let now = shared.now();
        let look = now >= looked_at + LOOK_INTERVAL;
        if look {
            looked_at = now;
            shared.counters.sample_memory();
        }
        for one in steered.iter_mut().filter(|one| !one.torrent.has_failed()) {
            one.step(shared, config, now, look, rng);
        }
        let peer_count = steered.iter().map(|one| one.peer_count).sum();
        if ticked || stop.load(Ordering::Relaxed) {
            let snapshot = Snapshot { port: shared.listen_port, ..shown.snapshot(steered, now, peer_count) };
            observer(&snapshot);
            if let Some(monitor) = config.monitor.as_deref().filter(|_| now >= pictured_at + LOOK_INTERVAL) {
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
        if steered.iter().all(Steered::is_hopeless) {
            return Outcome::AllBanned;
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
            has_trackers: false,
            complete: torrent.swarm.pieces.is_complete(),
            torrent,
            steering: Steering::new(config.slots, now),
            peer_count: 0,
            expected_ids: HashMap::new(),
            commands,
            found,
            announcer,
            reorder_at: now,
        }
    }

    fn step(&mut self, shared: &Arc<Shared>, config: &Config, now: Time, look: bool, rng: &mut Rng) {
        self.take_found(rng);
        self.steer_choking(shared, now, rng);
        if now >= self.reorder_at {
            self.reorder_at = now + limits::ORDER_INTERVAL;
            self.torrent.swarm.reorder_if_changed(rng);
        }
        if !self.complete && self.torrent.swarm.pieces.is_complete() {
            self.complete = true;
            // To a tracker it is a matter of the whole.
            if self.torrent.swarm.pieces.has_all() {
                let _ = self.commands.try_send(announcer::Command::Complete);
            }
        }
        // Who has everything waits to be connected to: what it would gain is only others' gain to seek.
        if !self.complete || config.keep_seeding {
            self.connect(shared, now, rng);
        }
        if let Some(checkpoint) = self.torrent.checkpoint.as_ref().filter(|_| look) {
            checkpoint.begin_when_due(shared, &self.torrent);
        }
        if look && !self.complete && self.peer_count < limits::CONNECTIONS_SOUGHT {
            let _ = self.commands.try_send(announcer::Command::Hungry);
        }
    }

    /// Nothing can come any more but by chance.
    fn is_hopeless(&self) -> bool {
        !self.complete && !self.has_trackers && self.torrent.peer_list().is_hopeless()
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
        let sought = if self.complete { usize::MAX } else { limits::CONNECTIONS_SOUGHT };
        let room = limits::HALF_OPEN_MAX
            .saturating_sub(half_open)
            .min(shared.connections_max.saturating_sub(open))
            .min(sought.saturating_sub(self.peer_count + half_open));
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

    fn steer_choking(&mut self, shared: &Shared, now: Time, rng: &mut Rng) {
        let peers = self.torrent.peers();
        self.peer_count = peers.len();
        let mut changed = self.steering.step(now, &peers, self.torrent.swarm.pieces.is_complete(), rng);
        let open = shared.connection_count.load(Ordering::Relaxed);
        if open * 10 >= shared.connections_max * limits::CROWDED_TENTHS
            && let Some(peer) = self.steering.find_useless(now, &peers)
        {
            peer.dismissed.store(true, Ordering::Relaxed);
            changed = true;
        }
        if changed {
            shared.spread_news();
        }
    }

    fn status(&self, now: Time, with_peers: bool) -> TorrentStatus {
        monitor::torrent_status(&self.torrent, with_peers, |peer| self.steering.rates(now, peer))
    }
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
        sum.have_len += torrent.wanted_len.saturating_sub(torrent.swarm.pieces.wanted_left());
        sum.downloaded += totals.downloaded.load(Ordering::Relaxed);
        sum.uploaded += totals.uploaded.load(Ordering::Relaxed);
        sum.wasted += totals.wasted.load(Ordering::Relaxed);
        sum.corrupt += totals.corrupt.load(Ordering::Relaxed);
    }
    sum
}
