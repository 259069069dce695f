//! A download that is interrupted, however rudely, goes on where it was.

use std::{fs, path::Path};

use rustix::process::Signal;

use super::{
    DEADLINE, Fixture, NAME, PIECE_LEN, STOP_DEADLINE, event, exit_code, failures, own_ip, scripted::seeder_that_stops,
};
use crate::support::process::{Running, wait_until};

const LEN: u64 = 4 << 20;

/// A `get` that has some pieces and waits for more.
fn half_way(fixture: &Fixture, target: &Path) -> Running {
    let peer = seeder_that_stops(fixture, own_ip(), 51);
    let command = fixture.get_command(target, &[peer]);
    let mut get = Running::start("get", &command, &fixture.scratch.join("get.log"));
    let before = right_pieces(fixture, target);
    let moved = wait_until(DEADLINE, || right_pieces(fixture, target) >= before + 20);
    assert!(moved && get.is_running(), "{}", get.log_tail());
    get
}

/// Pieces on disk that equal the content.
fn right_pieces(fixture: &Fixture, target: &Path) -> u64 {
    let (expected, found) = (fixture.bytes(), fs::read(target.join(NAME)).unwrap_or_default());
    let pieces = expected.chunks(PIECE_LEN as usize).zip(found.chunks(PIECE_LEN as usize));
    pieces.filter(|(expected, found)| expected == found).count() as u64
}

/// The next run fetches what is missing, from a seed that then has sent no more than that.
#[track_caller]
fn goes_on(fixture: &Fixture, target: &Path) {
    let missing = LEN - right_pieces(fixture, target) * u64::from(PIECE_LEN);
    assert!(missing < LEN);
    let seed = fixture.seed();
    let finished = fixture.get(target, &[seed.address]);
    assert_eq!(event(&finished.stdout, "complete").unwrap()["downloaded"], missing);
    assert_eq!(seed.stop()["uploaded"], missing);
}

#[test]
fn after_ctrl_c() {
    let fixture = Fixture::file(LEN);
    let target = fixture.scratch.folder("target");
    let mut get = half_way(&fixture, &target);
    get.signal(Signal::INT);
    assert_eq!(exit_code(&mut get, STOP_DEADLINE), Some(130), "{}", get.log_tail());
    assert_eq!(failures(&get.output()).len(), 1, "{}", get.output());
    goes_on(&fixture, &target);
}

#[test]
fn after_sigterm_and_again() {
    let fixture = Fixture::file(LEN);
    let target = fixture.scratch.folder("target");
    for _ in 0..2 {
        let mut get = half_way(&fixture, &target);
        get.signal(Signal::TERM);
        assert_eq!(exit_code(&mut get, STOP_DEADLINE), Some(130), "{}", get.log_tail());
    }
    goes_on(&fixture, &target);
}

#[test]
fn after_kill() {
    let fixture = Fixture::file(LEN);
    let target = fixture.scratch.folder("target");
    let mut get = half_way(&fixture, &target);
    get.signal(Signal::KILL);
    assert_eq!(exit_code(&mut get, DEADLINE), None);
    goes_on(&fixture, &target);
}
