//! Which pieces of a torrent seem to be on disk, by the lengths of the files.

use std::path::{Path, PathBuf};

use crate::base::{Bitfield, FileIdentity};
use crate::codec::metainfo::Info;
use crate::storage::{Layout, Presence, StorageError};

/// The result of [`file_presence`].
#[derive(Debug)]
pub struct FilePresence {
    /// Pieces whose files are all long enough to contain them.
    pub have: Bitfield,
    /// Files that are absent or too short, with their state on disk.
    pub incomplete_files: Vec<(PathBuf, Presence)>,
    /// The identity of each file; `None` for pad files and absent files.
    pub files: Box<[Option<FileIdentity>]>,
}

/// Checks the length of every file below `folder`, which contains the torrent's file or folder. Reads no content.
pub fn file_presence(info: &Info, folder: &Path) -> Result<FilePresence, StorageError> {
    let geometry = &info.geometry;
    let layout = Layout::open(folder, info.files.iter().map(|file| file.path.clone()))?.following_links();
    let mut found = FilePresence {
        have: Bitfield::full(geometry.piece_count()),
        incomplete_files: Vec::new(),
        files: vec![None; info.files.len()].into(),
    };
    for (file_index, _) in info.files.iter().enumerate().filter(|(_, file)| !file.pad) {
        let identity = layout.find(file_index)?;
        found.files[file_index] = identity;
        let here = match identity {
            Some(FileIdentity { len, .. }) if len >= geometry.file_len(file_index) => continue,
            Some(FileIdentity { len, .. }) => len,
            None => 0,
        };
        let presence = identity.map_or(Presence::Absent, |_| Presence::Present { len: here });
        found.incomplete_files.push((layout.path(file_index), presence));
        for piece in geometry.pieces_of_file(file_index).filter_map(|index| geometry.piece(index)) {
            let reaches = |span: crate::base::FileSpan| span.file_index == file_index && span.offset + span.len > here;
            if geometry.piece_spans(piece).any(reaches) {
                found.have.remove(piece);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PieceHash;
    use crate::codec::metainfo::{Draft, DraftFiles, Metainfo, MetainfoLimits};

    #[test]
    fn pieces_beyond_the_end_of_a_short_file_are_missing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x"), [0; 40_000]).unwrap();
        let draft = Draft::new(b"x".to_vec(), 16_384, DraftFiles::Single(60_000), vec![PieceHash([0; 20]); 4]);
        let metainfo = Metainfo::decode(&draft.encode(), &MetainfoLimits::default()).unwrap();
        let found = file_presence(&metainfo.info, folder.path()).unwrap();
        assert_eq!(found.have.iter().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(found.incomplete_files, [(folder.path().join("x"), Presence::Present { len: 40_000 })]);
    }
}
