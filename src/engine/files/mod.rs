//! One torrent's files while it runs: what may be sent of them, what other programs do to them, what a download leaves for
//! the next run, and the threads that do what may block on a file system.

pub(in crate::engine) mod checkpoint;
pub(in crate::engine) mod clock;
pub(in crate::engine) mod content;
pub(in crate::engine) mod io_threads;
pub(in crate::engine) mod partial_pieces;
pub(in crate::engine) mod presence;
pub(in crate::engine) mod readiness;
pub mod resume;
pub(in crate::engine) mod watch;
pub(in crate::engine) mod writeback;
