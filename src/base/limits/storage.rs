//! Limits of files, memory for pieces, checkpoints and the threads that work on them.

use std::time::Duration;

/// Content is read in, and known to be in memory, in stretches of so many bytes.
pub const STRETCH_LEN: u64 = 1 << 20;
/// Blocks of a peer's queue that are made ready ahead of its writer, when memory is not scarce.
pub const READ_AHEAD_BLOCKS_MAX: usize = 128;
/// A file is looked at before something of it leaves, once in so long, and always before its end leaves; of files shorter than
/// this so many of a torrent in that time, of which there may be as many as blocks.
pub const FILE_LOOK_INTERVAL: Duration = Duration::from_millis(100);
pub const FILE_LOOK_LEN_MIN: u64 = 1 << 20;
pub const FILE_LOOKS_SHORT_MAX: u64 = 100;
/// The clock of file times advances at least once in this long: a write within it after another one may leave the same
/// times.
pub const FILE_TIME_GRAIN: Duration = Duration::from_millis(20);
/// Reads of verified content that are tried while its file changes.
pub const VERIFIED_READ_TRIES: usize = 4;
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
/// The smallest `--arena`, four blocks; and the piece arena without the flag, where that is no more than this share of memory.
/// Never less than two pieces.
pub const ARENA_LEN_MIN: u64 = 64 << 10;
pub const ARENA_LEN_DEFAULT: u64 = 256 << 20;
pub const ARENA_MEMORY_SHARE: u64 = 4;
/// Pieces open at a time at most, however small they are.
pub const OPEN_PIECES_MAX: u32 = 4096;
/// Files of the process that are mapped to be served: one for so many of the maps that the kernel lets it have (`vm.max_map_count`,
/// and what that is by default where it cannot be read), since sends hold maps for longer and threads and libraries have their own; and at most
/// so many, each of which is kernel memory.
pub const MAP_COUNT_SHARE: u64 = 2;
pub const MAP_COUNT_UNTOLD: u64 = 65_530;
pub const MAPPED_FILES_MAX: u64 = 65_536;
/// Of those a call that brings content into memory takes one divided by this; what needs more is read. Where the kernel refuses a
/// map, one divided by the other of those held the longest give way.
pub const MAPS_AT_A_TIME_SHARE: u64 = 8;
pub const MAPS_ROOM_SHARE: u64 = 4;
/// Files up to this length are read to be served, not mapped: no block is of more than two others.
pub const READ_FILE_LEN_MAX: u64 = 16 << 10;
/// Content of the process that is held read: one divided by this of memory, within bounds; a stretch of the content takes
/// about its own length at most.
pub const READ_CONTENT_MEMORY_SHARE: u64 = 16;
pub const READ_CONTENT_LEN_MIN: u64 = 4 << 20;
pub const READ_CONTENT_LEN_MAX: u64 = 64 << 20;
/// Content that could not be read for want of memory or descriptors is tried again after this time.
pub const READ_RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Files held open for writing at a time: this share of the descriptors that the process may have, within these bounds.
/// As many again may be under way to the disk.
pub const OPEN_FILES_SHARE: u64 = 8;
pub const OPEN_FILES_MIN: usize = 8;
pub const OPEN_FILES_MAX: usize = 512;

/// Files of a download that are held open for their locks: this share of the descriptors that the process may have.
pub const LOCKED_FILES_SHARE: u64 = 4;

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
/// Bytes of pieces received in part that are kept over a restart; a run that goes on writes them when so many bytes more have
/// come, and half of what is written.
pub const PARTS_LEN_MAX: usize = 64 << 20;
pub const PARTS_GROWTH_MIN: u64 = 4 << 20;
/// Written files that are synced one by one; of more the whole file system is.
pub const SYNC_FILES_MAX: usize = 16;
/// Pieces of a resume record that are hashed before it is believed: one of each of as many files, the others at random.
pub const RESUME_SAMPLES_MAX: usize = 64;
pub const RESUME_SAMPLE_LEN: u64 = 256 << 20;

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
