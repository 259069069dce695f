//! The machine and time of a measurement, without which figures mean nothing.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, thread};

use serde::Serialize;

use crate::base::units::utc;

/// The machine, the program and the time of a measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Model name of the processor.
    pub cpu: String,
    pub cores: usize,
    /// Bytes.
    pub memory: u64,
    /// Release of the Linux kernel.
    pub kernel: String,
    /// Version of this program.
    pub version: &'static str,
    /// `2026-01-31 12:00:00 UTC`
    pub taken_at: String,
}

impl Machine {
    /// Describes this machine. Values that cannot be found out are empty or zero.
    pub(super) fn this() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let kib =
            value(&read("/proc/meminfo"), "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        Self {
            cpu: value(&read("/proc/cpuinfo"), "model name").unwrap_or(std::env::consts::ARCH.to_owned()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory: kib.unwrap_or(0) * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            taken_at: utc(i64::try_from(now).unwrap_or(0)),
        }
    }
}

/// Returns the file system of a folder and its device: `ext4 on /dev/vda`. Empty if it cannot be found out.
pub(super) fn file_system(folder: &Path) -> String {
    let Ok(device) = fs::metadata(folder).map(|metadata| metadata.dev()) else { return String::new() };
    let numbers = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    mount_of(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), &numbers).unwrap_or_default()
}

/// Returns the type and source of the mount with these device numbers (proc(5), mountinfo).
fn mount_of(mounts: &str, numbers: &str) -> Option<String> {
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some(numbers))?;
    let mut words = mount.split_once(" - ")?.1.split(' ');
    Some(format!("{} on {}", words.next()?, words.next()?))
}

/// Returns the text after `key` and a colon.
fn value(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| Some(line.strip_prefix(key)?.trim_start().strip_prefix(':')?.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_device() {
        let mounts = "22 1 0:20 / /proc rw - proc proc rw\n25 1 254:1 / / rw,noatime shared:1 - ext4 /dev/vda1 rw\n";
        assert_eq!(mount_of(mounts, "254:1").as_deref(), Some("ext4 on /dev/vda1"));
        assert_eq!((mount_of(mounts, "1:1"), mount_of("1 1 1:1", "1:1")), (None, None));
        assert!(file_system(Path::new("/proc")).starts_with("proc on "));
    }

    #[test]
    fn values_are_found_by_their_key() {
        let text = "model\t: 1\nmodel name\t: Some: CPU\nMemTotal:   12 kB\n";
        assert_eq!(value(text, "model name").as_deref(), Some("Some: CPU"));
        assert_eq!(value(text, "MemTotal").as_deref(), Some("12 kB"));
        assert_eq!(value(text, "none"), None);
        assert!(Machine::this().cores > 0 && Machine::this().memory > 0);
    }
}
