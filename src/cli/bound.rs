//! What long work with content waited for most.

use std::fs;
use std::time::{Duration, Instant};

/// Processor time is counted in these (`USER_HZ`, the same on all of Linux).
const TICKS_PER_S: f64 = 100.0;
/// Cores busier than this were the limit.
const BUSY_MIN: f64 = 0.75;

/// The machine's part that a faster run needs more of. `--json` has it as a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Hashing.
    Cpu,
    /// Bytes came from the disk while cores were idle.
    Disk,
    /// Getting bytes out of the page cache took longer than hashing them.
    Memory,
}

/// The end of a line for people.
pub(super) fn phrase(bound: Option<Bound>) -> &'static str {
    match bound {
        Some(Bound::Cpu) => ", bound by the CPU",
        Some(Bound::Disk) => ", bound by the disk",
        Some(Bound::Memory) => ", bound by memory",
        None => "",
    }
}

/// This process's account at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    at: Instant,
    usage: Option<Usage>,
}

/// What the kernel counts for this process.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    /// Seconds in our code, and in the kernel.
    user: f64,
    system: f64,
    /// Bytes that disks had to give.
    disk: u64,
}

impl Meter {
    pub(super) fn start() -> Self {
        Self { at: Instant::now(), usage: usage() }
    }

    /// What bound the time since the start, in which `bytes` were read. `None` where `/proc` does not say.
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

/// proc(5): fields 14 and 15 of `stat`, counted after the name, which may hold anything; `read_bytes` of `io`.
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
    fn the_kernel_tells() {
        assert!(usage().is_some());
    }

    #[test]
    fn what_is_short_is_the_bound() {
        let of = |user, system, disk| bound(Usage { user, system, disk }, 100, Duration::from_secs(1), 2);
        assert_eq!(of(1.5, 0.4, 0), Bound::Cpu);
        assert_eq!(of(0.5, 1.4, 0), Bound::Memory);
        assert_eq!(of(0.5, 0.2, 100), Bound::Disk);
        // Others had the cores.
        assert_eq!(of(0.5, 0.2, 0), Bound::Cpu);
        // The disk keeps up.
        assert_eq!(of(1.4, 0.5, 100), Bound::Cpu);
    }
}
