//! Membership of a node in the swarm of its trackers: announces, known peers and pending dials.

use std::net::{IpAddr, SocketAddr};

use crate::announce::Announce;
use crate::base::{InfoHash, PeerId, Rng, Time};
use crate::bench::swarm::trackers::{Answer, Trackers};
use crate::swarm::peer_list::PeerList;
use crate::tracker::Announcement;

const INFO_HASH: InfoHash = InfoHash([7; 20]);

/// The state of a node that finds its peers by trackers.
#[derive(Debug)]
pub(in crate::bench::swarm) struct Member {
    pub(in crate::bench::swarm) announce: Announce,
    pub(in crate::bench::swarm) peer_list: PeerList,
    /// The reply to the pending request. It arrives at [`Answer::at`].
    answer: Option<Answer>,
    /// Dials of addresses at which no node listens, with their timeouts.
    pub(in crate::bench::swarm) attempts: Vec<(Time, SocketAddr)>,
    peer_id: PeerId,
    pub(in crate::bench::swarm) online: bool,
}

impl Member {
    pub(super) fn new(tiers: Vec<Vec<String>>, complete: bool, rng: &mut Rng) -> Self {
        Self {
            announce: Announce::new(tiers, complete, rng),
            peer_list: PeerList::new(),
            answer: None,
            attempts: Vec::new(),
            peer_id: PeerId::generate(rng),
            online: true,
        }
    }

    /// Whether the node accepts a connection from this address.
    pub(in crate::bench::swarm) fn accepts(&self, ip: IpAddr) -> bool {
        self.online && self.peer_list.accepts(ip)
    }

    /// Sends a request that is due, if none is pending. Returns the reply to the pending request once it has arrived.
    /// `address` is the node's own, `left` the number of bytes it lacks.
    pub(in crate::bench::swarm) fn poll_answer(
        &mut self,
        now: Time,
        address: SocketAddr,
        left: u64,
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
