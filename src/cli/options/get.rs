//! `get`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::{
    Destination, EngineOptions, NetworkOptions, ServingOptions, destination, has_scheme, printed, rate_limit,
    refuse_later, resolve_engine, resolve_network, resolve_serving, url, usage,
};
use crate::base::escape::printable;
use crate::cli::args::{GetArgs, WriteArg};
use crate::cli::exit::Failure;
use crate::cli::select::Selector;
use crate::codec::magnet::Magnet;
use crate::engine::{RateLimits, WriteMode};

#[derive(Debug)]
pub struct GetOptions {
    pub source: MetainfoSource,
    pub output: GetOutput,
    /// The files that are wanted; none: all.
    pub select: Vec<Selector>,
    /// Keep uploading when complete.
    pub seed: bool,
    pub write_mode: WriteMode,
    pub serving: ServingOptions,
    /// Reserve the disk space at the start.
    pub preallocate: bool,
    /// For the shell, when everything is here.
    pub on_complete: Option<OsString>,
    /// Exit 4 after this long without peers or trackers; `None`: never.
    pub timeout: Option<Duration>,
    /// Pieces by index.
    pub sequential: bool,
    pub rates: RateLimits,
    pub network: NetworkOptions,
    pub engine: EngineOptions,
}

#[derive(Debug, PartialEq, Eq)]
pub enum GetOutput {
    /// Folder that will hold the torrent's name.
    Content(PathBuf),
    /// The `.torrent` alone.
    Metainfo(Destination),
}

#[derive(Debug, PartialEq, Eq)]
pub enum MetainfoSource {
    File(PathBuf),
    /// `http` or `https`.
    Url(String),
    Magnet(Magnet),
}

pub(super) fn resolve_get(args: GetArgs, json: bool) -> Result<GetOptions, Failure> {
    refuse_later(&[("--seed with a condition", args.seed.as_ref().is_some_and(|condition| !condition.is_empty()))])?;
    let source = match args.torrent.to_str() {
        _ if Magnet::is_meant(args.torrent.as_bytes()) => {
            let magnet = Magnet::parse(args.torrent.as_bytes()).map_err(|error| usage(printed(&error)))?;
            let told =
                magnet.trackers.len() + magnet.peers.len() + args.network.announce.len() + args.network.peer.len();
            if told == 0 {
                return Err(usage(
                    "the link names neither trackers nor peers: give --announce URL or --peer ADDR:PORT",
                ));
            }
            MetainfoSource::Magnet(magnet)
        }
        Some(text) if has_scheme(text, &["http", "https"]) => {
            MetainfoSource::Url(url("URL", text, &["http", "https"])?)
        }
        Some(text) if text.contains("://") => {
            return Err(usage(format_args!("not a URL to get: {}: give http or https", printable(text.as_bytes()))));
        }
        _ => MetainfoSource::File(args.torrent.into()),
    };
    let output = if args.metadata_only {
        GetOutput::Metainfo(destination(args.output))
    } else {
        GetOutput::Content(args.output.unwrap_or_else(|| PathBuf::from(".")))
    };
    if json && output == GetOutput::Metainfo(Destination::Stdout) {
        return Err(usage("-o - and --json both want standard output: leave one out"));
    }
    Ok(GetOptions {
        source,
        output,
        select: args.select.iter().map(|text| Selector::parse(text)).collect::<Result<_, _>>()?,
        seed: args.seed.is_some(),
        preallocate: args.preallocate,
        write_mode: match args.write {
            WriteArg::Auto => WriteMode::Auto,
            WriteArg::Buffered => WriteMode::Buffered,
            WriteArg::Direct => WriteMode::Direct,
        },
        serving: resolve_serving(&args.serving),
        on_complete: args.on_complete,
        timeout: args.timeout.map(Duration::from_secs),
        sequential: args.sequential,
        rates: RateLimits {
            up: rate_limit("--up", args.up.as_deref())?,
            up_each: None,
            down: rate_limit("--down", args.down.as_deref())?,
        },
        network: resolve_network(&args.network)?,
        engine: resolve_engine(&args.engine)?,
    })
}
