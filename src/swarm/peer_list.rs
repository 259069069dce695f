//! The peers we know of, and whether to connect to them.
//!
//! Owns addresses, attempts with their back-off, trust and bans, and the count of connections for each host. Knows
//! no connection: it is told what became of each.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::awaited::Awaited;
use super::pieces::{HashOutcome, Verdict};
use crate::base::cidr::AddressFilter;
use crate::base::limits::{
    CONNECT_ATTEMPTS_MAX, CONNECT_HOPEFUL, CONNECT_RETRY_MAX, CONNECT_RETRY_MIN, CONNECTIONS_PER_IP_MAX,
    CONNECTS_PER_S, HALF_OPEN_MAX, PEER_LIST_MAX, TRUST_BAD_PIECE_ALONE, TRUST_BANNED, TRUST_GOOD_PIECE,
    TRUST_LIST_MAX, TRUST_MAX,
};
use crate::base::{Rng, Time, canonical_priority, host_of};

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
    /// Since then.
    Connecting(Time),
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
    /// It closed the last connection at our handshake.
    hung_up: bool,
}

/// Known peers of one torrent: at most [`PEER_LIST_MAX`].
#[derive(Clone, Debug)]
pub struct PeerList {
    peers: BTreeMap<SocketAddr, Peer>,
    awaited: Awaited,
    filter: AddressFilter,
    /// Connections with one host.
    per_host_max: usize,
    /// Where others see us, if it is known.
    own: Option<SocketAddr>,
    /// Connections, opening or open, in and out.
    connections: BTreeMap<IpAddr, usize>,
    /// By host.
    trust: BTreeMap<IpAddr, i32>,
    /// Attempts lately made, in thousandths, which time makes up for; as of `connects_at`.
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

    /// Number of known peers.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Knows nobody yet, and never connects to whom `filter` keeps out.
    pub fn with_filter(filter: AddressFilter) -> Self {
        Self { filter, ..Self::default() }
    }

    /// At most `per_host_max` connections with one host.
    #[must_use]
    pub fn limited_to(self, per_host_max: usize) -> Self {
        Self { per_host_max, ..self }
    }

    /// Where others see us; `None`: nobody said.
    pub fn set_own(&mut self, own: Option<SocketAddr>) {
        self.own = own;
    }

    /// Somebody names peers. Addresses nobody can listen on are skipped; one given up before gets one more attempt. When
    /// the list is full only a peer worse than the new one makes room.
    pub fn handle_announced(&mut self, addrs: impl IntoIterator<Item = SocketAddr>, source: Source, rng: &mut Rng) {
        for addr in addrs.into_iter().map(canonical).filter(is_connectable) {
            if let Some(peer) = self.peers.get_mut(&addr) {
                peer.source = peer.source.max(source);
                peer.failures = peer.failures.min(CONNECT_ATTEMPTS_MAX - 1);
            } else if self.peers.len() < PEER_LIST_MAX || self.evict_worse_than(source, rng) {
                let peer = Peer { source, state: State::Idle, failures: 0, retry_at: Time::ZERO, hung_up: false };
                self.peers.insert(addr, peer);
            }
        }
    }

    /// A leecher that listens at `addr` has announced itself to our own tracker. It becomes a peer to connect to unless its host
    /// connects by itself soon.
    pub fn handle_leecher(&mut self, now: Time, addr: SocketAddr) {
        if self.connection_count(addr.ip()) == 0 {
            self.awaited.handle_announced(now, canonical(addr));
        }
    }

    fn take_awaited(&mut self, now: Time, rng: &mut Rng) {
        while let Some(addr) = self.awaited.poll(now) {
            if self.connection_count(addr.ip()) == 0 {
                self.handle_announced([addr], Source::Tracker, rng);
            }
        }
    }

    /// Nobody is connected and nobody can be: those we know of are banned or given up, and some are banned. Only
    /// newly announced peers, or such that come by themselves, can help.
    pub fn is_hopeless(&self) -> bool {
        self.connections.is_empty()
            && self.trust.values().any(|&trust| trust <= TRUST_BANNED)
            && !self.peers.iter().any(|(addr, peer)| peer.is_candidate() && !self.is_banned(addr.ip()))
    }

    /// Peers to connect to now where so many connections are lacking and there are places for so many attempts: no more
    /// than [`CONNECTS_PER_S`] over time, those of hosts with the fewest connections first, then those with the fewest failures,
    /// then by canonical priority (BEP 40) once it is known where others see us, otherwise at random. An attempt of [`CONNECT_HOPEFUL`] counts as a connection, an older
    /// one does not. Each one's outcome must be told by [`Self::handle_connected`] or [`Self::handle_failed`].
    pub fn poll_connect(&mut self, now: Time, lacking: usize, places: usize, rng: &mut Rng) -> Vec<SocketAddr> {
        self.take_awaited(now, rng);
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
        // A host with many ports keeps no other from its turn.
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
            // Those chosen before may have used up this address.
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

    /// When the next peer may be tried, if there is one to try. May lie in the past.
    pub fn poll_timeout(&self) -> Option<Time> {
        let candidates = self.peers.iter().filter(|(addr, peer)| peer.is_candidate() && self.accepts(addr.ip()));
        candidates.map(|(_, peer)| peer.retry_at).chain(self.awaited.poll_timeout()).min()
    }

    /// A connection of [`Self::poll_connect`] stands, handshake included.
    pub fn handle_connected(&mut self, addr: SocketAddr) {
        self.set_state(canonical(addr), State::Connected);
        self.peers.entry(canonical(addr)).and_modify(|peer| peer.hung_up = false);
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

    /// The peer closed a connection of [`Self::poll_connect`] at our handshake, without a byte of its own. The attempt still ends
    /// with [`Self::handle_failed`] or [`Self::handle_disconnected`].
    pub fn handle_hung_up(&mut self, addr: SocketAddr) {
        self.peers.entry(canonical(addr)).and_modify(|peer| peer.hung_up = true);
    }

    /// Peers that closed their last connection at our handshake.
    pub fn hung_up_count(&self) -> usize {
        self.peers.values().filter(|peer| peer.hung_up).count()
    }

    /// A connection, in or out, ended. `useful`: a block came or went on it, so the peer is worth coming back to.
    pub fn handle_disconnected(&mut self, now: Time, addr: SocketAddr, useful: bool) {
        let addr = canonical(addr);
        let host = host_of(addr.ip());
        if let Some(count) = self.connections.get_mut(&host) {
            *count -= 1;
            if *count == 0 {
                self.connections.remove(&host);
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

    /// A piece was checked: its senders gain or lose trust. Returns the hosts that are banned from now on.
    ///
    /// When several sent a wrong piece, each of them gets pieces of its own until it is known which of them it was.
    pub fn judge(&mut self, verdict: &Verdict, outcome: HashOutcome) -> Vec<IpAddr> {
        let mut hosts: Vec<IpAddr> = verdict.senders.iter().map(|sender| host_of(sender.address().ip())).collect();
        hosts.sort_unstable();
        hosts.dedup();
        // Several connections of one host are one source: else two of them could spoil pieces without end.
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

    /// A piece to which the host of `ip` contributed was hashed. Trust falls with each failed piece that the host sent alone, and
    /// grows with each verified one. Returns true if the host is banned now.
    pub fn handle_verdict(&mut self, ip: IpAddr, outcome: HashOutcome, contribution: Contribution) -> bool {
        let host = host_of(ip);
        if !self.trust.contains_key(&host) && self.trust.len() >= TRUST_LIST_MAX {
            self.forget_least_telling();
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

    /// Whether one more connection with this address is welcome.
    pub fn accepts(&self, ip: IpAddr) -> bool {
        self.connection_count(ip) < self.per_host_max && !self.is_banned(ip) && self.filter.permits(ip)
    }

    /// Connections with the host of this address, opening or open.
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
#[path = "peer_list_tests.rs"]
mod tests;
