//! Further connections to a peer of ours, on other ring threads: one thread sends or receives only so much.
//!
//! The side that opened the first connection opens the others too, so that they work through an address translation.
//! Either side may wish for one; both have to agree (`bf_streams` in the extension handshake).

use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::base::{PeerId, Time, limits};
use crate::codec::extension::Streams;
use crate::engine::config::{StreamLimit, StreamOpening};
use crate::engine::shared::stream_ids::StreamIds;
use crate::engine::torrent::peers::Direction;

/// The further connections beside the first one to a peer.
pub(super) struct FurtherStreams {
    direction: Direction,
    pub(super) peer_id: PeerId,
    /// Opened by us, also those that have ended.
    opened: Cell<usize>,
    /// Payload bytes of the peer at the last tick.
    payload_seen: Cell<u64>,
}

/// The agreement of both sides on further connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamOffer {
    /// The most connections, the first one included.
    pub(super) max: usize,
    /// The id that the peer has issued for us.
    pub(super) id: Option<PeerId>,
    /// The peer wishes for a further one.
    pub(super) peer_wants: bool,
}

/// The next step for a further connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamStep {
    Nothing,
    /// Tell the peer, which opened the first connection.
    Ask,
    /// Open one with this id, on the ring that is `ring_distance` behind the first connection's.
    Open {
        id: PeerId,
        ring_distance: usize,
    },
}

impl FurtherStreams {
    pub(super) fn new(direction: Direction, peer_id: PeerId) -> Self {
        Self { direction, peer_id, opened: Cell::new(0), payload_seen: Cell::new(0) }
    }

    /// Whether we need a further connection. Called once in each tick; `payload` counts the bytes of all connections to
    /// the peer.
    pub(super) fn poll_need(&self, opening: StreamOpening, is_busy: bool, payload: u64) -> bool {
        let carried = payload.saturating_sub(self.payload_seen.replace(payload));
        match opening {
            StreamOpening::AtOnce => true,
            StreamOpening::WhenBusy => is_busy && carried >= limits::STREAM_LEN_MIN,
        }
    }

    /// The step for a further connection. An opening counts as made.
    pub(super) fn poll_step(&self, offer: StreamOffer, is_needed: bool) -> StreamStep {
        match (self.direction, offer.id) {
            (Direction::Incoming, _) if is_needed => StreamStep::Ask,
            (Direction::Outgoing, Some(id)) if is_needed || offer.peer_wants => {
                let ring_distance = self.opened.get() + 1;
                if ring_distance >= offer.max {
                    return StreamStep::Nothing;
                }
                self.opened.set(ring_distance);
                StreamStep::Open { id, ring_distance }
            }
            _ => StreamStep::Nothing,
        }
    }
}

/// The further connections that we agree to have beside the first one with this key; told to the peer.
pub(super) fn agreed(limit: StreamLimit, ids: &StreamIds, key: u32, direction: Direction) -> Option<Streams> {
    let id = (direction == Direction::Incoming).then(|| ids.issue(key));
    (limit.max > 1).then_some(Streams { max: limit.max, id, wants_more: false })
}

/// How busy this thread is.
pub(super) struct ThreadLoad {
    at: Time,
    cpu_time: Duration,
}

impl ThreadLoad {
    pub(super) fn new(now: Time) -> Self {
        Self { at: now, cpu_time: cpu_time() }
    }

    /// Whether the thread had almost no processor time left since the last call.
    pub(super) fn poll_busy(&mut self, now: Time) -> bool {
        let earlier = std::mem::replace(self, Self::new(now));
        let (busy, all) = (self.cpu_time.saturating_sub(earlier.cpu_time), now.saturating_sub(earlier.at));
        busy * 100 >= all * limits::STREAM_BUSY_PERCENT
    }
}

/// The processor time of this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
    seconds + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: PeerId = PeerId([7; 20]);

    fn streams(direction: Direction) -> FurtherStreams {
        FurtherStreams::new(direction, PeerId([1; 20]))
    }

    #[test]
    fn a_peer_that_carries_much_needs_more_while_the_thread_is_busy() {
        let streams = streams(Direction::Outgoing);
        let mut payload = 0;
        let mut needs = |is_busy, carried| {
            payload += carried;
            streams.poll_need(StreamOpening::WhenBusy, is_busy, payload)
        };
        let much = limits::STREAM_LEN_MIN;
        assert_eq!([needs(true, much), needs(false, much), needs(true, much - 1)], [true, false, false]);
        assert!(streams.poll_need(StreamOpening::AtOnce, false, payload));
    }

    #[test]
    fn the_side_that_opened_the_first_connection_opens_the_others() {
        let offer = StreamOffer { max: 3, id: Some(ID), peer_wants: false };
        let accepted = streams(Direction::Incoming);
        assert_eq!(accepted.poll_step(offer, true), StreamStep::Ask);
        assert_eq!(accepted.poll_step(StreamOffer { peer_wants: true, ..offer }, false), StreamStep::Nothing);
        let opened = streams(Direction::Outgoing);
        assert_eq!(opened.poll_step(offer, false), StreamStep::Nothing);
        assert_eq!(opened.poll_step(StreamOffer { id: None, ..offer }, true), StreamStep::Nothing);
        let open = |ring_distance| StreamStep::Open { id: ID, ring_distance };
        assert_eq!(opened.poll_step(offer, true), open(1));
        assert_eq!(opened.poll_step(StreamOffer { peer_wants: true, ..offer }, false), open(2));
        assert_eq!(opened.poll_step(offer, true), StreamStep::Nothing, "three are the most");
    }
}
