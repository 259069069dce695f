//! Limits of announces to trackers, and of the tracker that `seed` and `track` run.

use std::time::Duration;

use super::is_at_most;

/// Length in bytes of a tracker's reply over HTTP, compressed and decompressed; a longer one is refused.
pub const TRACKER_REPLY_LEN_MAX: u64 = 1 << 20;
/// Time for an announce from the connection to the whole reply.
pub const TRACKER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time after which an unanswered UDP packet of an announce is sent again; the time doubles with each repetition (BEP
/// 15).
pub const TRACKER_UDP_RESEND_AFTER: Duration = Duration::from_secs(15);
/// Time that an announce waits for the other address family after the reply to the first one.
pub const TRACKER_FAMILY_GRACE: Duration = Duration::from_secs(1);
/// Length in bytes of a tracker's packet, the longest that UDP allows.
pub const TRACKER_UDP_REPLY_LEN_MAX: usize = 64 << 10;
/// Time for `stopped` announces when a torrent leaves.
pub const TRACKER_STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between regular announces if the tracker names none.
pub const TRACKER_INTERVAL_DEFAULT: Duration = Duration::from_secs(1800);
/// Shortest time between regular announces, whatever the tracker names.
pub const TRACKER_INTERVAL_MIN: Duration = Duration::from_secs(60);
/// Longest time between regular announces, whatever the tracker names.
pub const TRACKER_INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);
/// Shortest time before an early announce of a torrent that needs peers. The tracker's `min interval` applies too.
pub const TRACKER_EARLY_INTERVAL: Duration = Duration::from_secs(30);
/// First wait before a tracker that did not answer is tried again: it may be restarting. The wait doubles each time.
pub const TRACKER_RETRY_UNANSWERED_MIN: Duration = Duration::from_secs(1);
/// First wait before a tracker that answered with an error is tried again. The wait doubles each time.
pub const TRACKER_RETRY_MIN: Duration = Duration::from_secs(15);
/// Longest wait before a failed tracker is tried again.
pub const TRACKER_RETRY_MAX: Duration = Duration::from_secs(3600);
/// Peers requested in an announce, and peers given by our own tracker to a client that requests no number.
pub const TRACKER_NUMWANT: u32 = 80;
/// Peers taken from one reply; further ones are ignored.
pub const TRACKER_REPLY_PEERS_MAX: usize = 2000;
/// Characters shown of the text with which an HTTP server explains an error; the rest is cut.
pub const HTTP_REASON_LEN_MAX: usize = 200;
/// Length in bytes of a failure reason or warning of a tracker; the rest is cut.
pub const TRACKER_TEXT_LEN_MAX: usize = 500;
/// Length in bytes of a `tracker id` that is sent back; a longer one is ignored.
pub const TRACKER_ID_LEN_MAX: usize = 500;
/// Length in bytes of the query string of an announce to our own tracker; a longer one is refused. Clients send 300 to
/// 500 bytes.
pub const TRACKER_QUERY_LEN_MAX: usize = 2048;
/// Announces in progress of all torrents; each has a thread, further ones wait.
pub const ANNOUNCES_MAX: usize = 32;
/// Host names resolved from one tracker reply; further ones are ignored.
pub const TRACKER_REPLY_NAMES_MAX: usize = 50;
/// Time to resolve one host name.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses taken of one resolved name, so that a name cannot fill the list of peers.
pub const LOOKUP_ADDRESSES_MAX: usize = 16;
/// Bytes of the answer to a health check, compressed and decompressed; a longer one is an error.
pub const HEALTH_REPLY_LEN_MAX: u64 = 1 << 20;
/// HTTP redirects followed; a further one is an error.
pub const REDIRECTS_MAX: u32 = 5;

/// Torrents in one scrape, the number that fits into a packet of BEP 15; further ones are ignored.
pub const TRACKER_SCRAPE_MAX: usize = 74;

/// Peers of one torrent that our own tracker remembers; a further peer is given peers but not remembered.
pub const TRACKER_SWARM_MAX: usize = 10_000;
/// Peers in one reply of our own tracker.
pub const TRACKER_PEERS_GIVEN_MAX: usize = 200;
/// Divisor of the peers given to a leecher: this part is leechers even if seeders could fill the reply.
pub const TRACKER_LEECHERS_SHARE: usize = 4;
/// Peers of one torrent and one host (an IPv4 address or an IPv6 /64) that our own tracker remembers.
pub const TRACKER_PEERS_PER_IP_MAX: usize = super::CONNECTIONS_PER_IP_MAX;
/// Torrents of an open tracker. A further one replaces a torrent whose peers are all on one host, or is refused.
pub const TRACKER_SWARM_COUNT_MAX: usize = 10_000;
/// Peers of all torrents of an open tracker.
pub const TRACKER_PEER_COUNT_MAX: usize = 1_000_000;
/// Torrents of one shard of a full open tracker that are examined for one to evict.
pub const TRACKER_EVICTION_CANDIDATES: usize = 16;
/// Shards of our own tracker's torrents, each with its own lock.
pub const TRACKER_SHARDS: usize = 64;
/// Longest announce interval that our own tracker names; below it, the interval is the age of the swarm. libtorrent
/// announces no more often anyway.
pub const TRACKER_SERVED_INTERVAL: Duration = Duration::from_secs(300);
/// Shortest announce interval that our own tracker names.
pub const TRACKER_SERVED_INTERVAL_MIN: Duration = Duration::from_secs(30);
/// Time without an announce after which our own tracker forgets a peer: a little more than two intervals.
pub const TRACKER_PEER_EXPIRY: Duration = Duration::from_secs(660);
/// Interval at which a shard of our own tracker drops expired peers.
pub const TRACKER_SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Length in bytes of the query string of a scrape; a longer one is refused. A fully escaped torrent takes 71 bytes.
pub const TRACKER_SCRAPE_QUERY_LEN_MAX: usize = 8 << 10;
/// Length in bytes of a UDP request; the rest is cut. An announce has 98 bytes and the options of BEP 41, a scrape up
/// to 1,496.
pub const TRACKER_UDP_REQUEST_LEN_MAX: usize = 2048;
/// Length in bytes of an answer over UDP, so that any network carries it in one packet.
pub const TRACKER_UDP_SERVED_LEN_MAX: usize = 1400;
/// Time for the answer to a scrape, for which a user waits.
pub const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time after which an unanswered UDP packet of a scrape is sent again, so that one packet may be lost.
pub const TRACKER_UDP_SCRAPE_RESEND_AFTER: Duration = Duration::from_secs(4);
/// Kernel buffer in bytes for UDP requests to our own tracker (`SO_RCVBUF`).
pub const TRACKER_UDP_RECV_BUFFER_LEN: usize = 4 << 20;
/// Interval at which a thread of the UDP tracker checks whether the tracker has ended.
pub const TRACKER_UDP_POLL: Duration = Duration::from_millis(250);

/// Length in bytes of a list of torrents for our own tracker, enough for a million; a longer list is refused.
pub const TRACKER_LIST_LEN_MAX: u64 = 64 << 20;
/// Threads of our own tracker for HTTP, and for UDP.
pub const TRACKER_THREADS_MAX: usize = 64;

const _: () = assert!(is_at_most(TRACKER_UDP_RESEND_AFTER, TRACKER_TIMEOUT));
const _: () = assert!(is_at_most(TRACKER_FAMILY_GRACE, TRACKER_STOP_TIMEOUT));
const _: () = assert!(is_at_most(TRACKER_INTERVAL_MIN, TRACKER_INTERVAL_DEFAULT));
const _: () = assert!(is_at_most(TRACKER_INTERVAL_DEFAULT, TRACKER_INTERVAL_MAX));
const _: () = assert!(is_at_most(TRACKER_EARLY_INTERVAL, TRACKER_INTERVAL_MIN));
const _: () = assert!(is_at_most(TRACKER_RETRY_UNANSWERED_MIN, TRACKER_RETRY_MIN));
const _: () = assert!(is_at_most(TRACKER_RETRY_MIN, TRACKER_RETRY_MAX));
const _: () = assert!(is_at_most(TRACKER_RETRY_MAX, TRACKER_INTERVAL_MAX));
const _: () = assert!(TRACKER_NUMWANT as usize <= TRACKER_PEERS_GIVEN_MAX);
const _: () = assert!(TRACKER_PEERS_GIVEN_MAX <= TRACKER_REPLY_PEERS_MAX);
const _: () = assert!(TRACKER_PEERS_PER_IP_MAX <= TRACKER_SWARM_MAX && TRACKER_SWARM_MAX <= TRACKER_PEER_COUNT_MAX);
const _: () = assert!(TRACKER_SHARDS <= TRACKER_SWARM_COUNT_MAX);
const _: () = assert!(is_at_most(TRACKER_SERVED_INTERVAL_MIN, TRACKER_SERVED_INTERVAL));
const _: () = assert!(TRACKER_PEER_EXPIRY.as_secs() > 2 * TRACKER_SERVED_INTERVAL.as_secs());
const _: () = assert!(is_at_most(TRACKER_SWEEP_INTERVAL, TRACKER_PEER_EXPIRY));
const _: () = assert!(TRACKER_SCRAPE_MAX * 71 <= TRACKER_SCRAPE_QUERY_LEN_MAX);
const _: () = assert!(16 + TRACKER_SCRAPE_MAX * 20 <= TRACKER_UDP_REQUEST_LEN_MAX);
const _: () = assert!(8 + TRACKER_SCRAPE_MAX * 12 <= TRACKER_UDP_SERVED_LEN_MAX);
const _: () = assert!(2 * TRACKER_UDP_SCRAPE_RESEND_AFTER.as_secs() <= SCRAPE_TIMEOUT.as_secs());
