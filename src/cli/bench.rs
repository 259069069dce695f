//! `bt-fast bench loopback`, `bench floor` and `bench hash`.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;

use super::exit::{Exit, Failure, exit_of};
use super::options::{BenchFolder, FloorOptions, LoopbackOptions};
use super::output::Output;
use crate::base::units::{Bytes, Count, Rate};
use crate::bench::{
    self, BenchError, Change, CpuKinds, Figure, Figures, FloorFigure, FloorFigures, FloorSettings, HashFigures,
    Settings, Side, compare,
};
use crate::create::open::shown;
use crate::hash::Kernel;

pub(super) fn loopback(options: LoopbackOptions, output: &Output) -> Result<(), Failure> {
    // Errors of these files must not come after a long measurement.
    let older = options.compare.as_deref().map(Older::read).transpose()?;
    let html = options.html.as_deref().map(Html::create).transpose()?;
    let folder = folder(&options.folder)?;
    let settings = settings(options, folder.path());
    let figures = bench::run(&settings, &mut |phase| output.message(format_args!("{phase} …")))?;
    output.record(&figures);
    show_loopback(&figures, output);
    older.iter().for_each(|older| older.show_beside(&figures, output));
    html.map_or(Ok(()), |html| html.write(&bench::page(&figures)))
}

pub(super) fn settings(options: LoopbackOptions, folder: &Path) -> Settings {
    Settings {
        len: options.size,
        piece_len: options.piece_len,
        folder: folder.to_owned(),
        to: options.folder.to,
        peer_count: options.peer_count,
        rounds: options.rounds,
        with_floor: options.with_floor,
        write: options.write,
        ring_count: options.rings,
        arena_len: options.arena_len,
        hash_kernel: options.hash_kernel,
        seed_flags: options.seed_flags,
        get_flags: options.get_flags,
    }
}

pub(super) fn floor(options: FloorOptions, output: &Output) -> Result<(), Failure> {
    let older = options.compare.as_deref().map(Older::read).transpose()?;
    let folder = folder(&options.folder)?;
    let settings = FloorSettings {
        len: options.len,
        piece_len: options.piece_len,
        rounds: options.rounds,
        folder: folder.path().to_owned(),
        hash_kernel: options.hash_kernel,
    };
    let figures = bench::floor(&settings, &mut |phase| output.message(format_args!("{phase} …")))?;
    output.record(&figures);
    show_floor(&figures, output);
    older.iter().for_each(|older| older.show_beside(&figures, output));
    Ok(())
}

/// Runs one side of the bare pair.
pub(super) fn side() -> Result<(), Failure> {
    Ok(bench::side(&mut std::io::stdin().lock(), &mut std::io::stdout().lock())?)
}

pub(super) fn folder(folder: &BenchFolder) -> Result<TempDir, Failure> {
    let made = tempfile::Builder::new().prefix("bt-fast-bench-").tempdir_in(&folder.parent);
    made.map_err(|error| Failure::io("can't create a folder", &shown(&folder.parent), &error))
}

/// The file of the HTML page, which is opened before the measurement.
struct Html {
    path: PathBuf,
    file: File,
}

impl Html {
    fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|error| Failure::io("can't write", &shown(path), &error))?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn write(mut self, page: &str) -> Result<(), Failure> {
        let written = self.file.write_all(page.as_bytes());
        written.map_err(|error| Failure::io("can't write", &shown(&self.path), &error))
    }
}

/// The figures of an earlier run.
struct Older(Value);

impl Older {
    /// Reads a file of JSON output, and takes the last object in it: the latest run.
    fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path).map_err(|error| Failure::io("can't read", &shown(path), &error))?;
        let lines = text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let whole = serde_json::from_str::<Value>(&text).ok();
        whole.into_iter().chain(lines).find(Value::is_object).map(Self).ok_or_else(|| {
            let line =
                format!("--compare: {}: it has no JSON object: give the output of an earlier --json run", shown(path));
            Failure::new(Exit::Usage, line)
        })
    }

    fn show_beside(&self, figures: &impl Serialize, output: &Output) {
        let changes = compare(&self.0, &serde_json::to_value(figures).unwrap_or_default());
        output.result(format_args!("{:<36}{:>14}{:>14}{:>8}", "compared", "old", "new", "ratio"));
        for change in &changes {
            let Change { name, old, new } = change;
            let ratio = change.ratio().map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            output.result(format_args!("{name:<36}{:>14}{:>14}{ratio:>8}", shown_number(*old), shown_number(*new)));
        }
    }
}

/// Shows whole and large numbers without decimals, and others with four.
fn shown_number(number: Option<f64>) -> String {
    match number {
        None => "-".to_owned(),
        Some(number) if number.fract() == 0.0 || number.abs() >= 1000.0 => format!("{number:.0}"),
        Some(number) => format!("{number:.4}"),
    }
}

/// Shows the number of rounds of which figures are medians.
fn shown_rounds(rounds: u64) -> String {
    if rounds == 1 { "one round".to_owned() } else { format!("medians of {rounds} rounds") }
}

fn show_loopback(figures: &Figures, output: &Output) {
    let (len, piece_len) = (Bytes(figures.bytes), Bytes(u64::from(figures.piece_length)));
    output.result(format_args!(
        "loopback: {len}, {}, pieces of {piece_len}, {} in each process, {}, {}",
        Count(figures.peers as u64, "peer"),
        Count(figures.rings as u64, "ring"),
        figures.place,
        shown_rounds(figures.rounds as u64)
    ));
    let row = |what: &str, bytes: u64, seconds: f64, note: &str| {
        let over = std::time::Duration::from_secs_f64(seconds);
        let rate = format!("{:.2} GB/s", Rate { bytes, over }.bytes_per_s() / 1e9);
        output.result(format_args!("{what:<22}{rate:>12}   {seconds:>6.2} s   {note}"));
    };
    figures.create_s.into_iter().for_each(|seconds| row("create", figures.bytes, seconds, "hashed"));
    row(
        "seed → get",
        figures.moved(),
        figures.transfer_s,
        if figures.is_written() {
            "start to exit; verified and written"
        } else {
            "start to exit; verified, not written"
        },
    );
    if let Some(floor) = &figures.floor {
        let note = format!("no protocol; seed → get is {:.2} of it", floor.share);
        row("bare pair", figures.moved(), floor.pair.seconds, &note);
    }
    figures.verify_s.into_iter().for_each(|seconds| row("verify", figures.moved(), seconds, "hashed again"));
    let pair = figures.floor.as_ref().map(|floor| floor.pair);
    show_side("seed", &figures.seed, pair.map(|pair| pair.seed_cpu_s_per_gb), output);
    show_side("get", &figures.get, pair.map(|pair| pair.get_cpu_s_per_gb), output);
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let ms = |us: u64| us as f64 / 1000.0;
    output.result(format_args!(
        "request → block       p50 {:.2} ms   p99 {:.2} ms   p99.9 {:.2} ms",
        ms(figures.latency_p50_us),
        ms(figures.latency_p99_us),
        ms(figures.latency_p999_us)
    ));
    output.result(format_args!("received twice        {}", Bytes(figures.wasted_bytes)));
    if figures.peers > 1 {
        let (copies, fairness) = (figures.seed_copies, figures.fairness);
        output.result(format_args!("the seed sent         {copies:.2} copies; fairness (Jain) {fairness:.3}"));
    }
}

fn show_side(what: &str, side: &Side, floor: Option<f64>, output: &Output) {
    let floor = floor.map_or(String::new(), |floor| format!("; the bare pair's {floor:.2}"));
    output.result(format_args!(
        "{what:<22}{:>5.2} CPU-s/GB   (user {:.2} s, system {:.2} s{floor})",
        side.cpu_s_per_gb, side.cpu_user_s, side.cpu_system_s
    ));
    let CpuKinds { ring, hash, kernel, other } = side.cpu_kinds;
    let kinds = [("ring", ring), ("hash", hash), ("kernel workers", kernel), ("other", other)];
    let kinds = kinds.map(|(name, time)| format!("{name} {:.2} + {:.2}", time.user_s, time.system_s));
    output.result(format_args!("  user + system       {} s", kinds.join(", ")));
    output.result(format_args!(
        "  for each GB         {:.0} + {:.0} context switches (voluntary + involuntary), {:.0} minor and {:.1} major faults",
        side.voluntary_switches_per_gb,
        side.involuntary_switches_per_gb,
        side.minor_faults_per_gb,
        side.major_faults_per_gb
    ));
    if let Some(count) = side.system_calls_per_gb {
        output.result(format_args!("                      {count:.0} system calls"));
    }
    output.result(format_args!(
        "  memory              {} anonymous, {} mapped files; {} major faults on ring threads",
        Bytes(side.memory_anon_peak),
        Bytes(side.memory_file_peak),
        side.ring_major_faults
    ));
    if side.zero_copied_bytes > 0 {
        let (without, with) = (Bytes(side.zero_copied_bytes), Bytes(side.copied_bytes));
        output.result(format_args!("  sent                {without} by zero copy, {with} copied"));
    }
}

fn show_floor(figures: &FloorFigures, output: &Output) {
    let (len, piece_len) = (Bytes(figures.bytes), Bytes(u64::from(figures.piece_length)));
    output.result(format_args!("floor: {len} each, pieces of {piece_len}, {}", shown_rounds(figures.rounds as u64)));
    output.result(format_args!("{:<44}{:>8}   {}", "", "GB/s", "CPU-s/GB"));
    for FloorFigure { work, gb_per_s, seed_cpu_s_per_gb, get_cpu_s_per_gb, cpu_s_per_gb } in &figures.figures {
        let cpu = match (seed_cpu_s_per_gb, get_cpu_s_per_gb, cpu_s_per_gb) {
            (Some(seed), Some(get), _) => format!("seed {seed:.2}  get {get:.2}"),
            (.., Some(cpu)) => format!("{cpu:.2}"),
            _ => String::new(),
        };
        output.result(format_args!("{:<44}{gb_per_s:>8.2}   {cpu}", floor_work(work)));
    }
}

fn floor_work(work: &str) -> &str {
    match work {
        "tcp" => "TCP: sent like pieces, discarded",
        "memory_copy" => "memory copy, one thread",
        "page_cache_read" => "page cache read, one thread",
        "write_buffered" => "page cache write, one thread",
        "write_synced" => "page cache write and sync, one thread",
        "write_direct" => "direct write",
        "hash" => "hashing, all cores",
        "pair_direct" => "bare pair, direct write",
        "pair_buffered" => "bare pair, page cache write",
        "pair_unwritten" => "bare pair, no write",
        unknown => unknown,
    }
}

pub(super) fn hash(kernel: Kernel, seconds: u64, output: &Output) {
    output.message(format_args!("measuring for {seconds} s …"));
    let figures = bench::hash(kernel, seconds);
    if output.is_json() {
        output.record(&figures);
    } else {
        show_hash(&figures, output);
    }
}

fn show_hash(figures: &HashFigures, output: &Output) {
    let HashFigures { chosen, rounds, cores, figures } = figures;
    output.result(format_args!("GB/s, {}; chosen: {chosen}", shown_rounds(*rounds)));
    let (one_core, all_cores): (Vec<_>, Vec<_>) =
        figures.iter().partition(|figure| figure.cores == 1 && figure.work != "memory");
    let is_row = |a: &&Figure, b: &&Figure| (a.work, a.piece_length, a.pieces) == (b.work, b.piece_length, b.pieces);
    let (crates, kernels): (Vec<&Figure>, Vec<&Figure>) =
        one_core.into_iter().partition(|figure| figure.kernel == "crate");
    let mut work = "";
    for row in kernels.chunk_by(is_row) {
        let [first, ..] = row else { continue };
        if first.work != work {
            work = first.work;
            let names: String = row.iter().map(|figure| format!("{:>11}", figure.kernel)).collect();
            output.result(format_args!("{:<9}{:>8} {:>7}{names}{:>11}", work, "piece", "pieces", "crate"));
        }
        let speeds: String = row.iter().map(|figure| format!("{:>11.2}", figure.gb_per_s)).collect();
        let same = |figure: &&&Figure| (figure.work, figure.piece_length) == (work, first.piece_length);
        let of_crate = crates.iter().find(same).map_or(0.0, |figure| figure.gb_per_s);
        let piece_len = Bytes(first.piece_length as u64).to_string();
        output.result(format_args!("{:<9}{piece_len:>8} {:>7}{speeds}{of_crate:>11.2}", "", first.pieces));
    }
    for figure in all_cores {
        let what = match (figure.work, figure.kernel) {
            ("memory", _) => "memory read and added up".to_owned(),
            (work, kernel) => {
                format!("{work}, {kernel}, {} × {}", figure.pieces, Bytes(figure.piece_length as u64))
            }
        };
        let core_count = if figure.cores == 1 { "one core".to_owned() } else { format!("all {cores} cores") };
        output.result(format_args!("{what:<32}{core_count:<14}{:>7.2}", figure.gb_per_s));
    }
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        let exit = match &error {
            BenchError::Io { error, .. } => exit_of(error),
            BenchError::Differs => Exit::Mismatch,
            _ => Exit::Failed,
        };
        Self::new(exit, format_args!("bench: {error}"))
    }
}
