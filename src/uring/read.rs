//! Long reads of files into memory of our own, in parts that are all under way at the same time.

use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use io_uring_06::{opcode, types};
use memmap2::{MmapMut, MmapRaw};

use super::operation::{SharedFile, submit};
use super::runtime::{RingTask, spawn};

/// Bytes of one part: more at a time is no faster on any disk, less makes a disk wait for the next request.
const PART_LEN: usize = 1 << 20;

/// Memory for [`read_ahead`]: zeroed, beginning at a page, so that reads past the page cache may fill it.
#[derive(Debug)]
pub struct ReadBuffer(MmapRaw);

impl ReadBuffer {
    /// Memory of `len` bytes, at least one.
    pub fn with_len(len: usize) -> io::Result<Self> {
        Ok(Self(MmapMut::map_anon(len.max(1))?.into()))
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the map is ours alone, `len` bytes long and zeroed or read into. While parts of it are being read into,
        // the value is inside the reading task, and nobody has it to call this.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr(), self.0.len()) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr(), self.0.len()) }
    }
}

/// Starts to read `len` bytes of `file` from `offset` on into the front of `buffer`, at most all of it.
///
/// Gives the number of bytes that are there, fewer only where the file ends, and the buffer. The reads are with the kernel
/// once the thread has parked ([`super::no_op`] sees to that). After an error the buffer is lost.
pub fn read_ahead(
    file: &SharedFile,
    buffer: ReadBuffer,
    offset: u64,
    len: usize,
) -> RingTask<io::Result<(usize, ReadBuffer)>> {
    let file = file.clone();
    spawn(async move {
        let memory = Rc::new(buffer.0);
        let len = len.min(memory.len());
        let part = |at: usize| {
            let part_len = PART_LEN.min(len - at);
            spawn(read_part(file.clone(), memory.clone(), offset, at, part_len))
        };
        let parts: Vec<_> = (0..len).step_by(PART_LEN).map(part).collect();
        let mut filled = 0;
        let mut failed = None;
        // Every part is waited for, whatever became of those before: only then is the memory nobody else's.
        for (part, at) in parts.into_iter().zip((0..len).step_by(PART_LEN)) {
            match part.await.map_err(io::Error::other).flatten() {
                Ok(read) if filled == at => filled += read,
                Ok(_) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let memory = Rc::into_inner(memory).ok_or_else(|| io::Error::other("a read still holds its buffer"))?;
        failed.map_or(Ok((filled, ReadBuffer(memory))), Err)
    })
}

/// Fills `memory[at..at + len]` from `offset + at` on; gives how much the file has of it.
async fn read_part(file: SharedFile, memory: Rc<MmapRaw>, offset: u64, at: usize, len: usize) -> io::Result<usize> {
    let mut filled = 0;
    while filled < len {
        let rest = u32::try_from(len - filled).map_err(io::Error::other)?;
        let place = memory.as_mut_ptr().wrapping_add(at + filled);
        let entry = opcode::Read::new(types::Fd(file.as_raw_fd()), place, rest).offset(offset + (at + filled) as u64);
        // SAFETY: `place` and the `rest` bytes behind it lie in the map (`read_ahead` cut `len` to it), in a part that no
        // other operation has; the operation owns the map and the file.
        let (result, _) = unsafe { submit((file.clone(), memory.clone()), entry.build()) }.await;
        match result {
            Ok(0) => break,
            Ok(read) => filled += read as usize,
            // A read past the page cache that goes on behind the file's last, odd byte.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput && filled > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
