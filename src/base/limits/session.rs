//! Limits of a session: its torrents, its status, its retries and its end.

use std::time::Duration;

use super::is_at_most;

/// Length in bytes of a configuration file; a longer one is refused.
pub const CONFIG_LEN_MAX: u64 = 1 << 20;
/// Length in bytes of the benchmark results that `--compare` reads; a longer file is refused.
pub const BENCH_RESULT_LEN_MAX: u64 = 64 << 20;
/// Length in bytes of a misspelt setting for which the nearest one is looked for, as that takes time.
pub const MISSPELT_LEN_MAX: usize = 64;

/// Changes of the torrents of a running session that the control thread makes in one step, and that wait for it; senders
/// of more wait too.
pub const CHANGES_AT_ONCE: usize = 64;
/// Interval at which the sender of a change checks whether the session has ended.
pub const CHANGE_POLL: Duration = Duration::from_millis(100);
/// Results of downloads that have left a session and wait to be reported; the threads with further ones wait.
pub const DEPARTURES_WAITING_MAX: usize = 64;
/// Torrents of one `get` whose metadata or `.torrent` is fetched at the same time; the others wait.
pub const FETCHES_AT_ONCE: usize = 64;
/// `.torrent` files in a folder of `seed --watch`; further ones are reported and not served. An idle torrent takes
/// [`super::TORRENT_IDLE_LEN_MAX`].
pub const WATCHED_FILES_MAX: usize = 100_000;
/// Interval at which a watched folder is checked for a change of its modification time.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which every file of a watched folder is checked, even if the folder's modification time is the same.
pub const WATCH_ALL_INTERVAL: Duration = Duration::from_secs(60);
/// Time for which an unreadable `.torrent` file of a watched folder is assumed to be still being written.
pub const WATCH_SETTLE_TIME: Duration = Duration::from_secs(5);

/// Shortest interval at which `seed` compares the files of content with those that it hashed.
pub const CONTENT_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Longest interval at which `seed` compares the files of content with those that it hashed.
pub const CONTENT_POLL_INTERVAL_MAX: Duration = Duration::from_secs(600);
/// Pause after a comparison as a multiple of its duration, within [`CONTENT_POLL_INTERVAL`] and
/// [`CONTENT_POLL_INTERVAL_MAX`]: large folders take about 2 % of one core.
pub const CONTENT_POLL_RATIO: u32 = 50;
/// Time for which changed content must stay the same before it is hashed, since a copy may be in progress.
pub const CONTENT_QUIET: Duration = Duration::from_secs(3);
/// Upper bound of the time for which changed content must stay the same. It is as long as the last hash run took, but
/// at least [`CONTENT_QUIET`].
pub const CONTENT_QUIET_MAX: Duration = Duration::from_secs(60);
/// Shortest interval at which content that cannot be served is tried again.
pub const CONTENT_RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// Paths that one pattern of `seed` may match; further ones are reported and not served.
pub const PATTERN_MATCHES_MAX: usize = 10_000;

/// Peers of one torrent in a session's status; the busiest are kept.
pub const PEERS_SHOWN_MAX: usize = 100;
/// Cells in a torrent's map of pieces; a torrent of fewer pieces has one cell for each.
pub const PIECE_MAP_LEN: u32 = 512;
/// Seconds of transfer rates that a session keeps for the dashboard; older ones are dropped.
pub const RATES_KEPT_MAX: usize = 300;

/// Torrents that the progress line of `seed` lists one by one; more are summed up.
pub const TORRENTS_LISTED_MAX: usize = 3;

/// Pause before a system call is retried that was interrupted, was cancelled or lacked resources.
pub const RETRY_PAUSE: Duration = Duration::from_millis(1);
/// Retries of a system call that was interrupted, was cancelled or lacked resources. Together they take a second or
/// more; then the error is returned.
pub const RETRIES_MAX: u32 = 1000;
/// Retries of a listening address that is taken.
pub const LISTEN_RETRIES_MAX: u32 = 10;
/// Pause before each of them.
pub const LISTEN_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Time that an ending ring waits for operations that the kernel cannot cancel, such as a write to a busy disk.
pub const RING_END_TIMEOUT: Duration = Duration::from_secs(1);
/// Time within which the kernel must start the worker thread of a ring.
pub const RING_WORKER_TIMEOUT: Duration = Duration::from_secs(2);
/// Attempts to have the kernel start the worker thread of a ring.
pub const RING_WORKER_TRIES: u32 = 10;

/// Time within which the process ends after Ctrl-C.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

const _: () = assert!(is_at_most(WATCH_INTERVAL, WATCH_SETTLE_TIME));
const _: () = assert!(is_at_most(WATCH_SETTLE_TIME, WATCH_ALL_INTERVAL));
const _: () = assert!(is_at_most(CONTENT_POLL_INTERVAL, CONTENT_QUIET));
const _: () = assert!(is_at_most(CONTENT_QUIET, CONTENT_QUIET_MAX));
const _: () = assert!(is_at_most(CONTENT_RETRY_INTERVAL, CONTENT_POLL_INTERVAL_MAX));
const _: () = assert!(RETRY_PAUSE.as_millis() * RETRIES_MAX as u128 >= 1000);
