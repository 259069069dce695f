//! A hashing worker that reads content from disk with a ring, past the page cache, one step ahead of the hashing.

use std::io;

use super::error::ContentError;
use super::files::Files;
use super::sweep::{Content, Sweep};
use super::worker::{ContentRange, Hashes, Step, Worker};
use crate::base::limits::{DIRECT_ALIGN, HASH_LANES};
use crate::io::{ReadBuffer, Task, no_op, read_ahead};

/// Runs a worker on this thread's ring.
pub(super) async fn run<C: Content>(sweep: &Sweep<'_, C>) -> Result<Hashes, ContentError> {
    let files = Files::direct(sweep.content, HASH_LANES);
    ReadAhead { worker: Worker::new(sweep), files, free: Vec::new() }.run().await
}

struct ReadAhead<'a, C> {
    worker: Worker<'a, C>,
    /// Files opened to be read past the page cache.
    files: Files<'a, C>,
    /// Unused buffers.
    free: Vec<ReadBuffer>,
}

/// A pending read of a range.
enum PendingRead {
    /// A read by the ring. The range starts at `begin` in the buffer.
    Direct { file_index: usize, begin: usize, read: Task<io::Result<(usize, ReadBuffer)>> },
    /// A read through the page cache, done when the step is hashed: the range is in several files, or in a pad file.
    Cached(ReadBuffer),
}

/// A step, and the pending reads of its ranges.
type Started = (Step, Vec<(ContentRange, PendingRead)>);

impl<C: Content> ReadAhead<'_, C> {
    async fn run(mut self) -> Result<Hashes, ContentError> {
        let mut next = self.start_next()?;
        while let Some((step, reads)) = next {
            next = self.start_next()?;
            if step.is_cold() {
                // Submit the reads of this step and the next one before the hashing occupies the thread.
                no_op().await;
                self.await_and_hash(&step, reads).await?;
            } else {
                self.worker.read_and_hash(&step)?;
            }
        }
        Ok(self.worker.into_hashes())
    }

    fn start_next(&mut self) -> Result<Option<Started>, ContentError> {
        let Some(step) = self.worker.next_step()? else { return Ok(None) };
        let ranges = if step.is_cold() { step.ranges(self.worker.geometry()) } else { Vec::new() };
        let start = |(index, range)| self.start(index % HASH_LANES, range);
        let reads = ranges.into_iter().enumerate().map(start).collect::<Result<_, _>>()?;
        Ok(Some((step, reads)))
    }

    fn start(&mut self, cursor: usize, range: ContentRange) -> Result<(ContentRange, PendingRead), ContentError> {
        let buffer = self.buffer(range.len)?;
        let spans = &mut self.worker.geometry().file_spans(range.offset, range.len as u64);
        let (Some(span), None) = (spans.next(), spans.next()) else { return Ok((range, PendingRead::Cached(buffer))) };
        let file_index = span.file_index;
        let Some(file) = self.files.file(cursor, file_index)? else { return Ok((range, PendingRead::Cached(buffer))) };
        let start = span.offset - span.offset % DIRECT_ALIGN as u64;
        let begin = usize::try_from(span.offset - start).unwrap_or(0);
        let read = read_ahead(&file, buffer, start, (begin + range.len).next_multiple_of(DIRECT_ALIGN));
        Ok((range, PendingRead::Direct { file_index, begin, read }))
    }

    /// Returns a buffer for a range of `len` bytes, extended to the alignment of direct reads.
    fn buffer(&mut self, len: usize) -> Result<ReadBuffer, ContentError> {
        let aligned_len = len.next_multiple_of(DIRECT_ALIGN) + DIRECT_ALIGN;
        match self.free.pop() {
            Some(buffer) if buffer.bytes().len() >= aligned_len => Ok(buffer),
            _ => ReadBuffer::with_len(aligned_len).map_err(ContentError::Memory),
        }
    }

    async fn await_and_hash(
        &mut self,
        step: &Step,
        reads: Vec<(ContentRange, PendingRead)>,
    ) -> Result<(), ContentError> {
        let mut loaded = Vec::with_capacity(reads.len());
        for (range, read) in reads {
            let (begin, mut buffer) = match read {
                PendingRead::Cached(buffer) => (None, buffer),
                PendingRead::Direct { file_index, begin, read } => match read.await.map_err(io::Error::other).flatten()
                {
                    Ok((filled, buffer)) if filled >= begin + range.len => (Some(begin), buffer),
                    Ok(_) => return Err(self.files.failed(file_index, io::ErrorKind::UnexpectedEof.into())),
                    // The file system does not support reads past the page cache.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => (None, self.buffer(range.len)?),
                    Err(error) => return Err(self.files.failed(file_index, error)),
                },
            };
            if begin.is_none() {
                self.worker.files.read(0, range.offset, &mut buffer.bytes_mut()[..range.len])?;
            }
            loaded.push((begin.unwrap_or(0), range.len, buffer));
        }
        let ranges: Vec<_> = loaded.iter().map(|(begin, len, buffer)| &buffer.bytes()[*begin..][..*len]).collect();
        self.worker.hash(step, &ranges);
        self.free.extend(loaded.into_iter().map(|(_, _, buffer)| buffer));
        Ok(())
    }
}
