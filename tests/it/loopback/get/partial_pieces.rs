//! A resumed download does not fetch received blocks of incomplete pieces again.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use bt_fast::{
    base::geometry::BLOCK_LEN,
    codec::parts::{Part, read_parts, write_parts},
};
use rustix::process::Signal;

use crate::loopback::{
    DEADLINE, Fixture, NAME, STOP_DEADLINE, event, exit_code,
    faults::killed::{assert_claims, assert_no_litter},
    own_ip,
    scripted_seeder::{Reply, seeder},
    warnings,
};
use crate::support::process::{Finished, Running, wait_until};

const LONG_PIECE_LEN: u32 = 4 << 20;
const LEN: u64 = 3 * LONG_PIECE_LEN as u64;
/// One whole piece and a part of another.
const BLOCKS_SENT: usize = 300;

fn parts_path(target: &Path) -> PathBuf {
    target.join(format!(".{NAME}.bt-fast-parts"))
}

/// Starts a download that has received [`BLOCKS_SENT`] blocks and waits for more.
fn waiting(fixture: &Fixture, target: &Path) -> Running {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let peer = seeder(fixture, own_ip(), move |number, _, block: &[u8]| {
        if number >= BLOCKS_SENT {
            return Reply::Nothing;
        }
        count.fetch_add(1, Ordering::Relaxed);
        Reply::Block(block.to_vec())
    });
    let get = Running::start("get", &fixture.get_command(target, &[peer.address]), &fixture.scratch.join("get.log"));
    assert!(wait_until(DEADLINE, || sent.load(Ordering::Relaxed) == BLOCKS_SENT));
    // The last blocks are still in flight.
    sleep(Duration::from_millis(500));
    get
}

fn interrupted(fixture: &Fixture) -> PathBuf {
    let target = fixture.scratch.folder("target");
    let mut get = waiting(fixture, &target);
    get.signal(Signal::INT);
    assert_eq!(exit_code(&mut get, STOP_DEADLINE), Some(130), "{}", get.log_tail());
    target
}

/// Runs the download again and asserts that it fetches this number of blocks.
#[track_caller]
fn resumes(fixture: &Fixture, target: &Path, missing_blocks: u64) -> Finished {
    let seed = fixture.seed();
    let finished = fixture.get(target, &[seed.address]);
    assert_eq!(event(&finished.stdout, "complete").unwrap()["downloaded"], missing_blocks * u64::from(BLOCK_LEN));
    assert_no_litter(target);
    finished
}

#[test]
fn received_parts_of_a_piece_are_not_fetched_again() {
    let fixture = Fixture::file_with_piece_len(LEN, LONG_PIECE_LEN);
    let target = interrupted(&fixture);
    // A run without peers in between loses nothing.
    let mut get = Running::start("get", &fixture.get_command(&target, &[]), &fixture.scratch.join("idle.log"));
    sleep(Duration::from_millis(500));
    get.signal(Signal::INT);
    assert_eq!(exit_code(&mut get, STOP_DEADLINE), Some(130), "{}", get.log_tail());
    let finished = resumes(&fixture, &target, LEN / u64::from(BLOCK_LEN) - BLOCKS_SENT as u64);
    assert_eq!(warnings(&finished.stderr), [""; 0]);
}

/// On a slow link a piece takes longer than the interval between checkpoints.
#[test]
fn received_parts_of_a_piece_survive_a_kill() {
    let fixture = Fixture::file_with_piece_len(LEN, LONG_PIECE_LEN);
    let target = fixture.scratch.folder("target");
    let mut get = waiting(&fixture, &target);
    assert!(wait_until(DEADLINE, || parts_path(&target).exists()), "{}", get.log_tail());
    get.signal(Signal::KILL);
    get.wait(DEADLINE).unwrap();
    assert_claims(&fixture, &target);
    let finished = resumes(&fixture, &target, LEN / u64::from(BLOCK_LEN) - BLOCKS_SENT as u64);
    assert_eq!(warnings(&finished.stderr), [""; 0]);
}

/// Edits the file of partial pieces.
fn change_parts(fixture: &Fixture, target: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(parts_path(target)).unwrap();
    change(&mut bytes);
    fs::write(parts_path(target), bytes).unwrap();
    assert!(fixture.piece_count() == 3);
}

#[test]
fn damaged_parts_are_reported_and_fetched_again() {
    let fixture = Fixture::file_with_piece_len(LEN, LONG_PIECE_LEN);
    let target = interrupted(&fixture);
    change_parts(&fixture, &target, |bytes| {
        let at = fastrand::usize(35..bytes.len());
        bytes[at] ^= 1;
    });
    let whole = assert_claims(&fixture, &target) as u64;
    let finished =
        resumes(&fixture, &target, LEN / u64::from(BLOCK_LEN) - whole * u64::from(LONG_PIECE_LEN / BLOCK_LEN));
    let reported = warnings(&finished.stderr);
    assert!(reported.len() == 1 && reported[0].contains("it is damaged: partial pieces"), "{finished:#?}");
}

/// Corrupt saved parts make their piece fail once, and no peer is blamed.
#[test]
fn corrupt_saved_parts_are_refetched_and_no_peer_is_banned() {
    let fixture = Fixture::file_with_piece_len(LEN, LONG_PIECE_LEN);
    let target = interrupted(&fixture);
    let (info_hash, geometry) = (fixture.metainfo.info_hash, &fixture.metainfo.info.geometry);
    let mut corrupted = 0;
    change_parts(&fixture, &target, |bytes| {
        let wrong = vec![7; BLOCK_LEN as usize];
        let mut parts = read_parts(bytes, info_hash, geometry).unwrap();
        for Part { blocks, .. } in &mut parts {
            blocks[0].1 = &wrong;
        }
        corrupted = parts.len() as u64;
        let mut changed = Vec::new();
        write_parts(&mut changed, info_hash, geometry, &parts).unwrap();
        *bytes = changed;
    });
    assert!(corrupted > 0);
    let piece_blocks = u64::from(LONG_PIECE_LEN / BLOCK_LEN);
    let finished =
        resumes(&fixture, &target, LEN / u64::from(BLOCK_LEN) - BLOCKS_SENT as u64 + corrupted * piece_blocks);
    assert_eq!(event(&finished.stdout, "complete").unwrap()["corrupt"], corrupted * u64::from(LONG_PIECE_LEN));
    assert_eq!(warnings(&finished.stderr), [""; 0], "a peer was banned");
}
