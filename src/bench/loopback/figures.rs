//! The figures of `bench loopback`, from the records of its processes.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::settings::{Medium, Settings, write_flag};
use crate::bench::at_most::{AtMost, Probe};
use crate::bench::pair::PairFigures;
use crate::bench::{Conditions, Machine, Measured, Unit, gb_per_s, median, per_gb};
use crate::io::Driver;

/// The reason for a result above the bare pair's.
const LEAD_REASON: &str =
    "get keeps more writes past the page cache under way and has more memory between network and disk";

/// Maximum number of points of a curve.
const POINTS_MAX: usize = 600;

/// The result of `bench loopback`: medians of all rounds, and details of the round with the median transfer time. Times
/// are in seconds.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// Bytes of the content; each peer downloads this much.
    pub bytes: u64,
    pub piece_length: u32,
    pub peers: usize,
    /// `ring` or `plain`.
    pub io: &'static str,
    pub rings: usize,
    pub rounds: usize,
    /// `disk`, `memory` or `nowhere`.
    pub place: &'static str,
    /// `auto`, `buffered` or `direct`.
    pub write: &'static str,
    #[serde(flatten)]
    pub machine: Machine,
    /// Time to create the torrent; absent with null data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_s: Option<f64>,
    /// Time from the start of `get` to its exit, with everything verified and written. With several peers, that of the
    /// last.
    pub transfer_s: f64,
    /// Time to verify the downloads; absent with null data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_s: Option<f64>,
    /// Rate of all peers together.
    pub gb_per_s: f64,
    /// The bare pair, unless it was left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<FloorShare>,
    /// The highest rate that the machine permits, from the same rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<AtMost>,
    pub seed: Side,
    /// All `get` processes together; memory is that of the largest process.
    pub get: Side,
    /// Percentiles of the time from queueing a request to its block, in microseconds. With several peers, the largest
    /// one. `None` if no block was timed.
    pub latency_p50_us: Option<u64>,
    pub latency_p99_us: Option<u64>,
    pub latency_p999_us: Option<u64>,
    /// Histogram of the latency: upper bounds in microseconds, and the number of blocks in each bucket.
    pub latency_buckets: Vec<(u64, u64)>,
    /// Bytes received more than once or too late.
    pub wasted_bytes: u64,
    /// Bytes that the seed sent, divided by those of the content.
    pub seed_copies: f64,
    /// Jain's index of the peers' rates: 1 if all are equal, 1/n if one peer has the whole rate.
    pub fairness: f64,
    /// Rate of each round, in order.
    pub round_gb_per_s: Vec<f64>,
    /// Seconds since the start, and the bytes that all peers had by then.
    pub progress: Vec<(f64, u64)>,
    /// Conditions that a later run must share to be compared.
    pub conditions: Conditions,
    /// Figures in every round, for a comparison with a later run.
    pub measured: Vec<Measured>,
}

/// The bare pair in the same rounds.
#[derive(Debug, Serialize)]
pub struct FloorShare {
    /// Medians of the pair's figures.
    #[serde(flatten)]
    pub pair: PairFigures,
    /// Median over the rounds of our rate divided by the pair's.
    pub share: f64,
    /// Rate of the pair in each round.
    pub round_gb_per_s: Vec<f64>,
}

/// Resource use of one side.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Side {
    pub cpu_user_s: f64,
    pub cpu_system_s: f64,
    /// Processor seconds for each 10^9 bytes that the side sent or received.
    pub cpu_s_per_gb: f64,
    pub cpu_kinds: CpuKinds,
    /// Context switches and page faults for each 10^9 bytes.
    pub voluntary_switches_per_gb: f64,
    pub involuntary_switches_per_gb: f64,
    pub minor_faults_per_gb: f64,
    pub major_faults_per_gb: f64,
    /// System calls for each 10^9 bytes, if the kernel allows to count them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_calls_per_gb: Option<f64>,
    /// The number of page faults in which a ring thread waited for a disk.
    pub ring_major_faults: u64,
    /// Peak resident memory of a process in bytes.
    pub memory_peak: u64,
    /// Peak anonymous memory of a process in bytes.
    pub memory_anon_peak: u64,
    /// Peak of the mapped files of a process in bytes.
    pub memory_file_peak: u64,
    /// Payload bytes that were copied into sockets.
    pub copied_bytes: u64,
    /// Payload bytes that were sent without a copy.
    pub zero_copied_bytes: u64,
}

/// Processor time by kind of thread.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct CpuKinds {
    pub ring: CpuTime,
    pub hash: CpuTime,
    /// The kernel's io_uring workers.
    pub kernel: CpuTime,
    /// All other threads, and threads that ended before the process did.
    pub other: CpuTime,
}

/// Processor time in seconds, in user space and in the kernel.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct CpuTime {
    pub user_s: f64,
    pub system_s: f64,
}

/// The last record of a `seed` or `get`. Keys that an older program does not print are zero.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ended {
    uploaded: u64,
    downloaded: u64,
    wasted: u64,
    latency_p50_us: u64,
    latency_p99_us: u64,
    latency_p999_us: u64,
    latency_buckets: Vec<(u64, u64)>,
    cpu_user_s: f64,
    cpu_system_s: f64,
    minor_faults: u64,
    major_faults: u64,
    memory_peak: u64,
    memory_anon_peak: u64,
    memory_file_peak: u64,
    zero_copied: u64,
    threads: Kinds,
    /// Counted from outside; not in the record.
    #[serde(skip)]
    system_calls: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Kinds {
    ring: Kind,
    hash: Kind,
    kernel: Kind,
    other: Kind,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Kind {
    cpu_user_s: f64,
    cpu_system_s: f64,
    major_faults: u64,
    voluntary_switches: u64,
    involuntary_switches: u64,
}

impl Ended {
    pub(super) fn of(record: &Value) -> Self {
        Self::deserialize(record).unwrap_or_default()
    }

    pub(super) fn with_system_calls(self, system_calls: Option<u64>) -> Self {
        Self { system_calls, ..self }
    }
}

/// The measurements of one round.
#[derive(Debug)]
pub(super) struct Round {
    /// Seconds since the start, and the bytes that all peers had by then.
    pub(super) progress: Vec<(f64, u64)>,
    /// Seconds until each peer was complete.
    pub(super) peer_s: Vec<f64>,
    pub(super) sent: Ended,
    pub(super) got: Vec<Ended>,
    pub(super) verify_s: Option<f64>,
    pub(super) floor: Option<PairFigures>,
    pub(super) probe: Probe,
}

impl Round {
    fn transfer_s(&self) -> f64 {
        self.peer_s.iter().copied().fold(0.0, f64::max)
    }

    fn seed(&self) -> Side {
        Side::of(std::slice::from_ref(&self.sent), self.sent.uploaded)
    }

    fn get(&self) -> Side {
        Side::of(&self.got, self.got.iter().map(|got| got.downloaded).sum())
    }

    /// Returns the largest latency of a peer; `None` if no block was timed.
    fn worst(&self, latency: fn(&Ended) -> u64) -> Option<u64> {
        self.got.iter().filter(|got| !got.latency_buckets.is_empty()).map(latency).max()
    }
}

impl Figures {
    pub(super) fn of(
        settings: &Settings,
        driver: Driver,
        piece_length: u32,
        create_s: Option<f64>,
        rounds: Vec<Round>,
    ) -> Self {
        let moved = settings.len * settings.peer_count as u64;
        let median_of = |part: &dyn Fn(&Round) -> f64| median(rounds.iter().map(part).collect());
        let transfer_s = median_of(&Round::transfer_s);
        let rate = |round: &Round| gb_per_s(moved, round.transfer_s());
        let verify_s = rounds.iter().map(|round| round.verify_s).collect::<Option<Vec<f64>>>().map(median);
        let round_gb_per_s: Vec<f64> = rounds.iter().map(rate).collect();
        let floor = FloorShare::of(&rounds, &round_gb_per_s);
        let measured = measured(&rounds, &round_gb_per_s);
        let probe = best_probe(settings, &rounds, &round_gb_per_s);
        let cpu_s_per_gb = [Round::seed, Round::get].map(|side| median_of(&|round| side(round).cpu_s_per_gb));
        let cpu_s =
            |round: &Round| [round.seed(), round.get()].map(|side| side.cpu_user_s + side.cpu_system_s).iter().sum();
        let moved_cpu_s_per_gb = per_gb(median_of(&cpu_s), moved);
        let distance = |round: &Round| (round.transfer_s() - transfer_s).abs();
        let nearest = rounds.into_iter().min_by(|one, other| distance(one).total_cmp(&distance(other)));
        let typical = nearest.unwrap_or_else(Round::empty);
        let machine = Machine::this();
        let seed = Side { cpu_s_per_gb: cpu_s_per_gb[0], ..typical.seed() };
        let get = Side { cpu_s_per_gb: cpu_s_per_gb[1], ..typical.get() };
        let sum = |part: fn(&Ended) -> u64| typical.got.iter().map(part).sum::<u64>();
        Self {
            bytes: settings.len,
            piece_length,
            peers: settings.peer_count,
            io: driver.name(),
            rings: settings.ring_count,
            rounds: settings.rounds,
            place: settings.to.name(),
            write: write_flag(settings.write),
            // Without the bare pair, the other resources are unknown.
            at_most: floor.as_ref().and_then(|_| AtMost::of(machine.cores, moved_cpu_s_per_gb, probe)),
            machine,
            create_s,
            transfer_s,
            verify_s,
            gb_per_s: median(round_gb_per_s.clone()),
            floor,
            seed,
            get,
            latency_p50_us: typical.worst(|got| got.latency_p50_us),
            latency_p99_us: typical.worst(|got| got.latency_p99_us),
            latency_p999_us: typical.worst(|got| got.latency_p999_us),
            latency_buckets: merged(typical.got.iter().map(|got| &got.latency_buckets[..])),
            wasted_bytes: sum(|got| got.wasted),
            seed_copies: per_gb(gb_per_s(typical.sent.uploaded, 1.0), settings.len),
            fairness: fairness(&typical.peer_s),
            round_gb_per_s,
            progress: thinned(typical.progress),
            conditions: settings.conditions(driver),
            measured,
        }
    }

    /// Whether downloads were written to a medium.
    pub fn is_written(&self) -> bool {
        self.place != Medium::Nowhere.name()
    }

    /// Returns why the transfer is faster than the bare pair. `None` if it is not, or if downloads did not wait for a
    /// disk.
    pub fn lead_reason(&self) -> Option<&'static str> {
        let is_ahead = self.floor.as_ref().is_some_and(|floor| floor.share > 1.0);
        let has_waited = self.at_most.is_some_and(|at_most| at_most.disk_gb_per_s.is_some());
        (is_ahead && has_waited).then_some(LEAD_REASON)
    }

    /// Returns the bytes that all peers downloaded in a round.
    pub fn moved(&self) -> u64 {
        self.bytes * self.peers as u64
    }
}

impl Round {
    fn empty() -> Self {
        let sent = Ended::default();
        let (progress, peer_s, got) = (Vec::new(), Vec::new(), Vec::new());
        Self { progress, peer_s, sent, got, verify_s: None, floor: None, probe: Probe::default() }
    }
}

/// Returns the figures to compare, in every round.
fn measured(rounds: &[Round], ours: &[f64]) -> Vec<Measured> {
    let of = |part: &dyn Fn(&Round) -> f64| rounds.iter().map(part).collect::<Vec<f64>>();
    let mut all = vec![Measured::new("seed → get", Unit::GbPerS, ours.to_vec())];
    let pairs: Vec<f64> = rounds.iter().filter_map(|round| Some(round.floor?.gb_per_s)).collect();
    if !pairs.is_empty() {
        let shares = pairs.iter().zip(ours).map(|(pair, ours)| share(*ours, *pair)).collect();
        all.push(Measured::new("bare pair", Unit::GbPerS, pairs));
        all.push(Measured::new("share of the bare pair", Unit::Share, shares));
    }
    all.extend([
        Measured::new("seed, processor time", Unit::CpuSPerGb, of(&|round| round.seed().cpu_s_per_gb)),
        Measured::new("get, processor time", Unit::CpuSPerGb, of(&|round| round.get().cpu_s_per_gb)),
        Measured::new("seed, anonymous memory", Unit::Bytes, of(&|round| number(round.seed().memory_anon_peak))),
        Measured::new("get, anonymous memory", Unit::Bytes, of(&|round| number(round.get().memory_anon_peak))),
    ]);
    let timed = |latency: fn(&Ended) -> u64| -> Option<Vec<f64>> {
        rounds.iter().map(|round| round.worst(latency).map(number)).collect()
    };
    let latency = |name: &str, rounds: Vec<f64>| Measured::new(name, Unit::Microseconds, rounds);
    all.extend(timed(|got| got.latency_p50_us).map(|rounds| latency("latency p50", rounds)));
    all.extend(timed(|got| got.latency_p99_us).map(|rounds| latency("latency p99", rounds)));
    all
}

/// Returns the best rates of disk and memory. A transfer or a bare pair that wrote faster than the probe shows that the
/// disk can do more.
fn best_probe(settings: &Settings, rounds: &[Round], ours: &[f64]) -> Probe {
    let best = rounds.iter().map(|round| round.probe).fold(Probe::default(), Probe::max);
    let pairs = rounds.iter().filter_map(|round| Some(round.floor?.gb_per_s));
    let written = pairs.chain(ours.iter().copied()).max_by(f64::total_cmp);
    let disk = best.disk.and(written.filter(|_| settings.waits_for_disk()));
    best.max(Probe { disk, memory: None })
}

/// Returns our rate divided by the pair's.
fn share(ours: f64, pair: f64) -> f64 {
    ours / pair.max(f64::MIN_POSITIVE)
}

impl FloorShare {
    fn of(rounds: &[Round], ours: &[f64]) -> Option<Self> {
        let pairs: Vec<PairFigures> = rounds.iter().filter_map(|round| round.floor).collect();
        if pairs.is_empty() {
            return None;
        }
        let median_of = |part: fn(&PairFigures) -> f64| median(pairs.iter().map(part).collect());
        let shares = pairs.iter().zip(ours).map(|(pair, ours)| share(*ours, pair.gb_per_s));
        Some(Self {
            pair: PairFigures {
                seconds: median_of(|pair| pair.seconds),
                gb_per_s: median_of(|pair| pair.gb_per_s),
                seed_cpu_s_per_gb: median_of(|pair| pair.seed_cpu_s_per_gb),
                get_cpu_s_per_gb: median_of(|pair| pair.get_cpu_s_per_gb),
            },
            share: median(shares.collect()),
            round_gb_per_s: pairs.iter().map(|pair| pair.gb_per_s).collect(),
        })
    }
}

impl Side {
    /// Sums the use of the processes of a side, which sent or received `len` payload bytes.
    fn of(processes: &[Ended], len: u64) -> Self {
        let mut side = Self::default();
        let mut whole = CpuTime::default();
        let (mut voluntary, mut involuntary, mut minor_faults, mut major_faults) = (0, 0, 0, 0);
        let mut system_calls = Some(0);
        for process in processes {
            let Kinds { ring, hash, kernel, other } = &process.threads;
            whole.user_s += process.cpu_user_s;
            whole.system_s += process.cpu_system_s;
            side.cpu_kinds.ring.add(ring);
            side.cpu_kinds.hash.add(hash);
            side.cpu_kinds.kernel.add(kernel);
            for kind in [ring, hash, kernel, other] {
                voluntary += kind.voluntary_switches;
                involuntary += kind.involuntary_switches;
            }
            system_calls = system_calls.zip(process.system_calls).map(|(all, more)| all + more);
            minor_faults += process.minor_faults;
            major_faults += process.major_faults;
            side.ring_major_faults += ring.major_faults;
            side.memory_peak = side.memory_peak.max(process.memory_peak);
            side.memory_anon_peak = side.memory_anon_peak.max(process.memory_anon_peak);
            side.memory_file_peak = side.memory_file_peak.max(process.memory_file_peak);
            side.copied_bytes += process.uploaded.saturating_sub(process.zero_copied);
            side.zero_copied_bytes += process.zero_copied;
        }
        let CpuKinds { ring, hash, kernel, .. } = side.cpu_kinds;
        side.cpu_kinds.other = CpuTime {
            user_s: (whole.user_s - ring.user_s - hash.user_s - kernel.user_s).max(0.0),
            system_s: (whole.system_s - ring.system_s - hash.system_s - kernel.system_s).max(0.0),
        };
        Self {
            cpu_user_s: whole.user_s,
            cpu_system_s: whole.system_s,
            cpu_s_per_gb: per_gb(whole.user_s + whole.system_s, len),
            voluntary_switches_per_gb: per_gb(number(voluntary), len),
            involuntary_switches_per_gb: per_gb(number(involuntary), len),
            minor_faults_per_gb: per_gb(number(minor_faults), len),
            major_faults_per_gb: per_gb(number(major_faults), len),
            system_calls_per_gb: system_calls.map(|count| per_gb(number(count), len)),
            ..side
        }
    }
}

impl CpuTime {
    fn add(&mut self, kind: &Kind) {
        self.user_s += kind.cpu_user_s;
        self.system_s += kind.cpu_system_s;
    }
}

#[expect(clippy::cast_precision_loss, reason = "a measurement")]
fn number(count: u64) -> f64 {
    count as f64
}

/// Returns Jain's index of the rates, which are the reciprocals of these times.
fn fairness(seconds: &[f64]) -> f64 {
    let rates: Vec<f64> = seconds.iter().filter(|seconds| **seconds > 0.0).map(|seconds| 1.0 / seconds).collect();
    let (sum, squares): (f64, f64) = (rates.iter().sum(), rates.iter().map(|rate| rate * rate).sum());
    if squares > 0.0 { sum * sum / (squares * number(rates.len() as u64)) } else { 1.0 }
}

/// Adds up histograms.
fn merged<'a>(all: impl Iterator<Item = &'a [(u64, u64)]>) -> Vec<(u64, u64)> {
    let mut counts = std::collections::BTreeMap::new();
    for &(bound, count) in all.flatten() {
        *counts.entry(bound).or_insert(0) += count;
    }
    counts.into_iter().collect()
}

/// Reduces a curve to about [`POINTS_MAX`] points, the last one included.
fn thinned(points: Vec<(f64, u64)>) -> Vec<(f64, u64)> {
    let stride = points.len().div_ceil(POINTS_MAX).max(1);
    let last = points.len().saturating_sub(1);
    let kept = |index: &usize| index.is_multiple_of(stride) || *index == last;
    points.into_iter().enumerate().filter(|(index, _)| kept(index)).map(|(_, point)| point).collect()
}

#[cfg(test)]
#[path = "figures_tests.rs"]
mod tests;
