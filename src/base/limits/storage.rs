//! Limits of files, of memory for pieces, of checkpoints and of the threads that work on them.

use std::time::Duration;

use super::is_at_most;
use crate::base::geometry::BLOCK_LEN;

/// Length in bytes of an extent, the unit in which content is read into the page cache and known to be resident.
pub const EXTENT_LEN: u64 = 1 << 20;
/// Blocks of a peer's queue that are made resident ahead of its writer when memory is ample.
pub const READ_AHEAD_BLOCKS_MAX: usize = 128;
/// Interval in which a served file is checked for changes at most once. A file is checked before its bytes leave, and
/// always before its last bytes leave.
pub const FILE_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Length in bytes below which a file counts as short: there may be as many short files as blocks.
pub const FILE_CHECK_LEN_MIN: u64 = 1 << 20;
/// Short files of one torrent that are checked in one [`FILE_CHECK_INTERVAL`]; the rest wait for a later interval.
pub const FILE_CHECKS_SHORT_MAX: u64 = 100;
/// Time within which the clock of file times advances: two writes closer than this may leave the same times.
pub const FILE_TIME_GRAIN: Duration = Duration::from_millis(20);
/// Attempts to read verified content from a file that keeps changing; then the read fails.
pub const VERIFIED_READ_TRIES: usize = 4;
/// Time for which an extent counts as resident after it was read, however much is read after it.
pub const RESIDENT_MIN: Duration = Duration::from_millis(50);
/// Time after which an extent does not count as resident, however little is read after it.
pub const RESIDENT_MAX: Duration = Duration::from_secs(30);
/// Divisor of the memory. Between [`RESIDENT_MIN`] and [`RESIDENT_MAX`] an extent counts as resident while less than
/// this part of memory was read after it.
pub const CACHE_TRUSTED_SHARE: u64 = 4;
/// Bytes of memory below which the kernel reads no content beyond what is needed.
pub const READ_AROUND_MEMORY_MIN: u64 = 1 << 30;
/// Bytes of content that the kernel starts to read beyond what is needed.
pub const READ_AHEAD_LEN: usize = 2 << 20;
/// Bytes of read content that stay in the page cache with `--cache drop-behind`: more than peers at the same place
/// need, and little enough for other programs.
pub const CACHE_BEHIND_LEN: u64 = 256 << 20;

/// Symbolic links that are followed in one path, the kernel's own limit.
pub const SYMLINKS_MAX: u32 = 40;
/// Pages that one call makes resident where the kernel cannot populate maps, the kernel's limit on spans of a call.
/// A byte of each fits into the smallest pipe, one page.
pub const POPULATE_PAGES_MAX: usize = 1024;

/// Descriptors of a ring thread with io_uring.
pub const RING_DESCRIPTORS: usize = 8;
/// Descriptors of a session beside those of its ring threads. With fewer free ones `--io auto` does not choose io_uring.
pub const SESSION_DESCRIPTORS: usize = 25;
/// Ring threads; the largest value of `--rings`.
pub const RINGS_MAX: usize = 8;
/// Smallest value of `--arena` in bytes, four blocks.
pub const ARENA_LEN_MIN: u64 = 64 << 10;
/// Piece arena in bytes without `--arena`, unless [`ARENA_MEMORY_SHARE`] gives less. An arena always holds two pieces.
pub const ARENA_LEN_DEFAULT: u64 = 256 << 20;
/// Divisor of the memory that bounds the piece arena without `--arena`.
pub const ARENA_MEMORY_SHARE: u64 = 4;
/// Length in bytes of the longest write that stores several pieces. Shorter pieces are requested in runs of adjacent
/// ones of about this length.
pub const WRITE_RUN_LEN: u32 = 256 << 10;
/// Open pieces of one torrent, however small they are.
pub const OPEN_PIECES_MAX: u32 = 4096;
/// Divisor of the maps that the kernel grants a process (`vm.max_map_count`): this part may be maps of served files.
/// Sends hold maps for longer, and threads and libraries have maps of their own.
pub const MAP_COUNT_SHARE: u64 = 2;
/// Divisor of a limit of address space: this part may be maps of served files. The heap and threads need the rest.
pub const MAP_SPACE_SHARE: u64 = 4;
/// Maps per process if `vm.max_map_count` cannot be read, the kernel's default.
pub const MAP_COUNT_DEFAULT: u64 = 65_530;
/// Maps of served files of the process, each of which takes kernel memory.
pub const MAPPED_FILES_MAX: u64 = 65_536;
/// Divisor of the granted maps: a call that makes content resident uses at most this part and reads the other files.
pub const MAPS_AT_A_TIME_SHARE: u64 = 8;
/// Divisor of the held maps: if the kernel refuses a map, this part of them is released, the oldest first.
pub const MAPS_ROOM_SHARE: u64 = 4;
/// Length in bytes of the longest file that is read to be served and not mapped. It is one block, so that no block
/// needs more than two longer files.
pub const READ_FILE_LEN_MAX: u64 = 16 << 10;
/// Divisor of the memory that bounds the read content of the process, within [`READ_CONTENT_LEN_MIN`] and
/// [`READ_CONTENT_LEN_MAX`]. An extent takes about its own length.
pub const READ_CONTENT_MEMORY_SHARE: u64 = 16;
/// The lower bound in bytes of the read content that the process may hold.
pub const READ_CONTENT_LEN_MIN: u64 = 4 << 20;
/// The upper bound in bytes of the read content that the process may hold.
pub const READ_CONTENT_LEN_MAX: u64 = 64 << 20;
/// Pause before content is read again after memory or descriptors were short.
pub const READ_RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Attempts to open a file for a verified piece while descriptors or memory are short, [`READ_RETRY_PAUSE`] apart.
pub const OPEN_RETRIES_MAX: u32 = 40;

/// The upper bound of one torrent's dirty bytes in the page cache. The kernel's own limit is a fifth of memory, at
/// which it stops every writer, and some control groups have none.
pub const DIRTY_LEN_MAX: usize = 256 << 20;
/// Dirty bytes of one torrent in the page cache that are always allowed.
pub const DIRTY_LEN_MIN: usize = 4 << 20;
/// Divisor of the memory that bounds the dirty bytes, within [`DIRTY_LEN_MIN`] and [`DIRTY_LEN_MAX`].
pub const DIRTY_MEMORY_SHARE: u64 = 8;
/// Divisor of the dirty bytes allowed: this part is flushed at a time.
pub const DIRTY_RUN_SHARE: usize = 8;

/// Shortest time between two checkpoints of a download.
pub const CHECKPOINT_INTERVAL_MIN: Duration = Duration::from_secs(5);
/// Longest time between two checkpoints of a download.
pub const CHECKPOINT_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// Pause after a checkpoint as a multiple of its duration, within [`CHECKPOINT_INTERVAL_MIN`] and
/// [`CHECKPOINT_INTERVAL_MAX`]: checkpoints take about 2 % of the time of a busy disk.
pub const CHECKPOINT_PAUSE_RATIO: u32 = 50;
/// Bytes of partial pieces that are kept over a restart; further partial pieces are downloaded again.
pub const PARTS_LEN_MAX: usize = 64 << 20;
/// Bytes downloaded since partial pieces were last written before they are written again; more if half of their own
/// length is more.
pub const PARTS_GROWTH_MIN: u64 = 4 << 20;
/// Written files that are synced one by one; of a larger number the whole file system is synced.
pub const SYNC_FILES_MAX: usize = 16;
/// Pieces of a resume record that are hashed before the record is trusted: up to half of them from different files, the
/// rest at random.
pub const RESUME_SAMPLES_MAX: usize = 64;
/// Bytes of the pieces that are hashed before a resume record is trusted.
pub const RESUME_SAMPLE_LEN: u64 = 256 << 20;

/// Pieces that a hash worker takes at a time, and below which it waits for more: hashing a batch takes much less processor
/// time than hashing its pieces one by one.
pub const HASH_BATCH_PIECES: usize = 16;
/// Longest time that a hash worker waits for a batch.
pub const HASH_GATHER: Duration = Duration::from_millis(12);
/// Threads for file operations that may block: of the session, and again of its web server.
pub const FILE_THREADS_MAX: usize = 512;
/// Direct writes that the kernel carries out at a time for one torrent without io_uring: one thread submits them all, so
/// more than [`FILE_THREADS_EACH`] cost little.
pub const ASYNC_WRITES_MAX: usize = 32;
/// Longest wait for the completion of a write while further writes may be queued: a slow one holds others up for as long.
pub const ASYNC_WRITE_POLL: Duration = Duration::from_millis(10);
/// Contexts of asynchronous writes that a session keeps for later, as the kernel takes milliseconds to remove one.
pub const ASYNC_CONTEXTS_IDLE_MAX: usize = 8;
/// Threads for blocking file operations of one torrent, enough to keep a fast disk busy.
pub const FILE_THREADS_EACH: usize = 8;
/// Time without work after which a thread for blocking file operations ends.
pub const FILE_THREAD_IDLE: Duration = Duration::from_secs(10);
/// Time over which haves to all connections of a torrent are collected before they are sent.
pub const HAVE_GATHER: Duration = Duration::from_millis(10);
/// Time since the last send after which haves that were held back for a slow reader are sent.
pub const HAVE_HELD_MAX: Duration = Duration::from_secs(1);

const _: () = assert!(READ_AHEAD_BLOCKS_MAX as u64 * BLOCK_LEN as u64 >= EXTENT_LEN);
const _: () = assert!(EXTENT_LEN.is_multiple_of(BLOCK_LEN as u64));
const _: () = assert!(is_at_most(FILE_TIME_GRAIN, FILE_CHECK_INTERVAL));
const _: () = assert!(is_at_most(RESIDENT_MIN, RESIDENT_MAX));
const _: () = assert!(ARENA_LEN_MIN <= ARENA_LEN_DEFAULT && BLOCK_LEN as u64 <= ARENA_LEN_MIN);
const _: () = assert!(MAP_COUNT_DEFAULT / MAP_COUNT_SHARE <= MAPPED_FILES_MAX);
const _: () = assert!(READ_FILE_LEN_MAX <= BLOCK_LEN as u64);
const _: () = assert!(READ_CONTENT_LEN_MIN <= READ_CONTENT_LEN_MAX && EXTENT_LEN <= READ_CONTENT_LEN_MIN);
const _: () = assert!(DIRTY_LEN_MIN <= DIRTY_LEN_MAX);
const _: () = assert!(is_at_most(CHECKPOINT_INTERVAL_MIN, CHECKPOINT_INTERVAL_MAX));
const _: () = assert!(PARTS_GROWTH_MIN <= PARTS_LEN_MAX as u64);
const _: () = assert!(FILE_THREADS_EACH <= FILE_THREADS_MAX);
const _: () = assert!(is_at_most(HAVE_GATHER, HAVE_HELD_MAX));
