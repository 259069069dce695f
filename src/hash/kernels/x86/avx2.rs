//! Eight lanes in 256-bit registers with AVX2.

use std::arch::x86_64::*;

use super::ymm::{Vector, add, from_words, load, shr, splat, to_words, transpose, xor};
use crate::hash::kernels::unit::{Block, SHA1_WORDS, SHA256_K, SHA256_WORDS, State};

const LANES: usize = 8;

lanes!(sha1: SHA1_WORDS, sha1_rounds, a b c d e, "avx2");
lanes!(sha256: SHA256_WORDS, sha256_rounds, a b c d e f g h, "avx2");

#[inline]
#[target_feature(enable = "avx2")]
fn rotl<const COUNT: i32>(a: Vector) -> Vector {
    // `32 - COUNT` cannot be a const argument; the compiler folds it into an immediate all the same.
    _mm256_or_si256(_mm256_slli_epi32::<COUNT>(a), _mm256_srl_epi32(a, _mm_cvtsi32_si128(32 - COUNT)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn choose(b: Vector, c: Vector, d: Vector) -> Vector {
    xor(d, _mm256_and_si256(b, xor(c, d)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn parity(b: Vector, c: Vector, d: Vector) -> Vector {
    xor(b, xor(c, d))
}

#[inline]
#[target_feature(enable = "avx2")]
fn majority(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm256_or_si256(_mm256_and_si256(c, d), _mm256_and_si256(b, _mm256_or_si256(c, d)))
}
