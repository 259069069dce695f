//! The kinds of paths of the command line.

use std::path::Path;

use crate::cli::options::is_torrent_name;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PathKind {
    Content,
    /// A `.torrent`. The engine checks the files of its content as they are sent.
    Torrent,
}

impl PathKind {
    pub(super) fn of(path: &Path) -> Self {
        if is_torrent_name(path) && !path.is_dir() { Self::Torrent } else { Self::Content }
    }
}
