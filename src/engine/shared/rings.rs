//! The ring threads as other threads see them: their channels and their numbers of connections.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{Notify, mpsc};

use crate::base::PeerId;
use crate::engine::shared::admission::HalfOpenGuard;
use crate::engine::shared::pending_handshakes::HandshakePermit;
use crate::engine::shared::received::Verified;
use crate::engine::torrent::Torrent;

/// A command to a ring thread.
#[derive(Debug)]
pub(in crate::engine) enum Command {
    Connect(Outgoing),
    Adopt(Incoming),
    Stop,
}

/// A connection to be opened.
#[derive(Debug)]
pub(in crate::engine) struct Outgoing {
    pub(in crate::engine) torrent: Arc<Torrent>,
    pub(in crate::engine) address: SocketAddr,
    /// The peer id that a tracker gave for the address, or that the first connection found.
    pub(in crate::engine) expected_id: Option<PeerId>,
    /// The connection is a further one to a peer.
    pub(in crate::engine) stream: Option<StreamOf>,
    pub(in crate::engine) guard: ConnectionGuard,
    pub(in crate::engine) half_open: HalfOpenGuard,
}

/// The first connection to a peer, beside which a further one is to be opened.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct StreamOf {
    /// The key of the first connection.
    pub(in crate::engine) first: u32,
    /// The id that the peer has issued for us.
    pub(in crate::engine) id: PeerId,
}

/// A connection that another ring has accepted.
#[derive(Debug)]
pub(in crate::engine) struct Incoming {
    pub(in crate::engine) socket: OwnedFd,
    pub(in crate::engine) address: SocketAddr,
    pub(in crate::engine) guard: ConnectionGuard,
    pub(in crate::engine) permit: HandshakePermit,
}

/// How to reach one ring thread.
#[derive(Debug)]
pub(in crate::engine) struct RingHandle {
    pub(in crate::engine) commands: mpsc::Sender<Command>,
    /// Includes connections whose handshake is pending.
    pub(in crate::engine) connection_count: AtomicUsize,
    /// Verified pieces to be written, in the batches in which they were hashed. There is room for every piece buffer of
    /// one torrent, but not of all torrents.
    pub(in crate::engine) verified: mpsc::Sender<Vec<Verified>>,
    /// There are new announcements or choke decisions for the connections.
    pub(in crate::engine) news: Arc<Notify>,
    /// Content that connections wait for is ready.
    pub(in crate::engine) ready: Arc<Notify>,
}

/// The ring threads as other threads see them: their channels and connection counts.
#[derive(Debug, Default)]
pub(in crate::engine) struct Rings {
    handles: OnceLock<Box<[RingHandle]>>,
    /// Of all rings, pending handshakes included.
    connection_count: AtomicUsize,
    next_key: AtomicU32,
    has_lost_one: AtomicBool,
}

impl Rings {
    /// The rings are about to start.
    pub(in crate::engine) fn handle_started(&self, handles: Vec<RingHandle>) {
        let _ = self.handles.set(handles.into());
    }

    /// Empty before the rings start.
    pub(in crate::engine) fn handles(&self) -> &[RingHandle] {
        self.handles.get().map_or(&[], |handles| handles)
    }

    /// Connections of all rings, pending handshakes included.
    pub(in crate::engine) fn connection_count(&self) -> usize {
        self.connection_count.load(Ordering::Relaxed)
    }

    /// The event loop of a ring thread has failed.
    pub(in crate::engine) fn handle_lost(&self) {
        self.has_lost_one.store(true, Ordering::Relaxed);
    }

    /// Whether the event loop of a ring thread has failed. The session cannot go on.
    pub(in crate::engine) fn has_lost_one(&self) -> bool {
        self.has_lost_one.load(Ordering::Relaxed)
    }

    /// The ring with the fewest connections.
    pub(in crate::engine) fn idlest(&self) -> Option<usize> {
        (0..self.handles().len()).min_by_key(|&index| self.connections_of(index))
    }

    pub(in crate::engine) fn connections_of(&self, ring_index: usize) -> usize {
        self.handles().get(ring_index).map_or(0, |ring| ring.connection_count.load(Ordering::Relaxed))
    }

    /// Returns the key of a new connection. A key is used again only after 2^32 further connections.
    pub(in crate::engine) fn next_key(&self) -> u32 {
        self.next_key.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// Makes every connection announce new pieces and apply choke decisions.
    pub(in crate::engine) fn spread_news(&self) {
        self.handles().iter().for_each(|ring| ring.news.notify_one());
    }

    /// Wakes every connection that waits for content.
    pub(in crate::engine) fn announce_ready(&self) {
        self.handles().iter().for_each(|ring| ring.ready.notify_one());
    }

    /// Hands verified pieces to the ring that writes them. Blocks while its channel is full.
    pub(in crate::engine) fn send_verified(&self, ring_index: usize, verified: Vec<Verified>) {
        if let Some(ring) = self.handles().get(ring_index) {
            // Refused only while the session ends.
            let _ = ring.verified.blocking_send(verified);
        }
    }
}

/// Counts a connection of one ring until it is dropped.
#[derive(Debug)]
pub(in crate::engine) struct ConnectionGuard {
    rings: Arc<Rings>,
    ring_index: usize,
}

impl ConnectionGuard {
    pub(in crate::engine) fn new(rings: &Arc<Rings>, ring_index: usize) -> Self {
        rings.connection_count.fetch_add(1, Ordering::Relaxed);
        if let Some(ring) = rings.handles().get(ring_index) {
            ring.connection_count.fetch_add(1, Ordering::Relaxed);
        }
        Self { rings: rings.clone(), ring_index }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.rings.connection_count.fetch_sub(1, Ordering::Relaxed);
        if let Some(ring) = self.rings.handles().get(self.ring_index) {
            ring.connection_count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
