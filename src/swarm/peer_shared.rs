//! What one connection shows to the others.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// What one connection shows to the choker, the statistics and the ban list.
#[derive(Debug)]
pub struct PeerShared {
    /// Differs from connection to connection.
    pub key: u32,
    pub address: SocketAddr,
    /// Payload bytes from the peer and to the peer.
    pub downloaded: AtomicU64,
    pub uploaded: AtomicU64,
    pub interested: AtomicBool,
    pub snubbed: AtomicBool,
    /// It asked for more than it reads, for some time: a peer that reads gets its slot.
    pub stalled: AtomicBool,
    /// The choker's will; the connection follows.
    pub unchoke: AtomicBool,
    /// The choker has to look again soon: interest changed, or whether it reads.
    pub choker_due: AtomicBool,
    /// The connection has to end: the peer was banned, or this is the second connection to it.
    pub dismissed: AtomicBool,
    /// It had a part in a piece that was right; until then it is asked for little at a time.
    pub proven: AtomicBool,
    /// It had a part in a wrong piece: it gets pieces of its own until one is right.
    pub on_parole: AtomicBool,
    pub have_count: AtomicU32,
    /// Blocks it asked for that wait to be sent.
    pub queued: AtomicU32,
    client: Mutex<Option<Box<[u8]>>>,
    /// The address the peer says that it sees us at.
    pub sees_us: OnceLock<IpAddr>,
}

impl PeerShared {
    pub fn new(key: u32, address: SocketAddr) -> Self {
        Self {
            key,
            address,
            downloaded: AtomicU64::new(0),
            uploaded: AtomicU64::new(0),
            interested: AtomicBool::new(false),
            snubbed: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            unchoke: AtomicBool::new(false),
            choker_due: AtomicBool::new(false),
            dismissed: AtomicBool::new(false),
            proven: AtomicBool::new(false),
            on_parole: AtomicBool::new(false),
            have_count: AtomicU32::new(0),
            queued: AtomicU32::new(0),
            client: Mutex::default(),
            sees_us: OnceLock::new(),
        }
    }

    pub(super) fn set_client(&self, client: &[u8]) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.into());
    }

    /// The client's name as it tells it; bytes from outside.
    pub fn client(&self) -> Option<Box<[u8]>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It wants what it can be sent.
    pub(super) fn wants(&self) -> bool {
        self.interested.load(Ordering::Relaxed) && !self.stalled.load(Ordering::Relaxed)
    }

    pub fn is_unchoked(&self) -> bool {
        self.unchoke.load(Ordering::Relaxed)
    }
}
