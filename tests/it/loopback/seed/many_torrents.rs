//! Many torrents in one process.

use std::fs;

use bt_fast::base::limits;
use sha1::{Digest as _, Sha1};

use crate::loopback::{DEADLINE, Seed, own_address, seed::crowd::memory};
use crate::support::{
    bt_fast,
    content::difference,
    process::{run, wait_until},
    scratch::Scratch,
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
