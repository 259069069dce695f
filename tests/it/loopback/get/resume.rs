//! A download that is interrupted, however rudely, goes on where it was.

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
    content::write_random,
    process::{Finished, Running, run, wait_until},
    scratch::Scratch,
};

const LEN: u64 = 4 << 20;
/// What a peer sends before it falls silent.
const PIECES_SENT: u32 = 26;

/// A `get` that has all its peer sends, whole pieces one after another, and waits for more.
fn half_way(fixture: &Fixture, target: &Path) -> Running {
    let peer = seeder_that_stops(fixture, own_ip(), (PIECES_SENT * PIECE_LEN / BLOCK_LEN) as usize);
    let command = fixture.get_command(target, &[peer]);
    let before = right_pieces(fixture, target);
    let mut get = Running::start("get", &command, &fixture.scratch.join("get.log"));
    let moved = wait_until(DEADLINE, || right_pieces(fixture, target) == before + u64::from(PIECES_SENT));
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
fn goes_on(fixture: &Fixture, target: &Path) -> Finished {
    let len = fixture.metainfo.info.geometry.total_len();
    let missing = len - right_pieces(fixture, target) * u64::from(PIECE_LEN);
    assert!(missing < len);
    let seed = fixture.seed();
    let finished = fixture.get(target, &[seed.address]);
    assert_eq!(event(&finished.stdout, "complete").unwrap()["downloaded"], missing);
    assert_eq!(seed.stop()["uploaded"], missing);
    assert_no_litter(target);
    finished
}

/// A download that was stopped in order; its record claims all that is right.
fn stopped(fixture: &Fixture) -> PathBuf {
    let target = fixture.scratch.folder("target");
    let mut get = half_way(fixture, &target);
    get.signal(Signal::INT);
    assert_eq!(exit_code(&mut get, STOP_DEADLINE), Some(130), "{}", get.log_tail());
    assert_eq!(assert_claims(fixture, &target) as u64, right_pieces(fixture, &target));
    target
}

/// Makes the record fit the file as it is now.
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
    // All of it is right now, and nobody looks.
    fs::write(target.join(NAME), fixture.bytes()).unwrap();
    let claimed = stamp(&fixture, &target).have.count() as u64;
    let seed = fixture.seed();
    let finished = fixture.get(&target, &[seed.address]);
    let downloaded = LEN - claimed * u64::from(PIECE_LEN);
    assert_eq!(event(&finished.stdout, "complete").unwrap()["downloaded"], downloaded);
    assert_eq!(warnings(&finished.stderr), [""; 0]);
}

/// One line says why the record is not used, and everything that is right is found all the same.
#[track_caller]
fn checks_all(fixture: &Fixture, target: &Path, why: &str) {
    let finished = goes_on(fixture, target);
    let told = warnings(&finished.stderr);
    assert!(told.len() == 1 && told[0].contains(why), "{finished:#?}");
}

#[test]
fn a_damaged_record_causes_a_full_check() {
    let fixture = Fixture::file(LEN);
    let target = stopped(&fixture);
    let path = target.join(format!(".{NAME}.bt-fast-resume"));
    let mut bytes = fs::read(&path).unwrap();
    // Behind the info-hash.
    let at = fastrand::usize(36..bytes.len());
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    checks_all(&fixture, &target, "damaged");
}

#[test]
fn a_record_of_another_torrent_causes_a_full_check() {
    let (fixture, longer) = (Fixture::file(LEN), Fixture::file(4 * LEN));
    let name = format!(".{NAME}.bt-fast-resume");
    let targets = [stopped(&fixture), stopped(&longer)];
    let records = targets.each_ref().map(|target| fs::read(target.join(&name)).unwrap());
    for (fixture, target, record) in [(&fixture, &targets[0], &records[1]), (&longer, &targets[1], &records[0])] {
        fs::write(target.join(&name), record).unwrap();
        checks_all(fixture, target, "it belongs to another torrent");
    }
}

/// Spoils the first piece that is claimed.
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
    checks_all(&fixture, &target, "is not as the run before left it");
}

/// Nothing but the samples can tell.
#[test]
fn samples_find_an_altered_file_with_unchanged_times() {
    let fixture = Fixture::file(LEN);
    let target = stopped(&fixture);
    alter(&fixture, &target);
    assert!(stamp(&fixture, &target).have.count() <= 64, "each of them is a sample");
    checks_all(&fixture, &target, "a piece does not match it");
}

#[test]
fn a_target_allows_one_process_at_a_time() {
    let fixture = Fixture::file(LEN);
    let target = fixture.scratch.folder("target");
    let mut get = half_way(&fixture, &target);
    let before = fs::read(target.join(NAME)).unwrap();
    let second = run(&fixture.get_command(&target, &[]), DEADLINE);
    assert_fails(&second, 1, &format!("process {} is downloading it", get.id()));
    assert!(get.is_running() && fs::read(target.join(NAME)).unwrap() == before);
    get.signal(Signal::KILL);
    get.wait(DEADLINE).unwrap();
    goes_on(&fixture, &target);
}

#[test]
fn ctrl_c_keeps_the_progress() {
    let fixture = Fixture::file(LEN);
    let target = fixture.scratch.folder("target");
    let mut get = half_way(&fixture, &target);
    get.signal(Signal::INT);
    assert_eq!(exit_code(&mut get, STOP_DEADLINE), Some(130), "{}", get.log_tail());
    assert_eq!(failures(&get.output()).len(), 1, "{}", get.output());
    goes_on(&fixture, &target);
}

#[test]
fn sigterm_in_successive_runs_keeps_the_progress() {
    let fixture = Fixture::file(LEN);
    let target = fixture.scratch.folder("target");
    for _ in 0..2 {
        let mut get = half_way(&fixture, &target);
        get.signal(Signal::TERM);
        assert_eq!(exit_code(&mut get, STOP_DEADLINE), Some(130), "{}", get.log_tail());
    }
    goes_on(&fixture, &target);
}

/// A closed terminal, a limit of processor time, a stray signal: the record is written all the same.
#[test]
fn every_terminating_signal_keeps_the_progress() {
    let fixture = Fixture::file(LEN);
    for signal in [Signal::HUP, Signal::QUIT, Signal::USR1, Signal::ALARM, Signal::XCPU] {
        let target = fixture.scratch.folder(&format!("target {}", signal.as_raw()));
        let mut get = half_way(&fixture, &target);
        get.signal(signal);
        assert_eq!(exit_code(&mut get, STOP_DEADLINE), Some(130), "{signal:?}: {}", get.log_tail());
        assert_eq!(assert_claims(&fixture, &target) as u64, right_pieces(&fixture, &target), "{signal:?}");
        goes_on(&fixture, &target);
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
    assert!(wait_until(DEADLINE, || right_pieces(&fixture, &target) > 0), "{}", get.log_tail());
    get.signal(Signal::HUP);
    assert!(!wait_until(Duration::from_secs(1), || !get.is_running()), "{}", get.log_tail());
}

/// However soon after the record another program has written to a claimed piece.
#[test]
fn content_altered_after_a_kill_is_detected() {
    const PIECES: u32 = 256;
    let fixture = Fixture::file(u64::from(PIECES * PIECE_LEN));
    let target = fixture.scratch.folder("target");
    // All but the last pieces are claimed, many more than are sampled.
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

/// A file that is believed whole, and that another program writes to while the rest is downloaded.
/// A record claims the first half of the content, and a byte of it is altered while the rest is downloaded: into another file, and
/// into the same one.
#[test]
fn trusted_content_altered_during_a_download_is_detected() {
    const LEN: usize = 400 * PIECE_LEN as usize;
    for file_count in [2, 1] {
        let fixture = Fixture::made_by(&[], PIECE_LEN, |root| {
            fs::create_dir(root).unwrap();
            let write = |name: &&str| write_random(&root.join(name), (LEN / file_count) as u64, fastrand::u64(..));
            ["a", "b"][..file_count].iter().for_each(write);
        });
        let target = fixture.scratch.folder("target");
        fs::create_dir(target.join(NAME)).unwrap();
        let paths: Vec<_> = ["a", "b"][..file_count].iter().map(|name| target.join(NAME).join(name)).collect();
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
        let moves =
            || event(&get.output(), "progress").is_some_and(|told| told["bytes_done"].as_u64() > Some(LEN as u64 / 2));
        assert!(wait_until(DEADLINE, moves) && get.is_running(), "{}", get.log_tail());
        // Whatever was sampled at the start, most of these were not.
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
    let mut get = half_way(&fixture, &target);
    get.signal(Signal::KILL);
    assert_eq!(exit_code(&mut get, DEADLINE), None);
    goes_on(&fixture, &target);
}

#[test]
fn a_stop_during_the_initial_check_is_fast() {
    let scratch = Scratch::new();
    // Holes take no space on disk, and longer to hash than anybody waits.
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
    // A seed has opened its doors before it checks.
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
