//! Resolves the command line into typed options, with values checked and defaults filled in. Every error that can be
//! found without doing any work is found here.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::{
    Arguments, BenchArgs, CacheArg, CommandArgs, EngineArgs, IoArg, LimitArgs, MagnetArgs, NetworkArgs, ProgressArgs,
    ProxyArgs, ServingArgs, ShowArgs, VerifyArgs, WriteArg, ZeroCopyArg,
};
use super::exit::{Exit, Failure};
use crate::base::cidr::{AddressFilter, Cidr};
use crate::base::date::parse_date;
use crate::base::escape::{printable, printed};
use crate::base::limits;
use crate::base::units::{Bytes, parse_duration, parse_size};
use crate::codec::metainfo::MetainfoLimits;
use crate::codec::url::{TRACKER_SCHEMES, WEB_SCHEMES, usable, without_credentials};
use crate::engine::{CacheMode, RateLimits, StreamLimit, StreamOpening, WriteMode, arena_len_default};
use crate::hash::Kernel;
use crate::io::{ChosenDriver, Device, Driver, DriverChoice, ZeroCopyMode, raise_descriptor_limit};
use crate::swarm::choker::Slots;
use crate::web::forwarded::TrustedProxies;

mod bench;
mod create;
mod edit;
mod get;
mod health;
mod seed;
mod source;
mod track;

pub use bench::{BenchFolder, CompareOptions, FloorOptions, HashOptions, LoopbackOptions, SwarmOptions};
pub use create::{ContentSource, CreateOptions, CreationDate};
pub use edit::{EditOptions, InfoHashPolicy};
pub use get::{GetOptions, GetOutput, SeedUntil};
pub use health::HealthOptions;
pub use seed::{AdminAddress, UntilOptions, WebOptions, is_pattern, is_torrent_name};
pub use source::MetainfoSource;
pub(super) use source::{Incoming, PeerSources};
pub use track::{TrackList, TrackOptions};

#[derive(Debug)]
pub struct Options {
    pub output: OutputOptions,
    /// A kernel that this processor supports.
    pub hash_kernel: Kernel,
    pub command: Command,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct OutputOptions {
    pub quiet: bool,
    /// The number of `-v`, 0 to 3.
    pub verbosity: u8,
    pub json: bool,
    /// File to which the log is appended.
    pub log: Option<PathBuf>,
    /// Time between two progress lines where the progress line cannot be redrawn; zero for no lines.
    pub progress_interval: Duration,
    /// Time between two progress records.
    pub record_interval: Duration,
}

#[derive(Debug)]
pub enum Command {
    Create(CreateOptions),
    Edit(EditOptions),
    Seed(SeedOptions),
    Get(GetOptions),
    Verify(VerifyOptions),
    Show(ShowOptions),
    Magnet(MagnetOptions),
    Track(TrackOptions),
    Health(HealthOptions),
    Completions(clap_complete::Shell),
    /// The folder for the man pages.
    Manual(PathBuf),
    BenchLoopback(LoopbackOptions),
    BenchFloor(FloorOptions),
    BenchSide,
    BenchHash(HashOptions),
    BenchSwarm(SwarmOptions),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Destination {
    /// `NAME.torrent` in the current folder; for `edit` the torrent itself.
    Default,
    File(PathBuf),
    Stdout,
}

#[derive(Debug)]
pub struct SeedOptions {
    /// `.torrent` files and content. At least one, unless `watch` is given.
    pub torrents: Vec<PathBuf>,
    /// Super-seeding (BEP 16).
    pub super_seed: bool,
    /// Folder of `.torrent` files that are followed.
    pub watch: Option<PathBuf>,
    /// Folder that holds the torrents' content; `None` for the folder of each `.torrent`.
    pub data: Option<PathBuf>,
    pub verify: VerifyMode,
    pub rates: RateLimits,
    /// Tracker and pages; `None` if they are off.
    pub web: Option<WebOptions>,
    pub until: UntilOptions,
    pub serving: ServingOptions,
    pub network: NetworkOptions,
    pub engine: EngineOptions,
}

/// When `seed` hashes its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyMode {
    /// Each piece before it is first served.
    Lazy,
    /// All pieces at the start.
    Full,
    Never,
}

#[derive(Debug, Default)]
pub struct NetworkOptions {
    /// `None` for the first free port of 6881 to 6889 (BEP 3).
    pub listen: Option<SocketAddr>,
    pub peers: Vec<SocketAddr>,
    /// Trackers in addition to those of the torrent.
    pub announce: Vec<String>,
    /// Ignore the trackers of the torrent.
    pub announce_only: bool,
    /// IP address or DNS name for the `ip` parameter of announces (BEP 3).
    pub announce_ip: Option<String>,
    pub filter: AddressFilter,
    /// Maximum number of connections; `None` for the default of the command.
    pub connections_max: Option<usize>,
    pub device: Option<Device>,
    /// DSCP of packets to peers, 0 to 63.
    pub dscp: Option<u8>,
}

/// The path of content from disk to network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServingOptions {
    pub cache_mode: CacheMode,
    pub zero_copy: ZeroCopyMode,
}

#[derive(Debug)]
pub struct EngineOptions {
    pub io: ChosenDriver,
    /// The number of ring threads, 1 to [`limits::RINGS_MAX`].
    pub rings: usize,
    pub streams: StreamLimit,
    /// Bytes of the piece arena as requested. The engine raises it to two pieces of the torrent.
    pub arena_len: u64,
    pub slots: Slots,
    pub metainfo: MetainfoLimits,
}

#[derive(Debug)]
pub struct VerifyOptions {
    pub torrent: PathBuf,
    /// Folder that holds the torrent's content.
    pub data: PathBuf,
    /// Trust a remembered check.
    pub fast: bool,
    pub metainfo: MetainfoLimits,
}

#[derive(Debug)]
pub struct ShowOptions {
    pub source: MetainfoSource,
    /// Ask the trackers for the swarm.
    pub scrape: bool,
    /// The network for the metadata of a link, and the interface for trackers.
    pub network: NetworkOptions,
    /// Exit with 4 after this time without metadata; `None` for never.
    pub timeout: Option<Duration>,
    pub engine: EngineOptions,
}

#[derive(Debug)]
pub struct MagnetOptions {
    /// No link.
    pub source: MetainfoSource,
    /// Peers to add to the link.
    pub peers: Vec<SocketAddr>,
    pub engine: EngineOptions,
}

impl Options {
    pub fn resolve(arguments: Arguments) -> Result<Self, Failure> {
        let output = resolve_output(&arguments);
        let hash_kernel = arguments.shared.hash_kernel;
        hash_kernel.plan()?;
        let command = match arguments.command {
            CommandArgs::Create(args) => Command::Create(create::resolve_create(args, output.json)?),
            CommandArgs::Edit(args) => Command::Edit(edit::resolve_edit(args, output.json)?),
            CommandArgs::Seed(args) => Command::Seed(seed::resolve_seed(args)?),
            CommandArgs::Get(args) => Command::Get(get::resolve_get(args, output.json)?),
            CommandArgs::Verify(args) => Command::Verify(resolve_verify(args)),
            CommandArgs::Show(args) => Command::Show(resolve_show(args)?),
            CommandArgs::Magnet(args) => Command::Magnet(resolve_magnet(args)?),
            CommandArgs::Track(args) => Command::Track(track::resolve_track(args)?),
            CommandArgs::Health(args) => Command::Health(health::resolve_health(&args)?),
            CommandArgs::Completions { shell } => Command::Completions(shell),
            CommandArgs::Manual { folder } => Command::Manual(folder),
            CommandArgs::Bench { command } => match command {
                BenchArgs::Loopback(args) => Command::BenchLoopback(bench::resolve_loopback(args, hash_kernel)?),
                BenchArgs::Hash(args) => Command::BenchHash(bench::resolve_hash(args, hash_kernel)?),
                BenchArgs::Floor(args) => Command::BenchFloor(bench::resolve_floor(args, hash_kernel)?),
                BenchArgs::Side => Command::BenchSide,
                BenchArgs::Swarm(args) => Command::BenchSwarm(bench::resolve_swarm(args, hash_kernel)?),
            },
        };
        Ok(Self { output, hash_kernel, command })
    }
}

/// Resolves the output options, which are needed to report errors of all other options.
pub fn resolve_output(args: &Arguments) -> OutputOptions {
    let ProgressArgs { progress_interval, json_interval } = args.command.progress().unwrap_or_default();
    let shared = &args.shared;
    OutputOptions {
        quiet: shared.quiet,
        verbosity: shared.verbose.min(3),
        json: shared.json,
        log: shared.log.clone(),
        progress_interval,
        record_interval: json_interval,
    }
}

fn destination(path: Option<PathBuf>) -> Destination {
    match path {
        None => Destination::Default,
        Some(path) if path == Path::new("-") => Destination::Stdout,
        Some(path) => Destination::File(path),
    }
}

/// Fails if the file and the records of `--json` would be mixed.
fn check_stdout(destination: &Destination, json: bool) -> Result<(), Failure> {
    if json && *destination == Destination::Stdout {
        return Err(usage("-o - and --json both write to standard output: leave one out"));
    }
    Ok(())
}

fn resolve_verify(args: VerifyArgs) -> VerifyOptions {
    let data = args.data.unwrap_or_else(|| folder_of(&args.torrent));
    VerifyOptions { torrent: args.torrent, data, fast: args.fast, metainfo: metainfo_limits(&args.limits) }
}

fn resolve_show(args: ShowArgs) -> Result<ShowOptions, Failure> {
    let network = NetworkOptions {
        listen: args.listen.as_deref().map(|text| address("--listen", text, PEER_PORT)).transpose()?,
        peers: peers(&args.peer)?,
        announce: args.announce.iter().map(|url| announce_url(url)).collect::<Result<_, _>>()?,
        device: args.bind_device.as_deref().map(device).transpose()?,
        ..NetworkOptions::default()
    };
    let source = source::source(args.torrent)?;
    if let MetainfoSource::Magnet(magnet) = &source {
        PeerSources::of_link(magnet, Incoming::Accepted, &network).check(&source)?;
    }
    Ok(ShowOptions {
        source,
        scrape: args.scrape,
        network,
        timeout: args.timeout.as_deref().map(|text| duration("--timeout", text)).transpose()?,
        engine: engine_for_metadata(&args.limits),
    })
}

fn resolve_magnet(args: MagnetArgs) -> Result<MagnetOptions, Failure> {
    let source = source::source(args.torrent)?;
    if let MetainfoSource::Magnet(magnet) = &source {
        let line = format_args!("magnet: {}: it is a link or info-hash already: give a .torrent", magnet.info_hash);
        return Err(usage(line));
    }
    Ok(MagnetOptions { source, peers: peers(&args.peer)?, engine: engine_for_metadata(&args.limits) })
}

/// Returns the engine's options for a command that fetches metadata at most.
fn engine_for_metadata(args: &LimitArgs) -> EngineOptions {
    EngineOptions {
        io: ChosenDriver { driver: Driver::Plain, refusal: None },
        rings: 1,
        streams: StreamLimit::NONE,
        arena_len: limits::ARENA_LEN_MIN,
        slots: Slots::Auto,
        metainfo: metainfo_limits(args),
    }
}

fn resolve_network(args: &NetworkArgs) -> Result<NetworkOptions, Failure> {
    Ok(NetworkOptions {
        listen: args.listen.as_deref().map(|text| address("--listen", text, PEER_PORT)).transpose()?,
        peers: peers(&args.peer)?,
        announce: args.announce.iter().map(|url| announce_url(url)).collect::<Result<_, _>>()?,
        announce_only: args.announce_only,
        announce_ip: args.announce_ip.as_deref().map(host).transpose()?,
        filter: AddressFilter {
            allow: args.allow_peer.iter().map(|text| range("--allow-peer", text)).collect::<Result<_, _>>()?,
            deny: args.deny_peer.iter().map(|text| range("--deny-peer", text)).collect::<Result<_, _>>()?,
        },
        connections_max: args.connections.map(connections).transpose()?,
        device: args.bind_device.as_deref().map(device).transpose()?,
        dscp: args.dscp,
    })
}

fn resolve_engine(args: &EngineArgs) -> Result<EngineOptions, Failure> {
    let slots = match args.slots.as_str() {
        "auto" => Slots::Auto,
        "all" => Slots::All,
        text => match text.parse() {
            Ok(count @ 1..) => Slots::Count(count),
            _ => {
                let shown = printable(text.as_bytes());
                return Err(usage(format_args!("--slots: '{shown}': give a number, 'auto' or 'all'")));
            }
        },
    };
    // The choice of a driver depends on the descriptors that a session may have.
    raise_descriptor_limit();
    let rings = ring_count(args.rings)?;
    Ok(EngineOptions {
        io: driver_choice(args.io).choose(rings)?,
        rings,
        streams: stream_limit(&args.streams, rings)?,
        arena_len: arena_len(args.arena.as_deref())?,
        slots,
        metainfo: metainfo_limits(&args.limits),
    })
}

fn driver_choice(arg: IoArg) -> DriverChoice {
    match arg {
        IoArg::Auto => DriverChoice::Auto,
        IoArg::Ring => DriverChoice::Only(Driver::Ring),
        IoArg::Plain => DriverChoice::Only(Driver::Plain),
    }
}

fn resolve_serving(args: &ServingArgs, driver: Driver) -> Result<ServingOptions, Failure> {
    if args.zero_copy == ZeroCopyArg::On && driver == Driver::Plain {
        return Err(usage(
            "--zero-copy: only the ring can send without a copy: give auto, or let --io ring say why not",
        ));
    }
    Ok(ServingOptions {
        cache_mode: match args.cache {
            CacheArg::Keep => CacheMode::Keep,
            CacheArg::DropBehind => CacheMode::DropBehind,
        },
        zero_copy: match args.zero_copy {
            _ if driver == Driver::Plain => ZeroCopyMode::Off,
            ZeroCopyArg::Auto => ZeroCopyMode::Auto,
            ZeroCopyArg::On => ZeroCopyMode::On,
            ZeroCopyArg::Off => ZeroCopyMode::Off,
        },
    })
}

fn write_mode(arg: WriteArg) -> WriteMode {
    match arg {
        WriteArg::Auto => WriteMode::Auto,
        WriteArg::Buffered => WriteMode::Buffered,
        WriteArg::Direct => WriteMode::Direct,
    }
}

fn metainfo_limits(args: &LimitArgs) -> MetainfoLimits {
    let default = MetainfoLimits::default();
    MetainfoLimits { piece_count_max: args.max_pieces.unwrap_or(default.piece_count_max), ..default }
}

fn ring_count(rings: Option<usize>) -> Result<usize, Failure> {
    match rings {
        None => Ok(std::thread::available_parallelism().map_or(1, usize::from).min(limits::RINGS_MAX)),
        Some(count) if (1..=limits::RINGS_MAX).contains(&count) => Ok(count),
        Some(count) => Err(usage(format_args!("--rings: {count}: give 1 to {}", limits::RINGS_MAX))),
    }
}

/// Each connection to a peer is on another ring.
fn stream_limit(text: &str, rings: usize) -> Result<StreamLimit, Failure> {
    let limit = |max: usize, opening| StreamLimit { max: u8::try_from(max.min(rings)).unwrap_or(u8::MAX), opening };
    if text == "auto" {
        return Ok(limit(limits::STREAMS_AUTO_MAX, StreamOpening::WhenBusy));
    }
    match text.parse() {
        Ok(max @ 1..=limits::RINGS_MAX) => Ok(limit(max, StreamOpening::AtOnce)),
        _ => {
            let (most, shown) = (limits::RINGS_MAX, printable(text.as_bytes()));
            Err(usage(format_args!("--streams: '{shown}': give 1 to {most}, or 'auto'")))
        }
    }
}

fn arena_len(text: Option<&str>) -> Result<u64, Failure> {
    let Some(text) = text else { return Ok(arena_len_default()) };
    match size("--arena", text)? {
        len if len < limits::ARENA_LEN_MIN => {
            let (least, text) = (Bytes(limits::ARENA_LEN_MIN), printable(text.as_bytes()));
            Err(usage(format_args!(
                "--arena: {text}: give at least {least}; it always holds at least two pieces of a torrent"
            )))
        }
        len => Ok(len),
    }
}

/// Parses a size of at least one byte.
fn size(flag: &str, text: &str) -> Result<u64, Failure> {
    match parse_size(text) {
        Ok(0) => Err(usage(format_args!("{flag}: 0: give at least one byte"))),
        Ok(len) => Ok(len),
        Err(error) => Err(usage(format_args!("{flag}: {}", printed(error)))),
    }
}

fn create_piece_len(text: &str) -> Result<u32, Failure> {
    let len = size("-l", text)?;
    let range = limits::PIECE_LEN_CREATE_MIN..=limits::PIECE_LEN_CREATE_MAX;
    u32::try_from(len).ok().filter(|len| len.is_power_of_two() && range.contains(len)).ok_or_else(|| {
        let (min, max) = (Bytes(u64::from(*range.start())), Bytes(u64::from(*range.end())));
        // Other programs take the exponent.
        match len {
            14..=28 => usage(format_args!(
                "-l: {len} is a length in bytes: for 2^{len} write 2^{len} or {}",
                short_size(1 << len)
            )),
            _ => usage(format_args!("-l: '{}': give a power of two from {min} to {max}", printable(text.as_bytes()))),
        }
    })
}

/// Writes a power of two from 2^10 to 2^30 as users do: `256K`, `4M`.
fn short_size(len: u64) -> String {
    if len < 1 << 20 { format!("{}K", len >> 10) } else { format!("{}M", len >> 20) }
}

/// The port for peers in examples (BEP 3).
const PEER_PORT: u16 = 6881;

/// Parses an address to listen on.
fn address(flag: &str, text: &str, example_port: u16) -> Result<SocketAddr, Failure> {
    text.parse().map_err(|_| not_an_address(flag, text, &format!("0.0.0.0:{example_port}"), example_port))
}

/// Says which part of an address is missing.
fn not_an_address(flag: &str, text: &str, example: &str, example_port: u16) -> Failure {
    let shown = printable(text.as_bytes());
    let is_host = |text: &str| !text.is_empty() && !text.contains(':') && text.parse::<u16>().is_err();
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let example = SocketAddr::new(ip, example_port);
        return usage(format_args!("{flag}: {shown} has no port: give ADDR:PORT, for example {example}"));
    }
    let fault = if is_host(text) { " has no port" } else { "" };
    usage(format_args!("{flag}: '{shown}'{fault}: give ADDR:PORT, for example {example}"))
}

/// Resolves `--peer`: an address, or a host name, which may have several.
fn peer_addresses(text: &str) -> Result<Vec<SocketAddr>, Failure> {
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    let refuse = || not_an_address("--peer", text, "192.0.2.7:6881", PEER_PORT);
    let Some((name, port)) = text.rsplit_once(':') else { return Err(refuse()) };
    let port: u16 = port.parse().map_err(|_| refuse())?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err(refuse());
    }
    let found = (name, port).to_socket_addrs().map(Vec::from_iter);
    found.map_err(|error| Failure::new(Exit::Failed, format_args!("--peer: {name}: can't find its address: {error}")))
}

fn peers(texts: &[String]) -> Result<Vec<SocketAddr>, Failure> {
    let found = texts.iter().map(|text| peer_addresses(text)).collect::<Result<Vec<_>, _>>()?;
    Ok(found.concat())
}

fn range(flag: &str, text: &str) -> Result<Cidr, Failure> {
    text.parse().map_err(|error| usage(format_args!("{flag}: '{}': {error}", printable(text.as_bytes()))))
}

/// Resolves `--trust-proxy`. Without a value it stands for proxies on this host.
fn trusted_proxies(args: &ProxyArgs) -> Result<TrustedProxies, Failure> {
    let ranges = args.trust_proxy.iter().filter(|text| !text.is_empty());
    Ok(TrustedProxies {
        loopback: !args.trust_proxy.is_empty(),
        ranges: ranges.map(|text| range("--trust-proxy", text)).collect::<Result<_, _>>()?,
    })
}

fn connections(count: usize) -> Result<usize, Failure> {
    if (1..=limits::CONNECTIONS_MAX).contains(&count) {
        return Ok(count);
    }
    Err(usage(format_args!("--connections: {count}: give 1 to {}", limits::CONNECTIONS_MAX)))
}

fn device(text: &str) -> Result<Device, Failure> {
    let refuse = || usage(format_args!("--bind-device: '{}': give an interface's name", printable(text.as_bytes())));
    Device::new(text).ok_or_else(refuse)
}

fn host(text: &str) -> Result<String, Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'_');
    if !text.is_empty() && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err(usage(format_args!("--announce-ip: '{}': give an IP address or DNS name", printable(text.as_bytes()))))
}

fn announce_url(text: &str) -> Result<String, Failure> {
    url("tracker", text, &TRACKER_SCHEMES)
}

/// Parses the tiers of `-a URL[,URL]`.
fn announce_tiers(tiers: &[String]) -> Result<Vec<Vec<String>>, Failure> {
    tiers.iter().map(|tier| tier.split(',').map(announce_url).collect()).collect()
}

fn web_seed_urls(urls: &[String]) -> Result<Vec<String>, Failure> {
    urls.iter().map(|text| url("web seed", text, &WEB_SCHEMES)).collect()
}

fn date(text: &str) -> Result<i64, Failure> {
    parse_date(text).map_err(|error| usage(format_args!("--date: {error}")))
}

fn url(what: &str, text: &str, schemes: &[&str]) -> Result<String, Failure> {
    usable(text.as_bytes(), schemes).ok_or_else(|| {
        let text = printable(without_credentials(text).as_bytes());
        let schemes =
            schemes.split_last().map_or(String::new(), |(last, rest)| format!("{} or {last}", rest.join(", ")));
        usage(format_args!("not a {what} URL: '{text}': give one with {schemes} and a host"))
    })
}

fn rate_limit(flag: &str, text: Option<&str>) -> Result<Option<u64>, Failure> {
    let Some(text) = text else { return Ok(None) };
    match rate(flag, text)? {
        rate if rate < limits::RATE_LIMIT_MIN => {
            let (least, text) = (Bytes(limits::RATE_LIMIT_MIN), printable(text.as_bytes()));
            Err(usage(format_args!("{flag}: {text} is too low: give at least {least}")))
        }
        rate => Ok(Some(rate)),
    }
}

/// Parses a rate in bytes per second.
fn rate(flag: &str, text: &str) -> Result<u64, Failure> {
    parse_size(text).map_err(|_| {
        let text = printable(text.as_bytes());
        usage(format_args!("{flag}: '{text}' is not a rate: give bytes per second, as 65536, 500K or 2M"))
    })
}

/// Parses a time.
fn duration(flag: &str, text: &str) -> Result<Duration, Failure> {
    parse_duration(text).map_err(|error| usage(format_args!("{flag}: {error}")))
}

/// Returns the folder of a path; `.` for a bare name.
pub fn folder_of(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

pub(super) fn usage(line: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Usage, line)
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
