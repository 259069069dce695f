//! Limits of the number of connections, of their age and of the peers a torrent remembers.

use std::time::Duration;

use super::is_at_most;

/// Largest value of `--connections`: half of the descriptors that a process on Linux can have by default
/// (`fs.nr_open`).
pub const CONNECTIONS_MAX: usize = 1 << 19;
/// Connections of one `seed` without `--connections`.
pub const CONNECTIONS_SEED_MAX: usize = 20_000;
/// Connections of one `get` without `--connections`.
pub const CONNECTIONS_GET_MAX: usize = 500;
/// Connections from one host, which is an IPv4 address or an IPv6 /64. An origin normally serves several downloaders on
/// one machine or behind one NAT.
pub const CONNECTIONS_PER_IP_MAX: usize = 64;
/// Connections to one peer of ours, the first one included, without `--streams`.
pub const STREAMS_AUTO_MAX: usize = 4;
/// Part of the time for which a ring thread runs, in percent, from which it counts as busy: a further connection on
/// another thread helps.
pub const STREAM_BUSY_PERCENT: u32 = 80;
/// Payload bytes that a peer's connections carry between two ticks of a ring thread before a further one is opened.
pub const STREAM_LEN_MIN: u64 = 32 << 20;
/// Accepted connections with a pending handshake from one host; another one is closed.
pub const PENDING_HANDSHAKES_PER_IP_MAX: u32 = 64;
/// Accepted connections with a pending handshake in total; another one is closed.
pub const PENDING_HANDSHAKES_MAX: u32 = 2048;
/// Blocks of failed pieces whose senders are remembered until the piece is verified. Each takes 40 bytes; the oldest
/// pieces are forgotten first.
pub const SMART_BAN_BLOCKS_MAX: usize = 1 << 16;
/// Pieces that failed and were never verified whose senders are counted for the summary of a download; further ones are
/// not counted.
pub const FAILED_PIECES_LISTED_MAX: usize = 64;
/// Outgoing connection attempts in progress at a time.
pub const HALF_OPEN_MAX: usize = 100;
/// Outgoing connection attempts per second for one torrent, on average. A burst may have [`HALF_OPEN_MAX`].
pub const CONNECTS_PER_S: u32 = 50;
/// Useful connections at which a download stops looking for peers, since each connection costs a `have` message per
/// piece.
pub const CONNECTIONS_SOUGHT: usize = 20;
/// Connections at which a download accepts no more without `--connections`. Otherwise the first peer would be connected
/// to every later peer and be fed by all of them.
pub const CONNECTIONS_LEECHING_MAX: usize = 36;
/// Connections at which a download stops looking for peers after a failed piece, while no connected peer is proven.
pub const CONNECTIONS_SOUGHT_UNPROVEN: usize = HALF_OPEN_MAX;
/// Divisor of the piece count: a leecher is ahead of us if it has more than this part of all pieces more than we have.
/// While more than half of the connected leechers are ahead, a download looks for peers up to
/// [`CONNECTIONS_LEECHING_MAX`]: peers divide their uplinks by connections, so a peer with fewer connections is fed
/// less.
pub const BEHIND_SHARE: u32 = 50;
/// Divisor of the pieces: a download is late while more than half of the connected leechers have this part more.
pub const LATE_SHARE: u32 = 200;
/// Tenths of the connection limit at which the session counts as crowded and evicts idle peers.
pub const CROWDED_TENTHS: usize = 9;
/// Time without transferred blocks or interest after which a peer is disconnected in a crowded session.
pub const USELESS_AFTER: Duration = Duration::from_secs(60);
/// Time without transferred blocks or interest after which a peer may be replaced by a new peer of higher canonical
/// priority (BEP 40) when the connection limit is reached.
pub const USELESS_AT_CAP_AFTER: Duration = Duration::from_secs(10);
/// Peers of one torrent that are listed as candidates for replacement.
pub const USELESS_LISTED_MAX: usize = 64;
/// Hosts that must report the same external address (BEP 10's `yourip`) before it is used, if no tracker reports one.
pub const OWN_ADDRESS_HOSTS_MIN: usize = 3;
/// Peers remembered for one torrent. When the list is full, a new peer replaces a worse one or is dropped.
pub const PEER_LIST_MAX: usize = 4000;
/// Failed connection attempts before a peer is forgotten until it is announced again.
pub const CONNECT_ATTEMPTS_MAX: u32 = 3;
/// First wait before a peer is tried again that failed, or that left without sending a block. The wait doubles each
/// time.
pub const CONNECT_RETRY_MIN: Duration = Duration::from_secs(10);
/// Failed connection attempts before a lost peer, which has sent us blocks, is forgotten until it is announced again:
/// about ten minutes of attempts.
pub const CONNECT_ATTEMPTS_LOST_MAX: u32 = 27;
/// First wait before a lost peer, or one that the user named, is tried again.
pub const CONNECT_RETRY_LOST_MIN: Duration = Duration::from_secs(1);
/// The wait before a lost peer is tried again is the time for which it has been lost, divided by this.
pub const CONNECT_RETRY_OUTAGE_DIVISOR: u32 = 4;
/// Longest wait before a peer is tried again.
pub const CONNECT_RETRY_MAX: Duration = Duration::from_secs(300);
/// Hosts of one torrent whose trust is remembered. When the list is full, the host whose trust is nearest to zero is
/// forgotten, banned hosts last.
pub const TRUST_LIST_MAX: usize = 16_384;

/// Age up to which a connection attempt counts towards the connections sought. An older attempt rarely succeeds, so
/// other peers are tried beside it.
pub const CONNECT_HOPEFUL: Duration = Duration::from_secs(1);
/// Time that a leecher has to connect after it announced itself to our own tracker; then we connect to it.
pub const AWAITED_FOR: Duration = Duration::from_secs(2);
/// Leechers of one torrent that are awaited at a time; further ones must connect by themselves.
pub const AWAITED_MAX: usize = 256;
/// Time to open a TCP connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time from the open TCP connection to the complete handshake, whatever arrives meanwhile.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time without any peer after which a download reports how many peers closed the connection during the handshake.
pub const HUNG_UP_NOTICE: Duration = Duration::from_secs(5);
/// Time without any peer after which a download that has had none reports the peers that it tries.
pub const NO_PEERS_NOTICE: Duration = Duration::from_secs(5);
/// Time after the loss of the last peer after which a download reports the peers that it tries.
pub const LOST_PEERS_NOTICE: Duration = Duration::from_secs(1);
/// Least time between two such reports of one torrent.
pub const NO_PEERS_NOTICE_INTERVAL: Duration = Duration::from_secs(30);
/// Peers that such a report names; the rest are counted.
pub const PROSPECTS_SHOWN_MAX: usize = 3;
/// Time after which a download reports that its connected peers lack all pieces that it needs.
pub const UNAVAILABLE_NOTICE: Duration = Duration::from_secs(5);
/// Ranges of pieces that a report of unavailable pieces names; the rest are counted.
pub const UNAVAILABLE_RANGES_SHOWN_MAX: usize = 5;
/// Time without a byte from the peer after which the connection is closed.
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(180);
/// Time since the last complete message after which bytes of an incomplete message count as silence.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time without a sent byte after which a keep-alive is sent. BEP 3: "generally sent once every two minutes"; this is a
/// little less, for peers that time out at two minutes.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(100);
/// Time without a requested block after which a peer with outstanding requests counts as snubbing.
pub const SNUB_TIMEOUT: Duration = Duration::from_secs(20);
/// Duration of a send after which the peer counts as stalled and its upload slot goes to another peer.
pub const SEND_STALL_NOTICE: Duration = Duration::from_secs(2);
/// Time without an acknowledged byte of the pending send after which the peer counts as stalled too. A slow reader
/// acknowledges some bytes within that time.
pub const SEND_UNREAD_NOTICE: Duration = Duration::from_millis(400);
/// Duration of a send after which the connection is closed.
pub const SEND_STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// uTP packets read per second; each is answered with at most one packet. This bounds the work, and the packets that a
/// flood with forged sender addresses makes us send. Further packets wait in the kernel or are dropped there.
pub const UTP_PACKETS_PER_S_MAX: u32 = 2000;
/// Bytes received from the uTP socket at a time. The kernel may coalesce packets; those that do not fit are dropped.
pub const UTP_RECV_LEN: usize = 2048;

/// Failures of a listener in a row after which it is reported: a second of attempts. Some failures concern only the
/// connection that was to be accepted.
pub const ACCEPT_FAILURES_REPORTED: u32 = 10;
/// Least time between two warnings that descriptors for new connections are short.
pub const SHORTAGE_WARNING_INTERVAL: Duration = Duration::from_secs(60);

const _: () = assert!(CONNECTIONS_SEED_MAX <= CONNECTIONS_MAX && CONNECTIONS_GET_MAX <= CONNECTIONS_MAX);
const _: () = assert!(CONNECTIONS_SOUGHT <= CONNECTIONS_LEECHING_MAX);
const _: () = assert!(CONNECTIONS_LEECHING_MAX <= CONNECTIONS_SOUGHT_UNPROVEN);
const _: () = assert!(CONNECTIONS_SOUGHT_UNPROVEN <= CONNECTIONS_GET_MAX);
const _: () = assert!(CONNECTIONS_PER_IP_MAX <= CONNECTIONS_GET_MAX);
const _: () = assert!(PENDING_HANDSHAKES_PER_IP_MAX <= PENDING_HANDSHAKES_MAX);
const _: () = assert!(is_at_most(USELESS_AT_CAP_AFTER, USELESS_AFTER));
const _: () = assert!(is_at_most(CONNECT_RETRY_LOST_MIN, CONNECT_RETRY_MIN));
const _: () = assert!(is_at_most(CONNECT_RETRY_MIN, CONNECT_RETRY_MAX));
const _: () = assert!(CONNECT_ATTEMPTS_MAX <= CONNECT_ATTEMPTS_LOST_MAX);
const _: () = assert!(is_at_most(CONNECT_HOPEFUL, CONNECT_TIMEOUT));
const _: () = assert!(is_at_most(MESSAGE_TIMEOUT, SILENCE_TIMEOUT));
const _: () = assert!(is_at_most(KEEP_ALIVE_INTERVAL, SILENCE_TIMEOUT));
const _: () = assert!(is_at_most(SEND_UNREAD_NOTICE, SEND_STALL_NOTICE));
const _: () = assert!(is_at_most(SEND_STALL_NOTICE, SEND_STALL_TIMEOUT));
