//! Functions that both kernels of eight lanes in 256-bit registers use.

use std::arch::x86_64::*;

use super::load::{BIG_ENDIAN_WORDS, load16};
use crate::hash::kernels::unit::Block;

pub(super) type Vector = __m256i;

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn splat(word: u32) -> Vector {
    _mm256_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn add(a: Vector, b: Vector) -> Vector {
    _mm256_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn xor(a: Vector, b: Vector) -> Vector {
    _mm256_xor_si256(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn shr<const COUNT: i32>(a: Vector) -> Vector {
    _mm256_srli_epi32::<COUNT>(a)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn from_words(words: &[u32; 8]) -> Vector {
    // SAFETY: `words` is 32 readable bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn to_words(vector: Vector) -> [u32; 8] {
    let mut words = [0u32; 8];
    // SAFETY: `words` is 32 writable bytes; the store needs no alignment.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), vector) };
    words
}

/// Returns part `4 * q + r`: half h holds the four words of quarter q of the block in lane `4 * h + r`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load(blocks: &[&Block; 8], part: usize) -> Vector {
    let quarter = |group: usize| &blocks[4 * group + part % 4].as_chunks::<16>().0[part / 4];
    let vector = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(load16(quarter(0))), load16(quarter(1)));
    let [low, high] = BIG_ENDIAN_WORDS;
    _mm256_shuffle_epi8(vector, _mm256_broadcastsi128_si256(_mm_set_epi64x(high, low)))
}

/// Returns, for each t, word t of every lane's block.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transpose(parts: &[Vector; 16]) -> [Vector; 16] {
    let mut words = *parts;
    for (part, word) in parts.as_chunks::<4>().0.iter().zip(words.as_chunks_mut::<4>().0) {
        let even_low = _mm256_unpacklo_epi32(part[0], part[1]);
        let even_high = _mm256_unpackhi_epi32(part[0], part[1]);
        let odd_low = _mm256_unpacklo_epi32(part[2], part[3]);
        let odd_high = _mm256_unpackhi_epi32(part[2], part[3]);
        word[0] = _mm256_unpacklo_epi64(even_low, odd_low);
        word[1] = _mm256_unpackhi_epi64(even_low, odd_low);
        word[2] = _mm256_unpacklo_epi64(even_high, odd_high);
        word[3] = _mm256_unpackhi_epi64(even_high, odd_high);
    }
    words
}
