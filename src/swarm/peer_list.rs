//! The peers we know of, and whether to connect to them.
//!
//! Owns addresses, attempts with their back-off, trust and bans, and the count of connections for each IP address. Knows
//! no connection: it is told what became of each.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::base::limits::{
    CONNECT_ATTEMPTS_MAX, CONNECT_RETRY_MAX, CONNECT_RETRY_MIN, CONNECTIONS_PER_IP_MAX, PEER_LIST_MAX, TRUST_BAD_PIECE,
    TRUST_BANNED, TRUST_GOOD_PIECE, TRUST_LIST_MAX, TRUST_MAX,
};
use crate::base::{Rng, Time};

/// Who told us of a peer; a later one is worth more than an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    Tracker,
    /// `--peer`: tried for ever, never evicted.
    User,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    Connecting,
    Connected,
    /// It is us.
    Own,
}

#[derive(Clone, Debug)]
struct Peer {
    source: Source,
    state: State,
    /// Attempts in a row that failed, or connections that ended without a block.
    failures: u32,
    /// Not to be tried before.
    retry_at: Time,
}

/// Known peers of one torrent: at most [`PEER_LIST_MAX`].
#[derive(Clone, Debug, Default)]
pub struct PeerList {
    peers: BTreeMap<SocketAddr, Peer>,
    /// Connections, opening or open, in and out.
    connections: BTreeMap<IpAddr, usize>,
    trust: BTreeMap<IpAddr, i32>,
}

impl PeerList {
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of known peers.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Somebody names peers. Addresses nobody can listen on are skipped; one given up before gets one more attempt. When
    /// the list is full only a peer worse than the new one makes room.
    pub fn handle_announced(&mut self, addrs: impl IntoIterator<Item = SocketAddr>, source: Source, rng: &mut Rng) {
        for addr in addrs.into_iter().map(canonical).filter(is_connectable) {
            if let Some(peer) = self.peers.get_mut(&addr) {
                peer.source = peer.source.max(source);
                peer.failures = peer.failures.min(CONNECT_ATTEMPTS_MAX - 1);
            } else if self.peers.len() < PEER_LIST_MAX || self.evict_worse_than(source, rng) {
                let peer = Peer { source, state: State::Idle, failures: 0, retry_at: Time::ZERO };
                self.peers.insert(addr, peer);
            }
        }
    }

    /// Up to `max` peers to connect to now, those with the fewest failures first, otherwise at random. Each one's outcome
    /// must be told by [`Self::handle_connected`] or [`Self::handle_failed`].
    pub fn poll_connect(&mut self, now: Time, max: usize, rng: &mut Rng) -> Vec<SocketAddr> {
        let mut due: Vec<(SocketAddr, u32)> = self
            .peers
            .iter()
            .filter(|(addr, peer)| peer.is_candidate() && peer.retry_at <= now && self.accepts(addr.ip()))
            .map(|(&addr, peer)| (addr, peer.failures))
            .collect();
        rng.shuffle(&mut due);
        due.sort_by_key(|&(_, failures)| failures);

        let mut chosen = Vec::new();
        for (addr, _) in due {
            if chosen.len() >= max {
                break;
            }
            // Those chosen before may have used up this address.
            if self.accepts(addr.ip()) {
                self.count_connection(addr.ip());
                self.set_state(addr, State::Connecting);
                chosen.push(addr);
            }
        }
        chosen
    }

    /// When the next peer may be tried, if there is one to try. May lie in the past.
    pub fn poll_timeout(&self) -> Option<Time> {
        let candidates = self.peers.iter().filter(|(addr, peer)| peer.is_candidate() && self.accepts(addr.ip()));
        candidates.map(|(_, peer)| peer.retry_at).min()
    }

    /// A connection of [`Self::poll_connect`] stands, handshake included.
    pub fn handle_connected(&mut self, addr: SocketAddr) {
        self.set_state(canonical(addr), State::Connected);
    }

    /// A connection that came in was accepted; ask [`Self::accepts`] before.
    pub fn handle_accepted(&mut self, remote: SocketAddr) {
        let remote = canonical(remote);
        self.count_connection(remote.ip());
        self.set_state(remote, State::Connected);
    }

    /// A connection of [`Self::poll_connect`] did not come about.
    pub fn handle_failed(&mut self, now: Time, addr: SocketAddr) {
        self.handle_disconnected(now, addr, false);
    }

    /// A connection, in or out, ended. `useful`: a block came or went on it, so the peer is worth coming back to.
    pub fn handle_disconnected(&mut self, now: Time, addr: SocketAddr, useful: bool) {
        let addr = canonical(addr);
        if let Some(count) = self.connections.get_mut(&addr.ip()) {
            *count -= 1;
            if *count == 0 {
                self.connections.remove(&addr.ip());
            }
        }
        let Some(peer) = self.peers.get_mut(&addr).filter(|peer| peer.state != State::Own) else { return };
        peer.state = State::Idle;
        peer.failures = if useful { 0 } else { peer.failures.saturating_add(1) };
        peer.retry_at = now + back_off(peer.failures);
    }

    /// The peer at this address has our own peer id: never tried again. Its connection still ends with
    /// [`Self::handle_disconnected`].
    pub fn handle_own(&mut self, addr: SocketAddr) {
        self.set_state(canonical(addr), State::Own);
    }

    /// A piece that `ip` sent blocks of was checked. A bad one that it sent alone bans it at once; otherwise trust falls
    /// with each bad piece and grows with each good one. True when it is banned now.
    pub fn handle_verdict(&mut self, ip: IpAddr, good: bool, sole_source: bool) -> bool {
        let ip = ip.to_canonical();
        if !self.trust.contains_key(&ip) && self.trust.len() >= TRUST_LIST_MAX {
            self.forget_least_telling();
        }
        let trust = self.trust.entry(ip).or_insert(0);
        if *trust > TRUST_BANNED {
            *trust = match (good, sole_source) {
                (true, _) => (*trust + TRUST_GOOD_PIECE).min(TRUST_MAX),
                (false, true) => TRUST_BANNED,
                (false, false) => *trust + TRUST_BAD_PIECE,
            };
        }
        *trust <= TRUST_BANNED
    }

    pub fn is_banned(&self, ip: IpAddr) -> bool {
        self.trust.get(&ip.to_canonical()).is_some_and(|&trust| trust <= TRUST_BANNED)
    }

    /// Whether one more connection with this address is welcome.
    pub fn accepts(&self, ip: IpAddr) -> bool {
        let count = self.connections.get(&ip.to_canonical()).copied().unwrap_or(0);
        count < CONNECTIONS_PER_IP_MAX && !self.is_banned(ip)
    }

    fn count_connection(&mut self, ip: IpAddr) {
        *self.connections.entry(ip).or_insert(0) += 1;
    }

    fn set_state(&mut self, addr: SocketAddr, state: State) {
        if let Some(peer) = self.peers.get_mut(&addr).filter(|peer| peer.state != State::Own) {
            peer.state = state;
        }
    }

    /// Equals stay: whoever sends long lists must not be able to flush what we know.
    fn evict_worse_than(&mut self, source: Source, rng: &mut Rng) -> bool {
        let worst = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.state == State::Idle && peer.source != Source::User)
            .filter(|(_, peer)| peer.failures > 0 || peer.source < source)
            .max_by_key(|(_, peer)| (peer.failures, rng.u32(..)))
            .map(|(&addr, _)| addr);
        worst.is_some_and(|addr| self.peers.remove(&addr).is_some())
    }

    /// Makes room in the trust list: who is nearest to a stranger goes, a ban last.
    fn forget_least_telling(&mut self) {
        let least =
            self.trust.iter().min_by_key(|&(_, &trust)| (trust <= TRUST_BANNED, trust.abs())).map(|(&ip, _)| ip);
        if let Some(ip) = least {
            self.trust.remove(&ip);
        }
    }
}

impl Peer {
    fn is_candidate(&self) -> bool {
        self.state == State::Idle && (self.source == Source::User || self.failures < CONNECT_ATTEMPTS_MAX)
    }
}

/// Doubling from [`CONNECT_RETRY_MIN`] to [`CONNECT_RETRY_MAX`].
fn back_off(failures: u32) -> Time {
    let doublings = failures.saturating_sub(1).min(16);
    (CONNECT_RETRY_MIN * (1 << doublings)).min(CONNECT_RETRY_MAX)
}

/// IPv4 inside IPv6 unwrapped, so that one host has one address.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn is_connectable(addr: &SocketAddr) -> bool {
    let ip = addr.ip();
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_secs(1000);

    fn rng() -> Rng {
        Rng::with_seed(1)
    }

    fn peer(n: u32) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::from_bits(0x0a00_0000 + n).into(), 6881)
    }

    fn list(count: u32) -> PeerList {
        let mut list = PeerList::new();
        list.handle_announced((0..count).map(peer), Source::Tracker, &mut rng());
        list
    }

    fn fail_all(list: &mut PeerList, now: Time) -> usize {
        let tried = list.poll_connect(now, usize::MAX, &mut rng());
        tried.iter().for_each(|&addr| list.handle_failed(now, addr));
        tried.len()
    }

    #[test]
    fn addresses_nobody_listens_on_are_skipped() {
        let mut list = PeerList::new();
        let addrs = [
            "10.0.0.1:0",
            "0.0.0.0:1",
            "[::]:1",
            "224.0.0.1:1",
            "[ff02::1]:1",
            "255.255.255.255:1",
            "127.0.0.1:1",
            "[::ffff:127.0.0.1]:1",
            "[2001:db8::1]:1",
        ];
        list.handle_announced(addrs.iter().map(|text| text.parse().unwrap()), Source::Tracker, &mut rng());
        let mut chosen = list.poll_connect(NOW, 10, &mut rng());
        chosen.sort_unstable();
        assert_eq!(chosen, ["127.0.0.1:1", "[2001:db8::1]:1"].map(|text| text.parse().unwrap()));
    }

    #[test]
    fn each_peer_is_tried_by_one_connection() {
        let mut list = list(50);
        let first = list.poll_connect(NOW, 30, &mut rng());
        assert_eq!(first.len(), 30);
        list.handle_connected(first[0]);
        let second = list.poll_connect(NOW, 30, &mut rng());
        assert_eq!(second.len(), 20);
        assert!(second.iter().all(|addr| !first.contains(addr)));
        assert_eq!(list.poll_timeout(), None);
    }

    #[test]
    fn the_same_seed_gives_the_same_order() {
        let order = |seed| list(100).poll_connect(NOW, 10, &mut Rng::with_seed(seed));
        assert_eq!(order(5), order(5));
        assert_ne!(order(5), order(6));
    }

    #[test]
    fn attempts_back_off_and_end_until_announced_again() {
        let mut list = list(1);
        assert_eq!(fail_all(&mut list, NOW), 1);
        assert_eq!(list.poll_timeout(), Some(NOW + CONNECT_RETRY_MIN));
        assert_eq!(fail_all(&mut list, NOW + Time::from_secs(9)), 0);
        assert_eq!(fail_all(&mut list, NOW + Time::from_secs(10)), 1);
        assert_eq!(fail_all(&mut list, NOW + Time::from_secs(29)), 0);
        assert_eq!(fail_all(&mut list, NOW + Time::from_secs(30)), 1);
        assert_eq!(list.poll_timeout(), None);
        list.handle_announced([peer(0)], Source::Tracker, &mut rng());
        assert_eq!(list.poll_timeout(), Some(NOW + Time::from_secs(70)));
        assert_eq!(fail_all(&mut list, NOW + Time::from_secs(70)), 1);
        assert_eq!(list.poll_timeout(), None);
    }

    #[test]
    fn a_peer_the_user_names_is_tried_for_ever() {
        let mut list = PeerList::new();
        list.handle_announced([peer(0)], Source::User, &mut rng());
        for _ in 0..100 {
            let due = list.poll_timeout().unwrap();
            assert_eq!(fail_all(&mut list, due), 1);
            assert!(list.poll_timeout().unwrap() <= due + CONNECT_RETRY_MAX);
        }
    }

    #[test]
    fn a_useful_connection_clears_the_failures() {
        let mut list = list(1);
        fail_all(&mut list, NOW);
        fail_all(&mut list, NOW + Time::from_secs(10));
        let later = NOW + Time::from_secs(60);
        list.poll_connect(later, 1, &mut rng());
        list.handle_connected(peer(0));
        list.handle_disconnected(later, peer(0), true);
        assert_eq!(list.poll_timeout(), Some(later + CONNECT_RETRY_MIN));
    }

    #[test]
    fn our_own_address_is_never_tried_again() {
        let mut list = list(1);
        list.poll_connect(NOW, 1, &mut rng());
        list.handle_own(peer(0));
        list.handle_disconnected(NOW, peer(0), false);
        list.handle_announced([peer(0)], Source::User, &mut rng());
        assert_eq!(list.poll_connect(NOW + Time::from_secs(9999), 1, &mut rng()), []);
    }

    #[test]
    fn trust_falls_to_a_ban_and_grows_to_a_bound() {
        let mut list = list(2);
        let ip = peer(0).ip();
        assert!((0..3).all(|_| !list.handle_verdict(ip, false, false)));
        assert!(list.handle_verdict(ip, false, false), "the fourth in a row");
        assert!(list.is_banned(ip) && !list.accepts(ip));
        assert!(list.handle_verdict(ip, true, false), "a ban stays");
        assert_eq!(list.poll_connect(NOW, 10, &mut rng()), [peer(1)]);

        let honest = peer(1).ip();
        (0..100).for_each(|_| assert!(!list.handle_verdict(honest, true, true)));
        assert!((0..7).all(|_| !list.handle_verdict(honest, false, false)));
        assert!(list.handle_verdict(honest, false, false));
    }

    #[test]
    fn the_only_source_of_a_bad_piece_is_banned_at_once() {
        let mut list = PeerList::new();
        assert!(list.handle_verdict("::ffff:10.0.0.1".parse().unwrap(), false, true));
        assert!(list.is_banned("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn bans_outlive_a_flood_of_addresses() {
        let mut list = PeerList::new();
        list.handle_verdict(peer(0).ip(), false, true);
        for n in 1..u32::try_from(TRUST_LIST_MAX).unwrap() + 50 {
            list.handle_verdict(peer(n).ip(), true, false);
        }
        assert!(list.is_banned(peer(0).ip()));
        assert_eq!(list.trust.len(), TRUST_LIST_MAX);
    }

    #[test]
    fn connections_for_an_ip_are_bounded() {
        let mut list = PeerList::new();
        let port = |port| SocketAddr::new(peer(0).ip(), port);
        list.handle_announced((1..=100).map(port), Source::Tracker, &mut rng());
        assert_eq!(list.poll_connect(NOW, 1000, &mut rng()).len(), CONNECTIONS_PER_IP_MAX);
        assert!(!list.accepts(peer(0).ip()));
        assert_eq!(list.poll_timeout(), None);
        list.handle_failed(NOW, port(1));
        assert!(list.accepts(peer(0).ip()));
        list.handle_accepted(port(50_000));
        assert!(!list.accepts(peer(0).ip()));
        list.handle_disconnected(NOW, port(50_000), true);
        assert!(list.accepts(peer(0).ip()));
    }

    #[test]
    fn a_full_list_lets_only_a_worse_peer_go() {
        let full = u32::try_from(PEER_LIST_MAX).unwrap();
        let mut list = list(full);
        list.handle_announced([peer(full)], Source::Tracker, &mut rng());
        assert!(!list.peers.contains_key(&peer(full)), "equals stay");
        let tried = list.poll_connect(NOW, 1, &mut rng())[0];
        list.handle_failed(NOW, tried);
        list.handle_announced([peer(full)], Source::Tracker, &mut rng());
        assert!(list.peers.contains_key(&peer(full)) && !list.peers.contains_key(&tried));
        list.handle_announced([peer(full + 1)], Source::User, &mut rng());
        assert!(list.peers.contains_key(&peer(full + 1)));
        assert_eq!(list.len(), PEER_LIST_MAX);
    }
}
