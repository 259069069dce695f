//! Eight lanes in 256-bit registers, with AVX-512's rotation and three-way logic: for batches that leave half of sixteen
//! lanes idle.

use std::arch::x86_64::*;

use super::ymm::{Vector, add, from_words, load, splat, to_words, transpose, xor};
use super::{Block, State};

lanes!(8, "avx2,avx512f,avx512vl");

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn rotl1(a: Vector) -> Vector {
    _mm256_rol_epi32::<1>(a)
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn rotl5(a: Vector) -> Vector {
    _mm256_rol_epi32::<5>(a)
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn rotl30(a: Vector) -> Vector {
    _mm256_rol_epi32::<30>(a)
}

// The numbers are truth tables: bit `4 * b + 2 * c + d` is the function's value.

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
