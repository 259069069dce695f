//! The results of the inputs of a connection.

use std::time::Duration;

use crate::base::{BlockRef, PieceIndex};

/// The meaning of a message for the swarm.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// No effect beyond this connection.
    Quiet,
    /// The peer has one more piece.
    Have(PieceIndex),
    /// The peer has these additional pieces.
    HaveMany(Vec<PieceIndex>),
    Unchoked,
    /// The peer choked us: these requests are void.
    Choked(Vec<BlockRef>),
    Interested,
    NotInterested,
    /// The peer requests a block inside a piece: answer with [`super::Connection::serve`],
    /// [`super::Connection::refuse`] or [`super::Connection::excuse`].
    Request(BlockRef),
    /// The peer will not answer this request (BEP 6).
    Rejected(BlockRef),
    /// The peer suggests this piece (BEP 6).
    Suggested(PieceIndex),
    /// The peer serves blocks of this piece although it chokes us (BEP 6).
    AllowedFast(PieceIndex),
}

/// The kind of a received block.
#[derive(Debug, PartialEq, Eq)]
pub enum BlockArrival {
    /// The answer to a request, this long after it was queued.
    Expected { latency: Duration },
    /// The answer to a withdrawn request.
    Late,
}

/// The result of [`super::Connection::handle_timeout`].
#[derive(Debug, PartialEq, Eq)]
pub enum TimeoutEvent {
    Quiet,
    /// The peer owes blocks and sends none. These requests are void; it gets one request at a time until it answers.
    Snubbed(Vec<BlockRef>),
}
