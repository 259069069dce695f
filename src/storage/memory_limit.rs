//! The memory limit of the process, and the bounds derived from it. It is the least of the machine's memory, the limits
//! of its control groups and its limit of address space.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::process::{Resource, getrlimit};
use rustix::system::sysinfo;

use crate::base::limits;

/// The content of `/proc/self/cgroup` where `/proc` is not mounted. A container sees its own group as the root.
const GROUPS_UNKNOWN: &str = "0::/\n1:memory:/\n";

/// Bytes of memory that this process may use, including its share of the page cache.
pub fn memory_limit() -> u64 {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    *LIMIT.get_or_init(read)
}

/// Bytes of address space that this process may use; `None` without a limit.
pub(super) fn address_space() -> Option<u64> {
    static LIMIT: OnceLock<Option<u64>> = OnceLock::new();
    *LIMIT.get_or_init(|| getrlimit(Resource::As).current)
}

fn read() -> u64 {
    let info = sysinfo();
    #[allow(clippy::useless_conversion, reason = "the kernel's word has 32 bits on some machines")]
    let total = u64::from(info.totalram).saturating_mul(u64::from(info.mem_unit));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_else(|_| GROUPS_UNKNOWN.to_owned());
    let limits = groups.lines().filter_map(limit_file).flat_map(|(root, path, name)| {
        // The limits of all parent groups apply too.
        path.ancestors().map(|folder| root.join(folder).join(name)).collect::<Vec<_>>()
    });
    let limits = limits.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    limits.chain(address_space()).fold(total, u64::min)
}

/// The default of `--arena`, in bytes.
pub fn arena_len_default() -> u64 {
    limits::ARENA_LEN_DEFAULT.min(memory_limit() / limits::ARENA_MEMORY_SHARE)
}

/// The maximum number of bytes of a torrent that are written to the page cache but not synced.
pub fn dirty_len_max() -> usize {
    let share = usize::try_from(memory_limit() / limits::DIRTY_MEMORY_SHARE).unwrap_or(usize::MAX);
    limits::DIRTY_LEN_MAX.min(share).max(limits::DIRTY_LEN_MIN)
}

/// Parses a line of `/proc/self/cgroup`: the mount point of the hierarchy, the path of the group in it, and the name of
/// the file with its memory limit.
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
    fn control_groups_of_both_versions_are_read() {
        let (root, path, name) = limit_file("0::/a/b").unwrap();
        assert_eq!((root.join(path), name), ("/sys/fs/cgroup/a/b".into(), "memory.max"));
        let (root, path, name) = limit_file("4:cpu,memory:/").unwrap();
        assert_eq!((root.join(path), name), ("/sys/fs/cgroup/memory/".into(), "memory.limit_in_bytes"));
        assert_eq!(limit_file("5:cpuset:/x"), None);
        assert!(memory_limit() > 1 << 20);
    }
}
