//! Loads the metainfo that the command line names: from a file, standard input, a URL, or the peers of a magnet link.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::exit::{Exit, Failure};
use super::metainfo_file::{load_metainfo, read_metainfo_stdin};
use super::options::{Incoming, MetainfoSource, NetworkOptions, PeerSources};
use super::output::Output;
use super::transfer::tiers;
use crate::base::escape::printable;
use crate::codec::magnet::Magnet;
use crate::codec::metainfo::{Metainfo, MetainfoLimits};
use crate::engine::Config;
use crate::engine::magnet::{Listening, MetadataError, MetadataRequest, fetch_metadata};
use crate::engine::trackers::http::{FetchLimits, Fetcher, HttpError};

/// Loads torrents for one command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loader<'a> {
    pub(super) network: &'a NetworkOptions,
    pub(super) limits: &'a MetainfoLimits,
    pub(super) config: &'a Config,
    pub(super) listening: Listening,
    /// Whether a download follows.
    pub(super) purpose: Purpose,
    pub(super) stop: &'a AtomicBool,
    pub(super) output: &'a Output,
}

/// The purpose for which metadata is fetched from peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Download,
    /// Trackers are told that we leave.
    MetadataOnly,
}

/// A torrent that was loaded.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) metainfo: Metainfo,
    /// Peers that the link names.
    pub(super) link_peers: Vec<SocketAddr>,
    /// Peers that trackers named while the metadata was fetched.
    pub(super) peers: Vec<SocketAddr>,
    /// When loading began.
    pub(super) since: Instant,
}

impl Loader<'_> {
    /// Loads the torrent. May block until `stop` is set.
    pub(super) fn load(self, source: &MetainfoSource) -> Result<Loaded, Failure> {
        let since = Instant::now();
        let without_peers = |metainfo| Loaded { metainfo, link_peers: Vec::new(), peers: Vec::new(), since };
        match source {
            MetainfoSource::File(path) => load_metainfo(path, self.limits, self.output).map(without_peers),
            MetainfoSource::Stdin => self.decode(&read_metainfo_stdin(self.stop)?, source).map(without_peers),
            MetainfoSource::Url(url) => {
                match Fetcher::new(self.config.egress()).fetch_unless(self.stop, url, FetchLimits::metainfo()) {
                    Ok(bytes) => self.decode(&bytes, source).map(without_peers),
                    // Indexers redirect to a magnet link if they have no .torrent.
                    Err(HttpError::Magnet(link)) => self.follow_link(&link, source),
                    Err(error) => {
                        let exit =
                            if matches!(error, HttpError::Interrupted) { Exit::Interrupted } else { Exit::Failed };
                        Err(Failure::new(exit, format_args!("can't fetch: {source}: {error}")))
                    }
                }
            }
            MetainfoSource::Magnet(magnet) => self.fetch(magnet),
        }
    }

    /// Decodes the `.torrent` of a URL or of standard input, and shows its warnings.
    fn decode(self, bytes: &[u8], source: &MetainfoSource) -> Result<Metainfo, Failure> {
        let metainfo = Metainfo::decode(bytes, self.limits)
            .map_err(|error| Failure::new(Exit::Failed, format_args!("not a torrent: {source}: {error}")))?;
        metainfo.warnings.iter().for_each(|warning| self.output.warning(format_args!("{source}: {warning}")));
        Ok(metainfo)
    }

    /// Loads the metadata of a magnet link to which a URL redirects.
    fn follow_link(self, link: &[u8], source: &MetainfoSource) -> Result<Loaded, Failure> {
        let magnet = Magnet::parse(link).map_err(|error| {
            Failure::new(Exit::Failed, format_args!("can't fetch: {source}: leads to a bad link: {error}"))
        })?;
        let incoming = match self.listening {
            Listening::Here => Incoming::Accepted,
            Listening::InSession(_) => Incoming::Impossible,
        };
        let sources = PeerSources::of_link(&magnet, incoming, self.network);
        sources.check(&format_args!("{source} leads to {}", MetainfoSource::Magnet(magnet.clone())))?;
        self.fetch(&magnet)
    }

    /// Downloads the metadata from peers (BEP 9).
    fn fetch(self, magnet: &Magnet) -> Result<Loaded, Failure> {
        let Self { network, limits, config, listening, purpose, stop, output } = self;
        let since = Instant::now();
        let name = magnet.name.as_deref().map_or_else(|| magnet.info_hash.to_string(), printable);
        output.message(format_args!("asking peers for the metadata of {name}; Ctrl-C stops"));
        // Each tracker of a link is a tier of its own, as in libtorrent.
        let link_tiers: Vec<Vec<String>> = magnet.trackers.iter().map(|url| vec![url.clone()]).collect();
        let tiers = tiers(&link_tiers, network);
        let leaving = purpose == Purpose::MetadataOnly;
        let found = fetch_metadata(MetadataRequest { config, magnet, tiers, listening, leaving, stop })?;
        let bad =
            |reason: &dyn std::fmt::Display| Failure::new(Exit::Failed, format_args!("bad torrent: {name}: {reason}"));
        let metainfo = Metainfo::from_info(&found.info_bytes, &link_tiers, &magnet.web_seeds, limits)
            .map_err(|error| bad(&error))?;
        if metainfo.info_hash != magnet.info_hash {
            return Err(bad(&"its metadata is no dictionary"));
        }
        metainfo.warnings.iter().for_each(|warning| output.warning(format_args!("{name}: {warning}")));
        Ok(Loaded { metainfo, link_peers: found.link_peers, peers: found.peers, since })
    }
}

impl From<MetadataError> for Failure {
    fn from(error: MetadataError) -> Self {
        let exit = match error {
            MetadataError::Engine(error) => return error.into(),
            MetadataError::Timeout(_) | MetadataError::HungUp(_) => Exit::NoPeers,
            MetadataError::Interrupted => Exit::Interrupted,
        };
        Self::new(exit, error)
    }
}
