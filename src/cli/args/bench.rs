//! The arguments of `bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::help::{self, CONTENT, LIMITS, MEASUREMENT, OUTPUT, PEERS, SIMULATION, STORAGE, TUNING};
use super::{BenchIoArg, WriteArg};

#[derive(Subcommand, Debug)]
pub enum BenchArgs {
    /// Transfer random content between processes on this machine
    ///
    /// The transfer takes turns with a plain copy program, the bare pair.
    Loopback(LoopbackArgs),
    /// Measure every hash kernel that this processor supports
    Hash(HashArgs),
    /// Measure what this machine can do without BitTorrent
    ///
    /// Measures the disk, memory, network stack and processor.
    Floor(FloorArgs),
    /// Distribute content from one origin to many downloaders
    ///
    /// The time of the last downloader is compared with the theoretical bound.
    Swarm(SwarmArgs),
    /// Run one side of the bare pair; its job is read from standard input
    #[command(hide = true)]
    Side,
}

#[derive(Args, Debug)]
#[command(after_help = help::MORE, after_long_help = help::LOOPBACK.long())]
pub struct LoopbackArgs {
    /// Length of the content in bytes
    #[arg(long, value_name = "SIZE", default_value = "1G", help_heading = CONTENT)]
    pub size: String,
    /// Piece length in bytes
    ///
    /// The default is the one of create.
    #[arg(short = 'l', long, value_name = "LEN", help_heading = CONTENT)]
    pub piece_length: Option<String>,
    /// Number of concurrent downloads
    ///
    /// Each is a process.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=256))]
    #[arg(help_heading = PEERS)]
    pub peers: u16,
    /// Number of rounds; medians are reported
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u16).range(1..=99))]
    #[arg(help_heading = MEASUREMENT)]
    pub rounds: u16,
    /// Do not measure the bare pair, the disk and memory, nor show what the machine permits at most
    #[arg(long, help_heading = MEASUREMENT)]
    pub no_floor: bool,
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Transfer zeros that are on no disk
    ///
    /// The zeros are in no page cache either; they are hashed and not written.
    #[arg(long, conflicts_with_all = ["dir", "ram", "write"], help_heading = STORAGE)]
    pub null_data: bool,
    /// How get writes pieces, see get --write
    #[arg(long, value_name = "HOW", default_value = "auto", help_heading = STORAGE, hide_short_help = true)]
    pub write: WriteArg,
    /// Further flags for seed, separated by spaces
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true, help_heading = TUNING, hide_short_help = true)]
    pub seed_flags: Option<String>,
    /// Further flags for each get, separated by spaces
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true, help_heading = TUNING, hide_short_help = true)]
    pub get_flags: Option<String>,
    /// Write a page with charts to FILE
    ///
    /// The page is self-contained HTML.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub older: OlderArgs,
    /// Driver of both sides, see get --io; both measures ring and plain in turn, and compares them
    #[arg(long, value_name = "DRIVER", default_value = "auto", help_heading = TUNING, hide_short_help = true)]
    pub io: BenchIoArg,
    /// Number of ring threads of each process, 1 to 8 [default: one per core]
    #[arg(long, value_name = "N", help_heading = TUNING, hide_short_help = true)]
    pub rings: Option<usize>,
    /// Memory for pieces that are being received or sent, for each process [default: 256M]
    #[arg(long, value_name = "SIZE", help_heading = TUNING, hide_short_help = true)]
    pub arena: Option<String>,
}

#[derive(Args, Debug)]
#[command(after_help = help::MORE, after_long_help = help::SWARM.long())]
pub struct SwarmArgs {
    /// Number of downloaders
    ///
    /// Each is a process on this machine.
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u16).range(1..=64))]
    #[arg(conflicts_with = "simulate", help_heading = PEERS)]
    pub peers: u16,
    /// Length of the content in bytes
    #[arg(long, value_name = "SIZE", default_value = "1G", conflicts_with = "simulate", help_heading = CONTENT)]
    pub size: String,
    /// Number of rounds; reports the median
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=99))]
    #[arg(conflicts_with = "simulate", help_heading = MEASUREMENT)]
    pub rounds: u16,
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Piece length in bytes
    ///
    /// The default is the one of create, and 256K in a simulation.
    #[arg(short = 'l', long, value_name = "LEN", help_heading = CONTENT)]
    pub piece_length: Option<String>,
    /// Rate of each link in bytes/s
    ///
    /// The rate of each downloader's link, up and down. The default is no limit, and 125000000 (1 Gbit/s) in a simulation.
    #[arg(long, value_name = "RATE", help_heading = LIMITS)]
    pub link: Option<String>,
    /// Rate of the origin's uplink in bytes/s
    ///
    /// The default is that of --link.
    #[arg(long, value_name = "RATE", help_heading = LIMITS)]
    pub origin: Option<String>,
    /// Simulate N downloaders
    ///
    /// On a virtual clock, without further processes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    #[arg(help_heading = SIMULATION)]
    pub simulate: Option<u32>,
    /// Number of simulated pieces
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    #[arg(requires = "simulate", help_heading = SIMULATION)]
    pub pieces: u32,
    /// Give the downloaders links of the full, half and quarter rate
    #[arg(long, requires = "simulate", help_heading = SIMULATION, hide_short_help = true)]
    pub mixed: bool,
    /// Share of downloaders that leave once without telling the tracker, and return
    #[arg(long, value_name = "SHARE", default_value = "0", requires = "simulate")]
    #[arg(help_heading = SIMULATION, hide_short_help = true)]
    pub churn: f64,
    /// Share of downloaders that download and never upload
    #[arg(long, value_name = "SHARE", default_value = "0", requires = "simulate")]
    #[arg(help_heading = SIMULATION, hide_short_help = true)]
    pub free_riders: f64,
    /// Share of downloaders that corrupt half of the blocks they send
    #[arg(long, value_name = "SHARE", default_value = "0", requires = "simulate")]
    #[arg(help_heading = SIMULATION, hide_short_help = true)]
    pub corrupting: f64,
    /// Share of downloaders that claim to have every piece and never answer a request
    #[arg(long, value_name = "SHARE", default_value = "0", requires = "simulate")]
    #[arg(help_heading = SIMULATION, hide_short_help = true)]
    pub silent: f64,
    /// Seed of the random numbers
    #[arg(long, value_name = "N", default_value = "1", requires = "simulate")]
    #[arg(help_heading = SIMULATION, hide_short_help = true)]
    pub seed: u64,
}

/// The folder of a benchmark's files.
#[derive(Args, Debug)]
pub struct PlaceArgs {
    /// Folder for the content
    ///
    /// The content is removed afterwards. The default is a temporary folder.
    #[arg(long, value_name = "DIR", help_heading = STORAGE)]
    pub dir: Option<PathBuf>,
    /// Keep all files in memory
    ///
    /// The files are in /dev/shm and not on disk.
    #[arg(long, conflicts_with = "dir", help_heading = STORAGE)]
    pub ram: bool,
}

/// The figures of an earlier run.
#[derive(Args, Debug)]
pub struct OlderArgs {
    /// Compare with the --json output of a run
    ///
    /// The earlier run must have the same size, place, machine and flags. -v shows every number.
    #[arg(long, value_name = "OLD.json", help_heading = OUTPUT)]
    pub compare: Option<PathBuf>,
    /// Compare also runs of another size, place, machine or other flags
    #[arg(long, requires = "compare", help_heading = OUTPUT, hide_short_help = true)]
    pub force: bool,
}

#[derive(Args, Debug)]
#[command(after_help = help::MORE, after_long_help = help::FLOOR.long())]
pub struct FloorArgs {
    /// Bytes to move for each kind of work
    #[arg(long, value_name = "SIZE", default_value = "1G", help_heading = MEASUREMENT)]
    pub size: String,
    /// Piece length in bytes
    #[arg(short = 'l', long, value_name = "LEN", default_value = "1M", help_heading = CONTENT)]
    pub piece_length: String,
    /// Number of rounds; medians are reported
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u16).range(1..=99))]
    #[arg(help_heading = MEASUREMENT)]
    pub rounds: u16,
    #[command(flatten)]
    pub place: PlaceArgs,
    #[command(flatten)]
    pub older: OlderArgs,
}

#[derive(Args, Debug)]
#[command(after_help = help::MORE, after_long_help = help::HASH.long())]
pub struct HashArgs {
    /// Approximate time to measure
    ///
    /// From 1 second to 1 hour.
    #[arg(long, value_name = "TIME", default_value = "12", help_heading = MEASUREMENT)]
    pub seconds: String,
    #[command(flatten)]
    pub older: OlderArgs,
}
