//! A model of the lanes for tests: arrays in place of vector registers, with the same rounds and the same order of
//! parts.
//!
//! It checks the code around the arithmetic on any processor and without unsafe code, so an interpreter can run it.
//! Nothing is inlined, because compiling eighty inlined rounds of sixteen lanes takes minutes.

use super::unit::{Block, SHA1_WORDS, SHA256_K, SHA256_WORDS, State, Unit};

type Vector = [u32; LANES];

const LANES: usize = 16;

pub(super) const SHA1: Unit<SHA1_WORDS> = Unit { name: "model", lanes_min: 1, lanes_max: LANES, compress: sha1 };
pub(super) const SHA256: Unit<SHA256_WORDS> = Unit { name: "model", lanes_min: 1, lanes_max: LANES, compress: sha256 };

lanes!(sha1: SHA1_WORDS, sha1_rounds, a b c d e);
lanes!(sha256: SHA256_WORDS, sha256_rounds, a b c d e f g h);

fn each(a: Vector, b: Vector, f: impl Fn(u32, u32) -> u32) -> Vector {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

#[inline(never)]
fn splat(word: u32) -> Vector {
    [word; LANES]
}

#[inline(never)]
fn add(a: Vector, b: Vector) -> Vector {
    each(a, b, u32::wrapping_add)
}

#[inline(never)]
fn xor(a: Vector, b: Vector) -> Vector {
    each(a, b, |a, b| a ^ b)
}

#[inline(never)]
fn rotl<const COUNT: u32>(a: Vector) -> Vector {
    a.map(|word| word.rotate_left(COUNT))
}

#[inline(never)]
fn shr<const COUNT: u32>(a: Vector) -> Vector {
    a.map(|word| word >> COUNT)
}

// FIPS 180-4, 4.1.1, as it is written there.

#[inline(never)]
fn choose(b: Vector, c: Vector, d: Vector) -> Vector {
    xor(each(b, c, |b, c| b & c), each(b, d, |b, d| !b & d))
}

#[inline(never)]
fn parity(b: Vector, c: Vector, d: Vector) -> Vector {
    xor(b, xor(c, d))
}

#[inline(never)]
fn majority(b: Vector, c: Vector, d: Vector) -> Vector {
    let and = |a, b| each(a, b, |a, b| a & b);
    xor(and(b, c), xor(and(b, d), and(c, d)))
}

#[inline(never)]
fn from_words(words: &[u32; LANES]) -> Vector {
    *words
}

#[inline(never)]
fn to_words(vector: Vector) -> [u32; LANES] {
    vector
}

/// Returns part `4 * q + r`: group g holds the four words of quarter q of the block in lane `4 * g + r`.
#[inline(never)]
fn load(blocks: &[&Block; LANES], part: usize) -> Vector {
    let word = |at: usize| blocks[at - at % 4 + part % 4].as_chunks().0[part - part % 4 + at % 4];
    std::array::from_fn(|at| u32::from_be_bytes(word(at)))
}

/// Returns, for each t, word t of every lane's block.
#[inline(never)]
fn transpose(parts: &[Vector; 16]) -> [Vector; 16] {
    std::array::from_fn(|t| std::array::from_fn(|lane| parts[t - t % 4 + lane % 4][lane - lane % 4 + t % 4]))
}
