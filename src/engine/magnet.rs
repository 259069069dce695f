//! Fetching the info dictionary of a magnet link (BEP 9) before there is a session to run.
//!
//! Announces to trackers and connects to peers on one thread with a runtime of its own until the metadata is complete.
//! `swarm` decides which part to request from which peer; the messages are `peer`'s.

#![allow(clippy::disallowed_methods, reason = "the engine reads the clock")]

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::announce::Announce;
use crate::base::geometry::BLOCK_LEN;
use crate::base::{InfoHash, PeerId, Rng, Time, limits};
use crate::codec::handshake::HANDSHAKE_LEN;
use crate::codec::magnet::{Magnet, PeerAddress};
use crate::engine::config::Config;
use crate::engine::network::dns::look_up_peer;
use crate::engine::network::listen::listen;
use crate::engine::network::shortage::AcceptFailures;
use crate::engine::network::utp;
use crate::engine::report::{EngineError, HungUp};
use crate::engine::trackers::announcer::{self, Command, Found, Totals, announce_permits};
use crate::engine::trackers::http::Fetcher;
use crate::io::{Device, StartError, event_loop};
use crate::peer::{
    Agreement, HandshakeExchange, HandshakeFault, HandshakeStep, MetadataConnection, MetadataEvent, PeerFault,
};
use crate::swarm::peer_list::{PeerList, Source};
use crate::swarm::{MetadataFetch, MetadataProgress, Traffic};

/// The interval at which the end is checked and peers are connected to.
const TICK: Duration = Duration::from_millis(50);
/// Bytes per receive.
const RECV_LEN: usize = 16 << 10;

/// The metadata to fetch.
#[derive(Debug)]
pub struct MetadataRequest<'a> {
    pub config: &'a Config,
    pub magnet: &'a Magnet,
    /// Trackers by tier (BEP 12).
    pub tiers: Vec<Vec<String>>,
    pub listening: Listening,
    /// No download follows: the trackers are told that we leave, even after success.
    pub leaving: bool,
    /// Ends the fetch when it is set.
    pub stop: &'a AtomicBool,
}

/// The port that is announced to trackers and peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// The fetch listens itself, at the address of the configuration, and accepts peers.
    Here,
    /// A session that listens at this port will take over.
    InSession(u16),
}

/// The metadata of a magnet link.
#[derive(Debug)]
pub struct Metadata {
    /// Its SHA-1 is the info-hash.
    pub info_bytes: Vec<u8>,
    /// The peers that the link names, as far as their names were resolved in time.
    pub link_peers: Vec<SocketAddr>,
    /// Peers that trackers named.
    pub peers: Vec<SocketAddr>,
}

/// Why there is no metadata.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("no metadata: no peer sent any for {0} s: check the link's trackers, or name a peer with --peer ADDR:PORT")]
    Timeout(u64),
    #[error("no metadata: {0}: name a peer that has the torrent and takes plain connections with --peer ADDR:PORT")]
    HungUp(HungUp),
    #[error("interrupted before the metadata was complete")]
    Interrupted,
}

/// Fetches the metadata from peers until it is complete, `stop` is set or nothing has arrived for the timeout of the
/// configuration.
pub fn fetch_metadata(request: MetadataRequest<'_>) -> Result<Metadata, MetadataError> {
    let runtime = event_loop().map_err(|error| EngineError::from(StartError::from(error)))?;
    let found = LocalSet::new().block_on(&runtime, run(request));
    // Does not wait for a tracker that hangs.
    runtime.shutdown_background();
    found
}

/// Shared by the connections.
struct Shared {
    info_hash: InfoHash,
    peer_id: PeerId,
    listen_port: u16,
    /// The source address of outgoing connections, if the user chose one.
    local: Option<SocketAddr>,
    fetch: RefCell<MetadataFetch>,
    peers: RefCell<PeerList>,
    link_peers: RefCell<Vec<SocketAddr>>,
    device: Option<Device>,
    connection_count: Cell<usize>,
    half_open_count: Cell<usize>,
    next_key: Cell<u32>,
    /// A part may be requested again, or the metadata is complete.
    news: Notify,
    complete: RefCell<Option<Vec<u8>>>,
    /// The time at which the last part arrived.
    progress_at: Cell<Time>,
    started: Instant,
}

impl Shared {
    fn now(&self) -> Time {
        self.started.elapsed()
    }

    fn handle_link_peers(&self, found: &[SocketAddr]) {
        self.peers.borrow_mut().handle_announced(found.iter().copied(), Source::User, &mut Rng::new());
        self.link_peers.borrow_mut().extend_from_slice(found);
    }
}

async fn run(request: MetadataRequest<'_>) -> Result<Metadata, MetadataError> {
    let MetadataRequest { config, magnet, tiers, listening, leaving, stop } = request;
    let listeners = match listening {
        Listening::Here => listen(&config.listen, 1, config.device).map_err(EngineError::from)?,
        Listening::InSession(_) => Vec::new(),
    };
    for socket in utp::bind_beside(&listeners, config.device) {
        spawn_local(utp::refuse(socket, config.filter.clone()));
    }
    let listener = listeners.into_iter().next();
    let listen_port = match listening {
        Listening::Here => {
            listener.as_ref().and_then(|listener| listener.local_addr().ok()).map_or(0, |addr| addr.port())
        }
        Listening::InSession(port) => port,
    };
    let shared = Rc::new(Shared {
        info_hash: magnet.info_hash,
        peer_id: config.identity.peer_id,
        listen_port,
        local: config.listen.local_address(),
        fetch: RefCell::new(MetadataFetch::new(magnet.info_hash)),
        peers: RefCell::new(
            PeerList::with_filter(config.filter.clone()).limited_to(limits::METADATA_CONNECTIONS_PER_HOST_MAX),
        ),
        link_peers: RefCell::default(),
        device: config.device,
        connection_count: Cell::new(0),
        half_open_count: Cell::new(0),
        next_key: Cell::new(0),
        news: Notify::new(),
        complete: RefCell::new(None),
        progress_at: Cell::new(Time::ZERO),
        started: Instant::now(),
    });
    let (announcer, commands, found) = announce(config, &shared, tiers);
    let acceptor = listener.map(|listener| spawn_local(accept(shared.clone(), listener)));
    shared.peers.borrow_mut().handle_announced(config.peers.iter().copied(), Source::User, &mut Rng::new());
    add_link_peers(&shared, &magnet.peers);

    let outcome = wait(config, &shared, found, stop).await;
    if let Some(acceptor) = acceptor {
        acceptor.abort();
    }
    if leaving || outcome.is_err() {
        let _ = commands.try_send(Command::Stop);
        let _ = timeout(limits::TRACKER_STOP_TIMEOUT, announcer).await;
    } else {
        announcer.abort();
    }
    for ip in shared.fetch.borrow().banned() {
        warn!("{ip} sent wrong metadata");
    }
    outcome.map(|(info_bytes, peers)| Metadata { info_bytes, link_peers: shared.link_peers.take(), peers })
}

type Announcing = (JoinHandle<()>, mpsc::Sender<Command>, mpsc::Receiver<(u32, Vec<Found>)>);

fn announce(config: &Config, shared: &Shared, tiers: Vec<Vec<String>>) -> Announcing {
    let announce = Announce::new(tiers, false, &mut Rng::new());
    let identity = announcer::Identity {
        info_hash: shared.info_hash,
        peer_id: shared.peer_id,
        ip: config.announce_ip.clone(),
        port: shared.listen_port,
        key: config.identity.key,
        fetcher: Fetcher::new(config.egress()).trusting(Arc::clone(&config.users_trackers)),
    };
    let (commands, inbox) = mpsc::channel(4);
    let (found_in, found) = mpsc::channel(16);
    // The length of the content is unknown, but not zero.
    let totals = || Totals { left: u64::from(BLOCK_LEN), ..Totals::default() };
    let task = tokio::spawn(announcer::run(
        announce,
        identity,
        totals,
        announce_permits(),
        inbox,
        announcer::Finds::new(0, found_in),
    ));
    (task, commands, found)
}

/// Adds the peers that the link names: those with an address at once, the others when their names are resolved.
fn add_link_peers(shared: &Rc<Shared>, peers: &[PeerAddress]) {
    for peer in peers {
        match peer {
            PeerAddress::Socket(address) => shared.handle_link_peers(&[*address]),
            PeerAddress::Name(name, port) => {
                let (shared, name, port) = (shared.clone(), name.clone(), *port);
                spawn_local(async move { shared.handle_link_peers(&look_up_peer(&name, port).await) });
            }
        }
    }
}

/// Waits for the metadata. Returns the info dictionary and the peers that trackers named.
async fn wait(
    config: &Config,
    shared: &Rc<Shared>,
    mut found: mpsc::Receiver<(u32, Vec<Found>)>,
    stop: &AtomicBool,
) -> Result<(Vec<u8>, Vec<SocketAddr>), MetadataError> {
    let mut rng = Rng::new();
    let mut peers: Vec<SocketAddr> = Vec::new();
    let mut has_reported_hung_up = false;
    loop {
        while let Ok((_, more)) = found.try_recv() {
            let addresses = more.iter().take(limits::TRACKER_REPLY_PEERS_MAX).map(|peer| peer.address);
            shared.peers.borrow_mut().handle_announced(addresses.clone(), Source::Tracker, &mut rng);
            peers.extend(addresses);
            peers.truncate(limits::PEER_LIST_MAX);
        }
        if let Some(info_bytes) = shared.complete.take() {
            info!("metadata of {} bytes", info_bytes.len());
            return Ok((info_bytes, peers));
        }
        if stop.load(Ordering::Relaxed) {
            return Err(MetadataError::Interrupted);
        }
        if let Some(limit) = config.timeout.filter(|limit| shared.now() >= shared.progress_at.get() + *limit) {
            return Err(hung_up(shared).map_or(MetadataError::Timeout(limit.as_secs()), MetadataError::HungUp));
        }
        if !has_reported_hung_up
            && shared.now() >= shared.progress_at.get() + limits::HUNG_UP_NOTICE
            && let Some(hung_up) = hung_up(shared)
        {
            warn!("no metadata yet: {hung_up}");
            has_reported_hung_up = true;
        }
        let lacking = limits::METADATA_CONNECTIONS_MAX.saturating_sub(shared.connection_count.get());
        let room = limits::HALF_OPEN_MAX.saturating_sub(shared.half_open_count.get());
        let chosen = shared.peers.borrow_mut().poll_connect(shared.now(), lacking, room, &mut rng);
        for address in chosen {
            spawn_local(connect(shared.clone(), address));
        }
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = shared.news.notified() => {}
        }
    }
}

fn hung_up(shared: &Shared) -> Option<HungUp> {
    HungUp::new(shared.peers.borrow().hung_up_count())
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum CloseReason {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Handshake(#[from] HandshakeFault),
    #[error("{0}")]
    Fault(#[from] PeerFault),
    #[error("too slow")]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error("the peer does not support the extension protocol")]
    NoExtensions,
    #[error("the peer does not offer the metadata")]
    NotOffered,
    #[error("the peer sent wrong metadata")]
    Banned,
    #[error("the peer sent nothing useful in time")]
    Idle,
    #[error("closed by the peer")]
    Closed,
}

/// Counts a connection until it is dropped.
struct ConnectionGuard {
    shared: Rc<Shared>,
    count: fn(&Shared) -> &Cell<usize>,
}

impl ConnectionGuard {
    fn new(shared: &Rc<Shared>, count: fn(&Shared) -> &Cell<usize>) -> Self {
        count(shared).update(|count| count + 1);
        Self { shared: shared.clone(), count }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        (self.count)(&self.shared).update(|count| count - 1);
    }
}

async fn connect(shared: Rc<Shared>, address: SocketAddr) {
    let half_open = ConnectionGuard::new(&shared, |shared| &shared.half_open_count);
    let open = async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(device) = &shared.device {
            socket.bind_device(Some(device.name()))?;
        }
        if let Some(local) = shared.local.filter(|local| local.is_ipv4() == address.is_ipv4()) {
            socket.bind(local)?;
        }
        socket.connect(address).await
    };
    let opened = timeout(limits::CONNECT_TIMEOUT, open).await;
    drop(half_open);
    let outcome = match opened {
        Ok(Ok(stream)) => {
            let _guard = ConnectionGuard::new(&shared, |shared| &shared.connection_count);
            let exchange = HandshakeExchange::outgoing(shared.peer_id, shared.info_hash, None);
            run_connection(&shared, stream, address, exchange).await
        }
        Ok(Err(error)) => Err(error.into()),
        Err(elapsed) => Err(elapsed.into()),
    };
    if let Err(reason) = outcome {
        debug!("{address}: {reason}");
        match reason {
            CloseReason::Handshake(HandshakeFault::Own) => shared.peers.borrow_mut().handle_own(address),
            CloseReason::Handshake(HandshakeFault::HungUp) => shared.peers.borrow_mut().handle_hung_up(address),
            _ => {}
        }
    }
    shared.peers.borrow_mut().handle_disconnected(shared.now(), address, Traffic::None);
}

async fn accept(shared: Rc<Shared>, listener: std::net::TcpListener) {
    let listener = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
    let Ok(listener) = listener.inspect_err(|error| debug!("accept: {error}")) else { return };
    let mut failures = AcceptFailures::default();
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                failures.handle_failed(&error);
                tokio::time::sleep(TICK).await;
                continue;
            }
        };
        failures.handle_accepted();
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let has_room = shared.connection_count.get() < limits::METADATA_CONNECTIONS_MAX;
        let of_host = shared.peers.borrow().connection_count(address.ip());
        let has_room = has_room && of_host < limits::METADATA_CONNECTIONS_PER_HOST_MAX;
        if !has_room || !shared.peers.borrow().accepts(address.ip()) {
            continue;
        }
        let guard = ConnectionGuard::new(&shared, |shared| &shared.connection_count);
        shared.peers.borrow_mut().handle_accepted(address);
        let shared = shared.clone();
        spawn_local(async move {
            let _guard = guard;
            let exchange = HandshakeExchange::incoming(shared.peer_id);
            if let Err(reason) = run_connection(&shared, stream, address, exchange).await {
                debug!("{address}: {reason}");
            }
            shared.peers.borrow_mut().handle_disconnected(shared.now(), address, Traffic::None);
        });
    }
}

/// Runs one connection from its handshake to its end.
async fn run_connection(
    shared: &Rc<Shared>,
    mut stream: TcpStream,
    address: SocketAddr,
    exchange: HandshakeExchange,
) -> Result<(), CloseReason> {
    let exchanged = exchange_handshakes(shared, &mut stream, exchange);
    let Agreement { extensions, .. } = timeout(limits::HANDSHAKE_TIMEOUT, exchanged).await??;
    shared.peers.borrow_mut().handle_connected(address);
    if !extensions.has_extension() {
        return Err(CloseReason::NoExtensions);
    }
    let key = shared.next_key.replace(shared.next_key.get() + 1);
    let ended = fetch_parts(shared, &mut stream, address, key, extensions.has_fast()).await;
    shared.fetch.borrow_mut().handle_gone(key);
    shared.news.notify_waiters();
    ended
}

/// Exchanges handshakes. Bytes that follow the peer's handshake are left in the stream.
async fn exchange_handshakes(
    shared: &Shared,
    stream: &mut TcpStream,
    mut exchange: HandshakeExchange,
) -> Result<Agreement, CloseReason> {
    let mut bytes = [0; HANDSHAKE_LEN];
    let mut len = 0;
    loop {
        if let Some(own) = exchange.poll_transmit() {
            stream.write_all(&own).await?;
        }
        match exchange.handle_received(bytes.get(..len).unwrap_or_default())? {
            HandshakeStep::Done(agreement) => return Ok(agreement),
            HandshakeStep::Wants(info_hash) if info_hash != shared.info_hash => {
                return Err(HandshakeFault::OtherTorrent(info_hash).into());
            }
            HandshakeStep::Wants(info_hash) => exchange.accept(info_hash),
            HandshakeStep::Receive => match stream.read(bytes.get_mut(len..).unwrap_or_default()).await {
                Err(error) if error.kind() != io::ErrorKind::ConnectionReset => return Err(error.into()),
                Ok(0) | Err(_) => return Err(exchange.handle_closed(len).into()),
                Ok(more) => len += more,
            },
        }
    }
}

/// Requests parts until the metadata is complete. Fails if the peer sends nothing useful for a while.
async fn fetch_parts(
    shared: &Shared,
    stream: &mut TcpStream,
    address: SocketAddr,
    key: u32,
    fast: bool,
) -> Result<(), CloseReason> {
    let mut connection = MetadataConnection::new(fast, Some(shared.listen_port).filter(|&port| port != 0));
    let mut buffer = vec![0; RECV_LEN];
    let mut deadline = shared.now() + limits::METADATA_TIMEOUT;
    loop {
        while let Some(event) = connection.poll_event() {
            if matches!(event, MetadataEvent::Part { .. } | MetadataEvent::Offered { .. }) {
                deadline = shared.now() + limits::METADATA_TIMEOUT;
            }
            handle_event(shared, address, key, event)?;
        }
        if shared.complete.borrow().is_some() {
            return Ok(());
        }
        if shared.fetch.borrow().is_banned(address.ip()) {
            return Err(CloseReason::Banned);
        }
        while connection.request_room() > 0
            && let Some(part) = shared.fetch.borrow_mut().next_request(shared.now(), key)
        {
            connection.request(part);
        }
        let bytes = connection.poll_transmit();
        if !bytes.is_empty() {
            timeout(limits::METADATA_TIMEOUT, stream.write_all(&bytes)).await??;
        }
        let left = deadline.saturating_sub(shared.now());
        tokio::select! {
            received = stream.read(&mut buffer) => match received? {
                0 => return Err(CloseReason::Closed),
                len => connection.handle_bytes(buffer.get(..len).unwrap_or_default())?,
            },
            () = shared.news.notified() => {}
            // Parts that were requested from other peers may be requested again by now.
            () = tokio::time::sleep(left.min(limits::METADATA_DUPLICATE_AFTER)) => {
                if left.is_zero() {
                    return Err(CloseReason::Idle);
                }
            }
        }
    }
}

fn handle_event(shared: &Shared, address: SocketAddr, key: u32, event: MetadataEvent) -> Result<(), CloseReason> {
    let mut fetch = shared.fetch.borrow_mut();
    if matches!(event, MetadataEvent::Part { .. }) {
        shared.progress_at.set(shared.now());
    }
    match event {
        MetadataEvent::Offered { info_len } => fetch.handle_offer(key, address.ip(), info_len),
        MetadataEvent::NotOffered => return Err(CloseReason::NotOffered),
        MetadataEvent::Refused { part } => {
            fetch.handle_refused(key, part);
            return Err(CloseReason::NotOffered);
        }
        MetadataEvent::Part { part, bytes } => match fetch.handle_part(key, part, bytes) {
            MetadataProgress::More => {}
            MetadataProgress::Complete(info_bytes) => {
                *shared.complete.borrow_mut() = Some(info_bytes);
                shared.news.notify_waiters();
            }
            MetadataProgress::Failed => {
                info!("metadata had a wrong hash and is fetched again");
                shared.news.notify_waiters();
            }
        },
    }
    Ok(())
}
