//! Leechers that are expected to connect to us because they announced themselves to our own tracker.
//!
//! Some clients try uTP first and do not retry with TCP when that is refused; others are behind a firewall that blocks
//! outgoing connections. We connect to a leecher that has not connected within [`AWAITED_FOR`].

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::base::Time;
use crate::base::limits::{AWAITED_FOR, AWAITED_MAX};

/// At most [`AWAITED_MAX`] leechers, the longest awaited first.
#[derive(Clone, Debug, Default)]
pub(super) struct Awaited(VecDeque<(Time, SocketAddr)>);

impl Awaited {
    /// A leecher that listens at `addr` has announced itself. Ignored when the list is full: the leecher can still
    /// connect by itself.
    pub(super) fn handle_announced(&mut self, now: Time, addr: SocketAddr) {
        if self.0.len() < AWAITED_MAX && !self.0.iter().any(|&(_, awaited)| awaited == addr) {
            self.0.push_back((now + AWAITED_FOR, addr));
        }
    }

    /// Takes a leecher that was awaited for [`AWAITED_FOR`].
    pub(super) fn poll(&mut self, now: Time) -> Option<SocketAddr> {
        self.0.front().filter(|&&(at, _)| at <= now)?;
        self.0.pop_front().map(|(_, addr)| addr)
    }

    /// When [`Self::poll`] is next due.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.0.front().map(|&(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_leecher_is_awaited_once_for_a_limited_time() {
        let addr = |port| SocketAddr::from(([192, 0, 2, 1], port));
        let mut awaited = Awaited::default();
        assert_eq!((awaited.poll_timeout(), awaited.poll(Time::MAX)), (None, None));
        awaited.handle_announced(Time::ZERO, addr(1));
        awaited.handle_announced(AWAITED_FOR / 2, addr(2));
        awaited.handle_announced(AWAITED_FOR / 2, addr(1));
        assert_eq!((awaited.poll_timeout(), awaited.poll(AWAITED_FOR / 2)), (Some(AWAITED_FOR), None));
        assert_eq!(awaited.poll(AWAITED_FOR), Some(addr(1)));
        assert_eq!((awaited.poll(AWAITED_FOR), awaited.poll(AWAITED_FOR * 2)), (None, Some(addr(2))));
        for port in 1..=u16::try_from(AWAITED_MAX + 1).unwrap() {
            awaited.handle_announced(Time::ZERO, addr(port));
        }
        assert_eq!(std::iter::from_fn(|| awaited.poll(AWAITED_FOR)).count(), AWAITED_MAX);
    }
}
