//! Resolves the words of the command line that name a torrent, and the ways to find its peers.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{NetworkOptions, usage};
use crate::base::escape::{printable, printed};
use crate::cli::exit::{Exit, Failure};
use crate::codec::magnet::Magnet;
use crate::codec::url::{WEB_SCHEMES, pasted, usable, without_credentials};

#[derive(Debug, PartialEq, Eq)]
pub enum MetainfoSource {
    File(PathBuf),
    /// `http` or `https`.
    Url(String),
    Magnet(Magnet),
    /// The bytes of a `.torrent` on standard input.
    Stdin,
}

/// Resolves a word of the command line. An existing file takes precedence over an info-hash.
pub(super) fn source(word: OsString) -> Result<MetainfoSource, Failure> {
    if word == "-" {
        return Ok(MetainfoSource::Stdin);
    }
    let text = pasted(word.as_bytes());
    if Magnet::is_meant(text) {
        return Magnet::parse(text).map(MetainfoSource::Magnet).map_err(|error| usage(printed(error)));
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

impl fmt::Display for MetainfoSource {
    /// Printable.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(&printable(path.as_os_str().as_bytes())),
            Self::Url(url) => f.write_str(&printable(without_credentials(url).as_bytes())),
            Self::Magnet(magnet) => write!(f, "magnet:?xt=urn:btih:{}", magnet.info_hash),
            Self::Stdin => f.write_str("standard input"),
        }
    }
}

/// The ways in which a download can find peers.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct PeerSources<'a> {
    /// Trackers that the torrent or the link names.
    pub tracker_count: usize,
    /// Peers that the link or trackers named.
    pub peer_count: usize,
    /// Whether peers that connect to us can help.
    pub incoming: Incoming,
    pub network: &'a NetworkOptions,
}

/// Whether peers can connect to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Incoming {
    /// Peers that the user tells of a fixed `--listen` can.
    Accepted,
    /// The metadata is fetched without a listening socket.
    Impossible,
}

impl<'a> PeerSources<'a> {
    /// Returns the ways that a magnet link offers.
    pub(in crate::cli) fn of_link(magnet: &Magnet, incoming: Incoming, network: &'a NetworkOptions) -> Self {
        Self { tracker_count: magnet.trackers.len(), peer_count: magnet.peers.len(), incoming, network }
    }

    /// Fails if nothing can find peers for `what`, which must be printable.
    pub(in crate::cli) fn check(self, what: &dyn fmt::Display) -> Result<(), Failure> {
        let Self { tracker_count, peer_count, incoming, network } = self;
        let asks_own_trackers = tracker_count > 0 && !network.announce_only;
        let knows_peers = peer_count + network.peers.len() > 0;
        let waits_for_peers = incoming == Incoming::Accepted && network.listen.is_some();
        if asks_own_trackers || !network.announce.is_empty() || knows_peers || waits_for_peers {
            return Ok(());
        }
        let remedy = match incoming {
            Incoming::Accepted => "--announce URL, --peer ADDR:PORT, or --listen ADDR:PORT to wait for peers",
            Incoming::Impossible => "--announce URL or --peer ADDR:PORT",
        };
        Err(usage(format_args!("can't find peers: {what}: no tracker and no peer is known: give {remedy}")))
    }
}
