//! Progress on terminals, in logs and in records.

use std::time::Duration;

use super::is_at_most;

/// Time between two drawings of the progress line of a terminal.
pub const REDRAW_INTERVAL: Duration = Duration::from_millis(200);
/// Default time between two progress lines where the progress line cannot be redrawn.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);
/// Default time between two progress records.
pub const RECORD_INTERVAL: Duration = Duration::from_secs(1);
/// Least time between two progress records: a session reports its state no more often.
pub const RECORD_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// Columns of a terminal that does not report its width.
pub const TERMINAL_WIDTH: usize = 80;
/// Narrower terminals show the short form of the progress line.
pub const LONG_LINE_WIDTH_MIN: usize = 60;
/// Columns that a name gets before the bar and the less important fields.
pub const NAME_WIDTH_MIN: usize = 12;
/// Columns of the shortest bar that is drawn.
pub const BAR_WIDTH_MIN: usize = 10;
/// Time between two checks whether the file of `--log` was moved away.
pub const LOG_CHECK_INTERVAL: Duration = Duration::from_secs(1);

const _: () = assert!(is_at_most(RECORD_INTERVAL_MIN, REDRAW_INTERVAL));
const _: () = assert!(is_at_most(RECORD_INTERVAL_MIN, RECORD_INTERVAL));
