//! Detects files at the paths of a torrent's files that belong to the user and not to the torrent.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::error::ContentError;
use super::open::open_regular;
use super::sweep::Control;
use super::verify::file_path;
use crate::base::limits::HASH_READ_LEN;
use crate::base::{Bitfield, PieceHash, PieceIndex};
use crate::codec::metainfo::Info;
use crate::hash::PieceHasher;

/// Returns those of the given files that contain data and show no sign of belonging to the torrent. `have` are the
/// pieces that were found right.
///
/// A right piece shows that its files belong to the torrent. A file without a piece of its own has no such sign if its
/// neighbors are damaged; instead, its length in the torrent together with a right piece anywhere counts. Zeros count
/// neither as data nor as a sign, as they may be a hole or reserved space.
pub fn foreign_files(
    info: &Info,
    dir: &Path,
    have: &Bitfield,
    file_indices: impl Iterator<Item = usize>,
    control: Control<'_>,
) -> Result<Vec<usize>, ContentError> {
    let geometry = &info.geometry;
    let piece_len = geometry.piece_len();
    let zeros = (!have.is_empty()).then(|| hash_of_zeros(piece_len));
    // A right piece of zeros may be a hole.
    let is_of_zeros = |piece: PieceIndex| match geometry.len_of(piece) {
        len if len == piece_len => zeros.as_ref() == info.pieces.get(piece.at()),
        len => Some(&hash_of_zeros(len)) == info.pieces.get(piece.at()),
    };
    let shows = |piece: PieceIndex| have.contains(piece) && !is_of_zeros(piece);
    let is_shown_anywhere = geometry.pieces().any(shows);
    let mut foreign = Vec::new();
    for file_index in file_indices {
        let Some(file) = info.files.get(file_index).filter(|file| !file.pad) else { continue };
        let path = file_path(dir, file);
        let pieces = || geometry.pieces_of_file(file_index).filter_map(|index| geometry.piece(index));
        let is_short = || pieces().all(|piece| geometry.piece_spans(piece).count() > 1);
        let has_length = || path.metadata().is_ok_and(|found| found.len() == file.len);
        if pieces().any(shows) || (is_shown_anywhere && is_short() && has_length()) {
            continue;
        }
        if holds_something(&path, control).map_err(|error| ContentError::Read { path, error })? {
            foreign.push(file_index);
        }
        if control.cancel.load(Ordering::Relaxed) {
            return Err(ContentError::Cancelled);
        }
    }
    Ok(foreign)
}

fn hash_of_zeros(len: u32) -> PieceHash {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut hasher = PieceHasher::default();
    let mut left = len as usize;
    while left > 0 {
        let len = left.min(ZEROS.len());
        hasher.update(&ZEROS[..len]);
        left -= len;
    }
    hasher.finish()
}

/// Whether a regular file contains a byte other than zero. Skips holes.
fn holds_something(path: &Path, control: Control<'_>) -> io::Result<bool> {
    let file = match open_regular(path) {
        Ok((file, _)) => file,
        // A download never writes to a file of another kind.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
            return Ok(false);
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut buffer = vec![0; HASH_READ_LEN];
    let mut at = 0;
    while !control.cancel.load(Ordering::Relaxed) {
        at = match seek(&file, SeekFrom::Data(at)) {
            Ok(at) => at,
            // The rest of the file is a hole.
            Err(Errno::NXIO) => return Ok(false),
            // The file system does not support holes.
            Err(_) => at,
        };
        let len = file.read_at(&mut buffer, at)?;
        if len == 0 {
            return Ok(false);
        }
        if buffer[..len].iter().any(|&byte| byte != 0) {
            return Ok(true);
        }
        at += len as u64;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Geometry;
    use crate::codec::metainfo::FileEntry;
    use crate::hash::sha1;
    use std::fs::{self, File};
    use std::sync::atomic::AtomicBool;

    const PIECE_LEN: u32 = 4;

    /// A file of three pieces, the second of which is zeros, two short files in one piece, and a file of one piece.
    fn info() -> Info {
        let file = |name: &[u8], len| FileEntry { path: vec![name.to_vec()], len, pad: false, symlink: None };
        let files = vec![file(b"long", 12), file(b"short", 2), file(b"shorter", 2), file(b"whole", 4)];
        let pieces = [&b"abcd"[..], &[0; 4], b"efgh", b"ijkl", b"mnop"].map(|piece| sha1(&[piece]));
        Info {
            name: b"t".to_vec(),
            geometry: Geometry::new(PIECE_LEN, files.iter().map(|file| file.len)).unwrap(),
            pieces: pieces.into(),
            files,
            single_file: false,
            private: false,
            source: None,
        }
    }

    fn foreign(dir: &Path, right: &[u32]) -> Vec<usize> {
        let info = info();
        let mut have = Bitfield::new(info.geometry.piece_count());
        right.iter().for_each(|&index| _ = have.insert(info.geometry.piece(index).unwrap()));
        let cancel = AtomicBool::new(false);
        foreign_files(&info, dir, &have, 0..4, Control { cancel: &cancel, progress: &|_| () }).unwrap()
    }

    #[test]
    fn a_file_is_foreign_until_one_of_its_pieces_is_right() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(foreign(dir.path(), &[]), [0; 0]);
        fs::write(dir.path().join("long"), b"\0\0\0\0\0\0\0\0\0\0\0x").unwrap();
        fs::write(dir.path().join("short"), b"xy").unwrap();
        fs::write(dir.path().join("shorter"), b"xyz").unwrap();
        fs::write(dir.path().join("whole"), b"wxyz").unwrap();
        assert_eq!(foreign(dir.path(), &[]), [0, 1, 2, 3]);
        assert_eq!(foreign(dir.path(), &[1]), [0, 1, 2, 3], "zeros are right by chance");
        assert_eq!(foreign(dir.path(), &[3]), [0, 3]);
        assert_eq!(foreign(dir.path(), &[2]), [2, 3], "one has the wrong length");
        assert_eq!(foreign(dir.path(), &[4]), [0, 2]);
    }

    #[test]
    fn empty_files_and_reserved_space_are_not_foreign() {
        let dir = tempfile::tempdir().unwrap();
        File::create(dir.path().join("short")).unwrap();
        File::create(dir.path().join("long")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(foreign(dir.path(), &[]), [0; 0]);
        fs::write(dir.path().join("long"), vec![0; 1 << 20]).unwrap();
        assert_eq!(foreign(dir.path(), &[]), [0; 0]);
        fs::remove_file(dir.path().join("long")).unwrap();
        fs::create_dir(dir.path().join("long")).unwrap();
        assert_eq!(foreign(dir.path(), &[]), [0; 0], "a folder is never written");
    }
}
