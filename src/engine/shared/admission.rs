//! The limits on connections, in total and in their handshake, and the eviction of connections at the limit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::limits;
use crate::engine::network::external_address::ExternalAddress;
use crate::engine::shared::eviction::Eviction;
use crate::engine::shared::pending_handshakes::{HandshakePermit, PendingHandshakes};
use crate::io::Descriptors;

/// Limits the session's connections, in total and in their handshake.
#[derive(Debug)]
pub(in crate::engine) struct Admission {
    connections_max: usize,
    /// No connection is accepted beside this many.
    accepted_max: usize,
    /// The limit is lower than the user's, because the process may not have enough descriptors.
    is_short_of_descriptors: bool,
    /// An incomplete torrent accepts no more connections once it has this many.
    pub(in crate::engine) leeching_max: usize,
    half_open_count: AtomicUsize,
    pending: PendingHandshakes,
    pub(in crate::engine) eviction: Eviction,
}

/// The connections for which the process has descriptors.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Affordable {
    connections_max: usize,
    /// No connection is accepted beside this many.
    accepted_max: usize,
}

impl Affordable {
    pub(in crate::engine) fn of_origin(descriptors: Descriptors) -> Self {
        let connections_max = descriptors.seeding_connections;
        Self { connections_max, accepted_max: connections_max }
    }

    /// Half of the connections of a download are left to the peers that it chooses.
    pub(in crate::engine) fn of_download(descriptors: Descriptors) -> Self {
        let connections_max = descriptors.downloading_connections;
        Self { connections_max, accepted_max: connections_max / 2 }
    }
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
    /// The user wants at most `connections_max` connections.
    pub(in crate::engine) fn new(connections_max: usize, affordable: Affordable, leeching_max: usize) -> Self {
        Self {
            connections_max: connections_max.min(affordable.connections_max),
            is_short_of_descriptors: affordable.connections_max < connections_max,
            accepted_max: connections_max.min(affordable.accepted_max),
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
        if connection_count < self.accepted_max {
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
