//! The settings of `bench loopback`.

use std::ffi::OsString;
use std::path::PathBuf;

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
    pub to: WhereTo,
    /// Downloads at the same time, at least 1.
    pub peer_count: usize,
    pub rounds: usize,
    /// The bare pair takes its turn in each round.
    pub with_floor: bool,
    pub write: WriteHow,
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
pub enum WhereTo {
    Disk,
    Memory,
    /// The content is one long pad file (BEP 47): zeros, which are sent from a map of nothing, hashed, and not written.
    Nowhere,
}

impl WhereTo {
    pub(in crate::bench) fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Memory => "memory",
            Self::Nowhere => "nowhere",
        }
    }
}

/// `get --write`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteHow {
    Auto,
    Buffered,
    Direct,
}

impl WriteHow {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Buffered => "buffered",
            Self::Direct => "direct",
        }
    }
}
