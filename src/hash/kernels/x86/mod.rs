//! The kernels of x86-64, each handed out where the processor has it.

mod avx2;
mod avx512x16;
mod avx512x8;
mod shani;
mod ymm;

use std::arch::x86_64::{__m128i, _mm_loadu_si128, _rdtsc};

use super::table::{Unit, Units};
use super::{Block, LANES_MAX, SHA1_PORTABLE, SHA1_WORDS, SHA256_K, SHA256_PORTABLE, SHA256_WORDS, State};

/// Byte shuffle that makes numbers of four big-endian words: its low half, its high half.
const BIG_ENDIAN_WORDS: [i64; 2] = [0x0405_0607_0001_0203, 0x0c0d_0e0f_0809_0a0b];

/// Turns that each of two kernels gets when they race; at first use there are at most four races.
const CALIBRATION_TURNS: usize = 8;

#[inline]
fn load16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: `bytes` is 16 readable bytes, the load needs no alignment, and every x86-64 has SSE2.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// A compression function that is handed out below, where the processor has what its module demands.
macro_rules! unit {
    ($name:literal, $lanes_max:literal, $compress:expr) => {
        Unit {
            name: $name,
            lanes_max: $lanes_max,
            // SAFETY: as said above.
            compress: |states, runs| unsafe { $compress(states, runs) },
        }
    };
}

fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx2")
}

fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
}

fn has_shani() -> bool {
    is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1")
}

pub(super) fn sha1() -> Units<SHA1_WORDS> {
    Units {
        portable: SHA1_PORTABLE,
        avx512: has_avx512().then_some([unit!("avx512x8", 8, avx512x8::sha1), unit!("avx512x16", 16, avx512x16::sha1)]),
        avx2: has_avx2().then_some(unit!("avx2x8", 8, avx2::sha1)),
        shani: has_shani().then_some([
            unit!("shani", 1, shani::sha1::<1>),
            unit!("shani", 2, shani::sha1::<2>),
            unit!("shani", 3, shani::sha1::<3>),
            unit!("shani", 4, shani::sha1::<4>),
        ]),
        // Nine or ten lanes are eight and one or two SHA streams: sixteen would be mostly idle.
        avx512_from: [5, 11],
        is_faster,
    }
}

pub(super) fn sha256() -> Units<SHA256_WORDS> {
    Units {
        portable: SHA256_PORTABLE,
        avx512: has_avx512()
            .then_some([unit!("avx512x8", 8, avx512x8::sha256), unit!("avx512x16", 16, avx512x16::sha256)]),
        avx2: has_avx2().then_some(unit!("avx2x8", 8, avx2::sha256)),
        shani: has_shani().then_some([
            unit!("shani", 1, shani::sha256::<1>),
            unit!("shani", 2, shani::sha256::<2>),
            unit!("shani", 3, shani::sha256::<3>),
            unit!("shani", 4, shani::sha256::<4>),
        ]),
        avx512_from: [7, 14],
        is_faster,
    }
}

/// Whether `a` takes `lane_count` lanes of 32 blocks along faster than `b`. They take turns, and the best turn of each
/// counts: wide registers need a moment to come up to speed, and somebody else may have the core for a while.
fn is_faster<const WORDS: usize>(a: &Unit<WORDS>, b: &Unit<WORDS>, lane_count: usize) -> bool {
    let run: &[Block] = &[[0; 64]; 32];
    let mut best = [u64::MAX; 2];
    for _ in 0..CALIBRATION_TURNS {
        for (unit, best) in [a, b].into_iter().zip(&mut best) {
            *best = ticks(unit, &[run; LANES_MAX][..lane_count]).min(*best);
        }
    }
    best[0] < best[1]
}

/// Processor ticks that `unit` needs for these runs.
fn ticks<const WORDS: usize>(unit: &Unit<WORDS>, runs: &[&[Block]]) -> u64 {
    let mut states = [[0; WORDS]; LANES_MAX];
    // SAFETY: every x86-64 has the instruction; it reads a counter.
    let start = unsafe { _rdtsc() };
    for (states, runs) in states.chunks_mut(unit.lanes_max).zip(runs.chunks(unit.lanes_max)) {
        (unit.compress)(&mut states[..runs.len()], runs);
    }
    std::hint::black_box(&states);
    // SAFETY: as above.
    unsafe { _rdtsc() }.saturating_sub(start)
}
