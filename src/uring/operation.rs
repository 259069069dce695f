//! One-completion operations on the thread's ring, each owning what the kernel may touch.

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

/// Linux's `UIO_MAXIOV`: spans the kernel takes in one call.
pub(super) const SPANS_PER_CALL: usize = 1024;

/// A file written from several ring threads.
pub type SharedFile = Arc<File>;

/// Memory that the kernel may read while the value lives: what `sendmsg` and `writev` gather from.
///
/// # Safety
/// Every span that `gather` adds must stay mapped and must not be written to or moved for as long as `self` lives, wherever
/// `self` is moved to.
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

/// Scratch bytes and other spans in turn, sent as one: `bytes[..upto]`, the first part, `bytes[upto..]` and so on.
#[derive(Debug)]
pub struct Batch<G> {
    /// Must not change while the batch is with the kernel; the batch is owned by the operation meanwhile.
    bytes: Vec<u8>,
    /// Each part goes behind the first so many bytes.
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

    /// Appends spans that are sent from where they are.
    pub fn push_part(&mut self, part: G) {
        self.parts.push((self.bytes.len(), part));
    }

    /// Empties it, keeping the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.parts.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.parts.is_empty()
    }
}

// SAFETY: the scratch bytes are on the heap of a vector that nobody can reach while the operation owns the batch; the
// parts keep their own promise.
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

/// A receive buffer: bytes arrive behind `filled`.
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

    /// Makes room for so many more bytes.
    pub fn reserve(&mut self, len: usize) {
        let end = self.filled + len;
        if end > self.memory.len() {
            self.resize(end);
        }
    }

    /// Appends bytes, growing where they do not fit: see [`Self::reserve`].
    pub fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        let end = self.filled + bytes.len();
        if let Some(free) = self.memory.get_mut(self.filled..end) {
            free.copy_from_slice(bytes);
            self.filled = end;
        }
    }

    /// Memory behind what is filled: what the next bytes are received into.
    pub(super) fn free(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.filled..).unwrap_or_default()
    }

    /// Forgets the first `len` bytes and moves the rest to the front.
    pub fn consume(&mut self, len: usize) {
        let len = len.min(self.filled);
        self.memory.copy_within(len..self.filled, 0);
        self.filled -= len;
    }

    /// Moves what is filled into a buffer of another capacity, at least what is filled.
    pub fn resize(&mut self, len: usize) {
        let mut memory: Box<[u8]> = vec![0; len.max(self.filled)].into();
        memory[..self.filled].copy_from_slice(self.filled());
        self.memory = memory;
    }
}

/// Hands the completion's result and what the operation owned back to the caller.
struct Finish<D>(PhantomData<fn() -> D>);

impl<D: 'static> tokio_uring::OneshotOutputTransform for Finish<D> {
    type StoredData = D;
    type Output = (io::Result<u32>, D);

    fn transform_oneshot_output(self, owned: D, entry: cqueue::Entry) -> Self::Output {
        let result = entry.result();
        (u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result)), owned)
    }
}

/// Submits one entry and waits for its completion; again, where it failed in passing.
///
/// # Safety
/// Everything `entry` points to must be kept valid by `owned` (moving `owned` must not move it), and the entry must post
/// exactly one completion.
pub(super) async unsafe fn submit<D: Unpin + 'static>(mut owned: D, entry: squeue::Entry) -> (io::Result<u32>, D) {
    for _ in 0..RETRIES_MAX {
        let result;
        (result, owned) = match chaos_interrupt() {
            Some(error) => (Err(error), owned),
            // SAFETY: the caller's promise.
            None => unsafe { submit_once(owned, entry.clone()) }.await,
        };
        if !result.as_ref().is_err_and(is_transient) {
            return (result, owned);
        }
        // On the heap, since hardly any operation comes here.
        Box::pin(tokio::time::sleep(RETRY_PAUSE)).await;
    }
    // SAFETY: the caller's promise.
    unsafe { submit_once(owned, entry) }.await
}

/// As [`submit`], but whatever comes of it is told.
///
/// # Safety
/// As for [`submit`].
async unsafe fn submit_once<D: Unpin + 'static>(owned: D, entry: squeue::Entry) -> (io::Result<u32>, D) {
    unless_ring_ends().await;
    let owned = (owned, InFlight::begin());
    let (result, (owned, _)) = tokio_uring::UnsubmittedOneshot::new(owned, Finish(PhantomData), entry).submit().await;
    (result, owned)
}

/// Gives the thread back to the runtime until its next turn, so that queued operations reach the kernel.
pub async fn no_op() {
    // SAFETY: the entry points to nothing.
    let _ = unsafe { submit((), opcode::Nop::new().build()) }.await;
}

/// Cancels every operation under way on this thread's ring; gives their number.
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
    // SAFETY: the entry points into the buffer's heap memory, which the operation owns together with the socket.
    let (result, (_, mut buffer)) = unsafe { submit((socket, buffer), entry) }.await;
    let result = result.map(|received| received as usize);
    if let Ok(received) = result {
        buffer.filled = (buffer.filled + received).min(buffer.memory.len());
    }
    (result, buffer)
}

/// Waits until one of these events is there, or an error.
pub(super) async fn poll<S: AsRawFd + Unpin + 'static>(socket: S, events: libc::c_short) -> io::Result<()> {
    let events = u32::try_from(events).unwrap_or(0);
    let entry = opcode::PollAdd::new(types::Fd(socket.as_raw_fd()), events).build();
    // SAFETY: the entry points to nothing; the operation owns the socket.
    let (result, _) = unsafe { submit(socket, entry) }.await;
    result.map(|_| ())
}

/// What `sendmsg` is pointed to; does not move with its owner.
pub(super) struct Message(Box<(libc::msghdr, Vec<libc::iovec>)>);

impl Message {
    /// Of as many spans as the kernel takes in one call.
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

    /// Has the kernel look at the first spans alone this time.
    fn shorten(&mut self, len: usize) {
        self.0.0.msg_iovlen = len;
    }

    /// Drops the first `len` bytes; false when none is left.
    fn advance(&mut self, len: usize) -> bool {
        advance(&mut self.0.1, len);
        self.point();
        !self.0.1.is_empty()
    }
}

/// Sends every byte of `batch` in order, in one operation where the kernel allows.
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
        // SAFETY: the header and the spans' array are on the heap behind the box, the spans point into memory that
        // `batch` keeps (contract of `Gather`); the operation owns box, batch and socket.
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
    let gone = spans
        .iter()
        .take_while(|span| {
            let whole = span.iov_len <= len;
            len -= if whole { span.iov_len } else { 0 };
            whole
        })
        .count();
    spans.drain(..gone);
    if let Some(first) = spans.first_mut() {
        first.iov_base = first.iov_base.wrapping_byte_add(len);
        first.iov_len -= len;
    }
}

/// Writes every byte of `source` at `offset`; the kernel copies on a worker thread when the file system would block.
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
        // SAFETY: the array of spans is heap memory of the vector, the spans point into what `source` keeps (contract of
        // `Gather`); the operation owns both and the file.
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

/// Has written pages of a file go to the disk, on a kernel worker, and waits until they are there if `wait`. File systems
/// without a disk have nothing to do.
pub async fn flush_range(file: SharedFile, offset: u64, len: u32, wait: bool) -> io::Result<()> {
    let waiting = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let flags = libc::SYNC_FILE_RANGE_WRITE | if wait { waiting } else { 0 };
    let fd = types::Fd(file.as_raw_fd());
    let entry = opcode::SyncFileRange::new(fd, len).offset(offset).flags(flags).build();
    // SAFETY: the entry points to nothing; the operation owns the file.
    let (result, _) = unsafe { submit(file, entry) }.await;
    result.map(|_| ())
}
