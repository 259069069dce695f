//! The texts around the flags: headings, notes and examples.

use std::fmt::Write as _;

use clap::Command;
use clap::builder::Resettable;

/// Headings of the groups in `--help`.
pub const CONTENT: &str = "Content";
pub const PEERS: &str = "Peers";
pub const TRACKERS: &str = "Trackers";
pub const LIMITS: &str = "Limits";
pub const STORAGE: &str = "Storage";
pub const OUTPUT: &str = "Output";
pub const TUNING: &str = "Tuning";
/// Headings of `bench` only.
pub const MEASUREMENT: &str = "Measurement";
pub const SIMULATION: &str = "Simulation";

/// The last line of `-h`.
pub const MORE: &str = "--help shows all flags, with examples.";
pub const MORE_OF_COMMANDS: &str = "COMMAND -h shows the most used flags of a command, COMMAND --help all flags.";

/// Precedes the examples in `--help`.
const EXAMPLES: &str = "Examples:\n";
const INDENT: &str = "  ";

/// The end of `--help`, below the flags.
#[derive(Debug)]
pub struct Ending {
    /// Paragraphs, separated by empty lines.
    notes: &'static str,
    examples: &'static [Example<'static>],
}

/// A command line with its purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example<'a> {
    pub purpose: &'a str,
    pub line: &'a str,
}

impl Ending {
    /// Returns the text for clap, which [`read`] takes apart.
    pub fn long(&self) -> String {
        let gap = if self.notes.is_empty() { "" } else { "\n\n" };
        let mut text = format!("{}{gap}{EXAMPLES}", self.notes);
        for Example { purpose, line } in self.examples {
            let _ = write!(text, "{INDENT}# {purpose}\n{INDENT}{line}\n");
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// Returns the command with all flags under one heading, so that `-h` fits a screen.
pub fn brief(command: Command) -> Command {
    command.mut_args(|arg| arg.help_heading(Resettable::Reset)).mut_subcommands(brief)
}

/// Returns the notes and the examples of a command's `--help`.
pub fn read(ending: &str) -> (&str, Vec<Example<'_>>) {
    let (notes, examples) = ending.split_once(EXAMPLES).unwrap_or((ending, ""));
    let mut lines = examples.lines().map(str::trim);
    let mut read = Vec::new();
    while let (Some(purpose), Some(line)) = (lines.next(), lines.next()) {
        read.push(Example { purpose: purpose.trim_start_matches("# "), line });
    }
    (notes.trim_end(), read)
}

pub const ROOT: Ending = Ending {
    notes: "\
Sizes are in bytes, or with a unit of 1024: 65536, 64K, 4M, 4MiB, 2^22. Rates are sizes per second. Times are in \
seconds, or with a unit: 90, 500ms, 90s, 30m, 12h, 7d.

Every flag --some-flag can also be set by the environment variable BT_FAST_SOME_FLAG, or in the file of --config. The \
command line takes precedence over the environment, and the environment over the file.

Results go to stdout, progress and messages to stderr.

Exit codes: 0 success, 1 failure, 2 bad usage, 3 data does not match, 4 no peers within --timeout, \
5 storage full, read-only or broken, 130 interrupted.",
    examples: &[
        Example {
            purpose: "Share a file: prints the address of a page with its torrent",
            line: "bt-fast seed big.iso",
        },
        Example {
            purpose: "Download it on another machine",
            line: "bt-fast get http://192.0.2.7:6880/t/big.iso.torrent -o /srv/images",
        },
        Example {
            purpose: "Create a torrent with a tracker",
            line: "bt-fast create big.iso -a http://tracker.example/announce",
        },
        Example { purpose: "Describe a command and all of its flags", line: "bt-fast help get" },
    ],
};

pub const CREATE: Ending = Ending {
    notes: "\
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

With - as PATH, all of standard input becomes one file; -n is required, and -g and --dry-run are not allowed.",
    examples: &[
        Example { purpose: "Create big.iso.torrent with a tracker", line: "bt-fast create big.iso -a http://tracker.example/announce" },
        Example { purpose: "A folder without its log files", line: "bt-fast create photos -g '!*.log' -a http://tracker.example/announce" },
        Example { purpose: "Pieces of 4 MiB, and a web seed", line: "bt-fast create big.iso -l 4M -w http://mirror.example/big.iso" },
        Example { purpose: "Only the plan: nothing is read or written", line: "bt-fast create photos --dry-run" },
        Example { purpose: "The same bytes each time, on stdout", line: "bt-fast create photos --no-date --no-creator -o -" },
    ],
};

pub const EDIT: Ending = Ending {
    notes: "\
The info dictionary keeps its bytes, and the torrent its info-hash, unless --new-hash is given. Values that no flag \
changes keep their bytes as well.

Copies of the .torrent that were already distributed do not change: clients keep their trackers.",
    examples: &[
        Example {
            purpose: "Announce to another tracker",
            line: "bt-fast edit big.iso.torrent -a http://tracker.example/announce",
        },
        Example {
            purpose: "Add a second tracker as a new tier",
            line: "bt-fast edit big.iso.torrent --add-announce udp://b.example:6969",
        },
        Example {
            purpose: "Write a copy without comment and date",
            line: "bt-fast edit big.iso.torrent --no-comment --no-date -o clean.torrent",
        },
        Example {
            purpose: "Make a private torrent of a public one, with a new info-hash",
            line: "bt-fast edit big.iso.torrent -p --new-hash -o private.torrent",
        },
    ],
};

pub const SEED: Ending = Ending {
    notes: "",
    examples: &[
        Example { purpose: "Share a file or folder, with page and tracker", line: "bt-fast seed big.iso photos" },
        Example {
            purpose: "Serve a .torrent whose content is in another folder",
            line: "bt-fast seed big.iso.torrent --data /srv/images",
        },
        Example {
            purpose: "Serve all torrents of a folder, with at most 20 MiB/s",
            line: "bt-fast seed --watch /srv/torrents --data /srv/images --up 20M",
        },
        Example { purpose: "End when ten machines have the content", line: "bt-fast seed big.iso --stop-copies 10" },
        Example {
            purpose: "Also serve plain HTTP downloads",
            line: "bt-fast seed big.iso --web 0.0.0.0:8080 --web-seed",
        },
    ],
};

pub const GET: Ending = Ending {
    notes: "\
Several torrents share one port and one set of limits. One that fails does not end the others: each failure is one \
line, and the last line counts the complete ones. The exit code is 0 if all are complete, and otherwise the first of \
130, 5, 3, 1, 2 and 4 that applies to one of them.",
    examples: &[
        Example { purpose: "Download into /srv/images", line: "bt-fast get big.iso.torrent -o /srv/images" },
        Example {
            purpose: "From the page of bt-fast seed",
            line: "bt-fast get http://192.0.2.7:6880/t/big.iso.torrent",
        },
        Example {
            purpose: "From a known peer, without a tracker",
            line: "bt-fast get big.iso.torrent --peer 192.0.2.7:6881",
        },
        Example {
            purpose: "The files 1 to 3 and all PDF files",
            line: "bt-fast get photos.torrent --select 1-3 --select '*.pdf'",
        },
        Example {
            purpose: "Give up after five minutes without peers",
            line: "bt-fast get big.iso.torrent --timeout 5m",
        },
    ],
};

pub const VERIFY: Ending = Ending {
    notes: "\
Lists files that are missing, too short, too long, altered or not regular files, and the bad pieces; then exits with 3. \
Files that the torrent does not name are listed as extra and are not a mismatch.

A check that finds everything right is remembered for --fast in $XDG_CACHE_HOME/bt-fast (~/.cache/bt-fast), unless a \
file was written less than two seconds before the check.",
    examples: &[
        Example { purpose: "Check the content beside the .torrent", line: "bt-fast verify big.iso.torrent" },
        Example { purpose: "Check the content in another folder", line: "bt-fast verify big.iso.torrent /srv/images" },
        Example { purpose: "Trust an earlier check if no file has changed", line: "bt-fast verify big.iso.torrent /srv/images --fast" },
    ],
};

pub const SHOW: Ending = Ending {
    notes: "",
    examples: &[
        Example { purpose: "Print name, info-hash, trackers and files", line: "bt-fast show big.iso.torrent" },
        Example {
            purpose: "Also print the numbers of seeders and leechers",
            line: "bt-fast show big.iso.torrent --scrape",
        },
        Example { purpose: "As JSON", line: "bt-fast show big.iso.torrent --json" },
    ],
};

pub const MAGNET: Ending = Ending {
    notes: "",
    examples: &[
        Example { purpose: "Print the magnet link", line: "bt-fast magnet big.iso.torrent" },
        Example {
            purpose: "With the address of a seeder",
            line: "bt-fast magnet big.iso.torrent --peer 192.0.2.7:6881",
        },
        Example { purpose: "As JSON, with the info-hash", line: "bt-fast magnet big.iso.torrent --json" },
    ],
};

pub const TRACK: Ending = Ending {
    notes: "\
A list has one hexadecimal info-hash per line. Empty lines, lines that begin with # and text after the info-hash are \
ignored. SIGHUP reads the list again.

The tracker records the address from which an announce comes, or the one that a proxy of --trust-proxy names; the ip \
parameter of an announce is ignored. /scrape answers for the torrents that the request names.",
    examples: &[
        Example { purpose: "Track every torrent, on port 6969", line: "bt-fast track --open" },
        Example {
            purpose: "Track the torrents of a list, on port 80",
            line: "bt-fast track --allow torrents.txt --listen 0.0.0.0:80",
        },
        Example {
            purpose: "Behind a reverse proxy on this host",
            line: "bt-fast track --open --listen 127.0.0.1:6969 --trust-proxy",
        },
    ],
};

pub const HEALTH: Ending = Ending {
    notes: "\
Exits with 0 if the server answers with a status from 200 to 299 within --timeout, and otherwise with 1 and one line. \
Redirects are not followed, a proxy of the environment is not used, and an answer longer than 1 MiB is an error.",
    examples: &[
        Example { purpose: "A seed, by its page", line: "bt-fast health http://127.0.0.1:6880" },
        Example { purpose: "A seed without a page, by its dashboard", line: "bt-fast health http://127.0.0.1:6870" },
        Example { purpose: "A tracker, within a second", line: "bt-fast health http://127.0.0.1:6969 --timeout 1s" },
    ],
};

pub const COMPLETIONS: Ending = Ending {
    notes: "",
    examples: &[
        Example { purpose: "For bash", line: "bt-fast completions bash" },
        Example { purpose: "For zsh", line: "bt-fast completions zsh" },
        Example { purpose: "For fish", line: "bt-fast completions fish" },
    ],
};

pub const MANUAL: Ending = Ending {
    notes: "",
    examples: &[
        Example { purpose: "Write the pages below the current folder", line: "bt-fast manual man" },
        Example { purpose: "For the current user", line: "bt-fast manual ~/.local/share/man/man1" },
        Example { purpose: "For all users", line: "bt-fast manual /usr/local/share/man/man1" },
    ],
};

pub const BENCH: Ending = Ending {
    notes: "",
    examples: &[
        Example { purpose: "Transfer 1 GiB between two processes", line: "bt-fast bench loopback" },
        Example { purpose: "Compare the hash kernels", line: "bt-fast bench hash" },
        Example { purpose: "Simulate a thousand downloaders", line: "bt-fast bench swarm --simulate 1000" },
    ],
};

pub const LOOPBACK: Ending = Ending {
    notes: "\
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

System calls are counted for root, or with CAP_PERFMON and a readable tracefs.",
    examples: &[
        Example { purpose: "Transfer 1 GiB between two processes, three times", line: "bt-fast bench loopback" },
        Example {
            purpose: "In memory, with a page of charts",
            line: "bt-fast bench loopback --ram --html report.html",
        },
        Example { purpose: "Four downloads at a time", line: "bt-fast bench loopback --peers 4 --size 512M" },
        Example {
            purpose: "Compare with an earlier run, saved from --json",
            line: "bt-fast bench loopback --compare old.json",
        },
    ],
};

pub const SWARM: Ending = Ending {
    notes: "\
The bound is max(F/u_s, F/d_min, N*F/(u_s + sum of u_i)): the content at the origin's rate, the content at the rate of \
the slowest link, and all copies at the rate of all uplinks together.

Real downloaders share this machine, so each round also measures its limit: all downloaders get the content at the same \
time, each from an origin of its own, with the same reading, sending, hashing and writing. T_min is that time, or the \
bound of the links if it is longer. With --link or --origin, each kind of link is first measured alone for three \
seconds, and the bound uses the measured rates.

A simulation gives the same result for the same options on any number of cores. Shares are fractions of the \
downloaders, from 0 to 1.",
    examples: &[
        Example { purpose: "Eight downloaders on this machine", line: "bt-fast bench swarm" },
        Example { purpose: "With links of 12.5 MB/s (100 Mbit/s)", line: "bt-fast bench swarm --peers 16 --link 12500000" },
        Example { purpose: "A thousand simulated downloaders, a tenth of which never upload", line: "bt-fast bench swarm --simulate 1000 --free-riders 0.1" },
    ],
};

pub const FLOOR: Ending = Ending {
    notes: "\
The rate of a write with a sync includes the write to the page cache of the same file. With --ram there is no disk: \
writes past the page cache and syncs are left out.",
    examples: &[
        Example { purpose: "Measure disk, memory and sockets", line: "bt-fast bench floor" },
        Example { purpose: "In memory only", line: "bt-fast bench floor --ram" },
        Example {
            purpose: "Compare with an earlier run, saved from --json",
            line: "bt-fast bench floor --compare old.json",
        },
    ],
};

pub const HASH: Ending = Ending {
    notes: "\
Reports GB/s of one core for every kernel that this processor supports: SHA-1 of 1 to 16 pieces of 16K to 4M, and \
SHA-256 of 16K blocks, next to the crates sha1 and sha2. Then measures all cores with the kernel of --hash-kernel, and \
the rate of reading memory and adding it up, which hashing cannot exceed.

The column auto is the kernel, or the sequence of kernels, that is used for this number of pieces; the last column \
names it, and 'chosen' lists SHA-1's for 1 to 16 pieces. Measurements of less than 1 ms when a program first hashes \
choose it. All kernels give the same hashes.",
    examples: &[
        Example { purpose: "Measure all kernels for twelve seconds", line: "bt-fast bench hash" },
        Example { purpose: "For a minute", line: "bt-fast bench hash --seconds 1m" },
        Example { purpose: "As JSON", line: "bt-fast bench hash --json" },
    ],
};
