//! Identities of the files of a torrent at one time.

use std::fs::{self, Metadata};
use std::path::PathBuf;

use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use crate::base::FileIdentity;
use crate::codec::metainfo::Info;

/// Length of an encoded [`FileIdentity`], in bytes.
pub(super) const FILE_LEN: usize = 7 * size_of::<u64>();

/// The coarsest granularity of time stamps among file systems (FAT). Two writes within it may leave the same time
/// stamp.
pub(super) const STAMP_GRAIN_S: i64 = 2;

/// The identities of all files of a torrent in order, without pad files.
#[derive(Debug, PartialEq, Eq)]
pub struct Observation(Vec<FileIdentity>);

impl Observation {
    /// Reads the current identities. Returns `None` if a path is not a regular file.
    pub fn of(paths: &[PathBuf]) -> Option<Self> {
        let see =
            |path: &PathBuf| fs::metadata(path).ok().filter(Metadata::is_file).map(|found| FileIdentity::from(&found));
        paths.par_iter().map(see).collect::<Option<_>>().map(Self)
    }

    /// Takes identities that were read before.
    pub(super) fn of_identities(files: Vec<FileIdentity>) -> Self {
        Self(files)
    }

    pub(super) fn file_count(&self) -> usize {
        self.0.len()
    }

    /// The identities by file index; `None` for a pad file.
    pub fn by_file(&self, info: &Info) -> Box<[Option<FileIdentity>]> {
        let mut files = self.0.iter();
        info.files.iter().map(|file| if file.pad { None } else { files.next().copied() }).collect()
    }

    /// Whether every write at `since` (seconds since 1970) or later would leave a newer time stamp than these.
    pub(super) fn is_settled(&self, since: i64) -> bool {
        let newest = self.0.iter().map(|seen| seen.mtime.max(seen.ctime).s).max();
        newest.is_none_or(|newest| newest.saturating_add(STAMP_GRAIN_S) < since)
    }

    /// Encodes the identities for a record.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut numbers = Vec::with_capacity(self.0.len() * FILE_LEN);
        for FileIdentity { dev, ino, len, mtime, ctime } in &self.0 {
            let times = [mtime.s, mtime.ns, ctime.s, ctime.ns].map(i64::cast_unsigned);
            numbers.extend([*dev, *ino, *len].into_iter().chain(times).flat_map(u64::to_le_bytes));
        }
        numbers
    }
}
