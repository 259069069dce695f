//! Connections that have not said yet which torrent they are for: how many there may be, in all and from one host.
//!
//! Those that have are counted by their torrent's peer list.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::{host_of, limits};

/// See the module. Shared by all rings.
#[derive(Debug, Default)]
pub(in crate::engine) struct Doorstep(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    by_host: HashMap<IpAddr, u32>,
    all: u32,
}

/// A place for one connection, until it is dropped.
#[derive(Debug)]
pub(in crate::engine) struct Place {
    counts: Arc<Mutex<Counts>>,
    host: IpAddr,
}

impl Doorstep {
    /// A place for a connection from this address; `None` when there is none left.
    pub(in crate::engine) fn enter(&self, ip: IpAddr) -> Option<Place> {
        let host = host_of(ip);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_host = counts.by_host.get(&host).copied().unwrap_or(0);
        if counts.all >= limits::PENDING_HANDSHAKES_MAX || of_host >= limits::PENDING_HANDSHAKES_PER_IP_MAX {
            return None;
        }
        counts.by_host.insert(host, of_host + 1);
        counts.all += 1;
        Some(Place { counts: self.0.clone(), host })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
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
    fn a_host_and_all_together_have_so_many_places() {
        let doorstep = Doorstep::default();
        let mut places: Vec<Place> = Vec::new();
        // Every address of a /64 is the same host.
        for low in 0..limits::PENDING_HANDSHAKES_PER_IP_MAX {
            places.push(doorstep.enter(ip(&format!("2001:db8:1:2:{low:x}::1"))).unwrap());
        }
        assert!(doorstep.enter(ip("2001:db8:1:2::ffff")).is_none());
        assert!(doorstep.enter(ip("2001:db8:1:3::ffff")).is_some());
        drop(places.pop());
        assert!(doorstep.enter(ip("2001:db8:1:2::ffff")).is_some());
        for host in 0u32.. {
            match doorstep.enter(IpAddr::from(host.to_be_bytes())) {
                Some(place) => places.push(place),
                None => break,
            }
        }
        assert_eq!(places.len(), limits::PENDING_HANDSHAKES_MAX as usize);
        places.clear();
        let counts = doorstep.0.lock().unwrap();
        assert!(counts.by_host.is_empty() && counts.all == 0);
    }
}
