//! Loads and stores of whole vectors, which the kernels share.

use std::arch::aarch64::*;

/// Loads sixteen message bytes from any address, as four big-endian words.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_words(bytes: &[u8; 16]) -> uint32x4_t {
    // SAFETY: `bytes` is 16 readable bytes; the load needs no alignment.
    vreinterpretq_u32_u8(vrev32q_u8(unsafe { vld1q_u8(bytes.as_ptr()) }))
}

/// Returns the four words as a vector, the first in the lowest lane.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn from_words(words: &[u32; 4]) -> uint32x4_t {
    // SAFETY: `words` is 16 readable bytes; the load needs no alignment.
    unsafe { vld1q_u32(words.as_ptr()) }
}

/// Returns the four words of a vector, that of the lowest lane first.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn to_words(vector: uint32x4_t) -> [u32; 4] {
    let mut words = [0; 4];
    // SAFETY: `words` is 16 writable bytes; the store needs no alignment.
    unsafe { vst1q_u32(words.as_mut_ptr(), vector) };
    words
}
