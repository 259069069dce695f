//! Peer ids are public, and one host can use any number of them: a peer id neither locks out another host nor counts as
//! several hosts. A peer that floods the seed loses only its own connection.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use bt_fast::{
    base::PeerId,
    codec::{
        handshake::{Handshake, Reserved},
        message::Message,
    },
};
use socket2::{Domain, Socket, Type};

use crate::loopback::{DEADLINE, Fixture, PIECE_LEN, Seed, exit_code, own_address};
use crate::support::wire_peer::{Received, WirePeer, any_peer_id};

const PIECE_COUNT: u32 = 8;
const BLOCK_LEN: u32 = 16 << 10;

fn fixture() -> Fixture {
    Fixture::file(u64::from(PIECE_COUNT) * u64::from(PIECE_LEN))
}

/// Connects an unchoked peer with this host address and peer id.
fn unchoked(fixture: &Fixture, to: SocketAddr, host: u8, peer_id: PeerId) -> WirePeer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 77, host), 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let mut peer = WirePeer::new(TcpStream::from(socket), PIECE_COUNT);
    let info_hash = fixture.metainfo.info_hash;
    peer.send(&Handshake { reserved: Reserved::ours(), info_hash, peer_id }.encode());
    peer.receive_handshake().expect("a handshake");
    peer.send_message(&Message::HaveNone);
    peer.send_message(&Message::Interested);
    peer.receive_until(|received| *received == Received::Unchoke);
    peer
}

#[test]
fn a_peer_id_in_use_at_another_host_is_accepted() {
    let fixture = fixture();
    let (seed, id) = (fixture.seed(), any_peer_id());
    let squatter = unchoked(&fixture, seed.address, 1, id);
    let mut victim = unchoked(&fixture, seed.address, 2, id);
    assert!(victim.fetch(0, 0, BLOCK_LEN) == fixture.bytes()[..BLOCK_LEN as usize]);
    drop((squatter, victim));
    seed.stop();
}

/// Fetches a block, then claims to have all pieces.
fn claim_copy(fixture: &Fixture, seed: &Seed, host: u8) {
    let mut peer = unchoked(fixture, seed.address, host, any_peer_id());
    peer.fetch(0, 0, BLOCK_LEN);
    (0..PIECE_COUNT).for_each(|index| peer.send_message(&Message::Have { index }));
    // Both sides are complete: the seed closes the connection.
    peer.receive_until(|received| *received == Received::Closed);
}

#[test]
fn several_copies_at_one_host_count_once() {
    let fixture = fixture();
    let address = own_address();
    let mut command = fixture.seed_command(address);
    command.args(["--stop-copies", "2"]);
    let mut seed = Seed::start(&command, address, &fixture.scratch.join("seed.log"));
    (0..3).for_each(|_| claim_copy(&fixture, &seed, 1));
    std::thread::sleep(Duration::from_secs(2));
    assert!(seed.process.is_running(), "{}", seed.process.log_tail());
    claim_copy(&fixture, &seed, 2);
    assert_eq!(exit_code(&mut seed.process, DEADLINE), Some(0), "{}", seed.process.log_tail());
}

#[test]
fn a_flood_of_cancels_closes_only_its_connection() {
    let fixture = fixture();
    let seed = fixture.seed();
    let mut flood = unchoked(&fixture, seed.address, 1, any_peer_id());
    let mut storm = Vec::new();
    (0..1000).for_each(|_| Message::Cancel { index: 7, begin: 0, length: 77 }.encode(&mut storm));
    flood.send(&storm);
    let begun_at = Instant::now();
    while !matches!(flood.receive(), Received::Closed) {
        assert!(begun_at.elapsed() < DEADLINE);
    }
    // A peer that cancels its own requests stays connected.
    let mut honest = unchoked(&fixture, seed.address, 2, any_peer_id());
    for _ in 0..50 {
        let blocks = (0..PIECE_COUNT).flat_map(|index| [0, BLOCK_LEN].map(|begin| (index, begin)));
        for (index, begin) in blocks {
            honest.send_message(&Message::Request { index, begin, length: BLOCK_LEN });
            honest.send_message(&Message::Cancel { index, begin, length: BLOCK_LEN });
        }
    }
    let mut unanswered = 50 * 2 * PIECE_COUNT;
    while unanswered > 0 {
        match honest.receive() {
            Received::Piece { .. } | Received::Reject { .. } => unanswered -= 1,
            over @ (Received::Closed | Received::Silence) => panic!("{over:?} with {unanswered} requests unanswered"),
            _ => {}
        }
    }
    assert!(honest.fetch(0, 0, BLOCK_LEN) == fixture.bytes()[..BLOCK_LEN as usize]);
    drop(honest);
    seed.stop();
}
