//! The info-hash and magnet link that `create` and `edit` print.

use super::magnet::link_of;
use super::output::Output;
use crate::base::InfoHash;
use crate::codec::metainfo::Info;

/// The stream for the lines about a torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    /// Standard output has the `.torrent`.
    Stderr,
}

/// A torrent as users pass it on.
pub(super) struct Identity {
    pub(super) info_hash: InfoHash,
    /// `None` if the torrent is private: its peers do not send the metadata, so a link alone does not work.
    pub(super) magnet: Option<String>,
}

impl Identity {
    pub(super) fn of(info_hash: InfoHash, info: &Info, tiers: &[Vec<String>], web_seeds: &[String]) -> Self {
        let magnet = (!info.private).then(|| link_of(info_hash, info, tiers, web_seeds, &[]));
        Self { info_hash, magnet }
    }

    /// Prints info-hash and magnet link; with `-q` the info-hash alone, and only on stdout.
    pub(super) fn print(&self, stream: Stream, output: &Output) {
        if output.is_quiet() && stream == Stream::Stdout {
            return output.result(self.info_hash);
        }
        stream.line(output, "info-hash", &self.info_hash.to_string());
        if let Some(link) = &self.magnet {
            stream.line(output, "magnet", link);
        }
    }
}

impl Stream {
    /// Prints a labelled line. On stderr it is a message, which `-q` leaves out.
    pub(super) fn line(self, output: &Output, label: &str, text: &str) {
        match self {
            Self::Stdout => output.result(format_args!("{label:<10} {text}")),
            Self::Stderr => output.message(format_args!("{label:<10} {text}")),
        }
    }
}

/// Returns the warning about a private torrent without a tracker.
pub(super) fn private_caveat(is_private: bool, tiers: &[Vec<String>]) -> Option<String> {
    let is_alone = is_private && tiers.is_empty();
    is_alone.then(|| "a private torrent without a tracker: clients find no peers: give a tracker with -a".to_owned())
}
