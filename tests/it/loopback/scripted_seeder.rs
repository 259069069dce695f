//! Scripted seeders: the honest behavior of a seeder, from which each test can deviate.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bt_fast::{
    base::InfoHash,
    codec::{
        handshake::{Handshake, Reserved},
        message::Message,
    },
};

use crate::loopback::Fixture;
use crate::support::wire_peer::{ListeningPeer, Received, WirePeer, any_peer_id};

/// The content of a torrent in memory.
pub(crate) struct Copy {
    pub(crate) info_hash: InfoHash,
    pub(crate) bytes: Vec<u8>,
    piece_len: u32,
}

impl Copy {
    pub(crate) fn of(fixture: &Fixture) -> Arc<Self> {
        Arc::new(Self {
            info_hash: fixture.metainfo.info_hash,
            bytes: fixture.content(),
            piece_len: fixture.metainfo.info.geometry.piece_len(),
        })
    }

    pub(crate) fn block(&self, index: u32, begin: u32, length: u32) -> &[u8] {
        let start = index as usize * self.piece_len as usize + begin as usize;
        &self.bytes[start..start + length as usize]
    }

    /// Shakes hands, then sends have-all and unchoke. Returns false if the peer sends no handshake.
    pub(crate) fn open(&self, peer: &mut WirePeer) -> bool {
        let Some(_) = peer.receive_handshake() else { return false };
        peer.send(
            &Handshake { reserved: Reserved::ours(), info_hash: self.info_hash, peer_id: any_peer_id() }.encode(),
        );
        peer.send_message(&Message::HaveAll);
        peer.send_message(&Message::Unchoke);
        true
    }
}

/// How a scripted seeder reacts to a request.
pub(crate) enum Reply {
    Block(Vec<u8>),
    Nothing,
}

/// Starts a seeder that answers each request with the result of `reply`. Requests are numbered from 0 over all
/// connections.
pub(crate) fn seeder(
    fixture: &Fixture,
    ip: Ipv4Addr,
    reply: impl Fn(usize, (u32, u32, u32), &[u8]) -> Reply + Send + Sync + 'static,
) -> ListeningPeer {
    let copy = Copy::of(fixture);
    let count = AtomicUsize::new(0);
    ListeningPeer::start(ip, fixture.piece_count(), move |mut peer| {
        if !copy.open(&mut peer) {
            return;
        }
        loop {
            match peer.receive() {
                Received::Request { index, begin, length } => {
                    let number = count.fetch_add(1, Ordering::Relaxed);
                    match reply(number, (index, begin, length), copy.block(index, begin, length)) {
                        Reply::Block(block) => peer.send_piece(index, begin, &block),
                        Reply::Nothing => {}
                    }
                }
                Received::Closed | Received::Silence => return,
                _ => {}
            }
        }
    })
}

/// Starts a seeder that answers every request and records the indices of the requested pieces.
pub(crate) fn seeder_that_notes(fixture: &Fixture, ip: Ipv4Addr) -> (ListeningPeer, Arc<Mutex<Vec<u32>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    let peer = seeder(fixture, ip, move |_, (index, _, _), block| {
        notes.lock().unwrap().push(index);
        Reply::Block(block.to_vec())
    });
    (peer, asked)
}

/// Starts a seeder that answers `limit` requests and ignores all further ones.
pub(crate) fn seeder_that_stops(fixture: &Fixture, ip: Ipv4Addr, limit: usize) -> SocketAddr {
    let reply = move |number, _, block: &[u8]| {
        if number < limit { Reply::Block(block.to_vec()) } else { Reply::Nothing }
    };
    seeder(fixture, ip, reply).address
}
