//! Scatter receives: the kernel writes the bytes of a stream directly to their targets, without a copy in user space.
//!
//! The call takes the bytes that have arrived and does not wait. It therefore borrows the memory instead of owning it
//! in an operation, so that a silent peer does not keep a target.

use std::io;
use std::os::fd::RawFd;

use super::memory::{RecvBuffer, SPANS_PER_CALL};

/// Memory that the kernel may write while the value is borrowed.
///
/// # Safety
/// The span must be mapped and writable, and no other code may read or write it while `self` is mutably borrowed.
pub unsafe trait Scatter {
    fn span(&mut self) -> libc::iovec;
}

/// The targets of the next bytes of a stream: in turn a head of `HEAD` bytes, kept in the list, and a target.
#[derive(Debug)]
pub struct ScatterList<P, const HEAD: usize> {
    parts: Vec<([u8; HEAD], P)>,
    spans: Vec<libc::iovec>,
}

impl<P, const HEAD: usize> Default for ScatterList<P, HEAD> {
    fn default() -> Self {
        Self { parts: Vec::new(), spans: Vec::new() }
    }
}

impl<P: Scatter, const HEAD: usize> ScatterList<P, HEAD> {
    /// Appends a head, and the target that follows it.
    pub fn push(&mut self, target: P) {
        self.parts.push(([0; HEAD], target));
    }

    pub fn len(&self) -> usize {
        self.parts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub fn heads(&self) -> impl Iterator<Item = &[u8; HEAD]> {
        self.parts.iter().map(|(head, _)| head)
    }

    /// Removes all heads and targets, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = ([u8; HEAD], P)> {
        self.parts.drain(..)
    }

    /// Receives without waiting: the first `front_len` bytes are appended to `front`, the rest go to the targets.
    pub(super) fn recv(&mut self, fd: RawFd, front: &mut RecvBuffer, front_len: usize) -> io::Result<Received> {
        self.spans.clear();
        let free = front.free();
        let front_len = front_len.min(free.len());
        if front_len > 0 {
            self.spans.push(libc::iovec { iov_base: free.as_mut_ptr().cast(), iov_len: front_len });
        }
        for (head, target) in &mut self.parts {
            self.spans.push(libc::iovec { iov_base: head.as_mut_ptr().cast(), iov_len: HEAD });
            self.spans.push(target.span());
        }
        self.spans.truncate(SPANS_PER_CALL);
        let wanted: usize = self.spans.iter().map(|span| span.iov_len).sum();
        // SAFETY: an all-zero msghdr is a valid empty one.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = self.spans.as_mut_ptr();
        header.msg_iovlen = self.spans.len();
        // SAFETY: header and spans outlive the call, which does not wait. Every span is memory that is borrowed mutably
        // here: the free part of the buffer, the heads, and the targets (contract of `Scatter`).
        let len = unsafe { libc::recvmsg(fd, &raw mut header, libc::MSG_DONTWAIT) };
        let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
        front.handle_received(len.min(front_len));
        Ok(Received { len, is_all: len < wanted })
    }
}

/// The result of a scatter receive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    pub(super) len: usize,
    /// There was room for more bytes than had arrived.
    pub(super) is_all: bool,
}
