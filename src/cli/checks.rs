//! Where checks are remembered: `$XDG_CACHE_HOME/bt-fast`, else `~/.cache/bt-fast`. Nothing here fails a command: what
//! is not remembered is checked again.

use std::env;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::base::InfoHash;
use crate::codec::metainfo::Metainfo;
use crate::create::remembered::{Observation, forget, recall, remember};

/// A check from its beginning.
pub(super) struct Check {
    /// `None` where there is no such place.
    folder: Option<PathBuf>,
    /// Seconds since 1970.
    started: i64,
}

impl Check {
    pub(super) fn begin() -> Self {
        Self { folder: folder(), started: unix_time() }
    }

    /// When this content was found right, if nobody has touched it since then.
    pub(super) fn recall(&self, info_hash: InfoHash, content: &Observation) -> Option<i64> {
        recall(self.folder.as_deref()?, info_hash, content)
    }

    /// The check has found the content below `folder`, of which `before` was seen when it began, right or wrong.
    pub(super) fn conclude(&self, metainfo: &Metainfo, folder: &Path, before: Option<&Observation>, is_right: bool) {
        if !is_right {
            return self.forget(metainfo.info_hash);
        }
        if let Some(after) = Observation::of_content(&metainfo.info, folder).filter(|after| before == Some(after)) {
            self.remember(metainfo.info_hash, &after);
        }
    }

    /// The check has found this content right.
    pub(super) fn remember(&self, info_hash: InfoHash, content: &Observation) {
        let Some(folder) = &self.folder else { return };
        match remember(folder, info_hash, self.started, content) {
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
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
