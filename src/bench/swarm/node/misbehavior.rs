//! Misbehavior: a hostile node alters the batches that its connections send.

use super::{Misbehavior, Node, Settings};
use crate::base::{Geometry, PieceIndex};
use crate::bench::swarm::wire::Batch;
use crate::codec::message::Message;

/// More messages than a peer accepts within a second.
const FLOOD_LEN: usize = 300;
/// One of this many batches is altered, on average.
const MISBEHAVIOR_INTERVAL: u32 = 4;

impl Node {
    /// Alters some of the batches that are about to leave.
    pub(super) fn misbehave(&mut self, geometry: &Geometry, at: usize, batch: &mut Batch) {
        let Self { settings: Settings { misbehavior: Some(misbehavior), .. }, rng, connections, .. } = self else {
            return;
        };
        let Some(Some(end)) = connections.ends.get_mut(at) else { return };
        if rng.u32(..MISBEHAVIOR_INTERVAL) > 0 {
            return;
        }
        let piece_count = geometry.piece_count();
        let (control, blocks) = (&mut batch.transmit.control, &mut batch.transmit.blocks);
        match misbehavior {
            Misbehavior::AbsentHaves => Message::Have { index: piece_count + rng.u32(..1000) }.encode(control),
            Misbehavior::RejectsAll => {}
            Misbehavior::Stalls => end.silent = !blocks.is_empty(),
            Misbehavior::Unrequested => {
                let piece = geometry.piece(rng.u32(..piece_count));
                blocks.extend(piece.and_then(|piece| geometry.block(piece, rng.u32(..geometry.block_count(piece)))));
            }
            Misbehavior::Repeats => blocks.extend_from_within(..),
            Misbehavior::Floods => {
                let messages = [Message::Choke, Message::Unchoke, Message::KeepAlive, Message::Have { index: 0 }];
                (0..FLOOD_LEN).for_each(|i| messages[i % messages.len()].encode(control));
            }
            Misbehavior::HangsUp => end.torn = true,
            Misbehavior::Noise => control.extend((0..rng.usize(1..200)).map(|_| rng.u8(..))),
            Misbehavior::AbsurdRequests => {
                Message::Request { index: rng.u32(..), begin: rng.u32(..), length: rng.u32(..) }.encode(control);
            }
        }
    }

    /// Rejects all requests of the peer if the node misbehaves this way.
    pub(super) fn reject_all(&mut self, at: usize) {
        if self.settings.misbehavior != Some(Misbehavior::RejectsAll) {
            return;
        }
        let Some(Some(end)) = self.connections.ends.get_mut(at) else { return };
        let requested: Vec<PieceIndex> = end.link.connection().queued().map(|block| block.piece).collect();
        requested.into_iter().for_each(|piece| end.link.refuse_piece(piece));
    }
}
