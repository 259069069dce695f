//! One to four streams side by side with the SHA instructions. Each instruction waits for the one before it in its
//! stream, and the waits of several streams overlap.

use std::arch::x86_64::*;

use super::load::{BIG_ENDIAN_WORDS, load16};
use crate::hash::kernels::unit::{Block, SHA1_WORDS, SHA256_K, SHA256_WORDS, State};

/// One register of each stream.
type Streams<const N: usize> = [__m128i; N];

/// Compresses one run of blocks into each state. Takes `N` states and `N` runs of equal length.
#[target_feature(enable = "sha,ssse3,sse4.1")]
pub(super) fn sha1<const N: usize>(states: &mut [State<SHA1_WORDS>], runs: &[&[Block]]) {
    let count = runs.first().map_or(0, |run| run.len());
    assert!(states.len() == N && runs.len() == N && runs.iter().all(|run| run.len() == count));
    let mut abcd = [_mm_setzero_si128(); N];
    let mut e = abcd;
    for (i, state) in states.iter().enumerate() {
        let [a, b, c, d, last] = state.map(u32::cast_signed);
        abcd[i] = _mm_set_epi32(a, b, c, d);
        e[i] = _mm_set_epi32(last, 0, 0, 0);
    }
    for index in 0..count {
        sha1_block(&mut abcd, &mut e, runs, index);
    }
    for (i, state) in states.iter_mut().enumerate() {
        let words = [
            _mm_extract_epi32::<3>(abcd[i]),
            _mm_extract_epi32::<2>(abcd[i]),
            _mm_extract_epi32::<1>(abcd[i]),
            _mm_extract_epi32::<0>(abcd[i]),
            _mm_extract_epi32::<3>(e[i]),
        ];
        *state = words.map(i32::cast_unsigned);
    }
}

/// Twenty rounds, four at a time. `$from` and `$to` swap after each four.
macro_rules! sha1_twenty {
    ($function:literal, $group:expr, $w:ident, $e:ident, $from:ident $to:ident) => {
        sha1_four!($function, $group, $w, $e, $from $to);
        sha1_four!($function, $group + 1, $w, $e, $to $from);
        sha1_four!($function, $group + 2, $w, $e, $from $to);
        sha1_four!($function, $group + 3, $w, $e, $to $from);
        sha1_four!($function, $group + 4, $w, $e, $from $to);
    };
}

/// The four rounds from `4 * $group`. From group 4 on it computes its message words, which replace the oldest.
macro_rules! sha1_four {
    ($function:literal, $group:expr, $w:ident, $e:ident, $from:ident $to:ident) => {
        for i in 0..N {
            if $group >= 4 {
                let [first, second, third, fourth] =
                    [$w[$group % 4][i], $w[($group + 1) % 4][i], $w[($group + 2) % 4][i], $w[($group + 3) % 4][i]];
                let older = _mm_xor_si128(_mm_sha1msg1_epu32(first, second), third);
                $w[$group % 4][i] = _mm_sha1msg2_epu32(older, fourth);
            }
            let words = $w[$group % 4][i];
            let e = if $group == 0 { _mm_add_epi32($e[i], words) } else { _mm_sha1nexte_epu32($to[i], words) };
            $to[i] = _mm_sha1rnds4_epu32::<$function>($from[i], e);
        }
    };
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn sha1_block<const N: usize>(abcd: &mut Streams<N>, e: &mut Streams<N>, runs: &[&[Block]], index: usize) {
    // The first of four words goes into the highest lane.
    let [low, high] = BIG_ENDIAN_WORDS;
    let reverse = _mm_shuffle_epi32::<0b00_01_10_11>(_mm_set_epi64x(high, low));
    let mut w = [[_mm_setzero_si128(); N]; 4];
    for i in 0..N {
        for (quarter, bytes) in runs[i][index].as_chunks::<16>().0.iter().enumerate() {
            w[quarter][i] = _mm_shuffle_epi8(load16(bytes), reverse);
        }
    }
    let mut even = *abcd;
    let mut odd = *abcd;
    sha1_twenty!(0, 0, w, e, even odd);
    sha1_twenty!(1, 5, w, e, odd even);
    sha1_twenty!(2, 10, w, e, even odd);
    sha1_twenty!(3, 15, w, e, odd even);
    for i in 0..N {
        abcd[i] = _mm_add_epi32(abcd[i], even[i]);
        e[i] = _mm_sha1nexte_epu32(odd[i], e[i]);
    }
}

/// Compresses one run of blocks into each state. Takes `N` states and `N` runs of equal length.
#[target_feature(enable = "sha,ssse3,sse4.1")]
pub(super) fn sha256<const N: usize>(states: &mut [State<SHA256_WORDS>], runs: &[&[Block]]) {
    let count = runs.first().map_or(0, |run| run.len());
    assert!(states.len() == N && runs.len() == N && runs.iter().all(|run| run.len() == count));
    // The instructions want a, b, e, f in one register and c, d, g, h in the other.
    let mut abef = [_mm_setzero_si128(); N];
    let mut cdgh = abef;
    for (i, state) in states.iter().enumerate() {
        let [a, b, c, d, e, f, g, h] = state.map(u32::cast_signed);
        abef[i] = _mm_set_epi32(a, b, e, f);
        cdgh[i] = _mm_set_epi32(c, d, g, h);
    }
    for index in 0..count {
        sha256_block(&mut abef, &mut cdgh, runs, index);
    }
    for (i, state) in states.iter_mut().enumerate() {
        let words = [
            _mm_extract_epi32::<3>(abef[i]),
            _mm_extract_epi32::<2>(abef[i]),
            _mm_extract_epi32::<3>(cdgh[i]),
            _mm_extract_epi32::<2>(cdgh[i]),
            _mm_extract_epi32::<1>(abef[i]),
            _mm_extract_epi32::<0>(abef[i]),
            _mm_extract_epi32::<1>(cdgh[i]),
            _mm_extract_epi32::<0>(cdgh[i]),
        ];
        *state = words.map(i32::cast_unsigned);
    }
}

/// The sixteen rounds from `4 * $group`.
macro_rules! sha256_sixteen {
    ($group:expr, $w:ident, $abef:ident $cdgh:ident) => {
        sha256_four!($group, $w, $abef $cdgh);
        sha256_four!($group + 1, $w, $abef $cdgh);
        sha256_four!($group + 2, $w, $abef $cdgh);
        sha256_four!($group + 3, $w, $abef $cdgh);
    };
}

/// The four rounds from `4 * $group`. From group 4 on it computes its message words, which replace the oldest.
macro_rules! sha256_four {
    ($group:expr, $w:ident, $abef:ident $cdgh:ident) => {
        let [k0, k1, k2, k3] = SHA256_K.as_chunks::<4>().0[$group].map(u32::cast_signed);
        for i in 0..N {
            if $group >= 4 {
                let [first, second, third, fourth] =
                    [$w[$group % 4][i], $w[($group + 1) % 4][i], $w[($group + 2) % 4][i], $w[($group + 3) % 4][i]];
                let older = _mm_add_epi32(_mm_sha256msg1_epu32(first, second), _mm_alignr_epi8::<4>(fourth, third));
                $w[$group % 4][i] = _mm_sha256msg2_epu32(older, fourth);
            }
            let words = _mm_add_epi32($w[$group % 4][i], _mm_set_epi32(k3, k2, k1, k0));
            $cdgh[i] = _mm_sha256rnds2_epu32($cdgh[i], $abef[i], words);
            $abef[i] = _mm_sha256rnds2_epu32($abef[i], $cdgh[i], _mm_shuffle_epi32::<0b00_00_11_10>(words));
        }
    };
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn sha256_block<const N: usize>(abef: &mut Streams<N>, cdgh: &mut Streams<N>, runs: &[&[Block]], index: usize) {
    let [low, high] = BIG_ENDIAN_WORDS;
    let big_endian = _mm_set_epi64x(high, low);
    let mut w = [[_mm_setzero_si128(); N]; 4];
    for i in 0..N {
        for (quarter, bytes) in runs[i][index].as_chunks::<16>().0.iter().enumerate() {
            w[quarter][i] = _mm_shuffle_epi8(load16(bytes), big_endian);
        }
    }
    let (mut front, mut back) = (*abef, *cdgh);
    sha256_sixteen!(0, w, front back);
    sha256_sixteen!(4, w, front back);
    sha256_sixteen!(8, w, front back);
    sha256_sixteen!(12, w, front back);
    for i in 0..N {
        abef[i] = _mm_add_epi32(abef[i], front[i]);
        cdgh[i] = _mm_add_epi32(cdgh[i], back[i]);
    }
}
