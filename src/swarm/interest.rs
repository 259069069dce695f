//! Interest (BEP 3): which of our pieces were announced to the peer, and how many of its pieces we want.

use super::open_piece::PieceMemory;
use super::peer_shared::PeerShared;
use super::pieces::{HaveSnapshot, Pieces};
use super::shared::Swarm;
use crate::base::{Bitfield, PieceIndex};
use crate::peer::Connection;

/// One connection's interest (BEP 3): which of our pieces were announced to the peer, and how many of its pieces we
/// want.
#[derive(Debug)]
pub(super) struct Interest {
    /// The entries of the have log before this one were announced to the peer.
    log_cursor: usize,
    /// Pieces that were announced to the peer, or that we neither fetch nor announce. `None` while the have log alone
    /// determines them.
    settled: Option<Bitfield>,
    /// Pieces that the peer has announced and that are not counted yet.
    pending_haves: Vec<PieceIndex>,
    /// Pieces that the peer has, and that we want and lack.
    wanted_count: u32,
    recounts_seen: u32,
}

/// The peer announced a piece that we want and lack.
#[derive(Clone, Copy, Debug)]
pub(super) enum NewHave {
    /// No connection has opened it.
    Missing(PieceIndex),
    /// It is open, and blocks of it may be unclaimed.
    Shareable,
}

impl Interest {
    /// `have` is announced to the peer at first, `recounts` is the value of [`Pieces::recounts`] before it was taken.
    pub(super) fn new(have: &HaveSnapshot, recounts: u32) -> Self {
        Self {
            log_cursor: have.log_cursor,
            settled: (recounts > 0).then(|| have.settled.as_ref().unwrap_or(&have.have).clone()),
            pending_haves: Vec::new(),
            wanted_count: 0,
            recounts_seen: recounts,
        }
    }

    /// The peer has pieces that we want and lack.
    pub(super) fn is_interested(&self) -> bool {
        self.wanted_count > 0
    }

    /// Pieces that the peer announces are appended here, and counted by [`Self::count_pending`].
    pub(super) fn pending_haves(&mut self) -> &mut Vec<PieceIndex> {
        &mut self.pending_haves
    }

    /// Whether we want the piece and lack it, as far as this connection has read the have log: `wanted_count` follows
    /// that alone.
    pub(super) fn lacks<S: PieceMemory>(&self, pieces: &Pieces<S>, piece: PieceIndex) -> bool {
        match &self.settled {
            None => !pieces.is_logged(piece, self.log_cursor),
            Some(settled) => !settled.contains(piece),
        }
    }

    /// Counts the pieces that the peer has announced since the last call. Many are counted in one pass: the memory to
    /// read is scattered, so the processor fetches it in parallel. `counted_for`: the peer whose pieces they are, unless
    /// another connection counts these for the swarm.
    pub(super) fn count_pending<S: PieceMemory>(
        &mut self,
        swarm: &Swarm<S>,
        connection: &mut Connection,
        counted_for: Option<&PeerShared>,
        mut on_new: impl FnMut(NewHave),
    ) {
        if self.pending_haves.is_empty() {
            return;
        }
        let pending = std::mem::take(&mut self.pending_haves);
        for &piece in &pending {
            if self.lacks(&swarm.pieces, piece) {
                self.wanted_count += 1;
                if swarm.pieces.is_missing(piece) {
                    on_new(NewHave::Missing(piece));
                } else if swarm.pieces.is_shareable(piece) {
                    on_new(NewHave::Shareable);
                }
            }
        }
        if let Some(peer) = counted_for {
            let availability = &swarm.availability;
            if pending.len() > 1 && pending.len() == connection.peer_have().piece_count() {
                availability.add_set(connection.peer_have());
            } else {
                pending.iter().for_each(|&piece| availability.add(piece));
                if connection.peer_has_all() {
                    availability.complete(swarm.geometry.piece_count());
                }
            }
            peer.count_haves(pending.len());
        }
        connection.set_interested(self.is_interested());
        self.pending_haves = pending;
        self.pending_haves.clear();
    }

    /// Announces the pieces that we got since the last call, as far as the peer reads.
    pub(super) fn announce<S: PieceMemory>(&mut self, swarm: &Swarm<S>, connection: &mut Connection) {
        while !connection.is_backlogged()
            && let Some(piece) = swarm.pieces.next_have(&mut self.log_cursor)
        {
            self.settle(swarm, connection, piece);
        }
        let recounts = swarm.pieces.recounts();
        if recounts != self.recounts_seen && !connection.is_backlogged() {
            self.recounts_seen = recounts;
            self.recount(swarm, connection);
        }
    }

    fn settle<S: PieceMemory>(&mut self, swarm: &Swarm<S>, connection: &mut Connection, piece: PieceIndex) {
        if self.settled.as_mut().is_none_or(|settled| settled.insert(piece)) {
            if swarm.pieces.has(piece) {
                connection.have(piece);
            }
            self.wanted_count -= u32::from(connection.peer_have().contains(piece));
        }
    }

    /// Examines every piece: the have log does not contain pieces that were lost, or fetched again.
    fn recount<S: PieceMemory>(&mut self, swarm: &Swarm<S>, connection: &mut Connection) {
        let Swarm { geometry, pieces, .. } = swarm;
        let mut settled = self.settled.take().unwrap_or_else(|| {
            let mut settled = Bitfield::new(geometry.piece_count());
            let logged = geometry.pieces().filter(|&piece| pieces.is_logged(piece, self.log_cursor));
            logged.for_each(|piece| _ = settled.insert(piece));
            settled
        });
        for piece in geometry.pieces().filter(|&piece| pieces.is_lacking(piece)) {
            settled.remove(piece);
        }
        self.settled = Some(settled);
        let of_peer = connection.peer_have().iter().filter_map(|index| geometry.piece(u32::try_from(index).ok()?));
        let wanted = of_peer.filter(|&piece| self.lacks(pieces, piece)).count();
        self.wanted_count = u32::try_from(wanted).unwrap_or(u32::MAX);
        for piece in geometry.pieces().filter(|&piece| !pieces.is_lacking(piece)) {
            self.settle(swarm, connection, piece);
        }
    }
}
