//! `bt-fast bench loopback` and `bench hash`.

use super::exit::{Exit, Failure, exit_of};
use super::options::LoopbackOptions;
use super::output::Output;
use crate::base::units::Bytes;
use crate::bench::{self, BenchError, Figure, Figures, HashFigures, Settings, Side};
use crate::hash::Kernel;

pub(super) fn loopback(options: LoopbackOptions, output: &Output) -> Result<(), Failure> {
    let parent = options.dir.unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new()
        .prefix("bt-fast-bench-")
        .tempdir_in(&parent)
        .map_err(|error| Failure::io("can't make a folder", &parent.to_string_lossy(), &error))?;
    let settings = Settings {
        len: options.size,
        piece_len: options.piece_len,
        folder: folder.path().to_owned(),
        ring_count: options.rings,
        arena_len: options.arena_len,
        hash_kernel: options.hash_kernel,
    };
    let figures = bench::run(&settings, &mut |phase| output.message(format_args!("{phase} …")))?;
    if output.is_json() {
        output.record(&figures);
    } else {
        show_loopback(&figures, output);
    }
    Ok(())
}

fn show_loopback(figures: &Figures, output: &Output) {
    let (len, piece_len) = (Bytes(figures.bytes), Bytes(u64::from(figures.piece_length)));
    output.result(format_args!("loopback: {len}, pieces of {piece_len}, {} rings on each side", figures.rings));
    let row = |what: &str, seconds: f64, note: &str| {
        output.result(format_args!("{what:<22}{:>12}   {seconds:>6.2} s   {note}", figures.rate(seconds).to_string()));
    };
    row("create", figures.create_s, "hashed");
    row("seed → get", figures.transfer_s, "start to exit; verified and written");
    row("verify", figures.verify_s, "hashed again");
    let side = |what: &str, side: &Side| {
        output.result(format_args!(
            "{what:<22}{:>5.2} CPU-s/GB   (user {:.2} s, system {:.2} s)   peak memory {}, file pages included",
            side.cpu_s_per_gb,
            side.cpu_user_s,
            side.cpu_system_s,
            Bytes(side.memory_peak)
        ));
    };
    side("seed", &figures.seed);
    side("get", &figures.get);
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    let ms = |us: u64| us as f64 / 1000.0;
    output.result(format_args!(
        "request → block       p50 {:.2} ms   p99 {:.2} ms   p99.9 {:.2} ms",
        ms(figures.latency_p50_us),
        ms(figures.latency_p99_us),
        ms(figures.latency_p999_us)
    ));
    output.result(format_args!("received twice        {}", Bytes(figures.wasted_bytes)));
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
    output.result(format_args!("GB/s, medians of {rounds} rounds; chosen: {chosen}"));
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
        let where_at = if figure.cores == 1 { "one core".to_owned() } else { format!("all {cores} cores") };
        output.result(format_args!("{what:<32}{where_at:<14}{:>7.2}", figure.gb_per_s));
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
