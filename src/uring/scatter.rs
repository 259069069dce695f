//! Receiving to many places at once: a stream's bytes go where they belong without a copy in user space.
//!
//! The call takes what has arrived and does not wait, so the memory is borrowed for its time and not owned by an operation:
//! nobody has to wait for a place that a silent peer holds.

use std::io;
use std::os::fd::RawFd;

use super::operation::{RecvBuffer, SPANS_PER_CALL};

/// Memory that the kernel may write while the value is borrowed.
///
/// # Safety
/// The span must be mapped and writable, and neither read nor written by anybody else while `self` is mutably borrowed.
pub unsafe trait Scatter {
    fn span(&mut self) -> libc::iovec;
}

/// Where the next bytes of a stream go: in turn `HEAD` bytes to scratch and the next to a place.
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
    /// Adds a head and the place that follows it.
    pub fn push(&mut self, place: P) {
        self.parts.push(([0; HEAD], place));
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

    /// Takes heads and places out, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = ([u8; HEAD], P)> {
        self.parts.drain(..)
    }

    /// Receives without waiting: `front_len` bytes behind what `front` holds, the rest into the places.
    pub(super) fn recv(&mut self, fd: RawFd, front: &mut RecvBuffer, front_len: usize) -> io::Result<usize> {
        self.spans.clear();
        let free = front.free();
        let front_len = front_len.min(free.len());
        if front_len > 0 {
            self.spans.push(libc::iovec { iov_base: free.as_mut_ptr().cast(), iov_len: front_len });
        }
        for (head, place) in &mut self.parts {
            self.spans.push(libc::iovec { iov_base: head.as_mut_ptr().cast(), iov_len: HEAD });
            self.spans.push(place.span());
        }
        // SAFETY: an all-zero msghdr is a valid empty one.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = self.spans.as_mut_ptr();
        header.msg_iovlen = self.spans.len().min(SPANS_PER_CALL);
        // SAFETY: header and spans live until the call returns, which does not wait; every span is memory that is borrowed
        // mutably here: the buffer's free part, the heads, the places (contract of `Scatter`).
        let received = unsafe { libc::recvmsg(fd, &raw mut header, libc::MSG_DONTWAIT) };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        front.filled += received.min(front_len);
        Ok(received)
    }
}
