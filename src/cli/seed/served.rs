//! A torrent as `seed` reports it.

use super::origin::Origin;
use super::trust::Trust;
use crate::base::escape::printable;
use crate::base::units::Bytes;
use crate::base::{Bitfield, InfoHash};
use crate::cli::output::Output;
use crate::cli::records::Record;
use crate::codec::metainfo::Metainfo;

/// A torrent that is served, or is about to be.
pub(super) struct ServedTorrent {
    pub(super) info_hash: InfoHash,
    /// Printable.
    pub(super) name: String,
    /// Bytes.
    pub(super) total_len: u64,
    pieces_served: usize,
    pieces: u32,
    /// Start of the check that is trusted, in seconds since 1970.
    remembered: Option<i64>,
}

impl ServedTorrent {
    pub(super) fn new(metainfo: &Metainfo, have: &Bitfield, trust: &Trust) -> Self {
        Self {
            info_hash: metainfo.info_hash,
            name: printable(&metainfo.info.name),
            total_len: metainfo.info.geometry.total_len(),
            pieces_served: have.count(),
            pieces: metainfo.info.geometry.piece_count(),
            remembered: if let Trust::Remembered { date, .. } = trust { Some(*date) } else { None },
        }
    }

    /// Prints the torrent's links, if there is a web side, and that it is served to peers on `port`, with this hint.
    pub(super) fn announce(&self, port: u16, hint: &str, origin: Option<&Origin>, output: &Output) {
        let Self { info_hash, name, total_len, pieces_served, pieces, remembered } = self;
        if let Some(origin) = origin {
            origin.print_links(*info_hash, name, port, output);
        }
        output.message(format_args!("seeding {name} ({}) on port {port}{hint}", Bytes(*total_len)));
        output.record(&Record::Seeding {
            info_hash: info_hash.to_string(),
            name,
            port,
            pieces_served: *pieces_served,
            pieces: *pieces,
            remembered: *remembered,
        });
    }
}
