//! The arguments of `create`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::ProgressArgs;
use super::help::{self, CONTENT, OUTPUT, PEERS, TRACKERS};

#[derive(Args, Debug)]
#[command(after_help = help::MORE, after_long_help = help::CREATE.long())]
pub struct CreateArgs {
    /// File or folder, or - for content from standard input
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Output file, - for stdout [default: NAME.torrent]
    ///
    /// The default is in the current folder.
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub output: Option<PathBuf>,
    /// Add a tier of trackers; repeatable
    ///
    /// The trackers of one tier are tried before those of the next (BEP 12).
    #[arg(short, long, value_name = "URL[,URL]", help_heading = TRACKERS)]
    pub announce: Vec<String>,
    /// Add a web seed; repeatable
    ///
    /// A web seed is an HTTP mirror of the content (BEP 19).
    #[arg(short, long, value_name = "URL", help_heading = PEERS)]
    pub web_seed: Vec<String>,
    /// Piece length in bytes, such as 256K or 2^18
    ///
    /// A power of two from 16K to 256M. The default depends on the length of the content, see below; it is 1M for standard
    /// input.
    #[arg(short = 'l', long, value_name = "LEN", help_heading = CONTENT)]
    pub piece_length: Option<String>,
    /// Make the torrent private
    ///
    /// Clients find peers of a private torrent through its trackers only (BEP 27).
    #[arg(short, long, help_heading = TRACKERS)]
    pub private: bool,
    /// Store a comment
    #[arg(short, long, value_name = "TEXT", help_heading = CONTENT)]
    pub comment: Option<String>,
    /// Store a source tag, which changes the info-hash
    #[arg(short, long, value_name = "SOURCE", help_heading = CONTENT)]
    pub source: Option<String>,
    /// Name of the content [default: last part of PATH]
    #[arg(short, long, help_heading = CONTENT)]
    pub name: Option<OsString>,
    #[command(flatten)]
    pub filters: FilterArgs,
    /// Take piece length, trackers, web seeds, private and source from this torrent
    ///
    /// Flags that are given take precedence. Name, comment and date are not taken. The same content with the same name
    /// gets the same info-hash, unless the other torrent has values in its info dictionary that create does not write.
    #[arg(long, value_name = "TORRENT", help_heading = CONTENT, hide_short_help = true)]
    pub like: Option<PathBuf>,
    #[command(flatten)]
    pub date: DateArgs,
    /// Do not store the name and version of this program
    #[arg(long, help_heading = CONTENT, hide_short_help = true)]
    pub no_creator: bool,
    /// Print the plan; hash and write nothing
    #[arg(long, help_heading = OUTPUT)]
    pub dry_run: bool,
    /// Overwrite the output file if it exists
    #[arg(short, long, help_heading = OUTPUT)]
    pub force: bool,
    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// The files of a folder that are included.
#[derive(Args, Debug)]
pub struct FilterArgs {
    /// Include only matching files; !GLOB excludes
    ///
    /// Repeatable, and the last match wins.
    #[arg(short, long, value_name = "GLOB", help_heading = CONTENT)]
    pub glob: Vec<String>,
    /// Include .DS_Store, Thumbs.db and desktop.ini
    #[arg(long, help_heading = CONTENT, hide_short_help = true)]
    pub include_junk: bool,
}

/// The creation date of a torrent.
#[derive(Args, Debug)]
pub struct DateArgs {
    /// Store this creation date, such as 2026-11-30
    ///
    /// Also a time in the form of RFC 3339, such as 2026-11-30T12:00:00Z, or @SECONDS since 1970. A date alone is its
    /// first second in UTC. By default create stores the time of its start, and edit keeps the date.
    #[arg(long, value_name = "DATE", conflicts_with = "no_date", help_heading = CONTENT, hide_short_help = true)]
    pub date: Option<String>,
    /// Store no creation date
    #[arg(long, help_heading = CONTENT, hide_short_help = true)]
    pub no_date: bool,
}
