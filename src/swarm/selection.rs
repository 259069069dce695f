//! The wanted pieces of a partial download.

use std::collections::BTreeMap;

use crate::base::{Bitfield, Geometry, PieceIndex};

/// The pieces that a choice of files needs; see [`Self::new`].
#[derive(Debug, Clone)]
pub struct Selection {
    /// Pieces with wanted bytes.
    wanted: Bitfield,
    /// Wanted pieces with bytes of files that are left out.
    boundaries: Bitfield,
    /// The number of wanted bytes in each wanted piece that also has unwanted ones.
    lens: BTreeMap<u32, u64>,
    /// The priority of each piece, greater first.
    priorities: Box<[u8]>,
}

/// The choice for one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The file is fetched; files of greater numbers come first.
    Wanted(u8),
    /// The file exists and is not fetched. Bytes of it in wanted pieces are written to it.
    Kept,
    /// The file does not exist or must not be written.
    Deselected,
}

impl Selection {
    /// Takes one choice for each file. A pad file (BEP 47) counts as [`Choice::Kept`]: its bytes are known.
    pub fn new(geometry: &Geometry, choices: &[Choice]) -> Self {
        let mut selection = Self {
            wanted: Bitfield::new(geometry.piece_count()),
            boundaries: Bitfield::new(geometry.piece_count()),
            lens: BTreeMap::new(),
            priorities: vec![0; geometry.piece_count() as usize].into(),
        };
        for (file_index, choice) in choices.iter().enumerate() {
            if let Choice::Wanted(priority) = *choice {
                for piece in geometry.pieces_of_file(file_index).filter_map(|index| geometry.piece(index)) {
                    selection.wanted.insert(piece);
                    if let Some(of_piece) = selection.priorities.get_mut(piece.at()) {
                        *of_piece = priority.max(*of_piece);
                    }
                }
            }
        }
        // Only the pieces at the ends of a file can have bytes of other files.
        for file_index in 0..geometry.file_count() {
            let pieces = geometry.pieces_of_file(file_index);
            for piece in [Some(pieces.start), pieces.end.checked_sub(1)].into_iter().flatten() {
                if let Some(piece) = geometry.piece(piece).filter(|&piece| selection.wanted.contains(piece)) {
                    selection.examine(geometry, choices, piece);
                }
            }
        }
        selection
    }

    fn examine(&mut self, geometry: &Geometry, choices: &[Choice], piece: PieceIndex) {
        let mut wanted_len = 0;
        for span in geometry.piece_spans(piece) {
            match choices.get(span.file_index) {
                Some(Choice::Wanted(_)) => wanted_len += span.len,
                Some(Choice::Deselected) => _ = self.boundaries.insert(piece),
                Some(Choice::Kept) | None => {}
            }
        }
        if wanted_len < u64::from(geometry.len_of(piece)) {
            self.lens.insert(piece.get(), wanted_len);
        }
    }

    pub fn is_wanted(&self, piece: PieceIndex) -> bool {
        self.wanted.contains(piece)
    }

    /// A wanted piece with bytes of a file that is left out. Once verified and partly written it is finished, but not
    /// announced.
    pub fn is_boundary(&self, piece: PieceIndex) -> bool {
        self.boundaries.contains(piece)
    }

    /// The number of wanted bytes in a wanted piece.
    pub fn len_of(&self, geometry: &Geometry, piece: PieceIndex) -> u64 {
        self.lens.get(&piece.get()).copied().unwrap_or_else(|| u64::from(geometry.len_of(piece)))
    }

    /// The number of wanted bytes in any piece; 0 if it is not wanted.
    pub fn wanted_len(&self, geometry: &Geometry, piece: PieceIndex) -> u64 {
        if self.is_wanted(piece) { self.len_of(geometry, piece) } else { 0 }
    }

    pub(super) fn priorities(&self) -> Box<[u8]> {
        self.priorities.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundary_pieces_are_those_shared_with_deselected_files() {
        // Pieces of 10: 0 | 0 1 1 | 1 2 | 2 | 2 3
        let geometry = Geometry::new(10, [12, 15, 15, 5]).unwrap();
        let check = |choices: [Choice; 4], wanted: &[u32], boundaries: &[u32], lens: &[u64]| {
            let selection = Selection::new(&geometry, &choices);
            let of = |is: &dyn Fn(PieceIndex) -> bool| -> Vec<u32> {
                geometry.pieces().filter(|&piece| is(piece)).map(PieceIndex::get).collect()
            };
            assert_eq!(of(&|piece| selection.is_wanted(piece)), wanted, "{choices:?}");
            assert_eq!(of(&|piece| selection.is_boundary(piece)), boundaries, "{choices:?}");
            let found = wanted.iter().map(|&index| selection.len_of(&geometry, geometry.piece(index).unwrap()));
            assert_eq!(found.collect::<Vec<_>>(), lens, "{choices:?}");
        };
        use Choice::{Deselected, Kept, Wanted};
        check([Deselected, Wanted(1), Deselected, Deselected], &[1, 2], &[1, 2], &[8, 7]);
        check([Kept, Wanted(1), Deselected, Deselected], &[1, 2], &[2], &[8, 7]);
        check([Wanted(1), Wanted(2), Deselected, Wanted(3)], &[0, 1, 2, 4], &[2, 4], &[10, 10, 7, 5]);
        check([Deselected, Deselected, Wanted(1), Wanted(1)], &[2, 3, 4], &[2], &[3, 10, 7]);
        let selection = Selection::new(&geometry, &[Wanted(1), Wanted(2), Deselected, Wanted(3)]);
        assert_eq!(*selection.priorities(), [1, 2, 2, 0, 3]);
    }

    #[test]
    fn empty_files_do_not_affect_the_selection() {
        let geometry = Geometry::new(10, [0, 20, 0]).unwrap();
        let selection = Selection::new(&geometry, &[Choice::Deselected, Choice::Wanted(1), Choice::Deselected]);
        assert!(geometry.pieces().all(|piece| selection.is_wanted(piece) && !selection.is_boundary(piece)));
        let nothing = Selection::new(&geometry, &[Choice::Wanted(1), Choice::Deselected, Choice::Wanted(1)]);
        assert!(!geometry.pieces().any(|piece| nothing.is_wanted(piece)));
    }
}
