//! The settings of `bench loopback`.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::engine::WriteMode;
use crate::hash::Kernel;

/// What is measured.
#[derive(Debug)]
pub struct Settings {
    /// Content in bytes, at least 1.
    pub len: u64,
    /// `None`: as `create` chooses it.
    pub piece_len: Option<u32>,
    /// Folder for everything that is made, which must be empty.
    pub folder: PathBuf,
    pub to: Medium,
    /// Downloads at the same time, at least 1.
    pub peer_count: usize,
    pub rounds: usize,
    /// The bare pair takes its turn in each round.
    pub with_floor: bool,
    pub write: WriteMode,
    /// Ring threads of each process.
    pub ring_count: usize,
    /// Bytes of piece memory of each process.
    pub arena_len: u64,
    /// What each process hashes with.
    pub hash_kernel: Kernel,
    /// Further flags of `seed` and `get`.
    pub seed_flags: Vec<OsString>,
    pub get_flags: Vec<OsString>,
}

/// Where content lies, and what was got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    Disk,
    Memory,
    /// The content is one long pad file (BEP 47): zeros, which are sent from a map of nothing, hashed, and not written.
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
