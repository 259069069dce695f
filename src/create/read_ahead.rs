//! A worker's work with its cold steps read past the page cache by a ring, each while the one before it is hashed.

use std::io;

use super::error::ContentError;
use super::files::Files;
use super::sweep::{Content, Sweep};
use super::worker::{Hashes, Step, Stretch, Worker};
use crate::base::limits::{DIRECT_ALIGN, HASH_LANES};
use crate::uring::{self, ReadBuffer, RingTask};

/// Does a worker's share on a ring of this thread.
pub(super) async fn run<C: Content>(sweep: &Sweep<'_, C>) -> Result<Hashes, ContentError> {
    let files = Files::direct(sweep.content, HASH_LANES);
    ReadAhead { worker: Worker::new(sweep), files, free: Vec::new() }.run().await
}

struct ReadAhead<'a, C> {
    worker: Worker<'a, C>,
    /// Opened to be read past the page cache.
    files: Files<'a, C>,
    /// Buffers that wait for the next step.
    free: Vec<ReadBuffer>,
}

/// A stretch on its way into memory.
enum Arrival {
    /// By the ring; its bytes are those from `begin` on.
    Direct { file_index: usize, begin: usize, read: RingTask<io::Result<(usize, ReadBuffer)>> },
    /// Through the page cache when its turn comes: it lies in several files, or its file cannot be read past the cache.
    Cached(ReadBuffer),
}

/// A step, and its stretches as they come.
type Started = (Step, Vec<(Stretch, Arrival)>);

impl<C: Content> ReadAhead<'_, C> {
    async fn run(mut self) -> Result<Hashes, ContentError> {
        let mut next = self.start_next()?;
        while let Some((step, arrivals)) = next {
            next = self.start_next()?;
            if step.is_cold() {
                // Its reads, and those of the next step, go to the kernel before this thread hashes.
                uring::no_op().await;
                self.hash_arrived(&step, arrivals).await?;
            } else {
                self.worker.read_and_hash(&step)?;
            }
        }
        Ok(self.worker.into_hashes())
    }

    fn start_next(&mut self) -> Result<Option<Started>, ContentError> {
        let Some(step) = self.worker.next_step()? else { return Ok(None) };
        let stretches = if step.is_cold() { step.stretches(self.worker.geometry()) } else { Vec::new() };
        let start = |(place, stretch)| self.start(place % HASH_LANES, stretch);
        let arrivals = stretches.into_iter().enumerate().map(start).collect::<Result<_, _>>()?;
        Ok(Some((step, arrivals)))
    }

    fn start(&mut self, place: usize, stretch: Stretch) -> Result<(Stretch, Arrival), ContentError> {
        let buffer = self.buffer(stretch.len)?;
        let spans = &mut self.worker.geometry().file_spans(stretch.offset, stretch.len as u64);
        let (Some(span), None) = (spans.next(), spans.next()) else { return Ok((stretch, Arrival::Cached(buffer))) };
        let file_index = span.file_index;
        let Some(file) = self.files.file(place, file_index)? else { return Ok((stretch, Arrival::Cached(buffer))) };
        let start = span.offset - span.offset % DIRECT_ALIGN as u64;
        let begin = usize::try_from(span.offset - start).unwrap_or(0);
        let read = uring::read_ahead(&file, buffer, start, (begin + stretch.len).next_multiple_of(DIRECT_ALIGN));
        Ok((stretch, Arrival::Direct { file_index, begin, read }))
    }

    /// Memory for a stretch of `len` bytes with what is read beside it.
    fn buffer(&mut self, len: usize) -> Result<ReadBuffer, ContentError> {
        let room_len = len.next_multiple_of(DIRECT_ALIGN) + DIRECT_ALIGN;
        match self.free.pop() {
            Some(buffer) if buffer.bytes().len() >= room_len => Ok(buffer),
            _ => ReadBuffer::with_len(room_len).map_err(ContentError::Memory),
        }
    }

    async fn hash_arrived(&mut self, step: &Step, arrivals: Vec<(Stretch, Arrival)>) -> Result<(), ContentError> {
        let mut loaded = Vec::with_capacity(arrivals.len());
        for (stretch, arrival) in arrivals {
            let (begin, mut buffer) = match arrival {
                Arrival::Cached(buffer) => (None, buffer),
                Arrival::Direct { file_index, begin, read } => match read.await.map_err(io::Error::other).flatten() {
                    Ok((filled, buffer)) if filled >= begin + stretch.len => (Some(begin), buffer),
                    Ok(_) => return Err(self.files.failed(file_index, io::ErrorKind::UnexpectedEof.into())),
                    // This file system does not read past its cache.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => (None, self.buffer(stretch.len)?),
                    Err(error) => return Err(self.files.failed(file_index, error)),
                },
            };
            if begin.is_none() {
                self.worker.files.read(0, stretch.offset, &mut buffer.bytes_mut()[..stretch.len])?;
            }
            loaded.push((begin.unwrap_or(0), stretch.len, buffer));
        }
        let stretches: Vec<_> = loaded.iter().map(|(begin, len, buffer)| &buffer.bytes()[*begin..][..*len]).collect();
        self.worker.hash(step, &stretches);
        self.free.extend(loaded.into_iter().map(|(_, _, buffer)| buffer));
        Ok(())
    }
}
