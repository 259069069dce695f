//! Transfers between bt-fast processes, in the way that users start them.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
};

use crate::loopback::{
    DEADLINE, Fixture, NAME, PIECE_LEN, STOP_DEADLINE, Seed, assert_fails, event, exit_code, failures, own_address,
    own_ip, warnings,
};
use crate::support::{
    bt_fast,
    content::{Content, difference, write_random},
    net::NetPair,
    process::{Running, run, wait_until},
    scratch::Scratch,
    wire_peer::{WirePeer, any_peer_id},
};
use bt_fast::{
    base::limits,
    codec::handshake::{Handshake, Reserved},
};
use rustix::process::Signal;

const LEN: u64 = (4 << 20) + 12_345;

#[test]
fn a_file_is_transferred() {
    let fixture = Fixture::file(LEN);
    let (seed, target) = (fixture.seed(), fixture.scratch.folder("target"));
    let finished = fixture.get(&target, &[seed.address]);
    let complete = event(&finished.stdout, "complete").unwrap();
    assert_eq!((&complete["bytes"], &complete["downloaded"]), (&LEN.into(), &LEN.into()));
    assert_eq!(seed.stop()["uploaded"], LEN);
}

#[test]
fn a_tree_is_transferred() {
    let source = Content::Tree.folder().join(Content::Tree.name());
    let fixture = Fixture::made_by(&[], PIECE_LEN, |root| {
        let copied = run(Command::new("cp").arg("-r").arg(&source).arg(root), DEADLINE);
        assert_eq!(copied.code, Some(0), "{copied:?}");
    });
    let (seed, target) = (fixture.seed(), fixture.scratch.folder("target"));
    fixture.get(&target, &[seed.address]);
}

#[test]
fn several_torrents_share_one_port() {
    let scratch = Scratch::new();
    let torrents: Vec<_> = ["a", "b"]
        .map(|name| {
            write_random(&scratch.join(name), LEN, fastrand::u64(..));
            let torrent = scratch.join(&format!("{name}.torrent"));
            run(bt_fast().arg("create").arg(scratch.join(name)).arg("-o").arg(&torrent), DEADLINE).success();
            torrent
        })
        .into();
    let address = own_address();
    let mut command = bt_fast();
    command.args(["seed", "--json"]).args(&torrents).args(["--listen", &address.to_string()]);
    let seed = Seed::start(&command, address, &scratch.join("seed.log"));
    for (torrent, name) in torrents.iter().zip(["a", "b"]) {
        let target = scratch.folder(&format!("target {name}"));
        let mut command = bt_fast();
        command.arg("get").arg(torrent).arg("-o").arg(&target).args(["--peer", &seed.address.to_string()]);
        run(command.args(["--listen", &own_address().to_string()]), DEADLINE).success();
        assert_eq!(difference(&scratch.join(name), &target.join(name), true), None);
    }
    assert_eq!(seed.stop()["uploaded"], 2 * LEN);
}

#[test]
fn a_leecher_serves_another_leecher() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let (first, second) = (fixture.scratch.folder("first"), fixture.scratch.folder("second"));
    let address = own_address();
    let mut command = bt_fast();
    command.args(["get", "--json", "--seed"]).arg(&fixture.torrent).arg("-o").arg(&first);
    command.args(["--listen", &address.to_string(), "--peer", &seed.address.to_string()]);
    let mut middle = Running::start("get --seed", &command, &fixture.scratch.join("middle.log"));
    fixture.get(&second, &[address]);
    fixture.assert_complete(&first);
    assert_eq!(seed.stop()["uploaded"], LEN, "the second downloader knows only the first");

    // The middle peer keeps uploading without the seed until it receives SIGINT.
    fixture.get(&fixture.scratch.folder("third"), &[address]);
    assert!(middle.is_running());
    middle.signal(Signal::INT);
    assert_eq!(exit_code(&mut middle, STOP_DEADLINE), Some(0), "{}", middle.log_tail());
    assert_eq!(event(&middle.output(), "complete").unwrap()["uploaded"], 2 * LEN);
}

#[test]
fn a_get_that_connects_to_itself_continues() {
    let fixture = Fixture::file(LEN);
    let (seed, address) = (fixture.seed(), own_address());
    let mut command = bt_fast();
    command.arg("get").arg(&fixture.torrent).arg("-o").arg(fixture.scratch.folder("target"));
    command.args(["--listen", &address.to_string(), "--peer", &address.to_string()]);
    command.args(["--peer", &seed.address.to_string()]);
    run(&command, DEADLINE).success();
    fixture.assert_complete(&fixture.scratch.join("target"));
}

#[test]
fn the_accept_limit_frees_a_place_when_a_peer_leaves() {
    let fixture = Fixture::file(LEN);
    let (info_hash, address) = (fixture.metainfo.info_hash, own_address());
    let mut command = bt_fast();
    command.arg("get").arg(&fixture.torrent).arg("-o").arg(fixture.scratch.folder("target"));
    command.args(["--listen", &address.to_string()]);
    let mut get = Running::start("get", &command, &fixture.scratch.join("get.log"));
    assert!(wait_until(DEADLINE, || TcpStream::connect(address).is_ok()), "{}", get.log_tail());
    let connect_with_handshake = || {
        let mut peer = WirePeer::connect(address, fixture.piece_count());
        peer.send(&Handshake { reserved: Reserved::ours(), info_hash, peer_id: any_peer_id() }.encode());
        peer.receive_handshake().map(|_| peer)
    };
    let mut peers: Vec<WirePeer> =
        (0..limits::CONNECTIONS_LEECHING_MAX).map(|_| connect_with_handshake().unwrap()).collect();
    // The last connections may not be counted yet.
    assert!(wait_until(DEADLINE, || connect_with_handshake().is_none()));
    peers.pop();
    assert!(wait_until(DEADLINE, || connect_with_handshake().is_some()));
}

#[test]
fn the_ports_of_bep_3_are_tried_in_turn() {
    let fixture = Fixture::file(100_000);
    let net = NetPair::new();
    let start = |number: usize| {
        let mut command = bt_fast();
        command.args(["seed", "--json", "--rings", "1"]).arg(&fixture.torrent).arg("--data").arg(&fixture.source);
        let log = fixture.scratch.join(&format!("seed{number}.log"));
        Running::start("seed", &net.left.command(&command), &log)
    };
    let mut seeds = Vec::new();
    for port in 6881..=6889 {
        let seed = start(port);
        assert!(wait_until(DEADLINE, || event(&seed.output(), "seeding").is_some()));
        assert_eq!(event(&seed.output(), "seeding").unwrap()["port"], port);
        seeds.push(seed);
    }
    let mut tenth = start(6890);
    assert_eq!(exit_code(&mut tenth, DEADLINE), Some(1));
    assert_eq!(failures(&tenth.output()).len(), 1, "{}", tenth.output());
    assert!(tenth.output().contains("6881 to 6889 are all taken"));

    let target = fixture.scratch.folder("target");
    let mut command = bt_fast();
    command.arg("get").arg(&fixture.torrent).arg("-o").arg(&target);
    command.args(["--peer", &format!("{}:6885", NetPair::LEFT_IP)]);
    run(&net.right.command(&command), DEADLINE).success();
    fixture.assert_complete(&target);
}

#[test]
fn a_port_in_use_is_reported() {
    let fixture = Fixture::file(1);
    let address: SocketAddr = (own_ip(), 7000).into();
    let _taken = TcpListener::bind(address).unwrap();
    let finished = run(&fixture.seed_command(address), DEADLINE);
    assert_fails(&finished, 1, &address.to_string());
    let target = fixture.scratch.folder("target");
    let mut command = bt_fast();
    command.arg("get").arg(&fixture.torrent).arg("-o").arg(&target).args(["--listen", &address.to_string()]);
    assert_fails(&run(&command, DEADLINE), 1, &address.to_string());

    // Another bt-fast on the port gives the same error.
    let seed = fixture.seed();
    assert_fails(&run(&fixture.seed_command(seed.address), DEADLINE), 1, "--listen");
}

#[test]
fn a_timeout_ends_a_download_without_peers() {
    let fixture = Fixture::file(1);
    let target = fixture.scratch.folder("target");
    let finished = run(fixture.get_command(&target, &[]).args(["--timeout", "1"]), DEADLINE);
    assert_fails(&finished, 4, "no peers");
}

#[test]
fn existing_content_is_not_fetched() {
    let fixture = Fixture::file(LEN);
    let target = fixture.scratch.folder("target");
    fs::copy(fixture.source.join(NAME), target.join(NAME)).unwrap();
    let finished = fixture.get(&target, &[]);
    assert_eq!(event(&finished.stdout, "complete").unwrap()["downloaded"], 0);
}

#[test]
fn correct_pieces_are_kept() {
    let fixture = Fixture::file(LEN);
    let (seed, target) = (fixture.seed(), fixture.scratch.folder("target"));
    let mut bytes = fixture.bytes();
    // One byte of piece 3 is wrong, and the file ends within a later piece.
    bytes[3 * PIECE_LEN as usize + 7] ^= 1;
    bytes.truncate(64 * PIECE_LEN as usize + 100);
    fs::write(target.join(NAME), bytes).unwrap();
    let finished = fixture.get(&target, &[seed.address]);
    let expected = LEN - 63 * u64::from(PIECE_LEN);
    assert_eq!(event(&finished.stdout, "complete").unwrap()["downloaded"], expected);
    assert_eq!(seed.stop()["uploaded"], expected);
}

#[test]
fn a_longer_file_is_kept() {
    let fixture = Fixture::file(LEN);
    let (seed, target) = (fixture.seed(), fixture.scratch.folder("target"));
    let longer = [fixture.bytes(), b"and more".to_vec()].concat();
    fs::write(target.join(NAME), &longer).unwrap();
    let finished = run(&fixture.get_command(&target, &[seed.address]), DEADLINE);
    assert_fails(&finished, 1, "8 bytes longer");
    assert!(fs::read(target.join(NAME)).unwrap() == longer);
}

#[test]
fn a_torrent_named_twice_is_seeded_once() {
    let fixture = Fixture::file(LEN);
    let address = own_address();
    let mut command = fixture.seed_command(address);
    let seed = Seed::start(command.arg(&fixture.torrent), address, &fixture.scratch.join("seed.log"));
    assert!(warnings(&seed.process.output())[0].contains("seeded once"));
    fixture.get_by_peer(address);
    assert_eq!(seed.stop()["uploaded"], LEN);
}

/// Blocks span more files than one system call takes buffers, and there are more files than are kept open.
#[test]
fn a_thousand_tiny_files_are_transferred() {
    let fixture = Fixture::made_by(&[], PIECE_LEN, |root| {
        for number in 0..1000 {
            write_random(&root.join(format!("{}/{number}", number % 7)), 20 + number % 150, number);
        }
    });
    let seed = fixture.seed();
    fixture.get_by_peer(seed.address);
}

#[test]
fn a_small_arena_works_with_several_seeds() {
    let fixture = Fixture::file(LEN);
    let seeds = [fixture.seed(), fixture.seed(), fixture.seed()];
    for count in 1..=3 {
        let target = fixture.scratch.folder(&format!("target {count}"));
        let peers: Vec<_> = seeds[..count].iter().map(|seed| seed.address).collect();
        run(fixture.get_command(&target, &peers).args(["--arena", "64K"]), DEADLINE).success();
        fixture.assert_complete(&target);
    }
}

#[test]
fn any_number_of_rings_works() {
    let fixture = Fixture::file(LEN);
    for (seed_rings, get_rings) in [("1", "4"), ("4", "1"), ("8", "8")] {
        let address = own_address();
        let mut command = fixture.seed_command(address);
        let seed = Seed::start(command.args(["--rings", seed_rings]), address, &fixture.scratch.join("seed.log"));
        let target = fixture.scratch.folder(&format!("target {seed_rings}"));
        run(fixture.get_command(&target, &[seed.address]).args(["--rings", get_rings]), DEADLINE).success();
        fixture.assert_complete(&target);
    }
}

#[test]
fn the_seed_may_open_the_connection() {
    let fixture = Fixture::file(LEN);
    let (target, address) = (fixture.scratch.folder("target"), own_address());
    let mut command = bt_fast();
    command.arg("get").arg(&fixture.torrent).arg("-o").arg(&target).args(["--listen", &address.to_string()]);
    let mut get = Running::start("get", &command, &fixture.scratch.join("get.log"));
    assert!(wait_until(DEADLINE, || std::net::TcpStream::connect(address).is_ok()));
    let seed_address = own_address();
    let mut command = fixture.seed_command(seed_address);
    command.args(["--peer", &address.to_string()]);
    let seed = Seed::start(&command, seed_address, &fixture.scratch.join("seed.log"));
    assert_eq!(exit_code(&mut get, DEADLINE), Some(0), "{}", get.log_tail());
    fixture.assert_complete(&target);
    seed.stop();
}

#[test]
fn a_checked_origin_hashes_nothing_until_a_file_changes() {
    let fixture = Fixture::file(LEN);
    let remembered = || {
        let seed = fixture.seed();
        let date = event(&seed.process.output(), "seeding").unwrap();
        let target = fixture.scratch.folder(&format!("target {}", fastrand::u32(..)));
        fixture.get(&target, &[seed.address]);
        seed.stop();
        !date["remembered"].is_null()
    };
    assert!(!remembered(), "the file was too new to cache its check");
    // Wait until the timestamps are old enough to rule out a later write with equal ones.
    std::thread::sleep(std::time::Duration::from_millis(3100));
    let verify = || run(bt_fast().arg("verify").arg(&fixture.torrent).arg(&fixture.source), DEADLINE).success();
    verify();
    assert!(remembered());
    // Write the same bytes again.
    fs::write(fixture.source.join(NAME), fixture.bytes()).unwrap();
    assert!(!remembered());
}
