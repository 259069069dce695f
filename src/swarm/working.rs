//! The pieces in which a connection has claims, and what becomes of the claims: blocks that arrive, requests that are taken
//! back, pieces that are left.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::link::Link;
use super::pieces::{OpenPiece, Slot};
use crate::base::geometry::BLOCK_LEN;
use crate::base::{BlockRef, PieceIndex, Time};
use crate::peer::{BlockArrival, PeerFault};

/// An open piece this connection has claims in.
#[derive(Debug)]
pub(super) struct Work<S: Slot> {
    /// Beside it, so that to look for a piece touches no other.
    pub(super) piece: PieceIndex,
    pub(super) open: Arc<OpenPiece<S>>,
    /// Our mark as its sender.
    pub(super) mark: u16,
    pub(super) outstanding: u32,
}

impl<S: Slot> Work<S> {
    pub(super) fn new(open: Arc<OpenPiece<S>>, mark: u16) -> Self {
        Self { piece: open.piece(), open, mark, outstanding: 0 }
    }
}

/// A block that has arrived, to be landed in its piece's slot.
#[derive(Debug)]
pub struct Arrival<S: Slot> {
    pub block: BlockRef,
    /// None when the block is not wanted any more.
    pub open: Option<Arc<OpenPiece<S>>>,
    /// From request to block, when it was an outstanding request.
    pub latency: Option<Duration>,
}
impl<S: Slot> Link<S> {
    /// A whole block has arrived: the caller lands it in the slot of `open` and then calls [`Self::handle_landed`].
    pub fn handle_block(&mut self, now: Time, index: u32, begin: u32, length: u32) -> Result<Arrival<S>, PeerFault> {
        let unrequested = PeerFault::Unrequested { index, begin, length };
        let block = self.swarm.geometry.span(index, begin, length).ok_or(unrequested)?;
        let latency = match self.connection.handle_block(now, block)? {
            BlockArrival::Expected { latency } => Some(latency),
            BlockArrival::Late => None,
        };
        self.rejects = 0;
        self.shared.snubbed.store(self.connection.is_snubbed(), Ordering::Relaxed);
        let work = self.working.iter_mut().find(|work| work.piece == block.piece);
        let open = match work {
            Some(work) => {
                work.outstanding -= u32::from(latency.is_some() && work.outstanding > 0);
                Some(work.open.clone())
            }
            // Of a peer that brought nothing right yet only what it is asked for now: else it could spoil a piece with each choke.
            None if self.shared.proven.load(Ordering::Relaxed) => self.swarm.pieces.find_open(block.piece),
            None => None,
        };
        let on_grid = self.swarm.geometry.block(block.piece, begin / BLOCK_LEN) == Some(block);
        Ok(Arrival { block, open: open.filter(|open| on_grid && !open.is_retired()), latency })
    }

    /// The blocks the peer owes, in the order in which it should send them, each with its open piece while that is wanted.
    pub fn expected(&self) -> impl Iterator<Item = (BlockRef, Option<&OpenPiece<S>>)> {
        self.connection.outstanding().map(|request| {
            let work = self.working.iter().find(|work| work.piece == request.block.piece);
            (request.block, work.map(|work| &*work.open).filter(|open| !open.is_retired()))
        })
    }

    /// Nothing is on its way to this connection, and nothing is left to ask for.
    pub fn is_finishing(&self) -> bool {
        self.connection.outstanding_count() == 0 && self.swarm.pieces.is_endgame()
    }

    /// The block was put into the slot (`landed`), or was there already or is not wanted.
    /// True when the piece is complete: not when its last block has landed, but when the sender of each block is stored.
    pub fn handle_landed(&mut self, now: Time, arrival: &Arrival<S>, landed: bool) -> bool {
        let len = u64::from(arrival.block.len);
        self.shared.downloaded.fetch_add(len, Ordering::Relaxed);
        let Some(open) = arrival.open.as_ref().filter(|_| landed) else {
            self.swarm.totals.wasted.fetch_add(len, Ordering::Relaxed);
            self.leave_finished();
            return false;
        };
        self.swarm.totals.downloaded.fetch_add(len, Ordering::Relaxed);
        open.touch(now);
        self.overtaken = false;
        self.unproven += usize::from(!self.shared.proven.load(Ordering::Relaxed));
        let working = self.working.iter().find(|work| Arc::ptr_eq(&work.open, open)).map(|work| work.mark);
        let mark = working.unwrap_or_else(|| {
            let mark = open.join(&self.shared);
            self.swarm.pieces.leave(open);
            mark
        });
        let receipt = open.handle_received(arrival.block.block_index(), mark, arrival.latency.is_some());
        if receipt.others_claim {
            self.swarm.pieces.count_double();
        }
        if self.working.iter().any(|work| work.outstanding == 0) {
            self.leave_finished();
        }
        receipt.completes
    }

    /// Leaves the pieces in which nothing is outstanding and nothing can be claimed.
    pub(super) fn leave_finished(&mut self) {
        self.leave(|open| open.is_retired() || !open.has_unclaimed());
    }

    /// Leaves the pieces in which nothing is outstanding and for which `done` holds.
    fn leave(&mut self, done: impl Fn(&OpenPiece<S>) -> bool) {
        let swarm = &self.swarm;
        self.working.retain(|work| {
            let stay = work.outstanding > 0 || !done(&work.open);
            if !stay {
                swarm.pieces.leave(&work.open);
            }
            stay
        });
    }

    /// Gives claims back.
    pub(super) fn release(&mut self, blocks: &[BlockRef]) {
        for &block in blocks {
            if let Some(work) = self.working.iter_mut().find(|work| work.piece == block.piece) {
                work.outstanding = work.outstanding.saturating_sub(1);
                work.open.release(block);
                self.swarm.pieces.handle_unclaimed(&work.open);
            }
        }
        // Others may go on with them; a choked or snubbed connection must not keep them.
        self.leave(|_| true);
    }

    /// BEP 3: in the endgame "it sends cancels to everyone else every time a piece arrives".
    pub(super) fn cancel_received(&mut self) {
        let doubles = self.swarm.pieces.doubles_received();
        if doubles == self.doubles_seen {
            return;
        }
        self.doubles_seen = doubles;
        let working = &mut self.working;
        let arrived = |block: BlockRef| {
            let work = working.iter().find(|work| work.piece == block.piece);
            work.is_none_or(|work| work.open.is_retired() || work.open.is_received(block.block_index()))
        };
        let void: Vec<BlockRef> =
            self.connection.outstanding().map(|request| request.block).filter(|&block| arrived(block)).collect();
        for block in void {
            self.connection.cancel(block);
            self.overtaken = true;
            if let Some(work) = self.working.iter_mut().find(|work| work.piece == block.piece) {
                work.outstanding = work.outstanding.saturating_sub(1);
            }
        }
        self.leave_finished();
    }
}
