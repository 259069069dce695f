//! `bt-fast magnet`, and the link that `show` prints.

use std::net::SocketAddr;

use super::exit::Failure;
use super::interrupt::{self, Hangup};
use super::load::{Loader, Purpose};
use super::options::{MagnetOptions, NetworkOptions, ServingOptions};
use super::output::Output;
use super::records::Record;
use super::transfer::config;
use crate::base::{InfoHash, limits};
use crate::codec::magnet::{Magnet, PeerAddress};
use crate::codec::metainfo::{Info, Metainfo};
use crate::engine::magnet::Listening;

pub(super) fn run(options: &MagnetOptions, output: &Output) -> Result<(), Failure> {
    let MagnetOptions { source, peers, engine } = options;
    let stop = interrupt::flag(Hangup::Ends)?;
    let network = NetworkOptions::default();
    let loader = Loader {
        network: &network,
        limits: &engine.metainfo,
        config: &config(&network, engine, ServingOptions::default(), limits::CONNECTIONS_GET_MAX),
        listening: Listening::Here,
        purpose: Purpose::MetadataOnly,
        stop: &stop,
        output,
    };
    let metainfo = loader.load(source)?.metainfo;
    if metainfo.info.private {
        output.warning(format_args!(
            "{source}: a private torrent: its peers do not send the metadata, so the link does not work without the .torrent"
        ));
    }
    let link = link(&metainfo, peers);
    if output.is_json() {
        output.record(&Record::Magnet { info_hash: metainfo.info_hash.to_string(), link: &link });
    } else {
        output.result(&link);
    }
    Ok(())
}

/// Returns the magnet link of a torrent, with the addresses of these peers.
pub(super) fn link(metainfo: &Metainfo, peers: &[SocketAddr]) -> String {
    link_of(metainfo.info_hash, &metainfo.info, &metainfo.tiers, &metainfo.web_seeds, peers)
}

/// Returns the magnet link of a torrent with these trackers, web seeds and peers.
pub(super) fn link_of(
    info_hash: InfoHash,
    info: &Info,
    tiers: &[Vec<String>],
    web_seeds: &[String],
    peers: &[SocketAddr],
) -> String {
    let magnet = Magnet {
        name: Some(info.name.clone()),
        len: Some(info.geometry.total_len()),
        trackers: tiers.concat(),
        web_seeds: web_seeds.to_vec(),
        peers: peers.iter().copied().map(PeerAddress::Socket).collect(),
        ..Magnet::new(info_hash)
    };
    magnet.encode()
}
