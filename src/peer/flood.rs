//! Counts of peer messages by time.

use std::time::Duration;

use crate::base::{Time, limits};
use crate::codec::message::Message;

/// Counts events in fixed intervals of the clock. At the border of two intervals a peer may send twice the limit.
#[derive(Debug, Default)]
pub(super) struct Flood {
    interval: u64,
    count: u32,
}

impl Flood {
    /// Counts one event. Returns the number of events in this interval of whole seconds.
    pub(super) fn count(&mut self, now: Time, interval: Duration) -> u32 {
        let interval = now.as_secs() / interval.as_secs().max(1);
        if self.interval != interval {
            *self = Self { interval, count: 0 };
        }
        self.count += 1;
        self.count
    }
}

/// A connection's control messages: in total, and of the kinds with limits of their own. Each method returns true if
/// the limit is exceeded.
#[derive(Debug, Default)]
pub(super) struct ControlFlood {
    all: Flood,
    keep_alives: Flood,
    chokes: Flood,
}

impl ControlFlood {
    const INTERVAL: Duration = Duration::from_secs(1);

    pub(super) fn count(&mut self, now: Time) -> bool {
        self.all.count(now, Self::INTERVAL) > limits::CONTROL_MESSAGES_PER_S_MAX
    }

    pub(super) fn count_kind(&mut self, now: Time, message: &Message<'_>) -> bool {
        match message {
            Message::KeepAlive => self.keep_alives.count(now, Self::INTERVAL) > limits::KEEP_ALIVES_PER_S_MAX,
            Message::Choke | Message::Unchoke => self.chokes.count(now, limits::CHOKES_TIME) > limits::CHOKES_MAX,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_end_with_their_interval() {
        let mut flood = Flood::default();
        let second = |s| Duration::from_secs(s);
        assert_eq!([60, 61, 119, 120, 121].map(|s| flood.count(second(s), second(60))), [1, 2, 3, 1, 2]);
    }
}
