//! The cache of checks in `$XDG_CACHE_HOME/bt-fast`, or else `~/.cache/bt-fast`. Its errors never fail a command:
//! content that is not in the cache is checked again.

use std::env;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::{FileIdentity, Geometry, InfoHash, limits};
use crate::codec::metainfo::Metainfo;
use crate::create::verified_cache::{forget, recall, remember};
use crate::create::{HashJournal, Observation, Report};

/// A check of content that has begun.
pub(super) struct Check {
    /// `None` if there is no cache folder.
    folder: Option<PathBuf>,
    /// Start of the check, since 1970.
    started: Duration,
}

impl Check {
    pub(super) fn begin() -> Self {
        Self { folder: folder(), started: since_1970() }
    }

    /// Returns the start of the check that found this content right, in seconds since 1970, if no file has changed
    /// since.
    pub(super) fn recall(&self, info_hash: InfoHash, content: &Observation) -> Option<i64> {
        recall(self.folder.as_deref()?, info_hash, content)
    }

    /// Opens the journal in which the hashes of this content are kept for a later run. `seen` was observed at the
    /// start.
    pub(super) fn journal(&self, seen: &Observation, geometry: &Geometry) -> HashJournal {
        let folder = self.folder.as_deref().map(|folder| folder.join("hashing"));
        HashJournal::of(folder.as_deref(), seconds(self.started), seen, geometry)
    }

    /// Remembers the check if it found the content right, and forgets earlier checks if not.
    pub(super) fn conclude(&self, metainfo: &Metainfo, report: &Report) {
        if !report.is_match() {
            return self.forget(metainfo.info_hash);
        }
        if let Some(content) = report.observation(&metainfo.info) {
            self.remember(metainfo.info_hash, &content);
        }
    }

    /// Removes the identities of files that were written so shortly before the check that a later write may leave the
    /// same time stamps.
    pub(super) fn settled(&self, mut files: Box<[Option<FileIdentity>]>) -> Box<[Option<FileIdentity>]> {
        let doubtful = self.started.saturating_sub(limits::FILE_TIME_GRAIN).into()..=since_1970().into();
        for file in files.iter_mut() {
            *file = file.filter(|identity| !identity.is_changed_within(doubtful.clone()));
        }
        files
    }

    /// Remembers that the check found this content right.
    pub(super) fn remember(&self, info_hash: InfoHash, content: &Observation) {
        let Some(folder) = &self.folder else { return };
        match remember(folder, info_hash, seconds(self.started), content) {
            Ok(true) => {}
            Ok(false) => tracing::info!("can't remember this check: the content was just written"),
            Err(error) => tracing::info!("can't remember this check: {error}"),
        }
    }

    /// Forgets earlier checks: the content is wrong, even if its time stamps are those of an earlier check.
    fn forget(&self, info_hash: InfoHash) {
        if let Some(Err(error)) = self.folder.as_deref().map(|folder| forget(folder, info_hash)) {
            tracing::warn!("can't forget an earlier check: {error}");
        }
    }
}

/// Returns the cache folder (XDG Base Directory Specification). Paths that are not absolute are ignored.
pub(super) fn folder() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(cache.join("bt-fast"))
}

/// The current time in seconds since 1970; 0 if the clock is before 1970.
pub(super) fn unix_time() -> i64 {
    seconds(since_1970())
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn seconds(since: Duration) -> i64 {
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
