//! One address, shared by the sockets of several threads; the kernel spreads those who come among them.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::base::limits::{TRACKER_UDP_POLL, TRACKER_UDP_RECV_BUFFER_LEN, WEB_BACKLOG};

/// So many non-blocking listeners on one address. An IPv6 wildcard takes IPv4 as well; port 0 becomes the same free one
/// for all of them.
pub fn bind_tcp(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let listen = |address, shared| {
        let socket = bind(address, Type::STREAM, shared)?;
        socket.listen(WEB_BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(TcpListener::from(socket))
    };
    share(address, count, listen, TcpListener::local_addr)
}

/// So many sockets on one address, likewise; a receive ends without a packet after [`TRACKER_UDP_POLL`].
pub fn bind_udp(address: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
    let open = |address, shared| {
        let socket = UdpSocket::from(bind(address, Type::DGRAM, shared)?);
        prepare_udp(&socket)?;
        Ok(socket)
    };
    share(address, count, open, UdpSocket::local_addr)
}

/// The same of a listener that was handed over.
pub fn share_tcp(listener: &TcpListener, count: usize) -> io::Result<Vec<TcpListener>> {
    listener.set_nonblocking(true)?;
    (0..count.max(1)).map(|_| listener.try_clone()).collect()
}

/// The same of a socket that was handed over.
pub fn share_udp(socket: &UdpSocket, count: usize) -> io::Result<Vec<UdpSocket>> {
    socket.set_nonblocking(false)?;
    prepare_udp(socket)?;
    (0..count.max(1)).map(|_| socket.try_clone()).collect()
}

fn prepare_udp(socket: &UdpSocket) -> io::Result<()> {
    // What comes while a thread has not its turn waits here; the kernel gives what it permits.
    let _ = SockRef::from(socket).set_recv_buffer_size(TRACKER_UDP_RECV_BUFFER_LEN);
    socket.set_read_timeout(Some(TRACKER_UDP_POLL))
}

fn share<S>(
    address: SocketAddr,
    count: usize,
    open: impl Fn(SocketAddr, bool) -> io::Result<S>,
    local_addr: fn(&S) -> io::Result<SocketAddr>,
) -> io::Result<Vec<S>> {
    // Two processes of one user could share an address without noticing: this one can't be bound twice.
    let exclusive = open(address, false)?;
    if count <= 1 {
        return Ok(vec![exclusive]);
    }
    let address = local_addr(&exclusive)?;
    drop(exclusive);
    (0..count).map(|_| open(address, true)).collect()
}

fn bind(address: SocketAddr, kind: Type, shared: bool) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.set_reuse_port(shared)?;
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
    fn shares_have_one_port_and_nobody_else_gets_it() {
        let shares = bind_tcp("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let ports: Vec<SocketAddr> = shares.iter().map(|share| share.local_addr().unwrap()).collect();
        assert!(shares.len() == 3 && ports.iter().all(|port| *port == ports[0]));
        assert_eq!(bind_tcp(ports[0], 3).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let shares = bind_udp("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(bind_udp(shares[1].local_addr().unwrap(), 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
