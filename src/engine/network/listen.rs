//! The listening sockets: a share of the port for each ring thread.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::thread;

use crate::base::escape::printable;
use crate::base::limits;
use crate::io::{Device, Listener};

/// BEP 3: "try to listen on port 6881 and if that port is taken try 6882, then 6883, etc. and give up after 6889".
const PORTS: std::ops::RangeInclusive<u16> = 6881..=6889;
/// Connections that may wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Where to listen for peers.
#[derive(Debug)]
pub enum Listen {
    /// All addresses, the first free port of 6881 to 6889 (BEP 3).
    FirstFree,
    At(SocketAddr),
    /// A socket that already listens. The process that opened it may use it again after the session.
    Handed(TcpListener),
}

impl Listen {
    /// The source address of our own connections, if the user chose one. Its port is 0.
    pub(in crate::engine) fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::At(address) if !address.ip().is_unspecified() => Some(SocketAddr::new(address.ip(), 0)),
            _ => None,
        }
    }
}

/// Why we can't listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("can't listen on {address}: {source}: {}", listen_remedy(source, "--listen"))]
    Address { address: SocketAddr, source: io::Error },
    #[error(
        "can't listen through the interface '{}': {source}: give --bind-device one that 'ip link' lists",
        printable(device.name())
    )]
    Device { device: Device, source: io::Error },
    #[error("can't listen: ports 6881 to 6889 are all taken: choose one with --listen ADDR:PORT")]
    AllTaken,
    #[error("can't listen on the socket that was handed over: {0}")]
    Handed(io::Error),
}

/// Returns the remedy for an error of a listener at the address of this flag.
pub fn listen_remedy(error: &io::Error, flag: &str) -> String {
    match error.raw_os_error() {
        Some(libc::EMFILE) => "raise the limit with 'ulimit -n'".to_owned(),
        Some(libc::ENFILE) => "raise 'sysctl fs.file-max'".to_owned(),
        _ => format!("choose another address with {flag} ADDR:PORT"),
    }
}

/// Opens a listener for each ring, all on the port of the first one.
pub(in crate::engine) fn listen(
    wanted: &Listen,
    ring_count: usize,
    device: Option<Device>,
) -> Result<Vec<TcpListener>, ListenError> {
    match wanted {
        Listen::At(address) => {
            let bound = retry_taken(|| bind_shares(*address, ring_count, device));
            bound.map_err(|source| refused(*address, device, source))
        }
        // The kernel wakes one of the rings for each connection.
        Listen::Handed(listener) => {
            (0..ring_count.max(1)).map(|_| listener.try_clone()).collect::<Result<_, _>>().map_err(ListenError::Handed)
        }
        Listen::FirstFree => bind_first_free(ring_count, device),
    }
}

/// Repeats `bind` for a while if the address is taken: the kernel closes the sockets of a killed process late if a ring
/// has used them.
fn retry_taken<T>(mut bind: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..limits::LISTEN_RETRIES_MAX {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => thread::sleep(limits::LISTEN_RETRY_PAUSE),
            bound => return bound,
        }
    }
    bind()
}

fn bind_first_free(ring_count: usize, device: Option<Device>) -> Result<Vec<TcpListener>, ListenError> {
    for port in PORTS {
        for address in [SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), (Ipv4Addr::UNSPECIFIED, port).into()] {
            match bind_shares(address, ring_count, device) {
                Ok(shares) => return Ok(shares),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => break,
                // Without IPv6 we listen on IPv4 only.
                Err(_) if address.is_ipv6() => {}
                Err(source) => return Err(refused(address, device, source)),
            }
        }
    }
    Err(ListenError::AllTaken)
}

fn refused(address: SocketAddr, device: Option<Device>, source: io::Error) -> ListenError {
    match device.filter(|_| source.raw_os_error() == Some(libc::ENODEV)) {
        Some(device) => ListenError::Device { device, source },
        None => ListenError::Address { address, source },
    }
}

fn bind_shares(address: SocketAddr, ring_count: usize, device: Option<Device>) -> io::Result<Vec<TcpListener>> {
    // Two processes of one user could share a port unnoticed. The exclusive bind fails if the port is taken.
    let exclusive = Listener::bind_exclusive(address, device)?;
    let address = exclusive.local_addr()?;
    drop(exclusive);
    (0..ring_count.max(1)).map(|_| Listener::bind_share(address, BACKLOG, device)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_becomes_free_is_taken() {
        let before = Listener::bind_exclusive("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let address = before.local_addr().unwrap();
        let mut held = Some(before);
        let mut attempts = 0;
        let shares = retry_taken(|| {
            attempts += 1;
            let bound = bind_shares(address, 2, None);
            held.take();
            bound
        });
        assert_eq!((shares.unwrap().len(), attempts), (2, 2));
    }
}
