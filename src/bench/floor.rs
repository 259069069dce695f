//! `bench floor`: measures what the machine can do without BitTorrent, for each kind of work and for the bare pair.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use memmap2::MmapMut;
use serde::Serialize;

use super::machine::file_system;
use super::pair::{FileMode, PairSettings, Work, cpu_time, open_to_write, pair};
use super::{BenchError, Conditions, Machine, Measured, Medium, Unit, gb_per_s, io_error, median, per_gb};
use crate::base::units::Bytes;
use crate::base::{Rng, limits};
use crate::hash::{Kernel, sha1_batch};

/// Bytes of one call.
const CHUNK_LEN: usize = 1 << 20;
/// Bytes of a memory copy, far more than a cache holds.
const COPY_LEN: usize = 256 << 20;
/// The number of concurrent direct writes.
const DIRECT_WRITERS: u64 = 8;

/// The settings of `bench floor`.
#[derive(Debug, Clone)]
pub struct FloorSettings {
    /// Bytes that each kind of work moves in each round.
    pub len: u64,
    pub piece_len: u32,
    pub rounds: usize,
    /// Folder for the files, which must be empty.
    pub folder: PathBuf,
    pub to: Medium,
    pub hash_kernel: Kernel,
}

impl FloorSettings {
    /// Returns the conditions that a run must share with an earlier one to be compared with it.
    pub fn conditions(&self) -> Conditions {
        Conditions::of("floor")
            .and("size", Bytes(self.len).to_string())
            .and("piece length", Bytes(u64::from(self.piece_len)).to_string())
            .and("place", self.to.name())
            .and("file system", file_system(&self.folder))
            .and("hash kernel", self.hash_kernel.name())
    }
}

/// The result of `bench floor`.
#[derive(Debug, Serialize)]
pub struct FloorFigures {
    /// Bytes that each kind of work moved in each round.
    pub bytes: u64,
    pub piece_length: u32,
    pub rounds: usize,
    pub figures: Vec<FloorFigure>,
    #[serde(flatten)]
    pub machine: Machine,
    /// `disk` or `memory`.
    pub place: &'static str,
    /// Conditions that a later run must share to be compared.
    pub conditions: Conditions,
    /// Rates in every round, for a comparison with a later run.
    pub measured: Vec<Measured>,
}

/// Medians of one kind of work.
#[derive(Debug, Clone, Serialize)]
pub struct FloorFigure {
    /// `tcp`, `memory_copy`, `page_cache_read`, `write_buffered`, `write_synced` (until it is on the disk),
    /// `write_direct`, `hash` (all cores), `pair_direct`, `pair_buffered`, `pair_unwritten`.
    pub work: &'static str,
    pub gb_per_s: f64,
    /// Processor seconds of the sending process for each 10^9 bytes, if there are two processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed_cpu_s_per_gb: Option<f64>,
    /// Processor seconds of the receiving process for each 10^9 bytes, if there are two processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub get_cpu_s_per_gb: Option<f64>,
    /// Processor seconds for each 10^9 bytes, if there is one process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_s_per_gb: Option<f64>,
}

/// One measurement.
#[derive(Clone, Copy)]
struct Sample {
    gb_per_s: f64,
    cpu: Cpu,
}

/// Processor seconds for each 10^9 bytes.
#[derive(Clone, Copy)]
enum Cpu {
    /// Of the sending and the receiving process.
    Sides { seed: f64, get: f64 },
    /// Of this process.
    One(f64),
}

/// Measures one kind of work, or several that are parts of one another.
type Measure = fn(&FloorSettings) -> Result<Vec<Sample>, BenchError>;

static WORKS: [(&[&str], Measure); 9] = [
    (&["tcp"], |settings| pair_sample(settings, Work::Discard)),
    (&["memory_copy"], |_| Ok(vec![copy(1)?])),
    (&["page_cache_read"], read),
    (&["write_buffered", "write_synced"], write_buffered),
    (&["write_direct"], |settings| Ok(vec![write_direct(&target(&settings.folder), settings.len)?])),
    (&["hash"], hash),
    (&["pair_direct"], |settings| pair_sample(settings, written(settings, FileMode::Direct))),
    (&["pair_buffered"], |settings| pair_sample(settings, written(settings, FileMode::Buffered))),
    (&["pair_unwritten"], |settings| pair_sample(settings, Work::Hash)),
];

/// Work for a disk. Files in memory are never synced and have no page cache to write past.
const DISK_WORKS: [&str; 3] = ["write_synced", "write_direct", "pair_direct"];

/// Measures all kinds of work. `phase` is called with a description of each step.
pub fn floor(settings: &FloorSettings, phase: &mut dyn FnMut(&str)) -> Result<FloorFigures, BenchError> {
    phase("making content");
    super::content::write_random(&content(&settings.folder), settings.len, 1).map_err(io_error("make content"))?;
    let is_measured = |work: &&str| settings.to == Medium::Disk || !DISK_WORKS.contains(work);
    let works = || WORKS.iter().filter(|(names, _)| names.iter().any(is_measured));
    let mut samples: Vec<Vec<Vec<Sample>>> = vec![Vec::new(); works().count()];
    for round in 1..=settings.rounds {
        for ((names, measure), samples) in works().zip(&mut samples) {
            let [work, ..] = names else { continue };
            phase(&format!("round {round} of {}: {}", settings.rounds, work.replace('_', " ")));
            samples.push(measure(settings)?);
        }
    }
    let (mut figures, mut measured) = (Vec::new(), Vec::new());
    for ((names, _), samples) in works().zip(&samples) {
        for (part, work) in names.iter().enumerate().filter(|(_, work)| is_measured(work)) {
            let samples: Vec<Sample> = samples.iter().filter_map(|parts| parts.get(part).copied()).collect();
            measured.push(Measured::new(*work, Unit::GbPerS, samples.iter().map(|sample| sample.gb_per_s).collect()));
            figures.push(FloorFigure::of(work, &samples));
        }
    }
    let FloorSettings { len, piece_len, rounds, to, .. } = *settings;
    let (machine, conditions, place) = (Machine::this(), settings.conditions(), to.name());
    Ok(FloorFigures { bytes: len, piece_length: piece_len, rounds, figures, machine, place, conditions, measured })
}

/// Returns the rate at which a new file at `path` is written past the page cache, in 10^9 bytes per second.
pub(super) fn direct_write_rate(path: &Path, len: u64) -> Result<f64, BenchError> {
    Ok(write_direct(path, len)?.gb_per_s)
}

/// Returns the rate at which all cores together copy memory, in 10^9 bytes per second.
pub(super) fn memory_copy_rate() -> Result<f64, BenchError> {
    Ok(copy(thread::available_parallelism().map_or(1, usize::from))?.gb_per_s)
}

impl FloorFigure {
    fn of(work: &'static str, samples: &[Sample]) -> Self {
        let median_of = |part: fn(&Sample) -> Option<f64>| {
            let values: Vec<f64> = samples.iter().filter_map(part).collect();
            (!values.is_empty()).then(|| median(values))
        };
        let seed = |sample: &Sample| if let Cpu::Sides { seed, .. } = sample.cpu { Some(seed) } else { None };
        let get = |sample: &Sample| if let Cpu::Sides { get, .. } = sample.cpu { Some(get) } else { None };
        let one = |sample: &Sample| if let Cpu::One(cpu) = sample.cpu { Some(cpu) } else { None };
        Self {
            work,
            gb_per_s: median_of(|sample| Some(sample.gb_per_s)).unwrap_or(0.0),
            seed_cpu_s_per_gb: median_of(seed),
            get_cpu_s_per_gb: median_of(get),
            cpu_s_per_gb: median_of(one),
        }
    }
}

fn content(folder: &Path) -> PathBuf {
    folder.join("content.bin")
}

fn target(folder: &Path) -> PathBuf {
    folder.join("written.bin")
}

fn written(settings: &FloorSettings, mode: FileMode) -> Work {
    Work::Write { path: target(&settings.folder), mode }
}

fn pair_sample(settings: &FloorSettings, work: Work) -> Result<Vec<Sample>, BenchError> {
    let FloorSettings { len, piece_len, hash_kernel, .. } = *settings;
    let figures = pair(&PairSettings { len, piece_len, work, hash_kernel })?;
    remove(&target(&settings.folder))?;
    let cpu = Cpu::Sides { seed: figures.seed_cpu_s_per_gb, get: figures.get_cpu_s_per_gb };
    Ok(vec![Sample { gb_per_s: figures.gb_per_s, cpu }])
}

fn remove(path: &Path) -> Result<(), BenchError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove the written file")(error)),
        _ => Ok(()),
    }
}

/// Times `work`, which returns the number of bytes it moved.
fn timed(what: &'static str, work: impl FnOnce() -> io::Result<u64>) -> Result<Sample, BenchError> {
    let (started, before) = (Instant::now(), cpu_time());
    let len = work().map_err(io_error(what))?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu = cpu_time().saturating_sub(before).as_secs_f64();
    Ok(Sample { gb_per_s: gb_per_s(len, seconds), cpu: Cpu::One(per_gb(cpu, len)) })
}

/// Copies memory on several threads, between pages that are already allocated.
fn copy(thread_count: usize) -> Result<Sample, BenchError> {
    let from = vec![1u8; COPY_LEN];
    let mut to = vec![2u8; COPY_LEN];
    let part_len = COPY_LEN.div_ceil(thread_count);
    timed("copy memory", || {
        thread::scope(|scope| {
            for (from, to) in from.chunks(part_len).zip(to.chunks_mut(part_len)) {
                scope.spawn(move || black_box(to).copy_from_slice(black_box(from)));
            }
        });
        Ok(COPY_LEN as u64)
    })
}

/// Reads content that was just written from the page cache, on one thread.
fn read(settings: &FloorSettings) -> Result<Vec<Sample>, BenchError> {
    let mut chunk = vec![0; CHUNK_LEN];
    let sample = timed("read content", || {
        let mut file = File::open(content(&settings.folder))?;
        let mut len = 0;
        loop {
            match file.read(&mut chunk)? {
                0 => return Ok(len),
                part => len += part as u64,
            }
        }
    })?;
    Ok(vec![sample])
}

/// Returns the number of chunks in a file of `len` bytes.
fn chunks(len: u64) -> u64 {
    len.div_ceil(CHUNK_LEN as u64)
}

/// Writes to the page cache, and syncs. Returns the samples without and with the sync, which are of one file.
fn write_buffered(settings: &FloorSettings) -> Result<Vec<Sample>, BenchError> {
    let path = target(&settings.folder);
    let mut chunk = vec![0; CHUNK_LEN];
    Rng::with_seed(2).fill(&mut chunk);
    let mut to_page_cache = None;
    let to_disk = timed("write", || {
        let mut file = None;
        to_page_cache = Some(timed("write", || {
            let file = file.insert(open_to_write(&path, FileMode::Buffered, settings.len)?);
            for index in 0..chunks(settings.len) {
                file.write_all_at(&chunk, index * CHUNK_LEN as u64)?;
            }
            Ok(chunks(settings.len) * CHUNK_LEN as u64)
        }));
        file.map_or(Ok(()), |file| file.sync_data())?;
        Ok(chunks(settings.len) * CHUNK_LEN as u64)
    })?;
    remove(&path)?;
    let to_page_cache = to_page_cache.transpose()?;
    Ok(to_page_cache.into_iter().chain([to_disk]).collect())
}

fn write_direct(path: &Path, len: u64) -> Result<Sample, BenchError> {
    let mut chunk = MmapMut::map_anon(CHUNK_LEN).map_err(io_error("memory"))?;
    Rng::with_seed(3).fill(&mut chunk);
    let sample = timed("write past the page cache", || {
        let file = open_to_write(path, FileMode::Direct, len)?;
        let next = AtomicU64::new(0);
        let write = || -> io::Result<()> {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= chunks(len) {
                    return Ok(());
                }
                file.write_all_at(&chunk, index * CHUNK_LEN as u64)?;
            }
        };
        thread::scope(|scope| {
            let writers: Vec<_> = (0..DIRECT_WRITERS).map(|_| scope.spawn(write)).collect();
            super::pair::join_all(writers)
        })?;
        Ok(chunks(len) * CHUNK_LEN as u64)
    })?;
    remove(path)?;
    Ok(sample)
}

/// Hashes on all cores. Each core has its own pieces, as many as the widest kernel hashes together.
fn hash(settings: &FloorSettings) -> Result<Vec<Sample>, BenchError> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let piece_len = (settings.piece_len as usize).min(CHUNK_LEN);
    let mut memory = vec![0; cores * limits::HASH_LANES * piece_len];
    Rng::with_seed(4).fill(&mut memory);
    let batch_len = limits::HASH_LANES * piece_len;
    let per_core = usize::try_from(settings.len).unwrap_or(usize::MAX).div_ceil(cores);
    let batches = per_core.div_ceil(batch_len);
    let sample = timed("hash", || {
        thread::scope(|scope| {
            let hash = |part: &[u8]| {
                (0..batches).for_each(|_| drop(black_box(sha1_batch(part.chunks(piece_len).map(|piece| [piece])))))
            };
            for part in memory.chunks(batch_len) {
                scope.spawn(move || hash(part));
            }
        });
        Ok((batches * batch_len * cores) as u64)
    })?;
    Ok(vec![sample])
}
