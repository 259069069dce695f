//! One to four streams side by side with the SHA instructions. Each instruction waits for the one before it in its
//! stream, and the waits of several streams overlap.

use std::arch::aarch64::*;

use super::load::{from_words, load_words, to_words};
use crate::hash::kernels::unit::{Block, SHA1_WORDS, SHA256_K, SHA256_WORDS, State};

/// One register of each stream.
type Streams<const N: usize> = [uint32x4_t; N];

/// Compresses one run of blocks into each state. Takes `N` states and `N` runs of equal length.
#[target_feature(enable = "sha2")]
pub(super) fn sha1<const N: usize>(states: &mut [State<SHA1_WORDS>], runs: &[&[Block]]) {
    let count = runs.first().map_or(0, |run| run.len());
    assert!(states.len() == N && runs.len() == N && runs.iter().all(|run| run.len() == count));
    let mut abcd = [vdupq_n_u32(0); N];
    let mut e = [0; N];
    for (i, [front @ .., last]) in states.iter().enumerate() {
        abcd[i] = from_words(front);
        e[i] = *last;
    }
    for index in 0..count {
        sha1_block(&mut abcd, &mut e, runs, index);
    }
    for (i, [front @ .., last]) in states.iter_mut().enumerate() {
        *front = to_words(abcd[i]);
        *last = e[i];
    }
}

/// Twenty rounds with one function and one constant, four at a time.
macro_rules! sha1_twenty {
    ($function:ident, $k:literal, $group:expr, $w:ident, $abcd:ident $e:ident) => {
        let k = vdupq_n_u32($k);
        sha1_four!($function, k, $group, $w, $abcd $e);
        sha1_four!($function, k, $group + 1, $w, $abcd $e);
        sha1_four!($function, k, $group + 2, $w, $abcd $e);
        sha1_four!($function, k, $group + 3, $w, $abcd $e);
        sha1_four!($function, k, $group + 4, $w, $abcd $e);
    };
}

/// The four rounds from `4 * $group`. From group 4 on it computes its message words, which replace the oldest.
macro_rules! sha1_four {
    ($function:ident, $k:ident, $group:expr, $w:ident, $abcd:ident $e:ident) => {
        for i in 0..N {
            if $group >= 4 {
                let [first, second, third, fourth] =
                    [$w[$group % 4][i], $w[($group + 1) % 4][i], $w[($group + 2) % 4][i], $w[($group + 3) % 4][i]];
                $w[$group % 4][i] = vsha1su1q_u32(vsha1su0q_u32(first, second, third), fourth);
            }
            let next_e = vsha1h_u32(vgetq_lane_u32::<0>($abcd[i]));
            $abcd[i] = $function($abcd[i], $e[i], vaddq_u32($w[$group % 4][i], $k));
            $e[i] = next_e;
        }
    };
}

#[inline]
#[target_feature(enable = "sha2")]
fn sha1_block<const N: usize>(abcd: &mut Streams<N>, e: &mut [u32; N], runs: &[&[Block]], index: usize) {
    let mut w = words::<N>(runs, index);
    let (mut front, mut last) = (*abcd, *e);
    sha1_twenty!(vsha1cq_u32, 0x5a82_7999, 0, w, front last);
    sha1_twenty!(vsha1pq_u32, 0x6ed9_eba1, 5, w, front last);
    sha1_twenty!(vsha1mq_u32, 0x8f1b_bcdc, 10, w, front last);
    sha1_twenty!(vsha1pq_u32, 0xca62_c1d6, 15, w, front last);
    for i in 0..N {
        abcd[i] = vaddq_u32(abcd[i], front[i]);
        e[i] = e[i].wrapping_add(last[i]);
    }
}

/// Compresses one run of blocks into each state. Takes `N` states and `N` runs of equal length.
#[target_feature(enable = "sha2")]
pub(super) fn sha256<const N: usize>(states: &mut [State<SHA256_WORDS>], runs: &[&[Block]]) {
    let count = runs.first().map_or(0, |run| run.len());
    assert!(states.len() == N && runs.len() == N && runs.iter().all(|run| run.len() == count));
    let mut abcd = [vdupq_n_u32(0); N];
    let mut efgh = abcd;
    for (i, state) in states.iter().enumerate() {
        let halves = state.as_chunks::<4>().0;
        abcd[i] = from_words(&halves[0]);
        efgh[i] = from_words(&halves[1]);
    }
    for index in 0..count {
        sha256_block(&mut abcd, &mut efgh, runs, index);
    }
    for (i, state) in states.iter_mut().enumerate() {
        let halves = state.as_chunks_mut::<4>().0;
        halves[0] = to_words(abcd[i]);
        halves[1] = to_words(efgh[i]);
    }
}

/// The sixteen rounds from `4 * $group`.
macro_rules! sha256_sixteen {
    ($group:expr, $w:ident, $abcd:ident $efgh:ident) => {
        sha256_four!($group, $w, $abcd $efgh);
        sha256_four!($group + 1, $w, $abcd $efgh);
        sha256_four!($group + 2, $w, $abcd $efgh);
        sha256_four!($group + 3, $w, $abcd $efgh);
    };
}

/// The four rounds from `4 * $group`. From group 4 on it computes its message words, which replace the oldest.
macro_rules! sha256_four {
    ($group:expr, $w:ident, $abcd:ident $efgh:ident) => {
        let k = from_words(&SHA256_K.as_chunks::<4>().0[$group]);
        for i in 0..N {
            if $group >= 4 {
                let [first, second, third, fourth] =
                    [$w[$group % 4][i], $w[($group + 1) % 4][i], $w[($group + 2) % 4][i], $w[($group + 3) % 4][i]];
                $w[$group % 4][i] = vsha256su1q_u32(vsha256su0q_u32(first, second), third, fourth);
            }
            let words = vaddq_u32($w[$group % 4][i], k);
            let before = $abcd[i];
            $abcd[i] = vsha256hq_u32($abcd[i], $efgh[i], words);
            $efgh[i] = vsha256h2q_u32($efgh[i], before, words);
        }
    };
}

#[inline]
#[target_feature(enable = "sha2")]
fn sha256_block<const N: usize>(abcd: &mut Streams<N>, efgh: &mut Streams<N>, runs: &[&[Block]], index: usize) {
    let mut w = words::<N>(runs, index);
    let (mut front, mut back) = (*abcd, *efgh);
    sha256_sixteen!(0, w, front back);
    sha256_sixteen!(4, w, front back);
    sha256_sixteen!(8, w, front back);
    sha256_sixteen!(12, w, front back);
    for i in 0..N {
        abcd[i] = vaddq_u32(abcd[i], front[i]);
        efgh[i] = vaddq_u32(efgh[i], back[i]);
    }
}

/// Returns the four quarters of each stream's block, as words.
#[inline]
#[target_feature(enable = "neon")]
fn words<const N: usize>(runs: &[&[Block]], index: usize) -> [Streams<N>; 4] {
    let mut w = [[vdupq_n_u32(0); N]; 4];
    for i in 0..N {
        for (quarter, bytes) in runs[i][index].as_chunks::<16>().0.iter().enumerate() {
            w[quarter][i] = load_words(bytes);
        }
    }
    w
}
