//! What a hostile node does to what its connections would honestly send.

use super::node::Node;
use super::wire::Batch;
use crate::base::{Geometry, PieceIndex};
use crate::codec::message::Message;

/// A way to be bad; which blocks are wrong, and who never answers, is told elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vice {
    /// Announces pieces that the torrent does not have.
    AbsentHaves,
    /// Announces pieces that it does not have, and rejects every request.
    RejectsAll,
    /// Sends a few blocks and then none.
    Stalls,
    /// Sends blocks that nobody asked for.
    Unrequested,
    /// Sends each block twice.
    Repeats,
    /// Control words without end.
    Floods,
    /// Hangs up in the middle of what it sends.
    HangsUp,
    /// Bytes that are no message.
    Noise,
    /// Asks for what does not exist.
    AbsurdRequests,
}

impl Vice {
    pub const ALL: [Self; 9] = [
        Self::AbsentHaves,
        Self::RejectsAll,
        Self::Stalls,
        Self::Unrequested,
        Self::Repeats,
        Self::Floods,
        Self::HangsUp,
        Self::Noise,
        Self::AbsurdRequests,
    ];
}

/// More than a second allows.
const FLOOD_LEN: usize = 300;
/// Of so many batches it spoils one.
const SPARED: u32 = 4;

impl Node {
    /// Spoils what is about to leave, now and then.
    pub(super) fn misbehave(&mut self, geometry: &Geometry, at: usize, batch: &mut Batch) {
        let Self { vice: Some(vice), rng, ends, .. } = self else { return };
        let Some(Some(end)) = ends.get_mut(at) else { return };
        if rng.u32(..SPARED) > 0 {
            return;
        }
        let piece_count = geometry.piece_count();
        let (control, blocks) = (&mut batch.transmit.control, &mut batch.transmit.blocks);
        match vice {
            Vice::AbsentHaves => Message::Have { index: piece_count + rng.u32(..1000) }.encode(control),
            Vice::RejectsAll => {}
            Vice::Stalls => end.silent = !blocks.is_empty(),
            Vice::Unrequested => {
                let piece = geometry.piece(rng.u32(..piece_count));
                blocks.extend(piece.and_then(|piece| geometry.block(piece, rng.u32(..geometry.block_count(piece)))));
            }
            Vice::Repeats => blocks.extend_from_within(..),
            Vice::Floods => {
                let words = [Message::Choke, Message::Unchoke, Message::KeepAlive, Message::Have { index: 0 }];
                (0..FLOOD_LEN).for_each(|i| words[i % words.len()].encode(control));
            }
            Vice::HangsUp => end.torn = true,
            Vice::Noise => control.extend((0..rng.usize(1..200)).map(|_| rng.u8(..))),
            Vice::AbsurdRequests => {
                Message::Request { index: rng.u32(..), begin: rng.u32(..), length: rng.u32(..) }.encode(control);
            }
        }
    }

    /// Some take every request and say no.
    pub(super) fn reject_all(&mut self, at: usize) {
        if self.vice != Some(Vice::RejectsAll) {
            return;
        }
        let Some(Some(end)) = self.ends.get_mut(at) else { return };
        let asked: Vec<PieceIndex> = end.link.connection().queued().map(|block| block.piece).collect();
        asked.into_iter().for_each(|piece| end.link.refuse_piece(piece));
    }
}
