//! Shares a rate limit evenly among the torrents that send, whatever the number of their peers.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng 1996) in a few atomics. Each torrent has a tag: the bytes that it has
//! moved, raised to about the tag of the queue when the torrent resumes after a pause. A torrent that the rate limit
//! turns away leaves its tag. Until its turn has come, torrents with a higher tag give way. Only used with a rate
//! limit: without one the kernel shares the link among connections.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::Time;

/// A torrent that gives way polls again at the next multiple of this time. All do so at once, so the one that has
/// waited longest comes first.
const YIELD_TIME: Time = Time::from_millis(5);
/// A turn that is not taken ends this long after the limit allowed it.
const TURN_TIME: Time = Time::from_millis(50);

/// A torrent that gives way, or has no block ready for a moment, keeps its lag, up to the bytes of this time plus
/// [`SLACK_MIN`].
const SLACK_TIME: Time = Time::from_millis(20);
const SLACK_MIN: u64 = 64 << 10;

/// The shared rate limit of a session.
#[derive(Debug)]
pub struct FairQueue {
    slack: u64,
    /// The tag at which the last bytes began to move.
    tag: AtomicU64,
    /// The lowest tag that was turned away.
    waiting_tag: AtomicU64,
    /// Until then the torrent with that tag has its turn, in nanoseconds.
    turn_until: AtomicU64,
}

/// One torrent's part of a [`FairQueue`].
#[derive(Debug, Default)]
pub struct Share(AtomicU64);

impl FairQueue {
    /// A queue for this rate; `None`: there is no limit and nothing to share.
    pub fn new(bytes_per_s: Option<u64>) -> Self {
        let in_slack_time = u128::from(bytes_per_s.unwrap_or(0)) * SLACK_TIME.as_millis() / 1000;
        let slack = u64::try_from(in_slack_time).unwrap_or(u64::MAX).saturating_add(SLACK_MIN);
        Self { slack, tag: AtomicU64::new(0), waiting_tag: AtomicU64::new(0), turn_until: AtomicU64::new(0) }
    }

    /// The bytes that a torrent may move, or the time until which it has to wait. `limited` is the result of the rate
    /// limit.
    pub fn poll(&self, share: &Share, now: Time, limited: Result<u64, Time>) -> Result<u64, Time> {
        let tag = self.tag_of(share);
        let is_turn = nanos(now) < self.turn_until.load(Ordering::Relaxed);
        let waiting = self.waiting_tag.load(Ordering::Relaxed);
        match limited {
            Ok(_) if is_turn && tag > waiting => Err(next_poll(now)),
            Ok(bytes) => Ok(bytes),
            Err(until) => {
                if !is_turn || tag <= waiting {
                    self.waiting_tag.store(tag, Ordering::Relaxed);
                    self.turn_until.store(nanos(until + TURN_TIME), Ordering::Relaxed);
                }
                Err(until)
            }
        }
    }

    /// These bytes of a torrent are about to move.
    pub fn charge(&self, share: &Share, bytes: u64) {
        let start = self.tag_of(share);
        share.0.store(start.saturating_add(bytes), Ordering::Relaxed);
        self.tag.fetch_max(start, Ordering::Relaxed);
        if start <= self.waiting_tag.load(Ordering::Relaxed) {
            // The waiting torrent's turn has come: torrents that still wait leave their tags again.
            self.turn_until.store(0, Ordering::Relaxed);
        }
    }

    fn tag_of(&self, share: &Share) -> u64 {
        share.0.load(Ordering::Relaxed).max(self.tag.load(Ordering::Relaxed).saturating_sub(self.slack))
    }
}

fn next_poll(now: Time) -> Time {
    let step = nanos(YIELD_TIME);
    Time::from_nanos((nanos(now) / step + 1) * step)
}

fn nanos(time: Time) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::limiter::Limiter;

    const START: Time = Time::from_secs(77);
    /// A connection's pace beyond any limit, in bytes per second.
    const FAST: u64 = 1 << 50;

    /// Returns the bytes of each torrent in ten seconds. Torrent `i` has `readers[i]` connections that always have
    /// something to send, each at most `pace` bytes per second; those of the first torrents poll first.
    fn moved(rate: u64, readers: &[usize], pace: u64) -> Vec<u64> {
        let (limiter, queue) = (Limiter::new(Some(rate)), FairQueue::new(Some(rate)));
        let shares: Vec<Share> = readers.iter().map(|_| Share::default()).collect();
        let mut bytes = vec![0; readers.len()];
        let mut turns: Vec<(Time, usize)> =
            readers.iter().enumerate().flat_map(|(at, &count)| vec![(START, at); count]).collect();
        while let Some(next) = (0..turns.len()).min_by_key(|&at| turns[at].0) {
            let (now, torrent) = turns[next];
            if now >= START + Time::from_secs(10) {
                break;
            }
            turns[next].0 = match queue.poll(&shares[torrent], now, limiter.poll(now)) {
                Err(until) => until,
                Ok(allowed) => {
                    let len = allowed.min(256 << 10);
                    limiter.charge(now, len);
                    queue.charge(&shares[torrent], len);
                    bytes[torrent] += len;
                    now + Time::from_nanos(1 + len * 1_000_000_000 / pace)
                }
            };
        }
        bytes
    }

    #[test]
    fn torrents_share_a_limit_evenly_whatever_their_peers() {
        for rate in [100_000, 10_000_000, 1_000_000_000] {
            for readers in [&[8, 1][..], &[1, 8], &[20, 1, 3]] {
                let bytes = moved(rate, readers, FAST);
                let total: u64 = bytes.iter().sum();
                assert!(total.abs_diff(10 * rate) <= rate / 5 + (64 << 10), "{rate} {readers:?}: {total}");
                let even = total / readers.len() as u64;
                let fair = bytes.iter().all(|bytes| bytes.abs_diff(even) <= even / 10 + (64 << 10));
                assert!(fair, "{rate} {readers:?}: {bytes:?}");
            }
        }
    }

    #[test]
    fn unused_shares_go_to_other_torrents() {
        let rate = 10_000_000;
        // A single reader takes a megabyte per second.
        let bytes = moved(rate, &[12, 1], 1_000_000);
        let total: u64 = bytes.iter().sum();
        assert!(total >= 9 * rate, "{bytes:?}: the limit is not reached");
        assert!(bytes[1] >= 9_000_000, "{bytes:?}");
        let alone = moved(rate, &[3], FAST);
        assert!(alone[0].abs_diff(10 * rate) <= rate / 5, "{alone:?}");
    }
}
