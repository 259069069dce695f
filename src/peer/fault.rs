//! The rules that a peer can break. Each fault closes its connection and nothing else.

use crate::codec::message::MessageError;

/// The peer is at fault; the connection must be closed.
#[derive(Debug, thiserror::Error)]
pub enum PeerFault {
    #[error("{0}")]
    Message(#[from] MessageError),
    #[error("bitfield: {0}")]
    Bitfield(#[from] crate::base::bitfield::BitfieldError),
    /// BEP 3: "'bitfield' is only ever sent as the first message."
    #[error("bitfield or have-none that withdraws pieces")]
    LateBitfield,
    #[error("have of piece {0}, which the torrent does not have")]
    NoSuchPiece(u32),
    #[error("a Fast extension message without the Fast bit")]
    FastNotAgreed,
    #[error("request outside of its piece: index {index}, begin {begin}, length {length}")]
    RequestOutside { index: u32, begin: u32, length: u32 },
    /// BEP 3: "close connections which request an amount greater than 2^17".
    #[error("request of {0} bytes, more than 2^17")]
    RequestTooLong(u32),
    #[error("too many requests that can't be served")]
    InvalidRequests,
    #[error("block that was not requested: index {index}, begin {begin}, length {length}")]
    Unrequested { index: u32, begin: u32, length: u32 },
    #[error("too many rejects in a row")]
    RejectsAll,
    #[error("closed by us: banned, evicted, connected twice, or the torrent was removed")]
    CloseRequested,
    #[error("metadata part {0} that was not requested, or of a wrong length")]
    UnrequestedMetadata(u32),
    #[error("too many control messages")]
    Flood,
    #[error("silent for too long")]
    Silent,
}
