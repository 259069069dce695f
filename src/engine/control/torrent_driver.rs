//! Drives one torrent's [`TorrentControl`] on the control thread: connects, announces, carries out what it decides.

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
use crate::engine::shared::Shared;
use crate::engine::shared::admission::HalfOpenGuard;
use crate::engine::shared::rings::{Command, ConnectionGuard, Outgoing};
use crate::engine::torrent::Torrent;
use crate::engine::trackers::announcer::{self, Finds, Found, Identity, Totals};
use crate::engine::trackers::http::Fetcher;
use crate::swarm::peer_list::Source;
use crate::swarm::torrent_control::{Completion, TorrentControl};
use crate::swarm::{PeerShared, WaitNotice};

/// The interval at which progress is reported, the stop flag is checked, and a busy torrent is stepped.
pub(in crate::engine) const TICK: Duration = Duration::from_millis(50);
/// The interval at which memory is measured, and a torrent that has peers but nothing to do is stepped.
pub(in crate::engine) const REVIEW_INTERVAL: Duration = Duration::from_secs(1);

/// Shared by the announcers of all torrents.
pub(in crate::engine) struct Announcing {
    pub(in crate::engine) permits: Arc<Semaphore>,
    pub(in crate::engine) fetcher: Fetcher,
    pub(in crate::engine) found: mpsc::Sender<(u32, Vec<Found>)>,
}

/// One torrent of the control thread: its decisions, its announcer, and when it is due.
pub(in crate::engine) struct TorrentDriver {
    pub(in crate::engine) torrent: Arc<Torrent>,
    pub(in crate::engine) peer_count: usize,
    /// When [`Self::step`] is due.
    pub(in crate::engine) due_at: Time,
    control: TorrentControl,
    /// The number of connections below which a download looks for more.
    sought: usize,
    /// Peer ids that trackers gave.
    expected_ids: HashMap<SocketAddr, PeerId>,
    /// `None` if the torrent has no trackers.
    announcer: Option<Announcer>,
    /// Peers of the torrent are listed as candidates for eviction.
    has_candidates: bool,
    /// The next review, every [`REVIEW_INTERVAL`].
    review_at: Time,
    wait_notice: WaitNotice,
    /// The last status; `None` after each step.
    status: Option<Arc<TorrentStatus>>,
}

/// The task that announces one torrent, and its command channel.
struct Announcer {
    commands: mpsc::Sender<announcer::Command>,
    task: JoinHandle<()>,
}

impl TorrentDriver {
    /// `earlier` is an announcer of the same torrent that is telling its trackers that we leave.
    pub(in crate::engine) fn new(
        torrent: Arc<Torrent>,
        tiers: Vec<Vec<String>>,
        earlier: Option<JoinHandle<()>>,
        shared: &Shared,
        config: &Config,
        announcing: &Announcing,
        rng: &mut Rng,
    ) -> Self {
        torrent.peers.list().handle_announced(config.peers.iter().copied(), Source::User, rng);
        let now = shared.now();
        Self {
            announcer: announce(&torrent, tiers, earlier, shared, config, announcing, rng),
            control: TorrentControl::new(config.slots, &torrent.swarm, now),
            torrent,
            peer_count: 0,
            sought: limits::CONNECTIONS_SOUGHT,
            due_at: Time::ZERO,
            expected_ids: HashMap::new(),
            has_candidates: false,
            review_at: now,
            wait_notice: WaitNotice::default(),
            status: None,
        }
    }

    /// Makes the announcer tell its trackers that we leave. Returns its task, to be waited for.
    pub(in crate::engine) fn stop(&mut self) -> Option<JoinHandle<()>> {
        let Announcer { commands, task } = self.announcer.take()?;
        let _ = commands.try_send(announcer::Command::Stop);
        Some(task)
    }

    fn tell_announcer(&self, command: announcer::Command) {
        if let Some(announcer) = &self.announcer {
            let _ = announcer.commands.try_send(command);
        }
    }

    /// Every wanted piece is on disk.
    pub(in crate::engine) fn is_complete(&self) -> bool {
        self.control.is_complete()
    }

    /// Does everything that is due. Returns the next deadline.
    pub(in crate::engine) fn step(&mut self, shared: &Arc<Shared>, config: &Config, now: Time, rng: &mut Rng) -> Time {
        self.status = None;
        if self.torrent.has_failed() {
            return Time::MAX;
        }
        let has_interested = self.step_control(shared, now, rng);
        if self.control.poll_completion(&self.torrent.swarm) == Some(Completion::Content) {
            self.tell_announcer(announcer::Command::Complete);
        }
        // A complete torrent does not dial out unless it keeps seeding.
        if !self.is_complete() || config.keep_seeding {
            self.connect(shared, now, rng);
        }
        if now >= self.review_at {
            self.review_at = now + REVIEW_INTERVAL;
            checkpoints::begin_when_due(shared, &self.torrent);
            self.report_unavailable(now);
            self.report_waiting(now);
            if !self.is_complete() && self.peer_count < self.sought {
                self.tell_announcer(announcer::Command::NeedPeers);
            }
        }
        if has_interested || !self.torrent.swarm.pieces.is_complete() {
            now + TICK
        } else if self.peer_count > 0 || self.torrent.content.checkpoint.is_some() {
            now + REVIEW_INTERVAL
        } else {
            let retry_at = self.torrent.peers.list().poll_timeout();
            retry_at.map_or(Time::MAX, |at| at.max(now + REVIEW_INTERVAL))
        }
    }

    /// Tells the user of a download that the connected peers lack all the pieces that it needs.
    fn report_unavailable(&mut self, now: Time) {
        let is_download = self.torrent.content.checkpoint.is_some();
        let has_peers = self.peer_count > 0;
        let unavailable = self.control.poll_unavailable(now, &self.torrent.swarm, is_download && has_peers);
        if let Some(unavailable) = unavailable {
            warn!("{}: no connected peer offers {unavailable}: waiting for one that does", self.torrent.name);
        }
    }

    /// Tells the user of a download that no peer is connected, and which are tried.
    fn report_waiting(&mut self, now: Time) {
        if self.is_complete() || self.torrent.content.checkpoint.is_none() {
            return;
        }
        let waiting = self.wait_notice.poll(now, self.peer_count, &self.torrent.peers.list());
        let Some(prospects) = waiting else { return };
        let name = &self.torrent.name;
        if !prospects.is_empty() {
            warn!("{name}: no peer is connected: trying {prospects} again");
        } else if self.announcer.is_some() {
            warn!("{name}: no peer is connected: waiting for the trackers to announce one");
        } else {
            warn!("{name}: no peer is connected: waiting for one to connect");
        }
    }

    /// All known peers are banned, and there is no tracker to find others.
    pub(in crate::engine) fn is_hopeless(&self) -> bool {
        !self.is_complete() && self.announcer.is_none() && self.torrent.peers.list().is_hopeless()
    }

    pub(in crate::engine) fn take_found(&mut self, found: &[Found], rng: &mut Rng) {
        for peer in found {
            let has_room = self.expected_ids.len() < limits::PEER_LIST_MAX;
            match peer.peer_id {
                Some(id) if has_room || self.expected_ids.contains_key(&peer.address) => {
                    self.expected_ids.insert(peer.address, id);
                }
                _ => drop(self.expected_ids.remove(&peer.address)),
            }
        }
        let addresses = found.iter().take(limits::TRACKER_REPLY_PEERS_MAX).map(|peer| peer.address);
        self.torrent.peers.list().handle_announced(addresses, Source::Tracker, rng);
    }

    /// Opens connections to known peers: an incomplete torrent up to the number sought, a complete one up to the limits
    /// of the session.
    fn connect(&mut self, shared: &Arc<Shared>, now: Time, rng: &mut Rng) {
        let sought = if self.is_complete() { usize::MAX } else { self.sought };
        let room = shared.admission.open_room(shared.rings.connection_count());
        if room == 0 || shared.rings.handles().is_empty() {
            return;
        }
        let chosen = {
            let mut peer_list = self.torrent.peers.list();
            peer_list.set_own(shared.external_address.known());
            peer_list.poll_connect(now, sought.saturating_sub(self.peer_count), room, rng)
        };
        for address in chosen {
            let idlest = shared.rings.idlest();
            let Some((index, ring)) = idlest.and_then(|index| Some((index, shared.rings.handles().get(index)?))) else {
                return;
            };
            let command = Command::Connect(Outgoing {
                torrent: self.torrent.clone(),
                address,
                expected_id: self.expected_ids.get(&address).copied(),
                stream: None,
                guard: ConnectionGuard::new(&shared.rings, index),
                half_open: HalfOpenGuard::new(&shared.admission),
            });
            if ring.commands.try_send(command).is_err() {
                self.torrent.peers.list().handle_failed(now, address);
            }
        }
    }

    /// Takes the periodic decisions and carries them out: closes a useless connection, lists candidates for eviction,
    /// spreads news. Returns true if a peer is interested in our pieces.
    fn step_control(&mut self, shared: &Shared, now: Time, rng: &mut Rng) -> bool {
        let peers = self.torrent.peers.connected();
        self.peer_count = peers.len();
        if !self.is_complete() {
            self.sought = self.control.connections_sought(now, &self.torrent.swarm, &peers);
        }
        let mut changed = self.control.step(now, &self.torrent.swarm, &peers, rng);
        let is_crowded = shared.admission.is_crowded(shared.rings.connection_count());
        if is_crowded && let Some(peer) = self.control.choke_driver().useless(now, &peers, limits::USELESS_AFTER).next()
        {
            peer.request_close();
            changed = true;
        }
        if now >= self.review_at {
            learn_own_address(shared, &peers);
            let complete = self.torrent.peers.take_complete(&self.torrent.swarm);
            complete.into_iter().for_each(|sighting| shared.handle_sighting(&self.torrent, sighting));
        }
        if is_crowded || self.has_candidates {
            self.set_eviction_candidates(shared, now, &peers, is_crowded);
        }
        if changed {
            shared.rings.spread_news();
        }
        peers.iter().any(|peer| peer.is_interested())
    }

    /// While connections are crowded, lists the useless ones for eviction.
    fn set_eviction_candidates(&mut self, shared: &Shared, now: Time, peers: &[Arc<PeerShared>], is_crowded: bool) {
        let useless = self.control.choke_driver().useless(now, peers, limits::USELESS_AT_CAP_AFTER);
        let candidates: Vec<_> = useless.filter(|_| is_crowded).take(limits::USELESS_LISTED_MAX).cloned().collect();
        self.has_candidates = !candidates.is_empty();
        shared.admission.eviction.set_candidates(self.torrent.number, candidates);
    }

    pub(in crate::engine) fn status(&mut self, now: Time, with_peers: bool) -> Arc<TorrentStatus> {
        let (torrent, choke_driver) = (&self.torrent, self.control.choke_driver());
        let make = || Arc::new(status::torrent_status(torrent, with_peers, |peer| choke_driver.rates(now, peer)));
        match &self.status {
            // Without peers the status changes only when the torrent is stepped.
            Some(status) if self.peer_count == 0 => Arc::clone(status),
            _ => Arc::clone(self.status.insert(make())),
        }
    }
}

/// Learns our address as most peers see it, if enough hosts agree.
fn learn_own_address(shared: &Shared, peers: &[Arc<PeerShared>]) {
    let reports = peers.iter().filter_map(|peer| Some((peer.sees_us()?, host_of(peer.address().ip()))));
    let mut seen: HashMap<IpAddr, usize> = HashMap::new();
    reports.collect::<HashSet<_>>().into_iter().for_each(|(ip, _)| *seen.entry(ip).or_default() += 1);
    let most = seen.into_iter().max_by_key(|&(_, hosts)| hosts);
    if let Some((ip, _)) = most.filter(|&(_, hosts)| hosts >= limits::OWN_ADDRESS_HOSTS_MIN) {
        shared.external_address.handle_peer_reports(ip);
    }
}

fn announce(
    torrent: &Arc<Torrent>,
    tiers: Vec<Vec<String>>,
    earlier: Option<JoinHandle<()>>,
    shared: &Shared,
    config: &Config,
    announcing: &Announcing,
    rng: &mut Rng,
) -> Option<Announcer> {
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
        port: shared.endpoint.listen_port,
        key: config.identity.key,
        fetcher: announcing.fetcher.clone(),
    };
    let (commands, inbox) = mpsc::channel(4);
    let totals = {
        let torrent = torrent.clone();
        move || totals(&torrent)
    };
    let finds = Finds::new(torrent.number, announcing.found.clone());
    let finds = finds.with_external_address(shared.external_address.clone());
    let announcer = announcer::run(announce, identity, totals, announcing.permits.clone(), inbox, finds);
    let task = tokio::spawn(async move {
        if let Some(earlier) = earlier {
            // A tracker that received `stopped` after `started` would forget us.
            let _ = earlier.await;
        }
        announcer.await;
    });
    Some(Announcer { commands, task })
}

fn totals(torrent: &Torrent) -> Totals {
    let swarm = &torrent.swarm;
    Totals {
        uploaded: swarm.totals.uploaded.load(Ordering::Relaxed),
        downloaded: swarm.totals.downloaded.load(Ordering::Relaxed),
        left: swarm.pieces.left(),
    }
}
