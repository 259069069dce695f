//! The life of a piece, in one thread and in several.

use std::collections::HashSet;

use super::super::PeerShared;
use super::*;
use crate::base::BlockRef;
use crate::base::geometry::BLOCK_LEN;

#[derive(Debug, Default)]
struct Memory {
    /// The buffer is still read.
    busy: bool,
}

impl PieceMemory for Memory {
    fn clear(&mut self, _piece_len: u32) -> bool {
        !self.busy
    }
}

fn pieces(piece_count: u32, blocks_per_piece: u32, buffers: Vec<Memory>) -> Pieces<Memory> {
    let piece_len = blocks_per_piece * BLOCK_LEN;
    let geometry = Geometry::new(piece_len, [u64::from(piece_count) * u64::from(piece_len)]).unwrap();
    Pieces::new(Arc::new(geometry), &Bitfield::new(piece_count), None, buffers)
}

fn memory(count: usize) -> Vec<Memory> {
    (0..count).map(|_| Memory::default()).collect()
}

fn peer(key: u32) -> Arc<PeerShared> {
    Arc::new(PeerShared::new(key, ([127, 0, 0, 1], 6881).into()))
}

impl Pieces<Memory> {
    fn open_at(&self, index: u32) -> Option<Arc<OpenPiece<Memory>>> {
        self.open(self.geometry.piece(index).unwrap())
    }

    fn claim_all(&self, open: &OpenPiece<Memory>) -> Vec<BlockRef> {
        let mut claims = Vec::new();
        open.claim(&self.geometry, usize::MAX >> 1, &mut claims);
        claims
    }

    fn claim_duplicates(&self, open: &OpenPiece<Memory>, askers_max: u16) -> usize {
        let mut claims = Vec::new();
        open.claim_duplicates(&self.geometry, usize::MAX, askers_max, &mut claims);
        claims.len()
    }

    fn log(&self) -> Vec<u32> {
        let mut cursor = 0;
        std::iter::from_fn(|| self.next_have(&mut cursor)).map(PieceIndex::get).collect()
    }
}

#[test]
fn a_piece_is_opened_once_and_while_there_are_buffers() {
    let pieces = pieces(3, 1, memory(2));
    let first = pieces.open_at(0).unwrap();
    assert!(pieces.open_at(0).is_none());
    assert_eq!(pieces.free_buffers(), 1);
    let _second = pieces.open_at(1).unwrap();
    assert!(pieces.open_at(2).is_none());
    assert!(!pieces.is_endgame());
    pieces.handle_written(&first);
    drop(first);
    let _third = pieces.open_at(2).unwrap();
    assert!(pieces.is_endgame(), "nothing is left to open");
}

#[test]
fn the_have_log_is_in_the_order_of_writing() {
    let pieces = pieces(5, 1, memory(5));
    for index in [3, 0, 4] {
        pieces.handle_written(&pieces.open_at(index).unwrap());
    }
    assert_eq!(pieces.log(), [3, 0, 4]);
    let HaveSnapshot { have, log_cursor: cursor, .. } = pieces.have_snapshot();
    assert_eq!((have.iter().collect::<Vec<_>>(), cursor), (vec![0, 3, 4], 3));
    assert_eq!(pieces.left(), 2 * u64::from(BLOCK_LEN));
    assert_eq!(pieces.missing().count(), 2);
}

#[test]
fn a_failed_piece_is_missing_again_and_its_senders_are_returned() {
    let pieces = pieces(1, 3, memory(1));
    let open = pieces.open_at(0).unwrap();
    let (first, second, idle) = (peer(1), peer(2), peer(3));
    let sources = [&first, &second, &idle, &first].map(|peer| open.join(peer));
    assert_eq!(sources[0], sources[3], "one peer, one source");
    open.handle_received(0, sources[0], true);
    open.handle_received(1, sources[1], true);
    open.handle_received(2, sources[0], true);
    let mut senders: Vec<u32> = pieces.handle_failed(Time::ZERO, &open).senders.iter().map(|peer| peer.key()).collect();
    senders.sort_unstable();
    assert_eq!(senders, [1, 2]);
    assert!(open.is_retired() && pieces.open_list().is_empty());
    drop(open);
    assert!(pieces.is_missing(pieces.geometry.piece(0).unwrap()) && !pieces.is_endgame());
    let again = pieces.open_at(0).unwrap();
    assert_eq!(pieces.claim_all(&again).len(), 3);
}

/// A block of one connection arrives, and before its sender is stored another connection delivers the last block.
#[test]
fn a_piece_is_judged_when_every_sender_is_stored() {
    let pieces = pieces(1, 2, memory(1));
    let open = pieces.open_at(0).unwrap();
    let sources = [1, 2].map(|key| open.join(&peer(key)));
    assert!(!open.handle_received(1, sources[1], true).completes);
    assert!(!open.handle_received(1, sources[1], true).completes, "counted once");
    assert!(open.handle_received(0, sources[0], true).completes);
    assert_eq!(open.verdict().senders.len(), 2);
}

#[test]
fn a_buffer_that_cannot_be_cleared_yet_is_not_lost() {
    let pieces = pieces(2, 1, vec![Memory { busy: true }, Memory::default(), Memory { busy: true }]);
    let open = pieces.open_at(0).unwrap();
    assert!(pieces.open_at(1).is_none());
    assert_eq!(pieces.free_buffers(), 2);
    pieces.buffers.lock().iter_mut().for_each(|buffer| buffer.busy = false);
    pieces.handle_failed(Time::ZERO, &pieces.open_at(1).unwrap());
    pieces.handle_failed(Time::ZERO, &open);
    drop(open);
    assert_eq!(pieces.free_buffers(), 3);
}

#[test]
fn a_block_may_be_claimed_again_after_every_claim_is_released() {
    let pieces = pieces(1, 2, memory(1));
    let open = pieces.open_at(0).unwrap();
    let claims = pieces.claim_all(&open);
    assert!(!open.has_unclaimed());
    assert_eq!(pieces.claim_duplicates(&open, 2), 2);
    assert_eq!(pieces.claim_duplicates(&open, 2), 0, "two connections have claims already");
    open.release(claims[0]);
    assert!(!open.has_unclaimed(), "the other claim stays");
    open.release(claims[0]);
    assert_eq!(pieces.claim_all(&open), [claims[0]]);
    assert_eq!(pieces.claim_duplicates(&open, 3), 2);
}

#[test]
fn a_received_block_is_not_claimed_again() {
    let pieces = pieces(1, 2, memory(1));
    let open = pieces.open_at(0).unwrap();
    let claims = pieces.claim_all(&open);
    assert_eq!(pieces.claim_duplicates(&open, 2), 2);
    let source = open.join(&peer(1));
    assert!(open.handle_received(0, source, true).is_claimed_elsewhere, "another connection has a claim too");
    open.release(claims[0]);
    open.release(claims[0]);
    assert!(!open.has_unclaimed());
    assert_eq!(pieces.claim_duplicates(&open, 9), 1);
    // The block arrives late, after its claim was released and taken by another connection.
    open.release(claims[1]);
    open.release(claims[1]);
    assert!(open.handle_received(1, source, false).is_claimed_elsewhere);
}

#[test]
fn pieces_without_a_worker_are_shared_first() {
    let pieces = pieces(3, 2, memory(3));
    let found = |pieces: &Pieces<Memory>| pieces.find_shareable(|_| true).map(|open| open.piece().get());
    let open: Vec<_> = (0..3).map(|index| pieces.open_at(index).unwrap()).collect();
    for open in &open {
        open.join(&peer(1));
        pieces.claim_all(open);
    }
    assert_eq!(pieces.shareable(), 0);
    for at in [1, 2] {
        open[at].release(pieces.geometry.block(open[at].piece(), 0).unwrap());
        pieces.handle_unclaimed(&open[at]);
    }
    assert!(found(&pieces).is_some_and(|index| index > 0));
    pieces.leave(&open[1]);
    assert_eq!(found(&pieces), Some(1));
    assert!(pieces.find_shareable(|_| false).is_none() && pieces.shareable() > 0);
    pieces.claim_all(&open[1]);
    pieces.claim_all(&open[2]);
    assert!(found(&pieces).is_none());
    assert_eq!(pieces.shareable(), 0, "no connection has to search again");
}

#[test]
fn a_lost_piece_is_missing_again_and_counted_once() {
    let pieces = pieces(2, 1, memory(2));
    let piece = pieces.geometry.piece(0).unwrap();
    for index in [0, 1] {
        pieces.handle_written(&pieces.open_at(index).unwrap());
    }
    assert!(pieces.is_complete());
    let recounts = pieces.recounts();
    pieces.handle_lost(piece);
    pieces.handle_lost(piece);
    assert_eq!((pieces.have_count(), pieces.missing().count()), (1, 1));
    let open = pieces.open_at(0).unwrap();
    pieces.handle_lost(piece);
    assert!(pieces.is_endgame(), "the piece is open");
    pieces.handle_written(&open);
    assert!(pieces.is_complete());
    assert!(pieces.recounts() > recounts && pieces.take_lost() && !pieces.take_lost());
    assert_eq!(pieces.log(), [0, 1], "the log has no room for the piece");
}

/// Four threads claim, release and receive blocks in any order: exactly one of them receives each block.
#[test]
fn threads_claim_each_block_once() {
    const BLOCKS: u32 = if cfg!(miri) { 10 } else { 150 };
    let pieces = pieces(8, BLOCKS, memory(8));
    let open: Vec<_> = (0..8).map(|index| pieces.open_at(index).unwrap()).collect();
    let work = |seed: u64| {
        let (pieces, open) = (&pieces, &open);
        move || {
            let mut rng = crate::base::Rng::with_seed(seed);
            let mut landed = Vec::new();
            while open.iter().any(|open| open.has_unclaimed()) {
                let open = &open[rng.usize(..open.len())];
                let source = open.join(&peer(u32::try_from(seed).unwrap()));
                let mut claims = Vec::new();
                open.claim(&pieces.geometry, rng.usize(1..20), &mut claims);
                for block in claims {
                    if rng.u32(..3) == 0 {
                        open.release(block);
                    } else {
                        open.handle_received(block.block_index(), source, true);
                        landed.push(block);
                    }
                }
                pieces.leave(open);
            }
            landed
        }
    };
    let landed: Vec<BlockRef> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|seed| scope.spawn(work(seed))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(landed.len(), 8 * BLOCKS as usize);
    assert_eq!(landed.iter().copied().collect::<HashSet<_>>().len(), landed.len());
    assert!(
        open.iter()
            .all(|open| open.is_orphan() && open.blocks.iter().all(|block| block.askers.load(Ordering::Relaxed) == 1))
    );
}

#[test]
fn threads_open_each_piece_once_and_log_every_have() {
    const COUNT: u32 = if cfg!(miri) { 12 } else { 400 };
    let pieces = pieces(COUNT, 1, memory(5));
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let pieces = &pieces;
            scope.spawn(move || {
                let mut rng = crate::base::Rng::with_seed(seed);
                while !pieces.is_complete() {
                    let Some(open) = pieces.open_at(rng.u32(..COUNT)) else { continue };
                    if rng.u32(..4) == 0 {
                        pieces.handle_failed(Time::ZERO, &open);
                    } else {
                        pieces.handle_written(&open);
                    }
                }
            });
        }
    });
    let mut log = pieces.log();
    log.sort_unstable();
    assert_eq!(log, (0..COUNT).collect::<Vec<_>>());
    assert_eq!((pieces.free_buffers(), pieces.counts.missing.load(Ordering::Relaxed)), (5, 0));
}
