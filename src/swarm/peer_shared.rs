//! The state of one connection that other threads read or write.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use crate::base::lock::lock;

/// The payload that a connection carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Traffic {
    None,
    /// We sent blocks and received none.
    Sent,
    /// The peer sent us blocks.
    Received,
}

/// One peer as the choker, the statistics and the ban list see it.
///
/// Each field has one kind of writer, as grouped below. Every field is a fact of its own that no other memory depends
/// on, so relaxed loads and stores suffice. The exception is `choke_review_due`: it is set after the fields that the
/// choker reads, so it is stored with release and taken with acquire.
#[derive(Debug)]
pub struct PeerShared {
    key: u32,
    address: SocketAddr,

    // Written by the connection.
    downloaded: AtomicU64,
    uploaded: AtomicU64,
    interested: AtomicBool,
    snubbed: AtomicBool,
    stalled: AtomicBool,
    have_count: AtomicU32,
    queued_count: AtomicU32,
    client: Mutex<Option<Box<[u8]>>>,
    sees_us: OnceLock<IpAddr>,

    // Set by the connection, cleared by the choker.
    choke_review_due: AtomicBool,

    // Written by the choker.
    unchoked: AtomicBool,

    // Written by the threads that judge peers: hash verdicts, bans, eviction.
    close_requested: AtomicBool,
    proven: AtomicBool,
    on_parole: AtomicBool,
}

impl PeerShared {
    /// `key` differs from connection to connection.
    pub fn new(key: u32, address: SocketAddr) -> Self {
        Self {
            key,
            address,
            downloaded: AtomicU64::new(0),
            uploaded: AtomicU64::new(0),
            interested: AtomicBool::new(false),
            snubbed: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            have_count: AtomicU32::new(0),
            queued_count: AtomicU32::new(0),
            client: Mutex::default(),
            sees_us: OnceLock::new(),
            choke_review_due: AtomicBool::new(false),
            unchoked: AtomicBool::new(false),
            close_requested: AtomicBool::new(false),
            proven: AtomicBool::new(false),
            on_parole: AtomicBool::new(false),
        }
    }

    /// Differs from connection to connection.
    pub fn key(&self) -> u32 {
        self.key
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Payload bytes received from the peer.
    pub fn downloaded(&self) -> u64 {
        self.downloaded.load(Ordering::Relaxed)
    }

    pub(super) fn count_downloaded(&self, len: u64) {
        self.downloaded.fetch_add(len, Ordering::Relaxed);
    }

    /// Payload bytes sent to the peer.
    pub fn uploaded(&self) -> u64 {
        self.uploaded.load(Ordering::Relaxed)
    }

    pub(super) fn count_uploaded(&self, len: u64) {
        self.uploaded.fetch_add(len, Ordering::Relaxed);
    }

    /// Payload was received from the peer or sent to it.
    pub fn has_transferred(&self) -> bool {
        self.downloaded() > 0 || self.uploaded() > 0
    }

    /// Returns the payload exchanged with the peer so far.
    pub fn traffic(&self) -> Traffic {
        if self.downloaded() > 0 {
            Traffic::Received
        } else if self.uploaded() > 0 {
            Traffic::Sent
        } else {
            Traffic::None
        }
    }

    /// The peer has declared interest (BEP 3).
    pub fn is_interested(&self) -> bool {
        self.interested.load(Ordering::Relaxed)
    }

    pub fn set_interested(&self, interested: bool) {
        self.interested.store(interested, Ordering::Relaxed);
    }

    /// The peer owes blocks and has sent none for [`crate::base::limits::SNUB_TIMEOUT`].
    pub fn is_snubbed(&self) -> bool {
        self.snubbed.load(Ordering::Relaxed)
    }

    pub(super) fn set_snubbed(&self, snubbed: bool) {
        self.snubbed.store(snubbed, Ordering::Relaxed);
    }

    /// The peer makes no use of its upload slot: it leaves the blocks that it requested unread in its socket, or requests
    /// less than a block in [`crate::base::limits::SLOT_IDLE_NOTICE`].
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Returns true if that changed.
    pub(super) fn set_stalled(&self, stalled: bool) -> bool {
        self.stalled.swap(stalled, Ordering::Relaxed) != stalled
    }

    /// The peer is interested, and requests and reads blocks while it has an upload slot.
    pub fn wants_blocks(&self) -> bool {
        self.is_interested() && !self.is_stalled()
    }

    /// The number of pieces that the peer has announced.
    pub fn have_count(&self) -> u32 {
        self.have_count.load(Ordering::Relaxed)
    }

    pub(super) fn count_haves(&self, count: usize) {
        self.have_count.fetch_add(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// The number of requests of the peer that wait to be served.
    pub fn queued_count(&self) -> u32 {
        self.queued_count.load(Ordering::Relaxed)
    }

    pub(super) fn set_queued_count(&self, count: usize) {
        self.queued_count.store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// The client name of the peer's extension handshake (BEP 10): untrusted bytes.
    pub fn client(&self) -> Option<Box<[u8]>> {
        lock(&self.client).clone()
    }

    pub(super) fn set_client(&self, client: &[u8]) {
        *lock(&self.client) = Some(client.into());
    }

    /// Our address as the peer sees it (`yourip`, BEP 10).
    pub fn sees_us(&self) -> Option<IpAddr> {
        self.sees_us.get().copied()
    }

    /// The first report counts.
    pub(super) fn set_sees_us(&self, ip: IpAddr) {
        let _ = self.sees_us.set(ip);
    }

    /// Interest or stalling changed since the choker last looked at the peer.
    pub fn is_choke_review_due(&self) -> bool {
        self.choke_review_due.load(Ordering::Relaxed)
    }

    pub(super) fn request_choke_review(&self) {
        self.choke_review_due.store(true, Ordering::Release);
    }

    /// Returns true if a review was due. Loads first: most peers are not due, and a write would take the cache line.
    pub(super) fn take_choke_review(&self) -> bool {
        self.is_choke_review_due() && self.choke_review_due.swap(false, Ordering::AcqRel)
    }

    /// The choker's decision; the connection follows it.
    pub fn is_unchoked(&self) -> bool {
        self.unchoked.load(Ordering::Relaxed)
    }

    pub fn set_unchoked(&self, unchoked: bool) {
        self.unchoked.store(unchoked, Ordering::Relaxed);
    }

    /// The connection has to end: the peer was banned or evicted, is a duplicate, or its torrent was removed.
    pub fn is_close_requested(&self) -> bool {
        self.close_requested.load(Ordering::Relaxed)
    }

    pub fn request_close(&self) {
        self.close_requested.store(true, Ordering::Relaxed);
    }

    /// The peer contributed to a verified piece. Until then few blocks are requested from it at a time.
    pub fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    pub(super) fn set_proven(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// The peer contributed to a failed piece: it shares no piece with other peers until one of its own verifies.
    pub fn is_on_parole(&self) -> bool {
        self.on_parole.load(Ordering::Relaxed)
    }

    pub(super) fn set_on_parole(&self, on_parole: bool) {
        self.on_parole.store(on_parole, Ordering::Relaxed);
    }
}
