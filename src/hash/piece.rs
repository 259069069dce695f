//! Hashes of pieces, many at once or part by part.

use super::kernels::{Plan, SHA1_START, SHA1_WORDS, SHA256_START, chosen};
use super::message::{End, Message, hash_with};
use crate::base::PieceHash;

/// A SHA-256 hash (BEP 52).
pub type Sha256Hash = [u8; 32];

/// The hash of one piece that lies in `spans`, in order (BEP 3).
pub fn sha1(spans: &[&[u8]]) -> PieceHash {
    let mut message = Message::new(SHA1_START);
    hash_with(&chosen().sha1, [&mut message], [spans.iter().copied()], End::Pad);
    PieceHash(message.hash())
}

/// The hash of every piece, in order. A piece is a list of spans, which are hashed where they lie.
pub fn sha1_batch<'a, P>(pieces: impl IntoIterator<Item = P>) -> Vec<PieceHash>
where
    P: IntoIterator<Item = &'a [u8]>,
{
    sha1_batch_with(chosen(), pieces)
}

/// [`sha1_batch`], whatever was chosen.
pub fn sha1_batch_with<'a, P>(plan: &Plan, pieces: impl IntoIterator<Item = P>) -> Vec<PieceHash>
where
    P: IntoIterator<Item = &'a [u8]>,
{
    let pieces: Vec<P> = pieces.into_iter().collect();
    let mut messages = vec![Message::new(SHA1_START); pieces.len()];
    hash_with(&plan.sha1, &mut messages, pieces, End::Pad);
    messages.iter().map(|message| PieceHash(message.hash())).collect()
}

/// The SHA-256 hash of every block, in order: the leaves of BEP 52. A block is a list of spans.
pub fn sha256_batch<'a, P>(blocks: impl IntoIterator<Item = P>) -> Vec<Sha256Hash>
where
    P: IntoIterator<Item = &'a [u8]>,
{
    sha256_batch_with(chosen(), blocks)
}

/// [`sha256_batch`], whatever was chosen.
pub fn sha256_batch_with<'a, P>(plan: &Plan, blocks: impl IntoIterator<Item = P>) -> Vec<Sha256Hash>
where
    P: IntoIterator<Item = &'a [u8]>,
{
    let blocks: Vec<P> = blocks.into_iter().collect();
    let mut messages = vec![Message::new(SHA256_START); blocks.len()];
    hash_with(&plan.sha256, &mut messages, blocks, End::Pad);
    messages.iter().map(Message::hash).collect()
}

/// The hash of one piece whose bytes come a part at a time: for pieces too long to hold whole.
#[derive(Clone)]
pub struct PieceHasher(Message<SHA1_WORDS>);

impl Default for PieceHasher {
    fn default() -> Self {
        Self(Message::new(SHA1_START))
    }
}

impl PieceHasher {
    pub fn update(&mut self, bytes: &[u8]) {
        Self::update_batch(std::slice::from_mut(self), &[bytes]);
    }

    /// The hash of everything since the last `finish`, and a fresh start.
    pub fn finish(&mut self) -> PieceHash {
        let mut hash = [PieceHash([0; _])];
        Self::finish_batch(std::slice::from_mut(self), &mut hash);
        let [hash] = hash;
        hash
    }

    /// The next part of each piece, side by side. Parts of one length are fastest.
    ///
    /// # Panics
    /// When there are not as many parts as hashers.
    pub fn update_batch(hashers: &mut [Self], parts: &[&[u8]]) {
        assert_eq!(hashers.len(), parts.len());
        let messages = hashers.iter_mut().map(|hasher| &mut hasher.0);
        hash_with(&chosen().sha1, messages, parts.iter().map(|part| [*part]), End::Keep);
    }

    /// [`Self::finish`] for each piece, side by side.
    ///
    /// # Panics
    /// When there are not as many hashes as hashers.
    pub fn finish_batch(hashers: &mut [Self], hashes: &mut [PieceHash]) {
        assert_eq!(hashers.len(), hashes.len());
        let messages = hashers.iter_mut().map(|hasher| &mut hasher.0);
        hash_with(&chosen().sha1, messages, std::iter::repeat([]), End::Pad);
        for (hash, hasher) in hashes.iter_mut().zip(hashers) {
            hash.0 = std::mem::take(hasher).0.hash();
        }
    }
}

#[cfg(test)]
#[path = "piece_tests.rs"]
mod tests;
