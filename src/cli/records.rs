//! The objects that `--json` prints, one per line. Part of the command line's contract: fields are added, never renamed.

use serde::Serialize;

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
    Planned { name: &'a str, output: &'a str, files: usize, piece_length: u32, pieces: u32, bytes: u64 },
    /// The end of `create`.
    Created {
        info_hash: String,
        output: &'a str,
        name: &'a str,
        files: usize,
        piece_length: u32,
        pieces: u32,
        bytes: u64,
        seconds: f64,
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
    /// The end of `verify`.
    Verified {
        info_hash: String,
        #[serde(rename = "match")]
        is_match: bool,
        pieces: u32,
        good_pieces: usize,
        /// Ranges of indices, both ends included.
        bad_pieces: Vec<[u32; 2]>,
        bytes: u64,
        seconds: f64,
    },
    /// The end of whatever did not succeed.
    Failed { exit: u8, message: &'a str },
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
    pub warnings: &'a [String],
}

#[derive(Debug, Serialize)]
pub struct ShownFile {
    /// Elements joined by `/`; the first one is the torrent's name.
    pub path: String,
    pub length: u64,
    /// A pad file (BEP 47): not on disk.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pad: bool,
}
