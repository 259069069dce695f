//! What this process has used of the machine so far.

use std::fs;
use std::time::Duration;

/// Of all threads, the kernel's workers for our ring included.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    pub user: Duration,
    pub system: Duration,
    /// Largest resident memory in bytes, mapped file pages included.
    pub memory_peak: u64,
}

impl Usage {
    /// Zeros where `/proc` can't be read.
    pub fn of_this_process() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let (user, system) = processor_time(&stat).unwrap_or_default();
        Self { user, system, memory_peak: memory_peak(&status).unwrap_or_default() }
    }
}

/// Fields 14 and 15 of `/proc/PID/stat`, in ticks; the name in field 2 may hold anything, its last parenthesis ends it.
fn processor_time(stat: &str) -> Option<(Duration, Duration)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let per_second = rustix::param::clock_ticks_per_second();
    let mut next = || {
        let ticks: u64 = fields.next()?.parse().ok()?;
        Some(Duration::from_millis(ticks * 1000 / per_second.max(1)))
    };
    Some((next()?, next()?))
}

fn memory_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_whatever_the_name() {
        let stat = "12 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        let per_second = rustix::param::clock_ticks_per_second();
        let ticks = |count: u64| Duration::from_millis(count * 1000 / per_second);
        assert_eq!(processor_time(stat), Some((ticks(250), ticks(50))));
        assert_eq!(memory_peak("VmPeak:\t 9 kB\nVmHWM:\t   2048 kB\n"), Some(2 << 20));
        assert!(Usage::of_this_process().memory_peak > 0);
    }
}
