//! Long reads of files into private memory, in parts that are read concurrently.

use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use io_uring_06::{opcode, types};
use memmap2::{MmapMut, MmapRaw};

use super::operation::submit;
use crate::io::driver::{Task, spawn};
use crate::io::memory::SharedFile;

/// The length of one part in bytes. Longer parts are no faster; with shorter ones a disk would wait for the next
/// request.
const PART_LEN: usize = 1 << 20;

/// Memory for [`read_ahead`]: zeroed and page-aligned, as reads past the page cache require.
#[derive(Debug)]
pub struct ReadBuffer(MmapRaw);

impl ReadBuffer {
    /// Allocates `len` bytes, at least one.
    pub fn with_len(len: usize) -> io::Result<Self> {
        Ok(Self(MmapMut::map_anon(len.max(1))?.into()))
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the map is private, `len` bytes long, and its bytes are zero or were read. During a read the value is
        // inside the reading task, so that no other code can call this method.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr(), self.0.len()) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr(), self.0.len()) }
    }
}

/// Starts to read `len` bytes of `file` at `offset` into the front of `buffer`. `len` is cut to the length of the
/// buffer.
///
/// Returns the number of bytes read, which is less than `len` only at the end of the file, and the buffer. The driver
/// submits the reads when the thread parks; [`crate::io::no_op`] makes it do so. After an error the buffer is lost.
pub fn read_ahead(
    file: &SharedFile,
    buffer: ReadBuffer,
    offset: u64,
    len: usize,
) -> Task<io::Result<(usize, ReadBuffer)>> {
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
        // Await all parts, even after an error: only then does this task own the memory alone.
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

/// Reads `memory[at..at + len]` from `offset + at` in the file. Returns the number of bytes read, which is less than
/// `len` only at the end of the file.
async fn read_part(file: SharedFile, memory: Rc<MmapRaw>, offset: u64, at: usize, len: usize) -> io::Result<usize> {
    let mut filled = 0;
    while filled < len {
        let rest = u32::try_from(len - filled).map_err(io::Error::other)?;
        let place = memory.as_mut_ptr().wrapping_add(at + filled);
        let entry = opcode::Read::new(types::Fd(file.as_raw_fd()), place, rest).offset(offset + (at + filled) as u64);
        // SAFETY: the `rest` bytes at `place` lie in the map, since `read_ahead` cut `len` to it, and no other
        // operation writes to them. The operation owns the map and the file.
        let (result, _) = unsafe { submit((file.clone(), memory.clone()), entry.build()) }.await;
        match result {
            Ok(0) => break,
            Ok(read) => filled += read as usize,
            // A direct read at an unaligned end of the file.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput && filled > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
