//! `bt-fast bench loopback`, `bench floor` and `bench hash`.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::bench_compare::{Comparison, show_rows};
use super::exit::{Exit, Failure, exit_of};
use super::options::{BenchFolder, FloorOptions, HashOptions, LoopbackOptions};
use super::output::Output;
use crate::base::units::{Bytes, Count, Rate};
use crate::bench::{
    self, AtMost, BenchError, CpuKinds, Figure, Figures, FloorFigure, FloorFigures, FloorSettings, HashFigures, Medium,
    Settings, Side, rows,
};
use crate::create::open::shown;

pub(super) fn loopback(mut options: LoopbackOptions, output: &Output) -> Result<(), Failure> {
    let folder = folder(&options.folder)?;
    let (compare, html) = (options.compare.take(), options.html.take());
    let settings = settings(options, folder.path());
    // Errors of these files must not come after a long measurement.
    let conditions = settings.drivers.first().map(|&driver| settings.conditions(driver)).unwrap_or_default();
    let comparison = Comparison::read(compare.as_ref(), &conditions, output)?;
    let html = html.as_deref().map(Html::create).transpose()?;
    let all = bench::run(&settings, &mut |phase| output.message(format_args!("{phase} …")))?;
    for figures in &all {
        output.record(figures);
        show_loopback(figures, output);
        comparison.iter().for_each(|older| older.show(figures, &figures.measured, output));
        html.iter().try_for_each(|html| html.write(&bench::page(figures)))?;
    }
    if let [ring, plain] = &all[..] {
        show_rows([ring.io, plain.io], &rows(&ring.measured, &plain.measured), output);
    }
    Ok(())
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
        drivers: options.drivers,
        ring_count: options.rings,
        arena_len: options.arena_len,
        hash_kernel: options.hash_kernel,
        seed_flags: options.seed_flags,
        get_flags: options.get_flags,
    }
}

pub(super) fn floor(options: FloorOptions, output: &Output) -> Result<(), Failure> {
    let folder = folder(&options.folder)?;
    let settings = FloorSettings {
        len: options.len,
        piece_len: options.piece_len,
        rounds: options.rounds,
        folder: folder.path().to_owned(),
        to: options.folder.to,
        hash_kernel: options.hash_kernel,
    };
    let comparison = Comparison::read(options.compare.as_ref(), &settings.conditions(), output)?;
    let figures = bench::floor(&settings, &mut |phase| output.message(format_args!("{phase} …")))?;
    output.record(&figures);
    show_floor(&figures, output);
    comparison.iter().for_each(|older| older.show(&figures, &figures.measured, output));
    Ok(())
}

/// Runs one side of the bare pair.
pub(super) fn side() -> Result<(), Failure> {
    Ok(bench::side(&mut std::io::stdin().lock(), &mut std::io::stdout().lock())?)
}

pub(super) fn folder(folder: &BenchFolder) -> Result<TempDir, Failure> {
    let made = tempfile::Builder::new().prefix("bt-fast-bench-").tempdir_in(&folder.parent);
    made.map_err(|error| {
        // The crate appends the path.
        let (text, place) = (error.to_string(), shown(&folder.parent));
        let cause = text.split(" at path ").next().unwrap_or_default();
        let line = format_args!("can't create a folder: {place}: {cause}: choose another place with --dir DIR");
        Failure::new(exit_of(&error), line)
    })
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

    fn write(&self, page: &str) -> Result<(), Failure> {
        let written = (&self.file).write_all(page.as_bytes());
        written.map_err(|error| Failure::io("can't write", &shown(&self.path), &error))
    }
}

/// The figures of [`show_loopback`] that are not medians.
const DETAILS: &str = "details, memory and latencies are those of the round of the median time";

/// Shows the number of rounds of which figures are medians.
fn shown_rounds(rounds: u64) -> String {
    if rounds == 1 { "one round".to_owned() } else { format!("medians of {rounds} rounds") }
}

fn show_loopback(figures: &Figures, output: &Output) {
    let (len, piece_len) = (Bytes(figures.bytes), Bytes(u64::from(figures.piece_length)));
    output.result(format_args!(
        "loopback: {len}, {}, pieces of {piece_len}, --io {}, {} in each process, {}, {}",
        Count(figures.peers as u64, "peer"),
        figures.io,
        Count(figures.rings as u64, "ring"),
        figures.place,
        shown_rounds(figures.rounds as u64)
    ));
    if figures.rounds > 1 {
        output.result(DETAILS);
    }
    let rate_row = |what: &str, gb_per_s: f64, seconds: f64, note: &str| {
        let rate = format!("{gb_per_s:.2} GB/s");
        output.result(format_args!("{what:<22}{rate:>12}   {seconds:>6.2} s   {note}"));
    };
    let row = |what: &str, bytes: u64, seconds: f64, note: &str| {
        let over = std::time::Duration::from_secs_f64(seconds);
        rate_row(what, Rate { bytes, over }.bytes_per_s() / 1e9, seconds, note);
    };
    figures.create_s.into_iter().for_each(|seconds| row("create", figures.bytes, seconds, "hashed"));
    rate_row(
        "seed → get",
        figures.gb_per_s,
        figures.transfer_s,
        if figures.is_written() {
            "start to exit; verified and written"
        } else {
            "start to exit; verified, not written"
        },
    );
    if let Some(floor) = &figures.floor {
        let note = format!("a plain copy program; seed → get is {:.2} of it", floor.share);
        row("bare pair", figures.moved(), floor.pair.seconds, &note);
        if let Some(reason) = figures.lead_reason() {
            output.result(format_args!("{:<22}(no limit: {reason})", ""));
        }
    }
    if let Some(at_most) = &figures.at_most {
        show_at_most(at_most, figures, output);
    }
    figures.verify_s.into_iter().for_each(|seconds| row("verify", figures.moved(), seconds, "hashed again"));
    let pair = figures.floor.as_ref().map(|floor| floor.pair);
    show_side("seed", &figures.seed, pair.map(|pair| pair.seed_cpu_s_per_gb), output);
    show_side("get", &figures.get, pair.map(|pair| pair.get_cpu_s_per_gb), output);
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let ms = |us: Option<u64>| us.map_or_else(|| "-".to_owned(), |us| format!("{:.2} ms", us as f64 / 1000.0));
    output.result(format_args!(
        "request → block       p50 {}   p99 {}   p99.9 {}",
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

fn show_at_most(at_most: &AtMost, figures: &Figures, output: &Output) {
    let AtMost { gb_per_s, bound_by, cpu_gb_per_s, disk_gb_per_s, memory_gb_per_s } = *at_most;
    let cores = Count(figures.machine.cores as u64, "core");
    let mut resources = vec![format!("{cores} {cpu_gb_per_s:.2}")];
    resources.extend(disk_gb_per_s.map(|rate| format!("disk {rate:.2}")));
    resources.extend(memory_gb_per_s.map(|rate| format!("memory copy {rate:.2}")));
    let (rate, bound_by, resources) = (format!("{gb_per_s:.2} GB/s"), bound_by.name(), resources.join(", "));
    output.result(format_args!("{:<22}{rate:>12}   the {bound_by} binds: {resources}", "at most"));
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
        let name = floor_work(work, figures.place);
        output.result(format_args!("{name:<44}{gb_per_s:>8.2}   {cpu}"));
    }
}

fn floor_work<'a>(work: &'a str, place: &str) -> &'a str {
    let is_memory = place == Medium::Memory.name();
    match work {
        "tcp" => "TCP: sent like pieces, discarded",
        "memory_copy" => "memory copy, one thread",
        "page_cache_read" if is_memory => "read of a file in memory, one thread",
        "page_cache_read" => "page cache read, one thread",
        "write_buffered" if is_memory => "write to a file in memory, one thread",
        "write_buffered" => "page cache write, one thread",
        "write_synced" => "the same write and its sync to the disk",
        "write_direct" => "direct write",
        "hash" => "hashing, all cores",
        "pair_direct" => "bare pair, direct write",
        "pair_buffered" if is_memory => "bare pair, write to a file in memory",
        "pair_buffered" => "bare pair, page cache write",
        "pair_unwritten" => "bare pair, no write",
        unknown => unknown,
    }
}

pub(super) fn hash(options: &HashOptions, output: &Output) -> Result<(), Failure> {
    let HashOptions { hash_kernel, seconds, compare } = options;
    let comparison = Comparison::read(compare.as_ref(), &bench::hash_conditions(*hash_kernel), output)?;
    output.message(format_args!("measuring for {seconds} s …"));
    let figures = bench::hash(*hash_kernel, *seconds);
    output.record(&figures);
    show_hash(&figures, output);
    comparison.iter().for_each(|older| older.show(&figures, &figures.measured, output));
    Ok(())
}

fn show_hash(figures: &HashFigures, output: &Output) {
    let HashFigures { chosen, rounds, figures, machine, .. } = figures;
    let cores = machine.cores;
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
            output.result(format_args!("{:<9}{:>8} {:>7}{names}{:>11}   auto is", work, "piece", "pieces", "crate"));
        }
        let speeds: String = row.iter().map(|figure| format!("{:>11.2}", figure.gb_per_s)).collect();
        let same = |figure: &&&Figure| (figure.work, figure.piece_length) == (work, first.piece_length);
        let of_crate = crates.iter().find(same).map_or(0.0, |figure| figure.gb_per_s);
        let piece_len = Bytes(first.piece_length as u64).to_string();
        let choice = row.iter().find_map(|figure| figure.choice.as_deref()).unwrap_or_default();
        output.result(format_args!("{:<9}{piece_len:>8} {:>7}{speeds}{of_crate:>11.2}   {choice}", "", first.pieces));
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
