//! `track`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{address, trusted_proxies, usage};
use crate::base::limits;
use crate::cli::args::TrackArgs;
use crate::cli::exit::Failure;
use crate::web::forwarded::TrustedProxies;

#[derive(Debug)]
pub struct TrackOptions {
    pub list: TrackList,
    pub listen: SocketAddr,
    /// For each of HTTP and UDP, at least one.
    pub threads: usize,
    pub trusted_proxies: TrustedProxies,
}

/// What is tracked.
#[derive(Debug, PartialEq, Eq)]
pub enum TrackList {
    /// Whatever is announced.
    Open,
    /// The info-hashes of this file.
    File(PathBuf),
}

pub(super) fn resolve_track(args: TrackArgs) -> Result<TrackOptions, Failure> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(limits::TRACKER_THREADS_MAX);
    Ok(TrackOptions {
        list: match args.allow {
            Some(path) => TrackList::File(path),
            None if args.open => TrackList::Open,
            None => return Err(usage("track: what? give --allow FILE, or --open for any torrent")),
        },
        listen: address("--listen", &args.listen)?,
        threads: args.threads.map_or_else(cores, usize::from),
        trusted_proxies: trusted_proxies(&args.proxy)?,
    })
}
