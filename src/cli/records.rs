//! The objects that `--json` prints, one per line. They are a stable interface: fields are added, never renamed.

use serde::Serialize;

use super::bound::Bound;
use crate::web::tracker::TrackerTotals;

/// An event, named by the key `event`.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Record<'a> {
    /// Progress of any command, at most once in each `--json-interval`.
    Progress {
        phase: &'a str,
        #[serde(rename = "bytes_done")]
        done: u64,
        #[serde(rename = "bytes_total", skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
        /// Rounded down to one decimal, so that 100 means complete.
        #[serde(skip_serializing_if = "Option::is_none")]
        percent: Option<f64>,
        /// Rate of reading or downloading.
        bytes_per_s: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        up_bytes_per_s: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        peers: Option<usize>,
        /// Peers whose addresses are known.
        #[serde(skip_serializing_if = "Option::is_none")]
        known_peers: Option<usize>,
        #[serde(skip_serializing_if = "Option::is_none")]
        eta_s: Option<u64>,
    },
    /// The end of `create --dry-run`.
    Planned {
        name: &'a str,
        output: &'a str,
        files: usize,
        junk_left_out: usize,
        piece_length: u32,
        pieces: u32,
        bytes: u64,
        /// A file that `-f` would replace.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        output_exists: bool,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        warnings: &'a [String],
    },
    /// The end of `create`.
    Created {
        info_hash: String,
        /// Left out for a private torrent.
        #[serde(skip_serializing_if = "Option::is_none")]
        magnet: Option<&'a str>,
        output: &'a str,
        name: &'a str,
        files: usize,
        junk_left_out: usize,
        piece_length: u32,
        pieces: u32,
        bytes: u64,
        seconds: f64,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        warnings: &'a [String],
        #[serde(skip_serializing_if = "Option::is_none")]
        bound: Option<Bound>,
    },
    /// The end of `edit`.
    Edited {
        info_hash: String,
        /// With `--new-hash`, if it differs.
        #[serde(skip_serializing_if = "Option::is_none")]
        old_info_hash: Option<String>,
        output: &'a str,
        /// Left out for a private torrent.
        #[serde(skip_serializing_if = "Option::is_none")]
        magnet: Option<&'a str>,
        changes: &'a [Edited],
        /// Nothing was written.
        dry_run: bool,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        warnings: &'a [String],
    },
    /// A file that `verify` found to be wrong.
    Problem {
        path: &'a str,
        /// `missing`, `not_a_file`, `short`, `long` or `altered`.
        problem: &'a str,
        /// Bytes of the file in the torrent.
        length: u64,
        /// Bytes of the file on disk, for `short` and `long`.
        #[serde(skip_serializing_if = "Option::is_none")]
        found_length: Option<u64>,
        /// The number of pieces that are complete and do not match, for `altered`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pieces: Option<u32>,
    },
    /// A file that the torrent does not name; `verify` prints at most the first 10,000.
    Extra { path: &'a str },
    /// The end of `verify`.
    Verified {
        info_hash: String,
        #[serde(rename = "match")]
        is_match: bool,
        pieces: u32,
        good_pieces: usize,
        /// Ranges of piece indices, both ends included.
        bad_pieces: Vec<[u32; 2]>,
        extra_files: usize,
        /// Start of the earlier check that was trusted in place of reading, in seconds since 1970.
        #[serde(skip_serializing_if = "Option::is_none")]
        remembered: Option<i64>,
        /// Bytes that were hashed; with `remembered`, bytes of the content.
        bytes: u64,
        seconds: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        bound: Option<Bound>,
    },
    /// The result of `magnet`.
    Magnet { info_hash: String, link: &'a str },
    /// The URLs of a torrent that `seed` publishes.
    Published {
        info_hash: String,
        name: &'a str,
        page: &'a str,
        torrent: &'a str,
        /// The URL of the newest `.torrent` of this name; absent if it leads to another torrent.
        #[serde(skip_serializing_if = "Option::is_none")]
        newest: Option<&'a str>,
        magnet: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        content: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        dashboard: Option<&'a str>,
    },
    /// `track` has started to answer over HTTP and UDP.
    Tracking { address: String, torrents: usize },
    /// A server has answered `health`.
    Healthy { url: &'a str },
    /// The end of `track`.
    Tracked {
        seconds: f64,
        #[serde(flatten)]
        totals: TrackerTotals,
    },
    /// The end of `get --metadata-only`.
    Metadata { info_hash: String, name: &'a str, output: &'a str, bytes: u64, seconds: f64 },
    /// `seed` has started to serve a torrent.
    Seeding {
        info_hash: String,
        name: &'a str,
        port: u16,
        pieces_served: usize,
        pieces: u32,
        /// Start of the earlier check that is trusted, in seconds since 1970; `null` if there is none.
        remembered: Option<i64>,
    },
    /// A host has all pieces of a torrent that `seed` serves; once for each host and torrent.
    Completed {
        info_hash: String,
        name: &'a str,
        /// The address at which the host was seen last.
        host: String,
        /// Hosts of the torrent that have all pieces or had them when they left, this one included.
        complete: usize,
        /// Hosts of the torrent that announced themselves or were connected.
        seen: usize,
    },
    /// A path that `seed` does not serve, while it serves other paths or watches a folder. `exit` is the exit code that
    /// `seed` would have for this path alone.
    NotServed { path: &'a str, exit: u8, message: &'a str },
    /// `seed` serves a new version of content whose files changed.
    Replaced { info_hash: String, old_info_hash: String, name: &'a str },
    /// `seed` has stopped serving a torrent because its `.torrent` or its content was removed, its `.torrent` in the
    /// folder of `--watch` was replaced, or its content became that of another path.
    Dropped { info_hash: String, name: &'a str },
    /// A torrent that `get` could not download, among several. `exit` is the exit code that `get` would have for this
    /// torrent alone.
    NotDownloaded { torrent: &'a str, exit: u8, message: &'a str },
    /// `get` has downloaded, verified and written all wanted files.
    Complete {
        info_hash: String,
        name: &'a str,
        output: &'a str,
        /// Bytes of the wanted files.
        bytes: u64,
        /// The number of wanted files, with `--select`.
        #[serde(skip_serializing_if = "Option::is_none")]
        selected_files: Option<usize>,
        seconds: f64,
        #[serde(flatten)]
        transfer: Transfer,
    },
    /// The end of `seed`, or of `get --seed`.
    Stopped {
        seconds: f64,
        #[serde(flatten)]
        transfer: Transfer,
    },
    /// The end of a command that failed.
    Failed { exit: u8, message: &'a str },
}

/// A value that `edit` changed; `null` if the torrent does not have it.
#[derive(Debug, Serialize)]
pub struct Edited {
    pub field: &'static str,
    pub old: Option<String>,
    pub new: Option<String>,
}

/// Traffic and resource use of a session.
#[derive(Debug, Serialize)]
pub struct Transfer {
    /// Payload bytes received.
    pub downloaded: u64,
    /// Payload bytes sent.
    pub uploaded: u64,
    /// The driver of sockets and files: `ring` or `plain`.
    pub io: &'static str,
    /// Payload bytes received more than once or too late.
    pub wasted: u64,
    /// Bytes of pieces that failed their hash.
    pub corrupt: u64,
    /// Time from queueing a request to receiving its block, in microseconds.
    pub latency_p50_us: u64,
    pub latency_p99_us: u64,
    pub latency_p999_us: u64,
    /// Mean number of received pieces that are hashed together.
    pub hash_batch_mean: f64,
    /// Processor time of the whole process, in seconds.
    pub cpu_user_s: f64,
    pub cpu_system_s: f64,
    /// Peak resident memory of the process in bytes, mapped file pages included.
    pub memory_peak: u64,
    /// Peak of the anonymous part, as far as it was sampled.
    pub memory_anon_peak: u64,
    /// Peak of the mapped files, as far as it was sampled.
    pub memory_file_peak: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    /// Usage by kind of thread, without threads that have ended.
    pub threads: ThreadKinds,
    /// Bytes of zero-copy sends that the kernel did not copy.
    pub zero_copied: u64,
    /// Bytes of zero-copy sends that the kernel copied nevertheless.
    pub zero_copy_copied: u64,
    /// Histogram of the latency: upper bounds in microseconds, and the number of blocks in each bucket.
    pub latency_buckets: Vec<(u64, u64)>,
}

/// Usage by kind of thread.
#[derive(Debug, Serialize)]
pub struct ThreadKinds {
    pub ring: ThreadKind,
    pub hash: ThreadKind,
    /// The kernel's io_uring workers.
    pub kernel: ThreadKind,
    pub other: ThreadKind,
}

/// Usage of the threads of one kind.
#[derive(Debug, Serialize)]
pub struct ThreadKind {
    pub cpu_user_s: f64,
    pub cpu_system_s: f64,
    /// Page faults that read from a disk.
    pub major_faults: u64,
    /// Context switches.
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
}

/// The result of `show`.
#[derive(Debug, Serialize)]
pub struct Shown<'a> {
    pub name: String,
    pub info_hash: String,
    pub piece_length: u32,
    pub piece_count: u32,
    pub total_length: u64,
    pub files: Vec<ShownFile>,
    pub private: bool,
    pub trackers: &'a [Vec<String>],
    pub web_seeds: &'a [String],
    pub comment: Option<String>,
    pub created_by: Option<String>,
    /// Seconds since 1970.
    pub creation_date: Option<i64>,
    pub source: Option<String>,
    pub magnet: String,
    pub warnings: &'a [String],
    /// The reply of each tracker, with `--scrape`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub swarms: Vec<ShownSwarm>,
}

/// A tracker's scrape reply, or why there is none.
#[derive(Debug, Serialize)]
pub struct ShownSwarm {
    pub tracker: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeders: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leechers: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A file of a torrent.
#[derive(Debug, Serialize)]
pub struct ShownFile {
    /// The number of the file for `get --select`: its position among the files that are not padding, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<usize>,
    /// Path elements joined by `/`; the first one is the torrent's name.
    pub path: String,
    pub length: u64,
    /// A pad file (BEP 47), which is not written to disk.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pad: bool,
    /// Target of a symbolic link, which is not written to disk either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symlink: Option<String>,
}
