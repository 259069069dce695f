//! Decides when to report a download without peers to the user: once for each outage, with the peers that are tried.

use std::fmt;
use std::net::SocketAddr;

use super::peer_list::PeerList;
use crate::base::Time;
use crate::base::limits::{LOST_PEERS_NOTICE, NO_PEERS_NOTICE, NO_PEERS_NOTICE_INTERVAL, PROSPECTS_SHOWN_MAX};
use crate::base::units::Count;

/// Decides when to report that a download has no peer.
#[derive(Debug, Default)]
pub struct WaitNotice {
    /// When the download was first seen without peers; `None` while it has some.
    since: Option<Time>,
    /// A peer has been connected before.
    was_connected: bool,
    /// The last report, which no other follows within [`NO_PEERS_NOTICE_INTERVAL`].
    reported_at: Option<Time>,
    is_reported: bool,
}

/// The peers that a download without peers tries, as a part of a sentence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prospects {
    shown: Vec<SocketAddr>,
    count: usize,
}

impl WaitNotice {
    /// Returns the peers that are tried, if their absence has to be reported. To be called about once a second.
    pub fn poll(&mut self, now: Time, peer_count: usize, list: &PeerList) -> Option<Prospects> {
        if peer_count > 0 {
            (self.since, self.was_connected, self.is_reported) = (None, true, false);
            return None;
        }
        let since = *self.since.get_or_insert(now);
        let patience = if self.was_connected { LOST_PEERS_NOTICE } else { NO_PEERS_NOTICE };
        let is_recent = self.reported_at.is_some_and(|at| now < at + NO_PEERS_NOTICE_INTERVAL);
        if self.is_reported || is_recent || now < since + patience {
            return None;
        }
        (self.is_reported, self.reported_at) = (true, Some(now));
        let prospects = list.prospects();
        Some(Prospects { shown: prospects.clone().take(PROSPECTS_SHOWN_MAX).collect(), count: prospects.count() })
    }
}

impl Prospects {
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Display for Prospects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.shown.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{address}")?;
        }
        match self.count.saturating_sub(self.shown.len()) {
            0 => Ok(()),
            more => write!(f, " and {}", Count(more as u64, "more peer")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use crate::swarm::Traffic;
    use crate::swarm::peer_list::Source;

    fn list(count: u8) -> PeerList {
        let mut list = PeerList::new();
        let peers = (1..=count).map(|host| SocketAddr::from(([10, 0, 0, host], 6881)));
        list.handle_announced(peers, Source::Tracker, &mut Rng::with_seed(1));
        list
    }

    #[test]
    fn each_outage_is_reported_once() {
        let (mut notice, list) = (WaitNotice::default(), list(1));
        let mut now = Time::ZERO;
        assert_eq!(notice.poll(now, 0, &list), None);
        now += NO_PEERS_NOTICE;
        assert_eq!(notice.poll(now, 0, &list).unwrap().to_string(), "10.0.0.1:6881");
        assert_eq!(notice.poll(now + NO_PEERS_NOTICE_INTERVAL, 0, &list), None);
        now += NO_PEERS_NOTICE_INTERVAL;
        assert_eq!(notice.poll(now, 1, &list), None);
        assert_eq!(notice.poll(now, 0, &list), None);
        assert!(notice.poll(now + LOST_PEERS_NOTICE, 0, &list).is_some());
        // A peer that comes and goes is not reported each time.
        now += 2 * LOST_PEERS_NOTICE;
        notice.poll(now, 1, &list);
        notice.poll(now, 0, &list);
        assert_eq!(notice.poll(now + LOST_PEERS_NOTICE, 0, &list), None);
    }

    #[test]
    fn lost_peers_are_named_first_and_the_rest_counted() {
        let mut list = list(5);
        let lost = SocketAddr::from(([10, 0, 0, 4], 6881));
        list.poll_connect(Time::ZERO, 5, usize::MAX, &mut Rng::with_seed(1));
        list.handle_connected(lost);
        list.handle_disconnected(Time::ZERO, lost, Traffic::Received);
        let mut notice = WaitNotice::default();
        notice.poll(Time::ZERO, 0, &list);
        let prospects = notice.poll(NO_PEERS_NOTICE, 0, &list).unwrap();
        assert_eq!(prospects.to_string(), "10.0.0.4:6881, 10.0.0.1:6881, 10.0.0.2:6881 and 2 more peers");
        assert!(!prospects.is_empty());
    }
}
