//! The arguments of `edit`.

use std::path::PathBuf;

use clap::Args;

use super::help::{self, CONTENT, OUTPUT, PEERS, TRACKERS};
use super::{DateArgs, LimitArgs};

#[derive(Args, Debug)]
#[command(after_help = help::MORE, after_long_help = help::EDIT.long())]
pub struct EditArgs {
    /// The .torrent file
    #[arg(value_name = "TORRENT")]
    pub torrent: PathBuf,
    /// Output file, - for stdout [default: TORRENT]
    ///
    /// By default the file is replaced at once and keeps its mode.
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    pub output: Option<PathBuf>,
    /// Replace all trackers by a tier; repeatable
    ///
    /// The trackers of one tier are tried before those of the next (BEP 12).
    #[arg(short, long, value_name = "URL[,URL]", help_heading = TRACKERS)]
    pub announce: Vec<String>,
    /// Add a tier after the present ones; repeatable
    ///
    /// Trackers that the torrent has already are left out.
    #[arg(long, value_name = "URL[,URL]", conflicts_with = "announce", help_heading = TRACKERS)]
    pub add_announce: Vec<String>,
    /// Remove all trackers
    #[arg(long, conflicts_with_all = ["announce", "add_announce"], help_heading = TRACKERS)]
    pub no_announce: bool,
    /// Replace all web seeds; repeatable
    ///
    /// A web seed is an HTTP mirror of the content (BEP 19).
    #[arg(short, long, value_name = "URL", help_heading = PEERS)]
    pub web_seed: Vec<String>,
    /// Remove all web seeds
    #[arg(long, conflicts_with = "web_seed", help_heading = PEERS, hide_short_help = true)]
    pub no_web_seed: bool,
    /// Replace the comment
    #[arg(short, long, value_name = "TEXT", help_heading = CONTENT)]
    pub comment: Option<String>,
    /// Remove the comment
    #[arg(long, conflicts_with = "comment", help_heading = CONTENT, hide_short_help = true)]
    pub no_comment: bool,
    #[command(flatten)]
    pub date: DateArgs,
    #[command(flatten)]
    pub info: InfoArgs,
    /// Print the changes; write nothing
    #[arg(long, help_heading = OUTPUT)]
    pub dry_run: bool,
    /// Overwrite the file of -o if it exists
    #[arg(short, long, requires = "output", help_heading = OUTPUT)]
    pub force: bool,
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// Changes of the info dictionary.
#[derive(Args, Debug)]
pub struct InfoArgs {
    /// Make the torrent private; needs --new-hash
    ///
    /// Clients find peers of a private torrent through its trackers only (BEP 27).
    #[arg(short, long, help_heading = TRACKERS)]
    pub private: bool,
    /// Make the torrent public; needs --new-hash
    #[arg(long, conflicts_with = "private", help_heading = TRACKERS, hide_short_help = true)]
    pub public: bool,
    /// Replace the source tag; needs --new-hash
    #[arg(short, long, value_name = "SOURCE", help_heading = CONTENT)]
    pub source: Option<String>,
    /// Remove the source tag; needs --new-hash
    #[arg(long, conflicts_with = "source", help_heading = CONTENT, hide_short_help = true)]
    pub no_source: bool,
    /// Allow changes that give a new info-hash
    ///
    /// The result is another torrent: peers of the old one do not find it.
    #[arg(long, help_heading = CONTENT)]
    pub new_hash: bool,
}
