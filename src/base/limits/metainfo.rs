//! Limits of metainfo files, magnet links, created torrents and content.

use std::time::Duration;

/// Length in bytes of a `.torrent` file, local or fetched; a longer one is refused. 64 MiB hold three million SHA-1
/// hashes.
pub const METAINFO_LEN_MAX: u64 = 64 << 20;
/// Nesting of bencoded values in a metainfo file; a deeper file is refused. Real ones reach 5.
pub const METAINFO_DEPTH_MAX: usize = 32;
/// Bencoded values in a metainfo file, enough for a million files; a file with more is refused.
pub const METAINFO_TOKENS_MAX: usize = 10_000_000;
/// Nesting of bencoded values in a tracker's reply; a deeper reply is refused.
pub const TRACKER_REPLY_DEPTH_MAX: usize = 8;
/// Nesting of bencoded values in an extension handshake (BEP 10) or a metadata message (BEP 9); a deeper one is
/// refused.
pub const EXTENSION_DEPTH_MAX: usize = 16;
/// Bencoded values in a tracker's reply, an extension handshake or a metadata message; one with more is refused.
pub const SMALL_TOKENS_MAX: usize = 200_000;

/// Pieces in a torrent that is read without `--max-pieces`, the limit of libtorrent.
pub const PIECE_COUNT_MAX: u32 = 2_097_152;
/// Pieces in a torrent that every client can download. rqbit reads a `bitfield` message into 32 KiB, of which the head
/// takes five bytes.
pub const PIECE_COUNT_PORTABLE_MAX: u32 = ((32 << 10) - 5) * 8;
/// Piece length in bytes of a torrent that is read; a torrent of longer pieces is refused.
pub const PIECE_LEN_READ_MAX: u32 = 512 << 20;
/// Smallest piece length in bytes of a created torrent. Piece lengths of created torrents are powers of two.
pub const PIECE_LEN_CREATE_MIN: u32 = 16 << 10;
/// Largest piece length in bytes of a created torrent.
pub const PIECE_LEN_CREATE_MAX: u32 = 256 << 20;
/// Bytes of a file that are read at a time to check one piece; each hashing thread holds one buffer of this length.
pub const HASH_READ_LEN: usize = 1 << 20;
/// Pieces that a thread of `create` or `verify` hashes side by side, the lanes of the widest kernel.
pub const HASH_LANES: usize = 16;
/// Bytes of each piece hashed side by side that `create` and `verify` read at a time. The buffers of all lanes fit into
/// a second-level cache of 1 MiB.
pub const HASH_CHUNK_LEN: usize = 32 << 10;
/// Bytes of content in memory that a thread of `create` or `verify` maps at a time: enough that mapping costs little, and
/// few enough that the maps of all threads count little as memory of the process.
pub const HASH_WINDOW_LEN: usize = 32 << 20;
/// Address space in bytes that a map may need beyond its length: the largest page at each of its ends.
pub const HASH_WINDOW_MARGIN_LEN: usize = 2 * (64 << 10);
/// Runs of pieces of `create` and `verify` that are hashed in maps and in copies by turns; then the faster way goes on.
pub const HASH_RACE_RUNS: u32 = 8;
/// Bytes of content that a thread of `create` or `verify` claims at a time, but at least [`HASH_LANES`] and at most
/// [`HASH_RUN_PIECES_MAX`] pieces.
pub const HASH_RUN_LEN: u64 = 16 << 20;
/// The greatest number of pieces that a thread of `create` or `verify` claims at a time.
pub const HASH_RUN_PIECES_MAX: usize = 1024;
/// Threads of `create` and `verify`, on any number of cores, for content in short files on disk. Each open or read
/// waits for the disk, so this is the number in progress.
pub const HASH_COLD_THREADS: usize = 16;
/// Bytes of one piece that are read at a time from a long file on disk, enough that seeking to the next piece costs
/// little.
pub const HASH_COLD_CHUNK_LEN: usize = 4 << 20;
/// Bytes of all threads of `create` or `verify` that are being read from disk or hashed.
pub const HASH_COLD_LEN: usize = 128 << 20;
/// Divisor of the memory that bounds [`HASH_COLD_LEN`] further.
pub const HASH_COLD_MEMORY_SHARE: u64 = 8;
/// The least number of bytes that one thread reads from disk before it hashes them.
pub const HASH_COLD_STEP_LEN_MIN: usize = 1 << 20;
/// The greatest number of bytes that one thread reads from disk before it hashes them.
pub const HASH_COLD_STEP_LEN_MAX: usize = 16 << 20;
/// Length in bytes of the shortest file that is read past the page cache (`O_DIRECT`).
pub const DIRECT_FILE_LEN_MIN: u64 = 4 << 20;
/// Unit in bytes of offsets, lengths and addresses of `O_DIRECT` reads: no disk has larger blocks.
pub const DIRECT_ALIGN: usize = 4096;
/// Bytes of a pipe that `create -` reads into one buffer: sixteen pieces of the default length, hashed side by side.
pub const STREAM_READ_LEN: usize = 16 << 20;
/// Buffers of one `create -`, together 128 MiB. The cores that these keep busy hash faster than any pipe delivers.
pub const STREAM_BUFFERS_MAX: usize = 8;
/// Piece length in bytes of `create -` without `-l`, since the length of a pipe's content is unknown. Every client
/// loads the torrent of up to 256 GiB of content.
pub const STREAM_PIECE_LEN_DEFAULT: u32 = 1 << 20;
/// Interval at which a reader of a silent pipe checks for Ctrl-C.
pub const STREAM_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Length in bytes of a torrent's content, the limit of libtorrent; a longer one is refused.
pub const CONTENT_LEN_MAX: u64 = (1 << 48) - 1;
/// Files in a torrent; a torrent with more is refused.
pub const FILE_COUNT_MAX: usize = 2_000_000;
/// Files and folders that a search for extra files visits, twice the files of a torrent.
pub const EXTRA_ENTRIES_MAX: usize = 2 * FILE_COUNT_MAX;
/// Extra files that are listed; the rest are counted.
pub const EXTRA_FILES_LISTED_MAX: usize = 10_000;
/// Torrents whose last check is remembered for `verify --fast`; the record takes 56 bytes per file.
pub const REMEMBERED_CHECKS_MAX: usize = 1000;
/// Content bytes hashed between two records of a journal, which is what an interruption loses: less than a minute of
/// reading from one hard disk.
pub const HASH_JOURNAL_STEP_LEN: u64 = 4 << 30;
/// Interrupted hash runs that are remembered; the journal takes 20 bytes per piece.
pub const HASH_JOURNALS_MAX: usize = 16;
/// Length in bytes of a path element, the limit of Linux; a longer one is shortened.
pub const PATH_ELEMENT_LEN_MAX: usize = 255;
/// Bytes of a longer path element that are kept, as in libtorrent.
pub const SHORTENED_NAME_LEN: usize = 240;
/// Length in bytes, with its dot, of the longest extension that a shortened path element keeps, as in libtorrent.
pub const SHORT_EXTENSION_LEN_MAX: usize = 9;
/// Length in bytes of a path inside the target folder, which leaves room for the folder's own path in `PATH_MAX`; a
/// torrent with a longer path is refused.
pub const PATH_LEN_MAX: usize = 3800;
/// Elements of a path inside the target folder; a torrent with a deeper path is refused.
pub const PATH_DEPTH_MAX: usize = 100;
/// Trackers read from one metainfo file or magnet link; further ones are ignored.
pub const TRACKER_COUNT_MAX: usize = 256;
/// Web seeds read from one metainfo file or magnet link; further ones are ignored.
pub const WEB_SEED_COUNT_MAX: usize = 64;
/// Length in bytes of the URL of a tracker or web seed; a longer one is ignored. Servers refuse request lines of about
/// this length.
pub const URL_LEN_MAX: usize = 4096;
/// Length in bytes of a magnet link, enough for several trackers of the longest kind; a longer link is refused.
/// Browsers and shells pass on about this length.
pub const MAGNET_LEN_MAX: usize = 64 << 10;
/// Peers read from one magnet link (`x.pe`); further ones are ignored.
pub const MAGNET_PEERS_MAX: usize = 64;
/// Warnings kept for one metainfo file; further ones are dropped.
pub const METAINFO_WARNINGS_MAX: usize = 20;

const _: () = assert!(PIECE_COUNT_PORTABLE_MAX <= PIECE_COUNT_MAX);
const _: () = assert!(PIECE_LEN_CREATE_MIN <= PIECE_LEN_CREATE_MAX && PIECE_LEN_CREATE_MAX <= PIECE_LEN_READ_MAX);
const _: () = assert!(PIECE_LEN_CREATE_MIN.is_power_of_two() && PIECE_LEN_CREATE_MAX.is_power_of_two());
const _: () = assert!(HASH_LANES <= HASH_RUN_PIECES_MAX);
const _: () = assert!(HASH_COLD_STEP_LEN_MIN <= HASH_COLD_STEP_LEN_MAX && HASH_COLD_STEP_LEN_MAX <= HASH_COLD_LEN);
const _: () = assert!(HASH_COLD_CHUNK_LEN <= HASH_COLD_STEP_LEN_MAX);
const _: () = assert!(DIRECT_ALIGN as u64 <= DIRECT_FILE_LEN_MIN && DIRECT_ALIGN.is_power_of_two());
const _: () = assert!(STREAM_READ_LEN.is_power_of_two() && STREAM_PIECE_LEN_DEFAULT.is_power_of_two());
const _: () = assert!(PIECE_LEN_CREATE_MIN <= STREAM_PIECE_LEN_DEFAULT);
const _: () = assert!(STREAM_PIECE_LEN_DEFAULT as usize * HASH_LANES <= STREAM_READ_LEN);
const _: () = assert!(EXTRA_FILES_LISTED_MAX <= EXTRA_ENTRIES_MAX && FILE_COUNT_MAX <= EXTRA_ENTRIES_MAX);
const _: () = assert!(SHORTENED_NAME_LEN + SHORT_EXTENSION_LEN_MAX <= PATH_ELEMENT_LEN_MAX);
const _: () = assert!(PATH_ELEMENT_LEN_MAX <= PATH_LEN_MAX);
const _: () = assert!(URL_LEN_MAX <= MAGNET_LEN_MAX);
