//! Eight lanes in 256-bit registers, with what AVX2 has.

use std::arch::x86_64::*;

use super::ymm::{Vector, add, from_words, load, splat, to_words, transpose, xor};
use super::{Block, State};

lanes!(8, "avx2");

#[inline]
#[target_feature(enable = "avx2")]
fn rotl1(a: Vector) -> Vector {
    _mm256_or_si256(_mm256_add_epi32(a, a), _mm256_srli_epi32::<31>(a))
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotl5(a: Vector) -> Vector {
    _mm256_or_si256(_mm256_slli_epi32::<5>(a), _mm256_srli_epi32::<27>(a))
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotl30(a: Vector) -> Vector {
    _mm256_or_si256(_mm256_slli_epi32::<30>(a), _mm256_srli_epi32::<2>(a))
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
