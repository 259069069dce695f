//! The interface and source address of our connections to trackers and other servers: the same as of peer connections.
//!
//! Owns opening these sockets, and a transport for [`ureq`] over the blocking ones. The protocols are
//! `trackers::http`'s and `trackers::udp`'s.

#![allow(clippy::disallowed_methods, reason = "attempts to connect share a deadline")]

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
};
use ureq::{Error, Timeout};

use crate::base::limits::TRACKER_TIMEOUT;
use crate::io::Device;

/// The interface and source address of outgoing connections. By default the kernel chooses both.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Egress {
    pub device: Option<Device>,
    /// The source address. Used only if it and the destination are both loopback addresses, or both are not.
    pub local: Option<IpAddr>,
}

impl Egress {
    /// Opens a non-blocking UDP socket that is connected to `peer`.
    pub(in crate::engine) fn udp_socket(&self, peer: SocketAddr) -> io::Result<UdpSocket> {
        let socket = self.socket(peer, Type::DGRAM, Protocol::UDP)?;
        socket.connect(&peer.into())?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }

    fn tcp_stream(&self, peer: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        let socket = self.socket(peer, Type::STREAM, Protocol::TCP)?;
        socket.connect_timeout(&peer.into(), timeout)?;
        Ok(socket.into())
    }

    /// Connects to the first address that accepts. The remaining addresses share the remaining time equally.
    fn first_tcp_stream(&self, peers: &[SocketAddr], time_limit: Duration) -> io::Result<TcpStream> {
        let deadline = Instant::now() + time_limit;
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for (&peer, left) in peers.iter().zip((1..=peers.len()).rev()) {
            let share = deadline.saturating_duration_since(Instant::now()) / u32::try_from(left).unwrap_or(u32::MAX);
            match self.tcp_stream(peer, share.max(Duration::from_millis(1))) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn socket(&self, peer: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(peer), kind, Some(protocol))?;
        if let Some(device) = &self.device {
            socket.bind_device(Some(device.name()))?;
        }
        match self.local {
            Some(local) if local.is_loopback() != peer.ip().to_canonical().is_loopback() => {}
            Some(local) if local.is_ipv4() != peer.is_ipv4() => {
                let line = format!("{peer} is not of the same address family as {local}, where we listen");
                return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, line));
            }
            Some(local) => socket.bind(&SocketAddr::new(local, 0).into())?,
            None => {}
        }
        Ok(socket)
    }
}

/// Opens the connections of [`ureq`] through an [`Egress`].
#[derive(Debug)]
pub(in crate::engine) struct EgressConnector(pub(in crate::engine) Egress);

impl<In: Transport> Connector<In> for EgressConnector {
    type Out = Either<In, EgressTransport>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        if let Some(chained) = chained {
            return Ok(Some(Either::A(chained)));
        }
        let time_limit = details.timeout.not_zero().map_or(TRACKER_TIMEOUT, |left| *left);
        match self.0.first_tcp_stream(&details.addrs, time_limit) {
            Ok(stream) => {
                let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
                Ok(Some(Either::B(EgressTransport { stream, buffers })))
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Error::Timeout(Timeout::Connect)),
            Err(error) => Err(Error::Io(error)),
        }
    }
}

/// A blocking TCP connection as [`ureq`] uses it.
#[derive(Debug)]
pub(in crate::engine) struct EgressTransport {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl Transport for EgressTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.set_write_timeout(timeout.not_zero().map(|left| *left))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output).map_err(|error| timed_out(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.set_read_timeout(timeout.not_zero().map(|left| *left))?;
        let received = loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => break received.map_err(|error| timed_out(error, timeout))?,
            }
        };
        self.buffers.input_appended(received);
        Ok(received > 0)
    }

    /// Connections are not reused.
    fn is_open(&mut self) -> bool {
        false
    }
}

fn timed_out(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => Error::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn egress(local: &str) -> Egress {
        Egress { device: None, local: Some(local.parse().unwrap()) }
    }

    #[test]
    fn packets_come_from_the_address_that_was_chosen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = listener.local_addr().unwrap();
        let stream = egress("127.9.8.7").tcp_stream(peer, Duration::from_secs(5)).unwrap();
        assert_eq!(listener.accept().unwrap().1, stream.local_addr().unwrap());
        assert_eq!(stream.local_addr().unwrap().ip(), IpAddr::from([127, 9, 8, 7]));
        let socket = egress("127.9.8.7").udp_socket(peer).unwrap();
        assert_eq!(socket.local_addr().unwrap().ip(), IpAddr::from([127, 9, 8, 7]));
    }

    #[test]
    fn a_silent_address_takes_only_its_share_of_the_time() {
        // Nothing accepts and the backlog is full: the kernel does not answer further connection attempts.
        let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        full.listen(0).unwrap();
        let silent = full.local_addr().unwrap().as_socket().unwrap();
        let _waiting = TcpStream::connect(silent).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let answers = listener.local_addr().unwrap();
        let egress = Egress::default();
        let stream = egress.first_tcp_stream(&[silent, answers], Duration::from_secs(1)).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), answers);
        let error = egress.first_tcp_stream(&[silent, silent], Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn unusable_source_addresses_fail_or_are_ignored() {
        let v6: SocketAddr = "[::1]:9".parse().unwrap();
        assert_eq!(egress("127.0.0.1").udp_socket(v6).unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
        // No other host is reached from a loopback address: the kernel chooses the source.
        let other_host: SocketAddr = "192.0.2.1:9".parse().unwrap();
        let socket = egress("127.0.0.1").socket(other_host, Type::DGRAM, Protocol::UDP).unwrap();
        assert!(socket.local_addr().unwrap().as_socket().unwrap().ip().is_unspecified());
    }
}
