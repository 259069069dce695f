//! Sockets of several threads on one address (`SO_REUSEPORT`). The kernel distributes connections and packets among
//! them.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::base::limits::{TRACKER_UDP_POLL, TRACKER_UDP_RECV_BUFFER_LEN, WEB_BACKLOG};

/// Whether other sockets of this user can bind the same address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Exclusive,
    Shared,
}

/// Binds `count` non-blocking listeners to one address, at least one.
///
/// A listener on the IPv6 wildcard accepts IPv4 connections too. Port 0 selects one free port for all listeners.
pub fn bind_tcp(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let listen = |address, sharing| {
        let socket = bind(address, Type::STREAM, sharing)?;
        socket.listen(WEB_BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(TcpListener::from(socket))
    };
    share(address, count, listen, TcpListener::local_addr)
}

/// [`bind_tcp`] for UDP sockets. A receive on them times out after [`TRACKER_UDP_POLL`].
pub fn bind_udp(address: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
    let open = |address, sharing| {
        let socket = UdpSocket::from(bind(address, Type::DGRAM, sharing)?);
        prepare_udp(&socket)?;
        Ok(socket)
    };
    share(address, count, open, UdpSocket::local_addr)
}

/// Returns `count` clones of a listener that was passed to the process, at least one.
pub fn share_tcp(listener: &TcpListener, count: usize) -> io::Result<Vec<TcpListener>> {
    listener.set_nonblocking(true)?;
    (0..count.max(1)).map(|_| listener.try_clone()).collect()
}

/// [`share_tcp`] for a UDP socket.
pub fn share_udp(socket: &UdpSocket, count: usize) -> io::Result<Vec<UdpSocket>> {
    socket.set_nonblocking(false)?;
    prepare_udp(socket)?;
    (0..count.max(1)).map(|_| socket.try_clone()).collect()
}

fn prepare_udp(socket: &UdpSocket) -> io::Result<()> {
    // Packets wait in this buffer while the thread is not scheduled. The kernel may grant less than requested.
    let _ = SockRef::from(socket).set_recv_buffer_size(TRACKER_UDP_RECV_BUFFER_LEN);
    socket.set_read_timeout(Some(TRACKER_UDP_POLL))
}

fn share<S>(
    address: SocketAddr,
    count: usize,
    open: impl Fn(SocketAddr, Sharing) -> io::Result<S>,
    local_addr: fn(&S) -> io::Result<SocketAddr>,
) -> io::Result<Vec<S>> {
    // With SO_REUSEPORT, two processes of one user could bind the same address by mistake. An exclusive bind detects
    // that.
    let exclusive = open(address, Sharing::Exclusive)?;
    if count <= 1 {
        return Ok(vec![exclusive]);
    }
    let address = local_addr(&exclusive)?;
    drop(exclusive);
    (0..count).map(|_| open(address, Sharing::Shared)).collect()
}

fn bind(address: SocketAddr, kind: Type, sharing: Sharing) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.set_reuse_port(sharing == Sharing::Shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_one_port_that_cannot_be_bound_again() {
        let shares = bind_tcp("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let ports: Vec<SocketAddr> = shares.iter().map(|share| share.local_addr().unwrap()).collect();
        assert!(shares.len() == 3 && ports.iter().all(|port| *port == ports[0]));
        assert_eq!(bind_tcp(ports[0], 3).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let shares = bind_udp("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(bind_udp(shares[1].local_addr().unwrap(), 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
