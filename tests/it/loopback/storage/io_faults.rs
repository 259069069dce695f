//! Injected file system errors at any point of a `get`, and operations that complete late, partially or out of order.
//!
//! `BT_FAST_FAULTS` and `BT_FAST_CHAOS` work only in debug builds (`io::fault`).

use std::{fs, ops::Range, path::Path, process::Command};

use bt_fast::base::limits;
use rustix::process::Signal;

use crate::loopback::{
    DEADLINE, Fixture, PIECE_LEN, Seed, assert_fails, event, failures,
    faults::environment::with_mounts,
    faults::killed::{assert_claims, assert_no_litter},
    own_address, own_ip,
    scripted_seeder::seeder_that_stops,
    warnings,
};
use crate::support::{
    content::write_random,
    process::{Finished, Running, run, wait_until},
};

const PIECE_COUNT: u32 = 6;
const LEN: u64 = (PIECE_COUNT * PIECE_LEN) as u64;

test_on_both_drivers!(
    each_write_and_sync_may_fail_once_or_permanently,
    each_errno_has_an_exit_code_and_a_remedy,
    an_unwritable_record_is_reported,
    a_disk_full_at_any_point_is_recoverable,
    many_files_and_few_descriptors_work_or_fail_cleanly,
    unreadable_pieces_are_skipped_and_the_rest_served,
    short_late_and_reordered_completions_lose_nothing,
    a_checkpoint_that_panics_ends_the_download,
    panicking_checks_cost_only_their_own_pieces,
    a_failed_event_loop_ends_the_session,
    a_seed_with_few_descriptors_works_or_fails_cleanly,
    a_transfer_works_with_64_descriptors,
);

/// Runs `get` with these faults. Asserts that its claims are correct and that a run without faults completes it.
#[track_caller]
fn get_with(fixture: &Fixture, seed: &Seed, target: &Path, faults: &str) -> Finished {
    let mut get = fixture.get_command(target, &[seed.address]);
    let finished = run(get.env("BT_FAST_FAULTS", faults), DEADLINE);
    assert_claims(fixture, target);
    let again = fixture.get(target, &[seed.address]);
    assert!(failures(&again.stderr).is_empty(), "{again:#?}");
    assert_no_litter(target);
    finished
}

fn each_write_and_sync_may_fail_once_or_permanently() {
    if cfg!(not(debug_assertions)) {
        return;
    }
    // The first write and the first two syncs belong to the empty record. Then there is one write per piece and one
    // sync for the data, followed by those for the record and the folder.
    each_may_fail(&long_pieces(), [("write", 1..PIECE_COUNT + 1), ("sync", 2..3)]);
    // One write stores several short pieces.
    each_may_fail(&Fixture::file(LEN), [("write", 1..2), ("sync", 2..3)]);
}

/// Content of pieces of which each has a write of its own.
fn long_pieces() -> Fixture {
    Fixture::file_with_piece_len(u64::from(PIECE_COUNT * limits::WRITE_RUN_LEN), limits::WRITE_RUN_LEN)
}

#[track_caller]
fn each_may_fail(fixture: &Fixture, steps: [(&str, Range<u32>); 2]) {
    let seed = fixture.seed();
    for (step, numbers) in steps {
        for number in numbers {
            for lasting in ["", "+"] {
                let target = fixture.scratch.folder(&format!("{step} {number}{lasting}"));
                let finished = get_with(fixture, &seed, &target, &format!("{step}@{number}{lasting}={}", libc::EIO));
                assert_fails(&finished, 5, "/content: can't write");
                fs::remove_dir_all(target).unwrap();
            }
        }
    }
}

fn each_errno_has_an_exit_code_and_a_remedy() {
    if cfg!(not(debug_assertions)) {
        return;
    }
    let fixture = long_pieces();
    let seed = fixture.seed();
    for (errno, code, part) in [
        (libc::ENOSPC, 5, "disk is full"),
        (libc::EDQUOT, 5, "quota is used up"),
        (libc::EROFS, 5, "read-only"),
        (libc::EFBIG, 5, "ulimit -f"),
        (libc::EIO, 5, "content"),
        (libc::EPERM, 1, "permission denied"),
    ] {
        let target = fixture.scratch.folder(&format!("errno {errno}"));
        let finished = get_with(&fixture, &seed, &target, &format!("write@2+={errno}"));
        assert_fails(&finished, code, part);
    }
    // A lack of descriptors that passes is no error.
    let target = fixture.scratch.folder("descriptors");
    let finished = get_with(&fixture, &seed, &target, &format!("open@0={}", libc::EMFILE));
    assert_eq!(finished.code, Some(0), "{finished:#?}");
}

fn an_unwritable_record_is_reported() {
    if cfg!(not(debug_assertions)) {
        return;
    }
    let fixture = Fixture::file(LEN);
    let target = fixture.scratch.folder("target");
    // The seeder sends half of the content and then stops.
    let peer = seeder_that_stops(&fixture, own_ip(), 6);
    let mut command = fixture.get_command(&target, &[peer]);
    // The first four syncs are for the empty record, its name, the data and the name of its file.
    command.env("BT_FAST_FAULTS", format!("sync@4+={}", libc::ENOSPC));
    let mut get = Running::start("get", &command, &fixture.scratch.join("get.log"));
    let has_some = |get: &Running| {
        let progress = event(&get.output(), "progress");
        progress.is_some_and(|progress| progress["bytes_done"].as_u64() >= Some(u64::from(PIECE_LEN)))
    };
    assert!(wait_until(DEADLINE, || has_some(&get)), "{}", get.log_tail());
    get.signal(Signal::INT);
    assert_eq!(get.wait(DEADLINE).unwrap().code(), Some(5), "{}", get.log_tail());
    let output = get.output();
    let reported = failures(&output);
    assert!(
        reported.len() == 1 && reported[0].contains(".content.bt-fast-resume: can't write: the disk is full"),
        "{output}"
    );
    let seed = fixture.seed();
    fixture.get(&target, &[seed.address]);
    assert_no_litter(&target);
}

fn a_disk_full_at_any_point_is_recoverable() {
    const LEN: u64 = 2 << 20;
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    // Space for half of the content, and for all but the last block, since the lock file takes a page.
    for size_kib in [1024, 2048] {
        let script = format!(
            r#"mount -t tmpfs -o size=64m none "$TARGET" && get_while_disk_fills {size_kib}k; echo "code $?"
               mount -o remount,size=64m "$TARGET"; echo --- >&2
               get; echo "code $?"; cmp "$SOURCE" "$TARGET/content" && ls -A "$TARGET""#
        );
        let finished = with_mounts(&fixture, Some(&seed), &script);
        let codes: Vec<_> = finished.stdout.lines().filter(|line| line.starts_with("code ")).collect();
        assert_eq!(codes, ["code 5", "code 0"], "{size_kib}: {finished:#?}");
        assert!(finished.stdout.ends_with("\ncontent\n"), "{size_kib}: {finished:#?}");
        let (first, second) = finished.stderr.split_once("---").unwrap();
        let reported = failures(first);
        assert!(reported.len() == 1 && reported[0].contains("the disk is full"), "{size_kib}: {finished:#?}");
        assert!(failures(second).is_empty() && warnings(second).is_empty(), "{size_kib}: {finished:#?}");
        fs::remove_dir_all(fixture.scratch.join("target")).unwrap();
    }
}

fn many_files_and_few_descriptors_work_or_fail_cleanly() {
    let fixture = Fixture::made_by(&[], PIECE_LEN, |root| {
        (0..300).for_each(|at| write_random(&root.join(format!("{at}")), 1000 + at, at));
    });
    let seed = fixture.seed();
    for (limit, is_enough) in [(32, false), (64, true), (256, true), (1024, true)] {
        let target = fixture.scratch.folder(&format!("{limit}"));
        let get = fixture.get_command(&target, &[seed.address]);
        let finished = run(&limited(&get, limit), DEADLINE);
        // A piece spans thirty files, and a dozen pieces may be written at a time.
        if is_enough || finished.code == Some(0) {
            assert_eq!(finished.code, Some(0), "{finished:#?}");
        } else {
            assert_fails(&finished, 1, "ulimit -n");
        }
        fixture.get(&target, &[seed.address]);
        assert_no_litter(&target);
    }
}

fn unreadable_pieces_are_skipped_and_the_rest_served() {
    if cfg!(not(debug_assertions)) {
        return;
    }
    let fixture = Fixture::file(LEN);
    let address = own_address();
    // The first piece that the seed checks cannot be read; which piece that is, is random.
    let mut command = fixture.seed_command(address);
    command.env("BT_FAST_FAULTS", format!("read@0={}", libc::EIO));
    let broken = Seed::start(&command, address, &fixture.scratch.join("broken.log"));
    let whole = fixture.seed();
    let target = fixture.scratch.folder("target");
    let finished = fixture.get(&target, &[broken.address, whole.address]);
    assert_eq!(event(&finished.stdout, "complete").unwrap()["corrupt"], 0);
    drop(broken);
    whole.stop();
}

/// Operations are interrupted and cancelled as well.
fn short_late_and_reordered_completions_lose_nothing() {
    if cfg!(not(debug_assertions)) {
        return;
    }
    const LEN: u64 = 3 << 20;
    let fixture = Fixture::file(LEN);
    for _ in 0..4 {
        let chaos = fastrand::u64(..).to_string();
        let address = own_address();
        let mut command = fixture.seed_command(address);
        command.env("BT_FAST_CHAOS", &chaos);
        let seed = Seed::start(&command, address, &fixture.scratch.join("seed.log"));
        for write in ["direct", "buffered"] {
            let target = fixture.scratch.folder(&format!("{chaos} {write}"));
            let mut get = fixture.get_command(&target, &[seed.address]);
            let finished = run(get.args(["--write", write]).env("BT_FAST_CHAOS", &chaos), DEADLINE);
            assert_eq!(finished.code, Some(0), "BT_FAST_CHAOS={chaos}: {finished:#?}");
            assert_eq!(event(&finished.stdout, "complete").unwrap()["corrupt"], 0, "BT_FAST_CHAOS={chaos}");
            let reported = [failures(&finished.stderr), warnings(&finished.stderr)].concat();
            assert!(reported.is_empty(), "BT_FAST_CHAOS={chaos}: {reported:?}");
            fixture.assert_complete(&target);
            assert_no_litter(&target);
        }
        let output = seed.process.output();
        assert!(warnings(&output).is_empty(), "BT_FAST_CHAOS={chaos}: {output}");
        seed.stop();
    }
}

fn a_checkpoint_that_panics_ends_the_download() {
    if cfg!(not(debug_assertions)) {
        return;
    }
    let fixture = Fixture::file(LEN);
    let target = fixture.scratch.folder("target");
    let peer = seeder_that_stops(&fixture, own_ip(), usize::try_from(PIECE_COUNT).unwrap());
    let mut get = Running::start("get", &fixture.get_command(&target, &[peer]), &fixture.scratch.join("get.log"));
    let has_some = |get: &Running| event(&get.output(), "progress").is_some_and(|reported| reported["bytes_done"] != 0);
    assert!(wait_until(DEADLINE, || has_some(&get)), "{}", get.log_tail());
    get.signal(Signal::INT);
    get.wait(DEADLINE).unwrap();
    // Data of an earlier run is synced at the start, on a separate thread.
    let seed = fixture.seed();
    let finished = get_with(&fixture, &seed, &target, "sync@0=panic");
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    assert!(
        failures(&finished.stderr)[0].contains("a checkpoint panicked: run the same command again"),
        "{finished:#?}"
    );
}

/// More checks panic than there are threads, and each panic costs only its own piece.
fn panicking_checks_cost_only_their_own_pieces() {
    const PANICS: usize = 12;
    if cfg!(not(debug_assertions)) {
        return;
    }
    let fixture = Fixture::file(40 * u64::from(PIECE_LEN));
    let faults: Vec<String> = (0..PANICS).map(|number| format!("read@{number}=panic")).collect();
    let address = own_address();
    let mut command = fixture.seed_command(address);
    // An empty cache folder, so that no earlier check is reused.
    command.env("XDG_CACHE_HOME", fixture.scratch.path()).env("BT_FAST_FAULTS", faults.join(","));
    let faulty = Seed::start(&command, address, &fixture.scratch.join("faulty.log"));
    let target = fixture.scratch.folder("target");
    let get = fixture.get_command(&target, &[address]);
    let mut get = Running::start("get", &get, &fixture.scratch.join("get.log"));
    let expected = fixture.bytes().len() as u64 - PANICS as u64 * u64::from(PIECE_LEN);
    let has_others = |get: &Running| {
        event(&get.output(), "progress").is_some_and(|reported| reported["bytes_done"].as_u64() >= Some(expected))
    };
    assert!(wait_until(DEADLINE, || has_others(&get)), "{}", get.log_tail());
    get.signal(Signal::INT);
    get.wait(DEADLINE).unwrap();
    drop(faulty);
}

/// The session ends at once: the remaining I/O threads would wait for the one that is gone.
fn a_failed_event_loop_ends_the_session() {
    if cfg!(not(debug_assertions)) {
        return;
    }
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let target = fixture.scratch.folder("target");
    let finished = get_with(&fixture, &seed, &target, "command@0=panic");
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    let reported = failures(&finished.stderr);
    assert!(reported.len() == 1 && reported[0].contains("the event loop of an I/O thread failed"), "{finished:#?}");
}

/// Makes a command that runs `command` with at most `limit` descriptors.
fn limited(command: &Command, limit: usize) -> Command {
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--nofile={limit}:{limit}")).arg(command.get_program()).args(command.get_args());
    limited
}

/// Descriptors run out at each step of the start.
fn a_seed_with_few_descriptors_works_or_fails_cleanly() {
    let fixture = Fixture::file(LEN);
    for limit in 5..32 {
        let mut seed = fixture.seed_command(own_address());
        let finished = run(&limited(seed.args(["--stop-time", "100ms"]), limit), DEADLINE);
        match finished.code {
            Some(0) => {}
            Some(1) => assert_eq!(failures(&finished.stderr).len(), 1, "{limit}: {finished:#?}"),
            _ => panic!("{limit}: {finished:#?}"),
        }
        assert!(!finished.stderr.contains("panicked"), "{limit}: {finished:#?}");
    }
}

fn a_transfer_works_with_64_descriptors() {
    let fixture = Fixture::file(LEN);
    let address = own_address();
    let seed = limited(&fixture.seed_command(address), 64);
    let seed = Seed::start(&seed, address, &fixture.scratch.join("seed.log"));
    let target = fixture.scratch.folder("target");
    let finished = run(&limited(&fixture.get_command(&target, &[address]), 64), DEADLINE);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    fixture.assert_complete(&target);
    seed.stop();
}
