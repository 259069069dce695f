//! The bare pair: two processes that do the work of a BitTorrent transfer without the protocol. It is the bound for all
//! other figures.
//!
//! Both have plain threads. The sender sends blocks, each with a message head, sixteen to a `sendmsg`. The receiver
//! splits heads and blocks with `recvmsg`, hashes several pieces together and writes them. It does not compare the
//! hashes.

mod receive;
mod send;

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(super) use receive::open_to_write;

use super::process::Running;
use super::{BenchError, gb_per_s, io_error, per_gb};
use crate::base::geometry::BLOCK_LEN;
use crate::codec::message::PIECE_HEAD_LEN;
use crate::hash::Kernel;

/// Blocks of one `sendmsg`.
const BLOCKS_PER_SEND: usize = 16;
const BLOCK: usize = BLOCK_LEN as usize;

/// The settings of the bare pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PairSettings {
    /// Bytes to move, which are rounded up to whole runs.
    pub(super) len: u64,
    /// A power of two of at least 16 KiB.
    pub(super) piece_len: u32,
    pub(super) work: Work,
    pub(super) hash_kernel: Kernel,
}

/// The work of the receiving side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Work {
    /// Read 1 MiB at a time and discard it: raw TCP.
    Discard,
    /// Read blocks into pieces and hash the pieces.
    Hash,
    /// Read and hash pieces, and write them to a file.
    Write { path: PathBuf, mode: FileMode },
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FileMode {
    /// Through the page cache.
    Buffered,
    /// Past the page cache, if the file system supports it.
    Direct,
}

/// The figures of one run of the bare pair.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct PairFigures {
    /// Time from the start of the receiving process to its exit, as measured for `get`.
    pub seconds: f64,
    pub gb_per_s: f64,
    pub seed_cpu_s_per_gb: f64,
    pub get_cpu_s_per_gb: f64,
}

/// The job of a side, which its process reads as one line of JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Part {
    Send(Shape),
    Receive { shape: Shape, port: u16, work: Work },
}

/// How content is divided: into runs, which take turns over the connections.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Shape {
    run_count: u64,
    /// Bytes of a run: one piece, or several short ones that fit one `sendmsg`.
    run_len: usize,
    piece_len: usize,
    connection_count: usize,
}

impl Shape {
    fn new(settings: &PairSettings) -> Self {
        let run_len = (settings.piece_len as usize).max(BLOCKS_PER_SEND * BLOCK);
        Self {
            run_count: settings.len.div_ceil(run_len as u64),
            run_len,
            piece_len: settings.piece_len as usize,
            connection_count: cores(),
        }
    }

    fn len(&self) -> u64 {
        self.run_count * self.run_len as u64
    }

    /// The indices of the runs of a connection.
    fn runs(&self, connection: usize) -> impl Iterator<Item = u64> + use<> {
        (connection as u64..self.run_count).step_by(self.connection_count)
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Runs the bare pair once.
pub(super) fn pair(settings: &PairSettings) -> Result<PairFigures, BenchError> {
    let shape = Shape::new(settings);
    let mut seed = start(&Part::Send(shape), settings.hash_kernel)?;
    let port = seed.wait_for("listening", &mut |_| ())?;
    let port = port.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()).unwrap_or_default();
    let started = Instant::now();
    let mut get = start(&Part::Receive { shape, port, work: settings.work.clone() }, settings.hash_kernel)?;
    let got = get.wait_for("done", &mut |_| ())?;
    get.wait()?;
    let seconds = started.elapsed().as_secs_f64();
    let sent = seed.wait_for("done", &mut |_| ())?;
    seed.wait()?;
    let cpu = |record: &Value| per_gb(record.get("cpu_s").and_then(Value::as_f64).unwrap_or(0.0), shape.len());
    Ok(PairFigures {
        seconds,
        gb_per_s: gb_per_s(shape.len(), seconds),
        seed_cpu_s_per_gb: cpu(&sent),
        get_cpu_s_per_gb: cpu(&got),
    })
}

fn start(part: &Part, kernel: Kernel) -> Result<Running, BenchError> {
    let mut job =
        serde_json::to_vec(part).map_err(|error| BenchError::Io { what: "write the job", error: error.into() })?;
    job.push(b'\n');
    Running::start("the bare pair", ["bench", "side", "--hash-kernel", kernel.name()], &job)
}

/// Runs one side of the pair: reads its job from `input`, and writes records to `output`.
pub fn side(input: &mut dyn BufRead, output: &mut dyn Write) -> Result<(), BenchError> {
    let mut job = String::new();
    input.read_line(&mut job).map_err(io_error("read the job"))?;
    let part =
        serde_json::from_str(&job).map_err(|error| BenchError::Io { what: "read the job", error: error.into() })?;
    let mut say = |record: Value| writeln!(output, "{record}").and_then(|()| output.flush());
    let cpu_s = match part {
        Part::Send(shape) => send::run(shape, &mut |port| say(json!({ "event": "listening", "port": port }))),
        Part::Receive { shape, port, work } => receive::run(shape, port, &work),
    };
    let cpu_s = cpu_s.map_err(io_error("the bare pair"))?.as_secs_f64();
    say(json!({ "event": "done", "cpu_s": cpu_s })).map_err(io_error("write to standard output"))
}

/// Returns the processor time of all threads of this process.
pub(super) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Joins threads, and returns their first error.
pub(super) fn join_all<'a>(
    threads: impl IntoIterator<Item = thread::ScopedJoinHandle<'a, io::Result<()>>>,
) -> io::Result<()> {
    let panicked = |_| Err(io::Error::other("a thread panicked"));
    let ends: Vec<io::Result<()>> = threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect();
    ends.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    /// Runs both sides in this process: the file must hold what was sent.
    #[test]
    fn the_pair_writes_every_byte_to_its_place() {
        let folder = tempfile::tempdir().unwrap();
        for (piece_len, mode) in [(16 << 10, FileMode::Buffered), (1 << 20, FileMode::Direct)] {
            let path = folder.path().join("received");
            let work = Work::Write { path: path.clone(), mode };
            let settings = PairSettings { len: 5_000_000, piece_len, work: work.clone(), hash_kernel: Kernel::Auto };
            let shape = Shape::new(&settings);
            let (port, ports) = std::sync::mpsc::channel();
            let sender = thread::spawn(move || {
                send::run(shape, &mut |at| {
                    port.send(at).unwrap();
                    Ok(())
                })
            });
            receive::run(shape, ports.recv().unwrap(), &work).unwrap();
            sender.join().unwrap().unwrap();
            let mut received = Vec::new();
            std::fs::File::open(&path).unwrap().read_to_end(&mut received).unwrap();
            assert_eq!(received.len() as u64, shape.len());
            let content = send::content(&shape);
            assert!(
                received
                    .chunks(shape.run_len)
                    .zip(0..)
                    .all(|(run, index)| *run == *send::run_of(&content, &shape, index))
            );
        }
    }

    #[test]
    fn every_run_has_one_connection() {
        let shape = Shape { run_count: 10, run_len: 1 << 20, piece_len: 1 << 20, connection_count: 3 };
        let mut runs: Vec<u64> = (0..3).flat_map(|connection| shape.runs(connection)).collect();
        runs.sort_unstable();
        assert_eq!(runs, (0..10).collect::<Vec<_>>());
    }
}
