//! Estimates page-cache residency and drops served ranges behind the reader.
//!
//! The kernel does not report when it reclaims pages. An extent of content that was populated counts as resident for a
//! while, and only while less than a share of memory was populated after it. With [`CacheMode::DropBehind`] at most
//! [`limits::CACHE_BEHIND_LEN`] of served content stays in memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::base::limits::EXTENT_LEN;
use crate::base::lock::lock;
use crate::base::{Time, limits};
use crate::engine::config::CacheMode;
use crate::engine::files::readiness::ResidencyClock;
use crate::engine::torrent::Torrent;
use crate::storage::memory_limit;

/// The populated extents of a session, and those to be dropped behind the reader.
#[derive(Debug)]
pub(in crate::engine) struct PageCache {
    populated_count: AtomicU32,
    /// The number of extents that may be populated before an earlier one counts as reclaimed.
    pub(in crate::engine) trusted: u32,
    behind: Option<Mutex<VecDeque<Extent>>>,
}

/// An extent of a torrent's content, by its index.
#[derive(Debug)]
pub(in crate::engine) struct Extent {
    /// Weak, so that the files of a removed torrent are closed.
    pub(in crate::engine) torrent: Weak<Torrent>,
    pub(in crate::engine) index: u64,
}

impl PageCache {
    pub(in crate::engine) fn new(mode: CacheMode) -> Self {
        let share = memory_limit() / limits::CACHE_TRUSTED_SHARE / EXTENT_LEN;
        Self {
            populated_count: AtomicU32::new(0),
            trusted: u32::try_from(share).unwrap_or(u32::MAX / 2).max(1),
            behind: (mode == CacheMode::DropBehind).then(Mutex::default),
        }
    }

    pub(in crate::engine) fn clock(&self, time: Time) -> ResidencyClock {
        ResidencyClock::new(time, self.populated_count.load(Ordering::Relaxed))
    }

    /// An extent was populated. Returns the one that has to leave memory for it.
    pub(in crate::engine) fn handle_populated(&self, torrent: &Arc<Torrent>, index: u64) -> Option<Extent> {
        self.populated_count.fetch_add(1, Ordering::Relaxed);
        let mut behind = lock(self.behind.as_ref()?);
        behind.push_back(Extent { torrent: Arc::downgrade(torrent), index });
        let full = behind.len() as u64 * EXTENT_LEN > limits::CACHE_BEHIND_LEN;
        if full { behind.pop_front() } else { None }
    }
}
