//! Resolves the options of `get`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    Destination, EngineOptions, NetworkOptions, ServingOptions, destination, duration, printed, rate_limit,
    refuse_later, resolve_engine, resolve_network, resolve_serving, usage, write_mode,
};
use crate::base::escape::printable;
use crate::cli::args::GetArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::select::Selector;
use crate::codec::magnet::Magnet;
use crate::codec::url::{WEB_SCHEMES, pasted, usable};
use crate::engine::{RateLimits, WriteMode};

#[derive(Debug)]
pub struct GetOptions {
    pub source: MetainfoSource,
    pub output: GetOutput,
    /// The wanted files; empty for all files.
    pub select: Vec<Selector>,
    /// Keep uploading after the download is complete.
    pub seed: bool,
    pub write_mode: WriteMode,
    pub serving: ServingOptions,
    /// Replace files with foreign content.
    pub overwrite: bool,
    /// Reserve disk space at the start.
    pub preallocate: bool,
    /// Shell command to run when the download is complete.
    pub on_complete: Option<OsString>,
    /// Exit with 4 after this time without peers or trackers; `None` for never.
    pub timeout: Option<Duration>,
    /// Download pieces in the order of their index.
    pub sequential: bool,
    pub rates: RateLimits,
    pub network: NetworkOptions,
    pub engine: EngineOptions,
}

#[derive(Debug, PartialEq, Eq)]
pub enum GetOutput {
    /// Content below this folder.
    Content(PathBuf),
    /// The `.torrent` only.
    Metainfo(Destination),
}

#[derive(Debug, PartialEq, Eq)]
pub enum MetainfoSource {
    File(PathBuf),
    /// `http` or `https`.
    Url(String),
    Magnet(Magnet),
}

/// Resolves the argument of `get`. An existing file takes precedence over an info-hash.
fn source(word: OsString) -> Result<MetainfoSource, Failure> {
    let text = pasted(word.as_bytes());
    if Magnet::is_meant(text) {
        return Magnet::parse(text).map(MetainfoSource::Magnet).map_err(|error| usage(printed(&error)));
    }
    if text.windows(3).any(|part| part == b"://") && !Path::new(&word).exists() {
        let url = usable(text, &WEB_SCHEMES).ok_or_else(|| {
            usage(format_args!("not a URL to get: {}: give http or https and a host", printable(text)))
        })?;
        return Ok(MetainfoSource::Url(url));
    }
    if Path::new(&word).symlink_metadata().is_ok() {
        return Ok(MetainfoSource::File(word.into()));
    }
    match Magnet::from_info_hash(text) {
        Some(magnet) => Ok(MetainfoSource::Magnet(magnet)),
        None => match hint(text) {
            Some(hint) => Err(Failure::new(
                Exit::Failed,
                format_args!("can't read torrent: {}: there is no such file: {hint}", printable(text)),
            )),
            None => Ok(MetainfoSource::File(word.into())),
        },
    }
}

/// Guesses what was meant by a text that names no file.
fn hint(text: &[u8]) -> Option<&'static str> {
    let first = text.split(|&byte| byte == b'/').next().unwrap_or_default();
    let (host, port) = match first.iter().rposition(|&byte| byte == b':') {
        Some(colon) => (&first[..colon], first.get(colon + 1..).unwrap_or_default()),
        None => (first, &[][..]),
    };
    let has_port = !port.is_empty() && port.iter().all(u8::is_ascii_digit);
    let is_host = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte);
    if has_port && !host.is_empty() && host.iter().all(is_host) {
        return Some("if it is a URL, begin it with http:// or https://");
    }
    let digits = text.iter().filter(|byte| !byte.is_ascii_whitespace());
    if digits.clone().all(u8::is_ascii_alphanumeric) && (30..=50).contains(&digits.count()) {
        return Some("if it is an info-hash, give 40 hexadecimal digits or 32 of base32, without blanks");
    }
    None
}

/// Fails if neither the link nor the command line names a tracker or a peer.
pub(in crate::cli) fn check_hints(magnet: &Magnet, network: &NetworkOptions) -> Result<(), Failure> {
    let hint_count = magnet.trackers.len() + magnet.peers.len() + network.announce.len() + network.peers.len();
    if hint_count == 0 {
        return Err(usage(format_args!(
            "magnet:?xt=urn:btih:{} names neither trackers nor peers: give --announce URL or --peer ADDR:PORT",
            magnet.info_hash
        )));
    }
    Ok(())
}

pub(super) fn resolve_get(args: GetArgs, json: bool) -> Result<GetOptions, Failure> {
    refuse_later(&[("--seed with a condition", args.seed.as_ref().is_some_and(|condition| !condition.is_empty()))])?;
    let source = source(args.torrent)?;
    let network = resolve_network(&args.network)?;
    if let MetainfoSource::Magnet(magnet) = &source {
        check_hints(magnet, &network)?;
    }
    let output = if args.metadata_only {
        GetOutput::Metainfo(destination(args.output))
    } else {
        GetOutput::Content(args.output.unwrap_or_else(|| PathBuf::from(".")))
    };
    if json && output == GetOutput::Metainfo(Destination::Stdout) {
        return Err(usage("-o - and --json both write to standard output: leave one out"));
    }
    Ok(GetOptions {
        source,
        output,
        select: args.select.iter().map(|text| Selector::parse(text)).collect::<Result<_, _>>()?,
        seed: args.seed.is_some(),
        overwrite: args.overwrite,
        preallocate: args.writing.preallocate,
        write_mode: write_mode(args.writing.write),
        serving: resolve_serving(&args.serving),
        on_complete: args.on_complete,
        timeout: args.timeout.as_deref().map(|text| duration("--timeout", text)).transpose()?,
        sequential: args.sequential,
        rates: RateLimits {
            up: rate_limit("--up", args.up.as_deref())?,
            up_each: None,
            down: rate_limit("--down", args.down.as_deref())?,
        },
        network,
        engine: resolve_engine(&args.engine)?,
    })
}
