//! What all threads of a session share, and how they reach a ring.

pub(in crate::engine) mod eviction;
pub(in crate::engine) mod page_cache;
pub(in crate::engine) mod pending_handshakes;
pub(in crate::engine) mod received;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use hdrhistogram::Histogram;
use tokio::sync::{Notify, mpsc};

use crate::base::geometry::BLOCK_LEN;
use crate::base::limits::EXTENT_LEN;
use crate::base::{InfoHash, PeerId, Time, limits};
use crate::engine::config::Config;
use crate::engine::contents::{self, Contents};
use crate::engine::files::io_threads::FileThreads;
use crate::engine::metrics::stats::{Counters, latency_histogram};
use crate::engine::network::listen::Listen;
use crate::engine::shared::eviction::Room;
use crate::engine::shared::page_cache::Cache;
use crate::engine::shared::pending_handshakes::{Doorstep, Place};
use crate::engine::shared::received::{Received, Verified};
use crate::engine::torrent::Torrent;
use crate::hash::Pool;
use crate::storage::StorageError;
use crate::swarm::fair_queue::FairQueue;
use crate::swarm::limiter::Limiter;
use crate::uring::{SocketOptions, ZeroCopyMode};

/// What a ring thread is told.
#[derive(Debug)]
pub(in crate::engine) enum Command {
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
pub(in crate::engine) struct RingHandle {
    pub(in crate::engine) commands: mpsc::Sender<Command>,
    /// Handshakes included.
    pub(in crate::engine) connection_count: AtomicUsize,
    /// Verified pieces to be written, as they were hashed together; as many fit as there are slots.
    pub(in crate::engine) verified: mpsc::Sender<Vec<Verified>>,
    /// Something changed that connections pass on: haves, chokes.
    pub(in crate::engine) news: Arc<Notify>,
    /// Something became ready that connections wait for.
    pub(in crate::engine) ready: Arc<Notify>,
}

/// See the module.
pub(in crate::engine) struct Shared {
    pub(in crate::engine) peer_id: PeerId,
    contents: Arc<Contents>,
    /// Numbers of the torrents that the control thread has to look at.
    attention: Mutex<Vec<u32>>,
    pub(in crate::engine) pool: Pool<Received>,
    pub(in crate::engine) files: FileThreads,
    pub(in crate::engine) rings: OnceLock<Box<[RingHandle]>>,
    pub(in crate::engine) listen_port: u16,
    /// Somebody else has the listening socket too.
    pub(in crate::engine) listener_is_handed: bool,
    /// The address our own connections come from, where the user chose one.
    pub(in crate::engine) local_address: Option<SocketAddr>,
    /// Wakes the control thread.
    pub(in crate::engine) control: Notify,
    /// Handshakes included.
    pub(in crate::engine) connection_count: AtomicUsize,
    pub(in crate::engine) connections_max: usize,
    pub(in crate::engine) leeching_max: usize,
    pub(in crate::engine) half_open_count: AtomicUsize,
    pub(in crate::engine) doorstep: Doorstep,
    pub(in crate::engine) room: Arc<Room>,
    pub(in crate::engine) counters: Counters,
    pub(in crate::engine) cache: Cache,
    pub(in crate::engine) zero_copy: ZeroCopyMode,
    /// What all torrents together may move.
    pub(in crate::engine) up: Limiter,
    pub(in crate::engine) down: Limiter,
    /// What of `up` is whose turn.
    pub(in crate::engine) sharing: FairQueue,
    /// What every peer socket is set to.
    pub(in crate::engine) socket_options: SocketOptions,
    /// From queueing a request to its block, in microseconds.
    latency: Mutex<Histogram<u64>>,
    next_key: AtomicU32,
    started: Instant,
}

impl Shared {
    #[expect(clippy::disallowed_methods, reason = "the engine's one clock")]
    pub(in crate::engine) fn new(
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
            sharing: FairQueue::new(config.rates.up),
            socket_options,
            latency: Mutex::new(latency_histogram()),
            next_key: AtomicU32::new(1),
            started: Instant::now(),
        }
    }

    /// Time since the session started.
    pub(in crate::engine) fn now(&self) -> Time {
        self.started.elapsed()
    }

    pub(in crate::engine) fn torrent(&self, info_hash: &InfoHash) -> Option<Arc<Torrent>> {
        self.contents.torrents().get(info_hash).cloned()
    }

    pub(in crate::engine) fn torrents(&self) -> Vec<Arc<Torrent>> {
        self.contents.torrents().values().cloned().collect()
    }

    /// False when there is such a one already.
    pub(in crate::engine) fn insert(&self, torrent: &Arc<Torrent>) -> bool {
        let mut torrents = self.contents.torrents_mut();
        let is_new = !torrents.contains_key(&torrent.info_hash);
        if is_new {
            torrents.insert(torrent.info_hash, torrent.clone());
        }
        is_new
    }

    pub(in crate::engine) fn remove(&self, info_hash: InfoHash) -> Option<Arc<Torrent>> {
        self.contents.torrents_mut().remove(&info_hash)
    }

    /// The control thread has to look at this torrent.
    pub(in crate::engine) fn attend(&self, torrent: &Torrent) {
        if torrent.ask_for_attention() {
            self.attention.lock().unwrap_or_else(PoisonError::into_inner).push(torrent.number);
        }
        self.control.notify_one();
    }

    /// The torrents that asked to be looked at.
    pub(in crate::engine) fn take_attention(&self) -> Vec<u32> {
        std::mem::take(&mut *self.attention.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A key for a new connection.
    pub(in crate::engine) fn next_key(&self) -> u32 {
        self.next_key.fetch_add(1, Ordering::Relaxed)
    }

    /// Blocks of each peer's queue that are made ready ahead of its writer: all peers' together stay in memory.
    pub(in crate::engine) fn read_ahead_blocks(&self) -> usize {
        let trusted = u64::from(self.cache.trusted) * (EXTENT_LEN / u64::from(BLOCK_LEN));
        let share =
            usize::try_from(trusted / 2).unwrap_or(usize::MAX) / self.connection_count.load(Ordering::Relaxed).max(1);
        share.clamp(limits::SEND_BLOCKS_MAX, limits::READ_AHEAD_BLOCKS_MAX)
    }

    /// The ring with the fewest connections.
    pub(in crate::engine) fn idlest_ring(&self) -> Option<usize> {
        (0..self.rings().len()).min_by_key(|&index| self.connections_of(index))
    }

    pub(in crate::engine) fn connections_of(&self, ring_index: usize) -> usize {
        self.rings().get(ring_index).map_or(0, |ring| ring.connection_count.load(Ordering::Relaxed))
    }

    pub(in crate::engine) fn rings(&self) -> &[RingHandle] {
        self.rings.get().map_or(&[], |rings| rings)
    }

    /// Every connection passes on what is new.
    pub(in crate::engine) fn spread_news(&self) {
        self.rings().iter().for_each(|ring| ring.news.notify_one());
    }

    /// Every connection that waits looks again.
    pub(in crate::engine) fn announce_ready(&self) {
        self.rings().iter().for_each(|ring| ring.ready.notify_one());
    }

    /// Adds what a ring thread has measured.
    pub(in crate::engine) fn merge_latency(&self, measured: &Histogram<u64>) {
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        // Same bounds on both sides.
        let _ = latency.add(measured);
    }

    pub(in crate::engine) fn latency(&self) -> Histogram<u64> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Counts a connection of one ring from its first moment to its last.
pub(in crate::engine) struct Counted {
    shared: Arc<Shared>,
    ring_index: usize,
}

impl Counted {
    pub(in crate::engine) fn new(shared: &Arc<Shared>, ring_index: usize) -> Self {
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

impl received::VerifiedSink for Shared {
    fn now(&self) -> Time {
        self.now()
    }

    fn spread_news(&self) {
        self.spread_news();
    }

    fn send_verified(&self, ring_index: usize, verified: Vec<Verified>) {
        if let Some(ring) = self.rings().get(ring_index) {
            // Refused only while the session ends.
            let _ = ring.verified.blocking_send(verified);
        }
    }

    fn handle_fault(&self, torrent: &Torrent, error: StorageError) {
        torrent.fail(error);
        self.control.notify_one();
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
pub(in crate::engine) struct HalfOpen(Arc<Shared>);

impl HalfOpen {
    pub(in crate::engine) fn new(shared: &Arc<Shared>) -> Self {
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
