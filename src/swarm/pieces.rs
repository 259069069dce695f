//! The life of each piece: missing → open (blocks claimed and received) → on disk, or missing again; see
//! [`PieceState`].
//!
//! Blocks are claimed and marked by compare-and-swap; locks are taken once per piece, never per block. We have a piece
//! only once it was verified and its bytes were written. It is then appended to the have log, which every connection
//! reads on its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::have_log::HaveLog;
use super::open_piece::BufferPool;
pub use super::open_piece::{HashOutcome, OpenPiece, PieceMemory, Verdict};
use super::piece_state::{AtomicPieceState, PieceState};
use super::selection::Selection;
use crate::base::geometry::BLOCK_LEN;
use crate::base::lock::lock;
use crate::base::{Bitfield, Geometry, PieceIndex, Time, limits};

/// The pieces of one torrent; see the module.
#[derive(Debug)]
pub struct Pieces<S: PieceMemory> {
    geometry: Arc<Geometry>,
    states: Box<[AtomicPieceState]>,
    counts: Counts,
    /// `None`: every piece is wanted.
    selection: Option<Selection>,
    /// Counts the blocks that arrived while other connections had requested them too, and the pieces that were finished
    /// while a connection worked on them.
    duplicates_received: AtomicU64,
    log: HaveLog,
    losses: Losses,
    open: RwLock<Vec<Listed<S>>>,
    /// Counts the events that may have left blocks of an open piece unclaimed, since a search last found none.
    shareable: AtomicU32,
    /// Counts the pieces that became missing again.
    reopened: AtomicU32,
    /// For missing pieces, when they last failed their hash; at most [`limits::FAILED_PIECES_KEPT_MAX`].
    recently_failed: Mutex<BTreeMap<PieceIndex, Time>>,
    buffer_count: usize,
    buffers: Arc<BufferPool<S>>,
    can_receive: bool,
}

/// The progress of the transfer.
#[derive(Debug)]
struct Counts {
    /// The number of pieces that we have.
    have: AtomicU32,
    /// The number of wanted pieces that no connection has opened.
    missing: AtomicU32,
    /// The number of wanted pieces that are neither on disk nor partly written.
    unfinished: AtomicU32,
    /// The wanted bytes of the unfinished pieces.
    unfinished_len: AtomicU64,
}

/// Pieces that we had and lost.
#[derive(Debug, Default)]
struct Losses {
    /// Counts the changes that the have log does not contain.
    recounts: AtomicU32,
    /// A piece was lost since the last [`Pieces::take_lost`].
    is_new: AtomicBool,
    /// Pieces that were ever lost.
    pieces: Mutex<BTreeSet<u32>>,
}

/// An open piece with its index beside it, so that a search touches no other memory.
#[derive(Debug)]
struct Listed<S: PieceMemory> {
    piece: PieceIndex,
    open: Arc<OpenPiece<S>>,
}

/// The pieces that we have at one moment.
#[derive(Debug)]
pub(super) struct HaveSnapshot {
    pub(super) have: Bitfield,
    /// `have` with the pieces of [`Pieces::is_excluded`]; `None` without a selection.
    pub(super) settled: Option<Bitfield>,
    /// The entries of the have log before this one are in `have`.
    pub(super) log_cursor: usize,
}

impl<S: PieceMemory> Pieces<S> {
    /// Starts with the pieces that are on disk and verified. At most as many pieces as there are `buffers` are open at
    /// a time.
    pub(super) fn new(geometry: Arc<Geometry>, have: &Bitfield, selection: Option<Selection>, buffers: Vec<S>) -> Self {
        let (mut left, mut left_len) = (0, 0);
        let state = |piece| match &selection {
            _ if have.contains(piece) => PieceState::Have,
            Some(selection) if !selection.is_wanted(piece) => PieceState::NotWanted,
            _ => {
                left += 1;
                left_len += wanted_len(&geometry, selection.as_ref(), piece);
                PieceState::Missing
            }
        };
        let states: Box<[AtomicPieceState]> = geometry.pieces().map(state).map(AtomicPieceState::new).collect();
        let have_count = u32::try_from(have.count()).unwrap_or(u32::MAX);
        let lacking =
            |piece: PieceIndex| states.get(piece.at()).is_some_and(|state| state.get() == PieceState::Missing);
        Self {
            log: HaveLog::new(&geometry, lacking),
            states,
            selection,
            counts: Counts {
                have: AtomicU32::new(have_count),
                missing: AtomicU32::new(left),
                unfinished: AtomicU32::new(left),
                unfinished_len: AtomicU64::new(left_len),
            },
            duplicates_received: AtomicU64::new(0),
            losses: Losses::default(),
            can_receive: !buffers.is_empty(),
            open: RwLock::default(),
            shareable: AtomicU32::new(0),
            reopened: AtomicU32::new(0),
            recently_failed: Mutex::default(),
            buffer_count: buffers.len(),
            buffers: Arc::new(BufferPool::new(buffers)),
            geometry,
        }
    }

    fn state(&self, piece: PieceIndex) -> PieceState {
        self.states.get(piece.at()).map_or(PieceState::Missing, AtomicPieceState::get)
    }

    pub fn has(&self, piece: PieceIndex) -> bool {
        self.state(piece) == PieceState::Have
    }

    pub fn have_count(&self) -> u32 {
        self.counts.have.load(Ordering::Acquire)
    }

    /// We have every piece.
    pub fn has_all(&self) -> bool {
        self.have_count() == self.geometry.piece_count()
    }

    /// Every wanted piece is on disk and verified.
    pub fn is_complete(&self) -> bool {
        self.counts.unfinished.load(Ordering::Acquire) == 0
    }

    /// The number of wanted bytes that are not on disk.
    pub fn wanted_left(&self) -> u64 {
        self.counts.unfinished_len.load(Ordering::Acquire)
    }

    /// The piece is wanted, and neither on disk nor partly written.
    pub(super) fn is_lacking(&self, piece: PieceIndex) -> bool {
        self.state(piece).is_lacking()
    }

    /// We lack the piece and will not announce it: it is unwanted or partly written.
    pub(super) fn is_excluded(&self, piece: PieceIndex) -> bool {
        matches!(self.state(piece), PieceState::NotWanted | PieceState::PartlyWritten)
    }

    /// The bytes of the pieces that we lack: `left` in tracker announcements (BEP 3).
    pub fn left(&self) -> u64 {
        let piece_len = self.geometry.piece_len();
        let missing_count = self.geometry.piece_count().saturating_sub(self.have_count());
        let last_missing = self.geometry.pieces().next_back().filter(|&last| !self.has(last));
        let short_by = last_missing.map_or(0, |last| piece_len - self.geometry.len_of(last));
        (u64::from(missing_count) * u64::from(piece_len)).saturating_sub(u64::from(short_by))
    }

    /// The pieces that a new connection announces.
    pub(super) fn have_snapshot(&self) -> HaveSnapshot {
        let log_cursor = self.log.len();
        let mut have = Bitfield::new(self.geometry.piece_count());
        for piece in self.geometry.pieces().filter(|&piece| self.has(piece) && self.is_logged(piece, log_cursor)) {
            have.insert(piece);
        }
        let settled = self.selection.is_some().then(|| {
            let mut settled = have.clone();
            for piece in self.geometry.pieces().filter(|&piece| self.is_excluded(piece)) {
                settled.insert(piece);
            }
            settled
        });
        HaveSnapshot { have, settled, log_cursor }
    }

    /// The entry of the have log at `cursor`, which it advances.
    pub(super) fn next_have(&self, cursor: &mut usize) -> Option<PieceIndex> {
        self.log.next(&self.geometry, cursor)
    }

    /// Whether we did not lack the piece at the start, or it is in the have log before `cursor`. Meaningless for lost
    /// pieces: see [`Self::recounts`].
    pub(super) fn is_logged(&self, piece: PieceIndex, cursor: usize) -> bool {
        self.log.contains(piece, cursor)
    }

    /// Changes when [`Self::next_have`] does not return every change: connections then have to examine every piece.
    pub(super) fn recounts(&self) -> u32 {
        self.losses.recounts.load(Ordering::Acquire)
    }

    /// Whether a piece was lost since the last call.
    pub(super) fn take_lost(&self) -> bool {
        self.losses.is_new.swap(false, Ordering::Relaxed)
    }

    /// The piece was lost at some time, even if we have it again. A peer to which it was announced before may request
    /// it.
    pub(super) fn was_lost(&self, piece: PieceIndex) -> bool {
        lock(&self.losses.pieces).contains(&piece.get())
    }

    /// The number of adjacent pieces that are requested together, so that one write stores them.
    pub(super) fn run_pieces(&self) -> u32 {
        (limits::WRITE_RUN_LEN / self.geometry.piece_len().max(BLOCK_LEN)).max(1)
    }

    /// Pieces that no connection has opened.
    pub(super) fn missing(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.geometry.pieces().filter(|&piece| self.is_missing(piece))
    }

    pub(super) fn is_missing(&self, piece: PieceIndex) -> bool {
        self.state(piece) == PieceState::Missing
    }

    /// BEP 3's endgame: every missing block has been requested from a peer.
    pub(super) fn is_endgame(&self) -> bool {
        self.counts.missing.load(Ordering::Acquire) == 0 && !self.is_complete()
    }

    /// Changes when a block arrived that other connections should cancel, or a piece was finished while connections
    /// work on it.
    pub(super) fn duplicates_received(&self) -> u64 {
        self.duplicates_received.load(Ordering::Acquire)
    }

    pub(super) fn count_duplicate(&self) {
        self.duplicates_received.fetch_add(1, Ordering::AcqRel);
    }

    /// The number of piece buffers that no piece uses.
    pub fn free_buffers(&self) -> usize {
        self.buffers.free_count()
    }

    /// At least three quarters of the piece buffers are in use: open pieces come before new ones.
    pub(super) fn is_short_of_buffers(&self) -> bool {
        self.free_buffers() * 4 <= self.buffer_count
    }

    /// Changes when a piece became missing again.
    pub(super) fn reopened(&self) -> u32 {
        self.reopened.load(Ordering::Acquire)
    }

    /// Opens a missing piece for receiving. `None` if another connection was faster or no buffer is free.
    pub(super) fn open(&self, piece: PieceIndex) -> Option<Arc<OpenPiece<S>>> {
        let state = self.states.get(piece.at())?;
        let buffer = self.buffers.take(self.geometry.len_of(piece))?;
        if !state.open() {
            self.buffers.put(buffer);
            return None;
        }
        self.counts.missing.fetch_sub(1, Ordering::AcqRel);
        let opened = Arc::new(OpenPiece::new(&self.geometry, piece, buffer, Arc::downgrade(&self.buffers)));
        let listed = Listed { piece, open: opened.clone() };
        self.open.write().unwrap_or_else(PoisonError::into_inner).push(listed);
        Some(opened)
    }

    /// Opens a missing piece of which an earlier run received a part. `land` writes that part into the buffer and
    /// returns the indices of its blocks, not all of the piece. Does nothing if at least half of the buffers are in use:
    /// the free ones are for pieces that peers have.
    pub fn restore(&self, piece: PieceIndex, land: impl FnOnce(&S) -> Vec<usize>) {
        if self.free_buffers() * 2 <= self.buffer_count {
            return;
        }
        if let Some(open) = self.open(piece) {
            land(open.buffer()).into_iter().for_each(|block_index| open.handle_restored(block_index));
            self.handle_unclaimed(&open);
        }
    }

    /// The piece, if it is open.
    pub(super) fn find_open(&self, piece: PieceIndex) -> Option<Arc<OpenPiece<S>>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.iter().find(|listed| listed.piece == piece).map(|listed| listed.open.clone())
    }

    /// Every open piece.
    pub fn open_list(&self) -> Vec<Arc<OpenPiece<S>>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.iter().map(|listed| listed.open.clone()).collect()
    }

    /// An open piece that has blocks to claim and for which `wanted` holds, preferably one on which no connection
    /// works.
    pub(super) fn find_shareable(&self, wanted: impl Fn(&OpenPiece<S>) -> bool) -> Option<Arc<OpenPiece<S>>> {
        let seen = self.shareable.load(Ordering::Acquire);
        if seen == 0 {
            return None;
        }
        let list = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let mut any = false;
        let mut found = None;
        for Listed { open, .. } in list.iter().filter(|listed| self.is_shareable(listed.piece)) {
            if !open.has_unclaimed() {
                self.handle_claimed(open);
                continue;
            }
            any = true;
            if wanted(open) {
                found = Some(open);
                if open.is_orphan() {
                    break;
                }
            }
        }
        if !any {
            // Unless another thread has incremented it in between.
            let _ = self.shareable.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
        found.cloned()
    }

    /// 0 while every block of every open piece is claimed. Otherwise it changes when more blocks become unclaimed.
    pub(super) fn shareable(&self) -> u32 {
        self.shareable.load(Ordering::Acquire)
    }

    /// The piece is open and may have blocks to claim.
    pub(super) fn is_shareable(&self, piece: PieceIndex) -> bool {
        self.state(piece) == PieceState::Shared
    }

    /// Blocks of the open piece may be claimed.
    pub(super) fn handle_unclaimed(&self, open: &OpenPiece<S>) {
        if let Some(state) = self.states.get(open.piece().at()) {
            state.share();
        }
        self.shareable.fetch_add(1, Ordering::AcqRel);
    }

    /// All blocks of an open piece were found claimed.
    pub(super) fn handle_claimed(&self, open: &OpenPiece<S>) {
        // A connection that released a block in between marks the piece as shared only after that: check once more.
        let was_shared = self.states.get(open.piece().at()).is_some_and(AtomicPieceState::end_sharing);
        if was_shared && open.has_unclaimed() {
            self.handle_unclaimed(open);
        }
    }

    /// A connection stops working on an open piece and has released its claims.
    pub(super) fn leave(&self, open: &OpenPiece<S>) {
        open.quit();
        if open.has_unclaimed() && !open.is_retired() {
            self.handle_unclaimed(open);
        }
    }

    fn wanted_len_of(&self, piece: PieceIndex) -> u64 {
        wanted_len(&self.geometry, self.selection.as_ref(), piece)
    }

    fn retire(&self, open: &OpenPiece<S>) {
        open.retire();
        if !open.is_orphan() {
            self.count_duplicate();
        }
        let mut list = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = list.iter().position(|listed| listed.piece == open.piece()) {
            list.swap_remove(at);
        }
    }

    /// A complete piece failed its hash: it is missing again. Returns its senders.
    pub fn handle_failed(&self, now: Time, open: &OpenPiece<S>) -> Verdict {
        self.retire(open);
        let mut recently_failed = self.recently_failed();
        if recently_failed.len() < limits::FAILED_PIECES_KEPT_MAX || recently_failed.contains_key(&open.piece()) {
            recently_failed.insert(open.piece(), now);
        }
        drop(recently_failed);
        if let Some(state) = self.states.get(open.piece().at()) {
            state.fail();
            self.counts.missing.fetch_add(1, Ordering::AcqRel);
            self.reopened.fetch_add(1, Ordering::AcqRel);
        }
        open.verdict()
    }

    fn recently_failed(&self) -> MutexGuard<'_, BTreeMap<PieceIndex, Time>> {
        lock(&self.recently_failed)
    }

    /// The piece failed its hash a moment ago: proven peers go first.
    pub(super) fn has_just_failed(&self, piece: PieceIndex, now: Time) -> bool {
        self.recently_failed().get(&piece).is_some_and(|&at| now < at + limits::FAILED_PIECE_WAIT)
    }

    /// Only a part of the piece is written to disk, so it is never announced.
    pub fn is_boundary(&self, piece: PieceIndex) -> bool {
        self.selection.as_ref().is_some_and(|selection| selection.is_boundary(piece))
    }

    /// A complete piece was verified and written. It is announced to every connection unless it is a boundary piece.
    /// Returns its senders.
    pub fn handle_written(&self, open: &OpenPiece<S>) -> Verdict {
        self.retire(open);
        self.recently_failed().remove(&open.piece());
        if let Some(state) = self.states.get(open.piece().at()) {
            if self.is_boundary(open.piece()) {
                state.finish(PieceState::PartlyWritten);
            } else {
                state.finish(PieceState::Have);
                self.counts.have.fetch_add(1, Ordering::AcqRel);
            }
            self.counts.unfinished_len.fetch_sub(self.wanted_len_of(open.piece()), Ordering::AcqRel);
            self.counts.unfinished.fetch_sub(1, Ordering::AcqRel);
            if !self.log.append(open.piece()) {
                // The log has room for the pieces that were missing at the start, not for those lost later.
                self.losses.recounts.fetch_add(1, Ordering::AcqRel);
            }
        }
        open.verdict()
    }

    /// A piece that we had is unreadable or wrong on disk. It is not served, and it is fetched again if there is memory
    /// to receive it.
    pub fn handle_lost(&self, piece: PieceIndex) {
        let is_wanted = self.selection.as_ref().is_none_or(|selection| selection.is_wanted(piece));
        if let Some(state) = self.states.get(piece.at())
            && state.lose(is_wanted)
        {
            self.counts.have.fetch_sub(1, Ordering::AcqRel);
            lock(&self.losses.pieces).insert(piece.get());
            if !is_wanted {
                return;
            }
            self.counts.unfinished_len.fetch_add(self.wanted_len_of(piece), Ordering::AcqRel);
            self.counts.unfinished.fetch_add(1, Ordering::AcqRel);
            self.counts.missing.fetch_add(1, Ordering::AcqRel);
            self.reopened.fetch_add(1, Ordering::AcqRel);
            self.log.forget(piece);
            if self.can_receive {
                self.losses.recounts.fetch_add(1, Ordering::AcqRel);
                self.losses.is_new.store(true, Ordering::Relaxed);
            }
        }
    }
}

fn wanted_len(geometry: &Geometry, selection: Option<&Selection>, piece: PieceIndex) -> u64 {
    selection.map_or_else(|| geometry.len_of(piece).into(), |selection| selection.len_of(geometry, piece))
}

#[cfg(test)]
#[path = "pieces_tests.rs"]
mod tests;
