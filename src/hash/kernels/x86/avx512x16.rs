//! Sixteen lanes in 512-bit registers.

use std::arch::x86_64::*;

use super::load::{BIG_ENDIAN_WORDS, load16};
use crate::hash::kernels::unit::{Block, SHA1_WORDS, SHA256_K, SHA256_WORDS, State};

type Vector = __m512i;

const LANES: usize = 16;

lanes!(sha1: SHA1_WORDS, sha1_rounds, a b c d e, "avx512f,avx512bw");
lanes!(sha256: SHA256_WORDS, sha256_rounds, a b c d e f g h, "avx512f,avx512bw");

#[inline]
#[target_feature(enable = "avx512f")]
fn splat(word: u32) -> Vector {
    _mm512_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(a: Vector, b: Vector) -> Vector {
    _mm512_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor(a: Vector, b: Vector) -> Vector {
    _mm512_xor_si512(a, b)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn rotl<const COUNT: i32>(a: Vector) -> Vector {
    _mm512_rol_epi32::<COUNT>(a)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn shr<const COUNT: u32>(a: Vector) -> Vector {
    _mm512_srli_epi32::<COUNT>(a)
}

// The constants are truth tables: bit `4 * b + 2 * c + d` is the value of the function.

#[inline]
#[target_feature(enable = "avx512f")]
fn choose(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm512_ternarylogic_epi32::<0xca>(b, c, d)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn parity(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm512_ternarylogic_epi32::<0x96>(b, c, d)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn majority(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm512_ternarylogic_epi32::<0xe8>(b, c, d)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn from_words(words: &[u32; LANES]) -> Vector {
    // SAFETY: `words` is 64 readable bytes; the load needs no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn to_words(vector: Vector) -> [u32; LANES] {
    let mut words = [0u32; LANES];
    // SAFETY: `words` is 64 writable bytes; the store needs no alignment.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) };
    words
}

/// Returns part `4 * q + r`: quarter g holds the four words of quarter q of the block in lane `4 * g + r`.
///
/// Loads that insert need no shuffle, and a block may have any alignment.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(blocks: &[&Block; LANES], part: usize) -> Vector {
    let quarter = |group: usize| &blocks[4 * group + part % 4].as_chunks::<16>().0[part / 4];
    let vector = _mm512_castsi128_si512(load16(quarter(0)));
    let vector = _mm512_inserti32x4::<1>(vector, load16(quarter(1)));
    let vector = _mm512_inserti32x4::<2>(vector, load16(quarter(2)));
    let vector = _mm512_inserti32x4::<3>(vector, load16(quarter(3)));
    let [low, high] = BIG_ENDIAN_WORDS;
    _mm512_shuffle_epi8(vector, _mm512_broadcast_i32x4(_mm_set_epi64x(high, low)))
}

/// Returns, for each t, word t of every lane's block.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(parts: &[Vector; 16]) -> [Vector; 16] {
    let mut words = *parts;
    for (part, word) in parts.as_chunks::<4>().0.iter().zip(words.as_chunks_mut::<4>().0) {
        let even_low = _mm512_unpacklo_epi32(part[0], part[1]);
        let even_high = _mm512_unpackhi_epi32(part[0], part[1]);
        let odd_low = _mm512_unpacklo_epi32(part[2], part[3]);
        let odd_high = _mm512_unpackhi_epi32(part[2], part[3]);
        word[0] = _mm512_unpacklo_epi64(even_low, odd_low);
        word[1] = _mm512_unpackhi_epi64(even_low, odd_low);
        word[2] = _mm512_unpacklo_epi64(even_high, odd_high);
        word[3] = _mm512_unpackhi_epi64(even_high, odd_high);
    }
    words
}
