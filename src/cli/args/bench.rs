//! `bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::WriteArg;

#[derive(Subcommand, Debug)]
pub enum BenchArgs {
    /// Create, seed, get and verify random content on this machine, beside the bare pair
    Loopback(LoopbackArgs),
    /// Every hash kernel on this processor, by number and length of pieces
    Hash(HashArgs),
    /// What the machine could do without BitTorrent: the bound that everything else is shown against
    Floor(FloorArgs),
    /// One origin, many downloaders: how near to the theoretical bound the last one finishes
    Swarm(SwarmArgs),
    /// One side of the bare pair; its part is read from standard input
    #[command(hide = true)]
    Side,
}

const LOOPBACK_AFTER_HELP: &str = "\
Seed and each get are processes of their own. What is told: GB/s from the start of get to its end, everything \
verified and written; its share of the bare pair (two processes of plain threads that send, take apart, hash and \
write the same bytes without any protocol, in turn with ours); processor time by kind of thread; page faults, context \
switches, memory; latency from request to block.

System calls are told where the kernel lets us count them: to root, or with CAP_PERFMON and a readable tracefs.";

#[derive(Args, Debug)]
#[command(after_help = LOOPBACK_AFTER_HELP)]
pub struct LoopbackArgs {
    /// Length of the content
    #[arg(long, value_name = "SIZE", default_value = "1G")]
    pub size: String,
    /// Piece length [default: as create chooses it]
    #[arg(short = 'l', long, value_name = "LEN")]
    pub piece_length: Option<String>,
    /// Downloads at the same time, each a process
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub peers: u16,
    /// Measure so often; medians are told
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u16).range(1..=99))]
    pub rounds: u16,
    /// Leave the bare pair out
    #[arg(long)]
    pub no_floor: bool,
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Content that is nowhere: zeros that no disk and no page cache holds, hashed and not written
    #[arg(long, conflicts_with_all = ["dir", "ram", "write"])]
    pub null_data: bool,
    /// How get writes pieces
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub write: WriteArg,
    /// More flags for seed, separated by spaces
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub seed_flags: Option<String>,
    /// More flags for each get, separated by spaces
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub get_flags: Option<String>,
    /// Write a page with charts; it needs nothing but itself
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub older: OlderArgs,
    /// Ring threads of each side, 1 to 8 [default: one per core]
    #[arg(long, value_name = "N")]
    pub rings: Option<usize>,
    /// Memory for pieces on their way [default: 256M]
    #[arg(long, value_name = "SIZE")]
    pub arena: Option<String>,
}

const SWARM_AFTER_HELP: &str = "\
The bound is max(F/u_s, F/d_min, N*F/(u_s + sum of u_i)): content over the origin's rate, over the slowest link, and all \
copies over all uplinks. Real downloaders share this machine, so what it can do is measured in each round: all of them \
get everything at once, each from an origin of its own, with the same reading, sending, hashing and writing. T_min is that time, or the \
links' bound where that is later. With --link or --origin each kind of link is measured alone before, for three \
seconds, and the bound is made of what it carried.

Simulated, the same options give the same run, on however many cores. Shares are numbers from 0 to 1, of the downloaders.";

#[derive(Args, Debug)]
#[command(after_help = SWARM_AFTER_HELP)]
pub struct SwarmArgs {
    /// Downloaders, each a process of its own on this machine
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u16).range(1..=64))]
    #[arg(conflicts_with = "simulate")]
    pub peers: u16,
    /// Length of the content
    #[arg(long, value_name = "SIZE", default_value = "1G", conflicts_with = "simulate")]
    pub size: String,
    /// Measure so often; the round of the median is told
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=99))]
    #[arg(conflicts_with = "simulate")]
    pub rounds: u16,
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Piece length [default: as create chooses it; simulated: 256K]
    #[arg(short = 'l', long, value_name = "LEN")]
    pub piece_length: Option<String>,
    /// Each downloader's link in bytes/s, up and down [default: without a limit; simulated: 125000000, 1 Gbit/s]
    #[arg(long, value_name = "RATE")]
    pub link: Option<String>,
    /// The origin's uplink in bytes/s [default: as the links]
    #[arg(long, value_name = "RATE")]
    pub origin: Option<String>,
    /// Simulate this many downloaders on a virtual clock instead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub simulate: Option<u32>,
    /// Pieces of the content
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    #[arg(requires = "simulate")]
    pub pieces: u32,
    /// Links of the full rate, a half and a quarter of it
    #[arg(long, requires = "simulate")]
    pub mixed: bool,
    /// Leave without a word once, and come back
    #[arg(long, value_name = "SHARE", default_value = "0", requires = "simulate")]
    pub churn: f64,
    /// Take and give nothing
    #[arg(long, value_name = "SHARE", default_value = "0", requires = "simulate")]
    pub free_riders: f64,
    /// Send wrong blocks half of the time
    #[arg(long, value_name = "SHARE", default_value = "0", requires = "simulate")]
    pub corrupting: f64,
    /// Say that they have everything and answer nothing
    #[arg(long, value_name = "SHARE", default_value = "0", requires = "simulate")]
    pub silent: f64,
    /// Of all that is random
    #[arg(long, value_name = "N", default_value = "1", requires = "simulate")]
    pub seed: u64,
}

/// Where a benchmark puts its files.
#[derive(Args, Debug)]
pub struct PlaceArgs {
    /// Folder for the content, removed afterwards [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Everything in memory (/dev/shm), nothing on disk
    #[arg(long, conflicts_with = "dir")]
    pub ram: bool,
}

/// Figures of another run.
#[derive(Args, Debug)]
pub struct OlderArgs {
    /// Show every number beside that of an older run's --json output
    #[arg(long, value_name = "OLD.json")]
    pub compare: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct FloorArgs {
    /// GiB that each kind of work moves in each round
    #[arg(long, value_name = "N", default_value = "1")]
    pub gib: f64,
    /// Piece length
    #[arg(short = 'l', long, value_name = "LEN", default_value = "1M")]
    pub piece_length: String,
    /// Measure so often; medians are told
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u16).range(1..=99))]
    pub rounds: u16,
    #[command(flatten)]
    pub place: PlaceArgs,
    #[command(flatten)]
    pub older: OlderArgs,
}

const HASH_AFTER_HELP: &str = "\
GB/s of one core for every kernel that this processor has: SHA-1 of 1 to 16 pieces of 16K to 4M, SHA-256 \
of 16K blocks, beside the crates sha1 and sha2. Then all cores at once with the kernel that --hash-kernel \
names, and memory read and added up, which no hashing can pass.

'chosen' says which kernel runs for how many pieces. Where two are close, a race of less than 1 ms when \
the program starts decides; hashes are the same with every kernel.";

#[derive(Args, Debug)]
#[command(after_help = HASH_AFTER_HELP)]
pub struct HashArgs {
    /// About how long to measure, 1 second to an hour
    #[arg(long, value_name = "TIME", default_value = "12")]
    pub seconds: String,
}
