//! `bt-fast magnet`, and the link that `show` prints.

use std::net::SocketAddr;

use super::exit::Failure;
use super::interrupt::{self, Hangup};
use super::load::{Loader, Purpose};
use super::options::{MagnetOptions, NetworkOptions, ServingOptions};
use super::output::Output;
use super::records::Record;
use super::transfer::config;
use crate::base::limits;
use crate::codec::magnet::{Magnet, PeerAddress};
use crate::codec::metainfo::Metainfo;
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

/// Makes the magnet link of a torrent, with these peers.
pub(super) fn link(metainfo: &Metainfo, peers: &[SocketAddr]) -> String {
    let magnet = Magnet {
        name: Some(metainfo.info.name.clone()),
        len: Some(metainfo.info.geometry.total_len()),
        trackers: metainfo.tiers.concat(),
        web_seeds: metainfo.web_seeds.clone(),
        peers: peers.iter().copied().map(PeerAddress::Socket).collect(),
        ..Magnet::new(metainfo.info_hash)
    };
    magnet.encode()
}
