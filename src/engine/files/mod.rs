//! One torrent's files while it runs.
//!
//! Owns which pieces may be sent, the changes that other programs make, the state that a download leaves for the next
//! run, and the threads for work that may block on a file system. Opening, mapping and reading files is `storage`'s.

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
