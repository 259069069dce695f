//! Limits of one peer connection: messages, requests, sends and receives.

use std::time::Duration;

/// The longest `request` we serve (BEP 3: implementations close above 2^17).
pub const REQUEST_LEN_MAX: u32 = 1 << 17;
/// Length prefix of an extended message (BEP 10).
pub const EXTENDED_MESSAGE_LEN_MAX: u32 = 64 << 10;
/// Extension names kept from a peer's extension handshake (BEP 10). libtorrent tells 8.
pub const EXTENSION_NAMES_MAX: usize = 64;
/// A name in a peer's extension handshake: of an extension, or its client's. The rest is cut or passed over.
pub const EXTENSION_NAME_LEN_MAX: usize = 64;
/// Metadata (BEP 9) that a peer gets from us at once, and per second when it asks for more: parts of 16 KiB. A torrent of a
/// terabyte has a hundred.
pub const METADATA_BURST: u32 = 256;
pub const METADATA_PARTS_PER_S: u32 = 64;
/// Parts that leave together.
pub const METADATA_PARTS_SENT_MAX: usize = 16;
/// Metadata we fetch: requests outstanding with one peer, open connections at which no more are sought, how many of them one
/// host may open, and how long a peer may take for a part, or to say what it has.
pub const METADATA_REQUESTS_MAX: usize = 4;
pub const METADATA_CONNECTIONS_MAX: usize = 32;
pub const METADATA_CONNECTIONS_PER_HOST_MAX: usize = 8;
pub const METADATA_TIMEOUT: Duration = Duration::from_secs(20);
/// A part that a peer was asked for is asked of another one after this.
pub const METADATA_DOUBLE_AFTER: Duration = Duration::from_secs(3);
/// Versions of the metadata that are put together at a time: peers may tell different lengths, and those that had part
/// in a wrong one bring it alone from then on.
pub const METADATA_VERSIONS_MAX: usize = 8;
/// Requests a peer may have queued with us, told as `reqq` (BEP 10).
pub const REQUESTS_IN_MAX: usize = 4096;
/// Requests we have outstanding with one peer at most.
pub const REQUESTS_OUT_MAX: usize = 4096;
/// Requests that were taken back from one peer and whose blocks are taken if they come all the same.
pub const REQUESTS_WITHDRAWN_MAX: usize = REQUESTS_OUT_MAX;
/// Requests outstanding with a peer that tells no `reqq` (BEP 10's default).
pub const REQUESTS_OUT_UNTOLD: usize = 250;
/// Requests outstanding with an unchoked peer of which nothing is known yet.
pub const REQUESTS_OUT_START: usize = 32;
/// Whatever the round trip says, as many requests are outstanding as the peer answers in twice the longest pause it makes,
/// but in this time: some answer in bursts (Transmission twice a second), and what a busy or slow one was asked nobody
/// else is asked. Within the two bounds that follow.
pub const REQUESTS_OUT_TIME_MIN: Duration = Duration::from_millis(100);
pub const REQUESTS_OUT_TIME_MAX: Duration = Duration::from_secs(1);
pub const REQUESTS_OUT_SLOW: usize = 4;
pub const REQUESTS_OUT_STEADY: usize = 512;
/// Invalid requests within a time before a peer is dropped: an honest one sends some around each choke.
pub const INVALID_REQUESTS_MAX: u32 = 64;
pub const INVALID_REQUESTS_TIME: Duration = Duration::from_secs(60);
/// Requests in a row that an unchoking peer may reject before it is dropped.
pub const REJECTS_MAX: u32 = 4096;
/// One divided by this: the part of what came that may be wrong before peers of which nothing is known wait for
/// [`IDLE_RETRY`] until they are asked, if somebody who brought something right is asked in the meantime.
pub const SPOILT_SHARE: u64 = 50;
/// So often at most, and one of them at a time.
pub const STRANGER_WAITS_MAX: u16 = 10;
/// A piece that was wrong is for this long left to those who brought something right, where one of them gives; in mind are
/// kept so many.
pub const SPOILT_WAIT: Duration = Duration::from_secs(1);
pub const SPOILT_PIECES_KEPT_MAX: usize = 1024;
/// A connection that finds nothing to ask for looks again after this long: others give back what they claimed.
pub const IDLE_RETRY: Duration = Duration::from_secs(1);
/// Blocks an idle connection asks for a second time in the endgame, at a time.
pub const ENDGAME_BLOCKS_MAX: usize = 16;
/// Connections that a block is asked of in the endgame. More only when none of them brings it.
pub const ENDGAME_ASKERS_MAX: u16 = 2;
/// An open piece that gets no block for this long is requested by connections that have nothing else to ask for.
pub const RESCUE_AFTER: Duration = Duration::from_secs(1);
/// A peer that was overtaken there leaves rescues to others for so many tries.
pub const OVERTAKEN_WAITS: u16 = 4;
/// While memory for pieces is short, a peer that needs longer than this for one begins none as long as others do.
pub const SLOW_PIECE_TIME: Duration = Duration::from_secs(4);
/// After a peer's last suggestion was taken (BEP 6) it is asked for nothing else for this long: an origin that suggests has
/// better use for its uplink than copies of what others have, and the next suggestion is on its way.
pub const GUIDED_TIME: Duration = Duration::from_secs(2);
/// The wait ends earlier when no peer has sent a block for this long.
pub const GUIDED_IDLE_TIME: Duration = Duration::from_millis(300);
/// And for this long it is not asked for what seeders alone have: it comes to somebody else first, and then to us.
pub const GUIDED_RARE_TIME: Duration = Duration::from_secs(5);
/// An unchoked peer that asks for nothing for this long has no need of a slot: others are not kept from what it could ask for.
pub const SLOT_UNUSED_NOTICE: Duration = Duration::from_secs(1);
/// Suggestions remembered of one peer, and made to one peer, at most; and made at first.
pub const SUGGESTED_MAX: usize = 64;
pub const SUGGESTED_START: usize = 3;
/// Super-seeding (BEP 16): pieces that a peer is shown before others were seen with them, so that one comes while the other
/// goes on; how often it is looked whether they were; and how long after the first copy everything is shown, for the peers to
/// have it from each other.
pub const SUPER_SEED_PENDING: usize = 2;
pub const SUPER_SEED_LOOK: Duration = Duration::from_millis(200);
pub const SUPER_SEED_GRACE: Duration = Duration::from_secs(10);
/// What a peer was shown others are not shown while it waits for us to send it, but no longer than this.
pub const SUPER_SEED_HELD_MAX: Duration = Duration::from_secs(600);
/// A piece that was suggested to a peer, and that nobody announced for so long, is suggested to another one.
pub const SUGGEST_AGAIN: Duration = Duration::from_secs(10);
/// Pieces that a choked peer may have of us (BEP 6 proposes ten), and their bytes; as many are remembered of its own offer.
pub const ALLOWED_FAST_MAX: usize = 10;
pub const ALLOWED_FAST_LEN_MAX: u64 = 4 << 20;
/// Requests outstanding with a peer that chokes us, for such pieces.
pub const REQUESTS_OUT_CHOKED: usize = 8;
/// Control messages a peer may send in a second. Requests and blocks are none of them, nor are as many cancels and rejects
/// as there were requests, haves that are new, and an origin's suggestions, one for each piece.
pub const CONTROL_MESSAGES_PER_S_MAX: u32 = 200;
/// An extension handshake, and a bitfield that is not the first message, counts once for each so many bytes of it, up to so
/// many times: each byte is work.
pub const CONTROL_MESSAGE_LEN: usize = 1 << 10;
pub const CONTROL_MESSAGE_WEIGHT_MAX: u32 = 50;
/// Of them keep-alives, which are sent after minutes of silence. Interest may follow each have: it has no bound of its own.
/// Haves are bounded by the pieces there are, and by the bound above where they say nothing new.
pub const KEEP_ALIVES_PER_S_MAX: u32 = 5;
/// And chokes and unchokes, of which whoever gives free slots at once sends a few in a second. They are counted over a longer
/// time: a line that was dead for a while brings those of that while at once.
pub const CHOKES_MAX: u32 = 600;
pub const CHOKES_TIME: Duration = Duration::from_secs(30);

/// Blocks that leave in one `sendmsg`.
pub const SEND_BLOCKS_MAX: usize = 16;
/// Payload bytes that leave in one `sendmsg`.
pub const SEND_LEN_MAX: usize = 256 << 10;
/// A send that takes longer than the second is followed by half as much, one that is faster than the first by twice as much:
/// what waits for a slow peer waits in its queue, where a choke or cancel can still take it out, and leaves while it is
/// resident.
pub const SEND_QUICK: Duration = Duration::from_millis(50);
pub const SEND_SLOW: Duration = Duration::from_millis(250);
/// Bytes of a socket that the kernel holds before they are sent for the first time (`TCP_NOTSENT_LOWAT`). With what the peer
/// has not acknowledged, which the path bounds, it is all that a peer costs that reads slowly or not at all.
pub const SEND_UNSENT_LEN_MAX: u32 = 128 << 10;
/// Zero-copy sends are at least this long: below, keeping the books on pages costs more than copying them.
pub const ZERO_COPY_LEN_MIN: usize = 32 << 10;
/// Memory of the process for each idle torrent of few pieces, at most.
pub const TORRENT_IDLE_LEN_MAX: usize = 8 << 10;
/// Memory of the process for each idle connection, at most, for a small torrent.
pub const CONNECTION_IDLE_LEN_MAX: usize = 10 << 10;
/// And for each that reads nothing and has filled its queue of requests (48 KiB), which came through a larger buffer.
pub const CONNECTION_STALLED_LEN_MAX: usize = 160 << 10;
/// Control bytes that wait for a peer before haves are held back and its requests count as invalid.
pub const CONTROL_BACKLOG_MAX: usize = 256 << 10;

/// Receive buffer of a connection that is idle, and of one that is busy.
pub const RECV_BUFFER_LEN_MIN: usize = 4 << 10;
pub const RECV_BUFFER_LEN_MAX: usize = 256 << 10;

/// Blocks that are received in place in one call: a mebibyte, and a quarter of the spans that Linux takes in one.
pub const PLANNED_BLOCKS_MAX: usize = 64;

/// A fast peer's reader is woken once for what arrives in this time, within these bounds in bytes. Longer would be heard in
/// the answers' latency; below the least, two blocks, there is nothing to gain.
pub const LOW_WATER_TIME: Duration = Duration::from_millis(1);
pub const LOW_WATER_LEN_MIN: u32 = 32 << 10;
pub const LOW_WATER_LEN_MAX: u32 = 512 << 10;
