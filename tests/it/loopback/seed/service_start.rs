//! The start of an origin: it listens before it hashes content, and content that cannot be served does not stop the
//! rest.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::loopback::seed::operations::Manager;
use crate::loopback::{DEADLINE, Fixture, NAME, STOP_DEADLINE, assert_fails, event, exit_code, own_address};
use crate::support::{
    bt_fast,
    content::write_random,
    http_client::get,
    process::{Running, run, wait_until},
    scratch::Scratch,
};

const LEN: u64 = (1 << 20) + 77;
/// A sparse file that takes no disk space and hours to hash.
const SPARSE_LEN: u64 = 1 << 40;
/// The `TimeoutStartSec=` of a service.
const START_TIMEOUT: Duration = Duration::from_secs(10);

fn sparse(path: &Path) -> PathBuf {
    File::create(path).unwrap().set_len(SPARSE_LEN).unwrap();
    path.to_owned()
}

fn seed(paths: &[&Path], scratch: &Scratch) -> Command {
    let mut command = bt_fast();
    command.args(["seed", "--json", "--admin", "off", "--listen", &own_address().to_string()]).args(paths);
    command.env("XDG_CACHE_HOME", scratch.join("cache"));
    command
}

fn seedings(process: &Running) -> usize {
    process.output().matches("\"event\":\"seeding\"").count()
}

/// The first message reports that the service is ready: no hashing precedes it.
#[test]
fn a_service_is_ready_before_its_content_is_hashed() {
    let fixture = Fixture::file(LEN);
    let big = sparse(&fixture.scratch.join("big"));
    let manager = Manager::new(&fixture.scratch.join("notify"));
    let (address, web) = (own_address(), own_address());
    let mut command = bt_fast();
    command.args(["seed", "--json", "-q", "--admin", "off"]).arg(&big).arg(&fixture.torrent);
    command.arg("--data").arg(&fixture.source);
    command.args(["--listen", &address.to_string(), "--web", &web.to_string()]);
    command.env("NOTIFY_SOCKET", fixture.scratch.join("notify"));
    let started = Instant::now();
    let mut process = Running::start("seed", &command, &fixture.scratch.join("log"));
    let ready = manager.receive();
    assert!(ready.starts_with("READY=1\n") && started.elapsed() < START_TIMEOUT, "{ready}");
    fixture.get_by_peer(address);
    while !manager.receive().contains("hashing big, ") {}
    let page = get(web, "/", "").text().to_owned();
    assert!(page.contains("<h2>big</h2>") && page.contains("1 TiB · hashing ") && page.contains(NAME), "{page}");
    let hashing = |output: &str| output.contains("\"phase\":\"hashing\"") && output.contains(&SPARSE_LEN.to_string());
    assert!(wait_until(DEADLINE, || hashing(&process.output())), "{}", process.log_tail());
    process.signal(Signal::TERM);
    assert_eq!(exit_code(&mut process, STOP_DEADLINE), Some(0), "{}", process.log_tail());
}

/// With lazy verification a torrent of a sparse file is served at once.
#[test]
fn a_tebibyte_is_served_at_once_with_lazy_checks() {
    let scratch = Scratch::new();
    sparse(&scratch.join("big"));
    let piece_len: u64 = 16 << 20;
    let mut torrent = format!("d4:infod6:lengthi{SPARSE_LEN}e4:name3:big12:piece lengthi{piece_len}e").into_bytes();
    let hashes = usize::try_from(SPARSE_LEN / piece_len).unwrap() * 20;
    torrent.extend(format!("6:pieces{hashes}:").as_bytes());
    torrent.resize(torrent.len() + hashes, 0);
    torrent.extend(b"ee");
    fs::write(scratch.join("big.torrent"), torrent).unwrap();
    let started = Instant::now();
    let mut process = Running::start("seed", &seed(&[&scratch.join("big.torrent")], &scratch), &scratch.join("log"));
    assert!(wait_until(START_TIMEOUT, || seedings(&process) == 1), "{}", process.log_tail());
    assert!(started.elapsed() < START_TIMEOUT);
    process.signal(Signal::TERM);
    assert_eq!(exit_code(&mut process, STOP_DEADLINE), Some(0), "{}", process.log_tail());
}

#[test]
fn a_path_that_cannot_be_served_does_not_stop_the_rest() {
    let fixture = Fixture::file(LEN);
    let good = fixture.source.join(NAME);
    let empty = fixture.scratch.folder("lost+found");
    let broken = fixture.scratch.join("broken.torrent");
    fs::write(&broken, "le").unwrap();
    let without_data = fixture.scratch.join("without data.torrent");
    fs::copy(&fixture.torrent, &without_data).unwrap();
    let missing = fixture.scratch.join("missing");
    let special = fixture.scratch.join("special");
    run(Command::new("mkfifo").arg(&special), DEADLINE).success();
    let paths = [&empty, &broken, &without_data, &missing, &special, &good];
    let paths = paths.map(PathBuf::as_path);
    let mut command = seed(&paths, &fixture.scratch);
    command.arg("-q");
    let mut process = Running::start("seed", &command, &fixture.scratch.join("log"));
    assert!(wait_until(DEADLINE, || seedings(&process) == 1), "{}", process.log_tail());
    let reported = process.log_tail();
    for path in &paths[..5] {
        let place = path.file_name().unwrap().to_str().unwrap();
        let lines = reported.lines().filter(|line| line.starts_with("bt-fast: not served: "));
        let of_path = lines.filter(|line| line.contains(place) || place.starts_with("without")).count();
        assert!(of_path > 0, "{place}: {reported}");
    }
    process.signal(Signal::TERM);
    assert_eq!(exit_code(&mut process, STOP_DEADLINE), Some(0), "{reported}");
}

#[test]
fn a_seed_ends_when_nothing_is_left_to_serve() {
    let fixture = Fixture::file(LEN);
    let empty = fixture.scratch.folder("lost+found");
    let without_data = fixture.scratch.join("without data.torrent");
    fs::copy(&fixture.torrent, &without_data).unwrap();
    let nothing = |paths: &[&Path], code, part| {
        assert_fails(&run(&seed(paths, &fixture.scratch), DEADLINE), code, part);
    };
    nothing(&[&empty], 1, "no content: ");
    nothing(&[&without_data], 3, "no data: ");
    let finished = run(&seed(&[&without_data, &empty], &fixture.scratch), DEADLINE);
    let last = finished.stderr.lines().last().unwrap_or_default();
    assert!(finished.code == Some(3) && last.contains("nothing is left to serve: no data: "), "{finished:#?}");
    // This content is found to be wrong only by hashing it.
    let other = fixture.scratch.folder("other");
    write_random(&other.join(NAME), LEN, 1);
    let mut command = seed(&[&fixture.torrent], &fixture.scratch);
    command.args(["--verify", "full", "--data"]).arg(&other);
    assert_fails(&run(&command, DEADLINE), 3, "no data: ");
}

/// A service that was killed during its first start does not hash finished files again.
#[test]
fn a_restart_after_a_kill_hashes_nothing_twice() {
    let scratch = Scratch::new();
    let first = scratch.join("first");
    write_random(&first, LEN, 7);
    let big = sparse(&scratch.join("big"));
    // The check of a file that was just written is not cached.
    std::thread::sleep(Duration::from_millis(3100));
    let command = seed(&[&first, &big], &scratch);
    for remembered in [false, true] {
        let mut process = Running::start("seed", &command, &scratch.join("log"));
        assert!(wait_until(DEADLINE, || seedings(&process) == 1), "{}", process.log_tail());
        let record = event(&process.output(), "seeding").unwrap();
        assert_eq!((&record["name"], record["remembered"].is_null()), (&"first".into(), !remembered));
        process.signal(Signal::KILL);
        assert!(process.wait(STOP_DEADLINE).is_some());
    }
}
