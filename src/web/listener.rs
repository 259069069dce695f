//! Accepting connections within bounds: so many at a time, each for so long.
//!
//! A client that sends its request byte by byte, or none at all, loses its place in time.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// A listener that accepts no more connections than it has room for; the others wait in the backlog.
#[derive(Debug)]
pub struct BoundedListener {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    lifetime: Duration,
}

/// A connection that ends after its lifetime, busy or not.
#[derive(Debug)]
pub struct BoundedStream {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _slot: OwnedSemaphorePermit,
}

/// Both ends of a connection, to be had as `ConnectInfo<Endpoints>`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoints {
    pub remote: SocketAddr,
    /// Where the client reached us.
    pub local: SocketAddr,
}

impl BoundedListener {
    pub fn new(listener: TcpListener, connections_max: usize, lifetime: Duration) -> Self {
        Self { listener, slots: Arc::new(Semaphore::new(connections_max)), lifetime }
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
            if let Ok(local) = stream.local_addr() {
                let end = Box::pin(tokio::time::sleep(self.lifetime));
                return (BoundedStream { stream, end, _slot: slot }, Endpoints { remote, local });
            }
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
    fn check_lifetime(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.end.as_mut().poll(cx).is_ready() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check_lifetime(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_lifetime(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_lifetime(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
