//! Scripted seeders: the honest part of one, to be spoiled by each test in its own way.

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
use crate::support::wire_peer::{Heard, ListeningPeer, WirePeer, any_peer_id};

/// Content in memory, with what its torrent says.
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

    /// Shakes hands and offers everything; false when nobody is there.
    pub(crate) fn open(&self, peer: &mut WirePeer) -> bool {
        let Some(_) = peer.hear_handshake() else { return false };
        peer.send(
            &Handshake { reserved: Reserved::ours(), info_hash: self.info_hash, peer_id: any_peer_id() }.encode(),
        );
        peer.say(&Message::HaveAll);
        peer.say(&Message::Unchoke);
        true
    }
}

/// What a scripted seeder does about a request.
pub(crate) enum Reply {
    Block(Vec<u8>),
    Nothing,
}

/// A seeder that answers each request, numbered from 0 over all its connections, as `reply` says.
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
            match peer.hear() {
                Heard::Request { index, begin, length } => {
                    let number = count.fetch_add(1, Ordering::Relaxed);
                    match reply(number, (index, begin, length), copy.block(index, begin, length)) {
                        Reply::Block(block) => peer.send_piece(index, begin, &block),
                        Reply::Nothing => {}
                    }
                }
                Heard::Closed | Heard::Silence => return,
                _ => {}
            }
        }
    })
}

/// Answers every request, and notes the pieces that are asked for.
pub(crate) fn seeder_that_notes(fixture: &Fixture, ip: Ipv4Addr) -> (ListeningPeer, Arc<Mutex<Vec<u32>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    let peer = seeder(fixture, ip, move |_, (index, _, _), block| {
        notes.lock().unwrap().push(index);
        Reply::Block(block.to_vec())
    });
    (peer, asked)
}

/// Answers `limit` requests and is mute from then on.
pub(crate) fn seeder_that_stops(fixture: &Fixture, ip: Ipv4Addr, limit: usize) -> SocketAddr {
    let reply = move |number, _, block: &[u8]| {
        if number < limit { Reply::Block(block.to_vec()) } else { Reply::Nothing }
    };
    seeder(fixture, ip, reply).address
}
