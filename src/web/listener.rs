//! Accepting connections within bounds: so many at a time, so many from one address, and none on which nothing is sent.
//!
//! A client that sends its request byte by byte, or none at all, or does not read the answer, loses its place in time, and
//! sooner where there is a crowd. A long answer to one that reads it does not end.

#![allow(clippy::disallowed_methods, reason = "connections end by the clock")]

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use crate::base::limits::{WEB_CONNECTIONS_PER_IP_MAX, WEB_CROWDED_TIMEOUT};

/// A listener that accepts no more connections than it has room for; the others wait in the backlog. Those above the
/// share of one address are closed at once.
#[derive(Debug)]
pub struct BoundedListener {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    connections_max: usize,
    silence_max: Duration,
    by_ip: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection that ends when nothing could be written to it for some time.
#[derive(Debug)]
pub struct BoundedStream {
    stream: TcpStream,
    silence_max: Duration,
    /// The start, or the last time that something was written.
    written_at: Instant,
    /// Nothing was written yet.
    is_new: bool,
    slots: Arc<Semaphore>,
    /// With fewer places left than these there is a crowd.
    crowded_below: usize,
    check: Pin<Box<Sleep>>,
    _slot: OwnedSemaphorePermit,
    _share: Share,
}

/// Both ends of a connection, to be had as `ConnectInfo<Endpoints>`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoints {
    pub remote: SocketAddr,
    /// Where the client reached us.
    pub local: SocketAddr,
}

/// One connection of an address, counted while it lives.
#[derive(Debug)]
struct Share {
    ip: IpAddr,
    by_ip: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Share {
    /// `None` where the address has its share already.
    fn take(ip: IpAddr, by_ip: &Arc<Mutex<HashMap<IpAddr, usize>>>) -> Option<Self> {
        let mut counts = by_ip.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(ip).or_default();
        if *count >= WEB_CONNECTIONS_PER_IP_MAX {
            return None;
        }
        *count += 1;
        Some(Self { ip, by_ip: Arc::clone(by_ip) })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.by_ip.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.ip);
            }
        }
    }
}

impl BoundedListener {
    pub fn new(listener: TcpListener, connections_max: usize, silence_max: Duration) -> Self {
        let slots = Arc::new(Semaphore::new(connections_max));
        Self { listener, slots, connections_max, silence_max, by_ip: Arc::default() }
    }
}

impl Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = Endpoints;

    async fn accept(&mut self) -> (BoundedStream, Endpoints) {
        loop {
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return std::future::pending().await };
            // This one waits out errors such as too many open files.
            let (stream, remote) = Listener::accept(&mut self.listener).await;
            // A connection without a local address is gone already.
            let Ok(local) = stream.local_addr() else { continue };
            let Some(share) = Share::take(remote.ip().to_canonical(), &self.by_ip) else { continue };
            let now = Instant::now();
            let bounded = BoundedStream {
                stream,
                silence_max: self.silence_max,
                written_at: now,
                is_new: true,
                slots: Arc::clone(&self.slots),
                crowded_below: self.connections_max / 2,
                check: Box::pin(tokio::time::sleep_until(now + self.silence_max.min(WEB_CROWDED_TIMEOUT))),
                _slot: slot,
                _share: share,
            };
            return (bounded, Endpoints { remote, local });
        }
    }

    fn local_addr(&self) -> io::Result<Endpoints> {
        let local = self.listener.local_addr()?;
        Ok(Endpoints { remote: local, local })
    }
}

impl Connected<IncomingStream<'_, BoundedListener>> for Endpoints {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        *stream.remote_addr()
    }
}

impl BoundedStream {
    fn check_silence(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.check.as_mut().poll(cx).is_ready() {
            let (now, end) = (Instant::now(), self.written_at + self.silence_max);
            let is_crowded = self.slots.available_permits() < self.crowded_below;
            if end <= now || (self.is_new && is_crowded) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let next = if self.is_new { end.min(now + WEB_CROWDED_TIMEOUT) } else { end };
            self.check.as_mut().reset(next);
        }
        Ok(())
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check_silence(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_silence(cx)?;
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(1..)) = written {
            (self.written_at, self.is_new) = (Instant::now(), false);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_silence(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
