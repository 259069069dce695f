//! The server threads of an origin: one each for the public pages and the operator's pages, and one for the UDP
//! tracker.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use axum::Router;

use super::connection_limit::ConnectionLimits;
use super::forwarded::TrustedProxies;
use super::listener::{self, Bounds, Service};
use super::reuse_port::{bind_tcp, bind_udp, share_tcp, share_udp};
use super::tracker::{Tracker, udp};
use crate::base::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_PORTS, WEB_POLL, WEB_PORTS};
use crate::io::{Descriptors, StartError, event_loop, start_thread};

/// The public sockets: the same port over TCP and UDP.
#[derive(Debug)]
pub struct PublicSockets {
    pub address: SocketAddr,
    tcp: TcpListener,
    udp: UdpSocket,
}

impl PublicSockets {
    /// Binds `address`, or by default all addresses with the first free port of [`WEB_PORTS`].
    pub fn bind(address: Option<SocketAddr>) -> io::Result<Self> {
        let bind = |address| {
            let tcp = one(bind_tcp(address, 1)?)?;
            Self::beside(tcp, None)
        };
        match address {
            Some(address) => bind(address),
            None => first_free(&WEB_PORTS, [[0_u16; 8].into(), [0; 4].into()], bind),
        }
    }

    /// Takes over sockets that were passed to the process. Binds UDP to the address of TCP if `udp` is not given.
    pub fn handed(tcp: &TcpListener, udp: Option<&UdpSocket>) -> io::Result<Self> {
        Self::beside(one(share_tcp(tcp, 1)?)?, udp)
    }

    fn beside(tcp: TcpListener, udp: Option<&UdpSocket>) -> io::Result<Self> {
        let address = tcp.local_addr()?;
        let udp = one(udp.map_or_else(|| bind_udp(address, 1), |udp| share_udp(udp, 1))?)?;
        if udp.local_addr()?.port() != address.port() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the UDP socket of the tracker must have the port of the TCP socket",
            ));
        }
        Ok(Self { address, tcp, udp })
    }
}

/// Binds the operator's socket to `address`, or by default to the loopback with the first free port of [`ADMIN_PORTS`].
pub fn bind_admin(address: Option<SocketAddr>) -> io::Result<TcpListener> {
    let bind = |address| one(bind_tcp(address, 1)?);
    match address {
        Some(address) => bind(address),
        None => first_free(&ADMIN_PORTS, [[127, 0, 0, 1].into(), [0, 0, 0, 0, 0, 0, 0, 1].into()], bind),
    }
}

fn first_free<S>(
    ports: &[u16],
    ips: [std::net::IpAddr; 2],
    bind: impl Fn(SocketAddr) -> io::Result<S>,
) -> io::Result<S> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for &port in ports {
        for ip in ips {
            match bind((ip, port).into()) {
                Ok(socket) => return Ok(socket),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => break,
                // The address family may be unavailable: try the other one.
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

fn one<S>(shares: Vec<S>) -> io::Result<S> {
    shares.into_iter().next().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// The operator's pages and their socket.
#[derive(Debug)]
pub struct AdminServer {
    pub listener: TcpListener,
    pub router: Router,
}

/// Starts the threads, which serve requests until `stop` is set.
pub fn start(
    sockets: PublicSockets,
    site: Router,
    tracker: &Tracker,
    proxies: TrustedProxies,
    admin: Option<AdminServer>,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let PublicSockets { tcp, udp, .. } = sockets;
    let mut threads = udp::start(vec![udp], tracker, stop)?;
    let affordable_max = Descriptors::of_process().web_connections;
    let connections = Bounds::default().connections.within(affordable_max);
    let site = Service { router: site, direct: Some(Arc::new(tracker.clone())) };
    threads.push(serve("web", tcp, Bounds { connections, proxies, ..Bounds::default() }, site, stop)?);
    if let Some(AdminServer { listener, router }) = admin {
        let connections = ConnectionLimits::new(ADMIN_CONNECTIONS_MAX, ADMIN_CONNECTIONS_MAX).within(affordable_max);
        threads.push(serve("admin", listener, Bounds { connections, ..Bounds::default() }, router, stop)?);
    }
    Ok(threads)
}

/// Starts a thread that serves requests until `stop` is set.
pub(super) fn serve(
    name: impl Into<String>,
    listener: TcpListener,
    bounds: Bounds,
    service: impl Into<Service>,
    stop: &Arc<AtomicBool>,
) -> Result<JoinHandle<()>, StartError> {
    let runtime = event_loop()?;
    let listener = {
        let _context = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let (service, stop) = (service.into(), Arc::clone(stop));
    start_thread(name, move || {
        runtime.block_on(async {
            tokio::select! {
                () = listener::serve(listener, bounds, service) => {}
                () = stopped(&stop) => {}
            }
        });
        // Does not wait for a read of a file that hangs.
        runtime.shutdown_background();
    })
}

/// Waits until `stop` is set.
async fn stopped(stop: &AtomicBool) {
    let mut poll = tokio::time::interval(WEB_POLL);
    while !stop.load(Ordering::Relaxed) {
        poll.tick().await;
    }
}
