//! What the session may believe of the page cache, and what it gives back to it.
//!
//! The kernel does not say when it takes pages back. A stretch of content that was made resident is believed to be so for a
//! while, and for as long as less than a share of memory was read in since. With [`CacheMode::DropBehind`] at most
//! [`limits::CACHE_BEHIND_LEN`] of what was served stays in memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::limits::EXTENT_LEN;
use crate::base::{Time, limits};
use crate::engine::config::CacheMode;
use crate::engine::files::readiness::Moment;
use crate::engine::torrent::Torrent;
use crate::storage::memory_limit;

/// See the module.
#[derive(Debug)]
pub(in crate::engine) struct Cache {
    read_in: AtomicU32,
    /// Stretches that may be read in before an earlier one is doubted.
    pub(in crate::engine) trusted: u32,
    behind: Option<Mutex<VecDeque<Stretch>>>,
}

/// A stretch of a torrent's content, by its index.
pub(in crate::engine) type Stretch = (Arc<Torrent>, u64);

impl Cache {
    pub(in crate::engine) fn new(mode: CacheMode) -> Self {
        let share = memory_limit() / limits::CACHE_TRUSTED_SHARE / EXTENT_LEN;
        Self {
            read_in: AtomicU32::new(0),
            trusted: u32::try_from(share).unwrap_or(u32::MAX / 2).max(1),
            behind: (mode == CacheMode::DropBehind).then(Mutex::default),
        }
    }

    pub(in crate::engine) fn moment(&self, time: Time) -> Moment {
        Moment { time, read_in: self.read_in.load(Ordering::Relaxed) }
    }

    /// A stretch is in memory now; returns the one that must leave it for that.
    pub(in crate::engine) fn handle_populated(&self, torrent: &Arc<Torrent>, stretch: u64) -> Option<Stretch> {
        self.read_in.fetch_add(1, Ordering::Relaxed);
        let mut behind = self.behind.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        behind.push_back((torrent.clone(), stretch));
        let full = behind.len() as u64 * EXTENT_LEN > limits::CACHE_BEHIND_LEN;
        if full { behind.pop_front() } else { None }
    }
}
