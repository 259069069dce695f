//! The resource usage of this process so far, in total and by kind of thread.

use std::fs;
use std::ops::AddAssign;
use std::path::Path;
use std::time::Duration;

/// The usage of all threads, including those that have ended and the kernel's workers for our rings.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    pub user: Duration,
    pub system: Duration,
    /// Page faults without a disk read.
    pub minor_faults: u64,
    /// Page faults with a disk read.
    pub major_faults: u64,
    /// Resident memory in bytes.
    pub memory: Memory,
}

/// Resident memory in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Memory {
    /// The largest resident size so far, including mapped file pages.
    pub peak: u64,
    /// Anonymous memory.
    pub anon: u64,
    /// Pages of mapped files, shared memory included.
    pub file: u64,
}

/// The usage of the running threads, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Threads {
    pub ring: ThreadUsage,
    pub hash: ThreadUsage,
    /// The kernel's workers for operations that would block.
    pub kernel: ThreadUsage,
    /// The control thread and all other threads.
    pub other: ThreadUsage,
}

/// The usage of some threads.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ThreadUsage {
    pub user: Duration,
    pub system: Duration,
    pub major_faults: u64,
    /// Context switches because the thread waited.
    pub voluntary_switches: u64,
    /// Context switches because the kernel preempted the thread.
    pub involuntary_switches: u64,
}

impl Usage {
    /// Returns zeros if `/proc` can't be read.
    pub fn of_this_process() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let Stat { user, system, minor_faults, major_faults } = Stat::parse(&stat).unwrap_or_default();
        Self { user, system, minor_faults, major_faults, memory: Memory::of_this_process() }
    }
}

impl Memory {
    /// Returns zeros if `/proc` can't be read.
    pub fn of_this_process() -> Self {
        Self::parse(&fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    fn parse(status: &str) -> Self {
        let kib = |key| field(status, key).unwrap_or(0) * 1024;
        Self { peak: kib("VmHWM:"), anon: kib("RssAnon:"), file: kib("RssFile:") + kib("RssShmem:") }
    }

    /// Returns the larger of each value.
    pub fn max(self, other: Self) -> Self {
        Self { peak: self.peak.max(other.peak), anon: self.anon.max(other.anon), file: self.file.max(other.file) }
    }
}

impl Threads {
    /// Returns zeros if `/proc` can't be read. Threads that have ended are not included.
    pub fn of_this_process() -> Self {
        let mut threads = Self::default();
        for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            if let Some((name, usage)) = thread(&task.path()) {
                *threads.of_kind(&name) += usage;
            }
        }
        threads
    }

    /// The kind follows from the name that a thread gets when it starts.
    fn of_kind(&mut self, name: &str) -> &mut ThreadUsage {
        match name.split_once('-').map(|(kind, _)| kind) {
            Some("ring") => &mut self.ring,
            Some("hash") => &mut self.hash,
            Some("iou") => &mut self.kernel,
            _ => &mut self.other,
        }
    }
}

impl AddAssign for ThreadUsage {
    fn add_assign(&mut self, other: Self) {
        self.user += other.user;
        self.system += other.system;
        self.major_faults += other.major_faults;
        self.voluntary_switches += other.voluntary_switches;
        self.involuntary_switches += other.involuntary_switches;
    }
}

/// Returns a thread's name and usage; `None` if the thread has just ended.
fn thread(task: &Path) -> Option<(String, ThreadUsage)> {
    let stat = fs::read_to_string(task.join("stat")).ok()?;
    let status = fs::read_to_string(task.join("status")).ok()?;
    let (_, name) = stat.rsplit_once(')')?.0.split_once('(')?;
    let Stat { user, system, major_faults, .. } = Stat::parse(&stat)?;
    let usage = ThreadUsage {
        user,
        system,
        major_faults,
        voluntary_switches: field(&status, "voluntary_ctxt_switches:")?,
        involuntary_switches: field(&status, "nonvoluntary_ctxt_switches:")?,
    };
    Some((name.to_owned(), usage))
}

/// Fields 10, 12, 14 and 15 of `stat` (proc(5)). The name in field 2 may contain anything; the last parenthesis ends
/// it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Stat {
    user: Duration,
    system: Duration,
    minor_faults: u64,
    major_faults: u64,
}

impl Stat {
    fn parse(stat: &str) -> Option<Self> {
        let numbers = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(7);
        let numbers: Vec<u64> = numbers.map_while(|number| number.parse().ok()).collect();
        let &[minor_faults, _, major_faults, _, user, system, ..] = &numbers[..] else { return None };
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        let time = |ticks: u64| Duration::from_millis(ticks * 1000 / per_second);
        Some(Self { user: time(user), system: time(system), minor_faults, major_faults })
    }
}

/// Returns the number after `key` at the start of a line of a `status` file.
fn field(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_stat_is_parsed_with_any_name() {
        let stat = "12 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 250 50 -1 0";
        let per_second = rustix::param::clock_ticks_per_second();
        let ticks = |count: u64| Duration::from_millis(count * 1000 / per_second);
        let expected = Stat { user: ticks(250), system: ticks(50), minor_faults: 7, major_faults: 9 };
        assert_eq!(Stat::parse(stat), Some(expected));
        assert_eq!(Stat::parse("12 (x) S 1 2"), None);
        let memory =
            Memory::parse("VmPeak:\t 9 kB\nVmHWM:\t   2048 kB\nRssAnon: 1 kB\nRssFile:\t2 kB\nRssShmem:\t3 kB\n");
        assert_eq!(memory, Memory { peak: 2 << 20, anon: 1024, file: 5 * 1024 });
        assert!(Usage::of_this_process().memory.peak > 0);
    }

    #[test]
    fn threads_are_grouped_by_name() {
        let mut threads = Threads::default();
        for name in ["ring-0", "hash-12", "iou-wrk-77", "bt-fast", "tracker"] {
            threads.of_kind(name).voluntary_switches += 1;
        }
        let switches = [threads.ring, threads.hash, threads.kernel, threads.other].map(|kind| kind.voluntary_switches);
        assert_eq!(switches, [1, 1, 1, 2]);
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let waiting = std::thread::Builder::new().name("hash-0".into()).spawn(move || receiver.recv()).unwrap();
        while Threads::of_this_process().hash.voluntary_switches == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(sender);
        assert!(waiting.join().unwrap().is_err());
    }
}
