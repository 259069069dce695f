//! Detects served files that were written to, truncated, removed or replaced.
//!
//! A map can't tell: behind the end of a truncated file its last page reads as zeros, of a file that was removed or replaced the
//! old content stays mapped, and what another program writes appears in it. Pages beyond the new end are gone from memory, and
//! so is the page that should be the file's last: it is looked at with everything that leaves. For files that we neither own
//! nor may write the kernel does not tell, so each file is looked at by its name, too, while it is served: its identity is
//! compared with the one it had when it was verified (`storage`).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::base::{Time, limits};

/// When each of one torrent's files was looked at last, in numbers of [`limits::FILE_CHECK_INTERVAL`].
#[derive(Debug)]
pub(in crate::engine) struct Looks {
    files: Box<[AtomicU32]>,
    /// Of short files: the number of the interval, and in the lower half how many were looked at in it.
    short: AtomicU64,
}

/// The file is too short or gone: its missing pieces are not served, and no connection looks at it again.
const LOST: u32 = u32::MAX;

impl Looks {
    pub(in crate::engine) fn new(file_count: usize) -> Self {
        Self { files: (0..file_count).map(|_| AtomicU32::new(0)).collect(), short: AtomicU64::new(0) }
    }

    pub(in crate::engine) fn is_lost(&self, file_index: usize) -> bool {
        self.files.get(file_index).is_some_and(|look| look.load(Ordering::Acquire) == LOST)
    }

    /// What is missing of a file was found missing.
    pub(in crate::engine) fn handle_lost(&self, file_index: usize) {
        if let Some(look) = self.files.get(file_index) {
            look.store(LOST, Ordering::Release);
        }
    }

    /// Whether it is this caller's turn to look at a file; `len` is what the torrent says.
    pub(in crate::engine) fn take_turn(&self, file_index: usize, len: u64, interval: u32) -> bool {
        let Some(look) = self.files.get(file_index) else { return false };
        let last = look.load(Ordering::Acquire);
        last < interval
            && (len >= limits::FILE_CHECK_LEN_MIN || self.take_short_turn(interval))
            && look.compare_exchange(last, interval, Ordering::AcqRel, Ordering::Acquire).is_ok()
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

/// The first is 1.
pub(in crate::engine) fn interval(now: Time) -> u32 {
    let number = now.as_millis() / limits::FILE_CHECK_INTERVAL.as_millis() + 1;
    u32::try_from(number).unwrap_or(LOST - 1).min(LOST - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_looked_at_once_in_an_interval_and_of_short_ones_so_many() {
        let short_max = usize::try_from(limits::FILE_CHECKS_SHORT_MAX).unwrap();
        let looks = Looks::new(short_max + 10);
        let long = |file_index, interval| looks.take_turn(file_index, limits::FILE_CHECK_LEN_MIN, interval);
        assert!(long(0, 1) && !long(0, 1) && long(1, 1) && long(0, 2) && !long(0, 1));
        for interval in 3..5 {
            let turns = |at: usize| looks.take_turn(at, 1, interval);
            assert_eq!((0..short_max + 10).filter(|&at| turns(at)).count(), short_max);
            assert!(!turns(0) && !turns(short_max + 5), "the one was looked at, for the other there is no turn");
        }
        looks.files[1].store(LOST, Ordering::Release);
        assert!(!long(1, LOST - 1) && looks.is_lost(1) && long(0, LOST - 1));
    }
}
