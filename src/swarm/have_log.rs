//! The have log: the pieces that we got since the start, in order. Append-only; each connection reads it without a
//! lock, with a cursor of its own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::base::lock::lock;
use crate::base::{Geometry, PieceIndex};

/// The place of a piece that is not in the log.
const NOT_LOGGED: u32 = u32::MAX;

/// The pieces that we got since the start, in order. Append-only and read without a lock.
#[derive(Debug)]
pub(super) struct HaveLog {
    /// Piece indices: room for the pieces that were missing at the start.
    entries: Box<[AtomicU32]>,
    /// For each piece its place in `entries` plus 1, or 0 if we did not lack it at the start. Empty if we lacked none.
    places: Box<[AtomicU32]>,
    /// The number of written entries.
    len: AtomicU32,
    append: Mutex<()>,
}

impl HaveLog {
    /// `lacking` returns whether a piece is wanted and lacking at the start.
    pub(super) fn new(geometry: &Geometry, lacking: impl Fn(PieceIndex) -> bool) -> Self {
        let zeros = |count: u32| (0..count).map(|_| AtomicU32::new(0)).collect::<Box<[AtomicU32]>>();
        let left = geometry.pieces().filter(|&piece| lacking(piece)).fold(0, |count, _| count + 1);
        let places = zeros(if left > 0 { geometry.piece_count() } else { 0 });
        for piece in geometry.pieces().filter(|&piece| lacking(piece)) {
            places[piece.at()].store(NOT_LOGGED, Ordering::Relaxed);
        }
        Self { entries: zeros(left), places, len: AtomicU32::new(0), append: Mutex::default() }
    }

    /// The place after the last entry.
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire) as usize
    }

    /// Returns false if there is no room, because some pieces were lost and fetched again.
    pub(super) fn append(&self, piece: PieceIndex) -> bool {
        let _guard = lock(&self.append);
        let at = self.len.load(Ordering::Relaxed);
        let Some(entry) = self.entries.get(at as usize) else { return false };
        entry.store(piece.get(), Ordering::Relaxed);
        if let Some(place) = self.places.get(piece.at()) {
            place.store(at + 1, Ordering::Release);
        }
        self.len.store(at + 1, Ordering::Release);
        true
    }

    /// The entry at `cursor`, which it advances.
    pub(super) fn next(&self, geometry: &Geometry, cursor: &mut usize) -> Option<PieceIndex> {
        let entry = self.entries.get(*cursor).filter(|_| *cursor < self.len())?;
        *cursor += 1;
        geometry.piece(entry.load(Ordering::Relaxed))
    }

    /// Whether we did not lack the piece at the start, or it is in the log before `cursor`.
    pub(super) fn contains(&self, piece: PieceIndex, cursor: usize) -> bool {
        let place = self.places.get(piece.at()).map_or(0, |place| place.load(Ordering::Acquire));
        place != NOT_LOGGED && place as usize <= cursor
    }

    /// We lost the piece. Its entry stays.
    pub(super) fn forget(&self, piece: PieceIndex) {
        if let Some(place) = self.places.get(piece.at()) {
            place.store(NOT_LOGGED, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_before_a_cursor_differ_from_those_after_it() {
        let geometry = Geometry::new(1, [4]).unwrap();
        let piece = |index| geometry.piece(index).unwrap();
        let log = HaveLog::new(&geometry, |lacking| lacking != piece(2));
        assert!(log.append(piece(3)) && log.append(piece(0)));
        let contained = |cursor| geometry.pieces().map(|piece| log.contains(piece, cursor)).collect::<Vec<_>>();
        assert_eq!(contained(0), [false, false, true, false]);
        assert_eq!(contained(1), [false, false, true, true]);
        assert_eq!(contained(2), [true, false, true, true]);
        let mut cursor = 1;
        assert_eq!((log.next(&geometry, &mut cursor), log.next(&geometry, &mut cursor)), (Some(piece(0)), None));
        log.forget(piece(3));
        assert_eq!(contained(2), [true, false, true, false]);
        assert!(log.append(piece(1)) && !log.append(piece(3)), "room for the pieces that were missing");
    }

    #[test]
    fn threads_read_each_entry_whole_and_in_order() {
        const COUNT: u32 = if cfg!(miri) { 20 } else { 2000 };
        let geometry = Geometry::new(1, [u64::from(COUNT)]).unwrap();
        let log = HaveLog::new(&geometry, |_| true);
        let read = || {
            let (mut cursor, mut seen) = (0, Vec::new());
            while seen.len() < COUNT as usize {
                let Some(piece) = log.next(&geometry, &mut cursor) else {
                    std::thread::yield_now();
                    continue;
                };
                assert!(log.contains(piece, cursor) && !log.contains(piece, cursor - 1));
                seen.push(piece.get());
            }
            seen
        };
        std::thread::scope(|scope| {
            let readers = [(); 2].map(|()| scope.spawn(read));
            for part in 0..2 {
                let log = &log;
                let pieces = geometry.pieces().filter(move |piece| piece.get() % 2 == part);
                scope.spawn(move || pieces.for_each(|piece| assert!(log.append(piece))));
            }
            let [first, second] = readers.map(|reader| reader.join().unwrap());
            assert_eq!(first, second);
            assert_eq!(first.iter().collect::<std::collections::BTreeSet<_>>().len(), COUNT as usize);
        });
    }

    #[test]
    fn a_seeder_has_every_piece_from_the_start() {
        let geometry = Geometry::new(1, [3]).unwrap();
        let log = HaveLog::new(&geometry, |_| false);
        assert!(geometry.pieces().all(|piece| log.contains(piece, 0)) && log.len() == 0);
    }
}
