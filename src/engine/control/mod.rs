//! The control thread: trackers, choking, connecting, the order of pieces, progress and the end.
//!
//! A torrent is looked at when it asks for it ([`Shared::attend`]) and when its time has come, so that one without peers
//! costs nothing.

mod checkpoints;
pub(in crate::engine) mod prepare;
mod status;
mod torrent_driver;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::base::{InfoHash, Rng, Time, limits};
use crate::engine::config::{Change, Changes, Config};
use crate::engine::control::prepare::prepare;
use crate::engine::control::torrent_driver::{Announcing, REVIEW_INTERVAL, TICK, TorrentDriver};
use crate::engine::metrics::monitor::Snapshot;
use crate::engine::report::HungUp;
use crate::engine::shared::Shared;
use crate::engine::torrent::Torrent;
use crate::engine::trackers::announcer::{self, Found};
use crate::engine::trackers::http::Fetcher;

/// Progress shows the rate of this long.
const SHOWN_RATE_WINDOW: Duration = Duration::from_secs(3);
/// Peers that trackers told of and nobody has taken: so many announces' worth.
const FOUND_WAITING_MAX: usize = 256;

/// How a session came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Outcome {
    Complete,
    Stopped,
    Failed,
    NoPeers(Option<HungUp>),
    /// Those there were are banned, and nobody can tell of others.
    AllBanned,
}

/// What the control thread keeps.
struct Control<'a> {
    shared: &'a Arc<Shared>,
    config: &'a Config,
    announcing: Announcing,
    /// By the torrents' numbers.
    drivers: BTreeMap<u32, TorrentDriver>,
    due: BTreeSet<(Time, u32)>,
    busy: BTreeSet<u32>,
    found: mpsc::Receiver<(u32, Vec<Found>)>,
    next_number: u32,
    peer_count: usize,
    /// Announcers that say goodbye.
    leaving: Vec<JoinHandle<()>>,
    /// What torrents moved that were dropped.
    gone: Snapshot,
    /// Of the torrents that are not busy; `None`: to be counted anew.
    quiet: Option<Snapshot>,
    rng: Rng,
}

/// See the module. Runs on the control thread's runtime until the session is over; tells what all torrents moved.
pub(in crate::engine) async fn run(
    shared: &Arc<Shared>,
    config: &Config,
    torrents: Vec<(Arc<Torrent>, Vec<Vec<String>>)>,
    changes: Option<Changes>,
    stop: &AtomicBool,
    observer: &mut dyn FnMut(&Snapshot),
) -> (Outcome, Snapshot) {
    let (sender, found) = mpsc::channel(FOUND_WAITING_MAX);
    let mut control = Control {
        shared,
        config,
        announcing: Announcing {
            slots: announcer::announce_slots(),
            fetcher: Fetcher::new(config.egress()).trusting(Arc::clone(&config.users_trackers)),
            found: sender,
        },
        drivers: BTreeMap::new(),
        due: BTreeSet::new(),
        busy: BTreeSet::new(),
        found,
        next_number: 0,
        peer_count: 0,
        leaving: Vec::new(),
        gone: Snapshot::default(),
        quiet: None,
        rng: Rng::new(),
    };
    for (torrent, tiers) in torrents {
        control.add(torrent, tiers);
    }
    let outcome = control.run(changes, stop, observer).await;
    let leaving = std::mem::take(&mut control.leaving);
    let announcers: Vec<_> = control.drivers.values_mut().filter_map(TorrentDriver::stop).collect();
    for announcer in leaving.into_iter().chain(announcers) {
        let _ = tokio::time::timeout(limits::TRACKER_STOP_TIMEOUT, announcer).await;
    }
    (outcome, control.gone)
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
        let (mut looked_at, mut pictured_at) = (Time::ZERO, Time::ZERO);
        let mut alone_since = self.shared.now();
        let mut has_reported_hung_up = false;
        loop {
            let (mut ticked, mut change) = (false, None);
            tokio::select! {
                () = self.shared.control.notified() => {}
                Some((number, found)) = self.found.recv() => self.take_found(number, &found),
                Some(one) = next_change(&mut changes) => change = Some(one),
                _ = tick.tick() => ticked = true,
            }
            if let Some(change) = change {
                self.handle_changes(change, changes.as_mut());
            }
            let now = self.shared.now();
            if now >= looked_at + REVIEW_INTERVAL {
                looked_at = now;
                self.shared.counters.sample_memory();
                if !has_reported_hung_up
                    && now >= alone_since + limits::HUNG_UP_NOTICE
                    && let Some(hung_up) = self.hung_up()
                {
                    warn!("no peers yet: {hung_up}");
                    has_reported_hung_up = true;
                }
            }
            self.step(now);
            if ticked || stop.load(Ordering::Relaxed) {
                let snapshot = self.snapshot(&mut shown, now);
                observer(&snapshot);
                if let Some(monitor) = self.config.monitor.as_deref().filter(|_| now >= pictured_at + REVIEW_INTERVAL) {
                    pictured_at = now;
                    let with_peers = monitor.take_peer_request();
                    let torrents = self.drivers.values_mut().map(|one| one.status(now, with_peers)).collect();
                    monitor.publish(status::status(self.shared, &snapshot, torrents));
                }
            }
            if self.peer_count > 0 {
                alone_since = now;
            }
            if stop.load(Ordering::Relaxed) {
                return Outcome::Stopped;
            }
            let outcome = self.outcome(now, alone_since);
            if let Some(outcome) = outcome.filter(|_| changes.is_none()) {
                if outcome == Outcome::Complete {
                    observer(&self.snapshot(&mut shown, now));
                }
                return outcome;
            }
        }
    }

    /// The peers of what lacks pieces that closed their connections at our handshake.
    fn hung_up(&self) -> Option<HungUp> {
        let incomplete = self.drivers.values().filter(|one| !one.is_complete());
        HungUp::new(incomplete.map(|one| one.torrent.peers.list().hung_up_count()).sum())
    }

    fn outcome(&self, now: Time, alone_since: Time) -> Option<Outcome> {
        let mut torrents = self.drivers.values();
        if torrents.all(|one| one.torrent.has_failed()) {
            return Some(Outcome::Failed);
        }
        if !self.config.keep_seeding && self.drivers.values().all(|one| one.is_complete()) {
            return Some(Outcome::Complete);
        }
        if self.config.timeout.is_some_and(|timeout| now >= alone_since + timeout) {
            return Some(Outcome::NoPeers(self.hung_up()));
        }
        self.drivers.values().all(TorrentDriver::is_hopeless).then_some(Outcome::AllBanned)
    }

    fn add(&mut self, torrent: Arc<Torrent>, tiers: Vec<Vec<String>>) {
        let number = torrent.number;
        self.next_number = self.next_number.max(number + 1);
        let one = TorrentDriver::new(torrent, tiers, self.shared, self.config, &self.announcing, &mut self.rng);
        self.drivers.insert(number, one);
        self.due.insert((Time::ZERO, number));
        self.quiet = None;
    }

    /// One change, and those that wait behind it, up to a bound.
    fn handle_changes(&mut self, first: Change, mut more: Option<&mut Changes>) {
        let mut change = Some(first);
        for _ in 0..limits::CHANGES_AT_ONCE {
            match change {
                Some(Change::Add(source)) => {
                    let name = crate::base::escape::printable(&source.metainfo.info.name);
                    match prepare(*source, self.config, self.shared.page_cache.trusted, self.next_number) {
                        Ok((torrent, tiers)) if self.shared.insert(&torrent) => self.add(torrent, tiers),
                        Ok(_) => warn!("{name}: it is served already"),
                        Err(error) => warn!("{name}: {error}"),
                    }
                }
                Some(Change::Remove(info_hash)) => self.remove(info_hash),
                None => return,
            }
            change = more.as_mut().and_then(|more| more.try_recv().ok());
        }
    }

    /// A torrent is dropped: its trackers are told, its peers are let go, and with the last of them its files.
    fn remove(&mut self, info_hash: InfoHash) {
        let Some(torrent) = self.shared.remove(info_hash) else { return };
        torrent.peers.close();
        self.shared.rings.spread_news();
        if let Some(mut one) = self.drivers.remove(&torrent.number) {
            self.due.remove(&(one.due_at, torrent.number));
            self.busy.remove(&torrent.number);
            self.peer_count -= one.peer_count;
            self.leaving.retain(|announcer| !announcer.is_finished());
            self.leaving.extend(one.stop());
            let copies = self.gone.copies;
            add(&mut self.gone, &torrent);
            self.gone.copies = copies;
            self.quiet = None;
        }
    }

    fn take_found(&mut self, number: u32, found: &[Found]) {
        if let Some(one) = self.drivers.get_mut(&number) {
            one.take_found(found, &mut self.rng);
            self.shared.control.wake(&one.torrent);
        }
    }

    /// Looks at the torrents that ask for it and at those whose time has come.
    fn step(&mut self, now: Time) {
        while let Ok((number, found)) = self.found.try_recv() {
            self.take_found(number, &found);
        }
        for number in self.shared.control.take_woken() {
            if let Some(one) = self.drivers.get_mut(&number) {
                one.torrent.clear_wake();
                self.due.remove(&(one.due_at, number));
                one.due_at = now;
                self.due.insert((now, number));
            }
        }
        while let Some(&(at, number)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            let Some(one) = self.drivers.get_mut(&number) else { continue };
            let before = one.peer_count;
            one.due_at = one.step(self.shared, self.config, now, &mut self.rng);
            self.peer_count = self.peer_count + one.peer_count - before;
            if one.due_at < Time::MAX {
                self.due.insert((one.due_at, number));
            }
            let is_busy = one.due_at <= now + TICK;
            let changed = if is_busy { self.busy.insert(number) } else { self.busy.remove(&number) };
            if changed || !is_busy {
                self.quiet = None;
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate is a measurement")]
    fn snapshot(&mut self, shown: &mut ShownRates, now: Time) -> Snapshot {
        let (drivers, busy, gone) = (&self.drivers, &self.busy, self.gone);
        let mut sum = *self.quiet.get_or_insert_with(|| {
            let quiet = drivers.iter().filter(|(number, _)| !busy.contains(number));
            let mut sum = Snapshot { copies: usize::MAX, ..gone };
            quiet.for_each(|(_, one)| add(&mut sum, &one.torrent));
            sum
        });
        for one in self.busy.iter().filter_map(|number| self.drivers.get(number)) {
            add(&mut sum, &one.torrent);
        }
        if self.drivers.is_empty() {
            sum.copies = 0;
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

/// `None` where nothing changes, or no more.
async fn next_change(changes: &mut Option<Changes>) -> Option<Change> {
    let change = changes.as_mut()?.recv().await;
    if change.is_none() {
        *changes = None;
    }
    change
}

/// Totals over the last moments, for the rates that people see.
#[derive(Default)]
struct ShownRates(VecDeque<(Time, u64, u64)>);

impl ShownRates {
    /// The totals from which a rate is to be taken.
    fn since(&mut self, now: Time, sum: &Snapshot) -> Option<(Time, u64, u64)> {
        self.0.push_back((now, sum.downloaded, sum.uploaded));
        while self.0.front().is_some_and(|(at, ..)| *at + SHOWN_RATE_WINDOW < now) {
            self.0.pop_front();
        }
        self.0.front().copied()
    }
}

/// Adds the totals of one more torrent.
pub(in crate::engine) fn add(sum: &mut Snapshot, torrent: &Torrent) {
    sum.copies = sum.copies.min(torrent.copies());
    let totals = &torrent.swarm.totals;
    sum.have_len += torrent.wanted_len.saturating_sub(torrent.swarm.pieces.wanted_left());
    sum.downloaded += totals.downloaded.load(Ordering::Relaxed);
    sum.uploaded += totals.uploaded.load(Ordering::Relaxed);
    sum.wasted += totals.wasted.load(Ordering::Relaxed);
    sum.corrupt += totals.corrupt.load(Ordering::Relaxed);
}
