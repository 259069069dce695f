//! Memory for pieces that are being received: one bounded anonymous map cut into piece buffers.
//!
//! Several threads write blocks to a buffer at the same time, each block once. When all blocks have landed, the buffer
//! is read-only until it is cleared. The types enforce this: a thread that writes a block holds its [`BlockLease`], and
//! there is one lease per block at a time; a buffer with a lease out is incomplete, so no thread reads it as a whole;
//! clearing takes `&mut self` and fails while a lease or span exists.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{Advice, MmapMut, MmapRaw};

use crate::base::geometry::BLOCK_LEN;
use crate::io::{Gather, Scatter};

/// The outcome of offering a block to a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Landed {
    /// The block is stored; other blocks are missing.
    More,
    /// The block is stored and the piece is complete.
    Complete,
    /// The block had landed before, another lease holds it, or it is no valid block of the piece.
    Duplicate,
}

/// Allocates `buffer_count` piece buffers of `buffer_len` bytes in one map, on huge pages if the kernel provides them.
pub fn piece_buffers(buffer_len: u32, buffer_count: u32) -> io::Result<Vec<PieceBuffer>> {
    let len = buffer_len as usize * buffer_count as usize;
    if len == 0 {
        return Ok(Vec::new());
    }
    let map = MmapMut::map_anon(len)?;
    // Huge pages are an optimization, so an error is ignored. Miri does not support the call.
    if !cfg!(miri) {
        let _ = map.advise(Advice::HugePage);
    }
    let memory = Arc::new(MmapRaw::from(map));
    let words = (buffer_len.div_ceil(BLOCK_LEN) as usize).div_ceil(64);
    Ok((0..buffer_count as usize)
        .map(|index| PieceBuffer {
            inner: Arc::new(BufferInner {
                memory: memory.clone(),
                start: index * buffer_len as usize,
                capacity: buffer_len,
                piece_len: 0,
                taken: (0..words).map(|_| AtomicU64::new(0)).collect(),
                landed: (0..words).map(|_| AtomicU64::new(0)).collect(),
                missing: AtomicU32::new(0),
            }),
        })
        .collect())
}

#[derive(Debug)]
struct BufferInner {
    memory: Arc<MmapRaw>,
    start: usize,
    capacity: u32,
    piece_len: u32,
    /// One bit per block: it has landed or is leased.
    taken: Box<[AtomicU64]>,
    /// One bit per block: it has landed, and does not change until the buffer is cleared.
    landed: Box<[AtomicU64]>,
    /// The number of blocks that have not landed.
    missing: AtomicU32,
}

/// Memory for one piece.
#[derive(Debug)]
pub struct PieceBuffer {
    inner: Arc<BufferInner>,
}

impl PieceBuffer {
    /// Empties the buffer for a piece of `piece_len` bytes. Returns false if a [`BufferSpan`] or [`BlockLease`] of the
    /// buffer exists, or if the piece is too long.
    pub fn clear(&mut self, piece_len: u32) -> bool {
        let Some(inner) = Arc::get_mut(&mut self.inner).filter(|inner| piece_len <= inner.capacity) else {
            return false;
        };
        inner.piece_len = piece_len;
        inner.taken.iter_mut().chain(&mut inner.landed).for_each(|word| *word.get_mut() = 0);
        *inner.missing.get_mut() = piece_len.div_ceil(BLOCK_LEN);
        true
    }

    /// Returns the right to write a block. `None` if the block has landed, another lease holds it, or the piece has no
    /// such block.
    pub fn lease(&self, block_index: usize) -> Option<BlockLease> {
        let begin = block_index.checked_mul(BLOCK_LEN as usize)?;
        let len = (self.inner.piece_len as usize).saturating_sub(begin).min(BLOCK_LEN as usize);
        if len == 0 {
            return None;
        }
        let word = self.inner.taken.get(block_index / 64)?;
        let bit = 1u64 << (block_index % 64);
        let won = word.fetch_or(bit, Ordering::Acquire) & bit == 0;
        won.then(|| BlockLease { buffer: self.inner.clone(), block_index, begin, len, landed: false })
    }

    /// Copies a block into the buffer. A block of the wrong length or index is rejected as [`Landed::Duplicate`].
    pub fn land(&self, block_index: usize, bytes: &[u8]) -> Landed {
        match self.lease(block_index).filter(|lease| lease.len == bytes.len()) {
            Some(mut lease) => {
                lease.bytes_mut().copy_from_slice(bytes);
                lease.land()
            }
            None => Landed::Duplicate,
        }
    }

    /// The bytes of the piece, or `None` until all blocks have landed.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.inner.is_complete().then(|| {
            // SAFETY: the slice is inside the buffer. Every block has landed (acquired above), so no thread writes
            // before `clear`, which needs `&mut self` and so cannot run during this borrow.
            unsafe {
                let start = self.inner.memory.as_ptr().add(self.inner.start);
                std::slice::from_raw_parts(start, self.inner.piece_len as usize)
            }
        })
    }

    /// The bytes of a block, or `None` if it has not landed.
    pub fn block(&self, block_index: usize) -> Option<&[u8]> {
        let word = self.inner.landed.get(block_index / 64)?;
        let has_landed = word.load(Ordering::Acquire) & (1 << (block_index % 64)) != 0;
        if !has_landed {
            return None;
        }
        let begin = block_index.checked_mul(BLOCK_LEN as usize)?;
        let len = (self.inner.piece_len as usize).saturating_sub(begin).min(BLOCK_LEN as usize);
        let start = self.inner.memory.as_ptr().wrapping_add(self.inner.start + begin);
        // SAFETY: begin + len <= piece_len <= capacity, so the slice is inside the buffer. The block has landed
        // (acquired above), so its lease is gone, and no new one exists before `clear`, which needs `&mut self` and so
        // cannot run during this borrow.
        Some(unsafe { std::slice::from_raw_parts(start, len) })
    }

    /// Whether the memory address of the buffer is a multiple of `align`, a power of two.
    pub fn is_aligned(&self, align: u64) -> bool {
        let start = self.inner.memory.as_ptr().addr() + self.inner.start;
        usize::try_from(align).is_ok_and(|align| start.is_multiple_of(align))
    }

    /// Returns a part of a complete piece for the kernel to read. The buffer cannot be cleared while the span exists.
    pub fn span(&self, offset: u32, len: u32) -> Option<BufferSpan> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.inner.piece_len);
        (inside && self.inner.is_complete()).then(|| BufferSpan { buffer: self.inner.clone(), offset, len })
    }
}

impl BufferInner {
    fn is_complete(&self) -> bool {
        self.piece_len > 0 && self.missing.load(Ordering::Acquire) == 0
    }
}

/// The exclusive right to write one block of a buffer. A lease that is dropped without [`Self::land`] gives the block
/// back as missing.
#[derive(Debug)]
pub struct BlockLease {
    buffer: Arc<BufferInner>,
    block_index: usize,
    begin: usize,
    len: usize,
    landed: bool,
}

impl BlockLease {
    /// The memory of the block: the bytes written so far, and behind them bytes of an earlier piece.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: as in `bytes_mut`; only the owner of the lease writes.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: begin + len <= piece_len <= capacity, so the slice is inside this buffer's part of the map. The bit
        // set by `PieceBuffer::lease` makes this value the only owner of these bytes until it is dropped. Readers of
        // the piece wait until `missing` is 0, and this block counts as missing. Readers of one block wait for its
        // `landed` bit, which is set only when the lease ends.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
    }

    fn start(&self) -> *mut u8 {
        self.buffer.memory.as_mut_ptr().wrapping_add(self.buffer.start + self.begin)
    }

    /// Marks the block as written.
    pub fn land(mut self) -> Landed {
        self.landed = true;
        if let Some(word) = self.buffer.landed.get(self.block_index / 64) {
            word.fetch_or(1 << (self.block_index % 64), Ordering::Release);
        }
        match self.buffer.missing.fetch_sub(1, Ordering::AcqRel) {
            1 => Landed::Complete,
            _ => Landed::More,
        }
    }
}

impl Drop for BlockLease {
    fn drop(&mut self) {
        if !self.landed
            && let Some(word) = self.buffer.taken.get(self.block_index / 64)
        {
            word.fetch_and(!(1 << (self.block_index % 64)), Ordering::Release);
        }
    }
}

// SAFETY: no other code reads or writes the bytes while the lease is borrowed, for the reasons in `bytes_mut`. The map
// lives as long as the buffer.
unsafe impl Scatter for BlockLease {
    fn span(&mut self) -> libc::iovec {
        libc::iovec { iov_base: self.start().cast(), iov_len: self.len }
    }
}

/// A part of a complete piece, made by [`PieceBuffer::span`].
#[derive(Debug)]
pub struct BufferSpan {
    buffer: Arc<BufferInner>,
    offset: u32,
    len: u32,
}

/// Parts of complete pieces, in the order in which the kernel reads them.
#[derive(Debug)]
pub struct BufferSpans(Vec<BufferSpan>);

impl BufferSpans {
    /// Length in bytes.
    pub fn len(&self) -> u32 {
        self.0.iter().fold(0, |len: u32, span| len.saturating_add(span.len))
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the spans of `behind`.
    pub fn append(&mut self, behind: Self) {
        self.0.extend(behind.0);
    }
}

impl From<BufferSpan> for BufferSpans {
    fn from(span: BufferSpan) -> Self {
        Self(vec![span])
    }
}

// SAFETY: the buffers were complete, so nothing writes to one before `clear`, which fails while a span shares it. The
// map lives as long as its buffers.
unsafe impl Gather for BufferSpans {
    fn gather(&self, out: &mut Vec<libc::iovec>) {
        out.extend(self.0.iter().map(|BufferSpan { buffer, offset, len }| {
            let start = buffer.memory.as_mut_ptr().wrapping_add(buffer.start + *offset as usize);
            libc::iovec { iov_base: start.cast(), iov_len: *len as usize }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_land_once_and_in_any_order() {
        let mut buffer = piece_buffers(40_000, 2).unwrap().pop().unwrap();
        assert!(buffer.clear(40_000));
        assert_eq!(buffer.land(2, &[3; 40_000 - 32_768]), Landed::More);
        assert_eq!(buffer.bytes(), None);
        assert_eq!((buffer.block(2), buffer.block(1)), (Some(&[3; 40_000 - 32_768][..]), None));
        let leased = buffer.lease(1).unwrap();
        assert_eq!(buffer.block(1), None);
        drop(leased);
        assert!(buffer.span(0, 1).is_none());
        assert_eq!(buffer.land(0, &[1; 16_384]), Landed::More);
        assert_eq!(buffer.land(0, &[9; 16_384]), Landed::Duplicate);
        assert_eq!(buffer.land(1, &[2; 16_383]), Landed::Duplicate, "wrong length");
        assert_eq!(buffer.land(3, &[2; 16_384]), Landed::Duplicate, "no such block");
        assert_eq!(buffer.land(1, &[2; 16_384]), Landed::Complete);
        let bytes = buffer.bytes().unwrap();
        assert_eq!((bytes[0], bytes[16_384], bytes[32_768], bytes.len()), (1, 2, 3, 40_000));
    }

    #[test]
    fn a_buffer_with_a_span_is_not_cleared() {
        let mut buffer = piece_buffers(16_384, 1).unwrap().pop().unwrap();
        assert!(!buffer.clear(16_385), "too long");
        assert!(buffer.clear(5));
        assert_eq!(buffer.land(0, b"hello"), Landed::Complete);
        let span = buffer.span(1, 4).unwrap();
        assert!(buffer.span(2, 4).is_none());
        assert!(!buffer.clear(5));
        drop(span);
        assert!(buffer.clear(5));
        assert_eq!(buffer.bytes(), None);
    }

    #[test]
    fn a_block_has_one_lease_until_it_lands_or_the_lease_drops() {
        let mut buffer = piece_buffers(20_000, 1).unwrap().pop().unwrap();
        assert!(buffer.clear(20_000));
        assert!(buffer.lease(2).is_none(), "no such block");
        let lease = buffer.lease(1).unwrap();
        assert!(buffer.lease(1).is_none());
        assert_eq!(buffer.land(1, &[9; 20_000 - 16_384]), Landed::Duplicate);
        assert_eq!(buffer.land(0, &[1; 16_384]), Landed::More);
        assert!(buffer.bytes().is_none() && !buffer.clear(5), "a lease is out");
        drop(lease);
        let mut lease = buffer.lease(1).unwrap();
        assert_eq!(lease.span().iov_len, lease.bytes().len());
        lease.bytes_mut().fill(2);
        assert_eq!(lease.land(), Landed::Complete);
        assert!(buffer.lease(1).is_none());
        assert_eq!(buffer.bytes().unwrap()[16_383..16_386], [1, 2, 2]);
    }

    #[test]
    fn blocks_offered_by_many_threads_land_once() {
        const COUNT: u32 = if cfg!(miri) { 4 } else { 64 };
        let mut buffer = piece_buffers(COUNT * BLOCK_LEN, 1).unwrap().pop().unwrap();
        assert!(buffer.clear(COUNT * BLOCK_LEN));
        let outcomes: Vec<Landed> = std::thread::scope(|scope| {
            let offer = |fill: u8| {
                let buffer = &buffer;
                move || (0..COUNT as usize).map(|i| buffer.land(i, &vec![fill; BLOCK_LEN as usize])).collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..4).map(|fill| scope.spawn(offer(fill))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let count = |what| outcomes.iter().filter(|&&outcome| outcome == what).count();
        let all = COUNT as usize;
        assert_eq!((count(Landed::More), count(Landed::Complete), count(Landed::Duplicate)), (all - 1, 1, 3 * all));
        let whole = buffer.bytes().unwrap();
        assert!(whole.chunks(BLOCK_LEN as usize).all(|block| block.iter().all(|&byte| byte == block[0])));
    }
}
