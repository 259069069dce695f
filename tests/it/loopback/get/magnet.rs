//! `get` with a magnet link, the `magnet` command, and hostile peers during the metadata download.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bt_fast::{
    base::{InfoHash, limits::METADATA_VERSIONS_MAX},
    codec::{
        extension::ExtensionHandshake,
        handshake::{Handshake, Reserved},
        message::Message,
        metadata::{METADATA_EXTENSION, MetadataMessage, metadata_part},
        metainfo::{Metainfo, MetainfoLimits},
    },
};
use serde_json::Value;

use crate::loopback::{DEADLINE, Fixture, NAME, Seed, assert_fails, exit_code, own_address, own_ip};
use crate::support::{
    bt_fast,
    content::difference,
    process::{Running, run, wait_until},
    wire_peer::{ListeningPeer, Received, WirePeer, any_peer_id},
};

/// Long enough for metadata of more than one part.
const LEN: u64 = 32_768 * 1000;

fn get(link: &str, peers: &[SocketAddr]) -> Command {
    let mut command = bt_fast();
    command.args(["get", link, "--listen", &own_address().to_string()]);
    for peer in peers {
        command.args(["--peer", &peer.to_string()]);
    }
    command
}

fn link_of(fixture: &Fixture, peers: &[SocketAddr]) -> String {
    let mut command = bt_fast();
    command.args(["magnet", "--json"]).arg(&fixture.torrent);
    for peer in peers {
        command.args(["--peer", &peer.to_string()]);
    }
    let output = run(&command, DEADLINE).success();
    let record: Value = serde_json::from_str(output.trim_end()).unwrap();
    assert_eq!(record["info_hash"], fixture.metainfo.info_hash.to_string());
    record["link"].as_str().unwrap().to_owned()
}

/// Starts a peer that sends this extension handshake and passes each metadata request to `answer`.
fn metadata_peer(
    info_hash: InfoHash,
    handshake: Vec<u8>,
    answer: impl Fn(&mut WirePeer, u32) + Send + Sync + 'static,
) -> ListeningPeer {
    ListeningPeer::start(own_ip(), 1000, move |mut peer| {
        let Some(_) = peer.receive_handshake() else { return };
        peer.send(&Handshake { reserved: Reserved::ours(), info_hash, peer_id: any_peer_id() }.encode());
        peer.send_message(&Message::Extended { id: 0, payload: &handshake });
        while let Some(part) = requested_part(&mut peer) {
            answer(&mut peer, part);
        }
    })
}

fn offer(info_len: u32) -> Vec<u8> {
    let messages = vec![(METADATA_EXTENSION.to_vec(), 9)];
    ExtensionHandshake { messages, metadata_len: Some(info_len), ..ExtensionHandshake::default() }.encode()
}

/// Starts a peer that serves `info` as the metadata.
fn server_of(info_hash: InfoHash, info: Vec<u8>) -> ListeningPeer {
    let len = u32::try_from(info.len()).unwrap();
    metadata_peer(info_hash, offer(len), move |peer, part| {
        send_part(peer, len, part, &info[metadata_part(len, part).unwrap()]);
    })
}

#[track_caller]
fn assert_gets(fixture: &Fixture, link: &str, peers: &[SocketAddr]) -> String {
    let target = fixture.scratch.folder(&format!("target {}", fastrand::u32(..)));
    let finished = run(get(link, peers).arg("-o").arg(&target), DEADLINE);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    fixture.assert_complete(&target);
    finished.stderr
}

#[test]
fn a_magnet_link_suffices_with_seeders_and_downloaders() {
    let fixture = Fixture::file(LEN);
    let (one, two) = (fixture.seed(), fixture.seed());
    assert_gets(&fixture, &link_of(&fixture, &[one.address, two.address]), &[]);
    // The info-hash in upper case, and the peer on the command line.
    let bare = format!("magnet:?xt=urn:btih:{}", fixture.metainfo.info_hash.to_string().to_uppercase());
    assert_gets(&fixture, &bare, &[two.address]);

    // A downloader that started from a link serves the metadata in turn.
    let (target, address) = (fixture.scratch.folder("getter"), own_address());
    let mut getter = bt_fast();
    getter.args(["get", &bare, "--seed", "--json", "--listen", &address.to_string(), "-o"]).arg(&target);
    getter.args(["--peer", &one.address.to_string()]);
    let log = fixture.scratch.join("getter.log");
    let mut getter = Running::start("getter", &getter, &log);
    let is_complete = || difference(&fixture.source.join(NAME), &target.join(NAME), true).is_none();
    assert!(wait_until(DEADLINE, is_complete), "{}", getter.log_tail());
    drop((one, two));
    assert_gets(&fixture, &bare, &[address]);
}

#[test]
fn the_metadata_alone_is_saved_as_a_torrent() {
    let fixture = Fixture::file_with_trackers(LEN, &["http://127.0.0.1:1/announce"]);
    let seed = fixture.seed();
    let link = link_of(&fixture, &[seed.address]);
    let out = fixture.scratch.join("saved.torrent");
    let command = || {
        let mut command = get(&link, &[]);
        command.arg("--metadata-only").arg("-o").arg(&out);
        command
    };
    run(&command(), DEADLINE).success();
    let show = |path: &Path| run(bt_fast().args(["show", "--json"]).arg(path), DEADLINE).success();
    let (mut saved, mut expected): (Value, Value) =
        (serde_json::from_str(&show(&out)).unwrap(), serde_json::from_str(&show(&fixture.torrent)).unwrap());
    for key in ["created_by", "creation_date"] {
        saved[key].take();
        expected[key].take();
    }
    assert_eq!(saved, expected);
    assert_fails(&run(&command(), DEADLINE), 1, "give another name with -o");
    let stdout = run(get(&link, &[]).args(["--metadata-only", "-o", "-"]), DEADLINE);
    assert_eq!((stdout.code, stdout.stdout.len() > 20_000), (Some(0), true));
}

#[test]
fn wrong_metadata_is_rejected_and_its_sender_named() {
    let fixture = Fixture::file(LEN);
    let info = fixture.metainfo.info_bytes.to_vec();
    let mut wrong = info.clone();
    wrong.iter_mut().step_by(5000).for_each(|byte| *byte ^= 1);
    let corrupters =
        [server_of(fixture.metainfo.info_hash, wrong), server_of(fixture.metainfo.info_hash, vec![b'x'; 100])];
    let seed = fixture.seed();
    let stderr =
        assert_gets(&fixture, &link_of(&fixture, &[corrupters[0].address, corrupters[1].address]), &[seed.address]);
    // Which peers are asked before the end is random. With a single peer the sender is always named.
    assert!(!stderr.contains(&seed.address.ip().to_string()), "{stderr}");
    let finished = run(get(&link_of(&fixture, &[corrupters[0].address]), &[]).args(["--timeout", "2"]), DEADLINE);
    assert_eq!(finished.code, Some(4), "{finished:#?}");
    assert!(finished.stderr.contains(&format!("{} sent wrong metadata", corrupters[0].address.ip())), "{finished:#?}");
}

/// One host offers the maximum number of metadata lengths and sends one part of each: the honest length replaces one.
#[test]
fn metadata_lengths_of_one_host_do_not_block_honest_metadata() {
    const CONNECTIONS: usize = METADATA_VERSIONS_MAX;
    let fixture = Fixture::file(LEN);
    let (hash, info) = (fixture.metainfo.info_hash, fixture.metainfo.info_bytes.to_vec());
    let info_len = u32::try_from(info.len()).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let waits_for = Arc::clone(&is_over);
    // The honest peer answers only after the others have disconnected.
    let honest = ListeningPeer::start(own_ip(), 1000, move |mut peer| {
        let Some(_) = peer.receive_handshake() else { return };
        wait_until(DEADLINE, || waits_for.load(Ordering::Relaxed));
        peer.send(&Handshake { reserved: Reserved::ours(), info_hash: hash, peer_id: any_peer_id() }.encode());
        peer.send_message(&Message::Extended { id: 0, payload: &offer(info_len) });
        while let Some(part) = requested_part(&mut peer) {
            send_part(&mut peer, info_len, part, &info[metadata_part(info_len, part).unwrap()]);
        }
    });
    let (address, out) = (own_address(), fixture.scratch.join("saved.torrent"));
    let mut command = bt_fast();
    command.args(["get", "--metadata-only", &link_of(&fixture, &[honest.address]), "-o"]).arg(&out);
    command.args(["--listen", &address.to_string()]);
    let mut getter = Running::start("getter", &command, &fixture.scratch.join("getter.log"));
    assert!(wait_until(DEADLINE, || honest.connections() > 0), "{}", getter.log_tail());
    let mut corrupters: Vec<WirePeer> =
        (0..CONNECTIONS).map(|_| WirePeer::connect_with_handshake(address, hash, 1000, Reserved::ours())).collect();
    for (extra, corrupter) in (1..).zip(&mut corrupters) {
        let len = info_len + extra;
        corrupter.send_message(&Message::Extended { id: 0, payload: &offer(len) });
        let part = requested_part(corrupter).expect("a request");
        send_part(corrupter, len, part, &vec![b'x'; metadata_part(len, part).unwrap().len()]);
    }
    drop(corrupters);
    is_over.store(true, Ordering::Relaxed);
    assert_eq!(exit_code(&mut getter, DEADLINE), Some(0), "{}", getter.log_tail());
    let saved = fs::read(&out).unwrap();
    let saved = Metainfo::decode(&saved, &MetainfoLimits::default()).unwrap();
    assert_eq!((saved.info_hash, saved.info_bytes), (hash, fixture.metainfo.info_bytes.clone()));
}

/// Returns the next requested part; `None` when the connection ends.
fn requested_part(peer: &mut WirePeer) -> Option<u32> {
    loop {
        match peer.receive() {
            Received::Extended { id: 9, payload } => {
                if let Ok(MetadataMessage::Request { part }) = MetadataMessage::decode(&payload) {
                    return Some(part);
                }
            }
            Received::Closed | Received::Silence => return None,
            _ => {}
        }
    }
}

fn send_part(peer: &mut WirePeer, total_len: u32, part: u32, bytes: &[u8]) {
    let payload = MetadataMessage::Data { part, total_len, bytes }.encode();
    peer.send_message(&Message::Extended { id: 1, payload: &payload });
}

/// Absurd claims that a peer can make before the metadata is verified.
#[test]
fn metadata_claims_of_peers_cost_nothing() {
    let fixture = Fixture::file(LEN);
    let hash = fixture.metainfo.info_hash;
    let deep = [b"d1:m".as_slice(), &[b'l'; 10_000]].concat();
    let claims: Vec<Vec<u8>> = vec![
        b"d1:md11:ut_metadatai9ee13:metadata_sizei1099511627776ee".to_vec(),
        b"d1:md11:ut_metadatai9ee13:metadata_sizei-1ee".to_vec(),
        b"d1:md11:ut_metadatai9ee4:reqqi2147483648ee".to_vec(),
        deep,
        offer(64 << 20),
    ];
    let peers: Vec<ListeningPeer> = claims.into_iter().map(|claim| metadata_peer(hash, claim, |_, _| {})).collect();
    let flood = ListeningPeer::start(own_ip(), 1000, |mut peer| {
        let Some(theirs) = peer.receive_handshake() else { return };
        peer.send(
            &Handshake { reserved: Reserved::ours(), info_hash: theirs.info_hash, peer_id: any_peer_id() }.encode(),
        );
        (0..2000).for_each(|_| peer.send(&[0xff; 65_536]));
    });
    let seed = fixture.seed();
    let mut addresses: Vec<SocketAddr> = peers.iter().map(|peer| peer.address).collect();
    addresses.extend([flood.address, seed.address]);
    let mut command = get(&link_of(&fixture, &[]), &addresses);
    command.args(["--metadata-only", "-o"]).arg(fixture.scratch.join("x.torrent"));
    let finished = run(&command, DEADLINE);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(!finished.stderr.contains("panicked"), "{finished:#?}");
}

#[test]
fn a_seed_serves_metadata_repeatedly_within_a_rate() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let info = &fixture.metainfo.info_bytes;
    let mut peer = WirePeer::connect_with_handshake(
        seed.address,
        fixture.metainfo.info_hash,
        fixture.piece_count(),
        Reserved::ours(),
    );
    peer.send_message(&Message::Extended { id: 0, payload: &offer(1) });
    let received = peer.receive_until(|received| matches!(received, Received::Extended { id: 0, .. }));
    drop(received);
    let ask = |peer: &mut WirePeer, part| {
        peer.send_message(&Message::Extended { id: 1, payload: &MetadataMessage::Request { part }.encode() });
    };
    ask(&mut peer, 0);
    ask(&mut peer, 7);
    let len = u32::try_from(info.len()).unwrap();
    let expected = [
        MetadataMessage::Data { part: 0, total_len: len, bytes: &info[..16_384] }.encode(),
        MetadataMessage::Reject { part: 7 }.encode(),
    ];
    for payload in expected {
        peer.receive_until(|received| *received == Received::Extended { id: 9, payload: payload.clone() });
    }
    // A flood of requests closes the connection, and the seed keeps serving.
    let mut flood = WirePeer::connect_with_handshake(
        seed.address,
        fixture.metainfo.info_hash,
        fixture.piece_count(),
        Reserved::ours(),
    );
    (0..100_000).for_each(|_| ask(&mut flood, 0));
    flood.receive_until_closed();
    fixture.get_by_peer(seed.address);
}

#[test]
fn private_torrents_serve_no_metadata() {
    let fixture = Fixture::file(LEN);
    let private = fixture.scratch.join("private.torrent");
    let mut create = bt_fast();
    create.args(["create", "-p", "-o"]).arg(&private).arg(fixture.source.join(NAME));
    run(&create, DEADLINE).success();
    let finished = run(bt_fast().arg("magnet").arg(&private), DEADLINE);
    assert!(finished.stderr.contains("private"), "{finished:#?}");
    let address = own_address();
    let mut command = bt_fast();
    command.args(["seed", "--json"]).arg(&private).arg("--data").arg(&fixture.source);
    command.args(["--listen", &address.to_string()]);
    let _seed = Seed::start(&command, address, &fixture.scratch.join("private.log"));
    let link = finished.stdout.trim_end().to_owned();
    let finished = run(get(&link, &[address]).args(["--timeout", "2"]), DEADLINE);
    assert_fails(&finished, 4, "no metadata");
}

#[test]
fn names_in_links_do_not_control_the_terminal() {
    let link = format!("magnet:?xt=urn:btih:{}&dn=%1b[31mred%e2%80%ae", "ab".repeat(20));
    let finished = run(get(&link, &[own_address()]).args(["--timeout", "1"]), DEADLINE);
    assert_fails(&finished, 4, "no metadata");
    assert!(!finished.stderr.contains(['\x1b', '\u{202e}']), "{finished:#?}");
    assert!(finished.stderr.contains("\\x1b[31mred"), "{finished:#?}");
    assert!(!fs::exists(NAME).unwrap());
}
