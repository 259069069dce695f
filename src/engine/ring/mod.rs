//! One ring thread: accepts and opens connections, passes news on, writes verified pieces, keeps time.

mod connection;
mod handshake;
pub(in crate::engine) mod piece_writer;
mod reader;
mod writer;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::{Notify, mpsc};
use tracing::debug;

use crate::base::{PeerId, Time, limits};
use crate::engine::metrics::stats::latency_histogram;
use crate::engine::network::shortage::report_shortage;
use crate::engine::ring::connection::{Connection, DRAIN_TIMEOUT, End};
use crate::engine::ring::handshake::{Established, HandshakeFailure};
use crate::engine::ring::piece_writer::write;
use crate::engine::shared::pending_handshakes::Place;
use crate::engine::shared::received::Verified;
use crate::engine::shared::{Command, Counted, HalfOpen, Shared};
use crate::engine::torrent::Torrent;
use crate::peer::{HandshakeFault, InitialHave, Setup};
use crate::swarm::{Link, PeerShared};
use crate::uring::{Listener, Socket, ZeroCopyRing, ZeroCopyUsage, no_op, spawn};

/// How often time-outs are looked at.
const TICK: Duration = Duration::from_millis(250);
/// Pause after a failed accept, so that a lack of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a ring thread is given.
pub(in crate::engine) struct Inbox {
    pub(in crate::engine) listener: Option<std::net::TcpListener>,
    pub(in crate::engine) commands: mpsc::Receiver<Command>,
    pub(in crate::engine) verified: mpsc::Receiver<Vec<Verified>>,
    pub(in crate::engine) news: Arc<Notify>,
    pub(in crate::engine) ready: Arc<Notify>,
}

/// See the module. Lives on its thread.
pub(in crate::engine) struct Ring {
    pub(in crate::engine) index: usize,
    pub(in crate::engine) shared: Arc<Shared>,
    connections: RefCell<HashMap<u32, Rc<Connection>>>,
    /// Connections whose handshake is not complete, with their deadline.
    in_handshake: RefCell<HashMap<u32, (Socket, Time)>>,
    latency: RefCell<Histogram<u64>>,
    /// `None`: sends are copied.
    pub(in crate::engine) zero_copy: Option<ZeroCopyRing>,
}

impl Ring {
    pub(in crate::engine) fn record_latency(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
        self.latency.borrow_mut().saturating_record(micros);
    }

    /// These peers may be asked for more.
    fn handle_proven(&self, peers: &[Arc<PeerShared>]) {
        let connections = self.connections.borrow();
        peers.iter().filter_map(|peer| connections.get(&peer.key())).for_each(|connection| connection.wake());
    }

    fn connections(&self) -> Vec<Rc<Connection>> {
        self.connections.borrow().values().cloned().collect()
    }
}

/// Runs until it is told to stop.
pub(in crate::engine) async fn run(index: usize, shared: Arc<Shared>, inbox: Inbox) {
    let Inbox { listener, mut commands, mut verified, news, ready } = inbox;
    // What can't be had is not needed.
    let zero_copy = ZeroCopyRing::start(shared.zero_copy).ok().flatten();
    let ring = Rc::new(Ring {
        index,
        shared,
        connections: RefCell::default(),
        in_handshake: RefCell::default(),
        latency: RefCell::new(latency_histogram()),
        zero_copy,
    });
    let listener = listener.map(|listener| Listener::from_std(listener, ring.shared.socket_options));
    let accepting = listener.as_ref().map(|listener| spawn(accept(ring.clone(), listener.clone())));
    spawn(pass_news(ring.clone(), news));
    spawn(pass_ready(ring.clone(), ready));
    spawn(keep_time(ring.clone()));
    spawn({
        let ring = ring.clone();
        async move {
            while let Some(pieces) = verified.recv().await {
                for piece in pieces {
                    ring.handle_proven(&piece.proven);
                    spawn(write(ring.shared.clone(), piece));
                    no_op().await;
                }
            }
        }
    });
    while let Some(command) = commands.recv().await {
        let ring = ring.clone();
        match command {
            Command::Connect { torrent, address, expected_id, counted, half_open } => {
                spawn(connect(ring, torrent, address, expected_id, (counted, half_open)));
            }
            Command::Adopt { socket, address, counted, on_doorstep } => {
                spawn(serve_incoming(ring, socket.into(), address, (counted, on_doorstep)));
            }
            Command::Stop => break,
        }
    }
    if let Some(accepting) = accepting {
        // Its last accept ends with the ring, and with it a connection that comes until then.
        accepting.abort();
    }
    if let Some(listener) = listener.filter(|_| !ring.shared.listener_is_handed) {
        listener.shutdown();
    }
    stop(&ring).await;
}

async fn stop(ring: &Ring) {
    ring.in_handshake.borrow().values().for_each(|(socket, _)| socket.shutdown());
    ring.connections().iter().for_each(|connection| connection.end(&End::Stopping));
    let deadline = ring.shared.now() + DRAIN_TIMEOUT;
    while !ring.connections.borrow().is_empty() && ring.shared.now() < deadline {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    flush_counts(ring);
}

fn flush_counts(ring: &Ring) {
    if let Some(zero_copy) = &ring.zero_copy {
        let ZeroCopyUsage { uncopied, copied } = zero_copy.take_usage();
        ring.shared.counters.zero_copied.fetch_add(uncopied, Ordering::Relaxed);
        ring.shared.counters.zero_copy_copied.fetch_add(copied, Ordering::Relaxed);
    }
    let mut latency = ring.latency.borrow_mut();
    if !latency.is_empty() {
        ring.shared.merge_latency(&latency);
        latency.reset();
    }
}

async fn keep_time(ring: Rc<Ring>) {
    loop {
        tokio::time::sleep(TICK).await;
        let now = ring.shared.now();
        ring.connections().iter().for_each(|connection| connection.handle_tick(now));
        let late = |(_, deadline): &&(Socket, Time)| *deadline <= now;
        ring.in_handshake.borrow().values().filter(late).for_each(|(socket, _)| socket.shutdown());
        flush_counts(&ring);
    }
}

/// Haves and chokes go to every connection, gathered over a moment when there are many.
async fn pass_news(ring: Rc<Ring>, news: Arc<Notify>) {
    loop {
        news.notified().await;
        ring.connections().iter().for_each(|connection| connection.handle_news());
        tokio::time::sleep(limits::HAVE_GATHER).await;
    }
}

/// What a connection waits for is passed on at once.
async fn pass_ready(ring: Rc<Ring>, ready: Arc<Notify>) {
    loop {
        ready.notified().await;
        ring.connections().iter().for_each(|connection| connection.wake_if_waiting());
        no_op().await;
    }
}

async fn accept(ring: Rc<Ring>, listener: Listener) {
    loop {
        match listener.accept().await {
            Ok((socket, address)) => {
                let shared = &ring.shared;
                let address = canonical(address);
                if has_place(shared, address)
                    && let Some(on_doorstep) = shared.doorstep.enter(address.ip())
                {
                    place(&ring, socket, address, on_doorstep);
                }
            }
            // The peer was faster.
            Err(error) if is_of_one_connection(&error) => debug!("accept: {error}"),
            Err(error) => {
                debug!("accept: {error}");
                report_shortage(&error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The next connection is accepted without a pause, however many peers hang up at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | NotConnected)
}

/// At the cap somebody of no use may go.
fn has_place(shared: &Shared, address: SocketAddr) -> bool {
    if shared.connection_count.load(Ordering::Relaxed) < shared.connections_max {
        return true;
    }
    let replaces = shared.room.replace(address);
    if replaces {
        shared.spread_news();
    }
    replaces
}

/// The kernel gives connections to rings by chance: what makes this ring busier than another goes there.
fn place(ring: &Rc<Ring>, socket: Socket, address: SocketAddr, on_doorstep: Place) {
    let shared = &ring.shared;
    let other = shared.idlest_ring().filter(|&index| shared.connections_of(index) < shared.connections_of(ring.index));
    let counted = Counted::new(shared, other.unwrap_or(ring.index));
    let Some(handle) = other.and_then(|index| shared.rings().get(index)) else {
        spawn(serve_incoming(ring.clone(), socket, address, (counted, on_doorstep)));
        return;
    };
    match socket.into_fd() {
        // A ring that does not take it is overrun: the peer comes again.
        Ok(socket) => {
            drop(handle.commands.try_send(Command::Adopt { socket, address, counted, on_doorstep }));
        }
        Err(socket) => drop(spawn(serve_incoming(ring.clone(), socket, address, (counted, on_doorstep)))),
    }
}

/// IPv4 in its own form, also when it came through an IPv6 socket.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

async fn serve_incoming(
    ring: Rc<Ring>,
    socket: Socket,
    address: SocketAddr,
    (_counted, on_doorstep): (Counted, Place),
) {
    let key = ring.shared.next_key();
    let established = {
        let _deadline = HandshakeDeadline::new(&ring, key, &socket, limits::HANDSHAKE_TIMEOUT);
        handshake::answer(&ring.shared, &socket, address).await
    };
    drop(on_doorstep);
    match established {
        Ok(established) => {
            let torrent = established.torrent.clone();
            let useful = serve(&ring, socket, address, key, established, false).await;
            torrent.peer_list().handle_disconnected(ring.shared.now(), address, useful);
        }
        Err(error) => {
            // Peers that demand encryption begin with something else than BitTorrent's handshake.
            if matches!(error, HandshakeFailure::Fault(HandshakeFault::Protocol(_))) {
                let count = ring.shared.counters.foreign_handshakes.fetch_add(1, Ordering::Relaxed) + 1;
                debug!("{count} connections began with another protocol, or encrypted");
            }
            debug!("{address}: handshake: {error}");
        }
    }
}

async fn connect(
    ring: Rc<Ring>,
    torrent: Arc<Torrent>,
    address: SocketAddr,
    expected_id: Option<PeerId>,
    (_counted, half_open): (Counted, HalfOpen),
) {
    let key = ring.shared.next_key();
    let established = open(&ring, &torrent, address, key, expected_id).await;
    drop(half_open);
    match established {
        Ok((socket, established)) => {
            torrent.peer_list().handle_connected(address);
            let useful = serve(&ring, socket, address, key, established, true).await;
            torrent.peer_list().handle_disconnected(ring.shared.now(), address, useful);
        }
        Err(error) => {
            debug!("{address}: connect: {error}");
            let mut peers = torrent.peer_list();
            if matches!(error, HandshakeFailure::Fault(HandshakeFault::HungUp)) {
                peers.handle_hung_up(address);
            }
            peers.handle_failed(ring.shared.now(), address);
            drop(peers);
            ring.shared.attend(&torrent);
        }
    }
}

async fn open(
    ring: &Rc<Ring>,
    torrent: &Arc<Torrent>,
    address: SocketAddr,
    key: u32,
    expected_id: Option<PeerId>,
) -> Result<(Socket, Established), HandshakeFailure> {
    let local = ring.shared.local_address.filter(|local| local.is_ipv4() == address.is_ipv4());
    let socket = Socket::begin_connect(address, local, &ring.shared.socket_options).inspect_err(report_shortage)?;
    let mut deadline = HandshakeDeadline::new(ring, key, &socket, limits::CONNECT_TIMEOUT);
    socket.connect(address).await?;
    deadline.set(&socket, limits::HANDSHAKE_TIMEOUT);
    match handshake::offer(&ring.shared, &socket, torrent, address, expected_id).await {
        // That was our own time-out.
        Err(HandshakeFailure::Fault(HandshakeFault::HungUp)) if ring.shared.now() >= deadline.at => {
            Err(HandshakeFault::Closed.into())
        }
        established => established.map(|established| (socket, established)),
    }
}

/// Runs a connection to its end; true when it was worth having.
async fn serve(
    ring: &Rc<Ring>,
    socket: Socket,
    address: SocketAddr,
    key: u32,
    established: Established,
    outgoing: bool,
) -> bool {
    let Established { torrent, agreement, buffer } = established;
    let now = ring.shared.now();
    let peer_shared = Arc::new(PeerShared::new(key, address));
    if !torrent.join(&peer_shared, (agreement.peer_id, ring.shared.peer_id), outgoing, now) {
        debug!("{address}: second connection to the same peer");
        return false;
    }
    let setup = Setup {
        geometry: torrent.swarm.geometry.clone(),
        fast: agreement.extensions.has_fast(),
        extension: agreement.extensions.has_extension(),
        have: InitialHave::None,
        upload_only: false,
        info_hash: Some(torrent.info_hash),
        listen_port: Some(ring.shared.listen_port),
        peer_ip: Some(address.ip()),
        metadata: torrent.metadata.clone(),
    };
    let link = Link::new(setup, torrent.swarm.clone(), peer_shared, now);
    let connection = Rc::new(Connection::new(ring.clone(), torrent.clone(), socket, link));
    let shared = connection.shared();
    {
        let _registration = Registration::new(connection.clone());
        connection.run(buffer).await;
    }
    shared.has_transferred()
}

/// Has the ring shut a socket down when its time is over, until this is dropped.
struct HandshakeDeadline<'a> {
    ring: &'a Ring,
    key: u32,
    at: Time,
}

impl<'a> HandshakeDeadline<'a> {
    fn new(ring: &'a Ring, key: u32, socket: &Socket, timeout: Duration) -> Self {
        let mut deadline = Self { ring, key, at: Time::ZERO };
        deadline.set(socket, timeout);
        deadline
    }

    /// From now on.
    fn set(&mut self, socket: &Socket, timeout: Duration) {
        self.at = self.ring.shared.now() + timeout;
        self.ring.in_handshake.borrow_mut().insert(self.key, (socket.clone(), self.at));
    }
}

impl Drop for HandshakeDeadline<'_> {
    fn drop(&mut self) {
        self.ring.in_handshake.borrow_mut().remove(&self.key);
    }
}

/// A connection among those of its ring and of its torrent, until this is dropped.
struct Registration {
    ring: Rc<Ring>,
    torrent: Arc<Torrent>,
    shared: Arc<PeerShared>,
    connection: Option<Rc<Connection>>,
}

impl Registration {
    fn new(connection: Rc<Connection>) -> Self {
        let (ring, torrent, shared) = (connection.ring.clone(), connection.torrent.clone(), connection.shared());
        ring.connections.borrow_mut().insert(shared.key(), connection.clone());
        ring.shared.attend(&torrent);
        Self { ring, torrent, shared, connection: Some(connection) }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // After a panic of the reader the writer still runs.
        self.connection.iter().for_each(|connection| connection.end(&End::Stopping));
        self.ring.connections.borrow_mut().remove(&self.shared.key());
        // The last pieces that the peer announced are counted when its link is dropped.
        self.connection = None;
        self.torrent.leave(&self.shared);
        self.ring.shared.attend(&self.torrent);
    }
}
