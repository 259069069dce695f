//! A download that is killed at any point claims only pieces that are on disk, and the next run completes it.
//!
//! `BT_FAST_KILL_AT=N` ends a debug build right before its step number N, where a step is a write, a sync or a rename
//! of a file that outlives the process. Each test increases N until a run completes.

use std::{fs, path::Path, time::Duration};

use bt_fast::{base::Bitfield, codec::resume::ResumeRecord};
use rustix::process::Signal;

use crate::loopback::{
    DEADLINE, Fixture, NAME, PIECE_LEN, event, own_ip, scripted_seeder::seeder_that_stops, warnings,
};
use crate::support::process::{Running, run, wait_until};

const PIECE_COUNT: u32 = 6;
const LEN: u64 = (PIECE_COUNT * PIECE_LEN) as u64;
/// An upper bound on the steps of a run.
const STEPS_MAX: u32 = 200;

test_on_both_drivers!(
    a_kill_at_each_step_of_a_download_is_recoverable,
    a_kill_at_each_step_of_a_stop_is_recoverable,
    a_kill_at_a_random_moment_is_recoverable,
);

/// Returns the pieces that the resume record claims; `None` without a record.
pub(crate) fn claimed(fixture: &Fixture, target: &Path) -> Option<Bitfield> {
    let bytes = fs::read(target.join(format!(".{NAME}.bt-fast-resume"))).ok()?;
    let record = ResumeRecord::decode(&bytes, fixture.metainfo.info_hash, 1, fixture.piece_count());
    Some(record.expect("a valid record").have)
}

/// Asserts that every claimed piece is correct and returns the number of claimed pieces.
#[track_caller]
pub(crate) fn assert_claims(fixture: &Fixture, target: &Path) -> usize {
    let Some(claimed) = claimed(fixture, target) else { return 0 };
    let (expected, found) = (fixture.bytes(), fs::read(target.join(NAME)).unwrap());
    let piece_len = fixture.metainfo.info.geometry.piece_len() as usize;
    for index in claimed.iter() {
        let range = index * piece_len..((index + 1) * piece_len).min(expected.len());
        assert!(expected[range.clone()] == found[range], "piece {index} is claimed but wrong");
    }
    claimed.count()
}

/// Asserts that `target` contains only the content.
#[track_caller]
pub(crate) fn assert_no_litter(target: &Path) {
    let names: Vec<_> = fs::read_dir(target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [NAME]);
}

fn a_kill_at_each_step_of_a_download_is_recoverable() {
    if cfg!(not(debug_assertions)) {
        return;
    }
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    for step in 0..STEPS_MAX {
        let target = fixture.scratch.folder(&format!("target {step}"));
        // Kill two runs in a row, the second one early.
        let mut untouched = false;
        for (round, kill_at) in [step, step % 5].into_iter().enumerate() {
            let mut get = fixture.get_command(&target, &[seed.address]);
            let finished = run(get.env("BT_FAST_KILL_AT", kill_at.to_string()), DEADLINE);
            assert_claims(&fixture, &target);
            untouched |= round == 0 && finished.code == Some(0);
            assert!(matches!(finished.code, None | Some(0)), "{finished:#?}");
        }
        let finished = fixture.get(&target, &[seed.address]);
        assert_eq!(warnings(&finished.stderr), [""; 0], "{finished:#?}");
        assert_no_litter(&target);
        if untouched {
            assert!(step > PIECE_COUNT, "{step}: each write and the sync at the end");
            return;
        }
        fs::remove_dir_all(target).unwrap();
    }
    panic!("no run completed");
}

fn a_kill_at_each_step_of_a_stop_is_recoverable() {
    if cfg!(not(debug_assertions)) {
        return;
    }
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let mut claims = Vec::new();
    for step in 0..STEPS_MAX {
        let target = fixture.scratch.folder(&format!("target {step}"));
        // The seeder sends half of the content and then stops.
        let peer = seeder_that_stops(&fixture, own_ip(), usize::try_from(PIECE_COUNT).unwrap());
        let mut command = fixture.get_command(&target, &[peer]);
        command.env("BT_FAST_KILL_AT", step.to_string());
        let mut get = Running::start("get", &command, &fixture.scratch.join("get.log"));
        let has_some = |get: &mut Running| {
            let progress = event(&get.output(), "progress");
            progress.is_some_and(|progress| progress["bytes_done"].as_u64() >= Some(u64::from(PIECE_LEN)))
        };
        assert!(wait_until(DEADLINE, || has_some(&mut get) || !get.is_running()), "{}", get.log_tail());
        std::thread::sleep(Duration::from_millis(20));
        if get.is_running() {
            get.signal(Signal::INT);
        }
        let status = get.wait(DEADLINE).unwrap();
        claims.push(assert_claims(&fixture, &target));
        let finished = fixture.get(&target, &[seed.address]);
        assert_eq!(warnings(&finished.stderr), [""; 0], "{finished:#?}");
        assert_no_litter(&target);
        if status.code() == Some(130) {
            assert!(step >= 5, "{step}: a write, the data's sync, the record's write, sync and rename");
            assert!(claims.contains(&0) && claims.last().is_some_and(|last| *last > 0), "{claims:?}");
            return;
        }
        assert_eq!(status.code(), None, "{}", get.log_tail());
        fs::remove_dir_all(target).unwrap();
    }
    panic!("no run completed");
}

fn a_kill_at_a_random_moment_is_recoverable() {
    const LEN: u64 = 32 << 20;
    let fixture = Fixture::file_with_piece_len(LEN, 256 << 10);
    let seed = fixture.seed();
    let target = fixture.scratch.folder("target");
    for _ in 0..20 {
        let command = fixture.get_command(&target, &[seed.address]);
        let mut get = Running::start("get", &command, &fixture.scratch.join("get.log"));
        std::thread::sleep(Duration::from_millis(fastrand::u64(20..250)));
        // The download may have completed.
        if get.is_running() {
            get.signal(Signal::KILL);
        }
        get.wait(DEADLINE).unwrap();
        assert_claims(&fixture, &target);
    }
    let missing = fixture
        .bytes()
        .chunks(256 << 10)
        .zip(fs::read(target.join(NAME)).unwrap().chunks(256 << 10))
        .filter(|(expected, found)| expected != found)
        .count() as u64
        * (256 << 10);
    let finished = fixture.get(&target, &[seed.address]);
    assert_eq!(event(&finished.stdout, "complete").unwrap()["downloaded"], missing);
    assert_no_litter(&target);
}
