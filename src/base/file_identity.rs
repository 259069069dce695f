//! What tells one state of one file from another.

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

impl FileIdentity {
    /// The same file with the same length, whatever was written to it.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.dev, self.ino, self.len) == (other.dev, other.ino, other.len)
    }

    /// Nothing was written to it after `time`, as far as its times tell.
    pub fn is_unwritten_since(&self, time: FileTime) -> bool {
        self.mtime.max(self.ctime) <= time
    }
}
