//! Sockets on epoll.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::base::limits::RETRY_PAUSE;
use crate::io::fault::{chaos_interrupt, chaos_truncate};
use crate::io::memory::{Gather, Message, RecvBuffer};
use crate::io::scatter::Received;

/// A socket, registered with the event loop of its thread.
///
/// The event loop reports a change once and remembers it. A call that would have to wait clears the memory.
#[derive(Debug)]
pub(in crate::io) struct Stream(AsyncFd<OwnedFd>);

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Stream {
    /// Registers a non-blocking socket that listens, is connected, or has begun to connect: an unconnected one would
    /// count as closed.
    pub(in crate::io) fn register(socket: OwnedFd) -> io::Result<Self> {
        // SAFETY: the registered value owns the descriptor, which closes only when that value is dropped.
        Ok(Self(unsafe { AsyncFd::register(socket) }?))
    }

    pub(in crate::io) fn into_fd(self) -> OwnedFd {
        self.0.into_inner()
    }

    /// Waits until a connection attempt has ended, either way.
    pub(in crate::io) async fn writable(&self) -> io::Result<()> {
        self.0.writable().await.map(|mut ready| ready.retain_ready())
    }

    /// Waits until bytes can be received, or the stream has ended.
    pub(in crate::io) async fn readable(&self) -> io::Result<()> {
        yield_if_ready(self.0.readable()).await.map(|mut ready| ready.retain_ready())
    }

    /// Receives into the free part of `buffer`; `Ok(0)` is the end of the stream.
    pub(in crate::io) async fn recv(&self, buffer: &mut RecvBuffer) -> io::Result<usize> {
        let len = chaos_truncate(buffer.free().len(), 1).await;
        yield_if_ready(self.0.readable()).await?.retain_ready();
        let received = self.when(Interest::READABLE, |fd| {
            let free = buffer.free();
            // SAFETY: `free` is borrowed exclusively during the call, which does not wait, and has at least `len` bytes.
            let received = unsafe { libc::recv(fd, free.as_mut_ptr().cast(), len, libc::MSG_DONTWAIT) };
            usize::try_from(received).map_err(|_| io::Error::last_os_error())
        });
        let received = received.await?;
        if received < len {
            self.clear_readable();
        }
        buffer.handle_received(received);
        Ok(received)
    }

    /// Makes a receive call, which does not wait.
    pub(in crate::io) fn try_recv(&self, recv: impl FnOnce(RawFd) -> io::Result<Received>) -> io::Result<usize> {
        let received = self.0.try_io(Interest::READABLE, |fd| recv(fd.as_raw_fd()))?;
        if received.is_all {
            self.clear_readable();
        }
        Ok(received.len)
    }

    /// Sends all bytes of `batch` in order.
    pub(in crate::io) async fn send_all<G: Gather>(&self, batch: &G) -> io::Result<()> {
        yield_if_ready(self.0.writable()).await?.retain_ready();
        let mut spans = Vec::new();
        batch.gather(&mut spans);
        let mut message = Message::new(spans);
        loop {
            message.shorten(chaos_truncate(message.len(), 1).await);
            let sent = self.when(Interest::WRITABLE, |fd| {
                // SAFETY: header and span array are on the heap behind the box. The spans point into memory that
                // `batch` keeps alive (contract of `Gather`). Both are borrowed during the call, which does not wait.
                let sent = unsafe { libc::sendmsg(fd, message.header(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
                usize::try_from(sent).map_err(|_| io::Error::last_os_error())
            });
            match sent.await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                sent if !message.advance(sent) => return Ok(()),
                _ => {}
            }
        }
    }

    /// Waits for the next connection of a listening socket.
    pub(in crate::io) async fn accept(&self) -> io::Result<OwnedFd> {
        // In a burst, the connections accepted before get a turn.
        yield_if_ready(self.0.readable()).await?.retain_ready();
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        self.when(Interest::READABLE, |fd| {
            // SAFETY: without an address the call takes no pointer.
            let accepted = unsafe { libc::accept4(fd, std::ptr::null_mut(), std::ptr::null_mut(), flags) };
            if accepted < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: the kernel has just created this descriptor, and no other value owns it.
            Ok(unsafe { OwnedFd::from_raw_fd(accepted) })
        })
        .await
    }

    /// Repeats `call`, which reads from the socket, until it does not have to wait, and waits in between. Retries
    /// interrupted calls.
    pub(in crate::io) async fn when_readable<T>(
        &self,
        call: impl Fn(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.when(Interest::READABLE, |_| call(self.as_fd())).await
    }

    /// Repeats `call` until it does not have to wait, and waits in between. Retries interrupted calls.
    async fn when<T>(&self, interest: Interest, mut call: impl FnMut(RawFd) -> io::Result<T>) -> io::Result<T> {
        loop {
            if chaos_interrupt().is_some() {
                // Boxed to keep the future small. The call was not made, so the readiness stays.
                Box::pin(tokio::time::sleep(RETRY_PAUSE)).await;
                continue;
            }
            match self.0.ready(interest).await?.try_io(|fd| call(fd.as_raw_fd())) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    /// A receive got fewer bytes than it asked for: the next one waits for an event, rather than for a call that fails.
    /// Must be called before the event loop has a turn, so that no later event is lost.
    fn clear_readable(&self) {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(Ok(mut ready)) = pin!(self.0.readable()).poll(&mut context) {
            ready.clear_ready();
        }
    }
}

/// Awaits `ready`. If it does not have to wait, yields once, so that a socket that is always ready does not starve
/// other tasks.
async fn yield_if_ready<F: Future>(ready: F) -> F::Output {
    let mut ready = pin!(ready);
    let first = std::future::poll_fn(|context| Poll::Ready(ready.as_mut().poll(context))).await;
    match first {
        Poll::Ready(output) => {
            tokio::task::yield_now().await;
            output
        }
        Poll::Pending => ready.await,
    }
}
