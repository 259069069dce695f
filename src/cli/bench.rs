//! `bt-fast bench loopback`.

use super::exit::{Exit, Failure, exit_of};
use super::options::LoopbackOptions;
use super::output::Output;
use crate::base::units::Bytes;
use crate::bench::{self, BenchError, Figures, Settings, Side};

pub(super) fn run(options: LoopbackOptions, output: &Output) -> Result<(), Failure> {
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
        show(&figures, output);
    }
    Ok(())
}

fn show(figures: &Figures, output: &Output) {
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
