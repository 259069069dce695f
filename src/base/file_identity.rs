//! Identifies one state of one file.

use std::fs::Metadata;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

/// The metadata that identify a state of a file. Times are since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FileIdentity {
    pub dev: u64,
    pub ino: u64,
    /// Length in bytes.
    pub len: u64,
    /// Time of the last write.
    pub mtime: FileTime,
    /// Time of the last change of the inode. Each write sets it, and unlike `mtime` no program can set it back.
    pub ctime: FileTime,
}

/// A file time in seconds and nanoseconds, in chronological order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct FileTime {
    pub s: i64,
    pub ns: i64,
}

impl From<&Metadata> for FileIdentity {
    fn from(metadata: &Metadata) -> Self {
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            len: metadata.len(),
            mtime: FileTime { s: metadata.mtime(), ns: metadata.mtime_nsec() },
            ctime: FileTime { s: metadata.ctime(), ns: metadata.ctime_nsec() },
        }
    }
}

impl FileIdentity {
    /// Returns whether both are the same inode, whatever was written to it.
    pub fn is_same_inode(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    /// Returns whether both are the same inode with the same length, whatever was written to it.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.dev, self.ino, self.len) == (other.dev, other.ino, other.len)
    }

    /// Returns whether the file's times show no write after `time`.
    pub fn is_unwritten_since(&self, time: FileTime) -> bool {
        self.mtime.max(self.ctime) <= time
    }

    /// Returns whether the last change lies in this range of time. If the file was read in the range, a later write may
    /// leave the same `ctime`. `mtime` does not count, since programs can set it.
    pub fn is_changed_within(&self, time: RangeInclusive<FileTime>) -> bool {
        time.contains(&self.ctime)
    }
}

impl From<Duration> for FileTime {
    /// Converts a time since 1970.
    fn from(since_1970: Duration) -> Self {
        Self { s: i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX), ns: since_1970.subsec_nanos().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_ordered_by_seconds_then_nanoseconds() {
        let time = FileTime::from(Duration::new(3, 4));
        assert_eq!(time, FileTime { s: 3, ns: 4 });
        let identity = FileIdentity { ctime: time, mtime: FileTime { s: i64::MAX, ns: 0 }, ..FileIdentity::default() };
        assert!(identity.is_changed_within(FileTime { s: 2, ns: 5 }..=time));
        assert!(!identity.is_changed_within(FileTime { s: 3, ns: 5 }..=FileTime { s: 4, ns: 0 }));
        assert!(!identity.is_changed_within(FileTime { s: -1, ns: 999 }..=FileTime { s: 3, ns: 3 }));
    }
}
