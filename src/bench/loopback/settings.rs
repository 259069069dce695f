//! The settings of `bench loopback`.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::engine::WriteMode;
use crate::hash::Kernel;

/// The settings of `bench loopback`.
#[derive(Debug)]
pub struct Settings {
    /// Content in bytes, at least 1.
    pub len: u64,
    /// `None` for the piece length that `create` chooses.
    pub piece_len: Option<u32>,
    /// Folder for all files, which must be empty.
    pub folder: PathBuf,
    pub to: Medium,
    /// The number of concurrent downloads, at least 1.
    pub peer_count: usize,
    pub rounds: usize,
    /// Measure the bare pair in each round.
    pub with_floor: bool,
    /// Mode of `get --write`.
    pub write: WriteMode,
    /// The number of ring threads of each process.
    pub ring_count: usize,
    /// Bytes of the piece arena of each process.
    pub arena_len: u64,
    /// Hash kernel of each process.
    pub hash_kernel: Kernel,
    /// Further flags for `seed`.
    pub seed_flags: Vec<OsString>,
    /// Further flags for `get`.
    pub get_flags: Vec<OsString>,
}

/// The medium of the content, and of the downloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    Disk,
    Memory,
    /// None: the content is one long pad file (BEP 47). Its zeros are sent from an anonymous mapping, hashed, and not
    /// written.
    Nowhere,
}

impl Medium {
    pub(in crate::bench) fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Memory => "memory",
            Self::Nowhere => "nowhere",
        }
    }
}

/// Returns the value of `get --write` for a mode.
pub(super) fn write_flag(mode: WriteMode) -> &'static str {
    match mode {
        WriteMode::Auto => "auto",
        WriteMode::Buffered => "buffered",
        WriteMode::Direct => "direct",
    }
}
