//! The parameters of a new connection.

use std::net::IpAddr;
use std::sync::Arc;

use crate::base::{Bitfield, Geometry, InfoHash};
use crate::codec::extension::Streams;
use crate::codec::message::Message;

/// The facts that follow from both handshakes and the torrent.
#[derive(Debug)]
pub struct Setup {
    pub geometry: Arc<Geometry>,
    /// Both sides set the Fast bit (BEP 6).
    pub fast: bool,
    /// Both sides set the extension bit (BEP 10).
    pub extension: bool,
    pub have: InitialHave,
    /// We download nothing (BEP 21).
    pub upload_only: bool,
    /// The torrent whose allowed-fast set is granted to new peers (BEP 6); `None` grants nothing.
    pub info_hash: Option<InfoHash>,
    /// Sent in the extension handshake: our listening port, and the peer's address as we see it.
    pub listen_port: Option<u16>,
    pub peer_ip: Option<IpAddr>,
    /// The info dictionary, to be served (BEP 9).
    pub metadata: Option<Arc<[u8]>>,
    /// Sent in the extension handshake: the connections that we agree to have with the peer.
    pub streams: Option<Streams>,
}

/// The pieces that we have when the connection starts.
#[derive(Debug)]
pub enum InitialHave {
    All,
    None,
    Some(Bitfield),
}

impl InitialHave {
    /// BEP 3: "Downloaders which don't have anything yet may skip the 'bitfield' message"; BEP 6 asks for have-none.
    pub(super) fn encode(self, fast: bool, piece_count: u32, out: &mut Vec<u8>) {
        match (self, fast) {
            (Self::All, true) => Message::HaveAll.encode(out),
            (Self::None, true) => Message::HaveNone.encode(out),
            (Self::None, false) => {}
            (Self::All, false) => Message::Bitfield(&Bitfield::full(piece_count).to_wire()).encode(out),
            (Self::Some(have), _) => Message::Bitfield(&have.to_wire()).encode(out),
        }
    }
}
