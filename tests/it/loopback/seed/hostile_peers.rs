//! Odd and hostile peers against `seed`: the seed closes or serves each of them by the rules and keeps serving other
//! peers.

use std::time::{Duration, Instant};

use bt_fast::codec::{
    extension::ExtensionHandshake,
    handshake::{Handshake, Reserved},
    message::Message,
};

use crate::loopback::{Fixture, PIECE_LEN, Seed, own_address};
use crate::support::wire_peer::{Received, WirePeer, any_peer_id};

const BLOCK_LEN: u32 = 16 << 10;
/// Nine pieces: the bitfield has seven spare bits and the last piece is short.
const LEN: u64 = 8 * PIECE_LEN as u64 + 1000;
const PIECE_COUNT: u32 = 9;
const PLAIN: Reserved = Reserved([0; 8]);

struct Scene {
    fixture: Fixture,
    content: Vec<u8>,
    seed: Seed,
}

impl Scene {
    fn new() -> Self {
        let fixture = Fixture::file(LEN);
        let (content, seed) = (fixture.bytes(), fixture.seed());
        Self { fixture, content, seed }
    }

    fn connect(&self) -> WirePeer {
        WirePeer::connect(self.seed.address, PIECE_COUNT)
    }

    fn handshake(&self, reserved: Reserved) -> [u8; 68] {
        Handshake { reserved, info_hash: self.fixture.metainfo.info_hash, peer_id: any_peer_id() }.encode()
    }

    fn connect_with_handshake(&self, reserved: Reserved) -> WirePeer {
        WirePeer::connect_with_handshake(self.seed.address, self.fixture.metainfo.info_hash, PIECE_COUNT, reserved)
    }

    /// Connects a peer that is interested and unchoked.
    fn unchoked(&self, reserved: Reserved) -> WirePeer {
        let mut peer = self.connect_with_handshake(reserved);
        peer.send_message(&Message::Interested);
        peer.receive_until(|received| *received == Received::Unchoke);
        peer
    }

    fn block(&self, index: u32, begin: u32, length: u32) -> &[u8] {
        let start = (index * PIECE_LEN + begin) as usize;
        &self.content[start..start + length as usize]
    }

    #[track_caller]
    fn assert_serves(&self, peer: &mut WirePeer, index: u32) {
        assert!(peer.fetch(index, BLOCK_LEN, BLOCK_LEN) == self.block(index, BLOCK_LEN, BLOCK_LEN));
    }

    /// Asserts that the seed still serves an honest peer, and stops it.
    #[track_caller]
    fn assert_alive(mut self) {
        assert!(self.seed.process.is_running(), "{}", self.seed.process.log_tail());
        self.assert_serves(&mut self.unchoked(Reserved::ours()), 3);
        assert!(!self.seed.process.output().contains("panicked"), "{}", self.seed.process.log_tail());
        self.seed.stop();
    }

    /// Asserts that the seed closes the connection of an unchoked peer that sends these bytes.
    #[track_caller]
    fn assert_closes(&self, reserved: Reserved, what: &str, bytes: &[u8]) {
        let mut peer = self.unchoked(reserved);
        peer.send(bytes);
        let received = peer.receive_until_closed();
        let served = received.iter().any(|received| matches!(received, Received::Piece { .. }));
        assert!(!served, "{what}");
    }
}

fn encoded(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

fn request(index: u32, begin: u32, length: u32) -> Vec<u8> {
    encoded(&Message::Request { index, begin, length })
}

#[test]
fn bytes_that_are_no_handshake_close_the_connection() {
    let scene = Scene::new();
    let mut unknown_torrent = scene.handshake(Reserved::ours());
    unknown_torrent[30] ^= 1;
    let mut other_protocol = scene.handshake(Reserved::ours());
    other_protocol[19] = b'L';
    for bytes in [&unknown_torrent[..], &other_protocol, b"GET / HTTP/1.1\r\n\r\n", &[0; 96], &other_protocol[..20]] {
        let mut peer = scene.connect();
        peer.send(bytes);
        assert_eq!(peer.receive_handshake(), None);
    }
    scene.assert_alive();
}

#[test]
fn silent_and_slow_handshakes_time_out() {
    let scene = Scene::new();
    let start = Instant::now();
    let (mut mute, mut slow) = (scene.connect(), scene.connect());
    let handshake = scene.handshake(Reserved::ours());
    let mut honest = scene.unchoked(Reserved::ours());
    for byte in &handshake[..9] {
        slow.send(&[*byte]);
        scene.assert_serves(&mut honest, 1);
        std::thread::sleep(Duration::from_millis(900));
    }
    assert_eq!(slow.receive_handshake(), None);
    assert_eq!(mute.receive_handshake(), None);
    let took = start.elapsed();
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(20), "{took:?}");
    scene.assert_serves(&mut honest, 2);
    scene.assert_alive();
}

#[test]
fn our_own_peer_id_is_refused() {
    let scene = Scene::new();
    let info_hash = scene.fixture.metainfo.info_hash;
    let mut peer = scene.connect();
    // The seed answers as soon as it has received the info-hash.
    let ours = scene.handshake(Reserved::ours());
    peer.send(&ours[..48]);
    let theirs = peer.receive_handshake().unwrap();
    assert_eq!((theirs.info_hash, &theirs.peer_id.0[..8]), (info_hash, &b"-FB0100-"[..]));
    peer.send(&theirs.peer_id.0);
    assert_eq!(peer.receive_until_closed(), []);
    scene.assert_alive();
}

#[test]
fn a_second_connection_of_a_peer_is_refused() {
    let scene = Scene::new();
    let handshake = scene.handshake(Reserved::ours());
    let (mut first, mut second) = (scene.connect(), scene.connect());
    first.send(&handshake);
    first.receive_handshake().unwrap();
    first.send_message(&Message::Interested);
    first.receive_until(|received| *received == Received::Unchoke);
    second.send(&handshake);
    second.receive_handshake();
    second.receive_until_closed();
    scene.assert_serves(&mut first, 0);
    scene.assert_alive();
}

#[test]
fn excessive_length_prefixes_close_the_connection() {
    let scene = Scene::new();
    for length in [u32::MAX, 1 << 31, (1 << 20) + 1] {
        for id in [0, 5, 6, 7, 20, 200] {
            scene.assert_closes(
                Reserved::ours(),
                &format!("{length} {id}"),
                &[&length.to_be_bytes()[..], &[id]].concat(),
            );
        }
    }
    scene.assert_alive();
}

#[test]
fn messages_of_a_wrong_length_close_the_connection() {
    let scene = Scene::new();
    for (id, length) in [
        (0, 2),
        (1, 2),
        (2, 5),
        (3, 2),
        (4, 4),
        (4, 6),
        (5, 2),
        (5, 4),
        (6, 12),
        (6, 14),
        (8, 12),
        (8, 14),
        (9, 2),
        (14, 2),
        (15, 2),
        (16, 12),
        (17, 4),
        (7, 9),
        (7, 8),
        (20, 1),
    ] {
        let mut bytes = u32::to_be_bytes(length).to_vec();
        bytes.push(id);
        bytes.resize(4 + length as usize, 0);
        scene.assert_closes(Reserved::ours(), &format!("id {id}, length {length}"), &bytes);
    }
    scene.assert_alive();
}

#[test]
fn messages_out_of_order_close_the_connection() {
    let scene = Scene::new();
    let bitfield = |bytes| encoded(&Message::Bitfield(bytes));
    for (what, reserved, bytes) in [
        (
            "a bitfield that takes back a have",
            PLAIN,
            [encoded(&Message::Have { index: 1 }), bitfield(&[0x80, 0])].concat(),
        ),
        (
            "have-none that takes back a have",
            Reserved::ours(),
            [encoded(&Message::Have { index: 1 }), encoded(&Message::HaveNone)].concat(),
        ),
        ("have-none without the Fast bit", PLAIN, encoded(&Message::HaveNone)),
        ("suggest without the Fast bit", PLAIN, encoded(&Message::Suggest { index: 0 })),
        ("have past the end", PLAIN, encoded(&Message::Have { index: PIECE_COUNT })),
        ("have of 2^32-1", PLAIN, encoded(&Message::Have { index: u32::MAX })),
        ("an unrequested piece", PLAIN, [&[0, 0, 0, 19, 7][..], &[0; 8], &[9; 10]].concat()),
    ] {
        scene.assert_closes(reserved, what, &bytes);
    }
    for (what, reserved, bytes) in [
        ("a bitfield that takes one back", PLAIN, [bitfield(&[0xf0, 0]), bitfield(&[0x70, 0])].concat()),
        ("spare bits", PLAIN, bitfield(&[0x0f, 0x01])),
        ("short bitfield", PLAIN, bitfield(&[0x0f])),
        ("long bitfield", PLAIN, bitfield(&[0x0f, 0, 0])),
        ("bitfield and have-none", Reserved::ours(), [bitfield(&[0x0f, 0]), encoded(&Message::HaveNone)].concat()),
    ] {
        let mut peer = scene.connect_with_handshake(reserved);
        peer.send(&bytes);
        peer.receive_until(|received| {
            assert_ne!(*received, Received::Silence, "{what}");
            *received == Received::Closed
        });
    }
    scene.assert_alive();
}

#[test]
fn requests_outside_a_piece_close_the_connection() {
    let scene = Scene::new();
    for (index, begin, length) in [
        (PIECE_COUNT, 0, BLOCK_LEN),
        (u32::MAX, u32::MAX, u32::MAX),
        (0, PIECE_LEN, 1),
        (0, PIECE_LEN - 1, 2),
        (0, u32::MAX, 2),
        (PIECE_COUNT - 1, 0, 1001),
        (0, 0, 0),
        (0, 0, (1 << 17) + 1),
        (0, 0, u32::MAX),
    ] {
        scene.assert_closes(Reserved::ours(), &format!("{index} {begin} {length}"), &request(index, begin, length));
    }
    scene.assert_alive();
}

#[test]
fn a_flood_of_control_messages_closes_the_connection() {
    let scene = Scene::new();
    let words: Vec<u8> = [encoded(&Message::NotInterested), encoded(&Message::Interested)].concat().repeat(1000);
    scene.assert_closes(Reserved::ours(), "interest flips", &words);
    scene.assert_closes(Reserved::ours(), "keep-alives", &[0; 4 * 1000]);
    scene.assert_alive();
}

#[test]
fn requests_of_any_length_up_to_128_kib_are_served() {
    let fixture = Fixture::file_with_piece_len(700_000, 256 << 10);
    let (content, seed) = (fixture.bytes(), fixture.seed());
    let mut peer =
        WirePeer::connect_with_handshake(seed.address, fixture.metainfo.info_hash, fixture.piece_count(), PLAIN);
    peer.send_message(&Message::Interested);
    peer.receive_until(|received| *received == Received::Unchoke);
    for (index, begin, length) in [(0, 0, 1 << 17), (1, (1 << 17) - 5, 1 << 17), (2, 0, 65_536), (0, 12_345, 1)] {
        let start = (index * (256 << 10) + begin) as usize;
        assert!(
            peer.fetch(index, begin, length) == content[start..start + length as usize],
            "{index} {begin} {length}"
        );
    }
    peer.send_message(&Message::Request { index: 0, begin: 0, length: (1 << 17) + 1 });
    peer.receive_until_closed();
    seed.stop();
}

#[test]
fn requests_while_choked_are_not_served() {
    let scene = Scene::new();
    let mut plain = scene.connect_with_handshake(PLAIN);
    plain.send(&request(0, 0, BLOCK_LEN));
    plain.send_message(&Message::Interested);
    let before = plain.receive_until(|received| *received == Received::Unchoke);
    assert_eq!(before, [Received::Bitfield(vec![0xff, 0x80])]);
    // The early request was dropped: the first block answers this request.
    plain.send(&request(5, 0, BLOCK_LEN));
    let Received::Piece { index, block, .. } = plain.receive() else { panic!("no block") };
    assert!(index == 5 && block == scene.block(5, 0, BLOCK_LEN));

    let mut fast = scene.connect_with_handshake(Reserved::ours());
    fast.send(&request(0, 0, BLOCK_LEN));
    let rejected = Received::Reject { index: 0, begin: 0, length: BLOCK_LEN };
    let before = fast.receive_until(|received| *received == rejected);
    assert_eq!(before[0], Received::HaveAll);
    scene.assert_alive();
}

#[test]
fn each_request_is_answered_once_despite_cancels() {
    let scene = Scene::new();
    let mut peer = scene.unchoked(Reserved::ours());
    let requests: Vec<_> = (0..16).map(|n| (n % 8, n / 8 * BLOCK_LEN, BLOCK_LEN)).collect();
    let mut bytes: Vec<u8> = requests.iter().flat_map(|&(i, b, l)| request(i, b, l)).collect();
    for &(index, begin, length) in &requests {
        bytes.extend(encoded(&Message::Cancel { index, begin, length }));
    }
    bytes.extend(request(8, 0, 1000));
    peer.send(&bytes);
    let mut answered = Vec::new();
    while answered.len() < requests.len() + 1 {
        match peer.receive() {
            Received::Piece { index, begin, block } => {
                let length = u32::try_from(block.len()).unwrap();
                assert!(block == scene.block(index, begin, length));
                answered.push((index, begin, length));
            }
            Received::Reject { index, begin, length } => answered.push((index, begin, length)),
            other => assert!(!matches!(other, Received::Closed | Received::Silence), "{other:?} after {answered:?}"),
        }
    }
    answered.sort_unstable();
    let mut expected = [requests, vec![(8, 0, 1000)]].concat();
    expected.sort_unstable();
    assert_eq!(answered, expected);
    scene.assert_alive();
}

#[test]
fn unknown_messages_are_ignored() {
    let scene = Scene::new();
    let mut peer = scene.unchoked(Reserved::ours());
    for id in [10, 21, 22, 23, 99, 255] {
        for payload_len in [0, 1, 300] {
            peer.send(&u32::to_be_bytes(1 + payload_len));
            peer.send(&vec![id; 1 + payload_len as usize]);
        }
    }
    peer.send_message(&Message::Port(6881));
    peer.send_message(&Message::KeepAlive);
    peer.send_message(&Message::Extended { id: 77, payload: b"something" });
    peer.send_message(&Message::Extended { id: 0, payload: b"not bencode" });
    peer.send_message(&Message::Extended { id: 0, payload: &b"l".repeat(10_000) });
    peer.send_message(&Message::Extended { id: 0, payload: b"d4:reqqi-1e13:metadata_sizei99999999999e1:v3:\x1b[2e" });
    peer.send_message(&Message::AllowedFast { index: u32::MAX });
    // aria2 sends a bitfield instead of many have messages.
    peer.send_message(&Message::Have { index: 1 });
    peer.send_message(&Message::Bitfield(&[0xf0, 0]));
    scene.assert_serves(&mut peer, 4);
    scene.assert_alive();
}

#[test]
fn peers_receive_only_messages_they_support() {
    let scene = Scene::new();
    let fast = Reserved([0, 0, 0, 0, 0, 0, 0, 4]);
    let extension = Reserved([0, 0, 0, 0, 0, 0x10, 0, 0]);
    for (reserved, has_fast, has_extension) in
        [(PLAIN, false, false), (fast, true, false), (extension, false, true), (Reserved([0xff; 8]), true, true)]
    {
        let mut peer = scene.connect_with_handshake(reserved);
        peer.send_message(&Message::Interested);
        let before = peer.receive_until(|received| *received == Received::Unchoke);
        let expected = if has_fast { Received::HaveAll } else { Received::Bitfield(vec![0xff, 0x80]) };
        assert_eq!(before[0], expected, "{reserved:?}");
        assert_eq!(before.len(), 1 + usize::from(has_extension), "{before:?}");
        if let Some(Received::Extended { id: 0, payload }) = before.get(1) {
            let theirs = ExtensionHandshake::decode(payload).unwrap();
            assert!(theirs.client.unwrap().starts_with(b"bt-fast"));
            assert_eq!((theirs.requests_max, theirs.upload_only), (Some(4096), Some(true)));
        }
        scene.assert_serves(&mut peer, 7);
    }
    scene.assert_alive();
}

#[test]
fn messages_split_or_joined_in_any_way_are_served() {
    let scene = Scene::new();
    let script = || [&scene.handshake(PLAIN)[..], &encoded(&Message::Interested)].concat();
    let requests = [request(2, 0, BLOCK_LEN), request(6, 5, 99), request(8, 0, 1000)].concat();

    let mut slow = scene.connect();
    script().iter().for_each(|byte| slow.send(&[*byte]));
    slow.receive_handshake().unwrap();
    slow.receive_until(|received| *received == Received::Unchoke);
    requests.iter().for_each(|byte| slow.send(&[*byte]));

    let mut quick = scene.connect();
    // Requests of a choked peer are dropped, so send only messages that are allowed before the unchoke.
    quick.send(&[script(), encoded(&Message::Have { index: 1 }).repeat(50)].concat());
    quick.receive_handshake().unwrap();
    quick.receive_until(|received| *received == Received::Unchoke);
    quick.send(&requests);

    for peer in [&mut slow, &mut quick] {
        for (index, begin, length) in [(2, 0, BLOCK_LEN), (6, 5, 99), (8, 0, 1000)] {
            let expected = Received::Piece { index, begin, block: scene.block(index, begin, length).to_vec() };
            assert!(peer.receive() == expected, "{index}");
        }
    }
    scene.assert_alive();
}

#[test]
fn peers_that_vanish_mid_transfer_are_cleaned_up() {
    let scene = Scene::new();
    let mut honest = scene.unchoked(Reserved::ours());
    for round in 0..20 {
        let mut peer = scene.unchoked(Reserved::ours());
        (0..8).for_each(|index| peer.send(&request(index, 0, BLOCK_LEN)));
        drop(peer);
        scene.assert_serves(&mut honest, round % 8);
    }
    scene.assert_alive();
}

#[test]
fn floods_of_requests_close_the_connection() {
    let scene = Scene::new();
    // One peer is choked and sends its requests too late to have crossed a choke message.
    let mut choked = scene.connect_with_handshake(PLAIN);
    let mut reader = scene.unchoked(PLAIN);
    let mut deaf = scene.unchoked(Reserved::ours());
    deaf.send(&request(1, 0, BLOCK_LEN).repeat(100_000));
    std::thread::sleep(Duration::from_millis(2200));
    choked.send(&request(0, 0, BLOCK_LEN).repeat(1000));
    let received = choked.receive_until_closed();
    assert_eq!(received, [Received::Bitfield(vec![0xff, 0x80])]);
    // The peer that does not read is served until its buffers are full, then closed.
    scene.assert_serves(&mut reader, 6);
    deaf.receive_until_closed();
    scene.assert_alive();
}

#[test]
fn connections_per_address_are_bounded() {
    let scene = Scene::new();
    // Connections with a pending handshake count against the limit.
    let halfway: Vec<_> = (0..64)
        .map(|_| {
            let mut peer = scene.connect();
            peer.send(&scene.handshake(PLAIN)[..48]);
            assert!(peer.receive_handshake().is_some());
            peer
        })
        .collect();
    let mut refused = scene.connect();
    refused.send(&scene.handshake(PLAIN));
    assert_eq!(refused.receive_handshake(), None);
    drop(halfway);
    std::thread::sleep(Duration::from_millis(300));
    let mut peers: Vec<_> = (0..64).map(|_| scene.connect_with_handshake(PLAIN)).collect();
    let mut refused = scene.connect();
    refused.send(&scene.handshake(PLAIN));
    assert_eq!(refused.receive_handshake(), None);
    peers.truncate(60);
    // Wait until the seed has noticed the closed connections.
    std::thread::sleep(Duration::from_millis(300));
    drop(peers);
    scene.assert_alive();
}

#[test]
fn one_upload_slot_rotates_between_peers() {
    let fixture = Fixture::file(LEN);
    let address = own_address();
    let mut command = fixture.seed_command(address);
    let seed = Seed::start(command.args(["--slots", "1"]), address, &fixture.scratch.join("seed.log"));
    let connect_with_handshake =
        || WirePeer::connect_with_handshake(address, fixture.metainfo.info_hash, PIECE_COUNT, PLAIN);
    let (mut first, mut second) = (connect_with_handshake(), connect_with_handshake());
    first.send_message(&Message::Interested);
    first.receive_until(|received| *received == Received::Unchoke);
    second.send_message(&Message::Interested);
    second.set_timeout(Duration::from_millis(700));
    assert!(matches!(second.receive(), Received::Bitfield(_)));
    assert_eq!(second.receive(), Received::Silence);
    first.fetch(0, 0, BLOCK_LEN);
    drop(first);
    second.set_timeout(Duration::from_secs(30));
    assert_eq!(second.receive(), Received::Unchoke);
    second.fetch(1, 0, BLOCK_LEN);
    seed.stop();
}
