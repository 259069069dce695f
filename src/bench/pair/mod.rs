//! The bare pair: what BitTorrent moves and does with it, without BitTorrent. The bound that everything is shown against.
//!
//! Two processes of plain threads: one sends blocks in front of which stand heads, sixteen to a `sendmsg`; the other takes
//! heads and blocks apart with `recvmsg`, hashes pieces side by side and writes them. No protocol, no checks, no verdict.

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

/// What is moved, and what is done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PairSettings {
    /// Bytes, rounded up to whole runs.
    pub(super) len: u64,
    /// A power of two from 16 KiB.
    pub(super) piece_len: u32,
    pub(super) work: Work,
    pub(super) hash_kernel: Kernel,
}

/// What the receiving side does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Work {
    /// Reads a mebibyte at a time and throws it away: raw TCP.
    Discard,
    /// Takes blocks to their place and hashes them.
    Hash,
    /// And writes them to a file, through the page cache or past it.
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

/// What came of it.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct PairFigures {
    /// From starting the receiving process to its end, as `get` is timed.
    pub seconds: f64,
    pub gb_per_s: f64,
    pub seed_cpu_s_per_gb: f64,
    pub get_cpu_s_per_gb: f64,
}

/// A side's part, which its process reads as one line of JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Part {
    Send(Shape),
    Receive { shape: Shape, port: u16, work: Work },
}

/// How content goes over the wire: run after run in turn over the connections.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Shape {
    run_count: u64,
    /// Bytes: one piece, or as many short ones as one `sendmsg` takes.
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

    /// The runs of a connection.
    fn runs(&self, connection: usize) -> impl Iterator<Item = u64> + use<> {
        (connection as u64..self.run_count).step_by(self.connection_count)
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Runs it once.
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
    let mut order =
        serde_json::to_vec(part).map_err(|error| BenchError::Io { what: "tell a side", error: error.into() })?;
    order.push(b'\n');
    Running::start("the bare pair", ["bench", "side", "--hash-kernel", kernel.name()], &order)
}

/// One side of the pair: what its process does.
pub fn side(input: &mut dyn BufRead, output: &mut dyn Write) -> Result<(), BenchError> {
    let mut order = String::new();
    input.read_line(&mut order).map_err(io_error("read the order"))?;
    let part =
        serde_json::from_str(&order).map_err(|error| BenchError::Io { what: "read the order", error: error.into() })?;
    let mut say = |record: Value| writeln!(output, "{record}").and_then(|()| output.flush());
    let cpu_s = match part {
        Part::Send(shape) => send::run(shape, &mut |port| say(json!({ "event": "listening", "port": port }))),
        Part::Receive { shape, port, work } => receive::run(shape, port, &work),
    };
    let cpu_s = cpu_s.map_err(io_error("the bare pair"))?.as_secs_f64();
    say(json!({ "event": "done", "cpu_s": cpu_s })).map_err(io_error("write to standard output"))
}

/// Processor time of this process, all threads.
pub(super) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The first error of these threads.
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

    /// Both sides in this process: what was sent is what lies in the file.
    #[test]
    fn the_pair_moves_every_byte_to_its_place() {
        let folder = tempfile::tempdir().unwrap();
        for (piece_len, mode) in [(16 << 10, FileMode::Buffered), (1 << 20, FileMode::Direct)] {
            let path = folder.path().join("received");
            let work = Work::Write { path: path.clone(), mode };
            let settings = PairSettings { len: 5_000_000, piece_len, work: work.clone(), hash_kernel: Kernel::Auto };
            let shape = Shape::new(&settings);
            let (port, told) = std::sync::mpsc::channel();
            let sender = thread::spawn(move || {
                send::run(shape, &mut |at| {
                    port.send(at).unwrap();
                    Ok(())
                })
            });
            receive::run(shape, told.recv().unwrap(), &work).unwrap();
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
