//! TCP sockets of a ring thread.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring_06::{opcode, types};
use socket2::{Domain, Protocol, SockAddr, SockRef, Type};

use super::fault::chaos_interrupt;
use super::operation::{self, Gather, RecvBuffer, submit};
use super::retry::is_transient;
use super::scatter::{Scatter, ScatterList};

/// What is set on every peer socket before data flows.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketOptions {
    /// `SO_SNDBUF` in bytes; `None` leaves the kernel's own tuning.
    pub send_buffer_len: Option<usize>,
    /// `TCP_NOTSENT_LOWAT` in bytes: a send waits while more is there that has not been sent once.
    pub unsent_len: Option<u32>,
    /// `SO_RCVBUF` in bytes; `None` leaves the kernel's own tuning.
    pub recv_buffer_len: Option<usize>,
    /// The mark of every packet for routers (RFC 2474), 0 to 63.
    pub dscp: Option<u8>,
    /// The interface that packets go through; listeners have theirs from their start.
    pub device: Option<Device>,
}

/// A network interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Device {
    name: [u8; libc::IFNAMSIZ],
    len: usize,
}

impl Device {
    /// `None` for what can be no interface's name.
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; libc::IFNAMSIZ];
        // One byte is the kernel's.
        let good = !name.is_empty() && name.len() < bytes.len() && name.bytes().all(|byte| byte.is_ascii_graphic());
        bytes.get_mut(..name.len()).filter(|_| good)?.copy_from_slice(name.as_bytes());
        Some(Self { name: bytes, len: name.len() })
    }

    pub fn name(&self) -> &[u8] {
        self.name.get(..self.len).unwrap_or_default()
    }
}

impl SocketOptions {
    fn apply(&self, socket: SockRef<'_>) -> io::Result<()> {
        if let Some(dscp) = self.dscp {
            // The two lowest bits are congestion control's.
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

/// One TCP stream. Clones share the descriptor; it closes when the last clone and the last operation on it are gone.
#[derive(Clone, Debug)]
pub struct Socket(Rc<OwnedFd>);

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Takes a connected socket over from another ring thread.
impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Self {
        Self(Rc::new(fd))
    }
}

impl Socket {
    /// Opens a connection, from `local` where given. There is no time limit but the kernel's: see [`Self::shutdown`].
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
        Ok(Self(Rc::new(OwnedFd::from(socket))))
    }

    /// Completes [`Self::begin_connect`].
    pub async fn connect(&self, peer: SocketAddr) -> io::Result<()> {
        let address = Box::new(SockAddr::from(peer));
        let entry = opcode::Connect::new(types::Fd(self.as_raw_fd()), address.as_ptr().cast(), address.len()).build();
        // SAFETY: the address is on the heap behind the box; the operation owns box and socket.
        let (result, _) = unsafe { submit((address, self.clone()), entry) }.await;
        match result.as_ref().map_err(io::Error::raw_os_error) {
            // The attempt went on when the operation was given up, and may be over.
            Err(Some(libc::EISCONN)) => Ok(()),
            Err(Some(libc::EALREADY)) => {
                operation::poll(self.clone(), libc::POLLOUT).await?;
                SockRef::from(&*self.0).take_error()?.map_or(Ok(()), Err)
            }
            _ => result.map(|_| ()),
        }
    }

    /// The descriptor, to be moved to another ring thread; the socket itself when something still uses it here.
    pub fn into_fd(self) -> Result<OwnedFd, Self> {
        Rc::try_unwrap(self.0).map_err(Self)
    }

    /// Receives what has arrived behind what `buffer` holds; `Ok(0)` is the end of the stream.
    pub async fn recv(&self, buffer: RecvBuffer) -> (io::Result<usize>, RecvBuffer) {
        operation::recv(self.clone(), buffer).await
    }

    /// Waits until there is something to receive, or the stream has ended.
    pub async fn readable(&self) -> io::Result<()> {
        operation::poll(self.clone(), libc::POLLIN | libc::POLLRDHUP).await
    }

    /// `SO_RCVLOWAT`: [`Self::readable`], and a receive that has to wait, wait for so many bytes, or the end of the stream.
    pub fn set_recv_mark(&self, len: u32) {
        let len = libc::c_int::try_from(len).unwrap_or(libc::c_int::MAX);
        let size = libc::socklen_t::try_from(size_of_val(&len)).unwrap_or(0);
        // An error means that the socket has failed, which the next receive tells.
        // SAFETY: the kernel reads an integer that lives here.
        let _ = unsafe {
            libc::setsockopt(self.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, (&raw const len).cast(), size)
        };
    }

    /// Bytes in the kernel that the peer has not acknowledged, sent or not.
    pub fn unacknowledged_len(&self) -> usize {
        let mut len: libc::c_int = 0;
        // A socket that has failed says so to the send.
        // SAFETY: the kernel writes an integer that lives here.
        let _ = unsafe { libc::ioctl(self.as_raw_fd(), libc::TIOCOUTQ, &raw mut len) };
        usize::try_from(len).unwrap_or(0)
    }

    /// Receives what has arrived, without waiting: `front_len` bytes behind what `front` holds, then into `places`, in order.
    /// `Ok(0)` is the end of the stream, `WouldBlock` that nothing was received.
    pub fn try_recv<P: Scatter, const HEAD: usize>(
        &self,
        front: &mut RecvBuffer,
        front_len: usize,
        places: &mut ScatterList<P, HEAD>,
    ) -> io::Result<usize> {
        let received = chaos_interrupt().map_or_else(|| places.recv(self.as_raw_fd(), front, front_len), Err);
        received.map_err(|error| if is_transient(&error) { io::ErrorKind::WouldBlock.into() } else { error })
    }

    /// Sends every byte of `batch` in order. One sender at a time: two at once may mix their bytes.
    pub async fn send_all<G: Gather>(&self, batch: G) -> (io::Result<()>, G) {
        operation::send_all(self.clone(), batch).await
    }

    /// Ends every operation on this socket, now and later. The only way to cancel one.
    pub fn shutdown(&self) {
        // An error means that the peer was faster.
        let _ = SockRef::from(&*self.0).shutdown(Shutdown::Both);
    }

    /// [`Self::shutdown`]; what the peer has not read is thrown away when the descriptor closes.
    pub fn reset(&self) {
        // An error means that it is closed already.
        let _ = SockRef::from(&*self.0).set_linger(Some(Duration::ZERO));
        self.shutdown();
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        internet(&SockRef::from(&*self.0).peer_addr()?)
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        internet(&SockRef::from(&*self.0).local_addr()?)
    }
}

fn internet(address: &SockAddr) -> io::Result<SocketAddr> {
    address.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// One ring thread's share of a listening port (`SO_REUSEPORT`).
#[derive(Clone, Debug)]
pub struct Listener(Rc<OwnedFd>, SocketOptions);

impl Listener {
    /// Takes a bound and listening socket over.
    pub fn from_std(listener: std::net::TcpListener, options: SocketOptions) -> Self {
        Self(Rc::new(OwnedFd::from(listener)), options)
    }

    /// Binds one share of `address`; more shares bind the same address again. `backlog` connections may wait.
    pub fn bind_share(address: SocketAddr, backlog: i32, device: Option<Device>) -> io::Result<std::net::TcpListener> {
        let socket = Self::new_socket(address, device)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        Ok(socket.into())
    }

    /// Binds `address` alone: fails when anybody listens there.
    pub fn bind_exclusive(address: SocketAddr, device: Option<Device>) -> io::Result<std::net::TcpListener> {
        let socket = Self::new_socket(address, device)?;
        socket.bind(&address.into())?;
        socket.listen(1)?;
        Ok(socket.into())
    }

    /// `[::]` takes IPv4 connections too.
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

    /// Waits for the next connection. Must be awaited to its end: a dropped accept loses a connection.
    pub async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        let mut address = Box::new((MaybeUninit::<libc::sockaddr_storage>::zeroed(), 0));
        address.1 = libc::socklen_t::try_from(size_of::<libc::sockaddr_storage>()).unwrap_or(0);
        let fd = types::Fd(self.0.as_raw_fd());
        let entry = opcode::Accept::new(fd, address.0.as_mut_ptr().cast(), &raw mut address.1)
            .flags(libc::SOCK_CLOEXEC)
            .build();
        // SAFETY: the kernel writes address and length on the heap behind the box; the operation owns box and listener.
        let (result, _) = unsafe { submit((address, self.0.clone()), entry) }.await;
        let fd = RawFd::try_from(result?).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
        let socket = Socket(Rc::new(unsafe { OwnedFd::from_raw_fd(fd) }));
        self.1.apply(SockRef::from(&*socket.0))?;
        let peer = socket.peer_addr()?;
        Ok((socket, peer))
    }

    /// Ends a pending [`Self::accept`] and every later one.
    pub fn shutdown(&self) {
        let _ = SockRef::from(&*self.0).shutdown(Shutdown::Both);
    }
}
