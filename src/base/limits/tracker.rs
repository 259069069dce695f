//! Limits of announces to trackers, and of the tracker that `seed` and `track` run.

use std::time::Duration;

/// A tracker's reply, raw and inflated.
pub const TRACKER_REPLY_LEN_MAX: u64 = 1 << 20;
pub const TRACKER_TIMEOUT: Duration = Duration::from_secs(30);
/// BEP 15: a UDP packet without an answer is sent again after this, and then after twice as long.
pub const TRACKER_UDP_RESEND_AFTER: Duration = Duration::from_secs(15);
/// With one family's answer the other one's is waited for this much longer.
pub const TRACKER_FAMILY_GRACE: Duration = Duration::from_secs(1);
/// A tracker's packet: as long as UDP packets get.
pub const TRACKER_UDP_REPLY_LEN_MAX: usize = 64 << 10;
/// `stopped` gets this long when we leave.
pub const TRACKER_STOP_TIMEOUT: Duration = Duration::from_secs(2);
pub const TRACKER_INTERVAL_DEFAULT: Duration = Duration::from_secs(1800);
/// Regular announces are never closer than this, nor further apart than the next.
pub const TRACKER_INTERVAL_MIN: Duration = Duration::from_secs(60);
pub const TRACKER_INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);
/// Announces made early for want of peers are never closer than this, nor than the tracker's `min interval`.
pub const TRACKER_HUNGRY_INTERVAL: Duration = Duration::from_secs(30);
/// First and longest wait before a tracker that failed is tried again.
pub const TRACKER_RETRY_MIN: Duration = Duration::from_secs(15);
pub const TRACKER_RETRY_MAX: Duration = Duration::from_secs(3600);
/// Peers asked for in an announce.
pub const TRACKER_NUMWANT: u32 = 80;
/// Peers taken from one reply.
pub const TRACKER_REPLY_PEERS_MAX: usize = 2000;
/// Characters of what an HTTP server says of an error that are shown.
pub const HTTP_REASON_LEN_MAX: usize = 200;
/// Text in a tracker's reply that is shown: failure reason and warning. The rest is cut.
pub const TRACKER_TEXT_LEN_MAX: usize = 500;
/// A `tracker id` that is sent back; a longer one is passed over.
pub const TRACKER_ID_LEN_MAX: usize = 500;
/// The query string of an announce to our own tracker. Real ones have 300 to 500 bytes.
pub const TRACKER_QUERY_LEN_MAX: usize = 2048;
/// Announces under way at a time, over all torrents: each has a thread.
pub const ANNOUNCES_MAX: usize = 32;
/// Host names looked up from one tracker reply.
pub const TRACKER_REPLY_NAMES_MAX: usize = 50;
/// To look them up.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Of those that a peer's name has, so many are taken: a name must not fill the list of peers.
pub const LOOKUP_ADDRESSES_MAX: usize = 16;
/// HTTP redirects followed.
pub const REDIRECTS_MAX: u32 = 5;

/// Torrents in one scrape: as many as BEP 15 has room for in a packet.
pub const TRACKER_SCRAPE_MAX: usize = 74;

/// Peers our own tracker remembers for one torrent, and gives in one reply.
pub const TRACKER_SWARM_MAX: usize = 10_000;
pub const TRACKER_PEERS_GIVEN_MAX: usize = 200;
/// One divided by this: the part of a leecher's peers that are leechers where seeders would fill all places.
pub const TRACKER_LEECHERS_SHARE: usize = 4;
/// Of those it remembers, peers of one IPv4 address, or of one /64 of IPv6, in one torrent.
pub const TRACKER_PEERS_PER_IP_MAX: usize = super::CONNECTIONS_PER_IP_MAX;
/// Torrents of an open tracker, and peers it remembers in all.
pub const TRACKER_SWARM_COUNT_MAX: usize = 10_000;
pub const TRACKER_PEER_COUNT_MAX: usize = 1_000_000;
/// Of a full open tracker's torrents, so many of a lock are looked at for one that nobody would miss.
pub const TRACKER_SWARMS_LOOKED_AT: usize = 16;
/// Locks among which the torrents of our own tracker are spread.
pub const TRACKER_SHARDS: usize = 64;
/// Between announces, as we tell those who announce to us: as long as the swarm is old, within these bounds; libtorrent
/// asks no more often than the longest anyway.
pub const TRACKER_SERVED_INTERVAL: Duration = Duration::from_secs(300);
pub const TRACKER_SERVED_INTERVAL_MIN: Duration = Duration::from_secs(30);
/// A peer that has not announced for two intervals and a bit is gone.
pub const TRACKER_PEER_EXPIRY: Duration = Duration::from_secs(660);
/// Swarms are swept of expired peers this often.
pub const TRACKER_SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// The query string of a scrape: each torrent has 71 bytes with everything escaped.
pub const TRACKER_SCRAPE_QUERY_LEN_MAX: usize = 8 << 10;
/// UDP requests that are read: announces have 98 bytes and the options of BEP 41, scrapes 1,496. The rest is cut.
pub const TRACKER_UDP_REQUEST_LEN_MAX: usize = 2048;
/// An answer over UDP, so that it goes through any network in one packet.
pub const TRACKER_UDP_SERVED_LEN_MAX: usize = 1400;
/// For the answer to a scrape: somebody waits for it at a terminal. A packet may be lost once.
pub const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
pub const TRACKER_UDP_SCRAPE_RESEND_AFTER: Duration = Duration::from_secs(4);
/// UDP requests that may wait in the kernel.
pub const TRACKER_UDP_RECV_BUFFER_LEN: usize = 4 << 20;
/// How often a thread of the UDP tracker looks whether it is over.
pub const TRACKER_UDP_POLL: Duration = Duration::from_millis(250);

/// A list of torrents for our own tracker: a million of them.
pub const TRACKER_LIST_LEN_MAX: u64 = 64 << 20;
/// Threads of our own tracker for each of HTTP and UDP at most.
pub const TRACKER_THREADS_MAX: usize = 64;
