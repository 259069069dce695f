//! Where checks are remembered: `$XDG_CACHE_HOME/bt-fast`, else `~/.cache/bt-fast`. Nothing here fails a command: what
//! is not remembered is checked again.

use std::env;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::{FileIdentity, Geometry, InfoHash, limits};
use crate::codec::metainfo::Metainfo;
use crate::create::verified_cache::{forget, recall, remember};
use crate::create::{HashJournal, Observation, Report};

/// A check from its beginning.
pub(super) struct Check {
    /// `None` where there is no such place.
    folder: Option<PathBuf>,
    /// Since 1970.
    started: Duration,
}

impl Check {
    pub(super) fn begin() -> Self {
        Self { folder: folder(), started: since_1970() }
    }

    /// When this content was found right, if nobody has touched it since then.
    pub(super) fn recall(&self, info_hash: InfoHash, content: &Observation) -> Option<i64> {
        recall(self.folder.as_deref()?, info_hash, content)
    }

    /// Where the hashes of this content, seen at the beginning, are kept for a run after this one.
    pub(super) fn journal(&self, seen: &Observation, geometry: &Geometry) -> HashJournal {
        let folder = self.folder.as_deref().map(|folder| folder.join("hashing"));
        HashJournal::of(folder.as_deref(), seconds(self.started), seen, geometry)
    }

    /// The check has found the content right or wrong.
    pub(super) fn conclude(&self, metainfo: &Metainfo, report: &Report) {
        if !report.is_match() {
            return self.forget(metainfo.info_hash);
        }
        if let Some(content) = report.observation(&metainfo.info) {
            self.remember(metainfo.info_hash, &content);
        }
    }

    /// Leaves out the files that were written to so shortly before the check that a later write could look the same.
    pub(super) fn settled(&self, mut files: Box<[Option<FileIdentity>]>) -> Box<[Option<FileIdentity>]> {
        let doubtful = self.started.saturating_sub(limits::FILE_TIME_GRAIN).into()..=since_1970().into();
        for file in files.iter_mut() {
            *file = file.filter(|identity| !identity.is_changed_within(doubtful.clone()));
        }
        files
    }

    /// The check has found this content right.
    pub(super) fn remember(&self, info_hash: InfoHash, content: &Observation) {
        let Some(folder) = &self.folder else { return };
        match remember(folder, info_hash, seconds(self.started), content) {
            Ok(true) => {}
            Ok(false) => tracing::info!("this check is not remembered: the content was just written"),
            Err(error) => tracing::info!("this check is not remembered: {error}"),
        }
    }

    /// The check has found the content wrong, though it may look as it did when it was right.
    fn forget(&self, info_hash: InfoHash) {
        if let Some(Err(error)) = self.folder.as_deref().map(|folder| forget(folder, info_hash)) {
            tracing::warn!("an earlier check is still remembered: {error}");
        }
    }
}

/// XDG Base Directory Specification: paths that are not absolute are ignored.
pub(super) fn folder() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(cache.join("bt-fast"))
}

/// Seconds since 1970; a clock before that counts as 1970.
pub(super) fn unix_time() -> i64 {
    seconds(since_1970())
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn seconds(since: Duration) -> i64 {
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
