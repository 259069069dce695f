//! Detects served files that were written to, truncated, removed or replaced.
//!
//! A map does not show it: beyond the end of a truncated file its last page reads as zeros, a file that was removed or
//! replaced stays mapped with its old content, and another program's writes appear in it. Pages beyond the new end are
//! gone from memory, and so is the page that should be the last of the file: it is checked with every block that is
//! sent. The kernel does not report changes of files that we neither own nor may write, so each file that is served is
//! also looked up by its name, and its identity compared with the one it had when it was verified (`storage`).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::base::{Time, limits};

/// When each file of a torrent was last looked up by its name, in intervals of [`limits::FILE_CHECK_INTERVAL`].
#[derive(Debug)]
pub(in crate::engine) struct StatSchedule {
    files: Box<[AtomicCheck]>,
    /// For short files: the interval in the upper half, and the number of files looked up in it in the lower half.
    short: AtomicU64,
}

/// The last check of one file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Check {
    /// In this interval; 0 is before the first.
    In(u32),
    /// The file is too short or gone: its missing pieces are not served, and it is not looked up again.
    Lost,
}

/// A [`Check`] that threads share.
#[derive(Debug)]
struct AtomicCheck(AtomicU32);

impl AtomicCheck {
    const LOST: u32 = u32::MAX;

    fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    fn get(&self) -> Check {
        match self.0.load(Ordering::Acquire) {
            Self::LOST => Check::Lost,
            interval => Check::In(interval),
        }
    }

    fn lose(&self) {
        self.0.store(Self::LOST, Ordering::Release);
    }

    /// Returns false if another thread was faster.
    fn advance(&self, last: u32, interval: u32) -> bool {
        self.0.compare_exchange(last, interval, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl StatSchedule {
    pub(in crate::engine) fn new(file_count: usize) -> Self {
        Self { files: (0..file_count).map(|_| AtomicCheck::new()).collect(), short: AtomicU64::new(0) }
    }

    pub(in crate::engine) fn is_lost(&self, file_index: usize) -> bool {
        self.files.get(file_index).is_some_and(|check| check.get() == Check::Lost)
    }

    /// The missing part of a file is known.
    pub(in crate::engine) fn handle_lost(&self, file_index: usize) {
        if let Some(check) = self.files.get(file_index) {
            check.lose();
        }
    }

    /// Whether it is this caller's turn to look a file up; `len` is the length that the torrent gives.
    pub(in crate::engine) fn take_turn(&self, file_index: usize, len: u64, interval: u32) -> bool {
        let Some(check) = self.files.get(file_index) else { return false };
        let Check::In(last) = check.get() else { return false };
        last < interval
            && (len >= limits::FILE_CHECK_LEN_MIN || self.take_short_turn(interval))
            && check.advance(last, interval)
    }

    fn take_short_turn(&self, interval: u32) -> bool {
        let start = u64::from(interval) << 32;
        let take = |turn: u64| {
            let next = turn.max(start) + 1;
            (next - start <= limits::FILE_CHECKS_SHORT_MAX).then_some(next)
        };
        self.short.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// The interval of a time; the first is 1.
pub(in crate::engine) fn interval(now: Time) -> u32 {
    let number = now.as_millis() / limits::FILE_CHECK_INTERVAL.as_millis() + 1;
    u32::try_from(number).unwrap_or(AtomicCheck::LOST - 1).min(AtomicCheck::LOST - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_checked_once_per_interval_and_short_ones_in_turn() {
        let short_max = usize::try_from(limits::FILE_CHECKS_SHORT_MAX).unwrap();
        let schedule = StatSchedule::new(short_max + 10);
        let long = |file_index, interval| schedule.take_turn(file_index, limits::FILE_CHECK_LEN_MIN, interval);
        assert!(long(0, 1) && !long(0, 1) && long(1, 1) && long(0, 2) && !long(0, 1));
        for interval in 3..5 {
            let turns = |at: usize| schedule.take_turn(at, 1, interval);
            assert_eq!((0..short_max + 10).filter(|&at| turns(at)).count(), short_max);
            assert!(!turns(0) && !turns(short_max + 5), "file 0 was checked, and no check is left for the other");
        }
        schedule.handle_lost(1);
        assert!(!long(1, AtomicCheck::LOST - 1) && schedule.is_lost(1) && long(0, AtomicCheck::LOST - 1));
    }
}
