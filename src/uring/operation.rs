//! Operations with one completion on the thread's ring. Each owns the memory and descriptors that the kernel may
//! access.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring_06::{cqueue, opcode, squeue, types};

use super::fault::{Step, chaos_interrupt, chaos_truncate, fault_point};
use super::in_flight::{InFlight, unless_ring_ends};
use super::retry::is_transient;
use crate::base::limits::{DIRECT_ALIGN, RETRIES_MAX, RETRY_PAUSE};

/// Linux's `UIO_MAXIOV`: the maximum number of spans in one call.
pub(super) const SPANS_PER_CALL: usize = 1024;

/// A file shared by several ring threads.
pub type SharedFile = Arc<File>;

/// Memory that the kernel may read while the value is alive: the source of `sendmsg` and `writev`.
///
/// # Safety
/// Every span that `gather` appends must stay mapped and must not be written to or moved while `self` is alive, even if
/// `self` is moved.
pub unsafe trait Gather: Unpin + 'static {
    /// Appends the spans in order.
    fn gather(&self, out: &mut Vec<libc::iovec>);
}

// SAFETY: a boxed slice's heap memory does not move with the box and nothing writes to it through a shared owner.
unsafe impl Gather for Box<[u8]> {
    fn gather(&self, out: &mut Vec<libc::iovec>) {
        push_span(self, out);
    }
}

/// Scratch bytes and other parts in turn, sent as one stream: `bytes[..upto]`, the first part, `bytes[upto..]` and so
/// on.
#[derive(Debug)]
pub struct Batch<G> {
    /// Must not change while the kernel reads the batch; the operation owns the batch during that time.
    bytes: Vec<u8>,
    /// Each part, with the number of scratch bytes that precede it.
    parts: Vec<(usize, G)>,
}

impl<G> Default for Batch<G> {
    fn default() -> Self {
        Self { bytes: Vec::new(), parts: Vec::new() }
    }
}

impl<G> Batch<G> {
    /// Appends scratch bytes.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends spans that are sent without copying them to the batch.
    pub fn push_part(&mut self, part: G) {
        self.parts.push((self.bytes.len(), part));
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.parts.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.parts.is_empty()
    }
}

// SAFETY: the scratch bytes are on the heap of a vector that no code can reach while the operation owns the batch. The
// parts fulfill the contract themselves.
unsafe impl<G: Gather> Gather for Batch<G> {
    fn gather(&self, out: &mut Vec<libc::iovec>) {
        let mut at = 0;
        for (upto, part) in &self.parts {
            push_span(&self.bytes[at..*upto], out);
            part.gather(out);
            at = *upto;
        }
        push_span(&self.bytes[at..], out);
    }
}

fn push_span(bytes: &[u8], out: &mut Vec<libc::iovec>) {
    if !bytes.is_empty() {
        out.push(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
    }
}

/// A receive buffer. Received bytes are appended to `filled`.
#[derive(Debug, Default)]
pub struct RecvBuffer {
    memory: Box<[u8]>,
    pub(super) filled: usize,
}

impl RecvBuffer {
    pub fn with_capacity(len: usize) -> Self {
        Self { memory: vec![0; len].into(), filled: 0 }
    }

    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// The bytes received and not yet consumed.
    pub fn filled(&self) -> &[u8] {
        self.memory.get(..self.filled).unwrap_or_default()
    }

    /// Grows the buffer if it has room for fewer than `len` more bytes.
    pub fn reserve(&mut self, len: usize) {
        let end = self.filled + len;
        if end > self.memory.len() {
            self.resize(end);
        }
    }

    /// Appends bytes, and grows the buffer if they do not fit.
    pub fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        let end = self.filled + bytes.len();
        if let Some(free) = self.memory.get_mut(self.filled..end) {
            free.copy_from_slice(bytes);
            self.filled = end;
        }
    }

    /// The free memory behind the filled part.
    pub(super) fn free(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.filled..).unwrap_or_default()
    }

    /// Drops the first `len` bytes and moves the rest to the front.
    pub fn consume(&mut self, len: usize) {
        let len = len.min(self.filled);
        self.memory.copy_within(len..self.filled, 0);
        self.filled -= len;
    }

    /// Changes the capacity to `len`, or to the length of the filled part if that is more.
    pub fn resize(&mut self, len: usize) {
        let mut memory: Box<[u8]> = vec![0; len.max(self.filled)].into();
        memory[..self.filled].copy_from_slice(self.filled());
        self.memory = memory;
    }
}

/// Returns the result of the completion, and the values that the operation owned.
struct Finish<D>(PhantomData<fn() -> D>);

impl<D: 'static> tokio_uring::OneshotOutputTransform for Finish<D> {
    type StoredData = D;
    type Output = (io::Result<u32>, D);

    fn transform_oneshot_output(self, owned: D, entry: cqueue::Entry) -> Self::Output {
        let result = entry.result();
        (u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result)), owned)
    }
}

/// Submits an entry and waits for its completion. Retries transient errors (`EINTR`, `EAGAIN`, `ECANCELED`).
///
/// # Safety
/// `owned` must keep everything that `entry` points to valid, even when `owned` is moved. The entry must post exactly
/// one completion.
pub(super) async unsafe fn submit<D: Unpin + 'static>(mut owned: D, entry: squeue::Entry) -> (io::Result<u32>, D) {
    for _ in 0..RETRIES_MAX {
        let result;
        (result, owned) = match chaos_interrupt() {
            Some(error) => (Err(error), owned),
            // SAFETY: guaranteed by the caller.
            None => unsafe { submit_once(owned, entry.clone()) }.await,
        };
        if !result.as_ref().is_err_and(is_transient) {
            return (result, owned);
        }
        // Boxed to keep the future small: retries are rare.
        Box::pin(tokio::time::sleep(RETRY_PAUSE)).await;
    }
    // SAFETY: guaranteed by the caller.
    unsafe { submit_once(owned, entry) }.await
}

/// [`submit`] without retries.
///
/// # Safety
/// As for [`submit`].
async unsafe fn submit_once<D: Unpin + 'static>(owned: D, entry: squeue::Entry) -> (io::Result<u32>, D) {
    unless_ring_ends().await;
    let owned = (owned, InFlight::begin());
    let (result, (owned, _)) = tokio_uring::UnsubmittedOneshot::new(owned, Finish(PhantomData), entry).submit().await;
    (result, owned)
}

/// Yields to the runtime for one turn, so that queued operations are submitted to the kernel.
pub async fn no_op() {
    // SAFETY: the entry contains no pointer.
    let _ = unsafe { submit((), opcode::Nop::new().build()) }.await;
}

/// Cancels all pending operations of this thread's ring, and returns their number.
pub(super) async fn cancel_all() -> io::Result<u32> {
    let entry = opcode::AsyncCancel2::new(types::CancelBuilder::any().all()).build();
    tokio_uring::UnsubmittedOneshot::new((), Finish(PhantomData), entry).submit().await.0
}

/// Receives into the free part of `buffer`; `Ok(0)` is the end of the stream.
pub(super) async fn recv<S: AsRawFd + Unpin + 'static>(
    socket: S,
    mut buffer: RecvBuffer,
) -> (io::Result<usize>, RecvBuffer) {
    let len = chaos_truncate(buffer.free().len(), 1).await;
    let free = buffer.free();
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    let entry = opcode::Recv::new(types::Fd(socket.as_raw_fd()), free.as_mut_ptr(), len).build();
    // SAFETY: the entry points into heap memory of the buffer. The operation owns the buffer and the socket.
    let (result, (_, mut buffer)) = unsafe { submit((socket, buffer), entry) }.await;
    let result = result.map(|received| received as usize);
    if let Ok(received) = result {
        buffer.filled = (buffer.filled + received).min(buffer.memory.len());
    }
    (result, buffer)
}

/// Waits for one of these events or an error.
pub(super) async fn poll<S: AsRawFd + Unpin + 'static>(socket: S, events: libc::c_short) -> io::Result<()> {
    let events = u32::try_from(events).unwrap_or(0);
    let entry = opcode::PollAdd::new(types::Fd(socket.as_raw_fd()), events).build();
    // SAFETY: the entry contains no pointer; the operation owns the socket.
    let (result, _) = unsafe { submit(socket, entry) }.await;
    result.map(|_| ())
}

/// The header and spans of a `sendmsg`, on the heap so that they do not move with their owner.
pub(super) struct Message(Box<(libc::msghdr, Vec<libc::iovec>)>);

impl Message {
    /// Creates a message. One call sends at most [`SPANS_PER_CALL`] of the spans.
    pub(super) fn new(spans: Vec<libc::iovec>) -> Self {
        // SAFETY: an all-zero msghdr is a valid empty one.
        let mut message = Self(Box::new((unsafe { std::mem::zeroed() }, spans)));
        message.point();
        message
    }

    fn point(&mut self) {
        let (header, spans) = &mut *self.0;
        header.msg_iov = spans.as_mut_ptr();
        header.msg_iovlen = spans.len().min(SPANS_PER_CALL);
    }

    pub(super) fn header(&self) -> *const libc::msghdr {
        &raw const self.0.0
    }

    fn len(&self) -> usize {
        self.0.1.len().min(SPANS_PER_CALL)
    }

    /// Limits the next call to the first `len` spans.
    fn shorten(&mut self, len: usize) {
        self.0.0.msg_iovlen = len;
    }

    /// Drops the first `len` bytes. Returns false if none is left.
    fn advance(&mut self, len: usize) -> bool {
        advance(&mut self.0.1, len);
        self.point();
        !self.0.1.is_empty()
    }
}

/// Sends all bytes of `batch` in order, in one operation if possible.
pub(super) async fn send_all<S, G>(socket: S, batch: G) -> (io::Result<()>, G)
where
    S: AsRawFd + Clone + Unpin + 'static,
    G: Gather,
{
    let mut spans = Vec::new();
    batch.gather(&mut spans);
    let (mut message, mut batch) = (Message::new(spans), batch);
    loop {
        message.shorten(chaos_truncate(message.len(), 1).await);
        let fd = types::Fd(socket.as_raw_fd());
        let flags = u32::try_from(libc::MSG_WAITALL | libc::MSG_NOSIGNAL).unwrap_or(0);
        let entry = opcode::SendMsg::new(fd, message.header()).flags(flags).build();
        // SAFETY: header and span array are on the heap behind the box. The spans point into memory that `batch` keeps
        // alive (contract of `Gather`). The operation owns box, batch and socket.
        let (result, (_, m, b)) = unsafe { submit((socket.clone(), message, batch), entry) }.await;
        (message, batch) = (m, b);
        match result {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), batch),
            Ok(sent) if !message.advance(sent as usize) => return (Ok(()), batch),
            Ok(_) => {}
            Err(error) => return (Err(error), batch),
        }
    }
}

/// Drops the first `len` bytes of the spans.
pub(super) fn advance(spans: &mut Vec<libc::iovec>, mut len: usize) {
    let done_count = spans
        .iter()
        .take_while(|span| {
            let whole = span.iov_len <= len;
            len -= if whole { span.iov_len } else { 0 };
            whole
        })
        .count();
    spans.drain(..done_count);
    if let Some(first) = spans.first_mut() {
        first.iov_base = first.iov_base.wrapping_byte_add(len);
        first.iov_len -= len;
    }
}

/// Writes all bytes of `source` at `offset`. If the file system would block, the kernel does the write on a worker
/// thread.
pub async fn write_all_at<G: Gather>(file: SharedFile, source: G, offset: u64) -> (io::Result<()>, G) {
    let mut spans = Vec::new();
    source.gather(&mut spans);
    let (mut spans, mut source, mut at) = (Box::new(spans), source, offset);
    while !spans.is_empty() {
        if let Err(error) = fault_point(Step::Write) {
            return (Err(error), source);
        }
        let whole = spans.first().map_or(0, |span| span.iov_len);
        let first = chaos_truncate(whole, DIRECT_ALIGN).await;
        let count = if first < whole { 1 } else { u32::try_from(spans.len().min(SPANS_PER_CALL)).unwrap_or(1) };
        if let Some(span) = spans.first_mut() {
            span.iov_len = first;
        }
        let entry = opcode::Writev::new(types::Fd(file.as_raw_fd()), spans.as_ptr(), count).offset(at).build();
        // SAFETY: the span array is heap memory of the vector. The spans point into memory that `source` keeps alive
        // (contract of `Gather`). The operation owns both and the file.
        let (result, (_, v, s)) = unsafe { submit((file.clone(), spans, source), entry) }.await;
        (spans, source) = (v, s);
        if let Some(span) = spans.first_mut() {
            span.iov_len = whole;
        }
        match result {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), source),
            Ok(written) => {
                at += u64::from(written);
                advance(&mut spans, written as usize);
            }
            Err(error) => return (Err(error), source),
        }
    }
    (Ok(()), source)
}

/// Starts the write-out of dirty pages in a range of a file, on a kernel worker. With `wait`, waits for its end. Does
/// nothing on a file system without a disk.
pub async fn flush_range(file: SharedFile, offset: u64, len: u32, wait: bool) -> io::Result<()> {
    let waiting = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let flags = libc::SYNC_FILE_RANGE_WRITE | if wait { waiting } else { 0 };
    let fd = types::Fd(file.as_raw_fd());
    let entry = opcode::SyncFileRange::new(fd, len).offset(offset).flags(flags).build();
    // SAFETY: the entry contains no pointer; the operation owns the file.
    let (result, _) = unsafe { submit(file, entry) }.await;
    result.map(|_| ())
}
