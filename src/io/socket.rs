//! TCP sockets of an I/O thread.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Type};

use super::driver::Driver;
use super::fault::chaos_interrupt;
use super::memory::{Gather, RecvBuffer};
use super::plain::stream::Stream;
use super::retry::is_transient;
use super::ring::operation;
use super::scatter::{Scatter, ScatterList};

/// Options that are set on every peer socket before data flows.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketOptions {
    /// `SO_SNDBUF` in bytes; `None` leaves the kernel's own tuning.
    pub send_buffer_len: Option<usize>,
    /// `TCP_NOTSENT_LOWAT` in bytes: a send waits while more bytes than this are queued and not yet sent.
    pub unsent_len: Option<u32>,
    /// `SO_RCVBUF` in bytes; `None` leaves the kernel's own tuning.
    pub recv_buffer_len: Option<usize>,
    /// The DSCP of all packets (RFC 2474), 0 to 63.
    pub dscp: Option<u8>,
    /// The interface that packets use. Listeners are bound to theirs when they are created.
    pub device: Option<Device>,
}

/// A network interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Device {
    name: [u8; libc::IFNAMSIZ],
    len: usize,
}

impl Device {
    /// Returns `None` if `name` cannot be the name of an interface.
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; libc::IFNAMSIZ];
        // The kernel needs one byte for the terminating zero.
        let is_valid = !name.is_empty() && name.len() < bytes.len() && name.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_valid {
            return None;
        }
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(Self { name: bytes, len: name.len() })
    }

    pub fn name(&self) -> &[u8] {
        self.name.get(..self.len).unwrap_or_default()
    }
}

impl SocketOptions {
    fn apply(&self, socket: SockRef<'_>) -> io::Result<()> {
        if let Some(dscp) = self.dscp {
            // The two lowest bits are ECN.
            let class = u32::from(dscp) << 2;
            socket.set_tos_v4(class)?;
            if socket.domain()? == Domain::IPV6 {
                socket.set_tclass_v6(class)?;
            }
        }
        socket.set_tcp_nodelay(true)?;
        self.unsent_len.map_or(Ok(()), |len| socket.set_tcp_notsent_lowat(len))?;
        self.send_buffer_len.map_or(Ok(()), |len| socket.set_send_buffer_size(len))?;
        self.recv_buffer_len.map_or(Ok(()), |len| socket.set_recv_buffer_size(len))
    }
}

/// A TCP stream. Clones share the descriptor, which closes when the last clone and the last operation on it are
/// dropped.
#[derive(Clone, Debug)]
pub struct Socket(Handle);

/// A socket as the driver of its I/O thread holds it.
#[derive(Clone, Debug)]
enum Handle {
    Ring(Rc<OwnedFd>),
    Plain(Rc<Stream>),
}

impl Handle {
    /// Takes over a socket that listens, is connected, or has begun to connect: a blocking one for the ring, and a
    /// non-blocking one for the plain driver.
    fn new(driver: Driver, socket: OwnedFd) -> io::Result<Self> {
        Ok(match driver {
            Driver::Ring => Self::Ring(Rc::new(socket)),
            Driver::Plain => Self::Plain(Rc::new(Stream::register(socket)?)),
        })
    }

    fn as_ref(&self) -> SockRef<'_> {
        match self {
            Self::Ring(fd) => SockRef::from(&**fd),
            Self::Plain(stream) => SockRef::from(&**stream),
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        match &self.0 {
            Handle::Ring(fd) => fd.as_raw_fd(),
            Handle::Plain(stream) => stream.as_raw_fd(),
        }
    }
}

impl Socket {
    /// Takes a connected socket over from another I/O thread.
    pub fn adopt(fd: OwnedFd) -> io::Result<Self> {
        Handle::new(Driver::current(), fd).map(Self)
    }

    /// Creates a socket for a connection to `peer`, from `local` if given. The plain driver begins to connect at
    /// once. The attempt has no time limit other than the kernel's; [`Self::shutdown`] ends it.
    pub fn begin_connect(peer: SocketAddr, local: Option<SocketAddr>, options: &SocketOptions) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
        options.apply(SockRef::from(&socket))?;
        if let Some(device) = &options.device {
            socket.bind_device(Some(device.name()))?;
        }
        if let Some(local) = local {
            socket.set_reuse_address(true)?;
            socket.bind(&local.into())?;
        }
        let driver = Driver::current();
        if driver == Driver::Plain {
            socket.set_nonblocking(true)?;
            match socket.connect(&peer.into()) {
                Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
                _ => {}
            }
        }
        Handle::new(driver, socket.into()).map(Self)
    }

    /// Completes [`Self::begin_connect`].
    pub async fn connect(&self, peer: SocketAddr) -> io::Result<()> {
        match &self.0 {
            Handle::Ring(fd) => operation::connect(fd.clone(), peer).await,
            Handle::Plain(stream) => {
                stream.writable().await?;
                self.0.as_ref().take_error()?.map_or(Ok(()), Err)
            }
        }
    }

    /// Returns the descriptor, to move it to another I/O thread, or the socket itself if it is still in use here.
    pub fn into_fd(self) -> Result<OwnedFd, Self> {
        match self.0 {
            Handle::Ring(fd) => Rc::try_unwrap(fd).map_err(|fd| Self(Handle::Ring(fd))),
            Handle::Plain(stream) => {
                Rc::try_unwrap(stream).map(Stream::into_fd).map_err(|stream| Self(Handle::Plain(stream)))
            }
        }
    }

    /// Waits for bytes and appends them to `buffer`. `Ok(0)` is the end of the stream.
    pub async fn recv(&self, mut buffer: RecvBuffer) -> (io::Result<usize>, RecvBuffer) {
        match &self.0 {
            Handle::Ring(fd) => operation::recv(fd.clone(), buffer).await,
            Handle::Plain(stream) => (stream.recv(&mut buffer).await, buffer),
        }
    }

    /// Waits until bytes can be received, or the stream has ended.
    pub async fn readable(&self) -> io::Result<()> {
        match &self.0 {
            Handle::Ring(fd) => operation::poll(fd.clone(), libc::POLLIN | libc::POLLRDHUP).await,
            Handle::Plain(stream) => stream.readable().await,
        }
    }

    /// Sets `SO_RCVLOWAT`: [`Self::readable`] and a receive that has to wait return when `len` bytes have arrived, or
    /// at the end of the stream.
    pub fn set_recv_mark(&self, len: u32) {
        let len = libc::c_int::try_from(len).unwrap_or(libc::c_int::MAX);
        let size = libc::socklen_t::try_from(size_of_val(&len)).unwrap_or(0);
        // An error means that the socket has failed, and the next receive returns an error too.
        // SAFETY: the kernel reads an integer on this stack frame.
        let _ = unsafe {
            libc::setsockopt(self.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, (&raw const len).cast(), size)
        };
    }

    /// The number of bytes in the kernel's send queue that the peer has not acknowledged, sent or not.
    pub fn unacknowledged_len(&self) -> usize {
        let mut len: libc::c_int = 0;
        // An error means that the socket has failed, and the send returns an error too.
        // SAFETY: the kernel writes an integer on this stack frame.
        let _ = unsafe { libc::ioctl(self.as_raw_fd(), libc::TIOCOUTQ, &raw mut len) };
        usize::try_from(len).unwrap_or(0)
    }

    /// Receives the bytes that have arrived, without waiting: the first `front_len` bytes are appended to `front`, the
    /// rest go to `targets` in order. `Ok(0)` is the end of the stream; `WouldBlock` means that nothing was received.
    pub fn try_recv<P: Scatter, const HEAD: usize>(
        &self,
        front: &mut RecvBuffer,
        front_len: usize,
        targets: &mut ScatterList<P, HEAD>,
    ) -> io::Result<usize> {
        let mut recv = |fd| targets.recv(fd, front, front_len);
        let received = match (&self.0, chaos_interrupt()) {
            (_, Some(error)) => Err(error),
            (Handle::Ring(fd), None) => recv(fd.as_raw_fd()).map(|received| received.len),
            (Handle::Plain(stream), None) => stream.try_recv(recv),
        };
        received.map_err(|error| if is_transient(&error) { io::ErrorKind::WouldBlock.into() } else { error })
    }

    /// Sends all bytes of `batch` in order. Must not be called while another send is pending, as the bytes of both
    /// could interleave.
    pub async fn send_all<G: Gather>(&self, batch: G) -> (io::Result<()>, G) {
        match &self.0 {
            Handle::Ring(fd) => operation::send_all(fd.clone(), batch).await,
            Handle::Plain(stream) => (stream.send_all(&batch).await, batch),
        }
    }

    /// Ends all pending and later operations on this socket. This is the only way to cancel an operation.
    pub fn shutdown(&self) {
        // An error means that the peer has closed the connection before.
        let _ = self.0.as_ref().shutdown(Shutdown::Both);
    }

    /// [`Self::shutdown`], and discards bytes that the peer has not read when the descriptor closes.
    pub fn reset(&self) {
        // An error means that the socket is closed already.
        let _ = self.0.as_ref().set_linger(Some(Duration::ZERO));
        self.shutdown();
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        internet(&self.0.as_ref().peer_addr()?)
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        internet(&self.0.as_ref().local_addr()?)
    }
}

fn internet(address: &SockAddr) -> io::Result<SocketAddr> {
    address.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// One I/O thread's share of a listening port (`SO_REUSEPORT`).
#[derive(Clone, Debug)]
pub struct Listener(Handle, SocketOptions);

impl Listener {
    /// Takes over a listening socket.
    pub fn from_std(listener: std::net::TcpListener, options: SocketOptions) -> io::Result<Self> {
        let driver = Driver::current();
        // A socket from another process may be of either kind.
        listener.set_nonblocking(driver == Driver::Plain)?;
        Ok(Self(Handle::new(driver, listener.into())?, options))
    }

    /// Binds `address` with `SO_REUSEPORT`: each I/O thread binds the same address. The backlog holds `backlog`
    /// connections.
    pub fn bind_share(address: SocketAddr, backlog: i32, device: Option<Device>) -> io::Result<std::net::TcpListener> {
        let socket = Self::new_socket(address, device)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        Ok(socket.into())
    }

    /// Binds `address` exclusively: fails if any socket listens there.
    pub fn bind_exclusive(address: SocketAddr, device: Option<Device>) -> io::Result<std::net::TcpListener> {
        let socket = Self::new_socket(address, device)?;
        socket.bind(&address.into())?;
        socket.listen(1)?;
        Ok(socket.into())
    }

    /// Creates the socket. One for `[::]` accepts IPv4 connections too.
    fn new_socket(address: SocketAddr, device: Option<Device>) -> io::Result<socket2::Socket> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if let Some(device) = &device {
            socket.bind_device(Some(device.name()))?;
        }
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        Ok(socket)
    }

    /// Waits for the next connection. The future must be awaited to its end: a dropped accept loses a connection.
    pub async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        let fd = match &self.0 {
            Handle::Ring(fd) => operation::accept(fd.clone()).await?,
            Handle::Plain(stream) => stream.accept().await?,
        };
        let socket = Socket::adopt(fd)?;
        self.1.apply(socket.0.as_ref())?;
        let peer = socket.peer_addr()?;
        Ok((socket, peer))
    }

    /// Ends a pending [`Self::accept`] and every later one.
    pub fn shutdown(&self) {
        let _ = self.0.as_ref().shutdown(Shutdown::Both);
    }
}
