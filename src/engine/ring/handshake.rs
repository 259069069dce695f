//! Handshakes (BEP 3), in both directions, for all torrents behind one port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::{InfoHash, PeerId, limits};
use crate::codec::handshake::{HANDSHAKE_LEN, Handshake, HandshakeError, Reserved};
use crate::engine::shared::Shared;
use crate::engine::torrent::Torrent;
use crate::uring::{RecvBuffer, Socket};

/// Protocol string, reserved bytes and info-hash: what the opening side sends before it must know who answers.
const UPTO_INFO_HASH_LEN: usize = 48;

/// What both sides agreed on.
pub(in crate::engine) struct Greeted {
    pub(in crate::engine) torrent: Arc<Torrent>,
    pub(in crate::engine) peer: PeerId,
    pub(in crate::engine) fast: bool,
    pub(in crate::engine) extension: bool,
    /// Bytes that came behind the handshake.
    pub(in crate::engine) buffer: RecvBuffer,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(in crate::engine) enum GreetingError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("closed before the handshake was complete")]
    Closed,
    #[error("closed without a byte")]
    HungUp,
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    #[error("no torrent with info-hash {0}")]
    UnknownTorrent(InfoHash),
    #[error("another info-hash than asked for: {0}")]
    OtherTorrent(InfoHash),
    #[error("another peer id than its tracker told: {0}")]
    OtherPeer(PeerId),
    #[error("it is ourselves")]
    Own,
    #[error("banned, or too many connections")]
    Refused,
}

/// BEP 3: "wait for incoming connections to give a download hash first, and respond with the same one".
///
/// Whoever is greeted is counted in the torrent's peer list as connected.
pub(in crate::engine) async fn greet_incoming(
    shared: &Shared,
    socket: &Socket,
    address: SocketAddr,
) -> Result<Greeted, GreetingError> {
    let mut buffer = RecvBuffer::with_capacity(limits::RECV_BUFFER_LEN_MIN);
    buffer = receive(socket, buffer, UPTO_INFO_HASH_LEN).await?;
    let hash = buffer.filled().get(UPTO_INFO_HASH_LEN - 20..UPTO_INFO_HASH_LEN).and_then(|bytes| bytes.try_into().ok());
    let info_hash = InfoHash(hash.ok_or(GreetingError::Closed)?);
    let torrent = shared.torrent(&info_hash).filter(|torrent| !torrent.has_failed());
    let torrent = torrent.ok_or(GreetingError::UnknownTorrent(info_hash))?;
    if !torrent.swarm.pieces.is_complete() && torrent.peer_count() >= shared.leeching_max {
        return Err(GreetingError::Refused);
    }
    // Counted from here: several of one address may be greeted at a time, on several rings.
    {
        let mut peers = torrent.peer_list();
        if !peers.accepts(address.ip()) {
            return Err(GreetingError::Refused);
        }
        peers.handle_accepted(address);
    }
    let greeted = greet_accepted(shared, socket, &torrent, buffer).await;
    if greeted.is_err() {
        torrent.peer_list().handle_disconnected(shared.now(), address, false);
    }
    greeted
}

async fn greet_accepted(
    shared: &Shared,
    socket: &Socket,
    torrent: &Arc<Torrent>,
    buffer: RecvBuffer,
) -> Result<Greeted, GreetingError> {
    send_own(shared, socket, torrent).await?;
    let (theirs, buffer) = receive_handshake(socket, buffer).await?;
    if theirs.peer_id == shared.peer_id {
        return Err(GreetingError::Own);
    }
    Ok(agree(torrent.clone(), &theirs, buffer))
}

/// BEP 3: "If both sides don't send the same value, they sever the connection", and the same for an unexpected peer id.
pub(in crate::engine) async fn greet_outgoing(
    shared: &Shared,
    socket: &Socket,
    torrent: &Arc<Torrent>,
    address: SocketAddr,
    expected_id: Option<PeerId>,
) -> Result<Greeted, GreetingError> {
    send_own(shared, socket, torrent).await?;
    let buffer = RecvBuffer::with_capacity(limits::RECV_BUFFER_LEN_MIN);
    let (theirs, buffer) = receive_handshake(socket, buffer).await?;
    if theirs.info_hash != torrent.info_hash {
        return Err(GreetingError::OtherTorrent(theirs.info_hash));
    }
    if theirs.peer_id == shared.peer_id {
        torrent.peer_list().handle_own(address);
        return Err(GreetingError::Own);
    }
    if expected_id.is_some_and(|expected| expected != theirs.peer_id) {
        return Err(GreetingError::OtherPeer(theirs.peer_id));
    }
    Ok(agree(torrent.clone(), &theirs, buffer))
}

fn agree(torrent: Arc<Torrent>, theirs: &Handshake, buffer: RecvBuffer) -> Greeted {
    let Handshake { reserved, peer_id, .. } = theirs;
    // We set both bits, so theirs decide.
    Greeted { torrent, peer: *peer_id, fast: reserved.has_fast(), extension: reserved.has_extension(), buffer }
}

async fn send_own(shared: &Shared, socket: &Socket, torrent: &Torrent) -> Result<(), GreetingError> {
    let ours = Handshake { reserved: Reserved::ours(), info_hash: torrent.info_hash, peer_id: shared.peer_id };
    let bytes: Box<[u8]> = ours.encode().into();
    Ok(socket.send_all(bytes).await.0?)
}

async fn receive_handshake(socket: &Socket, buffer: RecvBuffer) -> Result<(Handshake, RecvBuffer), GreetingError> {
    let mut buffer = receive(socket, buffer, HANDSHAKE_LEN).await?;
    let bytes = buffer.filled().first_chunk::<HANDSHAKE_LEN>().ok_or(GreetingError::Closed)?;
    let handshake = Handshake::decode(bytes)?;
    buffer.consume(HANDSHAKE_LEN);
    Ok((handshake, buffer))
}

/// Receives until `len` bytes are there, giving up at the first byte that can't belong to a handshake.
async fn receive(socket: &Socket, mut buffer: RecvBuffer, len: usize) -> Result<RecvBuffer, GreetingError> {
    while buffer.filled().len() < len {
        let result;
        (result, buffer) = socket.recv(buffer).await;
        match result {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => return Err(error.into()),
            Ok(0) | Err(_) if buffer.filled().is_empty() => return Err(GreetingError::HungUp),
            Ok(0) | Err(_) => return Err(GreetingError::Closed),
            Ok(_) => {}
        }
        Handshake::check_prefix(buffer.filled())?;
    }
    Ok(buffer)
}
