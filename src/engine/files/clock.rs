//! The clock that file times are taken from.
#![allow(clippy::disallowed_methods, reason = "file times are compared with it")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::FileTime;

/// Returns the time since 1970. A clock before 1970 counts as 1970.
pub(super) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Like [`since_1970`], in whole seconds.
pub(super) fn seconds_since_1970() -> i64 {
    file_time().s
}

/// Returns the time that a file gets if it is written now.
pub(super) fn file_time() -> FileTime {
    since_1970().into()
}
