//! Limits of the number of connections, of their age and of the peers a torrent remembers.

use std::time::Duration;

/// Connections of a `seed` and of a `get`.
pub const CONNECTIONS_SEED_MAX: usize = 20_000;
pub const CONNECTIONS_GET_MAX: usize = 500;
/// Connections from one IPv4 address or one /64 of IPv6: several downloaders behind one NAT, or on one host, are normal for an origin.
pub const CONNECTIONS_PER_IP_MAX: usize = 64;
/// Connections whose handshake has not told their torrent yet: from one address, and in all.
pub const GREETING_PER_IP_MAX: u32 = 64;
pub const GREETING_MAX: u32 = 2048;
/// Blocks of wrong pieces whose senders are remembered until the piece is right: 40 bytes for each.
pub const BLAMED_BLOCKS_MAX: usize = 1 << 16;
/// Pieces that were never right whose senders are counted, for the line that says so at the end.
pub const WRONG_PIECES_KEPT_MAX: usize = 64;
/// Connections being opened by us at a time.
pub const HALF_OPEN_MAX: usize = 100;
/// Connections opened by us for one torrent in a second; a burst has [`HALF_OPEN_MAX`].
pub const CONNECTS_PER_S: u32 = 50;
/// A download stops looking for peers at so many: each of them costs a message per piece.
pub const CONNECTIONS_SOUGHT: usize = 20;
/// And accepts no more of them at so many, unless the user says how many: who came first would be connected to all that
/// came later, and be fed by all.
pub const CONNECTIONS_LEECHING_MAX: usize = 36;
/// As long as all that came was wrong it looks on until so many.
pub const CONNECTIONS_SOUGHT_AMONG_LIARS: usize = HALF_OPEN_MAX;
/// While more than half of the leechers it is connected to have more than it by the content divided by this, it looks on until
/// [`CONNECTIONS_LEECHING_MAX`]: peers divide their uplinks by connections, so a peer with fewer connections is fed less.
pub const BEHIND_SHARE: u32 = 50;
/// When so many tenths of the connections are taken, those over which nothing moves and nobody wants anything make room
/// for others, after this time.
pub const CROWDED_TENTHS: usize = 9;
pub const USELESS_AFTER: Duration = Duration::from_secs(60);
/// When all are taken, a newcomer of higher priority (BEP 40) takes the place of one over which nothing moved for this time
/// already. So many of a torrent's are kept in mind.
pub const USELESS_AT_CAP_AFTER: Duration = Duration::from_secs(10);
pub const USELESS_LISTED_MAX: usize = 64;
/// What `--connections` takes at most: as many descriptors as Linux gives a process by default at most (`fs.nr_open`), halved.
pub const CONNECTIONS_MAX: usize = 1 << 19;
/// Hosts that have to see us at the same address before it is believed to be ours, where no tracker tells.
pub const OWN_ADDRESS_HOSTS_MIN: usize = 3;
/// Peers remembered for one torrent.
pub const PEER_LIST_MAX: usize = 4000;
/// Failed attempts to connect before a peer is forgotten until it is announced again.
pub const CONNECT_ATTEMPTS_MAX: u32 = 3;
/// First and longest wait before a peer that failed, or left without a block, is tried again.
pub const CONNECT_RETRY_MIN: Duration = Duration::from_secs(10);
pub const CONNECT_RETRY_MAX: Duration = Duration::from_secs(300);
/// Addresses whose trust is remembered for one torrent.
pub const TRUST_LIST_MAX: usize = 16_384;

/// An attempt to connect counts so long among the connections that are sought; of one that takes longer little is hoped
/// for, and others are tried beside it.
pub const CONNECT_HOPEFUL: Duration = Duration::from_secs(1);
/// A leecher that announced itself to our own tracker has so long to connect by itself.
pub const AWAITED_FOR: Duration = Duration::from_secs(2);
/// Leechers of one torrent that are awaited at a time.
pub const AWAITED_MAX: usize = 256;
/// To open a TCP connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// From TCP connection to complete handshake, absolute.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A download without any peer says after this long how many have hung up on the handshake.
pub const HUNG_UP_NOTICE: Duration = Duration::from_secs(5);
/// A download whose connected peers lack every piece that it still needs says so after this long.
pub const UNAVAILABLE_NOTICE: Duration = Duration::from_secs(5);
/// Ranges of those pieces that are named.
pub const UNAVAILABLE_RANGES_SHOWN_MAX: usize = 5;
/// Without a byte from the peer.
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(180);
/// Bytes of a message that is not whole after this long count as silence.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// BEP 3: keep-alives "generally sent once every two minutes"; a little less, for peers that time out at two minutes.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(100);
/// Without any requested block from a peer that owes some: it is snubbing us.
pub const SNUB_TIMEOUT: Duration = Duration::from_secs(20);
/// A send, of 256 KiB at most, that takes longer than this marks its peer as one that does not read: another peer gets its slot.
pub const SEND_STALL_NOTICE: Duration = Duration::from_secs(2);
/// So is one of which the peer has acknowledged nothing for this long: a slow reader acknowledges some of it in that time.
pub const SEND_UNREAD_NOTICE: Duration = Duration::from_millis(400);
/// A send that makes no progress.
pub const SEND_STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// uTP packets looked at in a second, each of which is answered with at most one. It bounds the work, and the packets that a
/// flood with forged sender addresses makes us send to these. Packets beyond it wait in the kernel or are lost.
pub const UTP_PACKETS_PER_S_MAX: u32 = 2000;
/// Bytes received at a time: of packets that the kernel has joined those that fit.
pub const UTP_RECV_LEN: usize = 2048;

/// How often it is said at most that there are no descriptors for new connections.
pub const SHORTAGE_WARNING_INTERVAL: Duration = Duration::from_secs(60);
