//! How nodes find each other, trust each other, come and go: the real tracker table, announcing and peer list.

use std::net::SocketAddr;
use std::time::Duration;

use super::node::{Member, Node, address_of, node_of};
use super::trackers::{Answer, Trackers};
use super::wire::{Line, Place, Side};
use super::world::World;
use crate::base::{InfoHash, Rng, Time, limits};
use crate::codec::tracker_http::PeerHost;
use crate::swarm::peer_list::Source;
use crate::swarm::torrent_control::Completion;
use crate::swarm::{HashOutcome, Verdict};
use crate::tracker::Announcement;

const INFO_HASH: InfoHash = InfoHash([7; 20]);
/// Between members lines are as fast as their links, and this long.
const DELAY: Duration = Duration::from_millis(1);

impl World {
    /// The node comes to the swarm by its tracker, or comes back with what it had.
    pub fn join(&mut self, node: usize) {
        self.nodes[node].join(self.trackers.tiers(), &mut self.rng);
    }

    /// The node goes away without a word.
    pub fn leave(&mut self, node: usize) {
        if let Some(member) = &mut self.nodes[node].member {
            member.online = false;
        }
        for end in self.nodes[node].open.clone() {
            let peer = self.nodes[node].end(end).map(|end| end.peer);
            [Some(Place { node, end }), peer].into_iter().flatten().for_each(|place| self.part(place));
        }
    }

    /// The node's process dies, if it has not yet, and another one believes what the resume record claims.
    pub fn restart(&mut self, node: usize) {
        self.leave(node);
        let mut rng = self.rng.fork();
        let have = self.nodes[node].disk.crash().clone();
        let slot_count = self.nodes[node].slot_count;
        let swarm = self.swarm(&have, slot_count, &mut rng);
        self.nodes[node].restart(swarm, self.now);
        self.join(node);
    }

    pub(super) fn is_online(&self, node: usize) -> bool {
        self.nodes[node].member.as_ref().is_some_and(|member| member.online)
    }

    /// The announcing and connecting part of a step of the control thread.
    pub(super) fn find_peers(&mut self, node: usize) {
        let now = self.now;
        let this = &mut self.nodes[node];
        this.now = now;
        let pieces = &this.swarm.pieces;
        let (complete, left, open) = (pieces.is_complete(), pieces.left(), this.open.len());
        let control = this.control.as_ref().filter(|_| !complete);
        let sought = control.map_or(0, |control| control.connections_sought(now, &this.swarm, &this.peers));
        let Some(member) = this.member.as_mut().filter(|member| member.online) else { return };
        let completion = this.control.as_mut().and_then(|control| control.poll_completion(&this.swarm));
        if completion == Some(Completion::Content) {
            member.announce.handle_complete();
        }
        if open < sought {
            member.announce.handle_need_peers(now);
        }
        while let Some(answer) = member.poll_answer(now, (address_of(node), left), &mut self.trackers, &mut self.rng) {
            let outcome = member.announce.handle_reply(now, answer.id, answer.reply);
            let peers = outcome.peers.iter().filter_map(|peer| match peer.host {
                PeerHost::Ip(ip) => Some(SocketAddr::new(ip, peer.port)),
                PeerHost::Name(_) => None,
            });
            member.peer_list.handle_announced(peers, Source::Tracker, &mut self.rng);
        }
        for (_, address) in member.attempts.extract_if(.., |&mut (until, _)| now >= until) {
            member.peer_list.handle_failed(now, address);
        }
        let places = limits::HALF_OPEN_MAX.saturating_sub(member.attempts.len());
        for address in member.peer_list.poll_connect(now, sought.saturating_sub(open), places, &mut self.rng) {
            self.open_connection(node, address);
        }
    }

    fn open_connection(&mut self, from: usize, address: SocketAddr) {
        let (now, to) = (self.now, node_of(address));
        let nobody = to >= self.nodes.len() || now < self.nodes[to].dark_until.max(self.nodes[from].dark_until);
        if let Some(member) = self.nodes[from].member.as_mut().filter(|_| nobody || to == from) {
            if nobody {
                member.attempts.push((now + limits::CONNECT_TIMEOUT, address));
            } else {
                member.peer_list.handle_own(address);
                member.peer_list.handle_failed(now, address);
            }
            return;
        }
        let pair = (from.min(to), from.max(to));
        let accepted_max = match to {
            0 => limits::CONNECTIONS_SEED_MAX,
            _ if self.nodes[to].swarm.pieces.is_complete() => limits::CONNECTIONS_GET_MAX,
            _ => limits::CONNECTIONS_LEECHING_MAX,
        };
        let welcome = !self.connected.contains_key(&pair)
            && self.nodes[to].open.len() < accepted_max
            && self.nodes[to].member.as_ref().is_some_and(|member| accepts(member, from));
        let Some(member) = &mut self.nodes[from].member else { return };
        if !welcome {
            return member.peer_list.handle_failed(now, address_of(to));
        }
        member.peer_list.handle_connected(address_of(to));
        if let Some(member) = &mut self.nodes[to].member {
            member.peer_list.handle_accepted(address_of(from));
        }
        let side =
            |node: usize, fast: bool| Side { fast, line: Line { rate: u64::MAX, delay: DELAY }, ..Side::of(node) };
        self.connect([from, to].map(|node| side(node, self.nodes[node].fast)));
    }
}

impl Node {
    /// Senders of a checked piece gain or lose trust; who is banned is dismissed.
    pub(super) fn judge(&mut self, verdict: &Verdict, outcome: HashOutcome) {
        let Some(member) = &mut self.member else { return };
        for ip in member.peer_list.judge(verdict, outcome) {
            for peer in self.peers.iter().filter(|peer| peer.address().ip() == ip) {
                peer.request_close();
                self.banned.insert(node_of(peer.address()));
            }
        }
    }
}

impl Member {
    /// What a tracker says now: what was waited for, or what a request that is due brings at once.
    fn poll_answer(
        &mut self,
        now: Time,
        (address, left): (SocketAddr, u64),
        trackers: &mut Trackers,
        rng: &mut Rng,
    ) -> Option<Answer> {
        if self.answer.is_none() {
            let request = self.announce.poll_request(now)?;
            let announcement = Announcement {
                info_hash: INFO_HASH,
                peer_id: self.peer_id,
                source: address.ip(),
                local: address.ip(),
                port: address.port(),
                left,
                event: request.event,
                numwant: request.numwant as usize,
                same_family_only: false,
            };
            self.answer = Some(trackers.handle_request(now, &request, &announcement, rng));
        }
        self.answer.take_if(|answer| now >= answer.at)
    }
}

fn accepts(member: &Member, from: usize) -> bool {
    member.online && member.peer_list.accepts(address_of(from).ip())
}
