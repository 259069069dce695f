//! Eight lanes in 256-bit registers with AVX-512's rotation and ternary logic, for batches that would leave half of
//! sixteen lanes idle.

use std::arch::x86_64::*;

use super::ymm::{Vector, add, from_words, load, shr, splat, to_words, transpose, xor};
use crate::hash::kernels::unit::{Block, SHA1_WORDS, SHA256_K, SHA256_WORDS, State};

const LANES: usize = 8;

lanes!(sha1: SHA1_WORDS, sha1_rounds, a b c d e, "avx2,avx512f,avx512vl");
lanes!(sha256: SHA256_WORDS, sha256_rounds, a b c d e f g h, "avx2,avx512f,avx512vl");

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn rotl<const COUNT: i32>(a: Vector) -> Vector {
    _mm256_rol_epi32::<COUNT>(a)
}

// The constants are truth tables: bit `4 * b + 2 * c + d` is the value of the function.

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn choose(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm256_ternarylogic_epi32::<0xca>(b, c, d)
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn parity(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm256_ternarylogic_epi32::<0x96>(b, c, d)
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn majority(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm256_ternarylogic_epi32::<0xe8>(b, c, d)
}
