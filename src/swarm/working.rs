//! The open pieces in which one connection has claims.

use std::sync::Arc;

use super::open_piece::{BlockSource, OpenPiece, PieceMemory};
use super::pieces::Pieces;
use crate::base::{BlockRef, PieceIndex};

/// An open piece in which the connection has claims.
#[derive(Debug)]
pub(super) struct Work<S: PieceMemory> {
    /// Kept beside the piece, so that a search touches no other memory.
    pub(super) piece: PieceIndex,
    pub(super) open: Arc<OpenPiece<S>>,
    /// This connection as the source of its blocks.
    source: BlockSource,
    /// Requests for its blocks that the peer has not answered.
    outstanding: u32,
}

/// The open pieces in which one connection has claims. Every piece was joined ([`OpenPiece::join`]) and is left when it
/// is removed.
#[derive(Debug)]
pub(super) struct Working<S: PieceMemory>(Vec<Work<S>>);

impl<S: PieceMemory> Default for Working<S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<S: PieceMemory> Working<S> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Work<S>> {
        self.0.iter()
    }

    pub(super) fn find(&self, piece: PieceIndex) -> Option<&Work<S>> {
        self.0.iter().find(|work| work.piece == piece)
    }

    fn find_mut(&mut self, piece: PieceIndex) -> Option<&mut Work<S>> {
        self.0.iter_mut().find(|work| work.piece == piece)
    }

    /// This connection as the source of blocks of this very piece.
    pub(super) fn source_in(&self, open: &Arc<OpenPiece<S>>) -> Option<BlockSource> {
        self.0.iter().find(|work| Arc::ptr_eq(&work.open, open)).map(|work| work.source)
    }

    /// The connection has joined the piece and is this source of its blocks.
    pub(super) fn insert(&mut self, open: Arc<OpenPiece<S>>, source: BlockSource) {
        self.0.push(Work { piece: open.piece(), open, source, outstanding: 0 });
    }

    /// A block of the piece was requested.
    pub(super) fn handle_requested(&mut self, piece: PieceIndex) {
        if let Some(work) = self.find_mut(piece) {
            work.outstanding += 1;
        }
    }

    /// A request was answered, or withdrawn while other connections keep their claim.
    pub(super) fn handle_settled(&mut self, piece: PieceIndex) {
        if let Some(work) = self.find_mut(piece) {
            work.outstanding = work.outstanding.saturating_sub(1);
        }
    }

    /// Some piece has no outstanding request.
    pub(super) fn has_idle(&self) -> bool {
        self.0.iter().any(|work| work.outstanding == 0)
    }

    /// Leaves the pieces in which nothing is outstanding and nothing can be claimed.
    pub(super) fn leave_finished(&mut self, pieces: &Pieces<S>) {
        self.leave(pieces, |open| open.is_retired() || !open.has_unclaimed());
    }

    /// Leaves the pieces in which nothing is outstanding and for which `is_done` holds.
    fn leave(&mut self, pieces: &Pieces<S>, is_done: impl Fn(&OpenPiece<S>) -> bool) {
        self.0.retain(|work| {
            let stays = work.outstanding > 0 || !is_done(&work.open);
            if !stays {
                pieces.leave(&work.open);
            }
            stays
        });
    }

    /// Gives claims back, and with them the pieces in which nothing is left outstanding: a choked or snubbed connection
    /// must not keep them from other connections.
    pub(super) fn release(&mut self, pieces: &Pieces<S>, blocks: &[BlockRef]) {
        for &block in blocks {
            if let Some(work) = self.find_mut(block.piece) {
                work.outstanding = work.outstanding.saturating_sub(1);
                work.open.release(block);
                pieces.handle_unclaimed(&work.open);
            }
        }
        self.leave(pieces, |_| true);
    }

    /// The connection ends.
    pub(super) fn leave_all(&mut self, pieces: &Pieces<S>) {
        self.0.drain(..).for_each(|work| pieces.leave(&work.open));
    }
}
