//! State that the threads of a session share. The state of one torrent is `torrent`'s.

pub(in crate::engine) mod admission;
pub(in crate::engine) mod eviction;
pub(in crate::engine) mod page_cache;
pub(in crate::engine) mod pending_handshakes;
pub(in crate::engine) mod received;
pub(in crate::engine) mod rings;
pub(in crate::engine) mod stream_ids;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::Notify;

use crate::base::geometry::BLOCK_LEN;
use crate::base::limits::EXTENT_LEN;
use crate::base::lock::lock;
use crate::base::{InfoHash, PeerId, Time, limits};
use crate::engine::config::{Config, StreamLimit};
use crate::engine::contents::{self, Contents};
use crate::engine::files::io_threads::FileThreads;
use crate::engine::metrics::stats::Counters;
use crate::engine::network::external_address::ExternalAddress;
use crate::engine::shared::admission::{Admission, Affordable};
use crate::engine::shared::page_cache::PageCache;
use crate::engine::shared::received::{Received, Verified};
use crate::engine::shared::rings::Rings;
use crate::engine::shared::stream_ids::StreamIds;
use crate::engine::torrent::Torrent;
use crate::hash::Pool;
use crate::io::{Descriptors, SocketOptions, ZeroCopyMode};
use crate::storage::StorageError;
use crate::swarm::Sighting;
use crate::swarm::fair_queue::FairQueue;
use crate::swarm::limiter::Limiter;

/// State that the threads of a session share.
pub(in crate::engine) struct Shared {
    pub(in crate::engine) peer_id: PeerId,
    contents: Arc<Contents>,
    pub(in crate::engine) rings: Arc<Rings>,
    pub(in crate::engine) admission: Arc<Admission>,
    pub(in crate::engine) control: ControlWaker,
    pub(in crate::engine) endpoint: Endpoint,
    pub(in crate::engine) external_address: Arc<ExternalAddress>,
    pub(in crate::engine) pool: Pool<Received>,
    pub(in crate::engine) files: FileThreads,
    pub(in crate::engine) page_cache: PageCache,
    pub(in crate::engine) rates: SessionRates,
    pub(in crate::engine) zero_copy: ZeroCopyMode,
    pub(in crate::engine) streams: StreamLimit,
    pub(in crate::engine) stream_ids: StreamIds,
    pub(in crate::engine) counters: Counters,
    started: Instant,
}

/// The addresses of the session, and the options of its sockets.
pub(in crate::engine) struct Endpoint {
    pub(in crate::engine) listen_port: u16,
    /// Another process holds the listening socket too.
    pub(in crate::engine) listener_is_handed: bool,
    /// The source address of our own connections, if the user chose one.
    pub(in crate::engine) local_address: Option<SocketAddr>,
    /// Options of every peer socket.
    pub(in crate::engine) socket_options: SocketOptions,
}

/// The rate limits of all torrents together.
pub(in crate::engine) struct SessionRates {
    pub(in crate::engine) up: Limiter,
    pub(in crate::engine) down: Limiter,
    /// Shares `up` fairly among torrents.
    pub(in crate::engine) fair_queue: FairQueue,
}

/// Wakes the control thread, and collects the torrents to step.
#[derive(Debug, Default)]
pub(in crate::engine) struct ControlWaker {
    /// Numbers of the torrents to step.
    woken: Mutex<Vec<u32>>,
    notify: Notify,
}

impl ControlWaker {
    /// Makes the control thread step this torrent soon.
    pub(in crate::engine) fn wake(&self, torrent: &Torrent) {
        if torrent.request_wake() {
            lock(&self.woken).push(torrent.number);
        }
        self.notify.notify_one();
    }

    /// Makes the control thread check whether the session has ended.
    pub(in crate::engine) fn wake_session(&self) {
        self.notify.notify_one();
    }

    pub(in crate::engine) async fn notified(&self) {
        self.notify.notified().await;
    }

    /// The numbers of the torrents that were woken since the last call.
    pub(in crate::engine) fn take_woken(&self) -> Vec<u32> {
        std::mem::take(&mut *lock(&self.woken))
    }
}

/// The threads that a session starts beside its rings.
pub(in crate::engine) struct Workers {
    pub(in crate::engine) pool: Pool<Received>,
    pub(in crate::engine) files: FileThreads,
}

impl Shared {
    #[expect(clippy::disallowed_methods, reason = "the engine's one clock")]
    pub(in crate::engine) fn new(
        config: &Config,
        torrents: HashMap<InfoHash, Arc<Torrent>>,
        workers: Workers,
        page_cache: PageCache,
        endpoint: Endpoint,
    ) -> Self {
        let Workers { pool, files } = workers;
        let listen = endpoint.local_address.map_or(IpAddr::from([0; 4]), |address| address.ip());
        let listen = SocketAddr::new(listen, endpoint.listen_port);
        let contents = config.contents.clone();
        let descriptors = Descriptors::of_process();
        let is_downloading = torrents.values().any(|torrent| torrent.content.checkpoint.is_some());
        let affordable =
            if is_downloading { Affordable::of_download(descriptors) } else { Affordable::of_origin(descriptors) };
        *contents.torrents_mut() = torrents;
        Self {
            peer_id: config.identity.peer_id,
            contents,
            rings: Arc::default(),
            admission: Arc::new(Admission::new(config.connections_max, affordable, config.leeching_max)),
            control: ControlWaker::default(),
            endpoint,
            external_address: Arc::new(ExternalAddress::new(listen)),
            pool,
            files,
            page_cache,
            rates: SessionRates {
                up: Limiter::new(config.rates.up),
                down: Limiter::new(config.rates.down),
                fair_queue: FairQueue::new(config.rates.up),
            },
            zero_copy: config.zero_copy,
            streams: config.streams,
            stream_ids: StreamIds::default(),
            counters: Counters::new(),
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

    /// Returns false if the torrent is already in the session.
    pub(in crate::engine) fn insert(&self, torrent: &Arc<Torrent>) -> bool {
        let mut torrents = self.contents.torrents_mut();
        let is_new = !torrents.contains_key(&torrent.info_hash);
        if is_new {
            torrents.insert(torrent.info_hash, torrent.clone());
        }
        is_new
    }

    pub(in crate::engine) fn remove(&self, info_hash: InfoHash) -> Option<Arc<Torrent>> {
        self.contents.remove(info_hash)
    }

    /// Forgets the hosts of a torrent that was removed.
    pub(in crate::engine) fn forget_hosts(&self, info_hash: InfoHash) {
        self.contents.forget_hosts(info_hash);
    }

    /// A connection shows the pieces that a peer has.
    pub(in crate::engine) fn handle_sighting(&self, torrent: &Torrent, sighting: Sighting) {
        self.contents.handle_connection_sighting(torrent.info_hash, sighting);
    }

    /// The number of blocks of each peer's queue that are made ready ahead of its writer, so that the blocks of all
    /// peers stay in memory together.
    pub(in crate::engine) fn read_ahead_blocks(&self) -> usize {
        let trusted = u64::from(self.page_cache.trusted) * (EXTENT_LEN / u64::from(BLOCK_LEN));
        let share = usize::try_from(trusted / 2).unwrap_or(usize::MAX) / self.rings.connection_count().max(1);
        share.clamp(limits::SEND_BLOCKS_MAX, limits::READ_AHEAD_BLOCKS_MAX)
    }

    /// Stops a torrent after a fault of our storage.
    pub(in crate::engine) fn handle_fault(&self, torrent: &Torrent, error: StorageError) {
        torrent.fail(error);
        self.control.wake_session();
    }
}

impl received::VerifiedSink for Shared {
    fn now(&self) -> Time {
        self.now()
    }

    fn spread_news(&self) {
        self.rings.spread_news();
    }

    fn send_verified(&self, ring_index: usize, verified: Vec<Verified>) {
        self.rings.send_verified(ring_index, verified);
    }

    fn handle_fault(&self, torrent: &Torrent, error: StorageError) {
        self.handle_fault(torrent, error);
    }
}

impl contents::Session for Shared {
    fn now(&self) -> Time {
        self.now()
    }

    fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    fn wake(&self, torrent: &Torrent) {
        self.control.wake(torrent);
    }

    fn announce_ready(&self) {
        self.rings.announce_ready();
    }
}
