//! A listener on epoll whose connections are not registered with the event loop yet.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::net::{SocketFlags, acceptfrom_with};

use super::stream::Stream;

/// Accepts connections of which many end after one exchange: each is registered with the event loop only if it has to
/// wait for its client.
#[derive(Debug)]
pub struct Acceptor(Stream);

impl Acceptor {
    /// Takes over a non-blocking listener. Must be called on the thread of the event loop.
    pub fn new(listener: TcpListener) -> io::Result<Self> {
        Stream::register(listener.into()).map(Self)
    }

    /// Waits for the next connection, which does not block, and returns it with the address of the client. A dropped
    /// future loses no connection. In a burst, other tasks have a turn from time to time.
    pub async fn accept(&self) -> io::Result<(OwnedFd, SocketAddr)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        self.0
            .when_readable(|listener| {
                let (socket, client) = acceptfrom_with(listener, flags)?;
                let client = client.and_then(|client| client.try_into().ok());
                client.map(|client| (socket, client)).ok_or_else(|| io::ErrorKind::ConnectionAborted.into())
            })
            .await
    }
}
