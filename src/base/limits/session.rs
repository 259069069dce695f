//! Limits of a session: its torrents, its pictures, retries and its end.

use std::time::Duration;

/// Bytes of a configuration file.
pub const CONFIG_LEN_MAX: u64 = 1 << 20;

/// Torrents that are added to or dropped from a running session before it looks at anything else.
pub const CHANGES_AT_ONCE: usize = 64;
/// `seed --watch`: `.torrent` files of the folder that are looked at; an idle torrent takes [`super::TORRENT_IDLE_LEN_MAX`].
pub const WATCHED_FILES_MAX: usize = 100_000;
/// How often it is looked whether the folder has changed, and how often each file whatever the folder says. A file that is no
/// torrent is believed to be on its way for the third.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(1);
pub const WATCH_ALL_INTERVAL: Duration = Duration::from_secs(60);
pub const WATCH_SETTLE_TIME: Duration = Duration::from_secs(5);

/// Peers of one torrent in a picture of a session, and stretches of its map of pieces.
pub const PEERS_SHOWN_MAX: usize = 100;
pub const PIECE_MAP_LEN: u32 = 512;
/// Seconds of rates that a session remembers for whoever looks.
pub const RATES_KEPT_MAX: usize = 300;

/// What the kernel interrupts, cancels or has no room for is tried again after this pause, so often at most: a second and more.
pub const RETRY_PAUSE: Duration = Duration::from_millis(1);
pub const RETRIES_MAX: u32 = 1000;

/// A ring that ends waits so long for operations that can't be cancelled, such as a write that the disk is busy with.
pub const RING_END_TIMEOUT: Duration = Duration::from_secs(1);

/// After Ctrl-C everything is over within this time.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
