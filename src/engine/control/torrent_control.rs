//! One torrent's part of the control thread.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::announce::Announce;
use crate::base::{PeerId, Rng, Time, host_of, limits};
use crate::engine::config::Config;
use crate::engine::control::{checkpoints, status};
use crate::engine::metrics::monitor::TorrentStatus;
use crate::engine::shared::{Command, Counted, HalfOpen, Shared};
use crate::engine::torrent::Torrent;
use crate::engine::trackers::announcer::{self, Finds, Found, Identity, Totals};
use crate::engine::trackers::http::Fetcher;
use crate::swarm::PeerShared;
use crate::swarm::choke_driver::ChokeDriver;
use crate::swarm::peer_list::Source;

/// How often progress is shown, the stop flag is looked at, and a busy torrent.
pub(in crate::engine) const TICK: Duration = Duration::from_millis(50);
/// How often memory is measured, and a torrent looked at that has peers and nothing to do.
pub(in crate::engine) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What the announcers of all torrents share.
pub(in crate::engine) struct Announcing {
    pub(in crate::engine) slots: Arc<Semaphore>,
    pub(in crate::engine) fetcher: Fetcher,
    pub(in crate::engine) found: mpsc::Sender<(u32, Vec<Found>)>,
}

/// See the module.
pub(in crate::engine) struct Steered {
    pub(in crate::engine) torrent: Arc<Torrent>,
    pub(in crate::engine) complete: bool,
    pub(in crate::engine) peer_count: usize,
    /// At so many it stops looking for others.
    sought: usize,
    /// When it is to be looked at next.
    pub(in crate::engine) due_at: Time,
    steering: ChokeDriver,
    expected_ids: HashMap<SocketAddr, PeerId>,
    /// `None`: it has no trackers.
    announcer: Option<(mpsc::Sender<announcer::Command>, JoinHandle<()>)>,
    reorder_at: Time,
    /// Some of its peers are listed as useless.
    offers_room: bool,
    look_at: Time,
    /// When connected peers began to lack all that is still needed.
    unavailable_since: Option<Time>,
    /// The number of such pieces that the user was told of.
    told_unavailable: u32,
    /// The last one, where nothing has changed since.
    status: Option<Arc<TorrentStatus>>,
}

impl Steered {
    pub(in crate::engine) fn new(
        torrent: Arc<Torrent>,
        tiers: Vec<Vec<String>>,
        shared: &Shared,
        config: &Config,
        announcing: &Announcing,
        rng: &mut Rng,
    ) -> Self {
        torrent.peer_list().handle_announced(config.peers.iter().copied(), Source::User, rng);
        let now = shared.now();
        Self {
            announcer: announce(&torrent, tiers, shared, config, announcing, rng),
            complete: torrent.swarm.pieces.is_complete(),
            torrent,
            peer_count: 0,
            sought: limits::CONNECTIONS_SOUGHT,
            due_at: Time::ZERO,
            steering: ChokeDriver::new(config.slots, now),
            expected_ids: HashMap::new(),
            reorder_at: now,
            offers_room: false,
            look_at: now,
            unavailable_since: None,
            told_unavailable: 0,
            status: None,
        }
    }

    /// Its trackers are told that we leave; what to wait for.
    pub(in crate::engine) fn stop(&mut self) -> Option<JoinHandle<()>> {
        let (commands, announcer) = self.announcer.take()?;
        let _ = commands.try_send(announcer::Command::Stop);
        Some(announcer)
    }

    fn tell_announcer(&self, command: announcer::Command) {
        if let Some((commands, _)) = &self.announcer {
            let _ = commands.try_send(command);
        }
    }

    /// Does what is due; returns when to look again.
    pub(in crate::engine) fn step(&mut self, shared: &Arc<Shared>, config: &Config, now: Time, rng: &mut Rng) -> Time {
        self.status = None;
        if self.torrent.has_failed() {
            return Time::MAX;
        }
        let is_wanted = self.steer_choking(shared, now, rng);
        if now >= self.reorder_at {
            self.reorder_at = now + limits::ORDER_INTERVAL;
            self.torrent.swarm.reorder_if_changed(rng);
        }
        if !self.complete && self.torrent.swarm.pieces.is_complete() {
            self.complete = true;
            // To a tracker it is a matter of the whole.
            if self.torrent.swarm.pieces.has_all() {
                self.tell_announcer(announcer::Command::Complete);
            }
        }
        // Who has everything waits to be connected to: what it would gain is only others' gain to seek.
        if !self.complete || config.keep_seeding {
            self.connect(shared, now, rng);
        }
        if now >= self.look_at {
            self.look_at = now + LOOK_INTERVAL;
            checkpoints::begin_when_due(shared, &self.torrent);
            self.report_unavailable(now);
            if !self.complete && self.peer_count < self.sought {
                self.tell_announcer(announcer::Command::Hungry);
            }
        }
        let lacks = !self.torrent.swarm.pieces.is_complete();
        match () {
            () if lacks || is_wanted => now + TICK,
            () if self.peer_count > 0 || self.torrent.checkpoint.is_some() => now + LOOK_INTERVAL,
            () => {
                let retry = self.torrent.peer_list().poll_timeout();
                retry.map_or(Time::MAX, |at| at.max(now + LOOK_INTERVAL))
            }
        }
    }

    /// Tells the user of a download, once for each number of pieces, that the connected peers lack all that it needs.
    fn report_unavailable(&mut self, now: Time) {
        let is_waiting = !self.complete && self.peer_count > 0 && self.torrent.checkpoint.is_some();
        let Some(unavailable) = is_waiting.then(|| self.torrent.swarm.unavailable()).flatten() else {
            self.unavailable_since = None;
            return;
        };
        let since = *self.unavailable_since.get_or_insert(now);
        if now >= since + limits::UNAVAILABLE_NOTICE && self.told_unavailable != unavailable.count {
            self.told_unavailable = unavailable.count;
            warn!("{}: no connected peer offers {unavailable}: waiting for one that does", self.torrent.name);
        }
    }

    /// Nothing can come any more but by chance.
    pub(in crate::engine) fn is_hopeless(&self) -> bool {
        !self.complete && self.announcer.is_none() && self.torrent.peer_list().is_hopeless()
    }

    pub(in crate::engine) fn take_found(&mut self, found: &[Found], rng: &mut Rng) {
        for peer in found {
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

    /// A complete torrent opens connections only to those the user named: leechers come by themselves.
    fn connect(&mut self, shared: &Arc<Shared>, now: Time, rng: &mut Rng) {
        let half_open = shared.half_open_count.load(Ordering::Relaxed);
        let open = shared.connection_count.load(Ordering::Relaxed);
        let sought = if self.complete { usize::MAX } else { self.sought };
        let places = limits::HALF_OPEN_MAX.saturating_sub(half_open).min(shared.connections_max.saturating_sub(open));
        if places == 0 || shared.rings().is_empty() {
            return;
        }
        let chosen = {
            let mut peer_list = self.torrent.peer_list();
            peer_list.set_own(shared.room.own());
            peer_list.poll_connect(now, sought.saturating_sub(self.peer_count), places, rng)
        };
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
                half_open: HalfOpen::new(shared),
            };
            if ring.commands.try_send(command).is_err() {
                self.torrent.peer_list().handle_failed(now, address);
            }
        }
    }

    /// True when somebody wants something of us.
    fn steer_choking(&mut self, shared: &Shared, now: Time, rng: &mut Rng) -> bool {
        let peers = self.torrent.peers();
        self.peer_count = peers.len();
        if !self.complete {
            self.sought = self.steering.connections_sought(now, &self.torrent.swarm, &peers);
        }
        let mut changed = self.steering.step(now, &peers, self.torrent.swarm.pieces.is_complete(), rng);
        let open = shared.connection_count.load(Ordering::Relaxed);
        let is_crowded = open * 10 >= shared.connections_max * limits::CROWDED_TENTHS;
        if is_crowded && let Some(peer) = self.steering.useless(now, &peers, limits::USELESS_AFTER).next() {
            peer.request_close();
            changed = true;
        }
        if now >= self.look_at {
            learn_own(shared, &peers);
        }
        if is_crowded || self.offers_room {
            self.offer_room(shared, now, &peers, is_crowded);
        }
        if changed {
            shared.spread_news();
        }
        peers.iter().any(|peer| peer.is_interested())
    }

    /// While it is crowded: who could go.
    fn offer_room(&mut self, shared: &Shared, now: Time, peers: &[Arc<PeerShared>], is_crowded: bool) {
        let after = limits::USELESS_AT_CAP_AFTER;
        let useless = self.steering.useless(now, peers, after).filter(|_| is_crowded).take(limits::USELESS_LISTED_MAX);
        let useless: Vec<_> = useless.cloned().collect();
        self.offers_room = !useless.is_empty();
        shared.room.offer(self.torrent.number, useless);
    }

    pub(in crate::engine) fn status(&mut self, now: Time, with_peers: bool) -> Arc<TorrentStatus> {
        let (torrent, steering) = (&self.torrent, &self.steering);
        let make = || Arc::new(status::torrent_status(torrent, with_peers, |peer| steering.rates(now, peer)));
        match &self.status {
            // Of nobody's peers there is nothing to tell more.
            Some(status) if self.peer_count == 0 => Arc::clone(status),
            _ => Arc::clone(self.status.insert(make())),
        }
    }
}

/// Where most peers see us, if several hosts agree.
fn learn_own(shared: &Shared, peers: &[Arc<PeerShared>]) {
    let told = peers.iter().filter_map(|peer| Some((peer.sees_us()?, host_of(peer.address().ip()))));
    let mut seen: HashMap<IpAddr, usize> = HashMap::new();
    told.collect::<HashSet<_>>().into_iter().for_each(|(ip, _)| *seen.entry(ip).or_default() += 1);
    let most = seen.into_iter().max_by_key(|&(_, hosts)| hosts);
    if let Some((ip, _)) = most.filter(|&(_, hosts)| hosts >= limits::OWN_ADDRESS_HOSTS_MIN) {
        shared.room.handle_seen(ip);
    }
}

fn announce(
    torrent: &Arc<Torrent>,
    tiers: Vec<Vec<String>>,
    shared: &Shared,
    config: &Config,
    announcing: &Announcing,
    rng: &mut Rng,
) -> Option<(mpsc::Sender<announcer::Command>, JoinHandle<()>)> {
    let mut announce = Announce::new(tiers, torrent.swarm.pieces.has_all(), rng);
    if !announce.has_trackers() {
        while let Some(notice) = announce.poll_notice() {
            announcer::report(&notice);
        }
        return None;
    }
    let identity = Identity {
        info_hash: torrent.info_hash,
        peer_id: shared.peer_id,
        ip: config.announce_ip.clone(),
        port: shared.listen_port,
        key: config.identity.key,
        fetcher: announcing.fetcher.clone(),
    };
    let (commands, inbox) = mpsc::channel(4);
    let totals = {
        let torrent = torrent.clone();
        move || totals(&torrent)
    };
    let finds = Finds::new(torrent.number, announcing.found.clone()).seen_by(shared.room.clone());
    let announcer = tokio::spawn(announcer::run(announce, identity, totals, announcing.slots.clone(), inbox, finds));
    Some((commands, announcer))
}

fn totals(torrent: &Torrent) -> Totals {
    let swarm = &torrent.swarm;
    Totals {
        uploaded: swarm.totals.uploaded.load(Ordering::Relaxed),
        downloaded: swarm.totals.downloaded.load(Ordering::Relaxed),
        left: swarm.pieces.left(),
    }
}
