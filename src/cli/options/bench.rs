//! Resolves the options of `bench`.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{arena_len, create_piece_len, duration, rate, rate_limit, ring_count, size, usage, write_mode};
use crate::base::escape::printable;
use crate::bench::Medium;
use crate::bench::swarm::Scenario;
use crate::cli::args::{BenchIoArg, FloorArgs, HashArgs, LoopbackArgs, OlderArgs, PlaceArgs, SwarmArgs};
use crate::cli::exit::Failure;
use crate::engine::WriteMode;
use crate::hash::Kernel;
use crate::io::{Driver, DriverChoice};

/// A file system in memory.
const SHARED_MEMORY: &str = "/dev/shm";
/// 1 Gbit/s, in bytes per second.
const SIMULATED_LINK: u64 = 125_000_000;
const SIMULATED_PIECE_LEN: u32 = 256 << 10;

#[derive(Debug)]
pub struct LoopbackOptions {
    /// Content in bytes, at least 1.
    pub size: u64,
    /// `None` for the piece length that `create` chooses.
    pub piece_len: Option<u32>,
    pub peer_count: usize,
    pub rounds: usize,
    /// Measure the bare pair.
    pub with_floor: bool,
    pub folder: BenchFolder,
    pub write: WriteMode,
    pub drivers: Vec<Driver>,
    pub rings: usize,
    pub arena_len: u64,
    pub hash_kernel: Kernel,
    pub seed_flags: Vec<OsString>,
    pub get_flags: Vec<OsString>,
    /// Page with charts to write.
    pub html: Option<PathBuf>,
    pub compare: Option<CompareOptions>,
}

/// An earlier run to compare with.
#[derive(Debug)]
pub struct CompareOptions {
    /// Its JSON output.
    pub path: PathBuf,
    /// Compare also runs of different conditions.
    pub force: bool,
}

#[derive(Debug)]
pub struct HashOptions {
    pub hash_kernel: Kernel,
    /// Approximate time to measure.
    pub seconds: u64,
    pub compare: Option<CompareOptions>,
}

#[derive(Debug)]
pub struct FloorOptions {
    /// Bytes to move in each round, at least 1.
    pub len: u64,
    pub piece_len: u32,
    pub rounds: usize,
    pub folder: BenchFolder,
    pub hash_kernel: Kernel,
    pub compare: Option<CompareOptions>,
}

#[derive(Debug)]
pub enum SwarmOptions {
    Simulated(Scenario),
    /// Processes on this machine.
    Fleet {
        transfer: LoopbackOptions,
        /// Rate of each downloader's link in bytes per second; `None` for no limit.
        link: Option<u64>,
        /// Rate of the origin's uplink in bytes per second; `None` for no limit.
        origin: Option<u64>,
    },
}

/// Where a benchmark creates its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchFolder {
    pub parent: PathBuf,
    pub to: Medium,
}

pub(super) fn resolve_loopback(args: LoopbackArgs, hash_kernel: Kernel) -> Result<LoopbackOptions, Failure> {
    let rings = ring_count(args.rings)?;
    let drivers = resolve_drivers(&args, rings)?;
    Ok(LoopbackOptions {
        size: size("--size", &args.size)?,
        piece_len: args.piece_length.as_deref().map(create_piece_len).transpose()?,
        peer_count: usize::from(args.peers),
        rounds: usize::from(args.rounds),
        with_floor: !args.no_floor,
        folder: match resolve_folder(args.place) {
            folder if args.null_data => BenchFolder { to: Medium::Nowhere, ..folder },
            folder => folder,
        },
        write: write_mode(args.write),
        drivers,
        rings,
        arena_len: arena_len(args.arena.as_deref())?,
        hash_kernel,
        seed_flags: words(args.seed_flags.as_deref()),
        get_flags: words(args.get_flags.as_deref()),
        html: args.html,
        compare: resolve_compare(args.older),
    })
}

fn resolve_drivers(args: &LoopbackArgs, rings: usize) -> Result<Vec<Driver>, Failure> {
    let choice = match args.io {
        BenchIoArg::Auto => DriverChoice::Auto,
        BenchIoArg::Ring => DriverChoice::Only(Driver::Ring),
        BenchIoArg::Plain => DriverChoice::Only(Driver::Plain),
        BenchIoArg::Both if args.html.is_some() || args.older.compare.is_some() => {
            return Err(usage("--io both compares two drivers: leave --html and --compare out"));
        }
        BenchIoArg::Both => {
            DriverChoice::Only(Driver::Ring).choose(rings)?;
            return Ok(vec![Driver::Ring, Driver::Plain]);
        }
    };
    Ok(vec![choice.choose(rings)?.driver])
}

fn resolve_compare(args: OlderArgs) -> Option<CompareOptions> {
    Some(CompareOptions { path: args.compare?, force: args.force })
}

pub(super) fn resolve_hash(args: HashArgs, hash_kernel: Kernel) -> Result<HashOptions, Failure> {
    let seconds = duration("--seconds", &args.seconds)?.as_secs();
    if !(1..=3600).contains(&seconds) {
        let text = printable(args.seconds.as_bytes());
        return Err(usage(format_args!("--seconds: {text}: give 1 second to an hour")));
    }
    Ok(HashOptions { hash_kernel, seconds, compare: resolve_compare(args.older) })
}

pub(super) fn resolve_floor(args: FloorArgs, hash_kernel: Kernel) -> Result<FloorOptions, Failure> {
    Ok(FloorOptions {
        len: size("--size", &args.size)?,
        piece_len: create_piece_len(&args.piece_length)?,
        rounds: usize::from(args.rounds),
        folder: resolve_folder(args.place),
        hash_kernel,
        compare: resolve_compare(args.older),
    })
}

/// Parses a rate of at least one byte per second.
fn link_rate(flag: &str, text: &str) -> Result<u64, Failure> {
    match rate(flag, text)? {
        0 => Err(usage(format_args!("{flag}: 0: give at least one byte per second"))),
        rate => Ok(rate),
    }
}

pub(super) fn resolve_swarm(args: SwarmArgs, hash_kernel: Kernel) -> Result<SwarmOptions, Failure> {
    let rate = |flag, text: &Option<String>| text.as_deref().map(|text| link_rate(flag, text)).transpose();
    let (link, origin) = (rate("--link", &args.link)?, rate("--origin", &args.origin)?);
    let Some(leechers) = args.simulate else {
        let rings = ring_count(None)?;
        let (link, origin) =
            (rate_limit("--link", args.link.as_deref())?, rate_limit("--origin", args.origin.as_deref())?);
        return Ok(SwarmOptions::Fleet {
            transfer: LoopbackOptions {
                size: size("--size", &args.size)?,
                piece_len: args.piece_length.as_deref().map(create_piece_len).transpose()?,
                peer_count: usize::from(args.peers),
                rounds: usize::from(args.rounds),
                with_floor: false,
                folder: resolve_folder(args.place),
                write: WriteMode::Auto,
                drivers: vec![DriverChoice::Auto.choose(rings)?.driver],
                rings,
                arena_len: arena_len(None)?,
                hash_kernel,
                seed_flags: Vec::new(),
                get_flags: Vec::new(),
                html: None,
                compare: None,
            },
            link,
            origin: origin.or(link),
        });
    };
    if args.place.ram || args.place.dir.is_some() {
        return Err(usage("bench swarm: a simulation needs no files: leave --ram and --dir out"));
    }
    let shares = [args.churn, args.free_riders, args.corrupting, args.silent];
    let bad = args.free_riders + args.corrupting + args.silent;
    if shares.iter().any(|share| !(0.0..=1.0).contains(share)) || bad + args.churn > 1.0 {
        return Err(usage("bench swarm: give shares from 0 to 1, whose sum is at most 1"));
    }
    let link_rate = link.unwrap_or(SIMULATED_LINK);
    Ok(SwarmOptions::Simulated(Scenario {
        seed: args.seed,
        leechers: leechers as usize,
        piece_count: args.pieces,
        piece_len: args.piece_length.as_deref().map_or(Ok(SIMULATED_PIECE_LEN), create_piece_len)?,
        origin_rate: origin.unwrap_or(link_rate),
        link_rate,
        mixed_rates: args.mixed,
        churn: args.churn,
        free_riders: args.free_riders,
        corrupting: args.corrupting,
        silent: args.silent,
    }))
}

fn resolve_folder(args: PlaceArgs) -> BenchFolder {
    let parent = if args.ram { SHARED_MEMORY.into() } else { args.dir.unwrap_or_else(std::env::temp_dir) };
    BenchFolder { parent, to: if args.ram { Medium::Memory } else { Medium::Disk } }
}

fn words(text: Option<&str>) -> Vec<OsString> {
    text.unwrap_or_default().split_whitespace().map(Into::into).collect()
}
