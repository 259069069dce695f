//! What the session may believe of the page cache, and what it gives back to it.
//!
//! The kernel does not say when it takes pages back. A stretch of content that was made resident is believed to be so for a
//! while, and for as long as less than a share of memory was read in since. With [`CacheMode::DropBehind`] at most
//! [`limits::CACHE_BEHIND_LEN`] of what was served stays in memory.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::serving::STRETCH_LEN;
use super::torrent::Torrent;
use crate::base::{Time, limits};

/// What becomes of content in the page cache when it was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// It stays as long as the kernel likes.
    #[default]
    Keep,
    /// It is dropped some way behind, so that a long-running origin pushes nothing else out of memory.
    DropBehind,
}

/// A point in time, and in the stream of what was read into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) time: Time,
    /// Stretches made resident so far, wrapping.
    pub(super) read_in: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cache {
    read_in: AtomicU32,
    /// Stretches that may be read in before an earlier one is doubted.
    pub(super) trusted: u32,
    behind: Option<Mutex<VecDeque<Stretch>>>,
}

/// A stretch of a torrent's content, by its index.
pub(super) type Stretch = (Arc<Torrent>, u64);

impl Cache {
    pub(super) fn new(mode: CacheMode) -> Self {
        let share = memory_limit() / limits::CACHE_TRUSTED_SHARE / STRETCH_LEN;
        Self {
            read_in: AtomicU32::new(0),
            trusted: u32::try_from(share).unwrap_or(u32::MAX / 2).max(1),
            behind: (mode == CacheMode::DropBehind).then(Mutex::default),
        }
    }

    pub(super) fn moment(&self, time: Time) -> Moment {
        Moment { time, read_in: self.read_in.load(Ordering::Relaxed) }
    }

    /// A stretch is in memory now; returns the one that must leave it for that.
    pub(super) fn handle_populated(&self, torrent: &Arc<Torrent>, stretch: u64) -> Option<Stretch> {
        self.read_in.fetch_add(1, Ordering::Relaxed);
        let mut behind = self.behind.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        behind.push_back((torrent.clone(), stretch));
        let full = behind.len() as u64 * STRETCH_LEN > limits::CACHE_BEHIND_LEN;
        if full { behind.pop_front() } else { None }
    }
}

/// Bytes of memory this process may fill: the machine's, or less where a control group says so.
fn memory_limit() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let total = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).map(|kib| kib * 1024);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().filter_map(limit_file).flat_map(|(root, path, name)| {
        // A limit of any group above counts too.
        path.ancestors().map(|folder| root.join(folder).join(name)).collect::<Vec<_>>()
    });
    let limits = limits.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    limits.chain(total).min().unwrap_or(u64::MAX)
}

/// Of a line of `/proc/self/cgroup`: where the hierarchy is mounted, the group in it, the file with its memory limit.
fn limit_file(line: &str) -> Option<(&'static Path, PathBuf, &'static str)> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    let path = PathBuf::from(path.trim_start_matches('/'));
    match controllers {
        "" => Some((Path::new("/sys/fs/cgroup"), path, "memory.max")),
        list if list.split(',').any(|name| name == "memory") => {
            Some((Path::new("/sys/fs/cgroup/memory"), path, "memory.limit_in_bytes"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_control_groups_are_read() {
        let (root, path, name) = limit_file("0::/a/b").unwrap();
        assert_eq!((root.join(path), name), ("/sys/fs/cgroup/a/b".into(), "memory.max"));
        let (root, path, name) = limit_file("4:cpu,memory:/").unwrap();
        assert_eq!((root.join(path), name), ("/sys/fs/cgroup/memory/".into(), "memory.limit_in_bytes"));
        assert_eq!(limit_file("5:cpuset:/x"), None);
        assert!(memory_limit() > 1 << 20);
    }
}
