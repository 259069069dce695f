//! An interrupted download resumes, however it was ended.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use bt_fast::{
    base::{Bitfield, FileIdentity, FileTime, geometry::BLOCK_LEN},
    codec::resume::ResumeRecord,
};
use rustix::process::Signal;

use crate::loopback::{
    DEADLINE, Fixture, NAME, PIECE_LEN, STOP_DEADLINE, Seed, assert_fails, event, exit_code, failures,
    faults::killed::{assert_claims, assert_no_litter, claimed},
    own_address, own_ip,
    scripted_seeder::seeder_that_stops,
    warnings,
};
use crate::support::{
    bencode::{dictionary, integer, string},
    bt_fast,
    process::{Finished, Running, run, wait_until},
    scratch::Scratch,
};

const LEN: u64 = 4 << 20;
/// The number of pieces that the peer sends before it stops.
const PIECES_SENT: u32 = 26;

/// Starts a `get` that has written all pieces its peer sends and waits for more.
fn half_downloaded(fixture: &Fixture, target: &Path) -> Running {
    let peer = seeder_that_stops(fixture, own_ip(), (PIECES_SENT * PIECE_LEN / BLOCK_LEN) as usize);
    let command = fixture.get_command(target, &[peer]);
    let before = correct_pieces(fixture, target);
    let mut get = Running::start("get", &command, &fixture.scratch.join("get.log"));
    let moved = wait_until(DEADLINE, || correct_pieces(fixture, target) == before + u64::from(PIECES_SENT));
    assert!(moved && get.is_running(), "{}", get.log_tail());
    get
}

/// Returns the number of pieces on disk that equal the content.
fn correct_pieces(fixture: &Fixture, target: &Path) -> u64 {
    let (expected, found) = (fixture.bytes(), fs::read(target.join(NAME)).unwrap_or_default());
    let pieces = expected.chunks(PIECE_LEN as usize).zip(found.chunks(PIECE_LEN as usize));
    pieces.filter(|(expected, found)| expected == found).count() as u64
}

/// Runs the download again and asserts that it fetches only the missing pieces, and that the seed sent no more.
#[track_caller]
fn resumes(fixture: &Fixture, target: &Path) -> Finished {
    let len = fixture.metainfo.info.geometry.total_len();
    let missing = len - correct_pieces(fixture, target) * u64::from(PIECE_LEN);
    assert!(missing < len);
    let seed = fixture.seed();
    let finished = fixture.get(target, &[seed.address]);
    assert_eq!(event(&finished.stdout, "complete").unwrap()["downloaded"], missing);
    assert_eq!(seed.stop()["uploaded"], missing);
    assert_no_litter(target);
    finished
}

/// Stops a download with SIGINT; its record claims all correct pieces.
fn stopped(fixture: &Fixture) -> PathBuf {
    let target = fixture.scratch.folder("target");
    let mut get = half_downloaded(fixture, &target);
    get.signal(Signal::INT);
    assert_eq!(exit_code(&mut get, STOP_DEADLINE), Some(130), "{}", get.log_tail());
    assert_eq!(assert_claims(fixture, &target) as u64, correct_pieces(fixture, &target));
    target
}

/// Updates the file identity in the record to the current file.
fn stamp(fixture: &Fixture, target: &Path) -> ResumeRecord {
    let path = target.join(format!(".{NAME}.bt-fast-resume"));
    let (bytes, info_hash) = (fs::read(&path).unwrap(), fixture.metainfo.info_hash);
    let mut record = ResumeRecord::decode(&bytes, info_hash, 1, fixture.piece_count()).unwrap();
    record.files[0] = identity(&target.join(NAME));
    fs::write(path, record.encode()).unwrap();
    record
}

#[test]
fn a_resume_after_a_clean_stop_hashes_only_samples() {
    let fixture = Fixture::file(LEN);
    let target = stopped(&fixture);
    // The whole file is correct, but the record claims only a part of it and the rest is not hashed.
    fs::write(target.join(NAME), fixture.bytes()).unwrap();
    let claimed = stamp(&fixture, &target).have.count() as u64;
    let seed = fixture.seed();
    let finished = fixture.get(&target, &[seed.address]);
    let downloaded = LEN - claimed * u64::from(PIECE_LEN);
    assert_eq!(event(&finished.stdout, "complete").unwrap()["downloaded"], downloaded);
    assert_eq!(warnings(&finished.stderr), [""; 0]);
}

/// Resumes and asserts that one warning gives the reason for a full check, which finds all correct pieces.
#[track_caller]
fn resumes_after_a_full_check(fixture: &Fixture, target: &Path, why: &str) {
    let finished = resumes(fixture, target);
    let reported = warnings(&finished.stderr);
    assert!(reported.len() == 1 && reported[0].contains(why), "{finished:#?}");
}

#[test]
fn a_damaged_record_causes_a_full_check() {
    let fixture = Fixture::file(LEN);
    let target = stopped(&fixture);
    let path = target.join(format!(".{NAME}.bt-fast-resume"));
    let mut bytes = fs::read(&path).unwrap();
    // Past the info-hash.
    let at = fastrand::usize(36..bytes.len());
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    resumes_after_a_full_check(&fixture, &target, "damaged");
}

#[test]
fn a_record_of_another_torrent_causes_a_full_check() {
    let (fixture, longer) = (Fixture::file(LEN), Fixture::file(4 * LEN));
    let name = format!(".{NAME}.bt-fast-resume");
    let targets = [stopped(&fixture), stopped(&longer)];
    let records = targets.each_ref().map(|target| fs::read(target.join(&name)).unwrap());
    for (fixture, target, record) in [(&fixture, &targets[0], &records[1]), (&longer, &targets[1], &records[0])] {
        fs::write(target.join(&name), record).unwrap();
        resumes_after_a_full_check(fixture, target, "it belongs to another torrent");
    }
}

/// Corrupts the first claimed piece.
fn alter(fixture: &Fixture, target: &Path) {
    let index = claimed(fixture, target).unwrap().iter().next().unwrap();
    let mut bytes = fs::read(target.join(NAME)).unwrap();
    bytes[index * PIECE_LEN as usize] ^= 1;
    fs::write(target.join(NAME), bytes).unwrap();
}

#[test]
fn a_file_altered_between_runs_causes_a_full_check() {
    let fixture = Fixture::file(LEN);
    let target = stopped(&fixture);
    alter(&fixture, &target);
    resumes_after_a_full_check(&fixture, &target, "has changed since the last run");
}

/// Only the hashed samples can reveal the change.
#[test]
fn samples_find_an_altered_file_with_unchanged_times() {
    let fixture = Fixture::file(LEN);
    let target = stopped(&fixture);
    alter(&fixture, &target);
    assert!(stamp(&fixture, &target).have.count() <= 64, "every claimed piece is sampled");
    resumes_after_a_full_check(&fixture, &target, "a piece does not match it");
}

#[test]
fn a_target_allows_one_process_at_a_time() {
    let fixture = Fixture::file(LEN);
    let target = fixture.scratch.folder("target");
    let mut get = half_downloaded(&fixture, &target);
    let before = fs::read(target.join(NAME)).unwrap();
    let second = run(&fixture.get_command(&target, &[]), DEADLINE);
    assert_fails(&second, 1, &format!("process {} is downloading it", get.id()));
    assert!(get.is_running() && fs::read(target.join(NAME)).unwrap() == before);
    get.signal(Signal::KILL);
    get.wait(DEADLINE).unwrap();
    resumes(&fixture, &target);
}

#[test]
fn ctrl_c_keeps_the_progress() {
    let fixture = Fixture::file(LEN);
    let target = fixture.scratch.folder("target");
    let mut get = half_downloaded(&fixture, &target);
    get.signal(Signal::INT);
    assert_eq!(exit_code(&mut get, STOP_DEADLINE), Some(130), "{}", get.log_tail());
    assert_eq!(failures(&get.output()).len(), 1, "{}", get.output());
    resumes(&fixture, &target);
}

#[test]
fn sigterm_in_successive_runs_keeps_the_progress() {
    let fixture = Fixture::file(LEN);
    let target = fixture.scratch.folder("target");
    for _ in 0..2 {
        let mut get = half_downloaded(&fixture, &target);
        get.signal(Signal::TERM);
        assert_eq!(exit_code(&mut get, STOP_DEADLINE), Some(130), "{}", get.log_tail());
    }
    resumes(&fixture, &target);
}

/// The record is written on a closed terminal, at a CPU time limit and on a stray signal.
#[test]
fn every_terminating_signal_keeps_the_progress() {
    let fixture = Fixture::file(LEN);
    for signal in [Signal::HUP, Signal::QUIT, Signal::USR1, Signal::ALARM, Signal::XCPU] {
        let target = fixture.scratch.folder(&format!("target {}", signal.as_raw()));
        let mut get = half_downloaded(&fixture, &target);
        get.signal(signal);
        assert_eq!(exit_code(&mut get, STOP_DEADLINE), Some(130), "{signal:?}: {}", get.log_tail());
        assert_eq!(assert_claims(&fixture, &target) as u64, correct_pieces(&fixture, &target), "{signal:?}");
        resumes(&fixture, &target);
    }
}

#[test]
fn nohup_keeps_a_download_running() {
    let fixture = Fixture::file(LEN);
    let target = fixture.scratch.folder("target");
    let peer = seeder_that_stops(&fixture, own_ip(), (PIECES_SENT * PIECE_LEN / BLOCK_LEN) as usize);
    let get = fixture.get_command(&target, &[peer]);
    let mut command = std::process::Command::new("nohup");
    command.arg(get.get_program()).args(get.get_args());
    let mut get = Running::start("get", &command, &fixture.scratch.join("get.log"));
    assert!(wait_until(DEADLINE, || correct_pieces(&fixture, &target) > 0), "{}", get.log_tail());
    get.signal(Signal::HUP);
    assert!(!wait_until(Duration::from_secs(1), || !get.is_running()), "{}", get.log_tail());
}

/// The change is detected however soon after the record it was made.
#[test]
fn content_altered_after_a_kill_is_detected() {
    const PIECES: u32 = 256;
    let fixture = Fixture::file(u64::from(PIECES * PIECE_LEN));
    let target = fixture.scratch.folder("target");
    // The record claims all but the last pieces, many more than are sampled.
    let mut have = Bitfield::full(PIECES);
    let geometry = &fixture.metainfo.info.geometry;
    (PIECES - 8..PIECES).for_each(|index| _ = have.remove(geometry.piece(index).unwrap()));
    let mut bytes = fixture.bytes();
    bytes[((PIECES - 8) * PIECE_LEN) as usize..].fill(0);
    fs::write(target.join(NAME), &bytes).unwrap();
    let record = ResumeRecord {
        info_hash: fixture.metainfo.info_hash,
        ended: false,
        written_at: fs::metadata(target.join(NAME)).unwrap().mtime(),
        files: vec![identity(&target.join(NAME))],
        have,
    };
    fs::write(target.join(format!(".{NAME}.bt-fast-resume")), record.encode()).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    bytes[5 * PIECE_LEN as usize] ^= 1;
    fs::write(target.join(NAME), &bytes).unwrap();
    let seed = fixture.seed();
    let finished = fixture.get(&target, &[seed.address]);
    assert_eq!(event(&finished.stdout, "complete").unwrap()["downloaded"], 9 * PIECE_LEN);
}

/// A record claims the first half of the content. Another program alters that half while the rest is downloaded, once
/// into another file and once into the same file.
#[test]
fn trusted_content_altered_during_a_download_is_detected() {
    const LEN: usize = 400 * PIECE_LEN as usize;
    for file_count in [2, 1] {
        let names = &["a", "b"][..file_count];
        let files: Vec<_> = names.iter().map(|&name| (name, (LEN / file_count) as u64)).collect();
        let fixture = Fixture::files(&files);
        let target = fixture.scratch.folder("target");
        fs::create_dir(target.join(NAME)).unwrap();
        let paths: Vec<_> = names.iter().map(|name| target.join(NAME).join(name)).collect();
        for path in &paths {
            File::create(path).unwrap().set_len((LEN / file_count) as u64).unwrap();
        }
        let first = fs::read(fixture.source.join(NAME).join("a")).unwrap();
        File::options().write(true).open(&paths[0]).unwrap().write_all_at(&first[..LEN / 2], 0).unwrap();
        let mut have = Bitfield::new(fixture.piece_count());
        let geometry = &fixture.metainfo.info.geometry;
        (0..200).for_each(|index| _ = have.insert(geometry.piece(index).unwrap()));
        let record = ResumeRecord {
            info_hash: fixture.metainfo.info_hash,
            ended: true,
            written_at: fs::metadata(&paths[0]).unwrap().mtime(),
            files: paths.iter().map(|path| identity(path)).collect(),
            have,
        };
        fs::write(target.join(format!(".{NAME}.bt-fast-resume")), record.encode()).unwrap();
        let address = own_address();
        let mut command = fixture.seed_command(address);
        command.args(["--up", "2M"]);
        let seed = Seed::start(&command, address, &fixture.scratch.join("slow.log"));
        let command = fixture.get_command(&target, &[seed.address]);
        let mut get = Running::start("get", &command, &fixture.scratch.join("get.log"));
        let moves = || {
            event(&get.output(), "progress")
                .is_some_and(|reported| reported["bytes_done"].as_u64() > Some(LEN as u64 / 2))
        };
        assert!(wait_until(DEADLINE, moves) && get.is_running(), "{}", get.log_tail());
        // Most of these pieces were not sampled at the start.
        let file = File::options().write(true).open(&paths[0]).unwrap();
        for at in (0..LEN / 2 - PIECE_LEN as usize).step_by(PIECE_LEN as usize) {
            file.write_all_at(&[!first[at]], at as u64).unwrap();
        }
        assert_eq!(exit_code(&mut get, DEADLINE), Some(3), "{}", get.log_tail());
        assert!(failures(&get.output())[0].contains("another program changed it"), "{}", get.output());
        let finished = fixture.get(&target, &[seed.address]);
        assert_eq!(event(&finished.stdout, "complete").unwrap()["downloaded"], 199 * PIECE_LEN);
        seed.stop();
    }
}

fn identity(path: &Path) -> FileIdentity {
    let stat = fs::metadata(path).unwrap();
    FileIdentity {
        dev: stat.dev(),
        ino: stat.ino(),
        len: stat.len(),
        mtime: FileTime { s: stat.mtime(), ns: stat.mtime_nsec() },
        ctime: FileTime { s: stat.ctime(), ns: stat.ctime_nsec() },
    }
}

#[test]
fn a_killed_download_resumes() {
    let fixture = Fixture::file(LEN);
    let target = fixture.scratch.folder("target");
    let mut get = half_downloaded(&fixture, &target);
    get.signal(Signal::KILL);
    assert_eq!(exit_code(&mut get, DEADLINE), None);
    resumes(&fixture, &target);
}

#[test]
fn a_stop_during_the_initial_check_is_fast() {
    let scratch = Scratch::new();
    // A sparse file takes no disk space and is too long to hash within the test.
    let (piece_len, piece_count) = (16 << 20, 8192);
    let info = [
        ("length", integer(piece_len * piece_count)),
        ("name", string(NAME)),
        ("piece length", integer(piece_len)),
        ("pieces", string(vec![7; 20 * piece_count])),
    ];
    let torrent = scratch.join("a.torrent");
    fs::write(&torrent, dictionary([("info", dictionary(info))]).0).unwrap();
    File::create(scratch.join(NAME)).unwrap().set_len((piece_len * piece_count) as u64).unwrap();
    // A seed listens before it checks, so it exits with 0.
    for (arguments, code) in [(&["get", "-o", "."][..], 130), (&["seed", "--verify", "full"], 0)] {
        let mut command = bt_fast();
        command.args(arguments).arg("--json").arg(&torrent).current_dir(scratch.path());
        let mut process = Running::start("check", &command, &scratch.join("log"));
        let checks = wait_until(DEADLINE, || event(&process.output(), "progress").is_some());
        assert!(checks && process.is_running(), "{}", process.log_tail());
        std::thread::sleep(Duration::from_millis(100));
        process.signal(Signal::INT);
        assert_eq!(exit_code(&mut process, STOP_DEADLINE), Some(code), "{}", process.log_tail());
        assert_eq!(failures(&process.output()).len(), usize::from(code != 0), "{}", process.output());
    }
}
