//! The control thread: trackers, choking, connecting, the order of pieces, progress and the end of the session.
//!
//! A torrent is stepped when it was woken ([`crate::engine::shared::ControlWaker::wake`]) and when its deadline has
//! passed, so that a torrent without peers costs nothing. The decisions about one torrent are
//! `swarm::torrent_control`'s; `torrent_driver` carries them out.

mod checkpoints;
mod leavers;
pub(in crate::engine) mod prepare;
mod status;
mod torrent_driver;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::base::escape::printable;
use crate::base::{InfoHash, Rng, Time, TimerTable, limits};
use crate::engine::changes::{Change, ChangeRequest, Changes, Channels, Made};
use crate::engine::conclusion::{Outcome, all_banned, depart};
use crate::engine::config::{Config, Source};
use crate::engine::control::leavers::Leavers;
use crate::engine::control::prepare::prepare;
use crate::engine::control::torrent_driver::{Announcing, REVIEW_INTERVAL, TICK, TorrentDriver};
use crate::engine::metrics::monitor::{Snapshot, Status};
use crate::engine::metrics::usage::Threads;
use crate::engine::report::{Departure, HungUp};
use crate::engine::ring::piece_writer;
use crate::engine::shared::Shared;
use crate::engine::torrent::Torrent;
use crate::engine::trackers::announcer::{self, Found};
use crate::engine::trackers::http::Fetcher;

/// The window over which the displayed rates are averaged.
const SHOWN_RATE_WINDOW: Duration = Duration::from_secs(3);
/// The number of tracker replies whose peers may wait for the control thread.
const FOUND_WAITING_MAX: usize = 256;

/// The end of a session.
pub(in crate::engine) struct Conclusion {
    pub(in crate::engine) outcome: Outcome,
    /// Totals of the torrents that were removed.
    pub(in crate::engine) removed: Snapshot,
    /// Threads that save downloads which have left.
    pub(in crate::engine) departing: Vec<thread::JoinHandle<()>>,
}

/// The deadlines of the session itself; each torrent has its own.
#[derive(Debug, Clone, Copy)]
enum Timer {
    /// Memory is measured, and peers that hung up may be reported.
    Review,
    /// The monitor gets a new status.
    Status,
    /// No peer was connected for a while: the next review reports peers that hung up.
    HungUpNotice,
    /// No peer was connected for the timeout of the session.
    NoPeers,
}

impl From<Timer> for usize {
    fn from(timer: Timer) -> Self {
        timer as Self
    }
}

/// Whether torrents may still be added to the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inflow {
    Open,
    Closed,
}

/// The state of the control thread.
struct Control<'a> {
    shared: &'a Arc<Shared>,
    config: &'a Config,
    announcing: Announcing,
    /// By torrent number.
    drivers: BTreeMap<u32, TorrentDriver>,
    /// Torrents by their next deadline.
    due: BTreeSet<(Time, u32)>,
    /// Torrents that are due again within a tick.
    busy: BTreeSet<u32>,
    found: mpsc::Receiver<(u32, Vec<Found>)>,
    next_number: u32,
    peer_count: usize,
    timers: TimerTable<Timer, 4>,
    has_reported_hung_up: bool,
    /// Announcers that are telling their trackers that we leave.
    leaving: HashMap<InfoHash, JoinHandle<()>>,
    leavers: Leavers,
    /// Totals of the torrents that were removed.
    removed: Snapshot,
    /// Totals of `removed` and of the torrents that are not busy; `None` if they must be summed again.
    quiet: Option<Snapshot>,
    rng: Rng,
}

/// Runs the control thread until the session ends, on that thread's runtime.
pub(in crate::engine) async fn run(
    shared: &Arc<Shared>,
    config: &Config,
    torrents: Vec<(Arc<Torrent>, Vec<Vec<String>>)>,
    channels: Channels,
    stop: &AtomicBool,
    observer: &mut dyn FnMut(&Snapshot),
) -> Conclusion {
    let Channels { changes, departures } = channels;
    let (sender, found) = mpsc::channel(FOUND_WAITING_MAX);
    let mut control = Control {
        shared,
        config,
        announcing: Announcing {
            permits: announcer::announce_permits(),
            fetcher: Fetcher::new(config.egress()).trusting(Arc::clone(&config.users_trackers)),
            found: sender,
        },
        drivers: BTreeMap::new(),
        due: BTreeSet::new(),
        busy: BTreeSet::new(),
        found,
        next_number: 0,
        peer_count: 0,
        timers: TimerTable::default(),
        has_reported_hung_up: false,
        leaving: HashMap::new(),
        leavers: Leavers::new(departures),
        removed: Snapshot::default(),
        quiet: None,
        rng: Rng::new(),
    };
    for (torrent, tiers) in torrents {
        control.add(torrent, tiers);
    }
    let outcome = control.run(changes, stop, observer).await;
    let leaving = std::mem::take(&mut control.leaving);
    let announcers: Vec<_> = control.drivers.values_mut().filter_map(TorrentDriver::stop).collect();
    for announcer in leaving.into_values().chain(announcers) {
        let _ = tokio::time::timeout(limits::TRACKER_STOP_TIMEOUT, announcer).await;
    }
    Conclusion { outcome, removed: control.removed, departing: control.leavers.into_threads() }
}

impl Control<'_> {
    async fn run(
        &mut self,
        mut changes: Option<Changes>,
        stop: &AtomicBool,
        observer: &mut dyn FnMut(&Snapshot),
    ) -> Outcome {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut shown = ShownRates::default();
        self.timers.set(Timer::Review, REVIEW_INTERVAL);
        self.timers.set(Timer::Status, REVIEW_INTERVAL);
        self.restart_peer_timers(self.shared.now());
        loop {
            let (mut ticked, mut change) = (false, None);
            tokio::select! {
                () = self.shared.control.notified() => {}
                Some((number, found)) = self.found.recv() => self.take_found(number, &found),
                Some(next) = next_change(&mut changes) => change = Some(next),
                _ = tick.tick() => ticked = true,
            }
            if let Some(change) = change {
                self.handle_changes(change, changes.as_mut());
            }
            let now = self.shared.now();
            self.review(now);
            self.step(now);
            self.let_depart(if changes.is_some() { Inflow::Open } else { Inflow::Closed });
            if ticked || stop.load(Ordering::Relaxed) {
                let snapshot = self.snapshot(&mut shown, now);
                observer(&snapshot);
                if let Some(monitor) = self.config.monitor.as_deref()
                    && self.timers.take_due(Timer::Status, now, REVIEW_INTERVAL)
                {
                    let with_peers = monitor.take_peer_request();
                    let torrents = self.drivers.values_mut().map(|driver| driver.status(now, with_peers)).collect();
                    monitor.publish(Status {
                        has_peer_lists: with_peers,
                        up_limit: self.config.rates.up,
                        ..status::status(self.shared, &snapshot, torrents)
                    });
                }
            }
            if self.peer_count > 0 {
                self.restart_peer_timers(now);
            }
            if stop.load(Ordering::Relaxed) {
                return Outcome::Stopped;
            }
            if self.shared.rings.has_lost_one() {
                return Outcome::RingLost;
            }
            let outcome = self.outcome(now);
            if let Some(outcome) = outcome.filter(|_| changes.is_none()) {
                if outcome == Outcome::Complete {
                    observer(&self.snapshot(&mut shown, now));
                }
                return outcome;
            }
        }
    }

    /// A peer is connected, or the session starts.
    fn restart_peer_timers(&mut self, now: Time) {
        self.timers.set(Timer::HungUpNotice, now + limits::HUNG_UP_NOTICE);
        if let Some(timeout) = self.config.timeout {
            self.timers.set(Timer::NoPeers, now + timeout);
        }
    }

    /// Measures memory, and reports peers that hung up, once in the session, if no peer was connected for a while.
    fn review(&mut self, now: Time) {
        if !self.timers.take_due(Timer::Review, now, REVIEW_INTERVAL) {
            return;
        }
        self.shared.counters.sample_memory();
        if !self.has_reported_hung_up
            && self.timers.is_due(Timer::HungUpNotice, now)
            && let Some(hung_up) = self.hung_up()
        {
            warn!("no peers yet: {hung_up}");
            self.has_reported_hung_up = true;
        }
    }

    /// The peers of incomplete torrents that closed their connections at our handshake.
    fn hung_up(&self) -> Option<HungUp> {
        let incomplete = self.drivers.values().filter(|driver| !driver.is_complete());
        HungUp::new(incomplete.map(|driver| driver.torrent.peers.list().hung_up_count()).sum())
    }

    /// Returns the outcome if the session has ended.
    fn outcome(&self, now: Time) -> Option<Outcome> {
        if self.leavers.are_reported() && self.are_all_done() {
            return Some(Outcome::Complete);
        }
        if self.drivers.values().all(|driver| driver.torrent.has_failed()) {
            return Some(Outcome::Failed);
        }
        self.timers.is_due(Timer::NoPeers, now).then(|| Outcome::NoPeers(self.hung_up()))
    }

    /// Whether every download is complete and none is to be seeded.
    fn are_all_done(&self) -> bool {
        let is_done = |driver: &TorrentDriver| driver.is_complete() && !driver.torrent.has_failed();
        self.drivers.is_empty() || !self.config.keep_seeding && self.drivers.values().all(is_done)
    }

    /// Removes the downloads that are complete, unless they are to be seeded, and those that cannot go on. The last ones
    /// end with the session, so that their reports have the counts of all threads.
    fn let_depart(&mut self, inflow: Inflow) {
        if !self.leavers.are_reported() || inflow == Inflow::Closed && self.are_all_done() {
            return;
        }
        let keep_seeding = self.config.keep_seeding;
        let has_ended = |driver: &&TorrentDriver| {
            driver.torrent.has_failed() || driver.is_hopeless() || driver.is_complete() && !keep_seeding
        };
        let leave = |driver: &TorrentDriver| {
            let torrent = driver.torrent.clone();
            let error = driver.is_hopeless().then(|| all_banned(&torrent));
            (torrent, error)
        };
        let ended: Vec<_> = self.drivers.values().filter(has_ended).map(leave).collect();
        for (torrent, error) in ended {
            let (shared, leaver) = (Arc::clone(self.shared), torrent.clone());
            // If the thread could not be started, the next step tries again.
            if self.leavers.send(move || depart(&shared, &leaver, error, Threads::of_this_process())) {
                self.remove(torrent.info_hash);
            }
        }
    }

    fn add(&mut self, torrent: Arc<Torrent>, tiers: Vec<Vec<String>>) {
        let number = torrent.number;
        if self.config.preallocate && !torrent.swarm.pieces.is_complete() {
            let (session, torrent) = (Arc::clone(self.shared), Arc::clone(&torrent));
            self.shared.files.spawn(move || piece_writer::preallocate(&session, &torrent));
        }
        self.next_number = self.next_number.max(number + 1);
        let earlier = self.leaving.remove(&torrent.info_hash);
        let driver =
            TorrentDriver::new(torrent, tiers, earlier, self.shared, self.config, &self.announcing, &mut self.rng);
        self.drivers.insert(number, driver);
        self.due.insert((Time::ZERO, number));
        self.quiet = None;
        // A torrent that comes late has the whole time to find its first peer.
        self.restart_peer_timers(self.shared.now());
    }

    /// Makes one change and those queued behind it, up to a limit.
    fn handle_changes(&mut self, first: ChangeRequest, mut more: Option<&mut Changes>) {
        self.handle_request(first);
        for _ in 1..limits::CHANGES_AT_ONCE {
            let Some(request) = more.as_mut().and_then(|more| more.try_recv()) else { return };
            self.handle_request(request);
        }
    }

    fn handle_request(&mut self, request: ChangeRequest) {
        let ChangeRequest { change, made } = request;
        if self.handle_change(change) == Made::Yes
            && let Some(made) = made
        {
            // There is room for the only message. Fails if the sender of the change does not wait.
            let _ = made.try_send(());
        }
    }

    fn handle_change(&mut self, change: Change) -> Made {
        match change {
            Change::Add(source) => {
                let Some((torrent, tiers)) = self.prepare(*source) else { return Made::No };
                self.insert(torrent, tiers)
            }
            Change::Restart(source) => {
                let Some((torrent, tiers)) = self.prepare(*source) else { return Made::No };
                self.remove(torrent.info_hash);
                self.insert(torrent, tiers)
            }
            Change::Remove(info_hash) => {
                self.remove(info_hash);
                self.shared.forget_hosts(info_hash);
                Made::Yes
            }
        }
    }

    /// Opens a torrent and returns it with its trackers, or reports why it cannot be opened.
    fn prepare(&mut self, source: Source) -> Option<(Arc<Torrent>, Vec<Vec<String>>)> {
        let name = printable(&source.metainfo.info.name);
        let info_hash = source.metainfo.info_hash;
        match prepare(source, self.config, self.shared.page_cache.trusted, self.next_number) {
            Ok(opened) => return Some(opened),
            Err(error) if self.leavers.are_reported() => {
                let _ = self.leavers.send(move || Departure { info_hash, result: Err(error) });
            }
            Err(error) => warn!("{name}: {error}"),
        }
        None
    }

    fn insert(&mut self, torrent: Arc<Torrent>, tiers: Vec<Vec<String>>) -> Made {
        if !self.shared.insert(&torrent) {
            warn!("{}: already served", torrent.name);
            return Made::No;
        }
        self.add(torrent, tiers);
        Made::Yes
    }

    /// Removes a torrent: tells its trackers and closes its connections. Its files are closed with the last connection.
    fn remove(&mut self, info_hash: InfoHash) {
        let Some(torrent) = self.shared.remove(info_hash) else { return };
        torrent.peers.close();
        self.shared.rings.spread_news();
        if let Some(mut driver) = self.drivers.remove(&torrent.number) {
            self.due.remove(&(driver.due_at, torrent.number));
            self.busy.remove(&torrent.number);
            self.peer_count -= driver.peer_count;
            self.leaving.retain(|_, announcer| !announcer.is_finished());
            self.leaving.extend(driver.stop().map(|announcer| (info_hash, announcer)));
            torrent.add_totals(&mut self.removed);
            self.removed.known_peer_count = 0;
            self.quiet = None;
        }
    }

    fn take_found(&mut self, number: u32, found: &[Found]) {
        if let Some(driver) = self.drivers.get_mut(&number) {
            driver.take_found(found, &mut self.rng);
            self.shared.control.wake(&driver.torrent);
        }
    }

    /// Steps the torrents that were woken and those that are due.
    fn step(&mut self, now: Time) {
        while let Ok((number, found)) = self.found.try_recv() {
            self.take_found(number, &found);
        }
        for number in self.shared.control.take_woken() {
            if let Some(driver) = self.drivers.get_mut(&number) {
                driver.torrent.clear_wake();
                self.due.remove(&(driver.due_at, number));
                driver.due_at = now;
                self.due.insert((now, number));
            }
        }
        while let Some(&(at, number)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            let Some(driver) = self.drivers.get_mut(&number) else { continue };
            let before = driver.peer_count;
            driver.due_at = driver.step(self.shared, self.config, now, &mut self.rng);
            self.peer_count = self.peer_count + driver.peer_count - before;
            if driver.due_at < Time::MAX {
                self.due.insert((driver.due_at, number));
            }
            let is_busy = driver.due_at <= now + TICK;
            let changed = if is_busy { self.busy.insert(number) } else { self.busy.remove(&number) };
            if changed || !is_busy {
                self.quiet = None;
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate is a measurement")]
    fn snapshot(&mut self, shown: &mut ShownRates, now: Time) -> Snapshot {
        let (drivers, busy, removed) = (&self.drivers, &self.busy, self.removed);
        let mut sum = *self.quiet.get_or_insert_with(|| {
            let quiet = drivers.iter().filter(|(number, _)| !busy.contains(number));
            let mut sum = removed;
            quiet.for_each(|(_, driver)| driver.torrent.add_totals(&mut sum));
            sum
        });
        for driver in self.busy.iter().filter_map(|number| self.drivers.get(number)) {
            driver.torrent.add_totals(&mut sum);
        }
        (sum.port, sum.peer_count) = (self.shared.endpoint.listen_port, self.peer_count);
        if let Some((at, downloaded, uploaded)) = shown.since(now, &sum) {
            let seconds = (now - at).as_secs_f64().max(TICK.as_secs_f64());
            sum.down_bytes_per_s = sum.downloaded.saturating_sub(downloaded) as f64 / seconds;
            sum.up_bytes_per_s = sum.uploaded.saturating_sub(uploaded) as f64 / seconds;
        }
        sum
    }
}

/// Returns `None` if the session takes no changes or the channel is closed.
async fn next_change(changes: &mut Option<Changes>) -> Option<ChangeRequest> {
    let change = changes.as_mut()?.recv().await;
    if change.is_none() {
        *changes = None;
    }
    change
}

/// Recent totals, from which the displayed rates are computed.
#[derive(Default)]
struct ShownRates(VecDeque<(Time, u64, u64)>);

impl ShownRates {
    /// Adds the current totals. Returns the time, downloaded and uploaded bytes of the oldest totals in the window.
    fn since(&mut self, now: Time, sum: &Snapshot) -> Option<(Time, u64, u64)> {
        self.0.push_back((now, sum.downloaded, sum.uploaded));
        while self.0.front().is_some_and(|(at, ..)| *at + SHOWN_RATE_WINDOW < now) {
            self.0.pop_front();
        }
        self.0.front().copied()
    }
}
