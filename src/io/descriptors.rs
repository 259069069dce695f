//! How the descriptors that the process may have are divided, so that connections leave some for the content.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::base::limits;

/// The soft limit before it was raised.
static INITIAL: OnceLock<Option<u64>> = OnceLock::new();

/// The parts of the process's descriptors, which fit together: those of an origin, or those of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// Files that downloads may have open for writing. As many more may be being written to or flushed.
    pub open_files: usize,
    /// Written files that are kept open until they are synced.
    pub unsynced_files: usize,
    /// Files of downloads that are kept open for their locks.
    pub locked_files: usize,
    /// Connections to the public pages of an origin, each of which may have one file open, and to the operator's pages.
    pub web_connections: usize,
    /// Connections of an origin, which only reads.
    pub seeding_connections: usize,
    /// Connections of a session that downloads.
    pub downloading_connections: usize,
}

impl Descriptors {
    /// Divides the present limit of the process.
    pub fn of_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current;
        Self::divide(limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX))
    }

    /// The parts of each of several downloads.
    #[must_use]
    pub fn shared_by(self, downloads: usize) -> Self {
        let share = |count: usize| count / downloads.max(1);
        Self {
            open_files: share(self.open_files).max(limits::OPEN_FILES_MIN),
            unsynced_files: share(self.unsynced_files),
            locked_files: share(self.locked_files),
            ..self
        }
    }

    fn divide(limit: usize) -> Self {
        let spare = limit.saturating_sub(limits::DESCRIPTORS_RESERVED);
        let open_files = (spare / limits::OPEN_FILES_SHARE).clamp(limits::OPEN_FILES_MIN, limits::OPEN_FILES_MAX);
        let unsynced_files = (2 * open_files).min(limits::SYNC_FILES_MAX);
        let locked_files = spare / limits::LOCKED_FILES_SHARE;
        let web_connections =
            (spare / limits::WEB_CONNECTIONS_SHARE).clamp(limits::WEB_CONNECTIONS_MIN, limits::WEB_CONNECTIONS_MAX);
        let read_files = spare / limits::READ_FILES_SHARE;
        // A public connection may have a file, and the operator's pages have connections too.
        let web = 3 * web_connections;
        let connections = |others: usize| spare.saturating_sub(others).max(limits::CONNECTIONS_MIN);
        Self {
            open_files,
            unsynced_files,
            locked_files,
            web_connections,
            seeding_connections: connections(web + read_files.min(limits::FILE_THREADS_MAX)),
            downloading_connections: connections(2 * open_files + unsynced_files + locked_files),
        }
    }
}

/// Raises the descriptor limit to the hard limit, if it can: thousands of connections or file locks need thousands of
/// descriptors.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = INITIAL.set(limit.current);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The limit before it was raised, for programs that this process runs: some close or watch as many descriptors as they
/// may have. `None` if it is unlimited or was not raised.
pub fn initial_descriptor_limit() -> Option<u64> {
    INITIAL.get().copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_fit_together() {
        for limit in [64, 80, 128, 256, 1000, 1024, 4096, 20_000, 65_536, 1 << 20] {
            let parts = Descriptors::divide(limit);
            let written = 2 * parts.open_files + parts.unsynced_files + parts.locked_files;
            assert!(
                written + parts.downloading_connections
                    <= limit - limits::DESCRIPTORS_RESERVED + limits::CONNECTIONS_MIN
            );
            assert!(3 * parts.web_connections + parts.seeding_connections <= limit, "{limit}: {parts:?}");
            assert!(parts.seeding_connections >= limit / 4 || limit == 64, "{limit}: {parts:?}");
        }
    }

    #[test]
    fn the_usual_limits_of_connections_need_few_descriptors() {
        assert!(Descriptors::divide(1280).downloading_connections >= limits::CONNECTIONS_GET_MAX);
        assert!(Descriptors::divide(30_000).seeding_connections >= limits::CONNECTIONS_SEED_MAX);
        assert!(Descriptors::divide(usize::MAX).seeding_connections >= limits::CONNECTIONS_MAX);
    }

    #[test]
    fn the_smallest_limits_leave_a_few_of_each() {
        for limit in 0..64 {
            let parts = Descriptors::divide(limit);
            assert!(parts.open_files >= 2 && parts.web_connections >= 2 && parts.downloading_connections >= 2);
        }
    }
}
