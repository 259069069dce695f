//! The arithmetic of pieces, blocks and files; no other module repeats it. Offsets and lengths are in bytes.
//!
//! A torrent's content is its files laid end to end (BEP 3); pieces cut that line into equal lengths, the last one
//! possibly shorter; blocks cut each piece at multiples of [`BLOCK_LEN`].

use std::ops::Range;

/// Length in bytes of a block, the request unit that every client accepts. Blocks lie on a grid of this length in their
/// piece.
pub const BLOCK_LEN: u32 = 16 * 1024;

/// The index of a piece that its torrent has. Only [`Geometry`] makes one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PieceIndex(u32);

impl PieceIndex {
    /// Returns the index as on the wire.
    pub fn get(self) -> u32 {
        self.0
    }

    /// Returns the index for a slice.
    pub fn at(self) -> usize {
        self.0 as usize
    }
}

/// A span inside one piece, as `request`, `piece` and `cancel` name it (BEP 3). It does not exceed the piece.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BlockRef {
    pub piece: PieceIndex,
    /// Byte offset inside the piece.
    pub begin: u32,
    /// Length in bytes, at least 1.
    pub len: u32,
}

impl BlockRef {
    /// Returns the position on the piece's grid of [`BLOCK_LEN`].
    pub fn block_index(&self) -> usize {
        (self.begin / BLOCK_LEN) as usize
    }
}

/// A part of the content inside one file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileSpan {
    /// Position in the torrent's file list.
    pub file_index: usize,
    /// Byte offset inside the file.
    pub offset: u64,
    /// Length in bytes, at least 1.
    pub len: u64,
}

/// The division of a torrent's content into pieces and files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Geometry {
    piece_len: u32,
    piece_count: u32,
    /// `file_starts[i]` is the content offset of file i; one more entry holds the total length.
    file_starts: Box<[u64]>,
}

impl Geometry {
    /// Cuts files of these lengths into pieces. Returns `None` if `piece_len` is 0, the lengths overflow, or there are
    /// more than `u32::MAX` pieces.
    pub fn new(piece_len: u32, file_lens: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut file_starts = vec![0u64];
        let mut total_len = 0u64;
        for len in file_lens {
            total_len = total_len.checked_add(len)?;
            file_starts.push(total_len);
        }
        if piece_len == 0 {
            return None;
        }
        let piece_count = u32::try_from(total_len.div_ceil(u64::from(piece_len))).ok()?;
        Some(Self { piece_len, piece_count, file_starts: file_starts.into() })
    }

    /// Returns the length of every piece but the last.
    pub fn piece_len(&self) -> u32 {
        self.piece_len
    }

    pub fn piece_count(&self) -> u32 {
        self.piece_count
    }

    /// Returns the length of the whole content.
    pub fn total_len(&self) -> u64 {
        self.file_starts.last().copied().unwrap_or(0)
    }

    pub fn file_count(&self) -> usize {
        self.file_starts.len() - 1
    }

    /// Returns the length of file `file_index`; 0 if there is no such file.
    pub fn file_len(&self, file_index: usize) -> u64 {
        match self.file_starts.get(file_index..file_index + 2) {
            Some([start, end]) => end - start,
            _ => 0,
        }
    }

    /// Returns the typed index, or `None` if the torrent has no such piece.
    pub fn piece(&self, index: u32) -> Option<PieceIndex> {
        (index < self.piece_count).then_some(PieceIndex(index))
    }

    /// Returns all pieces in order.
    pub fn pieces(&self) -> impl DoubleEndedIterator<Item = PieceIndex> + use<> {
        (0..self.piece_count).map(PieceIndex)
    }

    /// Returns the length of this piece; the last one may be shorter (BEP 3).
    pub fn len_of(&self, piece: PieceIndex) -> u32 {
        let left = self.total_len() - self.offset_of(piece);
        u32::try_from(left.min(u64::from(self.piece_len))).unwrap_or(self.piece_len)
    }

    /// Returns the content offset of a piece's first byte.
    pub fn offset_of(&self, piece: PieceIndex) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_len)
    }

    /// Returns the number of grid blocks of this piece.
    pub fn block_count(&self, piece: PieceIndex) -> u32 {
        self.len_of(piece).div_ceil(BLOCK_LEN)
    }

    /// Returns the grid block at `block_index`, or `None` if the piece has no such block.
    pub fn block(&self, piece: PieceIndex, block_index: u32) -> Option<BlockRef> {
        let begin = block_index.checked_mul(BLOCK_LEN)?;
        let left = self.len_of(piece).checked_sub(begin).filter(|&left| left > 0)?;
        Some(BlockRef { piece, begin, len: left.min(BLOCK_LEN) })
    }

    /// Checks the three numbers of a `request`, `piece` or `cancel`. Returns `None` if the span is empty or exceeds its
    /// piece.
    pub fn span(&self, index: u32, begin: u32, len: u32) -> Option<BlockRef> {
        let piece = self.piece(index)?;
        let end = begin.checked_add(len)?;
        (len > 0 && end <= self.len_of(piece)).then_some(BlockRef { piece, begin, len })
    }

    /// Returns the parts of files that hold `len` bytes from content offset `offset`, in order and without empty files.
    /// The range is cut at the content's end.
    pub fn file_spans(&self, offset: u64, len: u64) -> impl Iterator<Item = FileSpan> + '_ {
        let end = offset.saturating_add(len).min(self.total_len());
        // The last file that starts at or before `offset` holds it.
        let first = self.file_starts.partition_point(|&start| start <= offset).saturating_sub(1);
        (first..self.file_count())
            .map_while(move |file_index| {
                let start = self.file_starts[file_index];
                (start < end).then(|| {
                    let from = start.max(offset);
                    let to = self.file_starts[file_index + 1].min(end);
                    FileSpan { file_index, offset: from - start, len: to.saturating_sub(from) }
                })
            })
            .filter(|span| span.len > 0)
    }

    /// Returns the parts of files that hold a block.
    pub fn block_spans(&self, block: BlockRef) -> impl Iterator<Item = FileSpan> + '_ {
        self.file_spans(self.offset_of(block.piece) + u64::from(block.begin), u64::from(block.len))
    }

    /// Returns the parts of files that hold a whole piece.
    pub fn piece_spans(&self, piece: PieceIndex) -> impl Iterator<Item = FileSpan> + '_ {
        self.file_spans(self.offset_of(piece), u64::from(self.len_of(piece)))
    }

    /// Returns the range of the content that is this file.
    pub fn range_of_file(&self, file_index: usize) -> Range<u64> {
        match self.file_starts.get(file_index..file_index + 2) {
            Some(&[start, end]) => start..end,
            _ => 0..0,
        }
    }

    /// Returns the pieces that hold bytes of this file; the range is empty for an empty file.
    pub fn pieces_of_file(&self, file_index: usize) -> Range<u32> {
        self.pieces_of_span(FileSpan { file_index, offset: 0, len: self.file_len(file_index) })
    }

    /// Returns the pieces that hold bytes of this part of a file; a part beyond the file's end has none.
    pub fn pieces_of_span(&self, span: FileSpan) -> Range<u32> {
        let FileSpan { file_index, offset, len } = span;
        let end = offset.saturating_add(len).min(self.file_len(file_index));
        let Some(start) = self.file_starts.get(file_index).filter(|_| offset < end) else { return 0..0 };
        let piece_at = |offset: u64| u32::try_from(offset / u64::from(self.piece_len)).unwrap_or(u32::MAX);
        piece_at(start + offset)..piece_at(start + end - 1) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_piece_and_block_are_short() {
        let geometry = Geometry::new(32 * 1024, [70_000]).unwrap();
        assert_eq!(geometry.piece_count(), 3);
        let last = geometry.piece(2).unwrap();
        assert_eq!(geometry.len_of(last), 70_000 - 65_536);
        assert_eq!(geometry.block(last, 0).unwrap().len, 70_000 - 65_536);
        assert_eq!(geometry.block(last, 1), None);
        assert_eq!(geometry.piece(3), None);
    }

    #[test]
    fn spans_outside_a_piece_are_refused() {
        let geometry = Geometry::new(32 * 1024, [70_000]).unwrap();
        assert!(geometry.span(0, 0, 32 * 1024).is_some());
        assert!(geometry.span(0, 1, 32 * 1024).is_none());
        assert!(geometry.span(0, 0, 0).is_none());
        assert!(geometry.span(3, 0, 1).is_none());
        assert!(geometry.span(0, u32::MAX, 2).is_none());
    }

    #[test]
    fn impossible_geometries_are_refused() {
        assert!(Geometry::new(0, [1]).is_none());
        assert!(Geometry::new(16, [u64::MAX, 1]).is_none());
        assert!(Geometry::new(1, [1 << 33]).is_none());
        assert_eq!(Geometry::new(16, []).unwrap().piece_count(), 0);
    }

    proptest! {
        #[test]
        fn piece_spans_cover_the_content_once_in_order(
            piece_len in 1u32..50, lens in prop::collection::vec(0u64..120, 0..12)
        ) {
            let geometry = Geometry::new(piece_len, lens.clone()).unwrap();
            let mut seen: Vec<(usize, u64)> = Vec::new();
            for piece in geometry.pieces() {
                let spans: Vec<_> = geometry.piece_spans(piece).collect();
                prop_assert_eq!(spans.iter().map(|s| s.len).sum::<u64>(), u64::from(geometry.len_of(piece)));
                seen.extend(spans.iter().flat_map(|s| (0..s.len).map(|i| (s.file_index, s.offset + i))));
            }
            let all: Vec<(usize, u64)> =
                lens.iter().enumerate().flat_map(|(i, &len)| (0..len).map(move |at| (i, at))).collect();
            prop_assert_eq!(seen, all);
            for file_index in 0..lens.len() {
                let touching: Vec<u32> = geometry.pieces()
                    .filter(|&p| geometry.piece_spans(p).any(|s| s.file_index == file_index))
                    .map(PieceIndex::get).collect();
                prop_assert_eq!(geometry.pieces_of_file(file_index).collect::<Vec<_>>(), touching);
                for (offset, len) in [(0, 1), (1, 50), (119, u64::MAX), (120, 1)] {
                    let end = len.saturating_add(offset);
                    let touching: Vec<u32> = geometry.pieces()
                        .filter(|&p| geometry.piece_spans(p)
                            .any(|s| s.file_index == file_index && s.offset < end && s.offset + s.len > offset))
                        .map(PieceIndex::get).collect();
                    let span = FileSpan { file_index, offset, len };
                    prop_assert_eq!(geometry.pieces_of_span(span).collect::<Vec<_>>(), touching);
                }
            }
        }
    }
}
