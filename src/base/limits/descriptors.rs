//! How the descriptors that the process may have are divided (`io::Descriptors`).

/// Descriptors that no connection and no file kept open may take: the I/O threads' event loops and listeners, sockets to
/// trackers, and files that are open for one operation.
pub const DESCRIPTORS_RESERVED: usize = 48;
/// Divisor of the spare descriptors: this part may be files of a download open for writing, within [`OPEN_FILES_MIN`]
/// and [`OPEN_FILES_MAX`]. As many more files may be being flushed to disk.
pub const OPEN_FILES_SHARE: usize = 8;
/// The lower bound of the files open for writing.
pub const OPEN_FILES_MIN: usize = 2;
/// The upper bound of the files open for writing.
pub const OPEN_FILES_MAX: usize = 512;
/// Divisor of the spare descriptors: this part may be files of downloads held open for their locks.
pub const LOCKED_FILES_SHARE: usize = 4;
/// Divisor of the spare descriptors: this part may be HTTP connections of an origin, each with a file, within
/// [`WEB_CONNECTIONS_MIN`] and `WEB_CONNECTIONS_MAX`.
pub const WEB_CONNECTIONS_SHARE: usize = 16;
/// The lower bound of an origin's HTTP connections.
pub const WEB_CONNECTIONS_MIN: usize = 2;
/// Divisor of the spare descriptors: this part may be files that an origin reads at a time.
pub const READ_FILES_SHARE: usize = 8;
/// Peer connections that are allowed however few descriptors there are.
pub const CONNECTIONS_MIN: usize = 4;

const _: () = assert!(OPEN_FILES_MIN <= OPEN_FILES_MAX);
