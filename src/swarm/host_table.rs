//! The hosts of all torrents that have all pieces, as announcements to our own tracker and connections show them.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use super::hosts::{Effect, HostCounts, Hosts, Room, Rooms, Sighting};
use crate::base::limits::{HOST_CLAIM_GRACE, HOSTS_COUNTED_IN_ALL_MAX};
use crate::base::{InfoHash, Time};

/// Counts the hosts of each torrent, and reports each host once when it has all pieces.
///
/// A host can lie about its pieces, but counts at most once. When a limit of the number of hosts is reached, further
/// hosts are not counted.
#[derive(Debug, Default)]
pub struct HostTable {
    torrents: HashMap<InfoHash, Hosts>,
    host_count: usize,
    /// In the order of their times; at most [`HOSTS_COUNTED_IN_ALL_MAX`].
    claims: VecDeque<Claim>,
    /// Not polled yet. A host is in it at most once.
    completions: VecDeque<HostCompletion>,
}

/// A host that announced that nothing is left to download.
#[derive(Debug)]
struct Claim {
    since: Time,
    info_hash: InfoHash,
    host: usize,
    ip: IpAddr,
}

/// A host that has all pieces of a torrent, with the counts at that time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostCompletion {
    pub info_hash: InfoHash,
    /// The address at which the host was seen last.
    pub ip: IpAddr,
    pub counts: HostCounts,
}

/// Whether the host of a sighting is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Counted {
    Yes,
    /// A limit of the number of hosts is reached.
    Full,
}

impl HostTable {
    /// Takes a sighting of a peer of this torrent. `now` must not decrease.
    pub fn handle_sighting(&mut self, now: Time, info_hash: InfoHash, sighting: Sighting) -> Counted {
        let ip = sighting.ip.to_canonical();
        let room = Rooms {
            hosts: Room::of(self.host_count, HOSTS_COUNTED_IN_ALL_MAX),
            claims: Room::of(self.claims.len(), HOSTS_COUNTED_IN_ALL_MAX),
        };
        let hosts = self.torrents.entry(info_hash).or_default();
        let seen = hosts.counts().seen;
        let effect = hosts.handle(now, sighting, room);
        let counts = hosts.counts();
        self.host_count += counts.seen - seen;
        match effect {
            Effect::None => {}
            Effect::Full => return Counted::Full,
            Effect::Claims(host) => self.claims.push_back(Claim { since: now, info_hash, host, ip }),
            Effect::Completed => self.completions.push_back(HostCompletion { info_hash, ip, counts }),
        }
        Counted::Yes
    }

    /// Returns the next host that has all pieces of a torrent.
    pub fn poll_completion(&mut self, now: Time) -> Option<HostCompletion> {
        while let Some(&Claim { since, info_hash, host, ip }) = self.claims.front()
            && now >= since + HOST_CLAIM_GRACE
        {
            self.claims.pop_front();
            let Some(hosts) = self.torrents.get_mut(&info_hash) else { continue };
            if hosts.settle(host, since) {
                self.completions.push_back(HostCompletion { info_hash, ip, counts: hosts.counts() });
            }
        }
        self.completions.pop_front()
    }

    pub fn counts(&self, info_hash: InfoHash) -> HostCounts {
        self.torrents.get(&info_hash).map(Hosts::counts).unwrap_or_default()
    }

    /// Forgets a torrent.
    pub fn remove(&mut self, info_hash: InfoHash) {
        if let Some(hosts) = self.torrents.remove(&info_hash) {
            self.host_count -= hosts.counts().seen;
            self.completions.retain(|completion| completion.info_hash != info_hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::PeerId;
    use crate::base::limits::HOSTS_COUNTED_MAX;
    use crate::swarm::Holding;

    const HASH: InfoHash = InfoHash([7; 20]);
    const START: Time = Duration::from_secs(100);

    fn sighting(ip: &str, peer: u8, holding: Holding) -> Sighting {
        Sighting { ip: ip.parse().unwrap(), peer_id: PeerId([peer; 20]), holding }
    }

    /// A table in which peers are seen and polled at the same time.
    #[derive(Default)]
    struct Fixture(HostTable);

    impl Fixture {
        fn see(&mut self, seconds: u64, ip: &str, peer: u8, holding: Holding) {
            let now = START + Duration::from_secs(seconds);
            assert_eq!(self.0.handle_sighting(now, HASH, sighting(ip, peer, holding)), Counted::Yes);
        }

        /// Returns the addresses of the hosts that have completed.
        fn completed(&mut self, seconds: u64) -> Vec<String> {
            let now = START + Duration::from_secs(seconds);
            std::iter::from_fn(|| self.0.poll_completion(now)).map(|completion| completion.ip.to_string()).collect()
        }

        /// Returns the numbers of complete and of seen hosts.
        fn counts(&self) -> [usize; 2] {
            let HostCounts { seen, complete } = self.0.counts(HASH);
            [complete, seen]
        }
    }

    #[test]
    fn a_host_counts_once_by_any_number_of_peers() {
        let mut fixture = Fixture::default();
        for peer in 0..3 {
            fixture.see(0, "10.0.0.1", peer, Holding::Partial);
            fixture.see(0, "::ffff:10.0.0.1", peer, Holding::Complete);
        }
        fixture.see(0, "10.0.0.2", 9, Holding::Partial);
        assert_eq!(fixture.completed(0), ["10.0.0.1"]);
        assert_eq!((fixture.counts(), fixture.completed(99)), ([1, 2], vec![]));
        fixture.see(0, "10.0.0.1", 1, Holding::Partial);
        assert_eq!(fixture.counts(), [1, 2], "a host that was counted stays counted");
    }

    #[test]
    fn a_claim_counts_unless_the_host_lacks_pieces_soon() {
        let mut fixture = Fixture::default();
        fixture.see(0, "10.0.0.1", 1, Holding::Claimed);
        fixture.see(1, "10.0.0.1", 1, Holding::Claimed);
        fixture.see(1, "10.0.0.2", 2, Holding::Claimed);
        fixture.see(2, "10.0.0.2", 2, Holding::Partial);
        fixture.see(2, "10.0.0.3", 3, Holding::Claimed);
        fixture.see(2, "10.0.0.3", 3, Holding::Complete);
        assert_eq!((fixture.completed(2), fixture.counts()), (vec!["10.0.0.3".to_owned()], [1, 3]));
        assert_eq!(fixture.completed(3), ["10.0.0.1"]);
        fixture.see(3, "10.0.0.2", 2, Holding::Claimed);
        assert_eq!(fixture.completed(5), [""; 0], "the first claim was withdrawn");
        assert_eq!((fixture.completed(6), fixture.counts()), (vec!["10.0.0.2".to_owned()], [3, 3]));
    }

    #[test]
    fn both_addresses_of_a_peer_are_one_host() {
        let mut fixture = Fixture::default();
        fixture.see(0, "10.0.0.1", 1, Holding::Partial);
        fixture.see(0, "2001:db8::1", 1, Holding::Complete);
        assert_eq!(fixture.counts(), [1, 1]);
        // Only one address of each family: peer ids are public.
        fixture.see(0, "10.0.0.2", 1, Holding::Complete);
        fixture.see(0, "2001:db8:0:1::1", 1, Holding::Partial);
        assert_eq!(fixture.counts(), [2, 3]);
    }

    #[test]
    fn a_claim_without_room_leaves_the_host_as_it_was() {
        let mut fixture = Fixture::default();
        // A host that claims and lacks pieces in turn fills the queue.
        for _ in 0..HOSTS_COUNTED_IN_ALL_MAX {
            fixture.see(0, "10.0.0.1", 1, Holding::Claimed);
            fixture.see(0, "10.0.0.1", 1, Holding::Partial);
        }
        fixture.see(0, "10.0.0.2", 2, Holding::Claimed);
        assert_eq!((fixture.completed(9), fixture.counts()), (vec![], [0, 2]));
        fixture.see(9, "10.0.0.2", 2, Holding::Claimed);
        assert_eq!((fixture.completed(12), fixture.counts()), (vec!["10.0.0.2".to_owned()], [1, 2]));
    }

    #[test]
    fn hosts_beyond_the_limit_are_not_counted() {
        let mut table = HostTable::default();
        for number in 0..u32::try_from(HOSTS_COUNTED_MAX).unwrap() {
            let ip = std::net::Ipv4Addr::from_bits(number).to_string();
            assert_eq!(table.handle_sighting(START, HASH, sighting(&ip, 0, Holding::Complete)), Counted::Yes);
        }
        let further = sighting("192.0.2.1", 0, Holding::Complete);
        assert_eq!(table.handle_sighting(START, HASH, further), Counted::Full);
        assert_eq!(table.handle_sighting(START, InfoHash([8; 20]), further), Counted::Yes);
        let counts = HostCounts { seen: HOSTS_COUNTED_MAX, complete: HOSTS_COUNTED_MAX };
        assert_eq!((table.counts(HASH), table.host_count), (counts, HOSTS_COUNTED_MAX + 1));
        table.remove(HASH);
        assert_eq!((table.counts(HASH), table.host_count), (HostCounts::default(), 1));
        assert_eq!(std::iter::from_fn(|| table.poll_completion(START)).count(), 1);
    }
}
