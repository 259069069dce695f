//! Many torrents in one process.

use std::fs;

use bt_fast::base::{InfoHash, limits};
use bt_fast::codec::handshake::Reserved;
use serde_json::Value;
use sha1::{Digest as _, Sha1};

use crate::loopback::{DEADLINE, Seed, own_address, seed::crowd::memory};
use crate::support::{
    bt_fast,
    content::difference,
    process::{Running, run, wait_until},
    scratch::Scratch,
    wire_peer::WirePeer,
};

const COUNT: usize = 10_000;
/// Memory of a process without torrents: thread stacks, rings and static data.
const PROCESS_LEN: usize = 16 << 20;

/// Creates a file of 600 bytes and its torrent.
fn make(scratch: &Scratch, number: usize) {
    make_with_len(scratch, number, 600);
}

/// Creates a file of at most one piece and its torrent. The length is rounded down to a multiple of 6 bytes.
pub(crate) fn make_with_len(scratch: &Scratch, number: usize, len: usize) {
    let name = format!("f{number:05}");
    let content = name.repeat(len / name.len());
    let mut metainfo =
        format!("d4:infod6:lengthi{}e4:name{}:{name}12:piece lengthi32768e6:pieces20:", content.len(), name.len())
            .into_bytes();
    metainfo.extend_from_slice(&Sha1::digest(&content));
    metainfo.extend_from_slice(b"ee");
    fs::write(scratch.join(&name), content).unwrap();
    fs::write(scratch.join(&format!("{name}.torrent")), metainfo).unwrap();
}

#[test]
fn ten_thousand_idle_torrents_are_cheap_and_each_is_served() {
    let scratch = Scratch::new();
    (0..COUNT).for_each(|number| make(&scratch, number));
    let address = own_address();
    let mut command = bt_fast();
    command.args(["seed", "--json", "--listen", &address.to_string()]);
    command.args((0..COUNT).map(|number| scratch.join(&format!("f{number:05}.torrent"))));
    let seed = Seed::start(&command, address, &scratch.join("seed.log"));
    let all = || seed.process.output().matches("\"event\":\"seeding\"").count() == COUNT;
    assert!(wait_until(DEADLINE, all), "some torrents are not served");
    let taken = memory(&seed);
    assert!(taken <= PROCESS_LEN + COUNT * limits::TORRENT_IDLE_LEN_MAX, "{taken} bytes");
    for number in [0, COUNT / 2, COUNT - 1] {
        let name = format!("f{number:05}");
        let target = scratch.folder(&format!("target {number}"));
        let mut command = bt_fast();
        command.arg("get").arg(scratch.join(&format!("{name}.torrent"))).arg("-o").arg(&target);
        command.args(["--listen", &own_address().to_string(), "--peer", &address.to_string()]);
        run(&command, DEADLINE).success();
        assert_eq!(difference(&scratch.join(&name), &target.join(&name), true), None);
    }
    seed.stop();
}

/// A program that waits for the record may connect at once.
#[test]
fn a_torrent_is_served_when_it_is_reported() {
    const COUNT: usize = 200;
    let scratch = Scratch::new();
    (0..COUNT).for_each(|number| make(&scratch, number));
    let address = own_address();
    let mut command = bt_fast();
    command.args(["seed", "--json", "--verify", "full", "--listen", &address.to_string()]);
    command.args((0..COUNT).map(|number| scratch.join(&format!("f{number:05}.torrent"))));
    let mut seed = Running::start("seed", &command, &scratch.join("seed.log"));
    let mut connected = 0;
    while connected < COUNT {
        assert!(seed.is_running(), "{}", seed.log_tail());
        let output = seed.output();
        let whole = output.rfind('\n').map_or("", |end| &output[..end]);
        let records = whole.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        for record in records.filter(|record| record["event"] == "seeding").skip(connected) {
            let info_hash = InfoHash::from_hex(record["info_hash"].as_str().unwrap()).unwrap();
            // Fails without the handshake of the seed.
            WirePeer::connect_with_handshake(address, info_hash, 1, Reserved::ours());
            connected += 1;
        }
    }
}
