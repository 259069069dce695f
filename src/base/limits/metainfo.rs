//! Limits of metainfo files, magnet links, created torrents and content.

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
/// Content bytes hashed between two records of a journal, which are what an interruption loses: under a minute's from one
/// hard disk.
pub const HASH_JOURNAL_STEP_LEN: u64 = 4 << 30;
/// Contents whose hashing was interrupted that are remembered; each takes 20 bytes for a piece of it.
pub const HASH_JOURNALS_MAX: usize = 16;
/// A path element, as Linux has it.
pub const PATH_ELEMENT_LEN_MAX: usize = 255;
/// Bytes that are left of a longer path element, and of its extension, as libtorrent has it.
pub const SHORTENED_NAME_LEN: usize = 240;
pub const SHORT_EXTENSION_LEN_MAX: usize = 9;
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
/// Warnings kept for one metainfo file; further ones are dropped.
pub const METAINFO_WARNINGS_MAX: usize = 20;
