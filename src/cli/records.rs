//! The objects that `--json` prints, one per line. Part of the command line's contract: fields are added, never renamed.

use serde::Serialize;

use super::bound::Bound;
use crate::web::tracker::TrackerTotals;

/// Something that happened; the key `event` names it.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Record<'a> {
    /// At most five times a second.
    Progress {
        phase: &'a str,
        #[serde(rename = "bytes_done")]
        done: u64,
        #[serde(rename = "bytes_total", skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
        /// Read, or downloaded.
        bytes_per_s: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        up_bytes_per_s: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        peers: Option<usize>,
        #[serde(skip_serializing_if = "Option::is_none")]
        eta_s: Option<u64>,
    },
    /// `create --dry-run`.
    Planned {
        name: &'a str,
        output: &'a str,
        files: usize,
        junk_left_out: usize,
        piece_length: u32,
        pieces: u32,
        bytes: u64,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        warnings: &'a [String],
    },
    /// The end of `create`.
    Created {
        info_hash: String,
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
    /// `verify` found something wrong with a file.
    Problem {
        path: &'a str,
        /// `missing`, `not_a_file`, `short`, `long` or `altered`.
        problem: &'a str,
        /// Bytes it should have.
        length: u64,
        /// Bytes it has, for `short` and `long`.
        #[serde(skip_serializing_if = "Option::is_none")]
        found_length: Option<u64>,
        /// Pieces that are all there and wrong, for `altered`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pieces: Option<u32>,
    },
    /// `verify` found a file that the torrent does not name; at most the first 10,000.
    Extra { path: &'a str },
    /// The end of `verify`.
    Verified {
        info_hash: String,
        #[serde(rename = "match")]
        is_match: bool,
        pieces: u32,
        good_pieces: usize,
        /// Ranges of indices, both ends included.
        bad_pieces: Vec<[u32; 2]>,
        extra_files: usize,
        /// Nothing was read: the check that is trusted began then, in seconds since 1970.
        #[serde(skip_serializing_if = "Option::is_none")]
        remembered: Option<i64>,
        /// That were hashed; with `remembered`, of the content.
        bytes: u64,
        seconds: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        bound: Option<Bound>,
    },
    /// `magnet`.
    Magnet { info_hash: String, link: &'a str },
    /// Where a torrent of `seed` is given out.
    Published {
        info_hash: String,
        name: &'a str,
        page: &'a str,
        torrent: &'a str,
        magnet: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        content: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        dashboard: Option<&'a str>,
    },
    /// `track` answers from now on, over HTTP and UDP.
    Tracking { address: String, torrents: usize },
    /// The end of `track`.
    Tracked {
        seconds: f64,
        #[serde(flatten)]
        totals: TrackerTotals,
    },
    /// The end of `get --metadata-only`.
    Metadata { info_hash: String, name: &'a str, output: &'a str, bytes: u64, seconds: f64 },
    /// A `seed` serves from now on.
    Seeding {
        info_hash: String,
        name: &'a str,
        port: u16,
        pieces_served: usize,
        pieces: u32,
        /// When the check was that is trusted, in seconds since 1970; `null`: content is hashed before it is served.
        remembered: Option<i64>,
    },
    /// A path or `.torrent` that `seed` does not serve, while it serves others or watches a folder; `exit` is what it would be
    /// for this path alone.
    NotServed { path: &'a str, exit: u8, message: &'a str },
    /// `seed --watch`: its `.torrent` is gone, or is another one.
    Dropped { info_hash: String, name: &'a str },
    /// `get` has everything that is wanted, verified and written.
    Complete {
        info_hash: String,
        name: &'a str,
        output: &'a str,
        /// Of the wanted files.
        bytes: u64,
        /// `--select`: so many files.
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
    /// The end of whatever did not succeed.
    Failed { exit: u8, message: &'a str },
}

/// What a session moved and used.
#[derive(Debug, Serialize)]
pub struct Transfer {
    /// Payload bytes.
    pub downloaded: u64,
    pub uploaded: u64,
    /// Bytes that came twice or too late, and bytes of pieces whose hash was wrong.
    pub wasted: u64,
    pub corrupt: u64,
    /// From queueing a request to its block, microseconds.
    pub latency_p50_us: u64,
    pub latency_p99_us: u64,
    pub latency_p999_us: u64,
    /// Received pieces hashed side by side, on average.
    pub hash_batch_mean: f64,
    /// Processor time of the whole process, seconds.
    pub cpu_user_s: f64,
    pub cpu_system_s: f64,
    /// Largest resident memory of the process in bytes, mapped file pages included; what was seen of its two parts.
    pub memory_peak: u64,
    pub memory_anon_peak: u64,
    pub memory_file_peak: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    /// By kind of thread; what the kinds lack of the whole is that of threads that have ended.
    pub threads: ThreadKinds,
    /// From a piece's last block to its hash, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_lag_p50_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_lag_p99_us: Option<u64>,
    /// Bytes that left by zero-copy sends, uncopied; and those that the kernel copied after all.
    pub zero_copied: u64,
    pub zero_copy_copied: u64,
    /// Upper bounds in microseconds, and how many blocks came that soon after their request.
    pub latency_buckets: Vec<(u64, u64)>,
}

#[derive(Debug, Serialize)]
pub struct ThreadKinds {
    pub ring: ThreadKind,
    pub hash: ThreadKind,
    /// The kernel's workers for our rings.
    pub kernel: ThreadKind,
    pub other: ThreadKind,
}

/// Processor seconds, page faults that needed a disk, context switches.
#[derive(Debug, Serialize)]
pub struct ThreadKind {
    pub cpu_user_s: f64,
    pub cpu_system_s: f64,
    pub major_faults: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
}

/// `show`.
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
    /// `show --scrape`: one for each tracker.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub swarms: Vec<ShownSwarm>,
}

/// What a tracker says of the swarm, or why it says nothing.
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

#[derive(Debug, Serialize)]
pub struct ShownFile {
    /// What `get --select` knows it by: its position among those that are on disk, from 1 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<usize>,
    /// Elements joined by `/`; the first one is the torrent's name.
    pub path: String,
    pub length: u64,
    /// A pad file (BEP 47): not on disk.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pad: bool,
    /// Where a symbolic link leads: it is not made either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symlink: Option<String>,
}
