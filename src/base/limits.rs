//! Every bound of the program: its unit, its value, its reason.

use std::time::Duration;

/// A `.torrent` file, local or fetched: 64 MiB holds 3 million SHA-1 hashes.
pub const METAINFO_LEN_MAX: u64 = 64 << 20;
/// Nesting of bencoded values in a metainfo file. Real ones reach 5.
pub const METAINFO_DEPTH_MAX: usize = 32;
/// Bencoded values in a metainfo file: enough for a million files.
pub const METAINFO_TOKENS_MAX: usize = 10_000_000;
/// Nesting in a tracker's reply.
pub const TRACKER_REPLY_DEPTH_MAX: usize = 8;
/// Nesting in an extension handshake (BEP 10).
pub const EXTENSION_DEPTH_MAX: usize = 16;
/// Bencoded values in a tracker reply or an extension handshake.
pub const SMALL_TOKENS_MAX: usize = 200_000;

/// Pieces in a torrent, as libtorrent has it.
pub const PIECE_COUNT_MAX: u32 = 2_097_152;
/// Pieces every client can download: rqbit reads a `bitfield` message into 32 KiB, five bytes of which are its head.
pub const PIECE_COUNT_PORTABLE_MAX: u32 = ((32 << 10) - 5) * 8;
/// Piece length we read.
pub const PIECE_LEN_READ_MAX: u32 = 512 << 20;
/// Piece length we create: a power of two between these.
pub const PIECE_LEN_CREATE_MIN: u32 = 16 << 10;
pub const PIECE_LEN_CREATE_MAX: u32 = 256 << 20;
/// Bytes of a file read at a time for the check of one piece: each hashing thread holds one such buffer.
pub const HASH_READ_LEN: usize = 1 << 20;
/// Pieces that a thread of `create` or `verify` hashes side by side: what the widest kernel takes.
pub const HASH_LANES: usize = 16;
/// Bytes of each of these pieces that are read at a time: sixteen such buffers stay in a second-level cache of 1 MiB.
pub const HASH_CHUNK_LEN: usize = 32 << 10;
/// Bytes, but at least [`HASH_LANES`] pieces and at most so many, that a thread takes from the content at a time.
pub const HASH_RUN_LEN: u64 = 16 << 20;
pub const HASH_RUN_PIECES_MAX: usize = 1024;
/// Threads of `create` and `verify` when content comes from disk in short files: so many opens and reads are under way.
pub const HASH_COLD_THREADS: usize = 16;
/// Bytes of one piece that are read from a long file on disk at a time: enough that a disk's heads need not care for the
/// next piece being elsewhere.
pub const HASH_COLD_CHUNK_LEN: usize = 4 << 20;
/// Bytes that come from disk or are being hashed after that, of all threads; and what one of them hashes at a time.
pub const HASH_COLD_LEN: usize = 128 << 20;
pub const HASH_COLD_STEP_LEN_MIN: usize = 1 << 20;
pub const HASH_COLD_STEP_LEN_MAX: usize = 16 << 20;
/// Shorter files are never read past the page cache.
pub const DIRECT_FILE_LEN_MIN: u64 = 4 << 20;
/// What O_DIRECT wants offsets, lengths and memory to be multiples of: no disk has larger blocks.
pub const DIRECT_ALIGN: usize = 4096;
/// Bytes of a pipe read at a time for `create -`: sixteen pieces of the default length, hashed side by side.
pub const STREAM_READ_LEN: usize = 16 << 20;
/// Such buffers of one `create -`, 128 MiB: more cores than these feed are faster than any pipe.
pub const STREAM_BUFFERS_MAX: usize = 8;
/// Piece length of `create -`, which cannot know how much will come: up to 256 GiB every client loads the result.
pub const STREAM_PIECE_LEN_DEFAULT: u32 = 1 << 20;
/// A silent pipe is left this soon after Ctrl-C.
pub const STREAM_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Whole content: 2^48 - 1 bytes, as libtorrent has it.
pub const CONTENT_LEN_MAX: u64 = (1 << 48) - 1;
/// Files in a torrent.
pub const FILE_COUNT_MAX: usize = 2_000_000;
/// Files and folders that are looked at for extra ones: twice as many as a torrent can name.
pub const EXTRA_ENTRIES_MAX: usize = 2 * FILE_COUNT_MAX;
/// Extra files that are listed; the others are counted.
pub const EXTRA_FILES_LISTED_MAX: usize = 10_000;
/// Torrents whose last check is remembered for `verify --fast`; each takes 56 bytes for a file of it.
pub const REMEMBERED_CHECKS_MAX: usize = 1000;
/// A path element, as Linux has it.
pub const PATH_ELEMENT_LEN_MAX: usize = 255;
/// A whole path inside the target folder; leaves room for the folder's own path in PATH_MAX.
pub const PATH_LEN_MAX: usize = 3800;
/// Folders inside folders.
pub const PATH_DEPTH_MAX: usize = 100;
/// Trackers read from one metainfo file.
pub const TRACKER_COUNT_MAX: usize = 256;
/// Web seeds read from one metainfo file.
pub const WEB_SEED_COUNT_MAX: usize = 64;
/// A tracker's or web seed's URL; servers refuse longer request lines than about this.
pub const URL_LEN_MAX: usize = 4096;
/// A magnet link: room for some trackers of the longest kind. Browsers and shells pass on about as much.
pub const MAGNET_LEN_MAX: usize = 64 << 10;
/// Peers read from one magnet link (`x.pe`).
pub const MAGNET_PEERS_MAX: usize = 64;
/// Warnings kept for one metainfo file; more of them tell nobody more.
pub const METAINFO_WARNINGS_MAX: usize = 20;

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
/// Metadata we fetch: requests outstanding with one peer, open connections at which no more are sought, and how long a peer
/// may take for a part, or to say what it has.
pub const METADATA_REQUESTS_MAX: usize = 4;
pub const METADATA_CONNECTIONS_MAX: usize = 32;
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
/// An open piece that gets no block for this long is rescued by whoever has nothing to ask for.
pub const RESCUE_AFTER: Duration = Duration::from_secs(1);
/// A peer that was overtaken there leaves rescues to others for so many tries.
pub const OVERTAKEN_WAITS: u16 = 4;
/// While memory for pieces is short, a peer that needs longer than this for one begins none as long as others do.
pub const SLOW_PIECE_TIME: Duration = Duration::from_secs(4);
/// After a peer's last suggestion was taken (BEP 6) it is asked for nothing else for this long: an origin that suggests has
/// better use for its uplink than copies of what others have, and the next suggestion is on its way.
pub const GUIDED_TIME: Duration = Duration::from_secs(2);
/// Unless nobody at all brings anything for this long.
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
/// Control messages a peer may send in a second: all but request, piece, cancel, have, and an origin's suggestions, which are
/// one for a piece.
pub const CONTROL_MESSAGES_PER_S_MAX: u32 = 200;
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

/// Blocks of a peer's queue that are made ready ahead of its writer, when memory is not scarce.
pub const READ_AHEAD_BLOCKS_MAX: usize = 128;
/// A file is looked at before something of it leaves, once in so long, and always before its end leaves; of files shorter than
/// this so many of a torrent in that time, of which there may be as many as blocks.
pub const FILE_LOOK_INTERVAL: Duration = Duration::from_millis(100);
pub const FILE_LOOK_LEN_MIN: u64 = 1 << 20;
pub const FILE_LOOKS_SHORT_MAX: u64 = 100;
/// For this long what was read into memory is believed to be there, whatever came after it; and at most for so long.
pub const RESIDENT_MIN: Duration = Duration::from_millis(50);
pub const RESIDENT_MAX: Duration = Duration::from_secs(30);
/// In between it is believed while less than this part of memory was read in since: one divided by this.
pub const CACHE_TRUSTED_SHARE: u64 = 4;
/// With `--cache drop-behind`, content that stays in memory after it was read in: more than all peers at the same place
/// need, less than anybody misses.
pub const CACHE_BEHIND_LEN: u64 = 256 << 20;

/// Ring threads at most.
pub const RINGS_MAX: usize = 8;
/// Piece arena unless `--arena` says otherwise, where that is no more than this share of memory; never less than two pieces.
pub const ARENA_LEN_DEFAULT: u64 = 256 << 20;
pub const ARENA_MEMORY_SHARE: u64 = 4;
/// Pieces open at a time at most, however small they are.
pub const OPEN_PIECES_MAX: u32 = 4096;
/// Files mapped at a time at most: half of Linux's default `vm.max_map_count`.
pub const MAPPED_FILES_MAX: usize = 32_768;
/// Files held open for writing at a time: this share of the descriptors that the process may have, within these bounds.
/// As many again may be under way to the disk.
pub const OPEN_FILES_SHARE: u64 = 8;
pub const OPEN_FILES_MIN: usize = 8;
pub const OPEN_FILES_MAX: usize = 512;

/// Bytes of a torrent that are written to the page cache and not on disk: the kernel's own bound is a fifth of memory, at which it
/// stops everybody, and in some control groups there is none. No more than a share of memory; and a share of that is flushed at
/// a time.
pub const DIRTY_LEN_MAX: usize = 256 << 20;
pub const DIRTY_LEN_MIN: usize = 4 << 20;
pub const DIRTY_MEMORY_SHARE: u64 = 8;
pub const DIRTY_RUN_SHARE: usize = 8;

/// What is had is written down this often, and no oftener than so many times what it took before: 2 % of the time of a disk
/// that is busy with it, much less of a processor's; but at last after the longest.
pub const CHECKPOINT_INTERVAL_MIN: Duration = Duration::from_secs(5);
pub const CHECKPOINT_INTERVAL_MAX: Duration = Duration::from_secs(60);
pub const CHECKPOINT_PAUSE_RATIO: u32 = 50;
/// After a checkpoint a file that lacks pieces may be written to for so long: until the next one, which may take as long
/// again. What was written later was written by somebody else.
pub const CHECKPOINT_WRITES: Duration = Duration::from_secs(120);
/// Bytes of pieces received in part that are kept over a restart; a run that goes on writes them when so many bytes more have
/// come, and half of what is written.
pub const PARTS_LEN_MAX: usize = 64 << 20;
pub const PARTS_GROWTH_MIN: u64 = 4 << 20;
/// Written files that are synced one by one; of more the whole file system is.
pub const SYNC_FILES_MAX: usize = 16;
/// Pieces of a resume record that are hashed before it is believed: one of each of as many files, the others at random.
pub const RESUME_SAMPLES_MAX: usize = 64;
pub const RESUME_SAMPLE_LEN: u64 = 256 << 20;

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
/// [`CONNECTIONS_LEECHING_MAX`]: peers divide their uplinks by connections, and whoever has fewer than others is fed less.
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

/// `--up` and `--down` are at least this, in bytes per second: a block each second, so that nobody takes us for silent.
pub const RATE_LIMIT_MIN: u64 = 16 << 10;
/// What waits for a rate limit looks again at least so often: whether there is still somebody to wait for.
pub const RATE_WAIT_MAX: Duration = Duration::from_millis(250);

/// BEP 3: "unchoking the four peers"; a fast uplink, or one that these do not fill, has more, up to the last.
pub const UPLOAD_SLOTS_GET: usize = 4;
/// An origin serves more peers at once: its uplink is what it is for.
pub const UPLOAD_SLOTS_SEED_MIN: usize = 16;
pub const UPLOAD_SLOTS_MAX: usize = 64;
/// A slot for each so many bytes per second of upload: on a fast link few slots make cliques, which pass newcomers by.
pub const SLOT_RATE_AMPLE: u64 = 500_000;
/// Slots beside the first ones come while the uplink is idle, each time one and this part of those that are used: a swarm
/// that starts can't wait. They go by the second part in a round in which it never was.
pub const SPARE_SLOTS_GROWTH: usize = 2;
pub const SPARE_SLOTS_PART: usize = 4;
/// A seeder serves a peer this many bytes, within these times, before others have their turn.
pub const TURN_LEN: u64 = 32 << 20;
pub const TURN_TIME_MIN: Duration = Duration::from_secs(20);
pub const TURN_TIME_MAX: Duration = Duration::from_secs(60);
/// One in so many of a seeder's free slots goes to somebody who was never served first.
pub const NEWCOMER_SHARE: usize = 4;
/// BEP 3: "only changing who's choked once every ten seconds".
pub const CHOKE_INTERVAL: Duration = Duration::from_secs(10);
/// BEP 3: the optimistic unchoke "rotates every 30 seconds".
pub const OPTIMISTIC_INTERVAL: Duration = Duration::from_secs(30);

/// An attempt to connect counts so long among the connections that are sought; of one that takes longer little is hoped
/// for, and others are tried beside it.
pub const CONNECT_HOPEFUL: Duration = Duration::from_secs(1);
/// To open a TCP connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// From TCP connection to complete handshake, absolute.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a byte from the peer.
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(180);
/// Bytes of a message that is not whole after this long count as silence.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// BEP 3: keep-alives "generally sent once every two minutes"; a little less, for peers that time out at two minutes.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(100);
/// Without any requested block from a peer that owes some: it is snubbing us.
pub const SNUB_TIMEOUT: Duration = Duration::from_secs(20);
/// After this long a send, of 256 KiB at most, that does not end is a peer that does not read: its slot is somebody else's.
pub const SEND_STALL_NOTICE: Duration = Duration::from_secs(2);
/// So is one of which the peer has acknowledged nothing for this long: whoever reads slowly takes some of it in that time.
pub const SEND_UNREAD_NOTICE: Duration = Duration::from_millis(400);
/// A send that makes no progress.
pub const SEND_STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Pieces downloaded at random before rarest first begins (BEP 3: "random order").
pub const RANDOM_FIRST_PIECES: u32 = 4;
/// How often the rarest-first order is made anew while availability changes.
pub const ORDER_INTERVAL: Duration = Duration::from_secs(1);
/// Announced pieces a connection remembers until the next order, for want of anything else to ask for.
pub const FRESH_PIECES_MAX: usize = 256;
/// A peer's rates are averages over this time: two choke rounds.
pub const RATE_WINDOW: Duration = Duration::from_secs(20);

/// A hash worker that finds fewer pieces than this waits so long for more: twelve to sixteen at a time take a quarter of the
/// processor time of one by one.
pub const HASH_GATHER_PIECES: usize = 12;
pub const HASH_GATHER: Duration = Duration::from_millis(12);
/// Threads for work on files that may block; a torrent's share of them, about what keeps a fast disk busy; and how long one that
/// has nothing to do is kept.
pub const FILE_THREADS_MAX: usize = 512;
pub const FILE_THREADS_EACH: usize = 8;
pub const FILE_THREAD_IDLE: Duration = Duration::from_secs(10);
/// Haves to all connections of a torrent are gathered over this time.
pub const HAVE_GATHER: Duration = Duration::from_millis(10);
/// Haves that were held back when others left, with a peer that reads slowly, wait no longer than this after them.
pub const HAVE_HELD_MAX: Duration = Duration::from_secs(1);

/// Trust of a peer address: a piece it had a part in passed, or failed with nobody else to blame; banned at or below the
/// last: a stranger at its first wrong piece, whoever brought good ones at the second or third. Of several senders of a wrong
/// piece nobody knows which it was: each gets pieces of its own until one of them is right.
pub const TRUST_GOOD_PIECE: i32 = 1;
pub const TRUST_BAD_PIECE_ALONE: i32 = -4;
pub const TRUST_MAX: i32 = 8;
pub const TRUST_BANNED: i32 = -4;

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
pub const TRACKER_PEERS_PER_IP_MAX: usize = CONNECTIONS_PER_IP_MAX;
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

/// Where an origin's pages are served unless `--web` and `--admin` say otherwise: the first port that is free. The ports in
/// between are BEP 3's for peers.
pub const WEB_PORTS: [u16; 11] = [6880, 6890, 6891, 6892, 6893, 6894, 6895, 6896, 6897, 6898, 6899];
pub const ADMIN_PORTS: [u16; 10] = [6870, 6871, 6872, 6873, 6874, 6875, 6876, 6877, 6878, 6879];
/// HTTP connections of the operator's pages: browsers and scrapers of one or a few people.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Between two events of the dashboard: the session makes its picture as often.
pub const WEB_EVENT_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of a file that are read at a time for a client of HTTP.
pub const WEB_READ_LEN: usize = 256 << 10;
/// Files of one torrent that the landing page names.
pub const FILES_SHOWN_MAX: usize = 1000;

/// Torrents that are added to or dropped from a running session before it looks at anything else.
pub const CHANGES_AT_ONCE: usize = 64;
/// `seed --watch`: `.torrent` files of the folder that are looked at; an idle torrent takes [`TORRENT_IDLE_LEN_MAX`].
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

/// A list of torrents for our own tracker: a million of them.
pub const TRACKER_LIST_LEN_MAX: u64 = 64 << 20;
/// Threads of our own tracker for each of HTTP and UDP at most.
pub const TRACKER_THREADS_MAX: usize = 64;

/// HTTP connections that may wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
pub const WEB_BACKLOG: i32 = 4096;
/// How often an HTTP server looks whether it is over.
pub const WEB_POLL: Duration = Duration::from_millis(250);
/// HTTP connections to us open at a time, of all clients and of one address; others wait, or are closed.
pub const WEB_CONNECTIONS_MAX: usize = 4096;
pub const WEB_CONNECTIONS_PER_IP_MAX: usize = 512;
/// A connection to which nothing could be written for so long is closed: no request came, or nobody reads the answer.
pub const WEB_SILENCE_TIMEOUT: Duration = Duration::from_secs(20);
/// While half of all places are taken, one that has not been answered yet is closed after this.
pub const WEB_CROWDED_TIMEOUT: Duration = Duration::from_secs(2);

/// What the kernel interrupts, cancels or has no room for is tried again after this pause, so often at most: a second and more.
pub const RETRY_PAUSE: Duration = Duration::from_millis(1);
pub const RETRIES_MAX: u32 = 1000;

/// After Ctrl-C everything is over within this time.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

const _: () = {
    assert!(REQUESTS_OUT_START <= REQUESTS_OUT_UNTOLD && REQUESTS_OUT_STEADY <= REQUESTS_OUT_MAX);
    assert!(SEND_BLOCKS_MAX * super::geometry::BLOCK_LEN as usize <= SEND_LEN_MAX);
    assert!(RECV_BUFFER_LEN_MAX > REQUEST_LEN_MAX as usize + 13);
    assert!(PIECE_LEN_CREATE_MAX <= PIECE_LEN_READ_MAX);
    assert!(2 * CHECKPOINT_INTERVAL_MAX.as_secs() <= CHECKPOINT_WRITES.as_secs());
    assert!(STREAM_READ_LEN.is_power_of_two() && STREAM_PIECE_LEN_DEFAULT.is_power_of_two());
    assert!(TRACKER_PEER_EXPIRY.as_secs() > 2 * TRACKER_SERVED_INTERVAL.as_secs());
    assert!(TRACKER_STOP_TIMEOUT.as_millis() < SHUTDOWN_TIMEOUT.as_millis());
};
