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

const AFTER_HELP: &str = "\
Sizes are in bytes, or with a unit of 1024: 65536, 64K, 4M, 4MiB, 2^22. Rates are sizes per second. Times are in \
seconds, or with a unit: 90, 500ms, 90s, 30m, 12h, 7d.

Every flag --some-flag can also be set by the environment variable BT_FAST_SOME_FLAG, or in the file of --config. The \
command line takes precedence over the environment, and the environment over the file.

Results go to stdout, progress and messages to stderr.

Exit codes: 0 success, 1 failure, 2 bad usage, 3 data does not match, 4 no peers or trackers within --timeout, \
5 storage full, read-only or broken, 130 interrupted.";

pub use bench::{BenchArgs, FloorArgs, HashArgs, LoopbackArgs, OlderArgs, PlaceArgs, SwarmArgs};

mod bench;

/// Display order of the shared flags: below a command's own flags.
const LAST: usize = 900;

/// Creates, seeds, downloads and verifies torrents as fast as the machine allows.
#[derive(Parser, Debug)]
#[command(name = "bt-fast", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(arg_required_else_help = true, subcommand_required = true, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(flatten)]
    pub shared: SharedArgs,
    #[command(subcommand)]
    pub command: CommandArgs,
}

/// The flags of every command.
#[derive(Args, Debug)]
pub struct SharedArgs {
    /// Print errors only: no progress, messages or warnings
    #[arg(short, long, global = true, conflicts_with = "verbose", display_order = LAST)]
    pub quiet: bool,
    /// Log more to stderr; repeat for debug (-vv) and trace (-vvv) output
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = LAST)]
    pub verbose: u8,
    /// Print results and progress as JSON on stdout, one object per line, in place of text
    #[arg(long, global = true, display_order = LAST)]
    pub json: bool,
    /// Read flags from FILE, which has lines of the form `flag = value`; lines below `[COMMAND]` apply to that command
    /// only [default: bt-fast/config in $XDG_CONFIG_HOME or else ~/.config, or else /etc/bt-fast/config]
    #[arg(long, value_name = "FILE", global = true, display_order = LAST)]
    pub config: Option<PathBuf>,
    /// Append messages, warnings, errors and the log of -v to FILE, with time stamps; also with --quiet. The file has at
    /// least the lines of -v. If it is moved away, a new one is created
    #[arg(long, value_name = "FILE", global = true, display_order = LAST)]
    pub log: Option<PathBuf>,
    /// Hash pieces with this kernel; auto chooses the fastest for this processor
    #[arg(long, value_name = "KERNEL", global = true, default_value = "auto", value_parser = kernel_parser())]
    #[arg(display_order = LAST)]
    pub hash_kernel: Kernel,
}

/// How often long work reports its progress.
#[derive(Args, Debug, Clone, Copy)]
pub struct ProgressArgs {
    /// Time between two progress lines where stderr is no terminal or TERM is dumb; 0 for no lines. A terminal shows one
    /// line that is redrawn
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration, display_order = LAST)]
    pub progress_interval: Duration,
    /// Time between two progress records of --json, at least 50ms
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = record_interval, display_order = LAST)]
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
    /// Serve content to peers
    Seed(SeedArgs),
    /// Download and verify content
    Get(GetArgs),
    /// Verify content on disk against a torrent; exit 3 if it does not match
    Verify(VerifyArgs),
    /// Print the contents of a .torrent, or of the torrent behind a link
    Show(ShowArgs),
    /// Print the magnet link of a .torrent
    Magnet(MagnetArgs),
    /// Run a tracker over HTTP and UDP
    Track(TrackArgs),
    /// Print shell completions
    Completions {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a folder
    Manual {
        /// Folder to write into; created if it does not exist
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Benchmark bt-fast on this machine
    Bench {
        #[command(subcommand)]
        command: BenchArgs,
    },
}

const CREATE_AFTER_HELP: &str = "\
A folder's hidden and empty files are included, and symbolic links are followed; a loop of links is an error. \
.DS_Store, Thumbs.db and desktop.ini are left out unless -g matches them or --include-junk is given.

A GLOB without / matches names at any depth; a GLOB with / matches paths relative to the folder. A matching folder \
includes everything below it. * does not match /, and ** does.

The default piece length is the smallest power of two, from 16K to 16M, that gives at most 2048 pieces. Longer pieces \
are used only for content of more than 262104 pieces of 16M (4 TiB). All clients can load such a torrent. If another -l \
makes a torrent that some clients cannot load, a warning names them: rqbit loads at most 262104 pieces, and libtorrent \
loads a .torrent of at most 10 MB. libtorrent itself does not create pieces longer than 128M.

The same content and options always give the same info-hash. With --no-date and --no-creator they give the same \
.torrent, byte for byte.

With - as PATH, all of standard input becomes one file; -n is required, and -g and --dry-run are not allowed.";

#[derive(Args, Debug)]
#[command(after_help = CREATE_AFTER_HELP)]
pub struct CreateArgs {
    /// File or folder, or - for content from standard input
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Write the .torrent to FILE, or to stdout if FILE is - [default: NAME.torrent in the current folder]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Add a tier of trackers (BEP 12); repeat for further tiers
    #[arg(short, long, value_name = "URL[,URL]")]
    pub announce: Vec<String>,
    /// Add a web seed: an HTTP mirror of the content (BEP 19); repeatable
    #[arg(short, long, value_name = "URL")]
    pub web_seed: Vec<String>,
    /// Piece length, a power of two from 16K to 256M [default: chosen by the length of the content, see below; 1M for
    /// standard input]
    #[arg(short = 'l', long, value_name = "LEN")]
    pub piece_length: Option<String>,
    /// Make the torrent private: clients find peers through its trackers only (BEP 27)
    #[arg(short, long)]
    pub private: bool,
    /// Store a comment
    #[arg(short, long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// Store a source tag, which changes the info-hash
    #[arg(short, long, value_name = "SOURCE")]
    pub source: Option<String>,
    /// Name of the content [default: the last element of PATH]
    #[arg(short, long)]
    pub name: Option<OsString>,
    /// Include only files that match GLOB, or exclude files that match !GLOB; repeatable, and the last match wins
    #[arg(short, long, value_name = "GLOB")]
    pub glob: Vec<String>,
    /// Include .DS_Store, Thumbs.db and desktop.ini
    #[arg(long)]
    pub include_junk: bool,
    /// Do not store the creation date
    #[arg(long)]
    pub no_date: bool,
    /// Do not store the name and version of this program
    #[arg(long)]
    pub no_creator: bool,
    /// Print what would be created; hash and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Overwrite the output file if it exists
    #[arg(short, long)]
    pub force: bool,
    #[command(flatten)]
    pub progress: ProgressArgs,
}

#[derive(Args, Debug)]
pub struct SeedArgs {
    /// .torrent files to serve, or content: files and folders, for which torrents are created, kept for the next start
    /// and offered on a web page with a tracker. Changed content becomes a new torrent, which replaces the old one. In
    /// a quoted pattern such as '/srv/bt-fast/*', seed expands * ? and [..] itself, at the start and at each SIGHUP
    #[arg(value_name = "TORRENT|PATH")]
    pub torrents: Vec<PathBuf>,
    /// Also serve the .torrent files of this folder: new ones are added and removed ones dropped while seed runs.
    /// SIGHUP reads the folder at once
    #[arg(long, value_name = "DIR")]
    pub watch: Option<PathBuf>,
    /// Folder that holds the content of the .torrent files [default: the folder of each .torrent]
    #[arg(long, value_name = "DIR")]
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
    #[arg(long, value_name = "WHEN", default_value = "lazy")]
    pub verify: VerifyArg,
    #[command(flatten)]
    pub web: WebArgs,
    /// Limit the upload rate of all torrents together, in bytes per second [default: no limit]
    #[arg(long, value_name = "RATE")]
    pub up: Option<String>,
    /// Limit the upload rate of each torrent, in bytes per second [default: no limit]
    #[arg(long, value_name = "RATE")]
    pub up_each: Option<String>,
    /// Super-seed (BEP 16), for a slow uplink: show each peer one or two pieces at a time, and the next ones when other
    /// peers have those, until the first full copy is out
    #[arg(long)]
    pub super_seed: bool,
    /// Stop when R times the length of the content has been sent
    #[arg(long, value_name = "R")]
    pub stop_ratio: Option<f64>,
    /// Stop after seeding for this time
    #[arg(long, value_name = "TIME")]
    pub stop_time: Option<String>,
    /// Stop when K hosts have the complete content, as their connections or their announces to the tracker of seed show;
    /// with several torrents, K hosts of each. Hosts that had it before count, and hosts that have left. Hosts behind
    /// one NAT address count as one
    #[arg(long, value_name = "K")]
    pub stop_copies: Option<usize>,
    /// Stop when nothing has been sent for this time
    #[arg(long, value_name = "TIME")]
    pub stop_idle: Option<String>,
    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// The flags of tracker and pages, which run for content without a .torrent and if one of these flags is given.
#[derive(Args, Debug)]
pub struct WebArgs {
    /// Serve the page, the .torrent files and the tracker (HTTP, and UDP on the same port) at this address; off serves
    /// none of them [default: on if content or a flag of the web side is given, at all addresses, port 6880 or else the
    /// first free one of 6890-6899]
    #[arg(long, value_name = "ADDR:PORT|off")]
    pub web: Option<String>,
    /// Serve the dashboard, /metrics and /api at this address; off serves none of them [default: the loopback address,
    /// the first free port of 6870-6879]
    #[arg(long, value_name = "ADDR:PORT|off")]
    pub admin: Option<String>,
    /// URL at which clients reach the page through a reverse proxy or NAT. A proxy on this host is trusted as with
    /// --trust-proxy; it must send X-Forwarded-For and strip the path of the URL
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    #[command(flatten)]
    pub proxy: ProxyArgs,
    /// Also serve the verified content over HTTP, as a web seed (BEP 19) and for plain downloads
    #[arg(long)]
    pub web_seed: bool,
}

/// The reverse proxies that are trusted.
#[derive(Args, Debug)]
pub struct ProxyArgs {
    /// Trust a reverse proxy on this host, or with =CIDR the proxies of that range: the client's address is the last
    /// one in their X-Forwarded-For header. Repeatable
    #[arg(long, value_name = "CIDR", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub trust_proxy: Vec<String>,
}

const GET_AFTER_HELP: &str = "\
Several torrents share one port and one set of limits. One that fails does not end the others: each failure is one \
line, and the last line counts the complete ones. The exit code is 0 if all are complete, and otherwise the first of \
130, 5, 3, 1, 2 and 4 that applies to one of them.";

#[derive(Args, Debug)]
#[command(after_help = GET_AFTER_HELP)]
pub struct GetArgs {
    /// .torrent files, HTTP or HTTPS URLs of them, magnet links and info-hashes; - reads a .torrent from stdin. Several
    /// are downloaded at the same time
    #[arg(value_name = "TORRENT|URL|MAGNET|INFO-HASH", required = true)]
    pub torrents: Vec<OsString>,
    /// Folder to download into [default: the current folder]; with --metadata-only the .torrent to write, or - for
    /// stdout [default: NAME.torrent in the current folder]
    #[arg(short, long, value_name = "DIR|FILE")]
    pub output: Option<PathBuf>,
    /// Save the .torrent of a magnet link or URL, and download no content
    #[arg(long, conflicts_with = "seed")]
    pub metadata_only: bool,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Download only these files: a list of the numbers that show prints, such as 1,3-5, or a glob as for create -g.
    /// Repeatable; the files of an earlier --select are downloaded first
    #[arg(long, value_name = "LIST|GLOB", conflicts_with = "metadata_only")]
    pub select: Vec<String>,
    /// Replace existing files that hold nothing of this torrent, and truncate files that are too long. By default such
    /// files are left alone and get exits with 1. A file that is empty or holds only zeros counts as absent
    #[arg(long, conflicts_with = "metadata_only")]
    pub overwrite: bool,
    /// Keep uploading after the download is complete: until R times its length has been sent in this session (=2), for
    /// the time T, which needs a unit (=30m), until the first of both (=2,30m), or until interrupted. Several torrents
    /// count together, from the time when all are complete
    #[arg(long, value_name = "R|T", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub seed: Option<String>,
    #[command(flatten)]
    pub serving: ServingArgs,
    #[command(flatten)]
    pub writing: WritingArgs,
    /// Run COMMAND in the shell when everything is verified and written. The variables BT_FAST_HOOK_NAME,
    /// BT_FAST_HOOK_OUTPUT (the folder) and BT_FAST_HOOK_INFO_HASH describe the download. If COMMAND fails, exit with 1;
    /// the content is complete all the same
    #[arg(long, value_name = "COMMAND", conflicts_with = "metadata_only")]
    pub on_complete: Option<OsString>,
    /// Exit with 4 after this time without peers or trackers; of several torrents, without a peer of any [default: never]
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<String>,
    /// Download pieces in the order of the content, to read it during the download. The swarm benefits less than with
    /// rarest first
    #[arg(long)]
    pub sequential: bool,
    /// Limit the download rate, in bytes per second [default: no limit]
    #[arg(long, value_name = "RATE")]
    pub down: Option<String>,
    /// Limit the upload rate, in bytes per second [default: no limit]
    #[arg(long, value_name = "RATE")]
    pub up: Option<String>,
    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// The path of content from network to disk.
#[derive(Args, Debug)]
pub struct WritingArgs {
    /// How to write pieces: buffered through the page cache, direct past it, or auto: past it while no peer requests
    /// them
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub write: WriteArg,
    /// Reserve the disk space of all files at the start, in the background, if the file system supports it. Without this
    /// flag get only checks that the free space suffices
    #[arg(long)]
    pub preallocate: bool,
}

/// Peers, trackers and the network that reaches them.
#[derive(Args, Debug)]
pub struct NetworkArgs {
    /// Accept peers at this address [default: all addresses, the first free port of 6881-6889]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// Connect to this peer, an address or a host name with a port; repeatable
    #[arg(long, value_name = "ADDR:PORT")]
    pub peer: Vec<String>,
    /// Announce to this tracker in addition to those of the torrent (http, https or udp); repeatable. On this host and
    /// in private networks its path may be any, while a tracker of the torrent needs /announce in its path there
    #[arg(long, value_name = "URL")]
    pub announce: Vec<String>,
    /// Announce only to the trackers of --announce, not to those of the torrent
    #[arg(long)]
    pub announce_only: bool,
    /// Allow only peers in this range, such as 10.0.0.0/8 or 2001:db8::/32; repeatable
    #[arg(long, value_name = "CIDR")]
    pub allow_peer: Vec<String>,
    /// Deny peers in this range; repeatable, takes precedence over --allow-peer
    #[arg(long, value_name = "CIDR")]
    pub deny_peer: Vec<String>,
    /// Limit the number of peer connections, handshakes included [default: 20000 for seed; 500 for get, of which a
    /// download accepts 36]
    #[arg(long, value_name = "N")]
    pub connections: Option<usize>,
    /// Reach peers, trackers and the server of a .torrent through this network interface only. The system's resolver
    /// may use other interfaces, and --web and --admin are not affected
    #[arg(long, value_name = "NAME")]
    pub bind_device: Option<String>,
    /// Mark packets to peers with this DSCP value, 0 to 63, such as 8 for less than best effort
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=63))]
    pub dscp: Option<u8>,
    /// Announce this address or DNS name to trackers, if peers reach this host at another address than the trackers see
    #[arg(long, value_name = "HOST")]
    pub announce_ip: Option<String>,
}

/// The path of content from disk to network.
#[derive(Args, Debug)]
pub struct ServingArgs {
    /// Page cache of served content: keep leaves it to the kernel, drop-behind drops it some distance behind what is
    /// sent
    #[arg(long, value_name = "HOW", default_value = "keep")]
    pub cache: CacheArg,
    /// Use zero-copy sends: auto (only where the kernel reports a benefit), on (all sends of at least 32 KiB), off
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub zero_copy: ZeroCopyArg,
}

/// The threads and memory of the engine.
#[derive(Args, Debug)]
pub struct EngineArgs {
    /// Number of ring threads, 1 to 8 [default: one per core]
    #[arg(long, value_name = "N")]
    pub rings: Option<usize>,
    /// Memory for pieces that are being received or sent [default: 256M, less on a machine with less than 1G]
    #[arg(long, value_name = "SIZE")]
    pub arena: Option<String>,
    /// Number of peers to upload to at a time; auto grows with the upload rate to at most 64, and starts at 4 during a
    /// download
    #[arg(long, value_name = "N|auto|all", default_value = "auto")]
    pub slots: String,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(Args, Debug)]
pub struct LimitArgs {
    /// Refuse torrents with more than N pieces [default: 2097152]
    #[arg(long, value_name = "N")]
    pub max_pieces: Option<u32>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum VerifyArg {
    Lazy,
    Full,
    None,
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

const VERIFY_AFTER_HELP: &str = "\
Lists files that are missing, too short, too long, altered or not regular files, and the bad pieces; then exits with 3. \
Files that the torrent does not name are listed as extra and are not a mismatch.

A check that finds everything right is remembered for --fast in $XDG_CACHE_HOME/bt-fast (~/.cache/bt-fast), unless a \
file was written less than two seconds before the check.";

#[derive(Args, Debug)]
#[command(after_help = VERIFY_AFTER_HELP)]
pub struct VerifyArgs {
    /// The .torrent file
    #[arg(value_name = "TORRENT")]
    pub torrent: PathBuf,
    /// Folder that holds the torrent's content [default: the folder of the .torrent]
    #[arg(value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Read nothing if an earlier verify or create found the content right and no file's inode, size or times have
    /// changed since
    #[arg(long)]
    pub fast: bool,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub progress: ProgressArgs,
}

#[derive(Args, Debug)]
pub struct ShowArgs {
    /// A .torrent file, the HTTP or HTTPS URL of one, a magnet link, or an info-hash; - reads a .torrent from stdin. The
    /// metadata of a link is fetched from peers
    #[arg(value_name = "TORRENT|URL|MAGNET|INFO-HASH")]
    pub torrent: OsString,
    /// Ask each tracker for the number of seeders and leechers (BEP 48)
    #[arg(long)]
    pub scrape: bool,
    /// Ask this peer for the metadata of a link; repeatable
    #[arg(long, value_name = "ADDR:PORT")]
    pub peer: Vec<String>,
    /// Ask this tracker for peers of a link in addition to those of the link (http, https or udp); repeatable
    #[arg(long, value_name = "URL")]
    pub announce: Vec<String>,
    /// Accept peers at this address while the metadata of a link is fetched [default: all addresses, the first free port
    /// of 6881-6889]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// Exit with 4 if no peer sends metadata for this time [default: never]
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<String>,
    /// Reach peers, trackers and the server of a .torrent through this network interface only. The system's resolver
    /// may use other interfaces
    #[arg(long, value_name = "NAME")]
    pub bind_device: Option<String>,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(Args, Debug)]
pub struct MagnetArgs {
    /// A .torrent file, or the HTTP or HTTPS URL of one; - reads a .torrent from stdin
    #[arg(value_name = "TORRENT|URL")]
    pub torrent: OsString,
    /// Add this peer to the link; repeatable
    #[arg(long, value_name = "ADDR:PORT")]
    pub peer: Vec<String>,
    #[command(flatten)]
    pub limits: LimitArgs,
}

const TRACK_AFTER_HELP: &str = "\
A list has one hexadecimal info-hash per line. Empty lines, lines that begin with # and text after the info-hash are \
ignored. SIGHUP reads the list again.

The tracker records the address from which an announce comes, or the one that a proxy of --trust-proxy names; the ip \
parameter of an announce is ignored. /scrape answers for the torrents that the request names.";

#[derive(Args, Debug)]
#[command(after_help = TRACK_AFTER_HELP)]
pub struct TrackArgs {
    /// Track every torrent that is announced
    #[arg(long, conflicts_with = "allow")]
    pub open: bool,
    /// Track only the torrents of this list
    #[arg(long, value_name = "FILE")]
    pub allow: Option<PathBuf>,
    /// Listen at this address, over TCP for HTTP and over UDP
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:6969")]
    pub listen: String,
    /// Number of threads for each of HTTP and UDP, 1 to 64 [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub proxy: ProxyArgs,
}
