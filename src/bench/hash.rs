//! `bench hash`: measures every hash kernel by number and length of pieces, the crates `sha1` and `sha2`, and the speed
//! of reading memory.

use std::fs;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use sha1::{Digest, Sha1};
use sha2::Sha256;

use super::{Conditions, Machine, Measured, Unit, median};
use crate::base::Rng;
use crate::base::units::{Bytes, parse_size};
use crate::hash::{Kernel, Plan, chosen, sha1_batch_with, sha256_batch_with};

const PIECE_COUNTS: [usize; 5] = [1, 2, 4, 8, 16];
const SHA1_PIECE_LENS: [usize; 4] = [16 << 10, 256 << 10, 1 << 20, 4 << 20];
/// The length of the leaves of BEP 52.
const SHA256_PIECE_LENS: [usize; 1] = [16 << 10];
/// Pieces that each core hashes together when all cores are measured.
const CORE_PIECES: usize = 16;
const CORE_PIECE_LEN: usize = 1 << 20;

/// Bounds of the memory to read, which is four times the size of the last-level cache.
const MEMORY_LEN_MIN: usize = 256 << 20;
const MEMORY_LEN_MAX: usize = 1 << 30;
const LAST_CACHE: &str = "/sys/devices/system/cpu/cpu0/cache/index3/size";

/// Name of the crates `sha1` and `sha2` among the kernels.
const CRATE: &str = "crate";

/// Approximate duration of a round.
const ROUND_SECONDS: u64 = 2;
const ROUNDS_MAX: u64 = 9;

/// The result of `bench hash`.
#[derive(Debug, Serialize)]
pub struct HashFigures {
    /// The kernel for each number of pieces, or the kernel that the user forces.
    pub chosen: String,
    pub rounds: u64,
    pub figures: Vec<Figure>,
    #[serde(flatten)]
    pub machine: Machine,
    /// Conditions that a later run must share to be compared.
    pub conditions: Conditions,
    /// Speeds of the chosen kernels and of memory in every round, for a comparison with a later run.
    pub measured: Vec<Measured>,
}

/// Returns the conditions that a run must share with an earlier one to be compared with it.
pub fn hash_conditions(kernel: Kernel) -> Conditions {
    Conditions::of("hash").and("hash kernel", kernel.name())
}

/// The median speed of one kind of work.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// `sha1`, `sha256`, or `memory`, where every word is read and added up.
    pub work: &'static str,
    /// A kernel's name; `crate` for the `sha1` or `sha2` crate, piece by piece; `read` for memory.
    pub kernel: &'static str,
    /// Bytes of a piece.
    pub piece_length: usize,
    /// The number of pieces that each core hashes together.
    pub pieces: usize,
    /// The number of cores that work at the same time.
    pub cores: usize,
    /// 10^9 bytes per second of all cores together.
    pub gb_per_s: f64,
    /// The kernels that `auto` chose for this number of pieces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choice: Option<String>,
}

impl Figure {
    fn name(&self) -> String {
        let Self { work, kernel, piece_length, pieces, cores, .. } = self;
        match *work {
            "memory" => format!("memory, cores {cores}"),
            _ => format!("{work} {kernel}, {pieces} × {}, cores {cores}", Bytes(*piece_length as u64)),
        }
    }
}

/// One kind of work that is measured.
struct Contender<'a> {
    figure: Figure,
    /// One pass over the bytes of the core with this number.
    pass: Box<dyn Fn(usize) + Sync + 'a>,
    /// 10^9 bytes per second in each round.
    speeds: Vec<f64>,
}

/// Measures for about `seconds`. The measurement of all cores uses `kernel`.
pub fn hash(kernel: Kernel, seconds: u64) -> HashFigures {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut memory = vec![0; memory_len()];
    Rng::with_seed(1).fill(&mut memory);
    let mut contenders = contenders(&memory, kernel, cores);
    let rounds = (seconds / ROUND_SECONDS).clamp(1, ROUNDS_MAX) | 1;
    let slices = u32::try_from(contenders.len()).unwrap_or(u32::MAX).saturating_mul(u32::try_from(rounds).unwrap_or(1));
    let slice = Duration::from_secs(seconds) / slices;
    for _ in 0..rounds {
        contenders.iter_mut().for_each(|contender| contender.measure(slice));
    }
    let is_compared = |contender: &&Contender<'_>| {
        let Figure { work, kernel, cores, .. } = contender.figure;
        work == "memory" || kernel == Kernel::Auto.name() || (cores > 1 && kernel != CRATE)
    };
    let measured = contenders.iter().filter(is_compared).map(Contender::measured).collect();
    let figures = contenders.into_iter().map(Contender::median).collect();
    let (machine, conditions) = (Machine::this(), hash_conditions(kernel));
    HashFigures { chosen: chosen().to_string(), rounds, figures, machine, conditions, measured }
}

fn memory_len() -> usize {
    let cache = fs::read_to_string(LAST_CACHE).ok().and_then(|text| parse_size(text.trim()).ok()).unwrap_or(0);
    usize::try_from(cache.saturating_mul(4)).unwrap_or(usize::MAX).clamp(MEMORY_LEN_MIN, MEMORY_LEN_MAX)
}

fn contenders(memory: &[u8], kernel: Kernel, cores: usize) -> Vec<Contender<'_>> {
    let mut contenders = Vec::new();
    for piece_len in SHA1_PIECE_LENS {
        contenders.push(Contender::of_crate::<Sha1>("sha1", memory, piece_len, 1));
        for pieces in PIECE_COUNTS {
            let kernels = Kernel::available();
            contenders.extend(kernels.map(|kernel| Contender::sha1(kernel, memory, piece_len, pieces, 1)));
        }
    }
    for piece_len in SHA256_PIECE_LENS {
        contenders.push(Contender::of_crate::<Sha256>("sha256", memory, piece_len, 1));
        for pieces in PIECE_COUNTS {
            contenders.extend(Kernel::available().map(|kernel| Contender::sha256(kernel, memory, piece_len, pieces)));
        }
    }
    contenders.push(Contender::read(memory, 1));
    if cores > 1 {
        contenders.push(Contender::sha1(kernel, memory, CORE_PIECE_LEN, CORE_PIECES, cores));
        contenders.push(Contender::of_crate::<Sha1>("sha1", memory, CORE_PIECE_LEN, cores));
        contenders.push(Contender::read(memory, cores));
    }
    contenders
}

/// Returns the names of the kernels that `auto` uses.
fn choice(kernel: Kernel, names: impl FnOnce(&Plan) -> String) -> Option<String> {
    kernel.plan().ok().filter(|_| kernel == Kernel::Auto).map(names)
}

/// Returns the pieces of a core. Cores share pieces if the memory does not suffice.
fn pieces_of(memory: &[u8], core: usize, piece_len: usize, count: usize) -> Vec<[&[u8]; 1]> {
    let parts = memory.len() / (piece_len * count);
    memory[core % parts * piece_len * count..].chunks(piece_len).take(count).map(|piece| [piece]).collect()
}

impl<'a> Contender<'a> {
    fn new(figure: Figure, pass: impl Fn(usize) + Sync + 'a) -> Self {
        Self { figure, pass: Box::new(pass), speeds: Vec::new() }
    }

    fn sha1(kernel: Kernel, memory: &'a [u8], piece_length: usize, pieces: usize, cores: usize) -> Self {
        let choice = choice(kernel, |plan| plan.sha1_names(pieces));
        let figure = Figure { work: "sha1", kernel: kernel.name(), piece_length, pieces, cores, gb_per_s: 0.0, choice };
        Self::new(figure, move |core| {
            let Ok(plan) = kernel.plan() else { return };
            black_box(sha1_batch_with(plan, pieces_of(memory, core, piece_length, pieces)));
        })
    }

    fn sha256(kernel: Kernel, memory: &'a [u8], piece_length: usize, pieces: usize) -> Self {
        let choice = choice(kernel, |plan| plan.sha256_names(pieces));
        let (work, kernel_name) = ("sha256", kernel.name());
        let figure = Figure { work, kernel: kernel_name, piece_length, pieces, cores: 1, gb_per_s: 0.0, choice };
        Self::new(figure, move |core| {
            let Ok(plan) = kernel.plan() else { return };
            black_box(sha256_batch_with(plan, pieces_of(memory, core, piece_length, pieces)));
        })
    }

    fn of_crate<D: Digest>(work: &'static str, memory: &'a [u8], piece_length: usize, cores: usize) -> Self {
        let figure = Figure { work, kernel: CRATE, piece_length, pieces: 1, cores, gb_per_s: 0.0, choice: None };
        Self::new(figure, move |core| {
            for [piece] in pieces_of(memory, core, piece_length, 1) {
                black_box(D::digest(piece));
            }
        })
    }

    fn read(memory: &'a [u8], cores: usize) -> Self {
        let part_len = memory.len() / cores;
        let figure = Figure {
            work: "memory",
            kernel: "read",
            piece_length: part_len,
            pieces: 1,
            cores,
            gb_per_s: 0.0,
            choice: None,
        };
        Self::new(figure, move |core| {
            let part = &memory[core * part_len..][..part_len];
            let words = part.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word));
            black_box(words.fold(0, u64::wrapping_add));
        })
    }

    /// Measures one round of `slice`, with at least one pass.
    fn measure(&mut self, slice: Duration) {
        let Figure { cores, .. } = self.figure;
        let pass = &*self.pass;
        let start = Barrier::new(cores);
        let work = |core| {
            start.wait();
            let started = Instant::now();
            let mut passes = 0.0;
            loop {
                pass(core);
                passes += 1.0;
                let elapsed = started.elapsed();
                if elapsed >= slice {
                    return passes / elapsed.as_secs_f64();
                }
            }
        };
        let passes_per_s: f64 = if cores == 1 {
            work(0)
        } else {
            thread::scope(|scope| {
                let work = &work;
                let workers: Vec<_> = (0..cores).map(|core| scope.spawn(move || (*work)(core))).collect();
                workers.into_iter().filter_map(|worker| worker.join().ok()).sum()
            })
        };
        #[expect(clippy::cast_precision_loss, reason = "a measurement")]
        let pass_len = (self.figure.piece_length * self.figure.pieces) as f64;
        self.speeds.push(passes_per_s * pass_len / 1e9);
    }

    fn measured(&self) -> Measured {
        Measured::new(self.figure.name(), Unit::GbPerS, self.speeds.clone())
    }

    fn median(self) -> Figure {
        Figure { gb_per_s: median(self.speeds), ..self.figure }
    }
}
