//! The settings of `bench loopback`.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::base::units::Bytes;
use crate::bench::Conditions;
use crate::bench::machine::file_system;
use crate::create::piece_len;
use crate::engine::WriteMode;
use crate::hash::Kernel;
use crate::io::Driver;

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
    /// The driver of `seed` and `get`, at least one. Each round measures each of them.
    pub drivers: Vec<Driver>,
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

impl Settings {
    /// Returns the conditions that a run must share with an earlier one to be compared with it.
    pub fn conditions(&self, driver: Driver) -> Conditions {
        let piece_len = self.piece_len.unwrap_or_else(|| piece_len::automatic(self.len));
        let file_system = if self.to == Medium::Nowhere { String::new() } else { file_system(&self.folder) };
        let flags = |flags: &[OsString]| flags.join(" ".as_ref()).to_string_lossy().into_owned();
        Conditions::of("loopback")
            .and("size", Bytes(self.len).to_string())
            .and("piece length", Bytes(u64::from(piece_len)).to_string())
            .and("place", self.to.name())
            .and("file system", file_system)
            .and("peers", self.peer_count.to_string())
            .and("write", write_flag(self.write))
            .and("io", driver.name())
            .and("rings", self.ring_count.to_string())
            .and("arena", Bytes(self.arena_len).to_string())
            .and("hash kernel", self.hash_kernel.name())
            .and("seed flags", flags(&self.seed_flags))
            .and("get flags", flags(&self.get_flags))
    }

    /// Returns whether downloads wait for a disk. Peers that still want a piece keep it in the page cache.
    pub(super) fn waits_for_disk(&self) -> bool {
        self.to == Medium::Disk && self.write != WriteMode::Buffered && self.peer_count == 1
    }
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
    pub fn name(self) -> &'static str {
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
