//! Memory for pieces that are being received: one bounded anonymous map cut into piece buffers.
//!
//! A buffer takes blocks from several threads at once, each block once; when all have landed it is read-only until it is
//! cleared. The types enforce it: who writes a block holds its [`BlockLease`], of which there is one at a time; a buffer with
//! a lease out is not complete, so nobody reads it; clearing is `&mut self` and waits for leases and spans.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{Advice, MmapMut, MmapRaw};

use crate::base::geometry::BLOCK_LEN;
use crate::uring::{Gather, Scatter};

/// What became of a block that was offered to a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Landed {
    /// The bytes are in; others are still missing.
    More,
    /// The bytes are in and the piece is complete.
    Complete,
    /// Somebody else brought this block before.
    Duplicate,
}

/// Cuts `buffer_count` piece buffers of `buffer_len` bytes out of fresh memory on huge pages where the kernel gives them.
pub fn piece_buffers(buffer_len: u32, buffer_count: u32) -> io::Result<Vec<PieceBuffer>> {
    let len = buffer_len as usize * buffer_count as usize;
    if len == 0 {
        return Ok(Vec::new());
    }
    let map = MmapMut::map_anon(len)?;
    // Without huge pages it is slower, not wrong; Miri has no such call.
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
    /// The block has landed, or is leased.
    taken: Box<[AtomicU64]>,
    /// The block's bytes are in, to stay until the buffer is cleared.
    landed: Box<[AtomicU64]>,
    /// Blocks that have not landed.
    missing: AtomicU32,
}

/// Room for one piece.
#[derive(Debug)]
pub struct PieceBuffer {
    inner: Arc<BufferInner>,
}

impl PieceBuffer {
    /// Empties the buffer for a piece of `piece_len` bytes. False when a [`BufferSpan`] still reads it, a
    /// [`BlockLease`] is out, or the piece is too long.
    pub fn clear(&mut self, piece_len: u32) -> bool {
        let Some(inner) = Arc::get_mut(&mut self.inner).filter(|inner| piece_len <= inner.capacity) else {
            return false;
        };
        inner.piece_len = piece_len;
        inner.taken.iter_mut().chain(&mut inner.landed).for_each(|word| *word.get_mut() = 0);
        *inner.missing.get_mut() = piece_len.div_ceil(BLOCK_LEN);
        true
    }

    /// The right to write a grid block; `None` when it has landed, when somebody else holds it, or when there is no such
    /// block.
    pub fn lease(&self, block_index: usize) -> Option<BlockLease> {
        let begin = block_index.checked_mul(BLOCK_LEN as usize)?;
        let len = (self.inner.piece_len as usize).saturating_sub(begin).min(BLOCK_LEN as usize);
        let word = self.inner.taken.get(block_index / 64).filter(|_| len > 0)?;
        let bit = 1u64 << (block_index % 64);
        let won = word.fetch_or(bit, Ordering::Acquire) & bit == 0;
        won.then(|| BlockLease { buffer: self.inner.clone(), block_index, begin, len, landed: false })
    }

    /// Copies a grid block in, unless it is there already. Bytes of another length than the block's are a duplicate of
    /// nothing: they are refused as one.
    pub fn land(&self, block_index: usize, bytes: &[u8]) -> Landed {
        match self.lease(block_index).filter(|lease| lease.len == bytes.len()) {
            Some(mut lease) => {
                lease.bytes_mut().copy_from_slice(bytes);
                lease.land()
            }
            None => Landed::Duplicate,
        }
    }

    /// The piece's bytes, once all have landed.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.inner.is_complete().then(|| {
            // SAFETY: inside the buffer; every block has landed (acquired above), so nobody writes before `clear`, which
            // needs `&mut self` and so waits for this borrow.
            unsafe {
                let start = self.inner.memory.as_ptr().add(self.inner.start);
                std::slice::from_raw_parts(start, self.inner.piece_len as usize)
            }
        })
    }

    /// The bytes of a block that has landed.
    pub fn block(&self, block_index: usize) -> Option<&[u8]> {
        let word = self.inner.landed.get(block_index / 64)?;
        let has_landed = word.load(Ordering::Acquire) & (1 << (block_index % 64)) != 0;
        let begin = block_index.checked_mul(BLOCK_LEN as usize).filter(|_| has_landed)?;
        let len = (self.inner.piece_len as usize).saturating_sub(begin).min(BLOCK_LEN as usize);
        let start = self.inner.memory.as_ptr().wrapping_add(self.inner.start + begin);
        // SAFETY: begin + len <= piece_len <= capacity: inside the buffer. The block has landed (acquired above), so its lease
        // is gone and there is no other before `clear`, which needs `&mut self` and so waits for this borrow.
        Some(unsafe { std::slice::from_raw_parts(start, len) })
    }

    /// The buffer begins at a multiple of `align` bytes, a power of two, in memory.
    pub fn is_aligned(&self, align: u64) -> bool {
        let start = self.inner.memory.as_ptr().addr() + self.inner.start;
        usize::try_from(align).is_ok_and(|align| start.is_multiple_of(align))
    }

    /// A part of a complete piece for the kernel to read; the buffer can't be cleared while it lives.
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

/// The sole right to write one block of a buffer. Dropped without [`Self::land`], the block is as if nothing had been written.
#[derive(Debug)]
pub struct BlockLease {
    buffer: Arc<BufferInner>,
    block_index: usize,
    begin: usize,
    len: usize,
    landed: bool,
}

impl BlockLease {
    /// The block's memory: what was written, or what an earlier piece left there.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: as in `bytes_mut`; who holds the lease is the only one to write.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: begin + len <= piece_len <= capacity, so the span is inside this buffer's part of the map. The bit won by
        // `PieceBuffer::lease` gives this value the only right to these bytes until it is dropped; readers wait for `missing` to
        // be 0, which this block keeps it from.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
    }

    fn start(&self) -> *mut u8 {
        self.buffer.memory.as_mut_ptr().wrapping_add(self.buffer.start + self.begin)
    }

    /// The bytes are in.
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
        if let Some(word) = self.buffer.taken.get(self.block_index / 64).filter(|_| !self.landed) {
            word.fetch_and(!(1 << (self.block_index % 64)), Ordering::Release);
        }
    }
}

// SAFETY: `bytes_mut` says why nobody else reads or writes them while the lease is borrowed; the map lives as long as the
// buffer.
unsafe impl Scatter for BlockLease {
    fn span(&mut self) -> libc::iovec {
        libc::iovec { iov_base: self.start().cast(), iov_len: self.len }
    }
}

/// See [`PieceBuffer::span`].
#[derive(Debug)]
pub struct BufferSpan {
    buffer: Arc<BufferInner>,
    offset: u32,
    len: u32,
}

impl BufferSpan {
    /// In bytes.
    pub fn len(&self) -> u32 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

// SAFETY: the buffer was complete, so nothing writes to it before `clear`, which fails while this shares the buffer; the map
// lives as long as the buffer.
unsafe impl Gather for BufferSpan {
    fn gather(&self, out: &mut Vec<libc::iovec>) {
        let start = self.buffer.memory.as_mut_ptr().wrapping_add(self.buffer.start + self.offset as usize);
        out.push(libc::iovec { iov_base: start.cast(), iov_len: self.len as usize });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_land_once_in_any_order_and_the_whole_is_readable() {
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
    fn a_slot_that_is_read_is_not_cleared() {
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
    fn a_leased_block_is_nobody_elses_until_it_lands_or_is_given_back() {
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
    fn many_threads_offer_the_same_blocks_and_each_lands_once() {
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
