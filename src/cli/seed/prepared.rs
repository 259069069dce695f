//! A torrent that is ready to be served.

use super::trust::Trust;
use crate::create::Fingerprint;
use crate::engine::Source;

/// A torrent that can be served.
pub(super) struct Prepared {
    pub(super) source: Source,
    pub(super) trust: Trust,
    /// The files at the path before they were read; `None` if they could not be listed.
    pub(super) fingerprint: Option<Fingerprint>,
}
