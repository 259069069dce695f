//! Tests of the real binary over loopback sockets: with itself, with scripted peers and with scripted trackers.

/// Turns functions into tests that run on each I/O driver: `ring::NAME` and `plain::NAME`.
macro_rules! test_on_both_drivers {
    ($($name:ident),+ $(,)?) => {
        mod ring {
            $(#[test] fn $name() { crate::loopback::with_driver("ring", super::$name); })+
        }
        mod plain {
            $(#[test] fn $name() { crate::loopback::with_driver("plain", super::$name); })+
        }
    };
}

mod display;
mod faults;
mod get;
mod kernels;
mod scripted_seeder;
mod seed;
mod storage;
mod tracker;

use std::{
    cell::Cell,
    ffi::OsStr,
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use bt_fast::codec::metainfo::{Metainfo, MetainfoLimits};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    bt_fast,
    content::{difference, write_random},
    process::{Finished, Running, run, wait_until},
    scratch::Scratch,
};

/// Deadline for operations that take well below a second on an idle machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// The time that the binary has to exit after SIGINT or SIGTERM: three seconds, and one more for a busy machine.
const STOP_DEADLINE: Duration = Duration::from_secs(4);
const PIECE_LEN: u32 = 32 << 10;
const LISTEN_PORT: u16 = 7000;
const NAME: &str = "content";

thread_local! {
    /// The I/O driver of the commands that this thread makes; `None` for the program's own choice.
    static DRIVER: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Runs a test on this I/O driver.
fn with_driver(driver: &'static str, test: fn()) {
    DRIVER.set(Some(driver));
    test();
}

/// Returns an address in 127/8 that no other test uses. Each role in a test has its own address, so ports never clash
/// and a ban affects only one peer.
fn own_ip() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [third, fourth] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let second = u8::try_from(std::process::id() % 200).unwrap() + 50;
    Ipv4Addr::new(127, second, third, fourth)
}

fn own_address() -> SocketAddr {
    (own_ip(), LISTEN_PORT).into()
}

/// Content in a temporary folder, and its torrent.
struct Fixture {
    scratch: Scratch,
    /// The folder that contains [`NAME`].
    source: PathBuf,
    torrent: PathBuf,
    metainfo: Metainfo,
}

impl Fixture {
    /// Creates one file of `len` random bytes.
    fn file(len: u64) -> Self {
        Self::file_with_trackers(len, &[])
    }

    /// Creates one file of `len` random bytes whose torrent has one tier per tracker.
    fn file_with_trackers(len: u64, trackers: &[&str]) -> Self {
        Self::made_by(trackers, PIECE_LEN, |root| write_random(root, len, fastrand::u64(..)))
    }

    fn file_with_piece_len(len: u64, piece_len: u32) -> Self {
        Self::made_by(&[], piece_len, |root| write_random(root, len, fastrand::u64(..)))
    }

    /// Creates a folder of files with these names and lengths and random bytes.
    fn files(files: &[(&str, u64)]) -> Self {
        Self::made_by(&[], PIECE_LEN, |root| {
            for (name, len) in files {
                write_random(&root.join(name), *len, fastrand::u64(..));
            }
        })
    }

    /// Creates the torrent of the file or folder that `make` writes at the given path.
    fn made_by(trackers: &[&str], piece_len: u32, make: impl FnOnce(&Path)) -> Self {
        let scratch = Scratch::new();
        let source = scratch.folder("source");
        make(&source.join(NAME));
        let torrent = scratch.join("a.torrent");
        let mut command = bt_fast();
        command.arg("create").arg(source.join(NAME)).arg("-o").arg(&torrent).args(["-l", &piece_len.to_string()]);
        for url in trackers {
            command.args(["-a", url]);
        }
        run(&command, DEADLINE).success();
        let metainfo = Metainfo::decode(&fs::read(&torrent).unwrap(), &MetainfoLimits::default()).unwrap();
        Self { scratch, source, torrent, metainfo }
    }

    fn piece_count(&self) -> u32 {
        self.metainfo.info.geometry.piece_count()
    }

    /// Returns the bytes of a single-file torrent's file.
    fn bytes(&self) -> Vec<u8> {
        fs::read(self.source.join(NAME)).unwrap()
    }

    /// Returns the bytes of all files, concatenated in torrent order.
    fn content(&self) -> Vec<u8> {
        let path = |elements: &[Vec<u8>]| -> PathBuf { elements.iter().map(|name| OsStr::from_bytes(name)).collect() };
        let files = self.metainfo.info.files.iter();
        files.flat_map(|file| fs::read(self.source.join(path(&file.path))).unwrap()).collect()
    }

    fn seed_command(&self, listen: SocketAddr) -> Command {
        let mut command = bt_fast();
        command.args(["seed", "--json"]).arg(&self.torrent).arg("--data").arg(&self.source);
        command.args(["--listen", &listen.to_string()]);
        command.args(DRIVER.get().iter().flat_map(|driver| ["--io", driver]));
        command
    }

    fn seed(&self) -> Seed {
        let address = own_address();
        Seed::start(&self.seed_command(address), address, &self.scratch.join("seed.log"))
    }

    /// Returns a `get` of the torrent into `target` from the given peers.
    fn get_command(&self, target: &Path, peers: &[SocketAddr]) -> Command {
        let mut command = bt_fast();
        command.args(["get", "--json"]).arg(&self.torrent).arg("-o").arg(target);
        command.args(["--listen", &own_address().to_string(), "--json-interval", "200ms"]);
        command.args(DRIVER.get().iter().flat_map(|driver| ["--io", driver]));
        for peer in peers {
            command.args(["--peer", &peer.to_string()]);
        }
        command
    }

    /// Downloads the torrent from these peers into `target` and compares the result with the source.
    #[track_caller]
    fn get(&self, target: &Path, peers: &[SocketAddr]) -> Finished {
        let finished = run(&self.get_command(target, peers), DEADLINE);
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        self.assert_complete(target);
        finished
    }

    /// Downloads the torrent from this peer into a new folder and compares the result with the source.
    #[track_caller]
    fn get_by_peer(&self, peer: SocketAddr) {
        self.get(&self.scratch.folder(&format!("target {}", fastrand::u32(..))), &[peer]);
    }

    #[track_caller]
    fn assert_complete(&self, target: &Path) {
        assert_eq!(difference(&self.source.join(NAME), &target.join(NAME), true), None);
    }
}

/// A running `bt-fast seed` that serves its torrent.
struct Seed {
    process: Running,
    address: SocketAddr,
}

impl Seed {
    #[track_caller]
    fn start(command: &Command, address: SocketAddr, log: &Path) -> Self {
        let mut process = Running::start("seed", command, log);
        let serves = wait_until(DEADLINE, || event(&process.output(), "seeding").is_some() || !process.is_running());
        assert!(serves && process.is_running(), "{}", process.log_tail());
        Self { process, address }
    }

    /// Stops the seed with SIGTERM and returns its `stopped` record.
    #[track_caller]
    fn stop(mut self) -> Value {
        self.process.signal(Signal::TERM);
        assert_eq!(exit_code(&mut self.process, STOP_DEADLINE), Some(0), "{}", self.process.log_tail());
        event(&self.process.output(), "stopped").expect("a final record")
    }
}

/// Waits for the process to end and returns its exit code; panics if it does not end in time.
#[track_caller]
fn exit_code(process: &mut Running, within: Duration) -> Option<i32> {
    let status = process.wait(within);
    status.unwrap_or_else(|| panic!("does not end\n{}", process.log_tail())).code()
}

/// Returns the last JSON record of this event in the output of a process.
fn event(output: &str, name: &str) -> Option<Value> {
    let mut records = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.rfind(|record| record["event"] == name)
}

/// Returns the error lines of the output, without warnings.
fn failures(output: &str) -> Vec<&str> {
    let lines = output.lines().filter(|line| line.starts_with("bt-fast:"));
    lines.filter(|line| !line.starts_with("bt-fast: warning:")).collect()
}

fn warnings(output: &str) -> Vec<&str> {
    output.lines().filter(|line| line.starts_with("bt-fast: warning:")).collect()
}

/// Asserts that the command failed with this exit code and printed one error line, which contains `part`.
#[track_caller]
fn assert_fails(finished: &Finished, code: i32, part: &str) {
    assert_eq!(finished.code, Some(code), "{finished:#?}");
    let lines = failures(&finished.stderr);
    assert!(lines.len() == 1 && lines[0].contains(part), "{part}: {finished:#?}");
    assert!(!finished.stderr.contains("panicked"), "{finished:#?}");
}
