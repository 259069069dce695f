//! Writes that the kernel carries out side by side for one thread: Linux's asynchronous I/O (`io_submit(2)`).
//!
//! It is meant for direct writes. The kernel makes a buffered write while it is submitted, and may wait for space or a
//! lock in any submission, so this belongs on file threads.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use crate::base::limits::{ASYNC_WRITE_POLL, ASYNC_WRITES_MAX, DIRECT_ALIGN};
use crate::io::SharedFile;
use crate::io::fault::{Step, chaos_truncate_blocking, fault_point};
use crate::io::memory::{Gather, SPANS_PER_CALL};
use crate::io::plain::file::write_all_at_blocking;
use crate::io::retry::{is_transient, retry_transient};

/// A kernel context of asynchronous I/O. Outside of [`AsyncWrites`] it has no write in flight.
#[derive(Debug)]
pub struct AsyncContext(libc::c_ulong);

impl AsyncContext {
    /// Creates a context, and tries the other calls on it. Fails where one of them is refused, or too many contexts
    /// exist (`fs.aio-max-nr`).
    pub fn new() -> io::Result<Self> {
        let mut id: libc::c_ulong = 0;
        let depth = libc::c_long::try_from(ASYNC_WRITES_MAX).unwrap_or(1);
        // SAFETY: the kernel writes the context's id to `id`, which outlives the call.
        to_count(unsafe { libc::syscall(libc::SYS_io_setup, depth, &raw mut id) })?;
        let context = Self(id);
        // SAFETY: there is no request.
        unsafe { context.submit(&mut []) }?;
        context.wait(&mut [])?;
        Ok(context)
    }

    /// Submits requests, and returns how many the kernel has taken. Fails if it does not take the first one.
    ///
    /// # Safety
    /// The requests and their spans must outlive the call, which copies them and writes to the requests. The bytes of
    /// the spans of each request that is taken must stay as they are until its completion.
    unsafe fn submit(&self, requests: &mut [*mut Request]) -> io::Result<usize> {
        let count = libc::c_long::try_from(requests.len()).unwrap_or(0);
        // SAFETY: the contract of this function.
        to_count(unsafe { libc::syscall(libc::SYS_io_submit, self.0, count, requests.as_mut_ptr()) })
    }

    /// Waits until a request is complete, for [`ASYNC_WRITE_POLL`] at most, and returns how many completions it has
    /// written to `out`.
    fn wait(&self, out: &mut [Completion]) -> io::Result<usize> {
        let count = libc::c_long::try_from(out.len()).unwrap_or(0);
        let mut timeout = libc::timespec { tv_sec: 0, tv_nsec: ASYNC_WRITE_POLL.subsec_nanos().into() };
        // SAFETY: the kernel writes at most `count` completions, for which `out` has room, and reads `timeout`.
        to_count(unsafe {
            libc::syscall(libc::SYS_io_getevents, self.0, count.min(1), count, out.as_mut_ptr(), &raw mut timeout)
        })
    }
}

impl Drop for AsyncContext {
    fn drop(&mut self) {
        // SAFETY: the context is not used again. No request is in flight whose memory could be in use.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}

fn to_count(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The kernel's `struct iocb`.
#[repr(C)]
#[derive(Default)]
struct Request {
    /// Returned with the completion: the index of the write.
    data: u64,
    /// Two words whose order depends on the machine: a key, which the kernel writes, and flags.
    key_and_flags: [u32; 2],
    opcode: u16,
    priority: i16,
    descriptor: u32,
    spans: u64,
    span_count: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_descriptor: u32,
}

/// `IOCB_CMD_PWRITEV`.
const WRITE_VECTORED: u16 = 8;

/// The kernel's `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Completion {
    data: u64,
    request: u64,
    /// Bytes written, or a negative errno.
    result: i64,
    second_result: i64,
}

const _: () = assert!(size_of::<Request>() == 64 && size_of::<Completion>() == 32);

/// A write of all bytes of `source` at `offset`, with a tag for its result.
pub struct AsyncWrite<T> {
    pub file: SharedFile,
    pub source: Box<dyn Gather + Send>,
    pub offset: u64,
    pub tag: T,
}

/// The writes of a thread. At most [`ASYNC_WRITES_MAX`] are in flight; the kernel reads the memory of each until its
/// completion is received. A value that is forgotten leaks that memory.
pub struct AsyncWrites<T> {
    context: Option<AsyncContext>,
    /// To be submitted with the next wait, so that the disk gets them at once.
    staged: Vec<AsyncWrite<T>>,
    slots: [Option<Slot<T>>; ASYNC_WRITES_MAX],
}

struct Slot<T> {
    write: AsyncWrite<T>,
    /// Bytes.
    len: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The kernel does not know the write.
    Prepared,
    /// The kernel reads the memory of the write.
    InFlight,
}

impl<T> AsyncWrites<T> {
    /// Without a context each write is made by a call that blocks, one after another.
    pub fn new(context: Option<AsyncContext>) -> Self {
        Self { context, staged: Vec::new(), slots: [const { None }; ASYNC_WRITES_MAX] }
    }

    /// Whether nothing is in flight or was added.
    pub fn is_empty(&self) -> bool {
        self.staged.is_empty() && self.slots.iter().all(Option::is_none)
    }

    /// The number of writes that may be added.
    pub fn room(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_none()).count().saturating_sub(self.staged.len())
    }

    /// Adds a write, to be submitted by the next [`Self::wait`]. There must be room for it.
    pub fn add(&mut self, write: AsyncWrite<T>) {
        self.staged.push(write);
    }

    /// Submits what was added, waits until a write is complete, for [`ASYNC_WRITE_POLL`] at most, and passes the results
    /// to `done`. Writes that the kernel does not take, or makes in part, are made by a call that blocks.
    pub fn wait(&mut self, mut done: impl FnMut(T, io::Result<()>)) {
        self.submit(&mut done);
        let Some(context) = self.context.as_ref().filter(|_| self.slots.iter().any(Option::is_some)) else { return };
        let mut completions = [Completion::default(); ASYNC_WRITES_MAX];
        let received = match retry_transient(|| context.wait(&mut completions)) {
            Ok(received) => received,
            Err(error) if is_transient(&error) => return,
            Err(error) => return self.abandon(&error, done),
        };
        // All slots first: a write that panics below must not leave one that no completion would free.
        let take = |Completion { data, result, .. }: &Completion| {
            let slot = usize::try_from(*data).ok().and_then(|index| self.slots.get_mut(index))?;
            slot.take().map(|slot| (slot, *result))
        };
        let ended: Vec<_> = completions.iter().take(received).filter_map(take).collect();
        for (Slot { write, len, .. }, result) in ended {
            let result = match usize::try_from(result) {
                Ok(written) if written == len => Ok(()),
                Ok(_) => write_blocking(&write),
                Err(_) => match io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::EIO)) {
                    error if is_transient(&error) => write_blocking(&write),
                    error => Err(error),
                },
            };
            done(write.tag, result);
        }
    }

    /// Returns the context, unless it was given up. Nothing may be in flight.
    pub fn into_context(mut self) -> Option<AsyncContext> {
        debug_assert!(self.is_empty(), "results would be lost");
        self.finish();
        self.context.take()
    }

    /// Submits what was added. Writes that the kernel does not take are made by a call that blocks, and have its errors.
    fn submit(&mut self, done: &mut impl FnMut(T, io::Result<()>)) {
        let (mut spans_of_all, mut requests, mut indices) = (Vec::new(), Vec::new(), Vec::new());
        for write in std::mem::take(&mut self.staged) {
            let free = self.slots.iter_mut().enumerate().find(|(_, slot)| slot.is_none());
            let (Some((index, slot)), true) = (free, self.context.is_some()) else {
                let result = write_blocking(&write);
                done(write.tag, result);
                continue;
            };
            if let Err(error) = fault_point(Step::Write) {
                done(write.tag, Err(error));
                continue;
            }
            let mut spans = Vec::new();
            write.source.gather(&mut spans);
            let len = spans.iter().map(|span| span.iov_len).sum();
            spans.truncate(SPANS_PER_CALL);
            if let [only] = spans.as_mut_slice() {
                only.iov_len = chaos_truncate_blocking(only.iov_len, DIRECT_ALIGN);
            }
            requests.push(request(index, &write.file, &spans, write.offset));
            indices.push(index);
            // The heap memory of the spans does not move.
            spans_of_all.push(spans);
            *slot = Some(Slot { write, len, state: State::Prepared });
        }
        let first = requests.as_mut_ptr();
        let mut pointers: Vec<*mut Request> = (0..requests.len()).map(|at| first.wrapping_add(at)).collect();
        let mut submitted = 0;
        while let (Some(context), Some(rest @ [_, ..])) = (&self.context, pointers.get_mut(submitted..)) {
            // SAFETY: `requests` and `spans_of_all` live to the end of this function and are not touched otherwise. The
            // bytes belong to the source in the slot, which is dropped after the completion.
            let taken = retry_transient(|| unsafe { context.submit(rest) }).unwrap_or_default();
            if taken == 0 {
                break;
            }
            let in_flight = indices.iter().skip(submitted).take(taken);
            in_flight.for_each(|&index| {
                self.slots.get_mut(index).into_iter().flatten().for_each(|slot| slot.state = State::InFlight);
            });
            submitted += taken;
        }
        for &index in indices.iter().skip(submitted) {
            if let Some(Slot { write, .. }) = self.slots.get_mut(index).and_then(Option::take) {
                let result = write_blocking(&write);
                done(write.tag, result);
            }
        }
        drop((spans_of_all, requests));
    }

    /// The kernel no longer tells which writes are complete: leaves it the memory of those in flight, which may still
    /// reach the disk.
    fn abandon(&mut self, error: &io::Error, mut done: impl FnMut(T, io::Result<()>)) {
        std::mem::forget(self.context.take());
        for Slot { write, .. } in self.slots.iter_mut().filter_map(Option::take) {
            std::mem::forget((write.file, write.source));
            done(write.tag, Err(io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))));
        }
    }

    /// Waits for the writes in flight, and drops the others.
    fn finish(&mut self) {
        self.staged.clear();
        for slot in &mut self.slots {
            slot.take_if(|slot| slot.state == State::Prepared);
        }
        while !self.is_empty() {
            self.wait(|_, _| ());
        }
    }
}

/// Waits for the writes in flight, since the kernel reads their memory.
impl<T> Drop for AsyncWrites<T> {
    fn drop(&mut self) {
        self.finish();
    }
}

fn request(index: usize, file: &File, spans: &[libc::iovec], offset: u64) -> Request {
    Request {
        data: index as u64,
        opcode: WRITE_VECTORED,
        descriptor: file.as_raw_fd().cast_unsigned(),
        spans: spans.as_ptr().expose_provenance() as u64,
        span_count: spans.len() as u64,
        offset: offset.cast_signed(),
        ..Request::default()
    }
}

fn write_blocking<T>(write: &AsyncWrite<T>) -> io::Result<()> {
    write_all_at_blocking(&write.file, write.source.as_ref(), write.offset)
}

#[cfg(test)]
#[path = "aio_tests.rs"]
mod tests;
