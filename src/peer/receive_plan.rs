//! Plans the memory for the next bytes of a connection, so that blocks are received in place if the peer answers in
//! order.
//!
//! Owns the order of the places and the interpretation of a receive into them. The memory is the caller's.
//!
//! A plan starts with the rest of the block whose first bytes are in the connection's buffer. Then follow the head and
//! the payload of each expected block. Complete blocks with the right head are in place. The bytes after them are
//! [`Received::stray`]: the caller appends them to the buffer and decodes them there.

use crate::base::BlockRef;
use crate::codec::message::{PIECE_HEAD_LEN, encode_piece_head};

/// A block's head as it is on the wire.
pub(super) type Head = [u8; PIECE_HEAD_LEN];

/// Plans which memory the next bytes of a connection are received into. Reused from receive to receive.
#[derive(Debug, Default)]
pub struct ReceivePlan {
    /// The head of the block in the buffer, and the number of bytes missing of that block.
    front: Option<Head>,
    front_len: usize,
    blocks: Vec<BlockRef>,
}

/// The result of one receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// The number of blocks from the start of the plan that are in place.
    pub whole: usize,
    /// The number of bytes after these, in the memory of the heads and blocks that follow.
    pub stray: usize,
    /// The peer sent other bytes than expected.
    pub foreign: bool,
}

fn head_of(block: BlockRef) -> Head {
    encode_piece_head(block.piece.get(), block.begin, block.len)
}

impl ReceivePlan {
    /// Starts a new plan after `buffered`, the first bytes of a message. `next` is the block that this message should
    /// contain. Returns false if it is another message, so that no plan is possible.
    pub fn begin(&mut self, buffered: &[u8], next: Option<BlockRef>) -> bool {
        self.blocks.clear();
        (self.front, self.front_len) = (None, 0);
        if buffered.is_empty() {
            return true;
        }
        let Some(block) = next else { return false };
        let head = head_of(block);
        let known = buffered.len().min(PIECE_HEAD_LEN);
        let message_len = PIECE_HEAD_LEN + block.len as usize;
        let fits = buffered.get(..known) == head.get(..known) && buffered.len() < message_len;
        if fits {
            (self.front, self.front_len) = (Some(head), message_len - buffered.len());
        }
        fits
    }

    /// Adds the block that is expected next.
    pub fn push(&mut self, block: BlockRef) {
        self.blocks.push(block);
    }

    /// The number of bytes missing of the block in the buffer.
    pub fn front_len(&self) -> usize {
        self.front_len
    }

    pub fn blocks(&self) -> &[BlockRef] {
        &self.blocks
    }

    /// Interprets `len` received bytes. The first [`Self::front_len`] of them are already in `buffered`; `heads`
    /// contains the bytes that arrived in place of the blocks' heads.
    pub fn handle_received<'a>(&self, len: usize, buffered: &[u8], heads: impl Iterator<Item = &'a Head>) -> Received {
        let mut stray = len.saturating_sub(self.front_len);
        let front_right = stray == 0 || self.front.is_none_or(|front| buffered.starts_with(&front));
        let mut received = Received { foreign: !front_right, ..Received::default() };
        for (block, head) in self.blocks.iter().zip(heads).take_while(|_| front_right) {
            let expected = head_of(*block);
            let known = stray.min(PIECE_HEAD_LEN);
            received.foreign = head.get(..known) != expected.get(..known);
            let message_len = PIECE_HEAD_LEN + block.len as usize;
            if received.foreign || stray < message_len {
                break;
            }
            stray -= message_len;
            received.whole += 1;
        }
        Received { stray, ..received }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Geometry;
    use crate::codec::message::{Bounds, Decoded, Message, decode};
    use proptest::prelude::*;
    use std::collections::VecDeque;

    /// An item of the stream: a block with its payload, or another message as it is on the wire.
    #[derive(Debug, PartialEq, Eq)]
    enum Item {
        Block(u32, u32, Vec<u8>),
        Other(Vec<u8>),
    }

    const BOUNDS: Bounds = Bounds { piece_count: 8, block_len_max: 64 };

    /// Takes the complete messages off the front of `bytes`.
    fn decode_all(bytes: &mut Vec<u8>) -> Vec<Item> {
        let (mut at, mut items) = (0, Vec::new());
        loop {
            let rest = &bytes[at..];
            match decode(rest, &BOUNDS).unwrap() {
                Decoded::Message { consumed, .. } => {
                    items.push(Item::Other(rest[..consumed].to_vec()));
                    at += consumed;
                }
                Decoded::Piece { index, begin, length } if rest.len() >= PIECE_HEAD_LEN + length as usize => {
                    let end = PIECE_HEAD_LEN + length as usize;
                    items.push(Item::Block(index, begin, rest[PIECE_HEAD_LEN..end].to_vec()));
                    at += end;
                }
                Decoded::Piece { .. } | Decoded::Incomplete { .. } => break,
            }
        }
        bytes.drain(..at);
        items
    }

    /// Simulates the reader, its memory and the kernel: receives up to `len` bytes of `stream` as planned for
    /// `expected`.
    fn receive(stream: &mut &[u8], len: usize, buffer: &mut Vec<u8>, expected: &VecDeque<BlockRef>) -> Vec<Item> {
        let mut plan = ReceivePlan::default();
        let mut blocks = expected.iter().copied();
        let front = if buffer.is_empty() { None } else { blocks.next() };
        let planned = plan.begin(buffer, front);
        blocks.filter(|_| planned).for_each(|block| plan.push(block));
        let mut parts: Vec<(Head, Vec<u8>)> =
            plan.blocks().iter().map(|block| ([0; PIECE_HEAD_LEN], vec![0; block.len as usize])).collect();
        let room = plan.front_len() + parts.iter().map(|(head, place)| head.len() + place.len()).sum::<usize>();
        let len = len.min(stream.len()).min(if room > 0 { room } else { len });
        let mut take = {
            let mut bytes = stream.split_off(..len).unwrap();
            move |len: usize| bytes.split_off(..len.min(bytes.len())).unwrap()
        };
        if room == 0 {
            buffer.extend_from_slice(take(len));
            return decode_all(buffer);
        }
        buffer.extend_from_slice(take(plan.front_len()));
        for target in parts.iter_mut().flat_map(|(head, place)| [&mut head[..], &mut place[..]]) {
            let bytes = take(target.len());
            target[..bytes.len()].copy_from_slice(bytes);
        }
        let received = plan.handle_received(len, buffer, parts.iter().map(|(head, _)| head));
        let mut items = if received.whole > 0 { decode_all(buffer) } else { Vec::new() };
        for (block, (_, place)) in plan.blocks().iter().zip(&parts).take(received.whole) {
            items.push(Item::Block(block.piece.get(), block.begin, place.clone()));
        }
        let mut stray = received.stray;
        for bytes in parts.iter().skip(received.whole).flat_map(|(head, place)| [&head[..], &place[..]]) {
            buffer.extend_from_slice(&bytes[..bytes.len().min(stray)]);
            stray -= bytes.len().min(stray);
        }
        assert_eq!(stray, 0);
        items.extend(decode_all(buffer));
        items
    }

    fn geometry() -> Geometry {
        Geometry::new(64, [512]).unwrap()
    }

    fn block() -> impl Strategy<Value = BlockRef> {
        (0..8u32, 0..64u32, 1..=64u32)
            .prop_map(|(index, begin, len)| geometry().span(index, begin, len.min(64 - begin)).unwrap())
    }

    /// One action of a peer: it sends the next block that it owes, another block or another message, or it skips a
    /// block that it owes.
    #[derive(Debug, Clone)]
    enum Act {
        Answer,
        Skip,
        Block(BlockRef),
        Message(Message<'static>),
    }

    fn act() -> impl Strategy<Value = Act> {
        let message = prop_oneof![
            Just(Message::KeepAlive),
            Just(Message::Choke),
            (0..8u32).prop_map(|index| Message::Have { index }),
            Just(Message::Bitfield(&[7])),
            // As long as a block's head, from which only the id differs.
            (0..8u32, 0..64u32).prop_map(|(index, begin)| Message::Request { index, begin, length: 16 }),
        ];
        prop_oneof![
            12 => Just(Act::Answer),
            1 => Just(Act::Skip),
            1 => block().prop_map(Act::Block),
            2 => message.prop_map(Act::Message),
        ]
    }

    proptest! {
        #[test]
        fn any_stream_split_anywhere_is_read_as_from_one_buffer(
            owed in prop::collection::vec(block(), 1..40),
            acts in prop::collection::vec(act(), 1..60),
            lens in prop::collection::vec(1..600usize, 1..20),
            seen in 1..9usize,
        ) {
            let mut stream = Vec::new();
            let mut next = owed.iter();
            for (at, act) in acts.iter().enumerate() {
                match act {
                    Act::Skip => drop(next.next()),
                    Act::Message(message) => message.encode(&mut stream),
                    Act::Answer | Act::Block(_) => {
                        let other = if let Act::Block(other) = act { Some(other) } else { next.next() };
                        let Some(block) = other else { continue };
                        stream.extend_from_slice(&head_of(*block));
                        stream.extend((0..block.len).map(|i| u8::try_from((i as usize * 7 + at * 31) % 256).unwrap()));
                    }
                }
            }
            let oracle = decode_all(&mut stream.clone());
            let mut expected: VecDeque<BlockRef> = owed.into();
            let (mut buffer, mut items, mut rest) = (Vec::new(), Vec::new(), &stream[..]);
            for len in lens.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let planned: VecDeque<BlockRef> = expected.iter().copied().take(seen).collect();
                for one in receive(&mut rest, *len, &mut buffer, &planned) {
                    if let Item::Block(index, begin, payload) = &one {
                        let is_it = |block: &BlockRef| {
                            (block.piece.get(), block.begin, block.len as usize) == (*index, *begin, payload.len())
                        };
                        expected.iter().position(is_it).and_then(|at| expected.remove(at));
                    }
                    items.push(one);
                }
            }
            prop_assert_eq!(items, oracle);
            prop_assert!(buffer.is_empty());
        }
    }

    #[test]
    fn blocks_in_order_need_no_buffer_except_the_last() {
        let blocks: Vec<BlockRef> = (0..4).map(|index| geometry().span(index, 0, 64).unwrap()).collect();
        let heads: Vec<Head> = blocks.iter().map(|&block| head_of(block)).collect();
        let mut plan = ReceivePlan::default();
        assert!(plan.begin(&[], None));
        blocks.iter().for_each(|&block| plan.push(block));
        let message_len = PIECE_HEAD_LEN + 64;
        let received = plan.handle_received(2 * message_len + 5, &[], heads.iter());
        assert_eq!(received, Received { whole: 2, stray: 5, foreign: false });
        let front = &heads[2][..9];
        assert!(plan.begin(front, Some(blocks[2])));
        assert_eq!(plan.front_len(), message_len - 9);
        assert!(!plan.begin(front, Some(blocks[3])));
        assert!(!plan.begin(front, None));
    }

    #[test]
    fn another_message_ends_a_plan_early() {
        let blocks: Vec<BlockRef> = (0..3).map(|index| geometry().span(index, 0, 64).unwrap()).collect();
        let mut heads: Vec<Head> = blocks.iter().map(|&block| head_of(block)).collect();
        heads[1] = head_of(blocks[2]);
        let mut plan = ReceivePlan::default();
        assert!(plan.begin(&[], None));
        blocks.iter().for_each(|&block| plan.push(block));
        let message_len = PIECE_HEAD_LEN + 64;
        let received = plan.handle_received(3 * message_len, &[], heads.iter());
        assert_eq!(received, Received { whole: 1, stray: 2 * message_len, foreign: true });
    }
}
