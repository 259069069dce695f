//! The command line as typed. Nothing here is checked beyond its spelling; `options` makes sense of it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::hash::Kernel;

const AFTER_HELP: &str = "\
Sizes: 65536, 64K, 4M, 4MiB, 2^22. Times: 90 or 90s, 30m, 12h, 7d. Every flag --some-flag is also \
BT_FAST_SOME_FLAG in the environment, which counts before the file of --config. Progress and messages go to stderr, results to stdout.
Exit codes: 0 done, 1 failed, 2 bad usage, 3 data does not match,
4 no peers or trackers in --timeout, 5 storage full, read-only or broken, 130 interrupted.";

pub use bench::{BenchArgs, FloorArgs, HashArgs, LoopbackArgs, OlderArgs, PlaceArgs, SwarmArgs};

mod bench;

/// Below a command's own options in its help.
const LAST: usize = 900;

/// Creates, seeds, gets and checks torrents as fast as the machine allows.
#[derive(Parser, Debug)]
#[command(name = "bt-fast", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(arg_required_else_help = true, subcommand_required = true, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(flatten)]
    pub shared: SharedArgs,
    #[command(subcommand)]
    pub command: CommandArgs,
}

/// What every command takes.
#[derive(Args, Debug)]
pub struct SharedArgs {
    /// No progress and no messages but errors
    #[arg(short, long, global = true, conflicts_with = "verbose", display_order = LAST)]
    pub quiet: bool,
    /// Say more; -vv and -vvv for debugging
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = LAST)]
    pub verbose: u8,
    /// Print one JSON object per line on stdout, and nothing else there
    #[arg(long, global = true, display_order = LAST)]
    pub json: bool,
    /// Read flags from this file: `flag = value` lines, below `[COMMAND]` for one command alone [default:
    /// ~/.config/bt-fast/config, else /etc/bt-fast/config]
    #[arg(long, value_name = "FILE", global = true, display_order = LAST)]
    pub config: Option<PathBuf>,
    /// Least time between two progress records, for measurements
    #[arg(long, value_name = "MS", global = true, hide = true)]
    pub progress_ms: Option<u64>,
    /// How pieces are hashed; what this processor cannot run is refused
    #[arg(long, value_name = "KERNEL", global = true, default_value = "auto", value_parser = kernel_parser())]
    #[arg(display_order = LAST)]
    pub hash_kernel: Kernel,
}

fn kernel_parser() -> impl TypedValueParser<Value = Kernel> {
    PossibleValuesParser::new(Kernel::ALL.map(Kernel::name)).try_map(|name| name.parse::<Kernel>())
}

#[derive(Subcommand, Debug)]
pub enum CommandArgs {
    /// Make a .torrent from a file or folder
    Create(CreateArgs),
    /// Serve content to whoever asks
    Seed(SeedArgs),
    /// Download, verify and write content
    Get(GetArgs),
    /// Check content on disk against a torrent; exit 3 when it does not match
    Verify(VerifyArgs),
    /// Print what a torrent says
    Show(ShowArgs),
    /// Print a torrent's magnet link
    Magnet(MagnetArgs),
    /// Run a tracker, over HTTP and UDP
    Track(TrackArgs),
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual's pages into a folder
    Manual {
        /// The folder, made where it is missing
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Measure this machine
    Bench {
        #[command(subcommand)]
        command: BenchArgs,
    },
}

const CREATE_AFTER_HELP: &str = "\
In a folder, hidden and empty files take part and symlinks are followed; a loop of them is an error.
.DS_Store, Thumbs.db and desktop.ini are left out unless a -g includes them or --include-junk is \
given.

A GLOB without / matches files and folders of that name at any depth, one with / from the \
folder down. A folder that matches stands for all that is in it. * does not cross /, ** does.

Without -l, pieces have the smallest power of two from 16K to 16M that makes at most 2048 of them, and \
more than 16M only where that would make more than 262104 (4 TiB): every client loads the result. A \
warning names whom another -l locks out: rqbit above 262104 pieces, programs on libtorrent when the \
.torrent is above 10 MB; and libtorrent itself creates no pieces above 128M.

create - needs -n, and takes neither -g nor --dry-run; all of it is one file.
--no-date --no-creator make the whole .torrent the same for the same content and options.";

/// Same bytes and options give the same info-hash, always.
#[derive(Args, Debug)]
#[command(after_help = CREATE_AFTER_HELP)]
pub struct CreateArgs {
    /// File or folder; - is content from standard input, called as -n says
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Where to write [default: NAME.torrent in the current folder]; - is stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// A tier of trackers; repeat for the next tier
    #[arg(short, long, value_name = "URL[,URL]")]
    pub announce: Vec<String>,
    /// A web seed: an HTTP mirror of the content
    #[arg(short, long, value_name = "URL")]
    pub web_seed: Vec<String>,
    /// Piece length, a power of two from 16K to 256M [default: by the rule below; 1M from standard
    /// input]
    #[arg(short = 'l', long, value_name = "LEN")]
    pub piece_length: Option<String>,
    /// Only this torrent's trackers may introduce peers
    #[arg(short, long)]
    pub private: bool,
    /// A comment for whoever reads it
    #[arg(short, long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// A source tag; it changes the info-hash
    #[arg(short, long, value_name = "SOURCE")]
    pub source: Option<String>,
    /// The content's name [default: the last part of PATH]
    #[arg(short, long)]
    pub name: Option<OsString>,
    /// Take only files that match, or none that match !GLOB; repeatable, the last match wins
    #[arg(short, long, value_name = "GLOB")]
    pub glob: Vec<String>,
    /// Take .DS_Store, Thumbs.db and desktop.ini too
    #[arg(long)]
    pub include_junk: bool,
    /// Leave the creation date out
    #[arg(long)]
    pub no_date: bool,
    /// Leave out which program made it
    #[arg(long)]
    pub no_creator: bool,
    /// Say what would be made; hash and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Replace an existing output file
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Args, Debug)]
pub struct SeedArgs {
    /// .torrent files; or files and folders, whose torrents are made, remembered and given out on a
    /// page, with a tracker
    #[arg(value_name = "TORRENT|PATH")]
    pub torrents: Vec<PathBuf>,
    /// Serve the .torrent files of this folder too, those that come later, and not those that are removed; SIGHUP looks at once
    #[arg(long, value_name = "DIR")]
    pub watch: Option<PathBuf>,
    /// Folder that holds the names of the .torrent files [default: the folder of each]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub serving: ServingArgs,
    /// When content is hashed: before it is first served (unless an earlier create, verify or seed found it right and no file's
    /// inode, size or times changed since), all at start, or never
    #[arg(long, value_name = "WHEN", default_value = "lazy")]
    pub verify: VerifyArg,
    #[command(flatten)]
    pub web: WebArgs,
    /// Upload rate limit in bytes/s, all torrents together
    #[arg(long, value_name = "RATE")]
    pub up: Option<String>,
    /// Upload rate limit of each torrent
    #[arg(long, value_name = "RATE")]
    pub up_each: Option<String>,
    /// For a thin uplink: show each peer a piece or two at a time, and the next when others have those (BEP 16), until the first
    /// copy is out
    #[arg(long)]
    pub super_seed: bool,
    /// Stop when so many times the content was sent
    #[arg(long, value_name = "R")]
    pub stop_ratio: Option<f64>,
    /// Stop after this time
    #[arg(long, value_name = "TIME")]
    pub stop_time: Option<String>,
    /// Stop when so many others have got everything, as they and our tracker tell (of several torrents, of each)
    #[arg(long, value_name = "K")]
    pub stop_copies: Option<usize>,
    /// Stop when nothing was sent for this time
    #[arg(long, value_name = "TIME")]
    pub stop_idle: Option<String>,
}

/// Tracker and pages. They are there for content without a .torrent, and where one of these flags is given.
#[derive(Args, Debug)]
pub struct WebArgs {
    /// Page, .torrent files and tracker (HTTP, and UDP on the same port) are here, or off [default: all
    /// addresses, port 6880 or the first free one of 6890-6899]
    #[arg(long, value_name = "ADDR:PORT|off")]
    pub web: Option<String>,
    /// Dashboard, /metrics and /api are here, or off [default: the loopback, the first free port of
    /// 6870-6879]
    #[arg(long, value_name = "ADDR:PORT|off")]
    pub admin: Option<String>,
    /// What others reach the page by, behind a proxy or NAT. A proxy on this host is trusted as by --trust-proxy, and has to
    /// send X-Forwarded-For; it strips the URL's path
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    #[command(flatten)]
    pub proxy: ProxyArgs,
    /// Give the content out over HTTP too, verified: a web seed, or a plain download
    #[arg(long)]
    pub web_seed: bool,
}

/// Which reverse proxies are believed.
#[derive(Args, Debug)]
pub struct ProxyArgs {
    /// Take the last address of X-Forwarded-For for the client's where a reverse proxy on this host sends it, and with =CIDR
    /// where a proxy in that range does; repeatable
    #[arg(long, value_name = "CIDR", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub trust_proxy: Vec<String>,
}

#[derive(Args, Debug)]
pub struct GetArgs {
    /// A .torrent file, its http(s) URL, a magnet link, or an info-hash
    #[arg(value_name = "TORRENT|URL|MAGNET")]
    pub torrent: OsString,
    /// Folder to download into [default: the current one]; with --metadata-only the .torrent
    /// [default: NAME.torrent], or - for stdout
    #[arg(short, long, value_name = "DIR|FILE")]
    pub output: Option<PathBuf>,
    /// Save the .torrent of a magnet link, and download nothing
    #[arg(long, conflicts_with = "seed")]
    pub metadata_only: bool,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Download only these files: their numbers in `show`, as 1,3-5, or those that match a glob as for create -g. Repeatable;
    /// what an earlier one names comes first
    #[arg(long, value_name = "LIST|GLOB", conflicts_with = "metadata_only")]
    pub select: Vec<String>,
    /// Replace files that are there and of which nothing is right, and cut those that are too long; without it they are
    /// left alone, and that is exit 1
    #[arg(long, conflicts_with = "metadata_only")]
    pub overwrite: bool,
    /// Keep uploading when complete, until told to exit (=R|T, a ratio or time, is not available yet)
    #[arg(long, value_name = "R|T", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub seed: Option<String>,
    #[command(flatten)]
    pub serving: ServingArgs,
    /// How pieces are written: through the page cache, past it, or past it while no peer wants them
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub write: WriteArg,
    /// Reserve the disk space of all files at the start, in the background, where the file system can
    #[arg(long)]
    pub preallocate: bool,
    /// Run this by the shell when everything is verified and written; BT_FAST_HOOK_NAME, BT_FAST_HOOK_OUTPUT
    /// (the folder) and BT_FAST_HOOK_INFO_HASH describe the download
    #[arg(long, value_name = "COMMAND", conflicts_with = "metadata_only")]
    pub on_complete: Option<OsString>,
    /// Give up when there are no peers or trackers for this time (exit 4)
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<String>,
    /// Pieces in the order of the content, for reading while it comes: others gain less from us than by rarest first
    #[arg(long)]
    pub sequential: bool,
    /// Download rate limit in bytes/s
    #[arg(long, value_name = "RATE")]
    pub down: Option<String>,
    /// Upload rate limit in bytes/s
    #[arg(long, value_name = "RATE")]
    pub up: Option<String>,
}

/// Where peers are found.
#[derive(Args, Debug)]
pub struct NetworkArgs {
    /// Accept peers here [default: the first free port of 6881-6889]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// A peer to connect to; repeatable
    #[arg(long, value_name = "ADDR:PORT")]
    pub peer: Vec<String>,
    /// A tracker beside those of the torrent, http, https or udp; repeatable. On this host and in private networks it may
    /// have any path; one that a torrent names there needs /announce in it
    #[arg(long, value_name = "URL")]
    pub announce: Vec<String>,
    /// Ask no tracker of the torrent, only those of --announce
    #[arg(long)]
    pub announce_only: bool,
    /// Exchange with peers of this range alone, as 10.0.0.0/8 or 2001:db8::/32; repeatable
    #[arg(long, value_name = "CIDR")]
    pub allow_peer: Vec<String>,
    /// Have nothing to do with peers of this range; repeatable, and counts before --allow-peer
    #[arg(long, value_name = "CIDR")]
    pub deny_peer: Vec<String>,
    /// Peer connections at a time, handshakes included [default: 20000 for seed, 500 for get, of which
    /// it accepts 36 while it downloads]
    #[arg(long, value_name = "N")]
    pub connections: Option<usize>,
    /// Peers, trackers and the server of a .torrent are reached through this network interface alone. Names are still looked
    /// up by the system's resolver, by whatever way it has, and pages are served where --web and --admin say
    #[arg(long, value_name = "NAME")]
    pub bind_device: Option<String>,
    /// Mark of the packets to peers for routers (DSCP), 0 to 63; 8 is "less than best effort"
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=63))]
    pub dscp: Option<u8>,
    /// The address or DNS name that trackers are told, for an origin that they would see at another one
    #[arg(long, value_name = "HOST")]
    pub announce_ip: Option<String>,
}

/// How content reaches the network.
#[derive(Args, Debug)]
pub struct ServingArgs {
    /// What becomes of served content in the page cache: it stays, or is dropped some way behind
    #[arg(long, value_name = "HOW", default_value = "keep")]
    pub cache: CacheArg,
    /// Sends that the kernel does not copy: where it reports that it gains, all of 32 KiB and more, or none
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub zero_copy: ZeroCopyArg,
}

/// How much of the machine is used.
#[derive(Args, Debug)]
pub struct EngineArgs {
    /// Ring threads, 1 to 8 [default: one per core]
    #[arg(long, value_name = "N")]
    pub rings: Option<usize>,
    /// Memory for pieces on their way [default: 256M]
    #[arg(long, value_name = "SIZE")]
    pub arena: Option<String>,
    /// Peers served at a time; auto grows with the upload rate, from 4 while getting, to 64 at most
    #[arg(long, value_name = "N|auto|all", default_value = "auto")]
    pub slots: String,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(Args, Debug)]
pub struct LimitArgs {
    /// Refuse torrents with more pieces [default: 2097152]
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
Lists what is missing, short, long, altered or no file at all, and the bad pieces: then it exits with 3.
Files that the torrent does not name are listed as extra and are no mismatch.

Checks that found all right are remembered for --fast in $XDG_CACHE_HOME/bt-fast (~/.cache/bt-fast), \
unless the content was written within the two seconds before.";

#[derive(Args, Debug)]
#[command(after_help = VERIFY_AFTER_HELP)]
pub struct VerifyArgs {
    /// The .torrent file
    #[arg(value_name = "TORRENT")]
    pub torrent: PathBuf,
    /// Folder that holds the torrent's name [default: the folder of the .torrent]
    #[arg(value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Read nothing when an earlier verify or create found all right and no file's inode, size or times changed since
    #[arg(long)]
    pub fast: bool,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(Args, Debug)]
pub struct ShowArgs {
    /// The .torrent file
    #[arg(value_name = "TORRENT")]
    pub torrent: PathBuf,
    /// Ask each tracker how large the swarm is
    #[arg(long)]
    pub scrape: bool,
    /// Ask through this network interface alone; names are looked up by the system, by whatever way it has
    #[arg(long, value_name = "NAME")]
    pub bind_device: Option<String>,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(Args, Debug)]
pub struct MagnetArgs {
    /// The .torrent file
    #[arg(value_name = "TORRENT")]
    pub torrent: PathBuf,
    /// A peer to name in the link; repeatable
    #[arg(long, value_name = "ADDR:PORT")]
    pub peer: Vec<String>,
    #[command(flatten)]
    pub limits: LimitArgs,
}

const TRACK_AFTER_HELP: &str = "\
A list has one info-hash in hexadecimal a line; empty lines, those that begin with # and what follows the \
info-hash are passed over. SIGHUP reads it anew.

An announced ip= is ignored: only the address that an announce comes from counts, or the one that a proxy of \
--trust-proxy names. There is /scrape too, for torrents that are named.";

#[derive(Args, Debug)]
#[command(after_help = TRACK_AFTER_HELP)]
pub struct TrackArgs {
    /// Track whatever is announced
    #[arg(long, conflicts_with = "allow")]
    pub open: bool,
    /// Track the torrents of this list alone
    #[arg(long, value_name = "FILE")]
    pub allow: Option<PathBuf>,
    /// Listen here, with TCP for HTTP and with UDP
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:6969")]
    pub listen: String,
    /// Threads for each of HTTP and UDP, 1 to 64 [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub proxy: ProxyArgs,
}
