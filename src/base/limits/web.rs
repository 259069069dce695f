//! Limits of the HTTP servers.

use std::time::Duration;

/// Where an origin's pages are served unless `--web` and `--admin` say otherwise: the first port that is free. The ports in
/// between are BEP 3's for peers.
pub const WEB_PORTS: [u16; 11] = [6880, 6890, 6891, 6892, 6893, 6894, 6895, 6896, 6897, 6898, 6899];
pub const ADMIN_PORTS: [u16; 10] = [6870, 6871, 6872, 6873, 6874, 6875, 6876, 6877, 6878, 6879];
/// HTTP connections of the operator's pages: browsers and scrapers of one or a few people.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Between two events of the dashboard: the session makes its picture as often.
pub const WEB_EVENT_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of a file that are read at a time for a client of HTTP, and for one that keeps up.
pub const WEB_READ_LEN: usize = 8 << 10;
pub const WEB_LONG_READ_LEN: usize = 64 << 10;
/// Clients for which that much is read at the same time.
pub const WEB_LONG_READS_MAX: usize = 32;
/// A client that takes what was read within this time keeps up.
pub const WEB_KEEPS_UP: Duration = Duration::from_millis(10);
/// Rows of a folder's page that are made at a time.
pub const LISTING_ROWS_AT_ONCE: usize = 32;
/// Files of one torrent that the landing page names.
pub const FILES_SHOWN_MAX: usize = 1000;

/// HTTP connections that may wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
pub const WEB_BACKLOG: i32 = 4096;
/// How often an HTTP server looks whether it is over.
pub const WEB_POLL: Duration = Duration::from_millis(250);
/// HTTP connections to us open at a time, of all clients and of one host (an IPv4 address, or a /64 of IPv6). Further ones
/// take the places of idle ones, wait, or are closed.
pub const WEB_CONNECTIONS_MAX: usize = 4096;
pub const WEB_CONNECTIONS_PER_HOST_MAX: usize = 512;
/// A connection to which nothing was written for this long yields its place where they are short, unless the server is still
/// making the answer.
pub const WEB_YIELD_AFTER: Duration = Duration::from_secs(1);
/// How often a connection that waits for a place looks for one that yields.
pub const WEB_PLACE_RETRY: Duration = Duration::from_millis(100);
/// After a connection could not be accepted for want of descriptors or memory.
pub const WEB_ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// The head of a request, and the part of an answer, that one connection holds in memory.
pub const WEB_BUFFER_LEN_MAX: usize = 16 << 10;
/// Bytes of an answer that the kernel holds unsent for one connection, and `SO_RCVBUF` for its requests.
pub const WEB_UNSENT_LEN_MAX: u32 = 64 << 10;
pub const WEB_RECV_BUFFER_LEN: usize = 32 << 10;
/// A connection to which nothing could be written for this long is closed: no request came, the client does not read the
/// answer, or the server does not finish it.
pub const WEB_SILENCE_TIMEOUT: Duration = Duration::from_secs(20);
/// While more than half of all places are taken, one that has not been answered yet is closed after this, unless the server is
/// still making the answer.
pub const WEB_CROWDED_TIMEOUT: Duration = Duration::from_secs(2);
