//! The command line as clap parses it. Values that need more than a parser are checked in `options`.
//!
//! Doc comments here are the help texts that users read, in `--help`, the man pages and docs/cli.md.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::base::limits;
use crate::base::units::parse_duration;
use crate::hash::Kernel;
use help::{CONTENT, LIMITS, OUTPUT, PEERS, STORAGE, TRACKERS, TUNING};

pub use bench::{BenchArgs, FloorArgs, HashArgs, LoopbackArgs, OlderArgs, PlaceArgs, SwarmArgs};
pub use create::{CreateArgs, DateArgs};
pub use edit::EditArgs;

mod bench;
mod create;
mod edit;
pub mod help;

/// Display order of the shared flags: below a command's own flags.
const LAST: usize = 900;

/// Creates, seeds, downloads and verifies torrents as fast as the machine allows.
#[derive(Parser, Debug)]
#[command(name = "bt-fast", version, max_term_width = 100, arg_required_else_help = true, subcommand_required = true)]
#[command(after_help = help::MORE_OF_COMMANDS, after_long_help = help::ROOT.long())]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub struct Arguments {
    #[command(flatten)]
    pub shared: SharedArgs,
    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version, display_order = LAST, help_heading = OUTPUT)]
    #[arg(hide_short_help = true)]
    pub version: Option<bool>,
    #[command(subcommand)]
    pub command: CommandArgs,
}

/// The flags of every command.
#[derive(Args, Debug)]
pub struct SharedArgs {
    /// Print errors only
    ///
    /// Neither progress nor messages nor warnings are printed.
    #[arg(short, long, global = true, conflicts_with = "verbose", display_order = LAST, help_heading = OUTPUT)]
    pub quiet: bool,
    /// Log more to stderr; repeat for debug (-vv) and trace (-vvv) output
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = LAST)]
    #[arg(help_heading = OUTPUT, hide_short_help = true)]
    pub verbose: u8,
    /// Print results and progress as JSON on stdout, one object per line, in place of text
    #[arg(long, global = true, display_order = LAST, help_heading = OUTPUT, hide_short_help = true)]
    pub json: bool,
    /// Read flags from FILE, which has lines of the form `flag = value`; lines below `[COMMAND]` apply to that command
    /// only [default: bt-fast/config in $XDG_CONFIG_HOME or else ~/.config, or else /etc/bt-fast/config]
    #[arg(long, value_name = "FILE", global = true, display_order = LAST)]
    #[arg(help_heading = TUNING, hide_short_help = true)]
    pub config: Option<PathBuf>,
    /// Append messages and log lines to FILE
    ///
    /// The file gets messages, warnings, errors and the log of -v, with time stamps, also with --quiet. It has at least the
    /// lines of -v. If it is moved away, a new one is created.
    #[arg(long, value_name = "FILE", global = true, display_order = LAST)]
    #[arg(help_heading = OUTPUT, hide_short_help = true)]
    pub log: Option<PathBuf>,
    /// Hash pieces with this kernel; auto chooses the fastest for this processor
    #[arg(long, value_name = "KERNEL", global = true, default_value = "auto", value_parser = kernel_parser())]
    #[arg(display_order = LAST, help_heading = TUNING, hide_short_help = true)]
    pub hash_kernel: Kernel,
    /// Print the most used flags; --help prints all
    #[arg(short, long, global = true, action = ArgAction::Help, display_order = LAST, help_heading = OUTPUT)]
    pub help: Option<bool>,
}

/// How often long work reports its progress.
#[derive(Args, Debug, Clone, Copy)]
pub struct ProgressArgs {
    /// Time between two progress lines where stderr is no terminal or TERM is dumb; 0 for no lines. A terminal shows one
    /// line that is redrawn
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration, display_order = LAST)]
    #[arg(help_heading = OUTPUT, hide_short_help = true)]
    pub progress_interval: Duration,
    /// Time between two progress records of --json, at least 50ms
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = record_interval, display_order = LAST)]
    #[arg(help_heading = OUTPUT, hide_short_help = true)]
    pub json_interval: Duration,
}

impl Default for ProgressArgs {
    fn default() -> Self {
        Self { progress_interval: limits::PROGRESS_INTERVAL, json_interval: limits::RECORD_INTERVAL }
    }
}

fn record_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text).map_err(|error| error.to_string())?;
    let is_allowed = interval >= limits::RECORD_INTERVAL_MIN;
    is_allowed.then_some(interval).ok_or_else(|| format!("give at least {:?}", limits::RECORD_INTERVAL_MIN))
}

fn kernel_parser() -> impl TypedValueParser<Value = Kernel> {
    PossibleValuesParser::new(Kernel::ALL.map(Kernel::name)).try_map(|name| name.parse::<Kernel>())
}

impl CommandArgs {
    /// Returns the progress flags of a command that has them.
    pub fn progress(&self) -> Option<ProgressArgs> {
        match self {
            Self::Create(args) => Some(args.progress),
            Self::Seed(args) => Some(args.progress),
            Self::Get(args) => Some(args.progress),
            Self::Verify(args) => Some(args.progress),
            _ => None,
        }
    }
}

#[derive(Subcommand, Debug)]
pub enum CommandArgs {
    /// Create a .torrent from a file or folder
    Create(CreateArgs),
    /// Change the trackers and other values of a .torrent
    Edit(EditArgs),
    /// Serve content to peers
    Seed(SeedArgs),
    /// Download and verify content
    Get(GetArgs),
    /// Verify content against a torrent; exit 3 if it does not match
    Verify(VerifyArgs),
    /// Print the contents of a .torrent, or of the torrent behind a link
    Show(ShowArgs),
    /// Print the magnet link of a .torrent
    Magnet(MagnetArgs),
    /// Run a tracker over HTTP and UDP
    Track(TrackArgs),
    /// Check that a running seed or tracker answers; exit 1 if not
    Health(HealthArgs),
    /// Print shell completions
    #[command(after_help = help::MORE, after_long_help = help::COMPLETIONS.long())]
    Completions {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a folder
    #[command(after_help = help::MORE, after_long_help = help::MANUAL.long())]
    Manual {
        /// Folder to write into; created if it does not exist
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Benchmark bt-fast on this machine
    #[command(after_help = help::MORE_OF_COMMANDS, after_long_help = help::BENCH.long())]
    Bench {
        #[command(subcommand)]
        command: BenchArgs,
    },
}

#[derive(Args, Debug)]
#[command(after_help = help::MORE, after_long_help = help::SEED.long())]
pub struct SeedArgs {
    /// .torrent files, or content: files and folders
    ///
    /// For content, torrents are created, kept for the next start and offered on a web page with a tracker. Changed content
    /// becomes a new torrent, which replaces the old one. In a quoted pattern such as '/srv/bt-fast/*', seed expands * ?
    /// and [..] itself, at the start and at each SIGHUP.
    #[arg(value_name = "TORRENT|PATH")]
    pub torrents: Vec<PathBuf>,
    /// Also serve the .torrent files of this folder
    ///
    /// New files are added and removed ones dropped while seed runs. SIGHUP reads the folder at once.
    #[arg(long, value_name = "DIR", help_heading = CONTENT)]
    pub watch: Option<PathBuf>,
    /// Folder of the content of .torrent files
    ///
    /// The folder that holds the file or folder which the torrent names. The default is the folder of each .torrent.
    #[arg(long, value_name = "DIR", help_heading = STORAGE)]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub serving: ServingArgs,
    /// When to hash the content of .torrent files: lazy hashes each piece before it is first served, unless an earlier
    /// create, verify or seed found the content right and no file's inode, size or times have changed since; full
    /// hashes everything at the start; none trusts the files
    #[arg(long, value_name = "WHEN", default_value = "lazy", help_heading = STORAGE, hide_short_help = true)]
    pub verify: VerifyArg,
    #[command(flatten)]
    pub web: WebArgs,
    /// Limit the upload rate, in bytes/s
    ///
    /// The limit holds for all torrents together. There is none by default.
    #[arg(long, value_name = "RATE", help_heading = LIMITS)]
    pub up: Option<String>,
    /// Limit the upload rate of each torrent, in bytes per second [default: no limit]
    #[arg(long, value_name = "RATE", help_heading = LIMITS, hide_short_help = true)]
    pub up_each: Option<String>,
    /// Super-seed (BEP 16), for a slow uplink: show each peer one or two pieces at a time, and the next ones when other
    /// peers have those, until the first full copy is out
    #[arg(long, help_heading = TUNING, hide_short_help = true)]
    pub super_seed: bool,
    /// Stop after sending R times the content
    #[arg(long, value_name = "R", help_heading = LIMITS)]
    pub stop_ratio: Option<f64>,
    /// Stop after seeding for this time
    #[arg(long, value_name = "TIME", help_heading = LIMITS)]
    pub stop_time: Option<String>,
    /// Stop when K hosts have all content
    ///
    /// A host counts when its connection, or its announce to seed's tracker, shows that it is complete, also if it had the
    /// content before or has left. Hosts behind one NAT address count as one. With several torrents, K hosts of each.
    #[arg(long, value_name = "K", help_heading = LIMITS)]
    pub stop_copies: Option<usize>,
    /// Stop when nothing was sent for this time
    #[arg(long, value_name = "TIME", help_heading = LIMITS, hide_short_help = true)]
    pub stop_idle: Option<String>,
    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// The flags of tracker and pages, which run for content without a .torrent and if one of these flags is given.
#[derive(Args, Debug)]
pub struct WebArgs {
    /// Address of page and tracker, or off
    ///
    /// Serves the page, the .torrent files and the tracker (HTTP, and UDP on the same port); off serves none of them. The
    /// default is on if content or a flag of the web side is given: at all addresses, port 6880 or else the first free one
    /// of 6890-6899.
    #[arg(long, value_name = "ADDR:PORT|off", help_heading = TRACKERS)]
    pub web: Option<String>,
    /// Serve the dashboard, /metrics and /api at this address; off serves none of them [default: the loopback address,
    /// the first free port of 6870-6879]
    #[arg(long, value_name = "ADDR:PORT|off", help_heading = OUTPUT, hide_short_help = true)]
    pub admin: Option<String>,
    /// URL of the page behind a reverse proxy or NAT
    ///
    /// A proxy on this host is trusted as with --trust-proxy; it must send X-Forwarded-For and strip the path of the URL.
    #[arg(long, value_name = "URL", help_heading = TRACKERS)]
    pub public_url: Option<String>,
    #[command(flatten)]
    pub proxy: ProxyArgs,
    /// Also serve the verified content over HTTP, as a web seed (BEP 19) and for plain downloads
    #[arg(long, help_heading = PEERS, hide_short_help = true)]
    pub web_seed: bool,
}

/// The reverse proxies that are trusted.
#[derive(Args, Debug)]
pub struct ProxyArgs {
    /// Trust a reverse proxy on this host, or with =CIDR the proxies of that range: the client's address is the last
    /// one in their X-Forwarded-For header. Repeatable
    #[arg(long, value_name = "CIDR", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    #[arg(help_heading = TRACKERS, hide_short_help = true)]
    pub trust_proxy: Vec<String>,
}

#[derive(Args, Debug)]
#[command(after_help = help::MORE, after_long_help = help::GET.long())]
pub struct GetArgs {
    /// .torrent files, their URLs, magnet links, info-hashes
    ///
    /// A URL is an HTTP or HTTPS URL; - reads a .torrent from stdin. Several are downloaded at the same time.
    #[arg(value_name = "TORRENT|URL|MAGNET|INFO-HASH", required = true)]
    pub torrents: Vec<OsString>,
    /// Folder to download into
    ///
    /// The default is the current folder. With --metadata-only it is the .torrent to write, or - for stdout, and by default
    /// NAME.torrent in the current folder.
    #[arg(short, long, value_name = "DIR|FILE", help_heading = STORAGE)]
    pub output: Option<PathBuf>,
    /// Save the .torrent, and download no content
    ///
    /// For a magnet link or URL.
    #[arg(long, conflicts_with = "seed", help_heading = CONTENT)]
    pub metadata_only: bool,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Download only these files
    ///
    /// A list of the numbers that show prints, such as 1,3-5, or a glob as for create -g. Repeatable; the files of an
    /// earlier --select are downloaded first.
    #[arg(long, value_name = "LIST|GLOB", conflicts_with = "metadata_only", help_heading = CONTENT)]
    pub select: Vec<String>,
    /// Replace existing files of other content
    ///
    /// Replaces files that hold nothing of this torrent, and truncates files that are too long. By default such files are
    /// left alone and get exits with 1. A file that is empty or holds only zeros counts as absent.
    #[arg(long, conflicts_with = "metadata_only", help_heading = STORAGE)]
    pub overwrite: bool,
    /// Keep uploading after the download
    ///
    /// Until R times its length has been sent in this session (=2), for the time T, which needs a unit (=30m), until the
    /// first of both (=2,30m), or until interrupted. Several torrents count together, from the time when all are complete.
    #[arg(long, value_name = "R|T", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    #[arg(help_heading = LIMITS)]
    pub seed: Option<String>,
    #[command(flatten)]
    pub serving: ServingArgs,
    #[command(flatten)]
    pub writing: WritingArgs,
    /// Run COMMAND in the shell when everything is verified and written. The variables BT_FAST_HOOK_NAME,
    /// BT_FAST_HOOK_OUTPUT (the folder) and BT_FAST_HOOK_INFO_HASH describe the download. If COMMAND fails, exit with 1;
    /// the content is complete all the same
    #[arg(long, value_name = "COMMAND", conflicts_with = "metadata_only")]
    #[arg(help_heading = OUTPUT, hide_short_help = true)]
    pub on_complete: Option<OsString>,
    /// Give up after this time without peers
    ///
    /// Exits with 4 if no peer was connected for this time; of several torrents, if there was no peer of any. By default
    /// get never gives up.
    #[arg(long, value_name = "TIME", help_heading = LIMITS)]
    pub timeout: Option<String>,
    /// Download pieces in the order of the content, to read it during the download. The swarm benefits less than with
    /// rarest first
    #[arg(long, help_heading = CONTENT, hide_short_help = true)]
    pub sequential: bool,
    /// Limit the download rate, in bytes/s
    ///
    /// There is no limit by default.
    #[arg(long, value_name = "RATE", help_heading = LIMITS)]
    pub down: Option<String>,
    /// Limit the upload rate, in bytes/s
    ///
    /// There is no limit by default.
    #[arg(long, value_name = "RATE", help_heading = LIMITS)]
    pub up: Option<String>,
    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// The path of content from network to disk.
#[derive(Args, Debug)]
pub struct WritingArgs {
    /// How to write pieces: buffered through the page cache, direct past it, or auto: past it while no peer requests
    /// them
    #[arg(long, value_name = "HOW", default_value = "auto", help_heading = STORAGE, hide_short_help = true)]
    pub write: WriteArg,
    /// Reserve the disk space of all files at the start, in the background, if the file system supports it. Without this
    /// flag get only checks that the free space suffices
    #[arg(long, help_heading = STORAGE, hide_short_help = true)]
    pub preallocate: bool,
}

/// Peers, trackers and the network that reaches them.
#[derive(Args, Debug)]
pub struct NetworkArgs {
    /// Accept peers at this address
    ///
    /// The default is all addresses, the first free port of 6881-6889.
    #[arg(long, value_name = "ADDR:PORT", help_heading = PEERS)]
    pub listen: Option<String>,
    /// Connect to this peer; repeatable
    ///
    /// An address or a host name, with a port.
    #[arg(long, value_name = "ADDR:PORT", help_heading = PEERS)]
    pub peer: Vec<String>,
    /// Also announce to this tracker; repeatable
    ///
    /// An http, https or udp URL, in addition to the trackers of the torrent. On this host and in private networks its path
    /// may be any, while a tracker of the torrent needs /announce in its path there.
    #[arg(long, value_name = "URL", help_heading = TRACKERS)]
    pub announce: Vec<String>,
    /// Announce only to the trackers of --announce, not to those of the torrent
    #[arg(long, help_heading = TRACKERS, hide_short_help = true)]
    pub announce_only: bool,
    /// Allow only peers in this range, such as 10.0.0.0/8 or 2001:db8::/32; repeatable
    #[arg(long, value_name = "CIDR", help_heading = PEERS, hide_short_help = true)]
    pub allow_peer: Vec<String>,
    /// Deny peers in this range; repeatable, takes precedence over --allow-peer
    #[arg(long, value_name = "CIDR", help_heading = PEERS, hide_short_help = true)]
    pub deny_peer: Vec<String>,
    /// Limit the number of peer connections, handshakes included [default: 20000 for seed; 500 for get, of which a
    /// download accepts 36]
    #[arg(long, value_name = "N", help_heading = LIMITS, hide_short_help = true)]
    pub connections: Option<usize>,
    /// Reach peers, trackers and the server of a .torrent through this network interface only. The system's resolver
    /// may use other interfaces, and --web and --admin are not affected
    #[arg(long, value_name = "NAME", help_heading = PEERS, hide_short_help = true)]
    pub bind_device: Option<String>,
    /// Mark packets to peers with this DSCP value, 0 to 63, such as 8 for less than best effort
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=63))]
    #[arg(help_heading = TUNING, hide_short_help = true)]
    pub dscp: Option<u8>,
    /// Announce this address or DNS name to trackers, if peers reach this host at another address than the trackers see
    #[arg(long, value_name = "HOST", help_heading = TRACKERS, hide_short_help = true)]
    pub announce_ip: Option<String>,
}

/// The path of content from disk to network.
#[derive(Args, Debug)]
pub struct ServingArgs {
    /// Page cache of served content: keep leaves it to the kernel, drop-behind drops it some distance behind what is
    /// sent
    #[arg(long, value_name = "HOW", default_value = "keep", help_heading = STORAGE, hide_short_help = true)]
    pub cache: CacheArg,
    /// Use zero-copy sends: auto (only where the kernel reports a benefit), on (all sends of at least 32 KiB), off
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = TUNING, hide_short_help = true)]
    pub zero_copy: ZeroCopyArg,
}

/// The threads and memory of the engine.
#[derive(Args, Debug)]
pub struct EngineArgs {
    /// Access sockets and files by io_uring (ring), or by epoll and threads (plain), which works in every container and
    /// may take more processor time; auto takes the ring where the kernel permits it
    #[arg(long, value_name = "DRIVER", default_value = "auto", help_heading = TUNING, hide_short_help = true)]
    pub io: IoArg,
    /// Number of ring threads, 1 to 8 [default: one per core]
    #[arg(long, value_name = "N", help_heading = TUNING, hide_short_help = true)]
    pub rings: Option<usize>,
    /// Number of connections to one peer that runs bt-fast too, each on another ring thread; auto opens further ones while
    /// a ring thread is busy, at most 4 in all
    #[arg(long, value_name = "N|auto", default_value = "auto", help_heading = TUNING, hide_short_help = true)]
    pub streams: String,
    /// Memory for pieces that are being received or sent [default: 256M, less on a machine with less than 1G]
    #[arg(long, value_name = "SIZE", help_heading = TUNING, hide_short_help = true)]
    pub arena: Option<String>,
    /// Number of peers to upload to at a time; auto grows with the upload rate to at most 64, and starts at 4 during a
    /// download
    #[arg(long, value_name = "N|auto|all", default_value = "auto", help_heading = LIMITS, hide_short_help = true)]
    pub slots: String,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(Args, Debug)]
pub struct LimitArgs {
    /// Refuse torrents with more than N pieces [default: 2097152]
    #[arg(long, value_name = "N", help_heading = LIMITS, hide_short_help = true)]
    pub max_pieces: Option<u32>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum VerifyArg {
    Lazy,
    Full,
    None,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoArg {
    Auto,
    Ring,
    Plain,
}

/// [`IoArg`] of a benchmark.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum BenchIoArg {
    Auto,
    Ring,
    Plain,
    Both,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum CacheArg {
    Keep,
    DropBehind,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ZeroCopyArg {
    Auto,
    On,
    Off,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteArg {
    Auto,
    Buffered,
    Direct,
}

#[derive(Args, Debug)]
#[command(after_help = help::MORE, after_long_help = help::VERIFY.long())]
pub struct VerifyArgs {
    /// The .torrent file
    #[arg(value_name = "TORRENT")]
    pub torrent: PathBuf,
    /// Folder that holds the torrent's content [default: the folder of the .torrent]
    #[arg(value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Trust an earlier check of unchanged files
    ///
    /// Reads nothing if an earlier verify or create found the content right and no file's inode, size or times have changed
    /// since.
    #[arg(long, help_heading = STORAGE)]
    pub fast: bool,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub progress: ProgressArgs,
}

#[derive(Args, Debug)]
#[command(after_help = help::MORE, after_long_help = help::SHOW.long())]
pub struct ShowArgs {
    /// A .torrent or its URL, a magnet link or info-hash
    ///
    /// A URL is an HTTP or HTTPS URL; - reads a .torrent from stdin. The metadata of a link is fetched from peers.
    #[arg(value_name = "TORRENT|URL|MAGNET|INFO-HASH")]
    pub torrent: OsString,
    /// Ask the trackers for seeders and leechers
    ///
    /// Asks each tracker for the number of seeders and leechers (BEP 48).
    #[arg(long, help_heading = TRACKERS)]
    pub scrape: bool,
    /// Ask this peer for the metadata of a link; repeatable
    #[arg(long, value_name = "ADDR:PORT", help_heading = PEERS)]
    pub peer: Vec<String>,
    /// Ask this tracker for peers of a link; repeatable
    ///
    /// An http, https or udp URL, in addition to the trackers of the link.
    #[arg(long, value_name = "URL", help_heading = TRACKERS)]
    pub announce: Vec<String>,
    /// Accept peers at this address while the metadata of a link is fetched [default: all addresses, the first free port
    /// of 6881-6889]
    #[arg(long, value_name = "ADDR:PORT", help_heading = PEERS, hide_short_help = true)]
    pub listen: Option<String>,
    /// Give up after this time without metadata
    ///
    /// Exits with 4 if no peer sends metadata for this time. By default show never gives up.
    #[arg(long, value_name = "TIME", help_heading = LIMITS)]
    pub timeout: Option<String>,
    /// Reach peers, trackers and the server of a .torrent through this network interface only. The system's resolver
    /// may use other interfaces
    #[arg(long, value_name = "NAME", help_heading = PEERS, hide_short_help = true)]
    pub bind_device: Option<String>,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(Args, Debug)]
#[command(after_help = help::MORE, after_long_help = help::MAGNET.long())]
pub struct MagnetArgs {
    /// A .torrent file, or the HTTP or HTTPS URL of one; - reads a .torrent from stdin
    #[arg(value_name = "TORRENT|URL")]
    pub torrent: OsString,
    /// Add this peer to the link; repeatable
    #[arg(long, value_name = "ADDR:PORT", help_heading = PEERS)]
    pub peer: Vec<String>,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(Args, Debug)]
#[command(after_help = help::MORE, after_long_help = help::TRACK.long())]
pub struct TrackArgs {
    /// Track every torrent that is announced
    #[arg(long, conflicts_with = "allow", help_heading = TRACKERS)]
    pub open: bool,
    /// Track only the torrents of this list
    #[arg(long, value_name = "FILE", help_heading = TRACKERS)]
    pub allow: Option<PathBuf>,
    /// Listen at this address (HTTP and UDP)
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:6969", help_heading = TRACKERS)]
    pub listen: String,
    /// Number of threads for each of HTTP and UDP
    ///
    /// 1 to 64. The default is one per core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64), help_heading = TUNING)]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub proxy: ProxyArgs,
}

#[derive(Args, Debug)]
#[command(after_help = help::MORE, after_long_help = help::HEALTH.long())]
pub struct HealthArgs {
    /// HTTP or HTTPS URL of the server
    ///
    /// A URL without a path gets /healthz, which answers at the addresses of --web and --admin of seed, and of --listen of
    /// track.
    pub url: String,
    /// Give up after this time
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration, help_heading = LIMITS)]
    pub timeout: Duration,
}
