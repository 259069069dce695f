//! Resolves the options of `track`.

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
    /// The number of threads for each of HTTP and UDP, at least 1.
    pub threads: usize,
    pub trusted_proxies: TrustedProxies,
}

/// The torrents to track.
#[derive(Debug, PartialEq, Eq)]
pub enum TrackList {
    /// Every torrent that is announced.
    Open,
    /// The torrents whose info-hashes this file lists.
    File(PathBuf),
}

pub(super) fn resolve_track(args: TrackArgs) -> Result<TrackOptions, Failure> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(limits::TRACKER_THREADS_MAX);
    Ok(TrackOptions {
        list: match args.allow {
            Some(path) => TrackList::File(path),
            None if args.open => TrackList::Open,
            None => return Err(usage("track: nothing to track: give --allow FILE, or --open for any torrent")),
        },
        listen: address("--listen", &args.listen, 6969)?,
        threads: args.threads.map_or_else(cores, usize::from),
        trusted_proxies: trusted_proxies(&args.proxy)?,
    })
}
