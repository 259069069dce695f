//! What comes of what a connection is told.

use std::time::Duration;

use crate::base::{BlockRef, PieceIndex};

/// What a message means for the swarm.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing beyond this connection.
    Quiet,
    /// The peer has one more piece.
    Have(PieceIndex),
    /// The peer has these pieces more.
    HaveMany(Vec<PieceIndex>),
    Unchoked,
    /// The peer serves us no more: these requests are void.
    Choked(Vec<BlockRef>),
    Interested,
    NotInterested,
    /// The peer asks for a block inside a piece: answer with [`super::Connection::serve`] or [`super::Connection::refuse`].
    Request(BlockRef),
    /// The peer will not answer this request (BEP 6).
    Rejected(BlockRef),
    /// The peer would like to be asked for this piece (BEP 6).
    Suggested(PieceIndex),
    /// The peer gives blocks of this piece though it chokes us (BEP 6).
    AllowedFast(PieceIndex),
}

/// What a block that arrived is.
#[derive(Debug, PartialEq, Eq)]
pub enum BlockArrival {
    /// The answer to a request, this long after it was queued.
    Expected { latency: Duration },
    /// The answer to a request that was taken back.
    Late,
}

/// What a deadline brought.
#[derive(Debug, PartialEq, Eq)]
pub enum TimeoutEvent {
    Quiet,
    /// The peer owes blocks and sends none: these requests are void, it gets one at a time until it answers.
    Snubbed(Vec<BlockRef>),
}
