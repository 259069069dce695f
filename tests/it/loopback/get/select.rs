//! `get --select`: downloads of some of the files.

use std::{fs, path::Path};

use bt_fast::codec::{handshake::Reserved, message::Message};
use rustix::process::Signal;

use crate::loopback::{
    DEADLINE, Fixture, NAME, PIECE_LEN, STOP_DEADLINE, assert_fails, event, exit_code,
    faults::killed::assert_no_litter,
    own_address, own_ip,
    scripted_seeder::{seeder_that_notes, seeder_that_stops},
};
use crate::support::{
    bt_fast,
    content::files,
    process::{Running, run, wait_until},
    wire_peer::{Received, WirePeer},
};

/// No file boundary is a piece boundary.
const LENS: [(&str, u64); 4] = [("a", 100_000), ("b", 300_000), ("c", 0), ("sub/d", 200_001)];

fn fixture() -> Fixture {
    Fixture::files(&LENS)
}

/// Asserts that exactly these files exist, with the right content.
#[track_caller]
fn assert_files(fixture: &Fixture, target: &Path, names: &[&str]) {
    let found = files(&target.join(NAME));
    assert_eq!(found.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>(), names);
    for name in names {
        let equal =
            fs::read(target.join(NAME).join(name)).unwrap() == fs::read(fixture.source.join(NAME).join(name)).unwrap();
        assert!(equal, "{name}");
    }
}

#[test]
fn a_selection_downloads_only_its_files_and_a_later_run_more() {
    let fixture = fixture();
    let seed = fixture.seed();
    let target = fixture.scratch.folder("target");
    let command = || fixture.get_command(&target, &[seed.address]);
    let finished = run(command().args(["--select", "2"]), DEADLINE);
    let complete = event(&finished.success(), "complete").unwrap();
    assert_eq!((complete["bytes"].as_u64(), complete["selected_files"].as_u64()), (Some(300_000), Some(1)));
    assert_files(&fixture, &target, &["b"]);
    assert_no_litter(&target);
    let finished = run(command().args(["--select", "sub/*", "--select", "3"]), DEADLINE);
    let complete = event(&finished.success(), "complete").unwrap();
    assert_eq!((complete["bytes"].as_u64(), complete["selected_files"].as_u64()), (Some(200_001), Some(2)));
    let downloaded = complete["downloaded"].as_u64().unwrap();
    assert!(downloaded <= 200_001 + 2 * u64::from(PIECE_LEN), "{downloaded}: existing pieces were fetched again");
    assert_files(&fixture, &target, &["b", "c", "sub/d"]);
    fixture.get(&target, &[seed.address]);
    assert_files(&fixture, &target, &["a", "b", "c", "sub/d"]);
    assert_no_litter(&target);
}

#[test]
fn an_interrupted_selection_resumes_and_claims_no_half_piece() {
    let fixture = fixture();
    let target = fixture.scratch.folder("target");
    let mut command = fixture.get_command(&target, &[seeder_that_stops(&fixture, own_ip(), 13)]);
    let mut get = Running::start("get", command.args(["--select", "b"]), &fixture.scratch.join("get.log"));
    let path = target.join(NAME).join("b");
    let written = || fs::read(&path).is_ok_and(|bytes| bytes.iter().filter(|byte| **byte != 0).count() > 100_000);
    assert!(wait_until(DEADLINE, written), "{}", get.log_tail());
    get.signal(Signal::INT);
    assert_eq!(exit_code(&mut get, STOP_DEADLINE), Some(130), "{}", get.log_tail());
    let seed = fixture.seed();
    let finished = run(fixture.get_command(&target, &[seed.address]).args(["--select", "b,a"]), DEADLINE);
    assert_fails(&finished, 2, "'b,a' matches none of the 4 files");
    let finished = run(fixture.get_command(&target, &[seed.address]).args(["--select", "b"]), DEADLINE);
    assert!(!finished.stderr.contains("warning"), "{finished:#?}");
    let downloaded = event(&finished.success(), "complete").unwrap()["downloaded"].as_u64().unwrap();
    assert!(downloaded < 230_000, "{downloaded}");
    assert_files(&fixture, &target, &["b"]);
    assert_no_litter(&target);
}

#[test]
fn files_come_in_the_order_of_the_selections() {
    let fixture = fixture();
    let (peer, asked) = seeder_that_notes(&fixture, own_ip());
    let target = fixture.scratch.folder("target");
    let mut command = fixture.get_command(&target, &[peer.address]);
    run(command.args(["--select", "4", "--select", "1"]), DEADLINE).success();
    assert_files(&fixture, &target, &["a", "sub/d"]);
    // The last piece of `a` and the first piece of `sub/d` contain bytes of `b`.
    let (last_of_a, first_of_d) = (100_000 / PIECE_LEN, 400_000 / PIECE_LEN);
    let asked = asked.lock().unwrap();
    let is_of_d: Vec<bool> = asked.iter().map(|&index| index >= first_of_d).collect();
    assert!(is_of_d.is_sorted_by(|a, b| a >= b), "{asked:?}");
    assert!(asked.iter().all(|&index| index <= last_of_a || index >= first_of_d), "{asked:?}");
}

#[test]
fn a_partial_seeder_serves_only_whole_pieces() {
    let fixture = fixture();
    let seed = fixture.seed();
    let (target, address) = (fixture.scratch.folder("target"), own_address());
    let mut command = bt_fast();
    command.args(["get", "--json", "--seed", "--select", "b"]).arg(&fixture.torrent).arg("-o").arg(&target);
    command.args(["--listen", &address.to_string(), "--peer", &seed.address.to_string()]);
    let mut get = Running::start("get", &command, &fixture.scratch.join("get.log"));
    let complete = || get.output().contains("complete; uploading");
    assert!(wait_until(DEADLINE, complete), "{}", get.log_tail());
    let info_hash = fixture.metainfo.info_hash;
    let mut peer = WirePeer::connect_with_handshake(address, info_hash, fixture.piece_count(), Reserved::ours());
    let (first, last) = (100_000 / PIECE_LEN + 1, 400_000 / PIECE_LEN - 1);
    let expected: Vec<u32> = (first..=last).collect();
    let reported = std::cell::RefCell::new(Vec::new());
    peer.receive_until(|received| match received {
        Received::Bitfield(bits) => {
            let has = |index: &u32| bits[*index as usize / 8] & (0x80 >> (index % 8)) != 0;
            reported.replace((0..fixture.piece_count()).filter(has).collect());
            true
        }
        _ => false,
    });
    assert_eq!(reported.into_inner(), expected);
    peer.send_message(&Message::Interested);
    peer.receive_until(|received| *received == Received::Unchoke);
    let content = fixture.content();
    let start = first as usize * PIECE_LEN as usize;
    assert!(peer.fetch(first, 0, 16_384) == content[start..start + 16_384]);
    // The seeder has a part of this piece but does not offer it.
    peer.send_message(&Message::Request { index: first - 1, begin: 0, length: 16_384 });
    peer.receive_until(|received| *received == Received::Reject { index: first - 1, begin: 0, length: 16_384 });
    get.signal(Signal::INT);
    assert_eq!(exit_code(&mut get, STOP_DEADLINE), Some(0), "{}", get.log_tail());
    assert_files(&fixture, &target, &["b"]);
    assert_no_litter(&target);
}

#[test]
fn a_selection_without_a_match_is_bad_usage() {
    let fixture = fixture();
    let target = fixture.scratch.folder("target");
    for (select, part) in [("5", "none of the 4 files"), ("*.mp3", "none of the 4 files"), ("0-2", "give numbers")] {
        let finished = run(fixture.get_command(&target, &[]).args(["--select", select]), DEADLINE);
        assert_fails(&finished, 2, part);
    }
    assert!(!target.join(NAME).exists());
}
