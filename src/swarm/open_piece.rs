//! A piece that is being received: its claimed and received blocks, their senders, and its memory.
//!
//! A block lands when its bytes are put into the piece's memory. It is received once it has landed and its sender is
//! stored.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use super::peer_shared::PeerShared;
use crate::base::lock::lock;
use crate::base::{BlockRef, Geometry, PieceIndex, Time};

/// Memory for one piece, carried by [`OpenPiece`] and reused.
pub trait PieceMemory: Send + Sync + 'static {
    /// Empties the buffer for a piece of `piece_len` bytes. Returns false if it can't be reused yet.
    fn clear(&mut self, piece_len: u32) -> bool;
}

/// The result of hashing a received piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashOutcome {
    Verified,
    Failed,
}

/// The contributors to a hashed piece.
#[derive(Debug)]
pub struct Verdict {
    /// The peers that sent blocks of the piece.
    pub senders: Vec<Arc<PeerShared>>,
    /// Some blocks are from an earlier run: their senders are unknown.
    pub has_unknown: bool,
}

/// The source of a received block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BlockSource {
    /// The connection at this position among the senders of the piece.
    Sender(u16),
    /// Not known: the block is from an earlier run.
    Unknown,
}

/// An optional [`BlockSource`] that threads share; none at first.
#[derive(Debug, Default)]
struct AtomicBlockSource(AtomicU16);

impl AtomicBlockSource {
    const NONE: u16 = 0;
    const UNKNOWN: u16 = u16::MAX;

    fn get(&self) -> Option<BlockSource> {
        match self.0.load(Ordering::Relaxed) {
            Self::NONE => None,
            Self::UNKNOWN => Some(BlockSource::Unknown),
            position => Some(BlockSource::Sender(position - 1)),
        }
    }

    /// The senders at the last two positions of a `u16` are stored as unknown.
    fn set(&self, source: BlockSource) {
        let value = match source {
            BlockSource::Sender(position) => position.saturating_add(1),
            BlockSource::Unknown => Self::UNKNOWN,
        };
        self.0.store(value, Ordering::Relaxed);
    }
}

/// The effect of a received block on its piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Progress {
    /// Other connections have requested the block too.
    pub(super) is_claimed_elsewhere: bool,
    /// All blocks are in the buffer, and the sender of each is stored: the piece can be hashed and its senders judged.
    pub(super) completes: bool,
}

/// The buffers of a torrent that no open piece uses.
#[derive(Debug)]
pub(super) struct BufferPool<S> {
    buffers: Mutex<Vec<S>>,
    free_count: AtomicUsize,
}

impl<S> BufferPool<S> {
    pub(super) fn new(buffers: Vec<S>) -> Self {
        Self { free_count: AtomicUsize::new(buffers.len()), buffers: Mutex::new(buffers) }
    }

    /// The number of buffers that no piece uses.
    pub(super) fn free_count(&self) -> usize {
        self.free_count.load(Ordering::Relaxed)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<S>> {
        lock(&self.buffers)
    }

    pub(super) fn put(&self, buffer: S) {
        self.lock().push(buffer);
        self.free_count.fetch_add(1, Ordering::Relaxed);
    }
}

impl<S: PieceMemory> BufferPool<S> {
    /// Takes an empty buffer for a piece of this length. `None` if every buffer is in use or still read.
    pub(super) fn take(&self, piece_len: u32) -> Option<S> {
        let mut buffers = self.lock();
        // A buffer that can't be cleared is still read, for example by a hash thread: it can be used later.
        let at = buffers.iter_mut().rposition(|buffer| buffer.clear(piece_len))?;
        self.free_count.fetch_sub(1, Ordering::Relaxed);
        Some(buffers.swap_remove(at))
    }
}

/// A piece whose blocks are being received.
#[derive(Debug)]
pub struct OpenPiece<S: PieceMemory> {
    piece: PieceIndex,
    piece_len: u32,
    block_count: u32,
    words: Box<[Word]>,
    /// Blocks that have not arrived, or whose sender is not stored yet.
    missing: AtomicU32,
    pub(super) blocks: Box<[Block]>,
    senders: Mutex<Vec<Arc<PeerShared>>>,
    workers: AtomicU32,
    retired: AtomicBool,
    /// No other connection may contribute, so a failed hash names its sender for certain.
    exclusive: AtomicBool,
    /// When a block was last claimed or received, in milliseconds.
    touched_ms: AtomicU64,
    buffer: Option<S>,
    pool: Weak<BufferPool<S>>,
}

/// 64 blocks, a bit for each.
#[derive(Debug, Default)]
struct Word {
    /// A connection has requested it.
    claimed: AtomicU64,
    /// It has arrived.
    received: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct Block {
    /// The number of connections that have requested it: more than one in the endgame.
    pub(super) askers: AtomicU16,
    source: AtomicBlockSource,
}

fn bit_of(block_index: usize) -> (usize, u64) {
    (block_index / 64, 1 << (block_index % 64))
}

impl<S: PieceMemory> OpenPiece<S> {
    pub(super) fn new(geometry: &Geometry, piece: PieceIndex, buffer: S, pool: Weak<BufferPool<S>>) -> Self {
        let block_count = geometry.block_count(piece);
        Self {
            piece,
            piece_len: geometry.len_of(piece),
            block_count,
            words: (0..block_count.div_ceil(64)).map(|_| Word::default()).collect(),
            missing: AtomicU32::new(block_count),
            blocks: (0..block_count).map(|_| Block::default()).collect(),
            senders: Mutex::default(),
            workers: AtomicU32::new(0),
            retired: AtomicBool::new(false),
            exclusive: AtomicBool::new(false),
            touched_ms: AtomicU64::new(0),
            buffer: Some(buffer),
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
    pub fn buffer(&self) -> &S {
        // Only `drop` takes it out.
        #[expect(clippy::unwrap_used, reason = "there from construction to drop")]
        self.buffer.as_ref().unwrap()
    }

    /// The piece was verified or failed: its blocks are not wanted.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// A connection stops working on the piece.
    pub(super) fn quit(&self) {
        self.workers.fetch_sub(1, Ordering::AcqRel);
    }

    /// Only one connection may contribute to the piece.
    pub(super) fn is_exclusive(&self) -> bool {
        self.exclusive.load(Ordering::Relaxed)
    }

    pub(super) fn set_exclusive(&self) {
        self.exclusive.store(true, Ordering::Relaxed);
    }

    /// A block was claimed or received.
    pub(super) fn touch(&self, now: Time) {
        self.touched_ms.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The time since a block was last claimed or received.
    pub(super) fn quiet_for(&self, now: Time) -> Time {
        now.saturating_sub(Time::from_millis(self.touched_ms.load(Ordering::Relaxed)))
    }

    pub(super) fn is_orphan(&self) -> bool {
        self.workers.load(Ordering::Acquire) == 0
    }

    /// A connection begins to work on this piece. Returns it as the source of its blocks, for
    /// [`Self::handle_received`].
    pub(super) fn join(&self, peer: &Arc<PeerShared>) -> BlockSource {
        self.workers.fetch_add(1, Ordering::AcqRel);
        let mut senders = lock(&self.senders);
        let known = senders.iter().position(|sender| Arc::ptr_eq(sender, peer));
        let at = known.unwrap_or_else(|| {
            senders.push(peer.clone());
            senders.len() - 1
        });
        u16::try_from(at).map_or(BlockSource::Unknown, BlockSource::Sender)
    }

    /// No other peer contributes to the piece.
    pub(super) fn is_only_of(&self, peer: &Arc<PeerShared>) -> bool {
        lock(&self.senders).iter().all(|sender| Arc::ptr_eq(sender, peer))
    }

    /// The bits of the blocks that exist in this word.
    fn mask(&self, word: usize) -> u64 {
        let left = (self.block_count as usize).saturating_sub(word * 64);
        if left >= 64 { u64::MAX } else { (1 << left) - 1 }
    }

    pub(super) fn has_unclaimed(&self) -> bool {
        (0..self.words.len()).any(|word| self.unclaimed(word) != 0)
    }

    /// Blocks of the word that have not arrived and that no connection has requested.
    fn unclaimed(&self, word: usize) -> u64 {
        let taken = |word: &Word| word.claimed.load(Ordering::Acquire) | word.received.load(Ordering::Acquire);
        !self.words.get(word).map_or(u64::MAX, taken) & self.mask(word)
    }

    pub(super) fn is_received(&self, block_index: usize) -> bool {
        let (word, bit) = bit_of(block_index);
        self.words.get(word).is_some_and(|word| word.received.load(Ordering::Acquire) & bit != 0)
    }

    /// Claims up to `max` unclaimed blocks, lowest first.
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

    /// Endgame: claims again up to `max` blocks that have not arrived and that fewer than `askers_max` connections have
    /// requested.
    pub(super) fn claim_duplicates(&self, geometry: &Geometry, max: usize, askers_max: u16, out: &mut Vec<BlockRef>) {
        let open = |&block_index: &usize| !self.is_received(block_index) && self.askers_of(block_index) < askers_max;
        for block_index in (0..self.block_count as usize).filter(open).take(max) {
            self.count_asker(block_index);
            out.extend(u32::try_from(block_index).ok().and_then(|index| geometry.block(self.piece, index)));
        }
    }

    /// Gives a claim back: the block may be requested from another peer.
    pub(super) fn release(&self, block: BlockRef) {
        let (word, bit) = bit_of(block.block_index());
        let (Some(Block { askers, .. }), Some(Word { claimed, .. })) =
            (self.blocks.get(block.block_index()), self.words.get(word))
        else {
            return;
        };
        // A request in between causes a redundant request at worst, never a block that stays claimed without a request.
        if askers.fetch_sub(1, Ordering::AcqRel) == 1 {
            claimed.fetch_and(!bit, Ordering::AcqRel);
        }
    }

    /// A block is in the buffer. `claims`: its source still has a claim on it.
    pub(super) fn handle_received(&self, block_index: usize, source: BlockSource, claims: bool) -> Progress {
        let (word, bit) = bit_of(block_index);
        if let Some(block) = self.blocks.get(block_index) {
            block.source.set(source);
        }
        let is_new = self.words.get(word).is_some_and(|word| word.received.fetch_or(bit, Ordering::AcqRel) & bit == 0);
        Progress {
            is_claimed_elsewhere: self.askers_of(block_index) > u16::from(claims),
            completes: is_new && self.missing.fetch_sub(1, Ordering::AcqRel) == 1,
        }
    }

    /// A block of an earlier run is in the buffer.
    pub(super) fn handle_restored(&self, block_index: usize) {
        self.handle_received(block_index, BlockSource::Unknown, false);
    }

    /// The peer that sent a block; `None` if it has not arrived or is from an earlier run.
    pub fn sender(&self, block_index: usize) -> Option<Arc<PeerShared>> {
        let Some(BlockSource::Sender(position)) = self.blocks.get(block_index)?.source.get() else { return None };
        lock(&self.senders).get(usize::from(position)).cloned()
    }

    pub fn verdict(&self) -> Verdict {
        let is_unknown = |block: &Block| block.source.get() == Some(BlockSource::Unknown);
        Verdict { senders: self.senders_of(|_| true), has_unknown: self.blocks.iter().any(is_unknown) }
    }

    /// The piece has verified, so its senders are proven. Returns those that were not before.
    pub fn prove(&self) -> Vec<Arc<PeerShared>> {
        let proven = self.senders_of(|peer| !peer.is_proven());
        proven.iter().for_each(|peer| peer.set_proven());
        proven
    }

    fn senders_of(&self, which: impl Fn(&PeerShared) -> bool) -> Vec<Arc<PeerShared>> {
        let joined = lock(&self.senders);
        let is_source = |at: usize| {
            let source = u16::try_from(at).map(BlockSource::Sender).ok();
            source.is_some() && self.blocks.iter().any(|block| block.source.get() == source)
        };
        let senders = joined.iter().enumerate().filter(|&(at, peer)| which(peer) && is_source(at));
        senders.map(|(_, peer)| peer.clone()).collect()
    }
}

impl<S: PieceMemory> Drop for OpenPiece<S> {
    fn drop(&mut self) {
        if let (Some(buffer), Some(pool)) = (self.buffer.take(), self.pool.upgrade()) {
            pool.put(buffer);
        }
    }
}
