//! The bottleneck of long work with content: CPU, disk or memory.

use std::fs;
use std::time::{Duration, Instant};

/// Unit of processor time in `/proc` (`USER_HZ`, which is the same on all Linux systems).
const TICKS_PER_S: f64 = 100.0;
/// Above this share of busy cores, the disk is not the bottleneck.
const BUSY_MIN: f64 = 0.75;

/// The part of the machine that limits the speed. A lower-case word in `--json`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Hashing.
    Cpu,
    /// Reading from the disk, while cores were idle.
    Disk,
    /// Copying from the page cache, which took longer than hashing.
    Memory,
}

/// How long work took, and its bottleneck.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speed {
    pub(super) took: Duration,
    /// `None` if it is not known, or nothing was read.
    pub(super) bound: Option<Bound>,
}

/// The end of a message that names the bottleneck.
pub(super) fn phrase(bound: Option<Bound>) -> &'static str {
    match bound {
        Some(Bound::Cpu) => ", bound by the CPU",
        Some(Bound::Disk) => ", bound by the disk",
        Some(Bound::Memory) => ", bound by memory",
        None => "",
    }
}

/// The resource use of this process at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    at: Instant,
    usage: Option<Usage>,
}

/// Counters that the kernel keeps for this process.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    /// Seconds of processor time in user space.
    user: f64,
    /// Seconds of processor time in the kernel.
    system: f64,
    /// Bytes read from disks.
    disk: u64,
}

impl Meter {
    pub(super) fn start() -> Self {
        Self { at: Instant::now(), usage: usage() }
    }

    /// Returns the bottleneck since the start, in which time `bytes` were read. `None` if `/proc` cannot be read.
    pub(super) fn bound(&self, bytes: u64) -> Option<Bound> {
        let (from, to) = (self.usage?, usage()?);
        let spent = Usage {
            user: to.user - from.user,
            system: to.system - from.system,
            disk: to.disk.saturating_sub(from.disk),
        };
        Some(bound(spent, bytes, self.at.elapsed(), rayon::current_num_threads()))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a handful of cores")]
fn bound(spent: Usage, bytes: u64, took: Duration, cores: usize) -> Bound {
    let busy = (spent.user + spent.system) / (took.as_secs_f64() * cores as f64);
    if busy < BUSY_MIN && spent.disk > bytes / 2 {
        Bound::Disk
    } else if spent.system > spent.user {
        Bound::Memory
    } else {
        Bound::Cpu
    }
}

/// Reads the counters from `/proc` (proc(5)): fields 14 and 15 of `stat`, counted from the end of the name, which may
/// contain any character, and `read_bytes` of `io`.
fn usage() -> Option<Usage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS_PER_S);
    let (user, system) = (seconds()?, seconds()?);
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let disk = io.lines().find_map(|line| line.strip_prefix("read_bytes: ")?.parse().ok()).unwrap_or(0);
    Some(Usage { user, system, disk })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_proc() {
        assert!(usage().is_some());
    }

    #[test]
    fn the_scarce_part_is_the_bound() {
        let of = |user, system, disk| bound(Usage { user, system, disk }, 100, Duration::from_secs(1), 2);
        assert_eq!(of(1.5, 0.4, 0), Bound::Cpu);
        assert_eq!(of(0.5, 1.4, 0), Bound::Memory);
        assert_eq!(of(0.5, 0.2, 100), Bound::Disk);
        // Other processes used the cores.
        assert_eq!(of(0.5, 0.2, 0), Bound::Cpu);
        // The disk keeps up.
        assert_eq!(of(1.4, 0.5, 100), Bound::Cpu);
    }
}
