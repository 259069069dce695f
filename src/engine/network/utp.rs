//! Refuses uTP (BEP 29) on the peer port: clients try it before or beside TCP, and without an answer they wait for
//! seconds before they use TCP.
//!
//! Owns the UDP sockets beside the listening ones; the bytes of the answer are `codec`'s. It shares the control thread,
//! so the number of packets per second is bounded.

#![allow(clippy::disallowed_methods, reason = "the packets of each second are limited")]

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::base::cidr::AddressFilter;
use crate::base::limits;
use crate::codec::utp::reset_for;
use crate::io::Device;

/// Binds a UDP socket on each address of `listeners`. An address that another program uses is skipped.
pub(in crate::engine) fn bind_beside(listeners: &[TcpListener], device: Option<Device>) -> Vec<std::net::UdpSocket> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    let mut sockets = Vec::new();
    for listener in listeners {
        // The shares of one address need one socket.
        let Ok(address) = listener.local_addr() else { continue };
        if !addresses.contains(&address) {
            addresses.push(address);
            match bind(listener, address, device) {
                Ok(socket) => sockets.push(socket),
                Err(error) => debug!("uTP is not refused on {address}: {error}"),
            }
        }
    }
    sockets
}

/// Binds a socket for the address families of the listener only.
fn bind(listener: &TcpListener, address: SocketAddr, device: Option<Device>) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if let Some(device) = &device {
        socket.bind_device(Some(device.name()))?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(SockRef::from(listener).only_v6()?)?;
    }
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Refuses the peers that `filter` permits, until the future is dropped.
pub(in crate::engine) async fn refuse(socket: std::net::UdpSocket, filter: AddressFilter) {
    let mut refusing = match Refusing::new(socket, filter) {
        Ok(refusing) => refusing,
        Err(error) => return debug!("uTP is not refused: {error}"),
    };
    loop {
        let second_over = Instant::now() + Duration::from_secs(1);
        for _ in 0..limits::UTP_PACKETS_PER_S_MAX {
            // Errors are ICMP messages about earlier answers.
            if let Err(error) = refusing.handle_next().await {
                debug!("uTP: {error}");
            }
        }
        // Packets that arrive until then wait in the kernel's buffer.
        sleep_until(second_over).await;
    }
}

struct Refusing {
    socket: UdpSocket,
    state: UdpSocketState,
    filter: AddressFilter,
    buffer: [u8; limits::UTP_RECV_LEN],
}

impl Refusing {
    fn new(socket: std::net::UdpSocket, filter: AddressFilter) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket: UdpSocket::from_std(socket)?, state, filter, buffer: [0; limits::UTP_RECV_LEN] })
    }

    /// Answers the next packet, or several of one host that the kernel has coalesced.
    async fn handle_next(&mut self) -> io::Result<()> {
        let Self { socket, state, filter, buffer } = self;
        let mut meta = [RecvMeta::default()];
        let receive = || state.recv((&*socket).into(), &mut [IoSliceMut::new(buffer)], &mut meta);
        socket.async_io(Interest::READABLE, receive).await?;
        let [RecvMeta { addr: peer, len, stride, dst_ip, .. }] = meta;
        if !filter.permits(peer.ip()) {
            return Ok(());
        }
        for packet in buffer.get(..len).unwrap_or_default().chunks(stride.max(1)) {
            if let Some(reset) = reset_for(packet) {
                // The source is the address that the packet was sent to: this host may have several, and the peer
                // expects that one.
                let answer =
                    Transmit { destination: peer, ecn: None, contents: &reset, segment_size: None, src_ip: dst_ip };
                // A lost answer does no harm: the peer sends again or waits.
                let _ = socket.try_io(Interest::WRITABLE, || state.try_send((&*socket).into(), &answer));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, UdpSocket as StdUdpSocket};

    const SYN: [u8; 20] = [0x41, 0, 0xab, 0xcd, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0x10, 0, 0, 0x12, 0x34, 0, 0];

    /// Refuses uTP on a new thread. Returns the listener and its address.
    fn refusing(listen: &str, filter: AddressFilter) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind(listen).unwrap();
        let address = listener.local_addr().unwrap();
        let sockets = bind_beside(&[listener.try_clone().unwrap(), listener.try_clone().unwrap()], None);
        assert_eq!(sockets.iter().map(|socket| socket.local_addr().unwrap()).collect::<Vec<_>>(), [address]);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { refuse(sockets.into_iter().next().unwrap(), filter).await });
        });
        (listener, address)
    }

    /// Sends `packet` to `to`. Returns the answer and its source.
    fn ask(to: SocketAddr, packet: &[u8]) -> Option<(Vec<u8>, SocketAddr)> {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = StdUdpSocket::bind((any, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket.send_to(packet, to).unwrap();
        let mut answer = [0; 100];
        let (len, from) = socket.recv_from(&mut answer).ok()?;
        Some((answer[..len].to_vec(), from))
    }

    #[test]
    fn both_families_are_refused_from_the_address_they_asked() {
        let (_listener, address) = refusing("[::]:0", AddressFilter::default());
        for ip in ["127.0.0.1", "127.9.8.7", "::1"] {
            let asked = SocketAddr::new(ip.parse().unwrap(), address.port());
            let (answer, from) = ask(asked, &SYN).unwrap();
            assert_eq!((answer.len(), answer[0], &answer[2..4], from), (20, 0x31, &[0xab, 0xcd][..], asked));
        }
        assert_eq!(ask(SocketAddr::new([127, 0, 0, 1].into(), address.port()), &SYN[..19]), None);
    }

    #[test]
    fn denied_peers_get_no_answer() {
        let filter = AddressFilter { deny: vec!["127.0.0.0/8".parse().unwrap()], ..AddressFilter::default() };
        let (_listener, address) = refusing("[::]:0", filter);
        assert_eq!(ask(SocketAddr::new([127, 0, 0, 1].into(), address.port()), &SYN), None);
        assert!(ask(SocketAddr::new("::1".parse().unwrap(), address.port()), &SYN).is_some());
    }

    #[test]
    fn a_port_of_another_program_is_left_to_it() {
        let other = StdUdpSocket::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::bind(other.local_addr().unwrap()).unwrap();
        assert!(bind_beside(&[listener], None).is_empty());
    }

    #[test]
    fn packets_go_through_the_interface_that_was_chosen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sockets = bind_beside(&[listener], Device::new("lo"));
        assert_eq!(SockRef::from(&sockets[0]).device().unwrap().as_deref(), Some(&b"lo"[..]));
    }

    #[test]
    fn answers_to_a_flood_are_limited_per_second() {
        let (_listener, address) = refusing("127.0.0.1:0", AddressFilter::default());
        let socket = StdUdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let start = std::time::Instant::now();
        let mut answered = 0;
        while start.elapsed() < Duration::from_millis(1500) {
            socket.send_to(&SYN, address).unwrap();
            answered += u32::from(socket.recv(&mut [0; 100]).is_ok());
        }
        let most = 3 * limits::UTP_PACKETS_PER_S_MAX;
        assert!((1..=most).contains(&answered), "{answered}");
    }
}
