//! Limits of the HTTP servers.

use std::time::Duration;

use super::is_at_most;

/// Ports of an origin's pages without `--web`; the first free one is used. The ports in between are BEP 3's for peers.
pub const WEB_PORTS: [u16; 11] = [6880, 6890, 6891, 6892, 6893, 6894, 6895, 6896, 6897, 6898, 6899];
/// Ports of the operator's pages without `--admin`; the first free one is used.
pub const ADMIN_PORTS: [u16; 10] = [6870, 6871, 6872, 6873, 6874, 6875, 6876, 6877, 6878, 6879];
/// HTTP connections to the operator's pages, which serve the browsers and scrapers of a few people.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Time between two events of the dashboard, the interval at which the session renews its status.
pub const WEB_EVENT_INTERVAL: Duration = Duration::from_secs(1);
/// Time that `/api` waits for a status with the peers' connections, if no page has requested one lately.
pub const WEB_STATUS_WAIT: Duration = Duration::from_secs(2);
/// Torrents in `/metrics`, in the order in which they were added; further ones are only in the sums.
pub const METRICS_TORRENTS_MAX: usize = 1000;
/// Characters of a torrent's name in a label of `/metrics`; the rest is cut.
pub const METRICS_NAME_LEN_MAX: usize = 80;
/// Bytes of a file that are read at a time for one HTTP client.
pub const WEB_READ_LEN: usize = 8 << 10;
/// Bytes of a file that are read at a time for an HTTP client that keeps up.
pub const WEB_LONG_READ_LEN: usize = 64 << 10;
/// Clients for which [`WEB_LONG_READ_LEN`] bytes are read at the same time; others get short reads.
pub const WEB_LONG_READS_MAX: usize = 32;
/// Time within which a client must take the bytes of one read to count as keeping up.
pub const WEB_KEEPS_UP: Duration = Duration::from_millis(10);
/// Rows of a folder's page that are rendered at a time.
pub const LISTING_ROWS_AT_ONCE: usize = 32;
/// Files of one torrent that its page lists; the rest are counted.
pub const FILES_SHOWN_MAX: usize = 1000;
/// Replaced torrents whose successors an origin remembers; the oldest are forgotten.
pub const REPLACED_TORRENTS_MAX: usize = 1000;

/// HTTP connections that wait in the kernel to be accepted; the kernel lowers it to `net.core.somaxconn`.
pub const WEB_BACKLOG: i32 = 4096;
/// Interval at which an HTTP server checks whether the session has ended.
pub const WEB_POLL: Duration = Duration::from_millis(250);
/// Open HTTP connections of all clients. A further one replaces an idle one, waits, or is closed.
pub const WEB_CONNECTIONS_MAX: usize = 4096;
/// Open HTTP connections of one host, which is an IPv4 address or an IPv6 /64.
pub const WEB_CONNECTIONS_PER_HOST_MAX: usize = 512;
/// Time without a byte written to a connection after which another connection may replace it, unless the server is
/// still making the answer.
pub const WEB_YIELD_AFTER: Duration = Duration::from_secs(1);
/// Interval at which a connection that waits for a permit checks whether an open one can be replaced.
pub const WEB_PERMIT_RETRY: Duration = Duration::from_millis(100);
/// Pause after a connection could not be accepted because descriptors or memory are short.
pub const WEB_ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Bytes that one connection holds in memory: the head of a request, or a part of an answer.
pub const WEB_BUFFER_LEN_MAX: usize = 16 << 10;
/// Bytes of the head of a request that is answered without hyper; of a longer one hyper decides.
pub const WEB_DIRECT_HEAD_LEN_MAX: usize = 4 << 10;
/// Headers of a request that is answered without hyper.
pub const WEB_DIRECT_HEADERS_MAX: usize = 32;
/// Unsent bytes of an answer that the kernel holds for one connection (`TCP_NOTSENT_LOWAT`).
pub const WEB_UNSENT_LEN_MAX: u32 = 64 << 10;
/// Kernel buffer in bytes for the requests of one connection (`SO_RCVBUF`).
pub const WEB_RECV_BUFFER_LEN: usize = 32 << 10;
/// Time without a byte written to a connection after which it is closed: no request arrived, the client does not read
/// the answer, or the server does not finish it.
pub const WEB_SILENCE_TIMEOUT: Duration = Duration::from_secs(20);
/// Time after which a connection that was never answered is closed while more than half of all permits are taken,
/// unless the server is still making the answer.
pub const WEB_CROWDED_TIMEOUT: Duration = Duration::from_secs(2);

const _: () = assert!(is_at_most(WEB_EVENT_INTERVAL, WEB_STATUS_WAIT));
const _: () = assert!(WEB_READ_LEN <= WEB_LONG_READ_LEN);
const _: () = assert!(WEB_CONNECTIONS_PER_HOST_MAX <= WEB_CONNECTIONS_MAX);
const _: () = assert!(is_at_most(WEB_PERMIT_RETRY, WEB_YIELD_AFTER));
const _: () = assert!(is_at_most(WEB_YIELD_AFTER, WEB_CROWDED_TIMEOUT));
const _: () = assert!(is_at_most(WEB_CROWDED_TIMEOUT, WEB_SILENCE_TIMEOUT));
