//! What tells one state of one file from another.

use std::fs::Metadata;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

/// A file as the file system shows it. Times are since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FileIdentity {
    pub dev: u64,
    pub ino: u64,
    /// In bytes.
    pub len: u64,
    /// The last write.
    pub mtime: FileTime,
    /// The last change to the inode. A write sets it, and unlike the time of the last write nobody can set it back.
    pub ctime: FileTime,
}

/// Seconds and nanoseconds, ordered as time is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
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
    /// The same inode, whatever was written to it.
    pub fn is_same_inode(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    /// The same file with the same length, whatever was written to it.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.dev, self.ino, self.len) == (other.dev, other.ino, other.len)
    }

    /// Nothing was written to it after `time`, as far as its times tell.
    pub fn is_unwritten_since(&self, time: FileTime) -> bool {
        self.mtime.max(self.ctime) <= time
    }

    /// Whether a write after one in this time may leave the same `ctime`, if the file was looked at in it. `ctime` and not
    /// `mtime`, which programs set as they like.
    pub fn is_changed_within(&self, time: RangeInclusive<FileTime>) -> bool {
        time.contains(&self.ctime)
    }
}

impl From<Duration> for FileTime {
    /// Of a time since 1970.
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
