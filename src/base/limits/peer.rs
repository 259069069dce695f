//! Limits of one peer connection: messages, requests, sends and receives.

use std::time::Duration;

use super::is_at_most;
use crate::base::geometry::BLOCK_LEN;

/// Length in bytes of the longest `request` that we serve; a longer one closes the connection, as BEP 3 says for 2^17.
pub const REQUEST_LEN_MAX: u32 = 1 << 17;
/// Largest length prefix of an extended message (BEP 10); a larger one closes the connection.
pub const EXTENDED_MESSAGE_LEN_MAX: u32 = 64 << 10;
/// Extension names kept from a peer's extension handshake (BEP 10); the rest is ignored.
pub const EXTENSION_NAMES_MAX: usize = 64;
/// Length in bytes of names in a peer's extension handshake. A longer extension name is ignored; the client's name is
/// cut.
pub const EXTENSION_NAME_LEN_MAX: usize = 64;
/// Metadata parts (BEP 9) that one peer gets without a rate limit; a part has 16 KiB, and the metadata of a torrent of
/// a terabyte about a hundred parts.
pub const METADATA_BURST: u32 = 256;
/// Metadata parts per second that one peer gets after the burst; further requests wait.
pub const METADATA_PARTS_PER_S: u32 = 64;
/// Metadata parts that leave in one send.
pub const METADATA_PARTS_SENT_MAX: usize = 16;
/// Metadata requests outstanding with one peer.
pub const METADATA_REQUESTS_MAX: usize = 4;
/// Connections of a metadata download; at this number it looks for no more peers.
pub const METADATA_CONNECTIONS_MAX: usize = 32;
/// Connections of a metadata download with one host.
pub const METADATA_CONNECTIONS_PER_HOST_MAX: usize = 8;
/// Time without a metadata part or an offer of metadata after which the connection is closed.
pub const METADATA_TIMEOUT: Duration = Duration::from_secs(20);
/// Time after which a metadata part that one peer owes is requested from another peer too.
pub const METADATA_DUPLICATE_AFTER: Duration = Duration::from_secs(3);
/// Versions of the metadata that are assembled at a time. Peers may announce different lengths, and each host that
/// contributed to a failed version gets a version of its own.
pub const METADATA_VERSIONS_MAX: usize = 8;
/// Requests that a peer may have queued with us, announced as `reqq` (BEP 10); further ones are rejected.
pub const REQUESTS_IN_MAX: usize = 4096;
/// Requests that we have outstanding with one peer, whatever its `reqq`.
pub const REQUESTS_OUT_MAX: usize = 4096;
/// Withdrawn requests of one peer whose blocks are still accepted if they arrive.
pub const REQUESTS_WITHDRAWN_MAX: usize = REQUESTS_OUT_MAX;
/// Requests outstanding with a peer that announces no `reqq` (the default of BEP 10).
pub const REQUESTS_OUT_DEFAULT: usize = 250;
/// Requests outstanding with an unchoked peer whose rate is not known yet.
pub const REQUESTS_OUT_START: usize = 32;
/// Shortest time whose blocks are requested in advance. The request window covers twice the longest pause of the peer
/// even if the round trip is short, since some clients answer in bursts (Transmission twice a second).
pub const REQUESTS_OUT_TIME_MIN: Duration = Duration::from_millis(100);
/// Longest time whose blocks are requested in advance: a block requested from a busy or slow peer is not requested from
/// another one.
pub const REQUESTS_OUT_TIME_MAX: Duration = Duration::from_secs(1);
/// The least number of requests outstanding with a slow peer.
pub const REQUESTS_OUT_SLOW: usize = 4;
/// The least number of requests that a late download has outstanding with a peer. Peers divide their uplinks by
/// connections, each of which gets as much in its turn as was requested.
pub const REQUESTS_OUT_LATE: usize = 2 * REQUESTS_OUT_SLOW;
/// Requests outstanding to bridge a peer's pauses at most; only a long round trip justifies more.
pub const REQUESTS_OUT_STEADY: usize = 512;
/// Invalid requests within [`INVALID_REQUESTS_TIME`] after which a peer is disconnected. An honest peer sends some
/// around each choke.
pub const INVALID_REQUESTS_MAX: u32 = 64;
/// Time over which invalid requests are counted.
pub const INVALID_REQUESTS_TIME: Duration = Duration::from_secs(60);
/// Consecutive rejects of an unchoking peer after which it is disconnected.
pub const REJECTS_MAX: u32 = 4096;
/// Divisor of the downloaded bytes. If more than this part of them failed, an unproven peer waits for [`IDLE_RETRY`]
/// before it is asked for blocks, while a proven peer is asked.
pub const FAILED_SHARE: u64 = 50;
/// Retries after which an unproven peer is asked although another unproven peer is being asked; without another one, a
/// single retry is enough.
pub const UNPROVEN_RETRIES_MAX: u16 = 10;
/// Time for which a piece that failed its hash is left to proven peers, if one of them sends blocks.
pub const FAILED_PIECE_WAIT: Duration = Duration::from_secs(1);
/// Failed pieces of one torrent that are remembered for [`FAILED_PIECE_WAIT`]; further ones may be requested from any
/// peer at once.
pub const FAILED_PIECES_KEPT_MAX: usize = 1024;
/// Time after which a connection that found nothing to request searches again: other connections may have released
/// blocks.
pub const IDLE_RETRY: Duration = Duration::from_secs(1);
/// Blocks that an idle connection requests a second time at once in the endgame.
pub const ENDGAME_BLOCKS_MAX: usize = 16;
/// Connections that request one block in the endgame; more do only if none of them receives it.
pub const ENDGAME_ASKERS_MAX: u16 = 2;
/// Time without a block after which an open piece is requested by connections that have nothing else to request.
pub const RESCUE_AFTER: Duration = Duration::from_secs(1);
/// Multiples of [`RESCUE_AFTER`] by which a peer joins a rescue later than other peers, if it was overtaken in one.
pub const OVERTAKEN_WAITS: u16 = 4;
/// Time for one piece above which a peer counts as slow. While memory for pieces is short, a slow peer begins a piece
/// only after it found nothing else to request for [`IDLE_RETRY`].
pub const SLOW_PIECE_TIME: Duration = Duration::from_secs(4);
/// Time after a peer's last suggestion (BEP 6) for which it is asked for nothing that it did not suggest. An origin
/// that suggests has a better use for its uplink than copies of pieces that other peers have, and its next suggestion
/// is on its way.
pub const GUIDED_TIME: Duration = Duration::from_secs(2);
/// Time without a block from any peer after which [`GUIDED_TIME`] ends early.
pub const GUIDED_IDLE_TIME: Duration = Duration::from_millis(300);
/// Further time for which a suggesting peer is not asked for pieces that only seeders have: another leecher gets them
/// first and passes them on.
pub const GUIDED_RARE_TIME: Duration = Duration::from_secs(5);
/// Time without a request after which an unchoked peer does not need its slot; suggestions made to it go to other
/// peers.
pub const SLOT_UNUSED_NOTICE: Duration = Duration::from_secs(1);
/// Time with less than a block sent after which the upload slot of a peer goes to another one, unless requests of the
/// peer wait or bytes are on their way to it: more than a long path and a slow program take to answer an unchoke.
pub const SLOT_IDLE_NOTICE: Duration = Duration::from_secs(3);
/// Suggestions (BEP 6) that are remembered of one peer, and pending suggestions made to one peer.
pub const SUGGESTED_MAX: usize = 64;
/// Pending suggestions made to a peer at first; the number doubles whenever the peer may have had to wait for one.
pub const SUGGESTED_START: usize = 3;
/// Super-seeding (BEP 16): pieces announced to one peer and not yet seen at another one. With two, the peer downloads
/// one while the other spreads.
pub const SUPER_SEED_PENDING: usize = 2;
/// Super-seeding: interval at which a connection checks whether its announced pieces were seen at other peers.
pub const SUPER_SEED_CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Super-seeding: time between the upload of the first copy of all pieces and the announcement of all pieces to all
/// peers, in which the peers exchange them.
pub const SUPER_SEED_GRACE: Duration = Duration::from_secs(10);
/// Super-seeding: longest time for which a piece announced to one peer is not announced to another one while the delay
/// is ours.
pub const SUPER_SEED_HELD_MAX: Duration = Duration::from_secs(600);
/// Time after which a suggested piece that no peer announced is suggested to another peer.
pub const SUGGEST_AGAIN: Duration = Duration::from_secs(10);
/// Pieces that a choked peer may request from us (BEP 6 proposes ten), and allowed-fast pieces remembered of a peer.
pub const ALLOWED_FAST_MAX: usize = 10;
/// Bytes of the pieces that a choked peer may request from us.
pub const ALLOWED_FAST_LEN_MAX: u64 = 4 << 20;
/// Requests outstanding for allowed-fast pieces with a peer that chokes us.
pub const REQUESTS_OUT_CHOKED: usize = 8;
/// Control messages of a peer per second; one more closes the connection. Requests and blocks do not count, nor do
/// cancels and rejects up to the number of requests, haves that are new, and one suggestion of an origin for each
/// piece.
pub const CONTROL_MESSAGES_PER_S_MAX: u32 = 200;
/// Bytes of an extension handshake, or of a bitfield that is not the first message, that count as one more control
/// message: each byte is work.
pub const CONTROL_MESSAGE_LEN: usize = 1 << 10;
/// The greatest number of control messages that one message counts as because of its length.
pub const CONTROL_MESSAGE_WEIGHT_MAX: u32 = 50;
/// Keep-alives of a peer per second, which honest peers send after minutes of silence; one more closes the connection.
/// Interest messages have no limit of their own, since one may follow each have. Haves are limited by the number of
/// pieces, and repeated ones by [`CONTROL_MESSAGES_PER_S_MAX`].
pub const KEEP_ALIVES_PER_S_MAX: u32 = 5;
/// Chokes and unchokes of a peer within [`CHOKES_TIME`]; one more closes the connection. A peer that fills free slots
/// at once sends a few per second.
pub const CHOKES_MAX: u32 = 600;
/// Time over which chokes and unchokes are counted. It is long because a link that was down for a while delivers those
/// of that while at once.
pub const CHOKES_TIME: Duration = Duration::from_secs(30);

/// Blocks that leave in one `sendmsg`.
pub const SEND_BLOCKS_MAX: usize = 16;
/// Payload bytes that leave in one `sendmsg`.
pub const SEND_LEN_MAX: usize = 256 << 10;
/// Duration of a send below which the next one may be twice as long.
pub const SEND_QUICK: Duration = Duration::from_millis(50);
/// Duration of a send above which the next one is half as long. Blocks for a slow peer then stay in its queue, where a
/// choke or cancel can still remove them, and leave while they are resident.
pub const SEND_SLOW: Duration = Duration::from_millis(250);
/// Unsent bytes that the kernel holds for one socket (`TCP_NOTSENT_LOWAT`). Together with the unacknowledged bytes,
/// which the path bounds, this is the whole cost of a peer that reads slowly or not at all.
pub const SEND_UNSENT_LEN_MAX: u32 = 96 << 10;
/// Length in bytes of the shortest zero-copy send; for a shorter one, pinning pages costs more than copying them.
pub const ZERO_COPY_LEN_MIN: usize = 32 << 10;
/// Memory in bytes of the process for an idle torrent of few pieces.
pub const TORRENT_IDLE_LEN_MAX: usize = 8 << 10;
/// Memory in bytes of the process for an idle connection of a small torrent.
pub const CONNECTION_IDLE_LEN_MAX: usize = 10 << 10;
/// Further memory in bytes of the process for a connection of the plain driver: its registration with the event loop.
pub const CONNECTION_PLAIN_LEN_MAX: usize = 1 << 10;
/// Memory in bytes of the process for a connection that reads nothing and filled its request queue (48 KiB) through a
/// larger receive buffer.
pub const CONNECTION_STALLED_LEN_MAX: usize = 160 << 10;
/// Pending control bytes of a peer above which haves are held back and its requests count as invalid.
pub const CONTROL_BACKLOG_MAX: usize = 256 << 10;

/// Receive buffer in bytes of an idle connection.
pub const RECV_BUFFER_LEN_MIN: usize = 4 << 10;
/// Receive buffer in bytes of a busy connection.
pub const RECV_BUFFER_LEN_MAX: usize = 256 << 10;

/// Blocks received in place by one call: 1 MiB, with a quarter of the buffers that Linux takes in one call.
pub const PLANNED_BLOCKS_MAX: usize = 64;

/// Time whose arriving bytes wake the reader of a fast peer once (`SO_RCVLOWAT`); a longer one would add to the latency
/// of answers.
pub const LOW_WATER_TIME: Duration = Duration::from_millis(1);
/// Smallest low-water mark in bytes, two blocks; a smaller one would save nothing, so any byte wakes the reader
/// instead.
pub const LOW_WATER_LEN_MIN: u32 = 32 << 10;
/// Largest low-water mark in bytes.
pub const LOW_WATER_LEN_MAX: u32 = 1 << 20;

const _: () = assert!(REQUESTS_OUT_SLOW < REQUESTS_OUT_LATE && REQUESTS_OUT_LATE <= REQUESTS_OUT_START);
const _: () = assert!(REQUESTS_OUT_SLOW <= REQUESTS_OUT_CHOKED && REQUESTS_OUT_CHOKED <= REQUESTS_OUT_START);
const _: () = assert!(REQUESTS_OUT_START <= REQUESTS_OUT_DEFAULT && REQUESTS_OUT_DEFAULT <= REQUESTS_OUT_MAX);
const _: () = assert!(REQUESTS_OUT_SLOW <= REQUESTS_OUT_STEADY && REQUESTS_OUT_STEADY <= REQUESTS_OUT_MAX);
const _: () = assert!(is_at_most(REQUESTS_OUT_TIME_MIN, REQUESTS_OUT_TIME_MAX));
const _: () = assert!(BLOCK_LEN <= REQUEST_LEN_MAX);
const _: () = assert!(METADATA_PARTS_PER_S <= METADATA_BURST);
const _: () = assert!(METADATA_CONNECTIONS_PER_HOST_MAX <= METADATA_CONNECTIONS_MAX);
const _: () = assert!(is_at_most(METADATA_DUPLICATE_AFTER, METADATA_TIMEOUT));
const _: () = assert!(is_at_most(GUIDED_IDLE_TIME, GUIDED_TIME) && is_at_most(GUIDED_TIME, GUIDED_RARE_TIME));
const _: () = assert!(SUGGESTED_START <= SUGGESTED_MAX);
const _: () =
    assert!(is_at_most(SUPER_SEED_CHECK_INTERVAL, SUGGEST_AGAIN) && is_at_most(SUGGEST_AGAIN, SUPER_SEED_HELD_MAX));
const _: () = assert!(CONTROL_MESSAGE_WEIGHT_MAX <= CONTROL_MESSAGES_PER_S_MAX);
const _: () = assert!(KEEP_ALIVES_PER_S_MAX <= CONTROL_MESSAGES_PER_S_MAX);
const _: () = assert!(SEND_BLOCKS_MAX * BLOCK_LEN as usize <= SEND_LEN_MAX);
const _: () = assert!(is_at_most(SEND_QUICK, SEND_SLOW));
const _: () = assert!(ZERO_COPY_LEN_MIN <= SEND_LEN_MAX);
const _: () = assert!(CONNECTION_IDLE_LEN_MAX <= CONNECTION_STALLED_LEN_MAX);
const _: () = assert!(RECV_BUFFER_LEN_MIN <= RECV_BUFFER_LEN_MAX);
// A `piece` message of the longest request has a head of 13 bytes.
const _: () = assert!(RECV_BUFFER_LEN_MAX > REQUEST_LEN_MAX as usize + 13);
const _: () = assert!(LOW_WATER_LEN_MIN <= LOW_WATER_LEN_MAX);
