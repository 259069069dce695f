//! What of a torrent's content seems to be there, by the lengths of its files alone.

use std::path::{Path, PathBuf};

use crate::base::{Bitfield, FileIdentity};
use crate::codec::metainfo::Info;
use crate::storage::{Layout, Presence, StorageError};

/// See [`survey`].
#[derive(Debug)]
pub struct Survey {
    /// Pieces all of whose files are long enough to hold them.
    pub have: Bitfield,
    /// Files that are absent or too short, with what is there.
    pub misfits: Vec<(PathBuf, Presence)>,
    /// Each file as it is now; `None`: it is a pad file, or not there.
    pub files: Box<[Option<FileIdentity>]>,
}

/// Looks at every file's length below `folder`, the folder that holds the torrent's name. Reads no content.
pub fn survey(info: &Info, folder: &Path) -> Result<Survey, StorageError> {
    let geometry = &info.geometry;
    let layout = Layout::open(folder, info.files.iter().map(|file| file.path.clone()))?.following_links();
    let mut found = Survey {
        have: Bitfield::full(geometry.piece_count()),
        misfits: Vec::new(),
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
        found.misfits.push((layout.path(file_index), presence));
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
    fn pieces_that_reach_beyond_a_short_file_are_not_had() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x"), [0; 40_000]).unwrap();
        let draft = Draft::new(b"x".to_vec(), 16_384, DraftFiles::Single(60_000), vec![PieceHash([0; 20]); 4]);
        let metainfo = Metainfo::decode(&draft.encode(), &MetainfoLimits::default()).unwrap();
        let found = survey(&metainfo.info, folder.path()).unwrap();
        assert_eq!(found.have.iter().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(found.misfits, [(folder.path().join("x"), Presence::Present { len: 40_000 })]);
    }
}
