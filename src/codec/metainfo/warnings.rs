//! Warnings gathered while a `.torrent` is read.

use crate::base::limits::METAINFO_WARNINGS_MAX;

/// A list of at most [`METAINFO_WARNINGS_MAX`] lines.
#[derive(Default)]
pub(super) struct Warnings(Vec<String>);

impl Warnings {
    /// Adds a line unless the list is full.
    pub(super) fn push(&mut self, line: impl FnOnce() -> String) {
        if self.0.len() < METAINFO_WARNINGS_MAX {
            self.0.push(line());
        }
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.0
    }
}
