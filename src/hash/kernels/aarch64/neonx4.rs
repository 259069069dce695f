//! Four lanes in 128-bit registers, for processors without SHA instructions.

use std::arch::aarch64::*;

use super::load::{from_words, load_words, to_words};
use crate::hash::kernels::unit::{Block, SHA1_WORDS, SHA256_K, SHA256_WORDS, State};

type Vector = uint32x4_t;

const LANES: usize = 4;

lanes!(sha1: SHA1_WORDS, sha1_rounds, a b c d e, "neon");
lanes!(sha256: SHA256_WORDS, sha256_rounds, a b c d e f g h, "neon");

#[inline]
#[target_feature(enable = "neon")]
fn splat(word: u32) -> Vector {
    vdupq_n_u32(word)
}

#[inline]
#[target_feature(enable = "neon")]
fn add(a: Vector, b: Vector) -> Vector {
    vaddq_u32(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn xor(a: Vector, b: Vector) -> Vector {
    veorq_u32(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn rotl<const COUNT: i32>(a: Vector) -> Vector {
    // `32 - COUNT` cannot be a const argument; the compiler folds it into an immediate all the same.
    vorrq_u32(vshlq_n_u32::<COUNT>(a), vshlq_u32(a, vdupq_n_s32(COUNT - 32)))
}

#[inline]
#[target_feature(enable = "neon")]
fn shr<const COUNT: i32>(a: Vector) -> Vector {
    vshrq_n_u32::<COUNT>(a)
}

#[inline]
#[target_feature(enable = "neon")]
fn choose(b: Vector, c: Vector, d: Vector) -> Vector {
    vbslq_u32(b, c, d)
}

#[inline]
#[target_feature(enable = "neon")]
fn parity(b: Vector, c: Vector, d: Vector) -> Vector {
    xor(b, xor(c, d))
}

/// Where b and c differ, d decides; elsewhere it is c.
#[inline]
#[target_feature(enable = "neon")]
fn majority(b: Vector, c: Vector, d: Vector) -> Vector {
    vbslq_u32(xor(b, c), d, c)
}

/// Returns part `4 * q + r`: the four words of quarter q of the block in lane r.
#[inline]
#[target_feature(enable = "neon")]
fn load(blocks: &[&Block; LANES], part: usize) -> Vector {
    load_words(&blocks[part % 4].as_chunks::<16>().0[part / 4])
}

/// Returns, for each t, word t of every lane's block.
#[inline]
#[target_feature(enable = "neon")]
fn transpose(parts: &[Vector; 16]) -> [Vector; 16] {
    let mut words = *parts;
    for (part, word) in parts.as_chunks::<4>().0.iter().zip(words.as_chunks_mut::<4>().0) {
        let even = [vtrn1q_u32(part[0], part[1]), vtrn1q_u32(part[2], part[3])].map(|pair| vreinterpretq_u64_u32(pair));
        let odd = [vtrn2q_u32(part[0], part[1]), vtrn2q_u32(part[2], part[3])].map(|pair| vreinterpretq_u64_u32(pair));
        word[0] = vreinterpretq_u32_u64(vtrn1q_u64(even[0], even[1]));
        word[1] = vreinterpretq_u32_u64(vtrn1q_u64(odd[0], odd[1]));
        word[2] = vreinterpretq_u32_u64(vtrn2q_u64(even[0], even[1]));
        word[3] = vreinterpretq_u32_u64(vtrn2q_u64(odd[0], odd[1]));
    }
    words
}
