//! The limits on connections, in total and in their handshake, and the eviction of connections at the limit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::limits;
use crate::engine::network::external_address::ExternalAddress;
use crate::engine::shared::eviction::Eviction;
use crate::engine::shared::pending_handshakes::{HandshakePermit, PendingHandshakes};

/// Limits the session's connections, in total and in their handshake.
#[derive(Debug)]
pub(in crate::engine) struct Admission {
    connections_max: usize,
    /// The limit is lower than the user's, as the process may have too few descriptors.
    is_short_of_descriptors: bool,
    /// An incomplete torrent accepts no more connections once it has this many.
    pub(in crate::engine) leeching_max: usize,
    half_open_count: AtomicUsize,
    pending: PendingHandshakes,
    pub(in crate::engine) eviction: Eviction,
}

/// Whether a connection that was accepted may stay.
#[derive(Debug)]
pub(in crate::engine) enum Admitted {
    Yes(HandshakePermit),
    /// Another connection was asked to close: the caller must call `Rings::spread_news`, so that it does.
    InPlaceOfAnother(HandshakePermit),
    No,
    /// It would take a descriptor that the content needs.
    NoDescriptor,
}

impl Admission {
    /// The user wants at most `connections_max` connections, and the descriptors suffice for `affordable_max`.
    pub(in crate::engine) fn new(connections_max: usize, affordable_max: usize, leeching_max: usize) -> Self {
        Self {
            connections_max: connections_max.min(affordable_max),
            is_short_of_descriptors: affordable_max < connections_max,
            leeching_max,
            half_open_count: AtomicUsize::new(0),
            pending: PendingHandshakes::default(),
            eviction: Eviction::default(),
        }
    }

    /// Decides on an accepted connection from `address`, beside `connection_count` existing ones. `own` is our address
    /// as peers see it.
    pub(in crate::engine) fn admit(
        &self,
        connection_count: usize,
        own: &ExternalAddress,
        address: SocketAddr,
    ) -> Admitted {
        let Some(permit) = self.pending.enter(address.ip()) else { return Admitted::No };
        if connection_count < self.connections_max {
            Admitted::Yes(permit)
        } else if self.eviction.evict_for(own.get(), address) {
            Admitted::InPlaceOfAnother(permit)
        } else if self.is_short_of_descriptors {
            Admitted::NoDescriptor
        } else {
            Admitted::No
        }
    }

    /// The number of connections that may be opened now, beside `connection_count` existing ones.
    pub(in crate::engine) fn open_room(&self, connection_count: usize) -> usize {
        let half_open = self.half_open_count.load(Ordering::Relaxed);
        let room = self.connections_max.saturating_sub(connection_count);
        limits::HALF_OPEN_MAX.saturating_sub(half_open).min(room)
    }

    /// The limit is so close that useless connections should be closed.
    pub(in crate::engine) fn is_crowded(&self, connection_count: usize) -> bool {
        connection_count * 10 >= self.connections_max * limits::CROWDED_TENTHS
    }
}

/// Counts a connection of ours from the decision to open it to the end of its handshake.
#[derive(Debug)]
pub(in crate::engine) struct HalfOpenGuard(Arc<Admission>);

impl HalfOpenGuard {
    pub(in crate::engine) fn new(admission: &Arc<Admission>) -> Self {
        admission.half_open_count.fetch_add(1, Ordering::Relaxed);
        Self(admission.clone())
    }
}

impl Drop for HalfOpenGuard {
    fn drop(&mut self) {
        self.0.half_open_count.fetch_sub(1, Ordering::Relaxed);
    }
}
