//! A ring thread: accepts and opens connections, writes verified pieces, and drives the timeouts of its connections.
//!
//! Owns all peer sockets. When to connect, choke and close is decided by `control`.

mod connection;
mod handshake;
mod local;
pub(in crate::engine) mod piece_writer;
mod streams;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tracing::debug;

use crate::base::{PeerId, Time, limits};
use crate::engine::network::shortage::{AcceptFailures, report_descriptor_limit, report_shortage};
use crate::engine::ring::connection::{CloseReason, Connection, DRAIN_TIMEOUT};
use crate::engine::ring::handshake::{Established, HandshakeFailure};
use crate::engine::ring::local::Local;
use crate::engine::ring::piece_writer::write;
use crate::engine::ring::streams::{FurtherStreams, StreamStep, ThreadLoad, agreed};
use crate::engine::shared::Shared;
use crate::engine::shared::admission::{Admitted, HalfOpenGuard};
use crate::engine::shared::pending_handshakes::HandshakePermit;
use crate::engine::shared::received::Verified;
use crate::engine::shared::rings::{Command, ConnectionGuard, Incoming, Outgoing, StreamOf};
use crate::engine::torrent::Torrent;
use crate::engine::torrent::peers::{Direction, JoinedPeer, Left};
use crate::io::{Listener, Socket, Step, fault_point, no_op, spawn};
use crate::peer::{Agreement, HandshakeFault, InitialHave, Setup};
use crate::swarm::{Holding, Link, PeerShared, Traffic};

/// The interval at which timeouts are checked.
const TICK: Duration = Duration::from_millis(250);
/// Pause after a failed accept, so that a lack of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The inputs of a ring thread.
pub(in crate::engine) struct Inbox {
    pub(in crate::engine) commands: mpsc::Receiver<Command>,
    pub(in crate::engine) verified: mpsc::Receiver<Vec<Verified>>,
    pub(in crate::engine) news: Arc<Notify>,
    pub(in crate::engine) ready: Arc<Notify>,
}

/// One ring thread's connections and pending handshakes. Lives on that thread.
struct Ring {
    local: Rc<Local>,
    connections: RefCell<HashMap<u32, Rc<Connection>>>,
    /// Connections whose handshake is pending, with its deadline.
    in_handshake: RefCell<HashMap<u32, (Socket, Time)>>,
}

impl Ring {
    fn shared(&self) -> &Arc<Shared> {
        &self.local.shared
    }

    /// More may be requested from these peers.
    fn handle_proven(&self, peers: &[Arc<PeerShared>]) {
        let connections = self.connections.borrow();
        peers.iter().filter_map(|peer| connections.get(&peer.key())).for_each(|connection| connection.wake());
    }

    fn connections(&self) -> Vec<Rc<Connection>> {
        self.connections.borrow().values().cloned().collect()
    }
}

/// Runs until [`Command::Stop`].
pub(in crate::engine) async fn run(index: usize, shared: Arc<Shared>, listener: Listener, inbox: Inbox) {
    let Inbox { mut commands, mut verified, news, ready } = inbox;
    let ring = Rc::new(Ring {
        local: Rc::new(Local::new(index, shared)),
        connections: RefCell::default(),
        in_handshake: RefCell::default(),
    });
    let accepting = spawn(accept(ring.clone(), listener.clone()));
    spawn(pass_news(ring.clone(), news));
    spawn(pass_ready(ring.clone(), ready));
    spawn(keep_time(ring.clone()));
    spawn({
        let ring = ring.clone();
        async move {
            while let Some(runs) = verified.recv().await {
                for run in runs {
                    ring.handle_proven(&run.proven);
                    spawn(write(ring.shared().clone(), run));
                    no_op().await;
                }
            }
        }
    });
    while let Some(command) = commands.recv().await {
        // A panic here ends this thread, as one of its event loop does.
        let _ = fault_point(Step::Command);
        let ring = ring.clone();
        match command {
            Command::Connect(outgoing) => drop(spawn(connect(ring, outgoing))),
            Command::Adopt(Incoming { socket, address, guard, permit }) => match Socket::adopt(socket) {
                Ok(socket) => drop(spawn(serve_incoming(ring, socket, address, guard, permit))),
                Err(error) => {
                    debug!("{address}: adopt: {error}");
                    report_shortage(&error);
                }
            },
            Command::Stop => break,
        }
    }
    // The pending accept ends with the ring, and so does a connection that it accepts until then.
    accepting.abort();
    if !ring.shared().endpoint.listener_is_handed {
        listener.shutdown();
    }
    stop(&ring).await;
}

async fn stop(ring: &Ring) {
    ring.in_handshake.borrow().values().for_each(|(socket, _)| socket.shutdown());
    ring.connections().iter().for_each(|connection| connection.end(&CloseReason::Stopping));
    let deadline = ring.shared().now() + DRAIN_TIMEOUT;
    while !ring.connections.borrow().is_empty() && ring.shared().now() < deadline {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    ring.local.flush_counts();
}

async fn keep_time(ring: Rc<Ring>) {
    let mut load = ThreadLoad::new(ring.shared().now());
    loop {
        tokio::time::sleep(TICK).await;
        let now = ring.shared().now();
        let is_busy = load.poll_busy(now);
        for connection in ring.connections() {
            connection.handle_tick(now);
            add_stream(&ring, &connection, is_busy);
        }
        let late = |(_, deadline): &&(Socket, Time)| *deadline <= now;
        ring.in_handshake.borrow().values().filter(late).for_each(|(socket, _)| socket.shutdown());
        ring.local.flush_counts();
    }
}

/// Opens a further connection to a peer, or tells the peer that it should, if both sides agree and one needs it.
fn add_stream(ring: &Ring, connection: &Connection, is_busy: bool) {
    let Some((streams, offer)) = connection.further_streams().zip(connection.stream_offer()) else { return };
    let (shared, peer) = (ring.shared(), connection.shared());
    let payload = peer.downloaded() + peer.uploaded();
    let is_needed = streams.poll_need(shared.streams.opening, is_busy, payload);
    if !connection.torrent.swarm.has_room_for_streams()
        || shared.admission.open_room(shared.rings.connection_count()) == 0
    {
        return;
    }
    let (id, ring_distance) = match streams.poll_step(offer, is_needed) {
        StreamStep::Nothing => return,
        StreamStep::Ask => return connection.want_stream(),
        StreamStep::Open { id, ring_distance } => (id, ring_distance),
    };
    let index = (ring.local.index + ring_distance) % shared.rings.handles().len().max(1);
    let Some(handle) = shared.rings.handles().get(index) else { return };
    // A ring that refuses it is overloaded, and would not carry more.
    let _ = handle.commands.try_send(Command::Connect(Outgoing {
        torrent: connection.torrent.clone(),
        address: peer.address(),
        expected_id: Some(streams.peer_id),
        stream: Some(StreamOf { first: peer.key(), id }),
        guard: ConnectionGuard::new(&shared.rings, index),
        half_open: HalfOpenGuard::new(&shared.admission),
    }));
}

/// Makes every connection announce new pieces and apply choke decisions, at most once per [`limits::HAVE_GATHER`].
async fn pass_news(ring: Rc<Ring>, news: Arc<Notify>) {
    loop {
        news.notified().await;
        ring.connections().iter().for_each(|connection| connection.handle_news());
        tokio::time::sleep(limits::HAVE_GATHER).await;
    }
}

/// Wakes the connections that wait for content, at once.
async fn pass_ready(ring: Rc<Ring>, ready: Arc<Notify>) {
    loop {
        ready.notified().await;
        ring.connections().iter().for_each(|connection| connection.wake_if_waiting());
        no_op().await;
    }
}

async fn accept(ring: Rc<Ring>, listener: Listener) {
    let mut failures = AcceptFailures::default();
    loop {
        match listener.accept().await {
            Ok((socket, address)) => {
                failures.handle_accepted();
                handle_accepted(&ring, socket, canonical(address));
            }
            // The peer closed the connection before it was accepted.
            Err(error) if is_of_one_connection(&error) => debug!("accept: {error}"),
            Err(error) => {
                debug!("accept: {error}");
                failures.handle_failed(&error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The error concerns only the connection that was to be accepted: the next one is accepted without a pause.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | NotConnected)
}

fn handle_accepted(ring: &Rc<Ring>, socket: Socket, address: SocketAddr) {
    let Shared { admission, rings, external_address, .. } = &**ring.shared();
    let permit = match admission.admit(rings.connection_count(), external_address, address) {
        Admitted::No => return,
        Admitted::NoDescriptor => return report_descriptor_limit(),
        Admitted::Yes(permit) => permit,
        Admitted::InPlaceOfAnother(permit) => {
            rings.spread_news();
            permit
        }
    };
    assign(ring, socket, address, permit);
}

/// The kernel assigns connections to rings at random: a connection that would make this ring busier than another one
/// goes there.
fn assign(ring: &Rc<Ring>, socket: Socket, address: SocketAddr, permit: HandshakePermit) {
    let (rings, own) = (&ring.shared().rings, ring.local.index);
    let other = rings.idlest().filter(|&index| rings.connections_of(index) < rings.connections_of(own));
    let guard = ConnectionGuard::new(rings, other.unwrap_or(own));
    let Some(handle) = other.and_then(|index| rings.handles().get(index)) else {
        spawn(serve_incoming(ring.clone(), socket, address, guard, permit));
        return;
    };
    match socket.into_fd() {
        // A ring that refuses it is overloaded: the peer connects again.
        Ok(socket) => drop(handle.commands.try_send(Command::Adopt(Incoming { socket, address, guard, permit }))),
        Err(socket) => drop(spawn(serve_incoming(ring.clone(), socket, address, guard, permit))),
    }
}

/// Converts an IPv4 address that was received through an IPv6 socket.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

async fn serve_incoming(
    ring: Rc<Ring>,
    socket: Socket,
    address: SocketAddr,
    _guard: ConnectionGuard,
    permit: HandshakePermit,
) {
    let key = ring.shared().rings.next_key();
    let established = {
        let _deadline = HandshakeDeadline::new(&ring, key, &socket, limits::HANDSHAKE_TIMEOUT);
        handshake::answer(ring.shared(), &socket, address).await
    };
    drop(permit);
    match established {
        Ok(established) => {
            let torrent = established.torrent.clone();
            let first = ring.shared().stream_ids.first_of(established.agreement.peer_id);
            let traffic = match first {
                None => serve(&ring, socket, address, key, established, Direction::Incoming).await,
                Some(first) => {
                    serve_stream(&ring, socket, address, key, established, first).await;
                    Traffic::None
                }
            };
            torrent.peers.list().handle_disconnected(ring.shared().now(), address, traffic);
        }
        Err(error) => {
            // Peers that demand encryption do not begin with a BitTorrent handshake.
            if matches!(error, HandshakeFailure::Fault(HandshakeFault::Protocol(_))) {
                let count = ring.shared().counters.foreign_handshakes.fetch_add(1, Ordering::Relaxed) + 1;
                debug!("{count} connections began with another protocol, or encrypted");
            }
            debug!("{address}: handshake: {error}");
        }
    }
}

async fn connect(ring: Rc<Ring>, outgoing: Outgoing) {
    let Outgoing { torrent, address, expected_id, stream, guard: _guard, half_open } = outgoing;
    let key = ring.shared().rings.next_key();
    let own_id = stream.map_or(ring.shared().peer_id, |stream| stream.id);
    let established = open(&ring, &torrent, address, key, Ids { own: own_id, expected: expected_id }).await;
    drop(half_open);
    if let Some(StreamOf { first, .. }) = stream {
        return match established {
            Ok((socket, established)) => serve_stream(&ring, socket, address, key, established, first).await,
            Err(error) => debug!("{address}: connect once more: {error}"),
        };
    }
    match established {
        Ok((socket, established)) => {
            torrent.peers.list().handle_connected(address);
            let traffic = serve(&ring, socket, address, key, established, Direction::Outgoing).await;
            torrent.peers.list().handle_disconnected(ring.shared().now(), address, traffic);
        }
        Err(error) => {
            debug!("{address}: connect: {error}");
            let mut peers = torrent.peers.list();
            if matches!(error, HandshakeFailure::Fault(HandshakeFault::HungUp)) {
                peers.handle_hung_up(address);
            }
            peers.handle_failed(ring.shared().now(), address);
            drop(peers);
            ring.shared().control.wake(&torrent);
        }
    }
}

/// The peer ids of a connection that we open.
struct Ids {
    own: PeerId,
    expected: Option<PeerId>,
}

async fn open(
    ring: &Rc<Ring>,
    torrent: &Arc<Torrent>,
    address: SocketAddr,
    key: u32,
    ids: Ids,
) -> Result<(Socket, Established), HandshakeFailure> {
    let local = ring.shared().endpoint.local_address.filter(|local| local.is_ipv4() == address.is_ipv4());
    let socket =
        Socket::begin_connect(address, local, &ring.shared().endpoint.socket_options).inspect_err(report_shortage)?;
    let mut deadline = HandshakeDeadline::new(ring, key, &socket, limits::CONNECT_TIMEOUT);
    socket.connect(address).await?;
    deadline.set(&socket, limits::HANDSHAKE_TIMEOUT);
    match handshake::offer(&socket, torrent, address, ids.own, ids.expected).await {
        // The handshake timed out on our side.
        Err(HandshakeFailure::Fault(HandshakeFault::HungUp)) if ring.shared().now() >= deadline.at => {
            Err(HandshakeFault::Closed.into())
        }
        established => established.map(|established| (socket, established)),
    }
}

/// Runs a connection to its end. Returns the payload that it carried.
async fn serve(
    ring: &Rc<Ring>,
    socket: Socket,
    address: SocketAddr,
    key: u32,
    established: Established,
    direction: Direction,
) -> Traffic {
    let Established { torrent, agreement, buffer } = established;
    let now = ring.shared().now();
    let peer_shared = Arc::new(PeerShared::new(key, address));
    let newcomer = JoinedPeer { shared: peer_shared.clone(), peer_id: agreement.peer_id, direction };
    let sighting = newcomer.sighting(Holding::Partial);
    if !torrent.peers.join(newcomer, ring.shared().peer_id, now) {
        debug!("{address}: second connection to the same peer, or the torrent was removed");
        return Traffic::None;
    }
    ring.shared().handle_sighting(&torrent, sighting);
    let setup = Setup {
        info_hash: Some(torrent.info_hash),
        listen_port: Some(ring.shared().endpoint.listen_port),
        peer_ip: Some(address.ip()),
        metadata: torrent.metadata.clone(),
        streams: agreed(ring.shared().streams, &ring.shared().stream_ids, key, direction),
        ..further_setup(&torrent, &agreement)
    };
    let link = Link::new(setup, torrent.swarm.clone(), peer_shared.clone(), now);
    let further = FurtherStreams::new(direction, agreement.peer_id);
    let connection = Rc::new(Connection::new(ring.local.clone(), torrent, socket, link, Some(further)));
    {
        let _registration = Registration::new(ring.clone(), key, Place::First, connection.clone());
        connection.run(buffer).await;
    }
    peer_shared.traffic()
}

/// Runs a further connection to a peer, whose first one has the key `first`, to its end.
async fn serve_stream(
    ring: &Rc<Ring>,
    socket: Socket,
    address: SocketAddr,
    key: u32,
    established: Established,
    first: u32,
) {
    let Established { torrent, agreement, buffer } = established;
    let further_max = usize::from(ring.shared().streams.max) - 1;
    let room = if torrent.swarm.has_room_for_streams() { further_max } else { 0 };
    let Some(peer_shared) = torrent.peers.join_stream(first, address.ip(), room) else {
        return debug!("{address}: no room for a further connection, or the first one has ended");
    };
    let setup = further_setup(&torrent, &agreement);
    let link = Link::further(setup, torrent.swarm.clone(), peer_shared, key, ring.shared().now());
    let connection = Rc::new(Connection::new(ring.local.clone(), torrent, socket, link, None));
    let _registration = Registration::new(ring.clone(), key, Place::Further, connection.clone());
    connection.run(buffer).await;
}

/// The setup of a further connection to a peer.
fn further_setup(torrent: &Torrent, agreement: &Agreement) -> Setup {
    Setup {
        geometry: torrent.swarm.geometry.clone(),
        fast: agreement.extensions.has_fast(),
        extension: agreement.extensions.has_extension(),
        have: InitialHave::None,
        upload_only: false,
        info_hash: None,
        listen_port: None,
        peer_ip: None,
        metadata: None,
        streams: None,
    }
}

/// Makes the ring shut a socket down at a deadline, unless it is dropped before.
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

    /// Moves the deadline to `timeout` from now.
    fn set(&mut self, socket: &Socket, timeout: Duration) {
        self.at = self.ring.shared().now() + timeout;
        self.ring.in_handshake.borrow_mut().insert(self.key, (socket.clone(), self.at));
    }
}

impl Drop for HandshakeDeadline<'_> {
    fn drop(&mut self) {
        self.ring.in_handshake.borrow_mut().remove(&self.key);
    }
}

/// Registers a connection with its ring and its torrent until it is dropped.
struct Registration {
    ring: Rc<Ring>,
    /// The key of this connection.
    key: u32,
    place: Place,
    torrent: Arc<Torrent>,
    shared: Arc<PeerShared>,
    connection: Option<Rc<Connection>>,
}

/// The place of a connection among those with the same peer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    First,
    Further,
}

impl Registration {
    fn new(ring: Rc<Ring>, key: u32, place: Place, connection: Rc<Connection>) -> Self {
        let (torrent, shared) = (connection.torrent.clone(), connection.shared());
        ring.connections.borrow_mut().insert(key, connection.clone());
        ring.shared().control.wake(&torrent);
        Self { ring, key, place, torrent, shared, connection: Some(connection) }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // After a panic of the reader the writer still runs.
        self.connection.iter().for_each(|connection| connection.end(&CloseReason::Stopping));
        self.ring.connections.borrow_mut().remove(&self.key);
        // The last pieces that the peer announced are counted when its link is dropped.
        self.connection = None;
        if self.place == Place::Further {
            return self.torrent.peers.leave_stream(&self.shared);
        }
        let left = self.torrent.peers.leave(&self.shared, &self.torrent.swarm);
        if let Some(Left { sighting, streams }) = left {
            self.ring.shared().handle_sighting(&self.torrent, sighting);
            if streams > 0 {
                self.ring.shared().rings.spread_news();
            }
        }
        self.ring.shared().control.wake(&self.torrent);
    }
}
