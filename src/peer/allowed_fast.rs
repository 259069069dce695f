//! Pieces that a peer may request while choked (BEP 6), so that a new peer soon has something to upload.
//!
//! Owns the choice of these pieces in both directions, and the limit on the bytes that a choked peer gets.

use std::net::{IpAddr, Ipv4Addr};

use sha1::{Digest as _, Sha1};

use crate::base::{BlockRef, Geometry, InfoHash, PieceIndex, limits};

/// BEP 6's canonical set: the same for every address of a /24, so that a peer gains nothing by reconnecting. At most
/// `count` distinct pieces, in BEP 6's order.
pub fn allowed_fast_set(ip: Ipv4Addr, info_hash: InfoHash, piece_count: u32, count: usize) -> Vec<u32> {
    let count = count.min(piece_count as usize);
    let [a, b, c, _] = ip.octets();
    let mut x: [u8; 20] = Sha1::new().chain_update([a, b, c, 0]).chain_update(info_hash.0).finalize().into();
    let mut set = Vec::with_capacity(count);
    loop {
        for word in x.as_chunks::<4>().0 {
            if set.len() >= count {
                return set;
            }
            let index = u32::from_be_bytes(*word) % piece_count;
            if !set.contains(&index) {
                set.push(index);
            }
        }
        x = Sha1::digest(x).into();
    }
}

/// The pieces that the peer may request from us while choked.
#[derive(Debug, Default)]
pub(super) struct AllowedOut {
    pieces: Vec<PieceIndex>,
    /// The number of bytes that it may still request.
    left: u64,
}

impl AllowedOut {
    /// Grants the pieces of the canonical set for a peer at this address, at most [`limits::ALLOWED_FAST_LEN_MAX`]
    /// bytes. `has`: we have the piece.
    pub(super) fn grant(
        &mut self,
        ip: IpAddr,
        info_hash: InfoHash,
        geometry: &Geometry,
        has: impl Fn(PieceIndex) -> bool,
    ) -> &[PieceIndex] {
        let fitting = limits::ALLOWED_FAST_LEN_MAX / u64::from(geometry.piece_len());
        let count = usize::try_from(fitting).unwrap_or(usize::MAX).min(limits::ALLOWED_FAST_MAX);
        if let (IpAddr::V4(ip), true) = (ip.to_canonical(), geometry.piece_count() > 0) {
            let set = allowed_fast_set(ip, info_hash, geometry.piece_count(), count);
            self.pieces =
                set.into_iter().filter_map(|index| geometry.piece(index)).filter(|&piece| has(piece)).collect();
            self.left = self.pieces.iter().map(|&piece| u64::from(geometry.len_of(piece))).sum();
        }
        &self.pieces
    }

    pub(super) fn contains(&self, piece: PieceIndex) -> bool {
        self.pieces.contains(&piece)
    }

    /// Returns whether a choked peer gets this block, and counts it if so.
    pub(super) fn take(&mut self, block: BlockRef) -> bool {
        let len = u64::from(block.len);
        let granted = self.contains(block.piece) && self.left >= len;
        self.left -= if granted { len } else { 0 };
        granted
    }
}

/// The pieces that we may request from the peer while it chokes us.
#[derive(Debug, Default)]
pub(super) struct AllowedIn(Vec<PieceIndex>);

impl AllowedIn {
    /// Adds a piece. Keeps at most [`limits::ALLOWED_FAST_MAX`].
    pub(super) fn insert(&mut self, piece: PieceIndex) {
        if self.0.len() < limits::ALLOWED_FAST_MAX && !self.0.contains(&piece) {
            self.0.push(piece);
        }
    }

    /// The peer rejected a request for a block of the piece.
    pub(super) fn remove(&mut self, piece: PieceIndex) {
        self.0.retain(|&allowed| allowed != piece);
    }

    pub(super) fn pieces(&self) -> &[PieceIndex] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO_HASH: InfoHash = InfoHash([0xaa; 20]);
    const IP: Ipv4Addr = Ipv4Addr::new(80, 4, 4, 200);

    #[test]
    fn the_vectors_of_bep_6() {
        let expected = [1059, 431, 808, 1217, 287, 376, 1188, 353, 508];
        assert_eq!(allowed_fast_set(IP, INFO_HASH, 1313, 7), expected[..7]);
        assert_eq!(allowed_fast_set(IP, INFO_HASH, 1313, 9), expected);
        assert_eq!(allowed_fast_set(Ipv4Addr::new(80, 4, 4, 1), INFO_HASH, 1313, 9), expected, "the same /24");
    }

    #[test]
    fn a_small_torrent_has_all_its_pieces_in_the_set() {
        let mut set = allowed_fast_set(IP, INFO_HASH, 3, 10);
        set.sort_unstable();
        assert_eq!(set, [0, 1, 2]);
    }

    #[test]
    fn granted_pieces_are_bounded_in_bytes() {
        let geometry = Geometry::new(1 << 20, [100 << 20]).unwrap();
        let mut out = AllowedOut::default();
        let pieces = out.grant(IP.into(), INFO_HASH, &geometry, |piece| piece.get() % 2 == 0).to_vec();
        assert!(!pieces.is_empty() && pieces.len() <= 4 && pieces.iter().all(|piece| piece.get() % 2 == 0));
        let block = |begin| geometry.span(pieces[0].get(), begin, 1 << 14).unwrap();
        let granted = (0..1000).filter(|_| out.take(block(0))).count();
        assert_eq!(granted, pieces.len() * 64, "each block once, or one block as often");
        assert!(!AllowedOut::default().take(block(0)));
        let huge = Geometry::new(16 << 20, [100 << 20]).unwrap();
        assert!(AllowedOut::default().grant(IP.into(), INFO_HASH, &huge, |_| true).is_empty());
    }
}
