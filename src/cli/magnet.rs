//! `bt-fast magnet`, and the link that `show` prints.

use std::net::SocketAddr;

use super::exit::Failure;
use super::metainfo_file::load_metainfo;
use super::options::MagnetOptions;
use super::output::Output;
use super::records::Record;
use crate::codec::magnet::{Magnet, PeerAddress};
use crate::codec::metainfo::Metainfo;
use crate::create::open::shown;

pub(super) fn run(options: &MagnetOptions, output: &Output) -> Result<(), Failure> {
    let metainfo = load_metainfo(&options.torrent, &options.metainfo, output)?;
    if metainfo.info.private {
        output.warning(format_args!(
            "{}: a private torrent: its peers do not send the metadata, so the link does not work without the .torrent",
            shown(&options.torrent)
        ));
    }
    let link = link(&metainfo, &options.peers);
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
