//! Limits on connections whose handshake is pending, in total and per host.
//!
//! After the handshake a connection is counted by the peer list of its torrent.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use crate::base::lock::lock;
use crate::base::{host_of, limits};

/// Limits connections whose handshake is pending, in total and per host. Shared by all rings.
#[derive(Debug, Default)]
pub(in crate::engine) struct PendingHandshakes(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    by_host: HashMap<IpAddr, u32>,
    all: u32,
}

/// Permission for one connection to be in its handshake, until it is dropped.
#[derive(Debug)]
pub(in crate::engine) struct HandshakePermit {
    counts: Arc<Mutex<Counts>>,
    host: IpAddr,
}

impl PendingHandshakes {
    /// Returns `None` at a limit.
    pub(in crate::engine) fn enter(&self, ip: IpAddr) -> Option<HandshakePermit> {
        let host = host_of(ip);
        let mut counts = lock(&self.0);
        let of_host = counts.by_host.get(&host).copied().unwrap_or(0);
        if counts.all >= limits::PENDING_HANDSHAKES_MAX || of_host >= limits::PENDING_HANDSHAKES_PER_IP_MAX {
            return None;
        }
        counts.by_host.insert(host, of_host + 1);
        counts.all += 1;
        Some(HandshakePermit { counts: self.0.clone(), host })
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.all -= 1;
        if let Some(of_host) = counts.by_host.get_mut(&self.host) {
            *of_host -= 1;
            if *of_host == 0 {
                counts.by_host.remove(&self.host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn permits_are_limited_per_host_and_in_total() {
        let pending = PendingHandshakes::default();
        let mut permits: Vec<HandshakePermit> = Vec::new();
        // Every address of a /64 is the same host.
        for low in 0..limits::PENDING_HANDSHAKES_PER_IP_MAX {
            permits.push(pending.enter(ip(&format!("2001:db8:1:2:{low:x}::1"))).unwrap());
        }
        assert!(pending.enter(ip("2001:db8:1:2::ffff")).is_none());
        assert!(pending.enter(ip("2001:db8:1:3::ffff")).is_some());
        drop(permits.pop());
        assert!(pending.enter(ip("2001:db8:1:2::ffff")).is_some());
        for host in 0u32.. {
            match pending.enter(IpAddr::from(host.to_be_bytes())) {
                Some(permit) => permits.push(permit),
                None => break,
            }
        }
        assert_eq!(permits.len(), limits::PENDING_HANDSHAKES_MAX as usize);
        permits.clear();
        let counts = pending.0.lock().unwrap();
        assert!(counts.by_host.is_empty() && counts.all == 0);
    }
}
