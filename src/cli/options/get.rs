//! Resolves the options of `get`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::source::{Incoming, MetainfoSource, PeerSources, source};
use super::{
    Destination, EngineOptions, NetworkOptions, ServingOptions, check_stdout, destination, duration, rate_limit,
    resolve_engine, resolve_network, resolve_serving, usage, write_mode,
};
use crate::base::escape::printable;
use crate::base::units::parse_duration;
use crate::cli::args::GetArgs;
use crate::cli::exit::Failure;
use crate::cli::select::Selector;
use crate::engine::{RateLimits, WriteMode};

#[derive(Debug)]
pub struct GetOptions {
    /// At least one.
    pub sources: Vec<MetainfoSource>,
    pub output: GetOutput,
    /// The wanted files; empty for all files.
    pub select: Vec<Selector>,
    /// Keep uploading after the download is complete; `None` to end then.
    pub seed: Option<SeedUntil>,
    pub write_mode: WriteMode,
    pub serving: ServingOptions,
    /// Replace files with foreign content.
    pub overwrite: bool,
    /// Reserve disk space at the start.
    pub preallocate: bool,
    /// Shell command to run when the download is complete.
    pub on_complete: Option<OsString>,
    /// Exit with 4 after this time without a connected peer; `None` for never.
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

/// The conditions that end `get --seed`, each of them optional; the first one that is met counts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SeedUntil {
    /// Bytes sent in this session per byte of content.
    pub ratio: Option<f64>,
    /// Time since the download was complete.
    pub time: Option<Duration>,
}

impl SeedUntil {
    /// Parses a ratio, a time with a unit, or both with a comma between them; the empty text is no condition.
    fn parse(text: &str) -> Result<Self, Failure> {
        let mut until = Self::default();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let ratio = part.parse::<f64>().ok().filter(|ratio| ratio.is_finite() && *ratio > 0.0);
            let time = || parse_duration(part).ok().filter(|time| !time.is_zero() && part.parse::<f64>().is_err());
            match (ratio, time()) {
                (Some(_), _) if until.ratio.is_none() => until.ratio = ratio,
                (None, Some(time)) if until.time.is_none() => until.time = Some(time),
                _ => {
                    let text = printable(text.as_bytes());
                    return Err(usage(format_args!(
                        "--seed: '{text}': give a ratio above 0, as 2 or 0.5, a time with a unit, as 90s, 30m or 12h, \
                         or both, as 2,12h"
                    )));
                }
            }
        }
        Ok(until)
    }
}

impl fmt::Display for SeedUntil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ratio, self.time.map(|time| time.as_secs_f64())) {
            (None, None) => f.write_str("until Ctrl-C"),
            (Some(ratio), None) => write!(f, "until {ratio} times the content is sent"),
            (None, Some(seconds)) => write!(f, "for {seconds} s"),
            (Some(ratio), Some(seconds)) => {
                write!(f, "until {ratio} times the content is sent, for at most {seconds} s")
            }
        }
    }
}

/// Resolves the arguments that name torrents. Checks each of them, and the flags that apply to one torrent only.
fn sources(args: &mut GetArgs, network: &NetworkOptions) -> Result<Vec<MetainfoSource>, Failure> {
    let arguments = std::mem::take(&mut args.torrents);
    if args.seed.as_deref() == Some("") {
        arguments.iter().try_for_each(|argument| refuse_seed_value(argument))?;
    }
    let sources = arguments.into_iter().map(source).collect::<Result<Vec<_>, _>>()?;
    let is_several = sources.len() > 1;
    if sources.iter().filter(|source| **source == MetainfoSource::Stdin).count() > 1 {
        return Err(usage("get: -: standard input holds one .torrent: give - once"));
    }
    if is_several && !args.select.is_empty() {
        return Err(usage("--select: applies to one torrent, and several are given: run get for each"));
    }
    if is_several && args.metadata_only {
        return Err(usage("--metadata-only: applies to one torrent, and several are given: run get for each"));
    }
    let incoming = if is_several { Incoming::Impossible } else { Incoming::Accepted };
    for source in &sources {
        if let MetainfoSource::Magnet(magnet) = source {
            PeerSources::of_link(magnet, incoming, network).check(source)?;
        }
    }
    Ok(sources)
}

/// Fails if the argument is a value that was meant for `--seed`, which takes one only behind `=`.
fn refuse_seed_value(argument: &OsStr) -> Result<(), Failure> {
    let value = argument.to_str().filter(|text| !text.is_empty() && SeedUntil::parse(text).is_ok());
    match value {
        Some(value) if !Path::new(value).exists() => {
            Err(usage(format_args!("get: '{value}' is not a torrent: for a value write --seed={value}")))
        }
        _ => Ok(()),
    }
}

pub(super) fn resolve_get(mut args: GetArgs, json: bool) -> Result<GetOptions, Failure> {
    let network = resolve_network(&args.network)?;
    let sources = sources(&mut args, &network)?;
    let output = if args.metadata_only {
        let destination = destination(args.output);
        check_stdout(&destination, json)?;
        GetOutput::Metainfo(destination)
    } else {
        GetOutput::Content(args.output.unwrap_or_else(|| PathBuf::from(".")))
    };
    let engine = resolve_engine(&args.engine)?;
    Ok(GetOptions {
        sources,
        output,
        select: args.select.iter().map(|text| Selector::parse(text)).collect::<Result<_, _>>()?,
        seed: args.seed.as_deref().map(SeedUntil::parse).transpose()?,
        overwrite: args.overwrite,
        preallocate: args.writing.preallocate,
        write_mode: write_mode(args.writing.write),
        serving: resolve_serving(&args.serving, engine.io.driver)?,
        on_complete: args.on_complete,
        timeout: args.timeout.as_deref().map(|text| duration("--timeout", text)).transpose()?,
        sequential: args.sequential,
        rates: RateLimits {
            up: rate_limit("--up", args.up.as_deref())?,
            up_each: None,
            down: rate_limit("--down", args.down.as_deref())?,
        },
        network,
        engine,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_takes_a_ratio_a_time_or_both() {
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        for (text, ratio, time) in [
            ("", None, None),
            ("2", Some(2.0), None),
            ("0.5", Some(0.5), None),
            ("12h", None, hours(12)),
            ("2,12h", Some(2.0), hours(12)),
            ("1d,1.5", Some(1.5), hours(24)),
        ] {
            assert_eq!(SeedUntil::parse(text).unwrap(), SeedUntil { ratio, time }, "{text}");
        }
        for text in ["0", "-1", "0s", "inf", "NaN", "2,3", "1h,2h", "2,", ",", "x", "1w"] {
            let refusal = SeedUntil::parse(text).unwrap_err();
            assert!(refusal.line.starts_with("--seed: '") && refusal.line.contains("ratio above 0"), "{text}");
        }
    }
}
