//! The trackers of a simulated swarm. They share one table; each has a [`TrackerBehavior`].
//!
//! The behavior at the time of a request determines the reply, which the node receives after a delay. All replies
//! except those of [`TrackerBehavior::Answers`] are decoded from bytes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::announce::{AnnounceFailure, Request, RequestId};
use crate::base::{Rng, Time, limits};
use crate::codec::tracker_http::{
    AnnounceReply, PeerForm, PeerHost, TrackerPeer, decode_reply, encode_failure, encode_reply,
};
use crate::tracker::{Announcement, Refusal, Table};

/// The reaction of a tracker to an announce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrackerBehavior {
    Answers,
    /// The connection is refused.
    Unreachable,
    /// The tracker accepts the request and does not answer.
    Silent,
    /// The tracker returns a failure, in some cases with a retry time.
    Refuses,
    /// The tracker returns bytes that are not a reply.
    Nonsense,
    /// The reply lists unused addresses and the announcing node among real peers.
    Junk,
    /// The reply asks for an announce interval of zero or without end.
    AbsurdIntervals,
    /// The tracker has ended permanently.
    Gone,
}

/// The reply to an announce, which arrives at `at`.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) at: Time,
    pub(super) id: RequestId,
    pub(super) reply: Result<AnnounceReply, AnnounceFailure>,
}

/// The trackers and their common table.
#[derive(Debug)]
pub struct Trackers {
    behaviors: Vec<TrackerBehavior>,
    table: Table,
    bad_answer_count: usize,
}

const URL_HEAD: &str = "http://tracker-";
/// The delay of a reply that is not a good one. Good replies arrive at once.
const DELAY: Duration = Duration::from_millis(100);
/// The most unused addresses in a usual reply, and their number in a few very long replies.
const JUNK_PEERS: usize = 100;
const JUNK_PEERS_MAX: usize = 2500;

impl Trackers {
    pub(super) fn new() -> Self {
        Self { behaviors: vec![TrackerBehavior::Answers], table: Table::open(), bad_answer_count: 0 }
    }

    /// Sets the number of trackers, each in its own tier. All of them answer.
    pub fn set_count(&mut self, count: usize) {
        self.behaviors = vec![TrackerBehavior::Answers; count];
    }

    pub fn set_behavior(&mut self, tracker: usize, behavior: TrackerBehavior) {
        if let Some(entry) = self.behaviors.get_mut(tracker) {
            *entry = behavior;
        }
    }

    /// Returns the number of announces without a good reply.
    pub fn bad_answer_count(&self) -> usize {
        self.bad_answer_count
    }

    /// Restarts all trackers with an empty table.
    pub fn restart(&mut self) {
        self.table = Table::open();
    }

    pub(super) fn tiers(&self) -> Vec<Vec<String>> {
        (0..self.behaviors.len()).map(|tracker| vec![format!("{URL_HEAD}{tracker}.invalid/announce")]).collect()
    }

    fn behavior(&self, url: &str) -> TrackerBehavior {
        let number = url.strip_prefix(URL_HEAD).and_then(|rest| rest.split_once('.')?.0.parse::<usize>().ok());
        number.and_then(|number| self.behaviors.get(number)).copied().unwrap_or(TrackerBehavior::Unreachable)
    }

    pub(super) fn handle_request(
        &mut self,
        now: Time,
        request: &Request,
        announcement: &Announcement,
        rng: &mut Rng,
    ) -> Answer {
        let transport = |text: &str| Err(AnnounceFailure::Transport(text.to_owned()));
        let behavior = self.behavior(&request.url);
        self.bad_answer_count += usize::from(behavior != TrackerBehavior::Answers);
        let (after, reply) = match behavior {
            TrackerBehavior::Answers => (Duration::ZERO, self.announce(now, announcement, rng)),
            TrackerBehavior::Unreachable => (DELAY, transport("connection refused")),
            TrackerBehavior::Silent => (limits::TRACKER_TIMEOUT, transport("no answer")),
            TrackerBehavior::Gone => (DELAY, Err(AnnounceFailure::Gone)),
            TrackerBehavior::Refuses => (DELAY, decoded(&refusal(rng))),
            TrackerBehavior::Nonsense => (DELAY, decoded(&nonsense(rng))),
            TrackerBehavior::Junk => {
                let reply = self.announce(now, announcement, rng);
                (DELAY, reply.and_then(|reply| decoded(&junk(reply, announcement, rng))))
            }
            TrackerBehavior::AbsurdIntervals => {
                let reply = self.announce(now, announcement, rng);
                (DELAY, reply.and_then(|reply| decoded(&absurd(reply, rng))))
            }
        };
        Answer { at: now + after, id: request.id, reply }
    }

    fn announce(
        &self,
        now: Time,
        announcement: &Announcement,
        rng: &mut Rng,
    ) -> Result<AnnounceReply, AnnounceFailure> {
        let refused = |refusal: Refusal| AnnounceFailure::Transport(refusal.to_string());
        let reply = self.table.handle_announce(now, announcement, rng).map_err(refused)?;
        Ok(AnnounceReply {
            interval: Some(reply.interval.as_secs()),
            min_interval: Some(1),
            peers: reply.peers.iter().map(|given| tracker_peer(given.addr)).collect(),
            ..AnnounceReply::default()
        })
    }
}

fn tracker_peer(address: SocketAddr) -> TrackerPeer {
    TrackerPeer { host: PeerHost::Ip(address.ip()), port: address.port(), peer_id: None }
}

fn decoded(body: &[u8]) -> Result<AnnounceReply, AnnounceFailure> {
    Ok(decode_reply(body)?)
}

fn refusal(rng: &mut Rng) -> Vec<u8> {
    match rng.u32(..3) {
        0 => encode_failure("busy \u{1b}[2J"),
        1 => b"d14:failure reason4:busy8:retry in1:1e".to_vec(),
        _ => b"d14:failure reason4:busy8:retry ini0ee".to_vec(),
    }
}

fn nonsense(rng: &mut Rng) -> Vec<u8> {
    match rng.u32(..5) {
        0 => b"<html><body>Bad gateway</body></html>".to_vec(),
        1 => b"d8:intervali1800e5:peers600:".to_vec(),
        2 => vec![b'l'; 10_000],
        3 => b"d8:interval2:no5:peersi-1ee".to_vec(),
        _ => (0..rng.usize(..400)).map(|_| rng.u8(..)).collect(),
    }
}

fn junk(mut reply: AnnounceReply, announcement: &Announcement, rng: &mut Rng) -> Vec<u8> {
    let count = if rng.u32(..20) == 0 { JUNK_PEERS_MAX } else { rng.usize(..JUNK_PEERS) };
    // Addresses without a node, some with port 0.
    let unused_address =
        |rng: &mut Rng| SocketAddr::from((Ipv4Addr::new(rng.u8(11..), rng.u8(..), 0, rng.u8(..)), rng.u16(..3)));
    reply.peers.extend((0..count).map(|_| tracker_peer(unused_address(rng))));
    reply.peers.push(tracker_peer(SocketAddr::new(announcement.source, announcement.port)));
    rng.shuffle(&mut reply.peers);
    let mut body = encode_reply(&reply, PeerForm::Compact);
    if rng.bool() {
        body.extend(b"\r\n");
    }
    body
}

fn absurd(mut reply: AnnounceReply, rng: &mut Rng) -> Vec<u8> {
    let endless = i64::MAX.unsigned_abs();
    (reply.interval, reply.min_interval) = match rng.u32(..4) {
        0 => (Some(0), Some(0)),
        1 => (Some(endless), None),
        2 => (Some(0), Some(endless)),
        _ => (None, None),
    };
    encode_reply(&reply, PeerForm::Dictionaries { peer_ids: false })
}
