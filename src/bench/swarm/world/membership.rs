//! Nodes join and leave the swarm, announce to trackers and connect to the peers that they find. Tracker table,
//! announces and peer list are the real ones.

use std::net::SocketAddr;
use std::time::Duration;

use super::World;
use crate::base::limits;
use crate::bench::swarm::node::{address_of, node_of};
use crate::bench::swarm::wire::{EndId, Line, Side};
use crate::codec::tracker_http::PeerHost;
use crate::swarm::peer_list::Source;
use crate::swarm::torrent_control::Completion;

/// The delay of a line between members. Its rate is limited by their access links only.
const DELAY: Duration = Duration::from_millis(1);

impl World {
    /// The node joins the swarm by the trackers, or returns with the pieces that it had.
    pub fn join(&mut self, node: usize) {
        self.nodes[node].join(self.trackers.tiers(), &mut self.rng);
    }

    /// The node leaves without an announce.
    pub fn leave(&mut self, node: usize) {
        if let Some(member) = &mut self.nodes[node].member {
            member.online = false;
        }
        for end in self.nodes[node].connections.open.clone() {
            let peer = self.nodes[node].end(end).map(|end| end.peer);
            [Some(EndId { node, end }), peer].into_iter().flatten().for_each(|end_id| self.close_end(end_id));
        }
    }

    /// Kills the process of the node, if it runs, and starts a new one that trusts the resume record.
    pub fn restart(&mut self, node: usize) {
        self.leave(node);
        let mut rng = self.rng.fork();
        let have = self.nodes[node].disk.crash().clone();
        let buffer_count = self.nodes[node].buffer_count;
        let swarm = self.swarm(&have, buffer_count, &mut rng);
        self.nodes[node].restart(swarm, self.now);
        self.join(node);
    }

    pub(in crate::bench::swarm) fn is_online(&self, node: usize) -> bool {
        self.nodes[node].member.as_ref().is_some_and(|member| member.online)
    }

    /// The announce and dial part of a step of the control thread.
    pub(in crate::bench::swarm) fn find_peers(&mut self, node: usize) {
        let now = self.now;
        let this = &mut self.nodes[node];
        this.now = now;
        let pieces = &this.swarm.pieces;
        let (complete, left, open) = (pieces.is_complete(), pieces.left(), this.connections.open.len());
        let control = this.control.as_ref().filter(|_| !complete);
        let sought = control.map_or(0, |control| control.connections_sought(now, &this.swarm, &this.connections.peers));
        let Some(member) = this.member.as_mut().filter(|member| member.online) else { return };
        let completion = this.control.as_mut().and_then(|control| control.poll_completion(&this.swarm));
        if completion == Some(Completion::Content) {
            member.announce.handle_complete();
        }
        if open < sought {
            member.announce.handle_need_peers(now);
        }
        while let Some(answer) = member.poll_answer(now, address_of(node), left, &mut self.trackers, &mut self.rng) {
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
        let dials_max = limits::HALF_OPEN_MAX.saturating_sub(member.attempts.len());
        for address in member.peer_list.poll_connect(now, sought.saturating_sub(open), dials_max, &mut self.rng) {
            self.open_connection(node, address);
        }
    }

    fn open_connection(&mut self, from: usize, address: SocketAddr) {
        let (now, to) = (self.now, node_of(address));
        let is_unreachable = to >= self.nodes.len()
            || now < self.nodes[to].settings.link_down_until.max(self.nodes[from].settings.link_down_until);
        if let Some(member) = self.nodes[from].member.as_mut().filter(|_| is_unreachable || to == from) {
            if is_unreachable {
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
        let is_accepted = !self.connected.contains_key(&pair)
            && self.nodes[to].connections.open.len() < accepted_max
            && self.nodes[to].member.as_ref().is_some_and(|member| member.accepts(address_of(from).ip()));
        let Some(member) = &mut self.nodes[from].member else { return };
        if !is_accepted {
            return member.peer_list.handle_failed(now, address_of(to));
        }
        member.peer_list.handle_connected(address_of(to));
        if let Some(member) = &mut self.nodes[to].member {
            member.peer_list.handle_accepted(address_of(from));
        }
        let side =
            |node: usize, fast: bool| Side { fast, line: Line { rate: u64::MAX, delay: DELAY }, ..Side::of(node) };
        self.connect([from, to].map(|node| side(node, self.nodes[node].settings.fast)));
    }
}
