//! Our address as trackers and peers see it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::lock::lock;

/// Our address as trackers and peers see it. A tracker's report (BEP 24) overrides the peers' (`yourip`, BEP 10).
#[derive(Debug)]
pub(in crate::engine) struct ExternalAddress {
    /// At first the address at which we listen.
    address: Mutex<SocketAddr>,
    is_from_tracker: AtomicBool,
}

impl ExternalAddress {
    pub(in crate::engine) fn new(listen: SocketAddr) -> Self {
        Self { address: Mutex::new(listen), is_from_tracker: AtomicBool::new(false) }
    }

    /// The best address known; unspecified if none is.
    pub(in crate::engine) fn get(&self) -> SocketAddr {
        *lock(&self.address)
    }

    /// Like [`Self::get`]; `None` if no address is known.
    pub(in crate::engine) fn known(&self) -> Option<SocketAddr> {
        let address = self.get();
        (!address.ip().is_unspecified()).then_some(address)
    }

    /// A tracker sees us at this address.
    pub(in crate::engine) fn handle_tracker_report(&self, ip: IpAddr) {
        self.is_from_tracker.store(true, Ordering::Relaxed);
        self.set_ip(ip);
    }

    /// Several peers see us at this address.
    pub(in crate::engine) fn handle_peer_reports(&self, ip: IpAddr) {
        if !self.is_from_tracker.load(Ordering::Relaxed) {
            self.set_ip(ip);
        }
    }

    fn set_ip(&self, ip: IpAddr) {
        lock(&self.address).set_ip(ip.to_canonical());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracker_report_overrides_peer_reports() {
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        let address = ExternalAddress::new("0.0.0.0:6881".parse().unwrap());
        assert_eq!(address.known(), None);
        address.handle_peer_reports(ip(1));
        assert_eq!(address.known(), Some(SocketAddr::new(ip(1), 6881)));
        address.handle_tracker_report("::ffff:192.0.2.2".parse().unwrap());
        address.handle_peer_reports(ip(1));
        assert_eq!(address.known(), Some(SocketAddr::new(ip(2), 6881)));
    }
}
