//! `get`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    Destination, EngineOptions, NetworkOptions, ServingOptions, destination, duration, printed, rate_limit,
    refuse_later, resolve_engine, resolve_network, resolve_serving, usage,
};
use crate::base::escape::printable;
use crate::cli::args::{GetArgs, WriteArg};
use crate::cli::exit::{Exit, Failure};
use crate::cli::select::Selector;
use crate::codec::magnet::Magnet;
use crate::codec::url::{WEB_SCHEMES, pasted, usable};
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
    /// Replace files that are not of the torrent.
    pub overwrite: bool,
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

/// What a word of the command line names. A file that is there goes before an info-hash.
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

/// What was meant perhaps by a text that names no file.
fn hint(text: &[u8]) -> Option<&'static str> {
    let first = text.split(|&byte| byte == b'/').next().unwrap_or_default();
    let (host, port) = match first.iter().rposition(|&byte| byte == b':') {
        Some(colon) => (&first[..colon], first.get(colon + 1..).unwrap_or_default()),
        None => (first, &[][..]),
    };
    let has_port = !port.is_empty() && port.iter().all(u8::is_ascii_digit);
    let is_host = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte);
    if has_port && !host.is_empty() && host.iter().all(is_host) {
        return Some("if it is a URL, write http:// or https:// before it");
    }
    let digits = text.iter().filter(|byte| !byte.is_ascii_whitespace());
    if digits.clone().all(u8::is_ascii_alphanumeric) && (30..=50).contains(&digits.count()) {
        return Some("if it is an info-hash, it has 40 hexadecimal digits or 32 of base32, without blanks");
    }
    None
}

/// Refuses a link without trackers and peers where the command line names none either.
pub(in crate::cli) fn check_hints(magnet: &Magnet, network: &NetworkOptions) -> Result<(), Failure> {
    let told = magnet.trackers.len() + magnet.peers.len() + network.announce.len() + network.peers.len();
    if told == 0 {
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
        return Err(usage("-o - and --json both want standard output: leave one out"));
    }
    Ok(GetOptions {
        source,
        output,
        select: args.select.iter().map(|text| Selector::parse(text)).collect::<Result<_, _>>()?,
        seed: args.seed.is_some(),
        overwrite: args.overwrite,
        preallocate: args.preallocate,
        write_mode: match args.write {
            WriteArg::Auto => WriteMode::Auto,
            WriteArg::Buffered => WriteMode::Buffered,
            WriteArg::Direct => WriteMode::Direct,
        },
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
