//! What all threads of a session share, and how they reach a ring.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use hdrhistogram::Histogram;
use tokio::sync::{Notify, mpsc};

use super::cache::Cache;
use super::config::{Config, Listen};
use super::contents::{self, Contents};
use super::doorstep::{Doorstep, Place};
use super::file_threads::FileThreads;
use super::receiving::{Received, Verified};
use super::room::Room;
use super::stats::{Counters, latency_histogram};
use super::torrent::Torrent;
use crate::base::geometry::BLOCK_LEN;
use crate::base::limits::STRETCH_LEN;
use crate::base::{InfoHash, PeerId, Time, limits};
use crate::hash::Pool;
use crate::swarm::limiter::Limiter;
use crate::swarm::sharing::Sharing;
use crate::uring::{SocketOptions, ZeroCopyMode};

/// What a ring thread is told.
#[derive(Debug)]
pub(super) enum Command {
    Connect {
        torrent: Arc<Torrent>,
        address: SocketAddr,
        expected_id: Option<PeerId>,
        counted: Counted,
        half_open: HalfOpen,
    },
    /// A connection that another ring has accepted.
    Adopt {
        socket: OwnedFd,
        address: SocketAddr,
        counted: Counted,
        on_doorstep: Place,
    },
    Stop,
}

/// The way to one ring thread.
#[derive(Debug)]
pub(super) struct RingHandle {
    pub(super) commands: mpsc::Sender<Command>,
    /// Handshakes included.
    pub(super) connection_count: AtomicUsize,
    /// Verified pieces to be written, as they were hashed together; as many fit as there are slots.
    pub(super) verified: mpsc::Sender<Vec<Verified>>,
    /// Something changed that connections pass on: haves, chokes.
    pub(super) news: Arc<Notify>,
    /// Something became ready that connections wait for.
    pub(super) ready: Arc<Notify>,
}

/// See the module.
pub(super) struct Shared {
    pub(super) peer_id: PeerId,
    contents: Arc<Contents>,
    /// Numbers of the torrents that the control thread has to look at.
    attention: Mutex<Vec<u32>>,
    pub(super) pool: Pool<Received>,
    pub(super) files: FileThreads,
    pub(super) rings: OnceLock<Box<[RingHandle]>>,
    pub(super) listen_port: u16,
    /// Somebody else has the listening socket too.
    pub(super) listener_is_handed: bool,
    /// The address our own connections come from, where the user chose one.
    pub(super) local_address: Option<SocketAddr>,
    /// Wakes the control thread.
    pub(super) control: Notify,
    /// Handshakes included.
    pub(super) connection_count: AtomicUsize,
    pub(super) connections_max: usize,
    pub(super) leeching_max: usize,
    pub(super) half_open_count: AtomicUsize,
    pub(super) doorstep: Doorstep,
    pub(super) room: Arc<Room>,
    pub(super) counters: Counters,
    pub(super) cache: Cache,
    pub(super) zero_copy: ZeroCopyMode,
    /// What all torrents together may move.
    pub(super) up: Limiter,
    pub(super) down: Limiter,
    /// What of `up` is whose turn.
    pub(super) sharing: Sharing,
    /// What every peer socket is set to.
    pub(super) socket_options: SocketOptions,
    /// From queueing a request to its block, in microseconds.
    latency: Mutex<Histogram<u64>>,
    next_key: AtomicU32,
    started: Instant,
}

impl Shared {
    #[expect(clippy::disallowed_methods, reason = "the engine's one clock")]
    pub(super) fn new(
        config: &Config,
        torrents: HashMap<InfoHash, Arc<Torrent>>,
        (pool, files): (Pool<Received>, FileThreads),
        listen_port: u16,
        (cache, socket_options): (Cache, SocketOptions),
    ) -> Self {
        let listen = config.listen.local_address().map_or(IpAddr::from([0; 4]), |address| address.ip());
        let listen = SocketAddr::new(listen, listen_port);
        let contents = config.contents.clone();
        *contents.torrents_mut() = torrents;
        Self {
            peer_id: config.identity.peer_id,
            contents,
            attention: Mutex::default(),
            pool,
            files,
            rings: OnceLock::new(),
            listen_port,
            listener_is_handed: matches!(config.listen, Listen::Handed(_)),
            local_address: config.listen.local_address(),
            control: Notify::new(),
            connection_count: AtomicUsize::new(0),
            connections_max: config.connections_max,
            leeching_max: config.leeching_max,
            half_open_count: AtomicUsize::new(0),
            doorstep: Doorstep::default(),
            room: Arc::new(Room::new(listen)),
            counters: Counters::new(),
            cache,
            zero_copy: config.zero_copy,
            up: Limiter::new(config.rates.up),
            down: Limiter::new(config.rates.down),
            sharing: Sharing::new(config.rates.up),
            socket_options,
            latency: Mutex::new(latency_histogram()),
            next_key: AtomicU32::new(1),
            started: Instant::now(),
        }
    }

    /// Time since the session started.
    pub(super) fn now(&self) -> Time {
        self.started.elapsed()
    }

    pub(super) fn torrent(&self, info_hash: &InfoHash) -> Option<Arc<Torrent>> {
        self.contents.torrents().get(info_hash).cloned()
    }

    pub(super) fn torrents(&self) -> Vec<Arc<Torrent>> {
        self.contents.torrents().values().cloned().collect()
    }

    /// False when there is such a one already.
    pub(super) fn insert(&self, torrent: &Arc<Torrent>) -> bool {
        let mut torrents = self.contents.torrents_mut();
        let is_new = !torrents.contains_key(&torrent.info_hash);
        if is_new {
            torrents.insert(torrent.info_hash, torrent.clone());
        }
        is_new
    }

    pub(super) fn remove(&self, info_hash: InfoHash) -> Option<Arc<Torrent>> {
        self.contents.torrents_mut().remove(&info_hash)
    }

    /// The control thread has to look at this torrent.
    pub(super) fn attend(&self, torrent: &Torrent) {
        if torrent.ask_for_attention() {
            self.attention.lock().unwrap_or_else(PoisonError::into_inner).push(torrent.number);
        }
        self.control.notify_one();
    }

    /// The torrents that asked to be looked at.
    pub(super) fn take_attention(&self) -> Vec<u32> {
        std::mem::take(&mut *self.attention.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A key for a new connection.
    pub(super) fn next_key(&self) -> u32 {
        self.next_key.fetch_add(1, Ordering::Relaxed)
    }

    /// Blocks of each peer's queue that are made ready ahead of its writer: all peers' together stay in memory.
    pub(super) fn read_ahead_blocks(&self) -> usize {
        let trusted = u64::from(self.cache.trusted) * (STRETCH_LEN / u64::from(BLOCK_LEN));
        let share =
            usize::try_from(trusted / 2).unwrap_or(usize::MAX) / self.connection_count.load(Ordering::Relaxed).max(1);
        share.clamp(limits::SEND_BLOCKS_MAX, limits::READ_AHEAD_BLOCKS_MAX)
    }

    /// The ring with the fewest connections.
    pub(super) fn idlest_ring(&self) -> Option<usize> {
        (0..self.rings().len()).min_by_key(|&index| self.connections_of(index))
    }

    pub(super) fn connections_of(&self, ring_index: usize) -> usize {
        self.rings().get(ring_index).map_or(0, |ring| ring.connection_count.load(Ordering::Relaxed))
    }

    pub(super) fn rings(&self) -> &[RingHandle] {
        self.rings.get().map_or(&[], |rings| rings)
    }

    /// Every connection passes on what is new.
    pub(super) fn spread_news(&self) {
        self.rings().iter().for_each(|ring| ring.news.notify_one());
    }

    /// Every connection that waits looks again.
    pub(super) fn announce_ready(&self) {
        self.rings().iter().for_each(|ring| ring.ready.notify_one());
    }

    /// Adds what a ring thread has measured.
    pub(super) fn merge_latency(&self, measured: &Histogram<u64>) {
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        // Same bounds on both sides.
        let _ = latency.add(measured);
    }

    pub(super) fn latency(&self) -> Histogram<u64> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Counts a connection of one ring from its first moment to its last.
pub(super) struct Counted {
    shared: Arc<Shared>,
    ring_index: usize,
}

impl Counted {
    pub(super) fn new(shared: &Arc<Shared>, ring_index: usize) -> Self {
        shared.connection_count.fetch_add(1, Ordering::Relaxed);
        shared.rings().get(ring_index).inspect(|ring| {
            ring.connection_count.fetch_add(1, Ordering::Relaxed);
        });
        Self { shared: shared.clone(), ring_index }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.connection_count.fetch_sub(1, Ordering::Relaxed);
        self.shared.rings().get(self.ring_index).inspect(|ring| {
            ring.connection_count.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counted").field("ring_index", &self.ring_index).finish_non_exhaustive()
    }
}

impl contents::Session for Shared {
    fn now(&self) -> Time {
        self.now()
    }

    fn attend(&self, torrent: &Torrent) {
        self.attend(torrent);
    }

    fn announce_ready(&self) {
        self.announce_ready();
    }
}

/// Counts a connection of our own from the decision to make it to the end of its handshake.
pub(super) struct HalfOpen(Arc<Shared>);

impl HalfOpen {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.half_open_count.fetch_add(1, Ordering::Relaxed);
        Self(shared.clone())
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        self.0.half_open_count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for HalfOpen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HalfOpen")
    }
}
