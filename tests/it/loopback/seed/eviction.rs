//! Eviction at the connection limit: idle peers go first, lowest canonical priority (BEP 40) first.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use bt_fast::{
    base::canonical_priority,
    codec::{
        handshake::{Handshake, Reserved},
        message::Message,
    },
};
use socket2::{Domain, Socket, Type};

use crate::loopback::{DEADLINE, Fixture, PIECE_LEN, Seed, own_address, own_ip};
use crate::support::{
    process::wait_until,
    wire_peer::{Received, WirePeer, any_peer_id},
};

const PEERS: usize = 4;

fn connect(from: Ipv4Addr, to: SocketAddr, fixture: &Fixture) -> Option<WirePeer> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let mut peer = WirePeer::new(TcpStream::from(socket), fixture.piece_count());
    let info_hash = fixture.metainfo.info_hash;
    peer.send(&Handshake { reserved: Reserved::ours(), info_hash, peer_id: any_peer_id() }.encode());
    peer.receive_handshake().map(|_| peer)
}

#[test]
fn the_idle_peer_of_lowest_priority_is_evicted_at_the_limit() {
    let fixture = Fixture::file(u64::from(PIECE_LEN));
    let address = own_address();
    let mut command = fixture.seed_command(address);
    command.args(["--connections", &PEERS.to_string()]);
    let seed = Seed::start(&command, address, &fixture.scratch.join("seed.log"));
    let mut ips: Vec<Ipv4Addr> = (0..=PEERS).map(|_| own_ip()).collect();
    ips.sort_by_key(|&ip| canonical_priority(address, (ip, 1).into()));
    let newcomer = ips.pop().unwrap();
    let mut peers: Vec<WirePeer> = ips.iter().map(|&ip| connect(ip, address, &fixture).unwrap()).collect();
    // The peer of the lowest priority fetches, so it is not idle.
    peers[0].send_message(&Message::Interested);
    peers[0].receive_until(|received| *received == Received::Unchoke);
    assert!(connect(newcomer, address, &fixture).is_none(), "no peer is idle yet");
    let mut admitted = None;
    assert!(wait_until(DEADLINE, || {
        assert!(peers[0].fetch(0, 0, 16_384) == fixture.bytes()[..16_384]);
        admitted = connect(newcomer, address, &fixture);
        admitted.is_some()
    }));
    peers[1].receive_until_closed();
    let mut admitted = admitted.unwrap();
    admitted.send_message(&Message::Interested);
    admitted.receive_until(|received| *received == Received::Unchoke);
    for peer in [&mut admitted, &mut peers[0]] {
        assert!(peer.fetch(0, 0, 16_384) == fixture.bytes()[..16_384]);
    }
    for peer in &mut peers[2..] {
        peer.send_message(&Message::Interested);
        peer.receive_until(|received| *received == Received::Unchoke);
    }
    seed.stop();
}
