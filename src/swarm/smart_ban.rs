//! Finds the sender of the wrong block of a failed piece to which several peers contributed.
//!
//! The hash of each block is kept until the piece verifies. The blocks that differ then identify their senders. Payload
//! never enters: hashes are arguments.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::base::limits::SMART_BAN_BLOCKS_MAX;
use crate::base::{PieceHash, PieceIndex};

/// A block as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub block_index: usize,
    /// The host that sent the block.
    pub sender: IpAddr,
    /// SHA-1 of the block: a sender that knows the right block must not be able to send another one with the same hash.
    pub hash: PieceHash,
}

/// Failed pieces that have not verified yet: at most [`SMART_BAN_BLOCKS_MAX`] blocks; the oldest pieces are forgotten.
#[derive(Debug, Default)]
pub struct SmartBan {
    pieces: VecDeque<(PieceIndex, Vec<Sent>)>,
    block_count: usize,
}

impl SmartBan {
    /// A piece to which more than one peer contributed failed its hash.
    pub fn handle_failed(&mut self, piece: PieceIndex, sent: Vec<Sent>) {
        if sent.len() > SMART_BAN_BLOCKS_MAX {
            return;
        }
        self.block_count += sent.len();
        self.pieces.push_back((piece, sent));
        while self.block_count > SMART_BAN_BLOCKS_MAX {
            let Some((_, forgotten)) = self.pieces.pop_front() else { return };
            self.block_count -= forgotten.len();
        }
    }

    /// A failed copy of this piece is kept.
    pub fn has_failed_copy(&self, piece: PieceIndex) -> bool {
        self.pieces.iter().any(|(blamed, _)| *blamed == piece)
    }

    /// A piece has verified with these hashes of its blocks. Returns the hosts that sent other blocks, once for each
    /// failed copy.
    pub fn handle_verified(&mut self, piece: PieceIndex, blocks: &[PieceHash]) -> Vec<IpAddr> {
        let mut guilty = Vec::new();
        self.pieces.retain(|(blamed, sent)| {
            if *blamed != piece {
                return true;
            }
            let wrong = sent.iter().filter(|sent| blocks.get(sent.block_index) != Some(&sent.hash));
            let mut senders: Vec<IpAddr> = wrong.map(|sent| sent.sender).collect();
            senders.sort_unstable();
            senders.dedup();
            guilty.extend(senders);
            self.block_count -= sent.len();
            false
        });
        guilty
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Geometry;

    fn piece(index: u32) -> PieceIndex {
        Geometry::new(1, [100_000]).unwrap().piece(index).unwrap()
    }

    fn sent(block_index: usize, host: u8, content: u8) -> Sent {
        Sent { block_index, sender: IpAddr::from([10, 0, 0, host]), hash: PieceHash([content; 20]) }
    }

    fn right(contents: &[u8]) -> Vec<PieceHash> {
        contents.iter().map(|&content| PieceHash([content; 20])).collect()
    }

    #[test]
    fn only_the_sender_of_the_differing_block_is_returned() {
        let mut smart_ban = SmartBan::default();
        smart_ban.handle_failed(piece(3), vec![sent(0, 1, 10), sent(1, 2, 99), sent(2, 3, 12)]);
        smart_ban.handle_failed(piece(4), vec![sent(0, 1, 1), sent(1, 2, 2)]);
        assert!(smart_ban.has_failed_copy(piece(3)) && !smart_ban.has_failed_copy(piece(5)));
        assert_eq!(smart_ban.handle_verified(piece(3), &right(&[10, 11, 12])), [IpAddr::from([10, 0, 0, 2])]);
        assert!(!smart_ban.has_failed_copy(piece(3)) && smart_ban.has_failed_copy(piece(4)));
        assert!(smart_ban.handle_verified(piece(3), &right(&[0, 0, 0])).is_empty());
        assert!(smart_ban.handle_verified(piece(4), &right(&[1, 2])).is_empty());
        assert_eq!(smart_ban.block_count, 0);
    }

    #[test]
    fn each_wrong_copy_of_a_piece_counts() {
        let mut smart_ban = SmartBan::default();
        smart_ban.handle_failed(piece(0), vec![sent(0, 1, 9), sent(1, 1, 9), sent(2, 2, 3)]);
        smart_ban.handle_failed(piece(0), vec![sent(0, 2, 9), sent(1, 1, 9), sent(2, 2, 3)]);
        let named = smart_ban.handle_verified(piece(0), &right(&[1, 2, 3]));
        assert_eq!(named, [1, 1, 2].map(|host| IpAddr::from([10, 0, 0, host])));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes() {
        let mut smart_ban = SmartBan::default();
        let many = |host| (0..1000).map(|at| sent(at, host, 0)).collect::<Vec<_>>();
        for index in 0..100 {
            smart_ban.handle_failed(piece(index), many(1));
        }
        assert!(
            smart_ban.block_count <= SMART_BAN_BLOCKS_MAX
                && !smart_ban.has_failed_copy(piece(0))
                && smart_ban.has_failed_copy(piece(99))
        );
        smart_ban.handle_failed(piece(200), vec![sent(0, 1, 0); SMART_BAN_BLOCKS_MAX + 1]);
        assert!(!smart_ban.has_failed_copy(piece(200)) && smart_ban.has_failed_copy(piece(99)));
    }
}
