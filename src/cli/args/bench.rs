//! The arguments of `bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::WriteArg;

#[derive(Subcommand, Debug)]
pub enum BenchArgs {
    /// Transfer random content between processes on this machine, beside a plain copy program
    Loopback(LoopbackArgs),
    /// Measure every hash kernel that this processor supports
    Hash(HashArgs),
    /// Measure the disk, memory, network stack and processor of this machine without BitTorrent
    Floor(FloorArgs),
    /// Distribute content from one origin to many downloaders, and compare the last one's time with the theoretical
    /// bound
    Swarm(SwarmArgs),
    /// Run one side of the bare pair; its job is read from standard input
    #[command(hide = true)]
    Side,
}

const LOOPBACK_AFTER_HELP: &str = "\
Creates, seeds, downloads and verifies random content; seed and each get run in separate processes.

Reports GB/s from the start of get to its exit, with everything verified and written; the share of the bare pair; \
processor time by kind of thread; page faults, context switches and memory; and the latency from request to block.

The bare pair is a plain copy program, a yardstick and no limit: two processes of plain threads that send, receive, \
hash and write the same bytes without a protocol. It takes turns with the transfer. bt-fast can be faster: it keeps \
more writes past the page cache under way and has more memory between network and disk.

'at most' is the highest rate that this machine permits, computed from the same run, with the resource that binds: the \
processor (cores divided by the processor seconds per GB of both sides), the disk (the highest rate at which this run \
wrote past the page cache, if one peer downloads to a disk) or memory (the rate at which all cores copy it).

--compare prints median, lowest and highest round of both runs. It gives a verdict only if no round of one run reaches \
the rounds of the other and the medians are further apart than the rounds of either run.

System calls are counted for root, or with CAP_PERFMON and a readable tracefs.";

#[derive(Args, Debug)]
#[command(after_help = LOOPBACK_AFTER_HELP)]
pub struct LoopbackArgs {
    /// Length of the content in bytes
    #[arg(long, value_name = "SIZE", default_value = "1G")]
    pub size: String,
    /// Piece length in bytes [default: as create chooses it]
    #[arg(short = 'l', long, value_name = "LEN")]
    pub piece_length: Option<String>,
    /// Number of concurrent downloads, each a process
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub peers: u16,
    /// Number of rounds to measure; medians are reported
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u16).range(1..=99))]
    pub rounds: u16,
    /// Do not measure the bare pair, the disk and memory
    #[arg(long)]
    pub no_floor: bool,
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Transfer zeros that are on no disk and in no page cache; they are hashed and not written
    #[arg(long, conflicts_with_all = ["dir", "ram", "write"])]
    pub null_data: bool,
    /// How get writes pieces, see get --write
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub write: WriteArg,
    /// Further flags for seed, separated by spaces
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub seed_flags: Option<String>,
    /// Further flags for each get, separated by spaces
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub get_flags: Option<String>,
    /// Write a self-contained HTML page with charts to FILE
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub older: OlderArgs,
    /// Number of ring threads of each process, 1 to 8 [default: one per core]
    #[arg(long, value_name = "N")]
    pub rings: Option<usize>,
    /// Memory for pieces that are being received or sent, for each process [default: 256M]
    #[arg(long, value_name = "SIZE")]
    pub arena: Option<String>,
}

const SWARM_AFTER_HELP: &str = "\
The bound is max(F/u_s, F/d_min, N*F/(u_s + sum of u_i)): the content at the origin's rate, the content at the rate of \
the slowest link, and all copies at the rate of all uplinks together.

Real downloaders share this machine, so each round also measures its limit: all downloaders get the content at the same \
time, each from an origin of its own, with the same reading, sending, hashing and writing. T_min is that time, or the \
bound of the links if it is longer. With --link or --origin, each kind of link is first measured alone for three \
seconds, and the bound uses the measured rates.

A simulation gives the same result for the same options on any number of cores. Shares are fractions of the \
downloaders, from 0 to 1.";

#[derive(Args, Debug)]
#[command(after_help = SWARM_AFTER_HELP)]
pub struct SwarmArgs {
    /// Number of downloaders, each a process on this machine
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u16).range(1..=64))]
    #[arg(conflicts_with = "simulate")]
    pub peers: u16,
    /// Length of the content in bytes
    #[arg(long, value_name = "SIZE", default_value = "1G", conflicts_with = "simulate")]
    pub size: String,
    /// Number of rounds to measure; the median round is reported
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=99))]
    #[arg(conflicts_with = "simulate")]
    pub rounds: u16,
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Piece length in bytes [default: as create chooses it; simulated: 256K]
    #[arg(short = 'l', long, value_name = "LEN")]
    pub piece_length: Option<String>,
    /// Rate of each downloader's link in bytes per second, up and down [default: no limit; simulated: 125000000 (1
    /// Gbit/s)]
    #[arg(long, value_name = "RATE")]
    pub link: Option<String>,
    /// Rate of the origin's uplink in bytes per second [default: that of --link]
    #[arg(long, value_name = "RATE")]
    pub origin: Option<String>,
    /// Simulate N downloaders on a virtual clock instead of running processes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub simulate: Option<u32>,
    /// Number of pieces of the simulated content
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    #[arg(requires = "simulate")]
    pub pieces: u32,
    /// Give the downloaders links of the full, half and quarter rate
    #[arg(long, requires = "simulate")]
    pub mixed: bool,
    /// Share of downloaders that leave once without telling the tracker, and return
    #[arg(long, value_name = "SHARE", default_value = "0", requires = "simulate")]
    pub churn: f64,
    /// Share of downloaders that download and never upload
    #[arg(long, value_name = "SHARE", default_value = "0", requires = "simulate")]
    pub free_riders: f64,
    /// Share of downloaders that corrupt half of the blocks they send
    #[arg(long, value_name = "SHARE", default_value = "0", requires = "simulate")]
    pub corrupting: f64,
    /// Share of downloaders that claim to have every piece and never answer a request
    #[arg(long, value_name = "SHARE", default_value = "0", requires = "simulate")]
    pub silent: f64,
    /// Seed of the random numbers
    #[arg(long, value_name = "N", default_value = "1", requires = "simulate")]
    pub seed: u64,
}

/// The folder of a benchmark's files.
#[derive(Args, Debug)]
pub struct PlaceArgs {
    /// Folder for the content, which is removed afterwards [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Keep all files in memory (/dev/shm) and none on disk
    #[arg(long, conflicts_with = "dir")]
    pub ram: bool,
}

/// The figures of an earlier run.
#[derive(Args, Debug)]
pub struct OlderArgs {
    /// Compare with the --json output of an earlier run of the same conditions; -v shows every number
    #[arg(long, value_name = "OLD.json")]
    pub compare: Option<PathBuf>,
    /// Compare also runs of another size, place, machine or other flags
    #[arg(long, requires = "compare")]
    pub force: bool,
}

const FLOOR_AFTER_HELP: &str = "\
The rate of a write with a sync includes the write to the page cache of the same file. With --ram there is no disk: \
writes past the page cache and syncs are left out.";

#[derive(Args, Debug)]
#[command(after_help = FLOOR_AFTER_HELP)]
pub struct FloorArgs {
    /// Bytes to move in each round, for each kind of work
    #[arg(long, value_name = "SIZE", default_value = "1G")]
    pub size: String,
    /// Piece length in bytes
    #[arg(short = 'l', long, value_name = "LEN", default_value = "1M")]
    pub piece_length: String,
    /// Number of rounds to measure; medians are reported
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u16).range(1..=99))]
    pub rounds: u16,
    #[command(flatten)]
    pub place: PlaceArgs,
    #[command(flatten)]
    pub older: OlderArgs,
}

const HASH_AFTER_HELP: &str = "\
Reports GB/s of one core for every kernel that this processor supports: SHA-1 of 1 to 16 pieces of 16K to 4M, and \
SHA-256 of 16K blocks, next to the crates sha1 and sha2. Then measures all cores with the kernel of --hash-kernel, and \
the rate of reading memory and adding it up, which hashing cannot exceed.

The column auto is the kernel, or the sequence of kernels, that is used for this number of pieces; the last column \
names it, and 'chosen' lists SHA-1's for 1 to 16 pieces. Measurements of less than 1 ms when a program first hashes \
choose it. All kernels give the same hashes.";

#[derive(Args, Debug)]
#[command(after_help = HASH_AFTER_HELP)]
pub struct HashArgs {
    /// Approximate time to measure, from 1 second to 1 hour
    #[arg(long, value_name = "TIME", default_value = "12")]
    pub seconds: String,
    #[command(flatten)]
    pub older: OlderArgs,
}
