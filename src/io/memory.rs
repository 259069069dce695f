//! Memory of operations: the spans that the kernel reads, and the buffers that it fills.

use std::fs::File;
use std::sync::Arc;

/// Linux's `UIO_MAXIOV`: the maximum number of spans in one call.
pub(super) const SPANS_PER_CALL: usize = 1024;

/// A file shared by several ring threads.
pub type SharedFile = Arc<File>;

/// A step of writing dirty pages out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushStep {
    /// Start to write the pages of a range out.
    Start,
    /// Write them out, and wait for the end of all writes of the range.
    Wait,
}

impl FlushStep {
    /// The flags of `sync_file_range`.
    pub(super) fn flags(self) -> libc::c_uint {
        match self {
            Self::Start => libc::SYNC_FILE_RANGE_WRITE,
            Self::Wait => {
                libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER
            }
        }
    }
}

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
    filled: usize,
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

    /// The first `len` bytes of the free part have been received.
    pub(super) fn handle_received(&mut self, len: usize) {
        self.filled = (self.filled + len).min(self.memory.len());
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

    /// The number of spans of the next call.
    pub(super) fn len(&self) -> usize {
        self.0.1.len().min(SPANS_PER_CALL)
    }

    /// Limits the next call to the first `len` spans.
    pub(super) fn shorten(&mut self, len: usize) {
        self.0.0.msg_iovlen = len;
    }

    /// Drops the first `len` bytes. Returns false if none is left.
    pub(super) fn advance(&mut self, len: usize) -> bool {
        advance(&mut self.0.1, len);
        self.point();
        !self.0.1.is_empty()
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
