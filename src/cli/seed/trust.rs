//! Why content may be served without hashing it first.

use crate::base::FileIdentity;

/// The grounds on which content is served, and the identities that its files had then.
///
/// `files` has an entry for each file of the torrent; `None` stands for a file whose identity proves nothing.
pub(super) enum Trust {
    /// All content was hashed just before.
    Checked { files: Box<[Option<FileIdentity>]> },
    /// A check that began at `date`, in seconds since 1970, found the content right, and no file has changed since.
    Remembered { date: i64, files: Box<[Option<FileIdentity>]> },
    /// The user gave `--verify none`.
    Blind { files: Box<[Option<FileIdentity>]> },
    /// None: each piece is hashed before it is first served.
    None,
}
