//! Handshakes (BEP 3), in both directions, for all torrents behind one port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::{InfoHash, PeerId, limits};
use crate::codec::handshake::HANDSHAKE_LEN;
use crate::engine::shared::Shared;
use crate::engine::torrent::Torrent;
use crate::io::{RecvBuffer, Socket};
use crate::peer::{Agreement, HandshakeExchange, HandshakeFault, HandshakeStep};
use crate::swarm::Traffic;

/// A connection whose handshake is complete.
pub(in crate::engine) struct Established {
    pub(in crate::engine) torrent: Arc<Torrent>,
    pub(in crate::engine) agreement: Agreement,
    /// Bytes that followed the handshake.
    pub(in crate::engine) buffer: RecvBuffer,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::engine) enum HandshakeFailure {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Fault(#[from] HandshakeFault),
    #[error("no torrent with info-hash {0}")]
    UnknownTorrent(InfoHash),
    #[error("the peer is banned, or there are too many connections")]
    Refused,
}

/// Answers the handshake of a peer that connected to us. The connection is counted in the torrent's peer list if this
/// succeeds.
pub(in crate::engine) async fn answer(
    shared: &Shared,
    socket: &Socket,
    address: SocketAddr,
) -> Result<Established, HandshakeFailure> {
    let mut exchange = HandshakeExchange::incoming(shared.peer_id);
    let buffer = RecvBuffer::with_capacity(limits::RECV_BUFFER_LEN_MIN);
    let (step, buffer) = receive(socket, buffer, &mut exchange).await?;
    let HandshakeStep::Wants(info_hash) = step else { return Err(HandshakeFault::Closed.into()) };
    let torrent = shared.torrent(&info_hash).filter(|torrent| !torrent.has_failed());
    let torrent = torrent.ok_or(HandshakeFailure::UnknownTorrent(info_hash))?;
    if !torrent.swarm.pieces.is_complete() && torrent.peers.connected_count() >= shared.admission.leeching_max {
        return Err(HandshakeFailure::Refused);
    }
    // Counted from here on: several connections of one host may be in their handshake, on several rings.
    {
        let mut peers = torrent.peers.list();
        if !peers.accepts(address.ip()) {
            return Err(HandshakeFailure::Refused);
        }
        peers.handle_accepted(address);
    }
    exchange.accept(info_hash);
    let finished = finish(socket, buffer, exchange, &torrent).await;
    if finished.is_err() {
        torrent.peers.list().handle_disconnected(shared.now(), address, Traffic::None);
    }
    finished
}

/// Exchanges handshakes with a peer that we connected to. `own_id` is our peer id, or one that the peer has issued.
pub(in crate::engine) async fn offer(
    socket: &Socket,
    torrent: &Arc<Torrent>,
    address: SocketAddr,
    own_id: PeerId,
    expected_id: Option<PeerId>,
) -> Result<Established, HandshakeFailure> {
    let exchange = HandshakeExchange::outgoing(own_id, torrent.info_hash, expected_id);
    let buffer = RecvBuffer::with_capacity(limits::RECV_BUFFER_LEN_MIN);
    let finished = finish(socket, buffer, exchange, torrent).await;
    if matches!(finished, Err(HandshakeFailure::Fault(HandshakeFault::Own))) {
        torrent.peers.list().handle_own(address);
    }
    finished
}

/// Sends our handshake and receives the rest of the peer's.
async fn finish(
    socket: &Socket,
    buffer: RecvBuffer,
    mut exchange: HandshakeExchange,
    torrent: &Arc<Torrent>,
) -> Result<Established, HandshakeFailure> {
    if let Some(own) = exchange.poll_transmit() {
        let own: Box<[u8]> = own.into();
        socket.send_all(own).await.0?;
    }
    let (step, mut buffer) = receive(socket, buffer, &mut exchange).await?;
    let HandshakeStep::Done(agreement) = step else { return Err(HandshakeFault::Closed.into()) };
    buffer.consume(HANDSHAKE_LEN);
    Ok(Established { torrent: torrent.clone(), agreement, buffer })
}

/// Receives until the exchange has a step to take.
async fn receive(
    socket: &Socket,
    mut buffer: RecvBuffer,
    exchange: &mut HandshakeExchange,
) -> Result<(HandshakeStep, RecvBuffer), HandshakeFailure> {
    loop {
        match exchange.handle_received(buffer.filled())? {
            HandshakeStep::Receive => {}
            step => return Ok((step, buffer)),
        }
        let result;
        (result, buffer) = socket.recv(buffer).await;
        match result {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => return Err(error.into()),
            Ok(0) | Err(_) => return Err(exchange.handle_closed(buffer.filled().len()).into()),
            Ok(_) => {}
        }
    }
}
