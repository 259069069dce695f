//! The life of each piece: missing → open (blocks claimed and received) → verified → had, or missing again.
//!
//! Blocks are claimed and marked by compare-and-swap; locks are taken once per piece, never per block. A piece counts as
//! had only after its bytes were written: then it is appended to the have log, which every connection reads on its own.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use super::have_log::HaveLog;
use super::shared::PeerShared;
use crate::base::{Bitfield, BlockRef, Geometry, PieceIndex, Time};

/// Memory for one piece, carried by [`OpenPiece`] and reused.
pub trait Slot: Send + Sync + 'static {
    /// Empties the slot for a piece of `piece_len` bytes; false when it can't be used again.
    fn clear(&mut self, piece_len: u32) -> bool;
}

const MISSING: u8 = 0;
const OPEN: u8 = 1;
const HAVE: u8 = 2;
/// Open, and blocks of it may be unclaimed.
const SHARED: u8 = 3;

/// What a failed piece says of its senders.
#[derive(Debug)]
pub struct Verdict {
    /// Everybody who sent a block of it.
    pub senders: Vec<Arc<PeerShared>>,
}

/// See the module.
#[derive(Debug)]
pub struct Pieces<S: Slot> {
    geometry: Arc<Geometry>,
    states: Box<[AtomicU8]>,
    have_count: AtomicU32,
    missing_count: AtomicU32,
    /// Counts the blocks that arrived while somebody else had asked for them too.
    doubles_received: AtomicU64,
    log: HaveLog,
    /// Counts the changes that the have log does not tell.
    recounts: AtomicU32,
    /// A piece was lost since somebody asked.
    lost: AtomicBool,
    open: RwLock<Vec<Listed<S>>>,
    /// Counts what may have left blocks unclaimed in an open piece, since it was last found that there are none.
    shareable: AtomicU32,
    /// Counts the pieces that became missing again.
    reopened: AtomicU32,
    slot_count: usize,
    slots: Arc<SlotPool<S>>,
    can_receive: bool,
}

#[derive(Debug)]
struct SlotPool<S> {
    slots: Mutex<Vec<S>>,
    free_count: AtomicUsize,
}

impl<S> SlotPool<S> {
    fn lock(&self) -> MutexGuard<'_, Vec<S>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, slot: S) {
        self.lock().push(slot);
        self.free_count.fetch_add(1, Ordering::Relaxed);
    }
}

/// An open piece, its number beside it: to look for one touches no other.
#[derive(Debug)]
struct Listed<S: Slot> {
    piece: PieceIndex,
    open: Arc<OpenPiece<S>>,
}

impl<S: Slot> Pieces<S> {
    /// Starts with what is on disk and verified; `slots` bound how many pieces are open at a time.
    pub(super) fn new(geometry: Arc<Geometry>, have: &Bitfield, slots: Vec<S>) -> Self {
        let state = |piece| AtomicU8::new(if have.contains(piece) { HAVE } else { MISSING });
        let have_count = u32::try_from(have.count()).unwrap_or(u32::MAX);
        let left = geometry.piece_count().saturating_sub(have_count);
        Self {
            states: geometry.pieces().map(state).collect(),
            have_count: AtomicU32::new(have_count),
            missing_count: AtomicU32::new(left),
            doubles_received: AtomicU64::new(0),
            log: HaveLog::new(&geometry, have),
            recounts: AtomicU32::new(0),
            lost: AtomicBool::new(false),
            can_receive: !slots.is_empty(),
            open: RwLock::default(),
            shareable: AtomicU32::new(0),
            reopened: AtomicU32::new(0),
            slot_count: slots.len(),
            slots: Arc::new(SlotPool { free_count: AtomicUsize::new(slots.len()), slots: Mutex::new(slots) }),
            geometry,
        }
    }

    fn state(&self, piece: PieceIndex) -> u8 {
        self.states.get(piece.at()).map_or(MISSING, |state| state.load(Ordering::Acquire))
    }

    pub fn has(&self, piece: PieceIndex) -> bool {
        self.state(piece) == HAVE
    }

    pub fn have_count(&self) -> u32 {
        self.have_count.load(Ordering::Acquire)
    }

    pub fn is_complete(&self) -> bool {
        self.have_count() == self.geometry.piece_count()
    }

    /// Bytes of pieces that are not had: a tracker's `left` (BEP 3).
    pub fn left(&self) -> u64 {
        let piece_len = self.geometry.piece_len();
        let missing_count = self.geometry.piece_count().saturating_sub(self.have_count());
        let last_missing = self.geometry.pieces().next_back().filter(|&last| !self.has(last));
        let short_by = last_missing.map_or(0, |last| piece_len - self.geometry.len_of(last));
        (u64::from(missing_count) * u64::from(piece_len)).saturating_sub(u64::from(short_by))
    }

    /// What we have now, for a connection that starts, and the place in the have log to go on from.
    pub(super) fn opening(&self) -> (Bitfield, usize) {
        let cursor = self.log.len();
        let mut have = Bitfield::new(self.geometry.piece_count());
        for piece in self.geometry.pieces().filter(|&piece| self.has(piece) && self.is_logged(piece, cursor)) {
            have.insert(piece);
        }
        (have, cursor)
    }

    /// The next entry of the have log at `cursor`, which it moves.
    pub(super) fn next_had(&self, cursor: &mut usize) -> Option<PieceIndex> {
        self.log.next(&self.geometry, cursor)
    }

    /// Whether the piece was had from the start, or is in the have log before `cursor`. Of pieces that were lost it says
    /// nothing: see [`Self::recounts`].
    pub(super) fn is_logged(&self, piece: PieceIndex, cursor: usize) -> bool {
        self.log.contains(piece, cursor)
    }

    /// Changes when [`Self::next_had`] does not tell all: what is had has to be looked through.
    pub(super) fn recounts(&self) -> u32 {
        self.recounts.load(Ordering::Acquire)
    }

    /// Whether a piece was lost since the last call.
    pub(super) fn take_lost(&self) -> bool {
        self.lost.swap(false, Ordering::Relaxed)
    }

    /// Pieces that nobody has opened.
    pub(super) fn missing(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.geometry.pieces().filter(|&piece| self.is_missing(piece))
    }

    pub(super) fn is_missing(&self, piece: PieceIndex) -> bool {
        self.state(piece) == MISSING
    }

    /// BEP 3's endgame: everything that is left has been requested of somebody.
    pub(super) fn is_endgame(&self) -> bool {
        self.missing_count.load(Ordering::Acquire) == 0 && !self.is_complete()
    }

    /// Changes when a block has arrived that should now be cancelled elsewhere.
    pub(super) fn doubles_received(&self) -> u64 {
        self.doubles_received.load(Ordering::Acquire)
    }

    pub(super) fn count_double(&self) {
        self.doubles_received.fetch_add(1, Ordering::AcqRel);
    }

    /// Slots that no piece is using.
    pub fn free_slots(&self) -> usize {
        self.slots.free_count.load(Ordering::Relaxed)
    }

    /// Most of the memory for pieces is in use: what is open comes before what is not.
    pub(super) fn is_short_of_slots(&self) -> bool {
        self.free_slots() * 4 <= self.slot_count
    }

    /// Changes when a piece became missing again.
    pub(super) fn reopened(&self) -> u32 {
        self.reopened.load(Ordering::Acquire)
    }

    /// Opens a missing piece for receiving; `None` when somebody else was faster or no slot is free.
    pub(super) fn open(&self, piece: PieceIndex) -> Option<Arc<OpenPiece<S>>> {
        let state = self.states.get(piece.at())?;
        let slot = self.take_slot(piece)?;
        if state.compare_exchange(MISSING, OPEN, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            self.slots.put(slot);
            return None;
        }
        self.missing_count.fetch_sub(1, Ordering::AcqRel);
        let opened = Arc::new(OpenPiece::new(&self.geometry, piece, slot, Arc::downgrade(&self.slots)));
        let listed = Listed { piece, open: opened.clone() };
        self.open.write().unwrap_or_else(PoisonError::into_inner).push(listed);
        Some(opened)
    }

    fn take_slot(&self, piece: PieceIndex) -> Option<S> {
        let mut slots = self.slots.lock();
        // A slot that can't be cleared is still read by somebody: its time comes later.
        let at = slots.iter_mut().rposition(|slot| slot.clear(self.geometry.len_of(piece)))?;
        self.slots.free_count.fetch_sub(1, Ordering::Relaxed);
        Some(slots.swap_remove(at))
    }

    /// This piece, if it is open.
    pub(super) fn find_open(&self, piece: PieceIndex) -> Option<Arc<OpenPiece<S>>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.iter().find(|listed| listed.piece == piece).map(|listed| listed.open.clone())
    }

    /// Everything that is open.
    pub(super) fn open_list(&self) -> Vec<Arc<OpenPiece<S>>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.iter().map(|listed| listed.open.clone()).collect()
    }

    /// An open piece that has blocks to claim and for which `wanted` holds; one that nobody works on, if there is one.
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
            // Unless somebody counted up in between.
            let _ = self.shareable.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
        found.cloned()
    }

    /// 0 while every block of every open piece is claimed; otherwise it changes when more are not.
    pub(super) fn shareable(&self) -> u32 {
        self.shareable.load(Ordering::Acquire)
    }

    /// The piece is open and may have blocks to claim.
    pub(super) fn is_shareable(&self, piece: PieceIndex) -> bool {
        self.state(piece) == SHARED
    }

    /// Blocks of an open piece are there to be claimed.
    pub(super) fn handle_unclaimed(&self, open: &OpenPiece<S>) {
        self.shift_state(open.piece, OPEN, SHARED);
        self.shareable.fetch_add(1, Ordering::AcqRel);
    }

    /// All blocks of an open piece were found claimed.
    pub(super) fn handle_claimed(&self, open: &OpenPiece<S>) {
        // Whoever gives a block back in between says so after that: it is looked at once more.
        if self.shift_state(open.piece, SHARED, OPEN) && open.has_unclaimed() {
            self.handle_unclaimed(open);
        }
    }

    fn shift_state(&self, piece: PieceIndex, from: u8, to: u8) -> bool {
        let state = self.states.get(piece.at());
        state.is_some_and(|state| state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok())
    }

    /// A worker leaves an open piece, its claims released.
    pub(super) fn leave(&self, open: &OpenPiece<S>) {
        open.workers.fetch_sub(1, Ordering::AcqRel);
        if open.has_unclaimed() && !open.is_retired() {
            self.handle_unclaimed(open);
        }
    }

    fn retire(&self, open: &OpenPiece<S>) {
        open.retired.store(true, Ordering::Release);
        let mut list = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = list.iter().position(|listed| listed.piece == open.piece) {
            list.swap_remove(at);
        }
    }

    /// The hash of a complete piece was wrong: it is missing again. Says who sent it.
    pub fn handle_wrong(&self, open: &OpenPiece<S>) -> Verdict {
        self.retire(open);
        if let Some(state) = self.states.get(open.piece.at()) {
            state.store(MISSING, Ordering::Release);
            self.missing_count.fetch_add(1, Ordering::AcqRel);
            self.reopened.fetch_add(1, Ordering::AcqRel);
        }
        open.verdict()
    }

    /// A complete piece was right and has been written: it is had, and said so to every connection. Says who sent it.
    pub fn handle_written(&self, open: &OpenPiece<S>) -> Verdict {
        self.retire(open);
        if let Some(state) = self.states.get(open.piece.at()) {
            state.store(HAVE, Ordering::Release);
            self.have_count.fetch_add(1, Ordering::AcqRel);
            if !self.log.append(open.piece) {
                // The log has room for what was missing at the start, not for what was lost later.
                self.recounts.fetch_add(1, Ordering::AcqRel);
            }
        }
        open.verdict()
    }

    /// A piece that was thought to be had can't be read, or is wrong on disk: it is not served any more, and fetched
    /// again if there is memory to receive it.
    pub fn handle_lost(&self, piece: PieceIndex) {
        if let Some(state) = self.states.get(piece.at())
            && state.compare_exchange(HAVE, MISSING, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        {
            self.have_count.fetch_sub(1, Ordering::AcqRel);
            self.missing_count.fetch_add(1, Ordering::AcqRel);
            self.reopened.fetch_add(1, Ordering::AcqRel);
            self.log.forget(piece);
            if self.can_receive {
                self.recounts.fetch_add(1, Ordering::AcqRel);
                self.lost.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// A piece whose blocks are being received.
#[derive(Debug)]
pub struct OpenPiece<S: Slot> {
    piece: PieceIndex,
    piece_len: u32,
    block_count: u32,
    words: Box<[Word]>,
    blocks: Box<[Block]>,
    senders: Mutex<Vec<Arc<PeerShared>>>,
    workers: AtomicU32,
    retired: AtomicBool,
    /// One sender alone: its verdict will be beyond doubt.
    alone: AtomicBool,
    /// When a block was last claimed or received, in milliseconds.
    touched_ms: AtomicU64,
    slot: Option<S>,
    pool: Weak<SlotPool<S>>,
}

/// 64 blocks, a bit for each.
#[derive(Debug, Default)]
struct Word {
    /// Somebody has requested it.
    claimed: AtomicU64,
    /// It has arrived.
    received: AtomicU64,
}

#[derive(Debug, Default)]
struct Block {
    /// How many connections have requested it: more than one in the endgame.
    askers: AtomicU16,
    /// The position in `senders` of who sent it, + 1.
    sent_by: AtomicU16,
}

fn bit_of(block_index: usize) -> (usize, u64) {
    (block_index / 64, 1 << (block_index % 64))
}

impl<S: Slot> OpenPiece<S> {
    fn new(geometry: &Geometry, piece: PieceIndex, slot: S, pool: Weak<SlotPool<S>>) -> Self {
        let block_count = geometry.block_count(piece);
        Self {
            piece,
            piece_len: geometry.len_of(piece),
            block_count,
            words: (0..block_count.div_ceil(64)).map(|_| Word::default()).collect(),
            blocks: (0..block_count).map(|_| Block::default()).collect(),
            senders: Mutex::default(),
            workers: AtomicU32::new(0),
            retired: AtomicBool::new(false),
            alone: AtomicBool::new(false),
            touched_ms: AtomicU64::new(0),
            slot: Some(slot),
            pool,
        }
    }

    pub fn piece(&self) -> PieceIndex {
        self.piece
    }

    pub fn len(&self) -> u32 {
        self.piece_len
    }

    /// A piece is never empty.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The piece's memory.
    pub fn slot(&self) -> &S {
        // It is taken out in `drop` alone.
        #[expect(clippy::unwrap_used, reason = "there from construction to drop")]
        self.slot.as_ref().unwrap()
    }

    /// The piece was verified, or failed: nothing of it is wanted any more.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Nobody else may have a part in it.
    pub(super) fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Relaxed)
    }

    pub(super) fn set_alone(&self) {
        self.alone.store(true, Ordering::Relaxed);
    }

    /// A block was claimed or received.
    pub(super) fn touch(&self, now: Time) {
        self.touched_ms.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long nothing has happened.
    pub(super) fn quiet_for(&self, now: Time) -> Time {
        now.saturating_sub(Time::from_millis(self.touched_ms.load(Ordering::Relaxed)))
    }

    fn is_orphan(&self) -> bool {
        self.workers.load(Ordering::Acquire) == 0
    }

    /// Somebody starts to work on this piece; returns its mark for [`Self::handle_received`].
    pub(super) fn join(&self, peer: &Arc<PeerShared>) -> u16 {
        self.workers.fetch_add(1, Ordering::AcqRel);
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        let known = senders.iter().position(|sender| Arc::ptr_eq(sender, peer));
        let at = known.unwrap_or_else(|| {
            senders.push(peer.clone());
            senders.len() - 1
        });
        u16::try_from(at + 1).unwrap_or(u16::MAX)
    }

    /// Blocks of the word that exist.
    fn mask(&self, word: usize) -> u64 {
        let left = (self.block_count as usize).saturating_sub(word * 64);
        if left >= 64 { u64::MAX } else { (1 << left) - 1 }
    }

    pub(super) fn has_unclaimed(&self) -> bool {
        (0..self.words.len()).any(|word| self.unclaimed(word) != 0)
    }

    /// Blocks of the word that have not arrived and that nobody has requested.
    fn unclaimed(&self, word: usize) -> u64 {
        let taken = |word: &Word| word.claimed.load(Ordering::Acquire) | word.received.load(Ordering::Acquire);
        !self.words.get(word).map_or(u64::MAX, taken) & self.mask(word)
    }

    pub(super) fn is_received(&self, block_index: usize) -> bool {
        let (word, bit) = bit_of(block_index);
        self.words.get(word).is_some_and(|word| word.received.load(Ordering::Acquire) & bit != 0)
    }

    /// Claims up to `max` blocks that nobody has claimed, lowest first.
    pub(super) fn claim(&self, geometry: &Geometry, max: usize, out: &mut Vec<BlockRef>) {
        let wanted = out.len() + max;
        for (i, (word, first)) in self.words.iter().zip((0u32..).step_by(64)).enumerate() {
            while out.len() < wanted {
                let free = self.unclaimed(i);
                let bit = free & free.wrapping_neg();
                if bit == 0 {
                    break;
                }
                if word.claimed.fetch_or(bit, Ordering::AcqRel) & bit == 0 {
                    let block_index = first + bit.trailing_zeros();
                    self.count_asker(block_index as usize);
                    out.extend(geometry.block(self.piece, block_index));
                }
            }
        }
    }

    fn count_asker(&self, block_index: usize) {
        if let Some(block) = self.blocks.get(block_index) {
            block.askers.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn askers_of(&self, block_index: usize) -> u16 {
        self.blocks.get(block_index).map_or(0, |block| block.askers.load(Ordering::Acquire))
    }

    /// Endgame: claims up to `max` blocks once more that have not arrived and that fewer than `askers_max` have asked for.
    pub(super) fn double(&self, geometry: &Geometry, max: usize, askers_max: u16, out: &mut Vec<BlockRef>) {
        let open = |&block_index: &usize| !self.is_received(block_index) && self.askers_of(block_index) < askers_max;
        for block_index in (0..self.block_count as usize).filter(open).take(max) {
            self.count_asker(block_index);
            out.extend(u32::try_from(block_index).ok().and_then(|index| geometry.block(self.piece, index)));
        }
    }

    /// Gives a claim back: the block may be asked of somebody else.
    pub(super) fn release(&self, block: BlockRef) {
        let (word, bit) = bit_of(block.block_index());
        let (Some(Block { askers, .. }), Some(Word { claimed, .. })) =
            (self.blocks.get(block.block_index()), self.words.get(word))
        else {
            return;
        };
        // Who asks in between makes the block asked for twice at worst, never claimed by nobody.
        if askers.fetch_sub(1, Ordering::AcqRel) == 1 {
            claimed.fetch_and(!bit, Ordering::AcqRel);
        }
    }

    /// A block is in the slot, brought by the holder of `mark`, who still claims it or not. True when others do.
    pub(super) fn handle_received(&self, block_index: usize, mark: u16, claims: bool) -> bool {
        let (word, bit) = bit_of(block_index);
        if let Some(block) = self.blocks.get(block_index) {
            block.sent_by.store(mark, Ordering::Relaxed);
        }
        if let Some(word) = self.words.get(word) {
            word.received.fetch_or(bit, Ordering::AcqRel);
        }
        self.askers_of(block_index) > u16::from(claims)
    }

    /// Who sent a block that has arrived.
    pub fn sender(&self, block_index: usize) -> Option<Arc<PeerShared>> {
        let mark = usize::from(self.blocks.get(block_index)?.sent_by.load(Ordering::Relaxed));
        self.senders.lock().unwrap_or_else(PoisonError::into_inner).get(mark.checked_sub(1)?).cloned()
    }

    fn verdict(&self) -> Verdict {
        let joined = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        let sent =
            |mark: usize| self.blocks.iter().any(|block| usize::from(block.sent_by.load(Ordering::Relaxed)) == mark);
        let senders = joined.iter().enumerate().filter(|(at, _)| sent(at + 1)).map(|(_, peer)| peer.clone()).collect();
        Verdict { senders }
    }
}

impl<S: Slot> Drop for OpenPiece<S> {
    fn drop(&mut self) {
        if let (Some(slot), Some(pool)) = (self.slot.take(), self.pool.upgrade()) {
            pool.put(slot);
        }
    }
}

#[cfg(test)]
#[path = "pieces_tests.rs"]
mod tests;
