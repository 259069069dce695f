//! SHA-1 over content, piece by piece. Knows neither files nor torrents: bytes in, hashes out.

mod pool;

pub use pool::{Job, Pool};

use sha1::{Digest, Sha1};

use crate::base::PieceHash;

/// The hash of one piece that lies in `spans`, in order (BEP 3).
pub fn sha1(spans: &[&[u8]]) -> PieceHash {
    let mut hasher = PieceHasher::default();
    spans.iter().for_each(|span| hasher.update(span));
    hasher.finish()
}

/// The hash of one piece whose bytes come a part at a time: for pieces too long to hold whole.
#[derive(Default)]
pub struct PieceHasher(Sha1);

impl PieceHasher {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of everything since the last `finish`, and a fresh start.
    pub fn finish(&mut self) -> PieceHash {
        PieceHash(self.0.finalize_reset().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-1, appendix A.
    const ABC: [u8; 20] = [
        0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81, 0x6a, 0xba, 0x3e, 0x25, 0x71, 0x78, 0x50, 0xc2, 0x6c, 0x9c, 0xd0,
        0xd8, 0x9d,
    ];

    #[test]
    fn spans_hash_as_one_piece() {
        assert_eq!(sha1(&[b"abc"]), PieceHash(ABC));
        assert_eq!(sha1(&[b"a", b"", b"bc"]), PieceHash(ABC));
    }

    #[test]
    fn a_hasher_starts_afresh() {
        let mut hasher = PieceHasher::default();
        hasher.update(b"something else");
        hasher.finish();
        hasher.update(b"abc");
        assert_eq!(hasher.finish(), PieceHash(ABC));
    }
}
