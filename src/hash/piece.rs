//! Hashes of pieces, many at once or in parts.

use super::kernels::{Plan, SHA1_START, SHA1_WORDS, SHA256_START, chosen};
use super::message::{Message, OnEnd, hash_with};
use crate::base::PieceHash;

/// A SHA-256 hash (BEP 52).
pub type Sha256Hash = [u8; 32];

/// Returns the SHA-1 hash of one piece, whose bytes are those of `spans` in order (BEP 3).
pub fn sha1(spans: &[&[u8]]) -> PieceHash {
    let mut message = Message::new(SHA1_START);
    hash_with(&chosen().sha1, [&mut message], [spans.iter().copied()], OnEnd::Pad);
    PieceHash(message.hash())
}

/// Returns the SHA-1 hash of every piece, in order. A piece is a list of spans, which are not copied.
pub fn sha1_batch<'a, P>(pieces: impl IntoIterator<Item = P>) -> Vec<PieceHash>
where
    P: IntoIterator<Item = &'a [u8]>,
{
    sha1_batch_with(chosen(), pieces)
}

/// Like [`sha1_batch`], with this plan instead of the selected one.
pub fn sha1_batch_with<'a, P>(plan: &Plan, pieces: impl IntoIterator<Item = P>) -> Vec<PieceHash>
where
    P: IntoIterator<Item = &'a [u8]>,
{
    let pieces: Vec<P> = pieces.into_iter().collect();
    let mut messages = vec![Message::new(SHA1_START); pieces.len()];
    hash_with(&plan.sha1, &mut messages, pieces, OnEnd::Pad);
    messages.iter().map(|message| PieceHash(message.hash())).collect()
}

/// Returns the SHA-256 hash of every block, in order: the leaves of BEP 52. A block is a list of spans.
pub fn sha256_batch<'a, P>(blocks: impl IntoIterator<Item = P>) -> Vec<Sha256Hash>
where
    P: IntoIterator<Item = &'a [u8]>,
{
    sha256_batch_with(chosen(), blocks)
}

/// Like [`sha256_batch`], with this plan instead of the selected one.
pub fn sha256_batch_with<'a, P>(plan: &Plan, blocks: impl IntoIterator<Item = P>) -> Vec<Sha256Hash>
where
    P: IntoIterator<Item = &'a [u8]>,
{
    let blocks: Vec<P> = blocks.into_iter().collect();
    let mut messages = vec![Message::new(SHA256_START); blocks.len()];
    hash_with(&plan.sha256, &mut messages, blocks, OnEnd::Pad);
    messages.iter().map(Message::hash).collect()
}

/// Hashes one piece in parts, for pieces too long to keep in memory.
#[derive(Clone)]
pub struct PieceHasher(Message<SHA1_WORDS>);

impl Default for PieceHasher {
    fn default() -> Self {
        Self(Message::new(SHA1_START))
    }
}

impl PieceHasher {
    /// Hashes the next part of the piece.
    pub fn update(&mut self, bytes: &[u8]) {
        Self::update_batch(std::slice::from_mut(self), &[bytes]);
    }

    /// Returns the hash of all parts since the last `finish`, and starts a new piece.
    pub fn finish(&mut self) -> PieceHash {
        let mut hash = [PieceHash([0; _])];
        Self::finish_batch(std::slice::from_mut(self), &mut hash);
        let [hash] = hash;
        hash
    }

    /// Hashes the next part of each piece, side by side. Parts of equal length are fastest.
    ///
    /// # Panics
    /// If the number of parts is not that of hashers.
    pub fn update_batch(hashers: &mut [Self], parts: &[&[u8]]) {
        assert_eq!(hashers.len(), parts.len());
        let messages = hashers.iter_mut().map(|hasher| &mut hasher.0);
        hash_with(&chosen().sha1, messages, parts.iter().map(|part| [*part]), OnEnd::Keep);
    }

    /// Like [`Self::finish`] for each piece, side by side.
    ///
    /// # Panics
    /// If the number of hashes is not that of hashers.
    pub fn finish_batch(hashers: &mut [Self], hashes: &mut [PieceHash]) {
        assert_eq!(hashers.len(), hashes.len());
        let messages = hashers.iter_mut().map(|hasher| &mut hasher.0);
        hash_with(&chosen().sha1, messages, std::iter::repeat([]), OnEnd::Pad);
        for (hash, hasher) in hashes.iter_mut().zip(hashers) {
            hash.0 = std::mem::take(hasher).0.hash();
        }
    }
}

#[cfg(test)]
#[path = "piece_tests.rs"]
mod tests;
