//! Errors of creating and verifying. Each message is one line, with the path.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::open::{Kind, shown};
use crate::base::limits;
use crate::base::units::Bytes;
use crate::codec::metainfo::MetainfoError;

/// Why reading content stopped.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    #[error("can't read: {}: {error}", shown(path))]
    Read { path: PathBuf, error: io::Error },
    #[error("changed while it was read: {}: try again when no program writes to it", shown(path))]
    Changed { path: PathBuf },
    #[error("not enough memory for reading: {0}")]
    Memory(io::Error),
    /// The caller cancelled the work.
    #[error("interrupted")]
    Cancelled,
}

/// Why no metainfo was created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error("neither a file nor a folder: {}: it is a {kind}: give a file or folder", shown(path))]
    NoContent { path: PathBuf, kind: Kind },
    #[error(
        "neither a file nor a folder: {}: it is a {kind}: move it, or exclude it with {}",
        shown(path),
        filter(path)
    )]
    Special { path: PathBuf, kind: Kind },
    #[error("can't read: {}: it is a broken symbolic link: give a file or folder", shown(path))]
    DeadPath { path: PathBuf },
    #[error(
        "can't read: {}: it is a broken symbolic link: remove it, or exclude it with {}",
        shown(path),
        filter(path)
    )]
    DeadLink { path: PathBuf },
    #[error(
        "symlinks form a loop: {}: it leads back to {}: remove it, or exclude it with {}",
        shown(path),
        shown(ancestor),
        filter(path)
    )]
    Loop { path: PathBuf, ancestor: PathBuf },
    #[error("no files: {}: the folder is empty or the filters exclude all files", shown(path))]
    NoFiles { path: PathBuf },
    #[error("nothing to share: {}: it contains no data", shown(path))]
    NoBytes { path: PathBuf },
    #[error("filters need a folder: {}: omit -g", shown(path))]
    FilteredFile { path: PathBuf },
    #[error("no usable name: {}: give one with create -n", shown(path))]
    NoName { path: PathBuf },
    #[error(
        "path too long or too deep: {}: at most {} bytes and {} folders",
        shown(path),
        limits::PATH_LEN_MAX,
        limits::PATH_DEPTH_MAX
    )]
    Path { path: PathBuf },
    #[error("too many files: {}: at most {}", shown(path), limits::FILE_COUNT_MAX)]
    TooManyFiles { path: PathBuf },
    #[error("too much content: {}: at most {} bytes", shown(path), limits::CONTENT_LEN_MAX)]
    TooLong { path: PathBuf },
    #[error("too many pieces of {}: {piece_count}: at most {}: create it with a larger -l", Bytes(u64::from(*piece_len)),
        limits::PIECE_COUNT_MAX)]
    TooManyPieces { piece_len: u32, piece_count: u64 },
    /// The encoded metainfo does not decode.
    #[error("this content gives no valid torrent: {0}")]
    Unreadable(#[from] MetainfoError),
    #[error("the torrent would be {}: at most {}: create it with a larger -l, or of fewer files", Bytes(*len),
        Bytes(limits::METAINFO_LEN_MAX))]
    MetainfoTooLong { len: u64 },
}

/// Why the `.torrent` was not written. No partial file is left.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("output exists: {}: give -f to replace it", shown(path))]
    Exists { path: PathBuf },
    #[error("output is not a file: {}: give another name with -o", shown(path))]
    NotAFile { path: PathBuf },
    #[error("can't write: {}: {error}", shown(path))]
    Io { path: PathBuf, error: io::Error },
}

/// The option of `create` that excludes this file.
fn filter(path: &Path) -> String {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" ._-+,=@".contains(&byte));
    format!("create -g '!{}'", if is_plain && !name.is_empty() { name } else { "NAME" })
}
