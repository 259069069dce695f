//! The known peers, and the choice of which to connect to.
//!
//! Owns addresses, attempts with their back-off, trust and bans, and the number of connections with each host. Knows no
//! connection: the caller reports the outcome of each.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::awaited::Awaited;
use super::peer_shared::Traffic;
use super::pieces::{HashOutcome, Verdict};
use crate::base::cidr::AddressFilter;
use crate::base::limits::{
    CONNECT_ATTEMPTS_LOST_MAX, CONNECT_ATTEMPTS_MAX, CONNECT_HOPEFUL, CONNECT_RETRY_LOST_MIN, CONNECT_RETRY_MAX,
    CONNECT_RETRY_MIN, CONNECT_RETRY_OUTAGE_DIVISOR, CONNECTIONS_PER_IP_MAX, CONNECTS_PER_S, HALF_OPEN_MAX,
    PEER_LIST_MAX, TRUST_BAD_PIECE_ALONE, TRUST_BANNED, TRUST_GOOD_PIECE, TRUST_LIST_MAX, TRUST_MAX,
};
use crate::base::{Rng, Time, canonical_priority, host_of};

/// The source of a peer address; a later one is worth more than an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    Tracker,
    /// `--peer`: retried without limit, never evicted.
    User,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    /// An attempt began at this time.
    Connecting(Time),
    Connected,
    /// The address is our own.
    Own,
}

#[derive(Clone, Debug)]
struct Peer {
    source: Source,
    state: State,
    /// Consecutive attempts that failed, or connections that ended without a block.
    failures: u32,
    /// When the last connection on which the peer sent us blocks ended, or the first attempt at a peer of the user
    /// failed.
    outage_since: Option<Time>,
    /// No attempt is made before.
    retry_at: Time,
    /// The peer closed the last connection at our handshake.
    hung_up: bool,
    /// The peer has sent us blocks.
    has_sent: bool,
}

/// Known peers of one torrent: at most [`PEER_LIST_MAX`].
#[derive(Clone, Debug)]
pub struct PeerList {
    peers: BTreeMap<SocketAddr, Peer>,
    awaited: Awaited,
    filter: AddressFilter,
    /// The maximum number of connections with one host.
    per_host_max: usize,
    /// Our external address, if it is known.
    own: Option<SocketAddr>,
    /// The number of connections with each host: opening or open, incoming or outgoing.
    connections: BTreeMap<IpAddr, usize>,
    /// The trust in each host.
    trust: BTreeMap<IpAddr, i32>,
    /// Recent attempts in thousandths, decreasing with time; as of `connects_at`.
    connects: u128,
    connects_at: Time,
}

/// A host's part in a hashed piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contribution {
    /// Every block came from this host.
    Sole,
    /// Blocks came from other hosts too, or from an unknown source.
    Shared,
}

impl Default for PeerList {
    fn default() -> Self {
        Self {
            peers: BTreeMap::new(),
            awaited: Awaited::default(),
            filter: AddressFilter::default(),
            per_host_max: CONNECTIONS_PER_IP_MAX,
            own: None,
            connections: BTreeMap::new(),
            trust: BTreeMap::new(),
            connects: 0,
            connects_at: Time::ZERO,
        }
    }
}

impl PeerList {
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of known peers.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// An empty list that never connects to addresses that `filter` denies.
    pub fn with_filter(filter: AddressFilter) -> Self {
        Self { filter, ..Self::default() }
    }

    /// At most `per_host_max` connections with one host.
    #[must_use]
    pub fn limited_to(self, per_host_max: usize) -> Self {
        Self { per_host_max, ..self }
    }

    /// Sets our external address; `None`: it is unknown.
    pub fn set_own(&mut self, own: Option<SocketAddr>) {
        self.own = own;
    }

    /// A source announced peers. Addresses on which no peer can listen are skipped. A peer that was given up gets one
    /// more attempt. If the list is full, a new peer replaces only a worse one.
    pub fn handle_announced(&mut self, addrs: impl IntoIterator<Item = SocketAddr>, source: Source, rng: &mut Rng) {
        for addr in addrs.into_iter().map(canonical).filter(is_connectable) {
            if let Some(peer) = self.peers.get_mut(&addr) {
                peer.source = peer.source.max(source);
                peer.failures = peer.failures.min(peer.attempts_max() - 1);
            } else if self.peers.len() < PEER_LIST_MAX || self.evict_worse_than(source, rng) {
                self.peers.insert(addr, Peer::new(source));
            }
        }
    }

    /// A leecher that listens at `addr` has announced itself to our own tracker. It becomes a peer to connect to unless
    /// its host connects by itself within [`AWAITED_FOR`](crate::base::limits::AWAITED_FOR).
    pub fn handle_leecher(&mut self, now: Time, addr: SocketAddr) {
        if self.connection_count(addr.ip()) == 0 {
            self.awaited.handle_announced(now, canonical(addr));
        }
    }

    fn announce_awaited(&mut self, now: Time, rng: &mut Rng) {
        while let Some(addr) = self.awaited.poll(now) {
            if self.connection_count(addr.ip()) == 0 {
                self.handle_announced([addr], Source::Tracker, rng);
            }
        }
    }

    /// No peer is connected, and there is none to connect to: all known peers are banned or given up, and at least one
    /// is banned. Only newly announced or incoming peers can help.
    pub fn is_hopeless(&self) -> bool {
        self.connections.is_empty()
            && self.trust.values().any(|&trust| trust <= TRUST_BANNED)
            && !self.peers.iter().any(|(addr, peer)| peer.is_candidate() && !self.is_banned(addr.ip()))
    }

    /// The peers to connect to, if `lacking` connections are missing and `places` attempts may start: at most
    /// [`CONNECTS_PER_S`] over time. Hosts with the fewest connections come first, then peers with the fewest failures,
    /// then those with the highest canonical priority (BEP 40), or at random while our external address is unknown. An
    /// attempt younger than [`CONNECT_HOPEFUL`] counts as a connection. The caller must report the outcome of each with
    /// [`Self::handle_connected`] or [`Self::handle_failed`].
    pub fn poll_connect(&mut self, now: Time, lacking: usize, places: usize, rng: &mut Rng) -> Vec<SocketAddr> {
        self.announce_awaited(now, rng);
        let max = lacking.saturating_sub(self.hopeful_count(now)).min(places).min(self.connects_allowed(now));
        if max == 0 {
            return Vec::new();
        }
        let mut due: Vec<(SocketAddr, u32)> = self
            .peers
            .iter()
            .filter(|(addr, peer)| peer.is_candidate() && peer.retry_at <= now && self.accepts(addr.ip()))
            .map(|(&addr, peer)| (addr, peer.failures))
            .collect();
        rng.shuffle(&mut due);
        let priority = |addr| self.own.map(|own| canonical_priority(own, addr));
        due.sort_by_cached_key(|&(addr, failures)| (failures, Reverse(priority(addr))));
        // A host with many ports must not delay other hosts.
        let mut counts = BTreeMap::new();
        let turn = |(addr, _): (SocketAddr, u32)| {
            let count = counts.entry(host_of(addr.ip())).or_insert_with(|| self.connection_count(addr.ip()));
            *count += 1;
            (*count, addr)
        };
        let mut due: Vec<(usize, SocketAddr)> = due.into_iter().map(turn).collect();
        due.sort_by_key(|&(turn, _)| turn);
        let mut chosen = Vec::new();
        for (_, addr) in due {
            if chosen.len() >= max {
                break;
            }
            // Peers chosen before may have used up the connections with this host.
            if self.accepts(addr.ip()) {
                self.count_connection(addr.ip());
                self.set_state(addr, State::Connecting(now));
                self.connects += 1000;
                chosen.push(addr);
            }
        }
        chosen
    }

    /// Attempts younger than [`CONNECT_HOPEFUL`].
    fn hopeful_count(&self, now: Time) -> usize {
        let is_hopeful = |peer: &&Peer| matches!(peer.state, State::Connecting(since) if now < since + CONNECT_HOPEFUL);
        self.peers.values().filter(is_hopeful).count()
    }

    fn connects_allowed(&mut self, now: Time) -> usize {
        let elapsed = now.saturating_sub(self.connects_at).as_millis();
        self.connects_at = self.connects_at.max(now);
        self.connects = self.connects.saturating_sub(elapsed * u128::from(CONNECTS_PER_S));
        HALF_OPEN_MAX.saturating_sub(usize::try_from(self.connects.div_ceil(1000)).unwrap_or(usize::MAX))
    }

    /// Returns the peers that are being tried or will be: lost ones and those of the user first.
    pub fn prospects(&self) -> impl Iterator<Item = SocketAddr> + Clone {
        let is_prospect = |peer: &Peer| peer.is_candidate() || matches!(peer.state, State::Connecting(_));
        let prospects = self.peers.iter().filter(move |(addr, peer)| is_prospect(peer) && !self.is_banned(addr.ip()));
        let (first, rest) = (prospects.clone(), prospects);
        let is_lost = |peer: &Peer| peer.outage_since.is_some();
        let first = first.filter(move |(_, peer)| is_lost(peer));
        first.chain(rest.filter(move |(_, peer)| !is_lost(peer))).map(|(&addr, _)| addr)
    }

    /// When the next peer may be tried; `None` if there is none. May be in the past.
    pub fn poll_timeout(&self) -> Option<Time> {
        let candidates = self.peers.iter().filter(|(addr, peer)| peer.is_candidate() && self.accepts(addr.ip()));
        candidates.map(|(_, peer)| peer.retry_at).chain(self.awaited.poll_timeout()).min()
    }

    /// A connection of [`Self::poll_connect`] was established, handshake included.
    pub fn handle_connected(&mut self, addr: SocketAddr) {
        self.set_state(canonical(addr), State::Connected);
        self.peers.entry(canonical(addr)).and_modify(|peer| peer.hung_up = false);
    }

    /// An incoming connection was accepted. Check [`Self::accepts`] before.
    pub fn handle_accepted(&mut self, remote: SocketAddr) {
        let remote = canonical(remote);
        self.count_connection(remote.ip());
        self.set_state(remote, State::Connected);
    }

    /// A connection of [`Self::poll_connect`] was not established.
    pub fn handle_failed(&mut self, now: Time, addr: SocketAddr) {
        self.handle_disconnected(now, addr, Traffic::None);
    }

    /// The peer closed a connection of [`Self::poll_connect`] without sending a handshake. The caller still has to
    /// report the end of the attempt with [`Self::handle_failed`] or [`Self::handle_disconnected`]. A peer that has sent
    /// us blocks does not count: it had the torrent, and needs no encryption.
    pub fn handle_hung_up(&mut self, addr: SocketAddr) {
        self.peers.entry(canonical(addr)).and_modify(|peer| peer.hung_up |= !peer.has_sent);
    }

    /// The number of peers that closed their last connection at our handshake.
    pub fn hung_up_count(&self) -> usize {
        self.peers.values().filter(|peer| peer.hung_up).count()
    }

    /// An incoming or outgoing connection ended. A peer with which it exchanged blocks is worth another attempt. One
    /// that sent us blocks is tried again soon, and longer than others: it may be restarting.
    pub fn handle_disconnected(&mut self, now: Time, addr: SocketAddr, traffic: Traffic) {
        let addr = canonical(addr);
        let host = host_of(addr.ip());
        if let Some(count) = self.connections.get_mut(&host) {
            *count -= 1;
            if *count == 0 {
                self.connections.remove(&host);
            }
        }
        if let Some(peer) = self.peers.get_mut(&addr) {
            if peer.state != State::Own {
                peer.handle_disconnected(now, traffic);
            }
        } else if traffic == Traffic::Received {
            // The peer connected to us, so the port at which it listens is another one.
            let ports = SocketAddr::new(addr.ip(), 0)..=SocketAddr::new(addr.ip(), u16::MAX);
            let idle = self.peers.range_mut(ports).filter(|(_, peer)| peer.state == State::Idle);
            idle.for_each(|(_, peer)| peer.handle_disconnected(now, traffic));
        }
    }

    /// The peer at this address has our own peer id: it is never tried again. The caller still has to report the end of
    /// its connection with [`Self::handle_disconnected`].
    pub fn handle_own(&mut self, addr: SocketAddr) {
        self.set_state(canonical(addr), State::Own);
    }

    /// A piece was hashed: its senders gain or lose trust. Returns the hosts that this bans.
    ///
    /// If several peers contributed to a failed piece, each of them gets pieces of its own until the corrupting one is
    /// known.
    pub fn judge(&mut self, verdict: &Verdict, outcome: HashOutcome) -> Vec<IpAddr> {
        let mut hosts: Vec<IpAddr> = verdict.senders.iter().map(|sender| host_of(sender.address().ip())).collect();
        hosts.sort_unstable();
        hosts.dedup();
        // Several connections of one host count as one source: otherwise two of them could corrupt pieces without
        // limit.
        let contribution =
            if hosts.len() == 1 && !verdict.has_unknown { Contribution::Sole } else { Contribution::Shared };
        for sender in &verdict.senders {
            match outcome {
                HashOutcome::Verified => {
                    sender.set_proven();
                    if contribution == Contribution::Sole {
                        sender.set_on_parole(false);
                    }
                }
                HashOutcome::Failed => sender.set_on_parole(true),
            }
        }
        hosts.retain(|&host| !self.is_banned(host) && self.handle_verdict(host, outcome, contribution));
        hosts
    }

    /// A piece to which the host of `ip` contributed was hashed. Trust falls with each failed piece that the host sent
    /// alone, and grows with each verified one. Returns true if the host is banned.
    pub fn handle_verdict(&mut self, ip: IpAddr, outcome: HashOutcome, contribution: Contribution) -> bool {
        let host = host_of(ip);
        if !self.trust.contains_key(&host) && self.trust.len() >= TRUST_LIST_MAX {
            self.forget_least_trust();
        }
        let trust = self.trust.entry(host).or_insert(0);
        if *trust > TRUST_BANNED {
            *trust = match (outcome, contribution) {
                (HashOutcome::Verified, _) => (*trust + TRUST_GOOD_PIECE).min(TRUST_MAX),
                (HashOutcome::Failed, Contribution::Sole) => *trust + TRUST_BAD_PIECE_ALONE,
                (HashOutcome::Failed, Contribution::Shared) => *trust,
            };
        }
        *trust <= TRUST_BANNED
    }

    pub fn is_banned(&self, ip: IpAddr) -> bool {
        self.trust.get(&host_of(ip)).is_some_and(|&trust| trust <= TRUST_BANNED)
    }

    /// Whether one more connection with this address may be opened or accepted.
    pub fn accepts(&self, ip: IpAddr) -> bool {
        self.connection_count(ip) < self.per_host_max && !self.is_banned(ip) && self.filter.permits(ip)
    }

    /// The number of connections with the host of this address, opening or open.
    pub fn connection_count(&self, ip: IpAddr) -> usize {
        self.connections.get(&host_of(ip)).copied().unwrap_or(0)
    }

    fn count_connection(&mut self, ip: IpAddr) {
        *self.connections.entry(host_of(ip)).or_insert(0) += 1;
    }

    fn set_state(&mut self, addr: SocketAddr, state: State) {
        if let Some(peer) = self.peers.get_mut(&addr).filter(|peer| peer.state != State::Own) {
            peer.state = state;
        }
    }

    /// Equals stay: a source of long lists must not be able to flush the known peers.
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

    /// Makes room in the trust list: drops the entry closest to no trust at all, and a ban only if there are just bans.
    fn forget_least_trust(&mut self) {
        let least =
            self.trust.iter().min_by_key(|&(_, &trust)| (trust <= TRUST_BANNED, trust.abs())).map(|(&ip, _)| ip);
        if let Some(ip) = least {
            self.trust.remove(&ip);
        }
    }
}

impl Peer {
    fn new(source: Source) -> Self {
        let state = State::Idle;
        Self { source, state, failures: 0, outage_since: None, retry_at: Time::ZERO, hung_up: false, has_sent: false }
    }

    fn is_candidate(&self) -> bool {
        self.state == State::Idle && (self.source == Source::User || self.failures < self.attempts_max())
    }

    /// Consecutive failures after which the peer is given up.
    fn attempts_max(&self) -> u32 {
        if self.outage_since.is_some() { CONNECT_ATTEMPTS_LOST_MAX } else { CONNECT_ATTEMPTS_MAX }
    }

    fn handle_disconnected(&mut self, now: Time, traffic: Traffic) {
        self.state = State::Idle;
        self.failures = if traffic == Traffic::None { self.failures.saturating_add(1) } else { 0 };
        if traffic == Traffic::Received {
            self.has_sent = true;
            self.outage_since = Some(now);
        } else if self.source == Source::User {
            self.outage_since.get_or_insert(now);
        }
        self.retry_at = now + self.wait(now);
    }

    /// Returns the time before the next attempt. In an outage it is a share of the time that the outage has lasted;
    /// otherwise it doubles from [`CONNECT_RETRY_MIN`].
    fn wait(&self, now: Time) -> Time {
        let Some(since) = self.outage_since else {
            let doublings = self.failures.saturating_sub(1).min(16);
            return (CONNECT_RETRY_MIN * (1 << doublings)).min(CONNECT_RETRY_MAX);
        };
        let lasted = now.saturating_sub(since);
        (lasted / CONNECT_RETRY_OUTAGE_DIVISOR).clamp(CONNECT_RETRY_LOST_MIN, CONNECT_RETRY_MAX)
    }
}

/// Unwraps IPv4 addresses inside IPv6, so that one host has one address.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn is_connectable(addr: &SocketAddr) -> bool {
    let ip = addr.ip();
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}

#[cfg(test)]
#[path = "peer_list_tests.rs"]
mod tests;
