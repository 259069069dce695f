//! What all threads of a session share, and how they reach a ring.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use hdrhistogram::Histogram;
use tokio::sync::{Notify, mpsc};

use super::receiving::{Received, Verified};
use super::torrent::Torrent;
use crate::base::{InfoHash, PeerId, Time};
use crate::hash::Pool;

/// What a ring thread is told.
#[derive(Debug)]
pub(super) enum Command {
    Connect { torrent: Arc<Torrent>, address: std::net::SocketAddr, expected_id: Option<PeerId> },
    Stop,
}

/// The way to one ring thread.
#[derive(Debug)]
pub(super) struct RingHandle {
    pub(super) commands: mpsc::Sender<Command>,
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
    pub(super) torrents: HashMap<InfoHash, Arc<Torrent>>,
    pub(super) pool: Pool<Received>,
    pub(super) rings: OnceLock<Box<[RingHandle]>>,
    pub(super) listen_port: u16,
    /// The address our own connections come from, where the user chose one.
    pub(super) local_address: Option<std::net::SocketAddr>,
    /// Wakes the control thread.
    pub(super) control: Notify,
    /// Handshakes included.
    pub(super) connection_count: AtomicUsize,
    pub(super) connections_max: usize,
    pub(super) half_open_count: AtomicUsize,
    latency: Mutex<Histogram<u64>>,
    next_key: AtomicU32,
    started: Instant,
}

/// The longest request→block latency that is told apart: an hour, in microseconds.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Request→block latencies in microseconds, three digits.
#[expect(clippy::unwrap_used, reason = "the bounds are constants that the crate accepts")]
pub(super) fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).unwrap()
}

impl Shared {
    #[expect(clippy::disallowed_methods, reason = "the engine's one clock")]
    pub(super) fn new(
        peer_id: PeerId,
        torrents: HashMap<InfoHash, Arc<Torrent>>,
        pool: Pool<Received>,
        listen_port: u16,
        local_address: Option<std::net::SocketAddr>,
        connections_max: usize,
    ) -> Self {
        Self {
            peer_id,
            torrents,
            pool,
            rings: OnceLock::new(),
            listen_port,
            local_address,
            control: Notify::new(),
            connection_count: AtomicUsize::new(0),
            connections_max,
            half_open_count: AtomicUsize::new(0),
            latency: Mutex::new(latency_histogram()),
            next_key: AtomicU32::new(1),
            started: Instant::now(),
        }
    }

    /// Time since the session started.
    pub(super) fn now(&self) -> Time {
        self.started.elapsed()
    }

    /// A key for a new connection.
    pub(super) fn next_key(&self) -> u32 {
        self.next_key.fetch_add(1, Ordering::Relaxed)
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
