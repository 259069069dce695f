//! The trackers of a simulated swarm: they share one table, and each answers as its mood is.
//!
//! A node asks once in a mood and has what comes of it later, as the engine has; all but good answers come through the codec.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::announce::{AnnounceFailure, Request, RequestId};
use crate::base::{Rng, Time, limits};
use crate::codec::tracker_http::{
    AnnounceReply, PeerForm, PeerHost, TrackerPeer, decode_reply, encode_failure, encode_reply,
};
use crate::tracker::{Announcement, Refusal, Table};

/// What comes of an announce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrackerBehavior {
    Answers,
    /// Nobody listens there.
    Unreachable,
    /// It takes the request and says nothing.
    Silent,
    /// It refuses, and some of the time says when to come back.
    Refuses,
    /// What it says is no reply.
    Nonsense,
    /// It names many that are not there and whoever asks, among some that are.
    Junk,
    /// It wants to be asked at once again, or never.
    AbsurdIntervals,
    /// It is gone for good.
    Gone,
}

/// What a node will be told.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) at: Time,
    pub(super) id: RequestId,
    pub(super) reply: Result<AnnounceReply, AnnounceFailure>,
}

/// See the module.
#[derive(Debug)]
pub struct Trackers {
    behaviors: Vec<TrackerBehavior>,
    table: Table,
    bad_answer_count: usize,
}

const URL_HEAD: &str = "http://tracker-";
/// A tracker that answers, does so at once; others take a while.
const DELAY: Duration = Duration::from_millis(100);
/// Addresses that nobody has, in one reply, most of the time and at most.
const JUNK_PEERS: usize = 100;
const JUNK_PEERS_MAX: usize = 2500;

impl Trackers {
    pub(super) fn new() -> Self {
        Self { behaviors: vec![TrackerBehavior::Answers], table: Table::open(), bad_answer_count: 0 }
    }

    /// So many, one tier each; all answer.
    pub fn set_count(&mut self, count: usize) {
        self.behaviors = vec![TrackerBehavior::Answers; count];
    }

    pub fn set_behavior(&mut self, tracker: usize, behavior: TrackerBehavior) {
        if let Some(entry) = self.behaviors.get_mut(tracker) {
            *entry = behavior;
        }
    }

    /// Announces that had no good answer.
    pub fn bad_answer_count(&self) -> usize {
        self.bad_answer_count
    }

    /// They were started anew and know nobody.
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
    // Ports of zero and addresses that are nobody's among them.
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
