//! The errors of a metainfo file, with one fault for each rule.

use super::Mistaken;
use crate::base::limits::{CONTENT_LEN_MAX, PATH_DEPTH_MAX, PATH_LEN_MAX, PIECE_LEN_READ_MAX};
use crate::codec::bencode::{BencodeError, Kind};

/// Why a metainfo file is refused, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetainfoError {
    #[error("not a torrent file: {0}")]
    Bencode(#[from] BencodeError),
    #[error("{0}")]
    Mistaken(Mistaken),
    /// A value breaks a rule. `field` is the path of its key, such as `info.files[3].path[1]`; `offset` is the byte
    /// offset of the value in the file.
    #[error("{field}: {fault} (at byte {offset})")]
    Field { field: String, offset: usize, fault: Fault },
}

impl MetainfoError {
    pub(super) fn new(field: impl Into<String>, offset: usize, fault: Fault) -> Self {
        Self::Field { field: field.into(), offset, fault }
    }
}

/// The rule that a field breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("is missing")]
    Missing,
    #[error("is {found}, expected {expected}")]
    WrongKind { found: Kind, expected: Kind },
    #[error("describes a v2-only torrent (BEP 52); these are not supported yet")]
    V2Only,

    #[error("does not fit 64 bits")]
    IntegerTooLarge,
    #[error("{0} is negative")]
    NegativeLength(i64),
    #[error("brings the content above {CONTENT_LEN_MAX} bytes")]
    ContentTooLong,

    #[error("{0} is not a length of at least 1")]
    PieceLenNotPositive(i64),
    #[error("{0} is above {PIECE_LEN_READ_MAX}")]
    PieceLenTooLong(i64),
    #[error("length {0} is not a multiple of 20")]
    PiecesLen(usize),
    #[error("holds {found} hashes, but the content has {expected} pieces")]
    PieceCount { found: u64, expected: u64 },
    #[error("{count} pieces, the limit is {max}; raise it with --max-pieces")]
    TooManyPieces { count: u64, max: u32 },

    #[error("has both 'length' and 'files'")]
    LengthAndFiles,
    #[error("has neither 'length' nor 'files'")]
    NoLengthNorFiles,
    #[error("names no file")]
    NoFiles,
    #[error("names {count} files, the limit is {max}")]
    TooManyFiles { count: usize, max: usize },

    #[error("is an empty list")]
    EmptyPath,
    #[error("'..' is not allowed")]
    ParentFolder,
    #[error("a NUL byte is not allowed")]
    Nul,
    #[error("a path of {0} bytes, {PATH_LEN_MAX} is the limit")]
    PathTooLong(usize),
    #[error("{0} levels, {PATH_DEPTH_MAX} is the limit")]
    PathTooDeep(usize),
}
