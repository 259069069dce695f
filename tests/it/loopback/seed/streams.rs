//! Further connections of two peers that both run bt-fast (`bf_streams`): only the peer that was told the id may open
//! them, they carry blocks, and all of them are one peer.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use bt_fast::{
    base::PeerId,
    codec::{
        extension::{ExtensionHandshake, Streams},
        handshake::{Handshake, Reserved},
        message::Message,
    },
};
use socket2::{Domain, Socket, Type};

use crate::loopback::{DEADLINE, Fixture, PIECE_LEN, Seed, event, own_address};
use crate::support::process::{run, wait_until};
use crate::support::wire_peer::{Received, WirePeer, any_peer_id};

const PIECE_COUNT: u32 = 8;
const BLOCK_LEN: u32 = 16 << 10;

fn fixture() -> Fixture {
    Fixture::file(u64::from(PIECE_COUNT) * u64::from(PIECE_LEN))
}

/// A seed that agrees to three connections with one peer.
fn seed(fixture: &Fixture) -> Seed {
    let address = own_address();
    let mut command = fixture.seed_command(address);
    command.args(["--rings", "3", "--streams", "3", "--json-interval", "200ms"]);
    Seed::start(&command, address, &fixture.scratch.join("seed.log"))
}

/// Connects from this host address, and returns the peer if the seed answers the handshake.
fn connect(fixture: &Fixture, seed: &Seed, host: u8, peer_id: PeerId) -> WirePeer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 78, host), 0)).into()).unwrap();
    socket.connect(&seed.address.into()).unwrap();
    let mut peer = WirePeer::new(TcpStream::from(socket), PIECE_COUNT);
    let info_hash = fixture.metainfo.info_hash;
    peer.send(&Handshake { reserved: Reserved::ours(), info_hash, peer_id }.encode());
    peer.receive_handshake().expect("a handshake");
    peer
}

/// The first connection of a peer that agrees to further ones, and the id that the seed gives it.
fn first(fixture: &Fixture, seed: &Seed, host: u8) -> (WirePeer, PeerId) {
    let mut peer = connect(fixture, seed, host, any_peer_id());
    let streams = Some(Streams { max: 9, ..Streams::default() });
    let payload = ExtensionHandshake { streams, ..ExtensionHandshake::default() }.encode();
    peer.send_message(&Message::HaveNone);
    peer.send_message(&Message::Extended { id: 0, payload: &payload });
    let streams = loop {
        if let Received::Extended { id: 0, payload } = peer.receive() {
            break ExtensionHandshake::decode(&payload).unwrap().streams.expect("an offer");
        }
    };
    assert_eq!(streams.max, 3);
    (peer, streams.id.expect("an id"))
}

/// Asks for blocks on a connection, and compares one with the content.
fn assert_serves(fixture: &Fixture, peer: &mut WirePeer, index: u32) {
    peer.send_message(&Message::HaveNone);
    peer.send_message(&Message::Interested);
    peer.receive_until(|received| *received == Received::Unchoke);
    let at = (index * PIECE_LEN) as usize;
    assert!(peer.fetch(index, 0, BLOCK_LEN) == fixture.bytes()[at..at + BLOCK_LEN as usize]);
}

fn assert_closed(mut peer: WirePeer) {
    peer.receive_until(|received| *received == Received::Closed);
}

#[test]
fn further_connections_carry_blocks_as_one_peer() {
    let fixture = fixture();
    let mut seed = seed(&fixture);
    let (mut first, id) = first(&fixture, &seed, 1);
    let asks_for_more = |received: &Received| match received {
        Received::Extended { id: 0, payload } => {
            ExtensionHandshake::decode(payload).unwrap().streams.is_some_and(|streams| streams.wants_more)
        }
        _ => false,
    };
    first.receive_until(asks_for_more);
    first.send_message(&Message::Interested);
    first.receive_until(|received| *received == Received::Unchoke);
    let mut further: Vec<_> = (0..2).map(|_| connect(&fixture, &seed, 1, id)).collect();
    further.iter_mut().zip(2..).for_each(|(peer, index)| assert_serves(&fixture, peer, index));
    assert!(first.fetch(7, 0, BLOCK_LEN) == fixture.bytes()[(7 * PIECE_LEN) as usize..][..BLOCK_LEN as usize]);
    assert_closed(connect(&fixture, &seed, 1, id));
    let sent = 3 * u64::from(BLOCK_LEN);
    let progress = |seed: &Seed| event(&seed.process.output(), "progress");
    let counted = wait_until(DEADLINE, || progress(&seed).is_some_and(|progress| progress["bytes_done"] == sent));
    assert!(counted, "{}", seed.process.log_tail());
    assert_eq!(progress(&seed).unwrap()["peers"], 1);
    // Another one has room once one has ended.
    drop(further.pop());
    let mut again = None;
    let opened = wait_until(DEADLINE, || {
        let mut peer = connect(&fixture, &seed, 1, id);
        peer.set_timeout(Duration::from_millis(500));
        peer.send_message(&Message::HaveNone);
        let stays = !matches!(peer.receive(), Received::Closed);
        again = Some(peer);
        stays
    });
    assert!(opened);
    // All end with the first one.
    drop(first);
    further.into_iter().chain(again).for_each(assert_closed);
    assert_closed(connect(&fixture, &seed, 1, id));
    seed.stop();
}

#[test]
fn an_id_is_for_the_host_that_was_told_it() {
    let fixture = fixture();
    let seed = seed(&fixture);
    let (first, id) = first(&fixture, &seed, 1);
    assert_closed(connect(&fixture, &seed, 2, id));
    // A guess is the peer id of a stranger.
    let mut guess = id;
    guess.0[19] ^= 1;
    let mut stranger = connect(&fixture, &seed, 2, guess);
    assert_serves(&fixture, &mut stranger, 1);
    drop(first);
    assert_serves(&fixture, &mut connect(&fixture, &seed, 2, any_peer_id()), 2);
    seed.stop();
}

#[test]
fn a_download_uses_several_connections_and_agrees_to_one() {
    // Long enough to be seen at this rate.
    let fixture = Fixture::file(6 << 20);
    for (streams, expected) in [("3", 3), ("1", 1)] {
        let seed = seed(&fixture);
        let target = fixture.scratch.folder(&format!("target {streams}"));
        let mut command = fixture.get_command(&target, &[seed.address]);
        command.args(["--rings", "3", "--streams", streams, "--down", "2M"]);
        let most = std::thread::scope(|scope| {
            let download = scope.spawn(|| run(&command, DEADLINE).success());
            let mut most = 0;
            while !download.is_finished() {
                most = most.max(established(seed.address));
                std::thread::sleep(Duration::from_millis(10));
            }
            download.join().unwrap();
            most
        });
        fixture.assert_complete(&target);
        assert_eq!(most, expected, "--streams {streams}");
        assert_eq!(seed.stop()["uploaded"], 6 << 20);
    }
}

/// The number of established connections of a listening socket (proc(5): the state 01).
fn established(address: SocketAddr) -> usize {
    let SocketAddr::V4(address) = address else { panic!("{address}") };
    let local = format!("{:08X}:{:04X}", u32::from_le_bytes(address.ip().octets()), address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(1) == Some(&local.as_str()) && row.get(3) == Some(&"01")).count()
}
