//! `bench loopback`: random content is created, tracked, seeded, got and verified on this machine.
//!
//! Seed and get are processes of their own, as users run them, so that each side's processor time is its own.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::content::write_random;
use crate::codec::metainfo::{Metainfo, MetainfoLimits};
use crate::create::{Control, Plan, verify};
use crate::hash::Kernel;
use crate::tracker::Table;
use crate::web;

/// What is measured.
#[derive(Debug)]
pub struct Settings {
    /// Content in bytes, at least 1.
    pub len: u64,
    /// `None`: as `create` chooses it.
    pub piece_len: Option<u32>,
    /// Folder for everything that is made, which must be empty.
    pub folder: PathBuf,
    /// Ring threads of each side.
    pub ring_count: usize,
    /// Bytes of piece memory of the getting side.
    pub arena_len: u64,
    /// What each side hashes with.
    pub hash_kernel: Kernel,
}

/// What came of it. Rates are content bytes per second, times are seconds.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub bytes: u64,
    pub piece_length: u32,
    pub rings: usize,
    pub create_s: f64,
    /// From starting `get` to its end, everything verified and written.
    pub transfer_s: f64,
    /// Hashing the received files once more.
    pub verify_s: f64,
    pub seed: Side,
    pub get: Side,
    /// From queueing a request to its block, in microseconds.
    pub latency_p50_us: u64,
    pub latency_p99_us: u64,
    pub latency_p999_us: u64,
    pub wasted_bytes: u64,
}

/// What one process used.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Side {
    pub cpu_user_s: f64,
    pub cpu_system_s: f64,
    /// Processor seconds for each 10^9 bytes of content.
    pub cpu_s_per_gb: f64,
    /// Largest resident memory in bytes, mapped file pages included.
    pub memory_peak: u64,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("{what}: {error}")]
    Io { what: &'static str, error: io::Error },
    #[error("create: {0}")]
    Create(#[from] crate::create::CreateError),
    #[error("verify: {0}")]
    Verify(#[from] crate::create::ContentError),
    #[error("{side} ended early: {line}")]
    Ended { side: &'static str, line: String },
    #[error("the received files differ from what was sent")]
    Differs,
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> BenchError {
    move |error| BenchError::Io { what, error }
}

/// Runs it once; `phase` hears what is being done.
pub fn run(settings: &Settings, phase: &mut dyn FnMut(&str)) -> Result<Figures, BenchError> {
    let (from, to) = (settings.folder.join("seed"), settings.folder.join("get"));
    fs::create_dir(&from).and_then(|()| fs::create_dir(&to)).map_err(io_error("make folders"))?;
    phase("making content");
    let content = from.join("content.bin");
    write_random(&content, settings.len, settings.len).map_err(io_error("make content"))?;

    let tracker = start_tracker().map_err(io_error("start the tracker"))?;
    phase("creating");
    let torrent = settings.folder.join("content.torrent");
    let create_s = create(&content, &torrent, settings, tracker)?;
    let metainfo = fs::read(&torrent).map_err(io_error("read the torrent"))?;
    let Ok(metainfo) = Metainfo::decode(&metainfo, &MetainfoLimits::default()) else {
        return Err(BenchError::Differs);
    };

    phase("transferring");
    let mut seed = Running::start("seed", &torrent, &["--verify", "none", "--data"], &from, settings)?;
    seed.wait_for("seeding")?;
    let started = Instant::now();
    let mut get = Running::start("get", &torrent, &["-o"], &to, settings)?;
    let got = get.wait_for("complete")?;
    get.wait()?;
    let transfer_s = started.elapsed().as_secs_f64();
    let sent = seed.stop()?;

    phase("verifying");
    let started = Instant::now();
    let report = verify(&metainfo.info, &to, Control { cancel: &AtomicBool::new(false), progress: &|_| () })?;
    if !report.is_match() {
        return Err(BenchError::Differs);
    }
    let figure = |key: &str| got.get(key).and_then(Value::as_u64).unwrap_or(0);
    Ok(Figures {
        bytes: settings.len,
        piece_length: metainfo.info.geometry.piece_len(),
        rings: settings.ring_count,
        create_s,
        transfer_s,
        verify_s: started.elapsed().as_secs_f64(),
        seed: Side::of(&sent, settings.len),
        get: Side::of(&got, settings.len),
        latency_p50_us: figure("latency_p50_us"),
        latency_p99_us: figure("latency_p99_us"),
        latency_p999_us: figure("latency_p999_us"),
        wasted_bytes: figure("wasted"),
    })
}

impl Side {
    #[expect(clippy::cast_precision_loss, reason = "a measurement")]
    fn of(record: &Value, len: u64) -> Self {
        let seconds = |key: &str| record.get(key).and_then(Value::as_f64).unwrap_or(0.0);
        let (cpu_user_s, cpu_system_s) = (seconds("cpu_user_s"), seconds("cpu_system_s"));
        Self {
            cpu_user_s,
            cpu_system_s,
            cpu_s_per_gb: (cpu_user_s + cpu_system_s) * 1e9 / len as f64,
            memory_peak: record.get("memory_peak").and_then(Value::as_u64).unwrap_or(0),
        }
    }
}

/// Hashes the content and writes the torrent; returns the seconds it took.
fn create(content: &Path, torrent: &Path, settings: &Settings, tracker: u16) -> Result<f64, BenchError> {
    let tiers = vec![vec![format!("http://127.0.0.1:{tracker}/announce")]];
    let options = crate::create::Settings { piece_len: settings.piece_len, tiers, ..Default::default() };
    let started = Instant::now();
    let plan = Plan::new(content, &options, Some(torrent))?;
    let created = plan.build(&options, Control { cancel: &AtomicBool::new(false), progress: &|_| () })?;
    let seconds = started.elapsed().as_secs_f64();
    fs::write(torrent, created.bytes).map_err(io_error("write the torrent"))?;
    Ok(seconds)
}

/// A tracker on a thread of this process; returns its port. It ends with the process.
fn start_tracker() -> io::Result<u16> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("tracker".into()).spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            web::tracker::serve(listener, Arc::new(Mutex::new(Table::open()))).await
        })
    })?;
    Ok(port)
}

/// A `bt-fast` that was started, with its records. Killed when dropped.
struct Running {
    side: &'static str,
    child: Child,
    records: io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Running {
    fn start(
        side: &'static str,
        torrent: &Path,
        folder_flags: &[&str],
        folder: &Path,
        settings: &Settings,
    ) -> Result<Self, BenchError> {
        let program = std::env::current_exe().map_err(io_error("find this program"))?;
        let mut child = Command::new(program)
            .arg(side)
            .arg(torrent)
            .args(folder_flags)
            .arg(folder)
            .args(["--json", "--listen", "127.0.0.1:0", "--rings", &settings.ring_count.to_string()])
            .args(["--arena", &settings.arena_len.to_string(), "--hash-kernel", settings.hash_kernel.name()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(io_error("start this program"))?;
        let Some(stdout) = child.stdout.take() else {
            return Err(BenchError::Ended { side, line: "no output".into() });
        };
        Ok(Self { side, child, records: BufReader::new(stdout).lines() })
    }

    /// The next record of this event.
    fn wait_for(&mut self, event: &str) -> Result<Value, BenchError> {
        for line in &mut self.records {
            let record = line.ok().and_then(|line| serde_json::from_str::<Value>(&line).ok()).unwrap_or_default();
            if record.get("event").and_then(Value::as_str) == Some(event) {
                return Ok(record);
            }
        }
        let mut text = String::new();
        if let Some(stderr) = self.child.stderr.as_mut() {
            let _ = stderr.take(4096).read_to_string(&mut text);
        }
        Err(BenchError::Ended { side: self.side, line: text.lines().last().unwrap_or_default().to_owned() })
    }

    fn wait(&mut self) -> Result<(), BenchError> {
        self.child.wait().map(|_| ()).map_err(io_error("wait for a process"))
    }

    /// Ends a seed as Ctrl-C does; returns its last record.
    fn stop(&mut self) -> Result<Value, BenchError> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .map_err(|error| BenchError::Io { what: "stop a process", error: error.into() })?;
        let last = self.wait_for("stopped");
        self.wait()?;
        last
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            // It may have ended meanwhile.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Figures {
    /// Content bytes for each second of `seconds`.
    pub fn rate(&self, seconds: f64) -> crate::base::units::Rate {
        crate::base::units::Rate { bytes: self.bytes, over: Duration::from_secs_f64(seconds) }
    }
}
