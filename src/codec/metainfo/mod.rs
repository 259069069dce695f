//! Metainfo files (BEP 3; also BEP 12, 19, 27, 47): reading, checking and writing a `.torrent`.
//!
//! The result of [`Metainfo::decode`] keeps every rule: counts fit lengths, sums do not overflow, and no path leaves
//! its folder or collides with another. Names that break a rule harmlessly are mapped to safe ones, always to the same
//! ones (`docs/leniency.md`). This module opens no file and does not check content.

mod decode;
mod draft;
mod edit;
mod error;
mod mistaken;
mod path;
mod urls;
mod warnings;

#[cfg(test)]
mod lenient_tests;
#[cfg(test)]
mod tests;

pub use draft::{Attributes, Draft, DraftFiles, Template};
pub use edit::{Change, Edit, TrackerEdit};
pub use error::{Fault, MetainfoError};
pub use mistaken::Mistaken;

use crate::base::{Geometry, InfoHash, PieceHash, limits};

/// A metainfo file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metainfo {
    /// SHA-1 of `info_bytes`.
    pub info_hash: InfoHash,
    pub info: Info,
    /// The unchanged bytes of the info dictionary. BEP 3: "Note that this is a substring of the metainfo file."
    pub info_bytes: Box<[u8]>,
    /// Tracker URLs by tier (BEP 12): those of `announce-list` if it has any, else `announce`. URLs have the scheme
    /// http, https or udp, are printable ASCII and do not repeat; there are at most [`limits::TRACKER_COUNT_MAX`], and
    /// no tier is empty.
    pub tiers: Vec<Vec<String>>,
    /// `url-list` (BEP 19): http and https URLs, at most [`limits::WEB_SEED_COUNT_MAX`].
    pub web_seeds: Vec<String>,
    pub comment: Option<String>,
    pub created_by: Option<String>,
    /// Seconds since 1970.
    pub creation_date: Option<i64>,
    /// One printable line for each value that was ignored or corrected, at most [`limits::METAINFO_WARNINGS_MAX`].
    pub warnings: Vec<String>,
    /// Top-level keys that this program does not interpret, sorted, with their bencoded values. They are written back.
    /// Of equal keys the first counts.
    pub unknown_keys: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The info dictionary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Info {
    /// File or folder name: one safe path element of any bytes, or the info-hash if the torrent has no name.
    pub name: Vec<u8>,
    pub geometry: Geometry,
    /// The hash of each piece of `geometry`.
    pub pieces: Box<[PieceHash]>,
    /// The files in the order of the content.
    pub files: Vec<FileEntry>,
    /// The content is a file called `name`, not a folder of that name.
    pub single_file: bool,
    /// Peers may come only from the trackers (BEP 27).
    pub private: bool,
    /// A text that makes the info-hash differ between trackers and has no other meaning.
    pub source: Option<Vec<u8>>,
}

/// A file of the content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileEntry {
    /// Safe path elements. In an [`Info`] the first one is the torrent's name, which a [`Draft`] leaves out.
    pub path: Vec<Vec<u8>>,
    /// Length in bytes.
    pub len: u64,
    /// The file is neither written nor requested (BEP 47). It is padding, which is read as zeros and may share its path
    /// with other pad files, or a symbolic link, which has no content.
    pub pad: bool,
    /// Target of a symbolic link, with elements joined by `/`. It may be any path, since links are not created.
    pub symlink: Option<Box<[u8]>>,
}

impl FileEntry {
    /// Returns whether the file only fills the space before another file.
    pub fn is_padding(&self) -> bool {
        self.pad && self.symlink.is_none()
    }
}

/// Limits of a metainfo file.
#[derive(Clone, Copy, Debug)]
pub struct MetainfoLimits {
    /// Pieces (`--max-pieces`).
    pub piece_count_max: u32,
    pub file_count_max: usize,
    /// Bencoded values, keys included.
    pub tokens_max: usize,
}

impl Default for MetainfoLimits {
    fn default() -> Self {
        Self {
            piece_count_max: limits::PIECE_COUNT_MAX,
            file_count_max: limits::FILE_COUNT_MAX,
            tokens_max: limits::METAINFO_TOKENS_MAX,
        }
    }
}

impl Metainfo {
    /// Reads a whole `.torrent` file.
    pub fn decode(bytes: &[u8], limits: &MetainfoLimits) -> Result<Self, MetainfoError> {
        decode::metainfo(bytes, limits)
    }

    /// Builds a metainfo file from an info dictionary of peers (BEP 9) and the trackers and web seeds of a magnet link.
    pub fn from_info(
        info_bytes: &[u8],
        tiers: &[Vec<String>],
        web_seeds: &[String],
        limits: &MetainfoLimits,
    ) -> Result<Self, MetainfoError> {
        let envelope = draft::Envelope {
            info: info_bytes,
            tiers,
            web_seeds,
            comment: None,
            created_by: None,
            creation_date: None,
            unknown_keys: &[],
        };
        Self::decode(&envelope.encode(), limits)
    }

    /// Returns the bytes of the file, with the info dictionary unchanged.
    pub fn encode(&self) -> Vec<u8> {
        self.envelope().encode()
    }

    /// Returns the file as a template for other trackers and web seeds.
    pub fn template(&self) -> Template {
        self.envelope().template()
    }

    fn envelope(&self) -> draft::Envelope<'_> {
        draft::Envelope {
            info: &self.info_bytes,
            tiers: &self.tiers,
            web_seeds: &self.web_seeds,
            comment: self.comment.as_deref(),
            created_by: self.created_by.as_deref(),
            creation_date: self.creation_date,
            unknown_keys: &self.unknown_keys,
        }
    }
}
