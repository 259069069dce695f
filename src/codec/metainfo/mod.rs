//! Metainfo files (BEP 3; also BEP 12, 19, 27, 47): a `.torrent` read, checked and written.
//!
//! What comes out of [`Metainfo::decode`] keeps every rule: counts fit lengths, sums do not overflow, and no path
//! leaves its folder or meets another. Names that break a rule harmlessly are mapped to ones that do not, always to the
//! same ones (`docs/leniency.md`). Owns no file and opens none; whether the data is right is for others.

mod decode;
mod draft;
mod error;
mod mistaken;
mod path;
mod urls;
mod warnings;

#[cfg(test)]
mod lenient_tests;
#[cfg(test)]
mod tests;

pub use draft::{Draft, DraftFiles, Template};
pub use error::{Fault, MetainfoError};
pub use mistaken::Mistaken;

use crate::base::{Geometry, InfoHash, PieceHash, limits};

/// A metainfo file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metainfo {
    /// SHA-1 of `info_bytes`.
    pub info_hash: InfoHash,
    pub info: Info,
    /// The info dictionary as it stood in the file. BEP 3: "Note that this is a substring of the metainfo file."
    pub info_bytes: Box<[u8]>,
    /// Tracker URLs by tier (BEP 12): `announce-list` where it names any, else `announce` alone. Schemes http, https
    /// and udp, printable ASCII, no URL twice, at most [`limits::TRACKER_COUNT_MAX`]; no tier is empty.
    pub tiers: Vec<Vec<String>>,
    /// `url-list` (BEP 19): http and https URLs, at most [`limits::WEB_SEED_COUNT_MAX`].
    pub web_seeds: Vec<String>,
    pub comment: Option<String>,
    pub created_by: Option<String>,
    /// Seconds since 1970.
    pub creation_date: Option<i64>,
    /// What was passed over or put right while reading, one printable line each, at most
    /// [`limits::METAINFO_WARNINGS_MAX`].
    pub warnings: Vec<String>,
    /// Top-level keys this program does not interpret, sorted, with their bencoded values; they are written back.
    /// Of equal keys the first counts.
    pub unknown_keys: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The info dictionary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Info {
    /// File or folder name: one safe path element, of any bytes; the info-hash where the torrent names nothing.
    pub name: Vec<u8>,
    pub geometry: Geometry,
    /// One for each piece of `geometry`.
    pub pieces: Box<[PieceHash]>,
    /// In the order in which they make up the content.
    pub files: Vec<FileEntry>,
    /// The content is the file `name` itself, not a folder of that name.
    pub single_file: bool,
    /// BEP 27: peers come from the trackers alone.
    pub private: bool,
    /// Makes the info-hash differ between trackers; means nothing else.
    pub source: Option<Vec<u8>>,
}

/// A file of the content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileEntry {
    /// Safe path elements. In an [`Info`] the first one is the torrent's name; in a [`Draft`] it is left out.
    pub path: Vec<Vec<u8>>,
    /// Length in bytes.
    pub len: u64,
    /// Neither written nor requested (BEP 47): padding, which is read as zeros and whose path may be that of another pad
    /// file; or a symbolic link, which has no content.
    pub pad: bool,
    /// Where a symbolic link leads, elements joined by `/`. Links are not made: it may be anywhere.
    pub symlink: Option<Box<[u8]>>,
}

impl FileEntry {
    /// Whether it only fills the space before another file.
    pub fn is_padding(&self) -> bool {
        self.pad && self.symlink.is_none()
    }
}

/// What a metainfo file may ask for.
#[derive(Clone, Copy, Debug)]
pub struct MetainfoLimits {
    /// `--max-pieces`.
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

    /// A metainfo file of an info dictionary that came from peers (BEP 9), with what a magnet link says beside it.
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

    /// Writes the file with the info dictionary as it was read.
    pub fn encode(&self) -> Vec<u8> {
        self.envelope().encode()
    }

    /// The file to be given out with other trackers and web seeds.
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
