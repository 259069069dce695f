//! The kernels of x86-64, each available if the processor has its instructions.

mod avx2;
mod avx512x16;
mod avx512x8;
mod load;
mod shani;
mod ymm;

use std::arch::x86_64::_rdtsc;

use super::unit::{Block, LANES_MAX, SHA1_PORTABLE, SHA1_WORDS, SHA256_PORTABLE, SHA256_WORDS, Unit, Units};

/// Runs of each kernel when two are timed against each other, which happens at most four times at first use.
const CALIBRATION_TURNS: usize = 8;

/// A compression function, used below only if the processor has the features of its module.
macro_rules! unit {
    ($name:literal, $lanes_max:literal, $compress:expr) => {
        Unit {
            name: $name,
            lanes_max: $lanes_max,
            // SAFETY: the callers of this macro check the processor's features first.
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
        // For nine or ten lanes, eight lanes and one or two SHA streams are faster than sixteen mostly idle lanes.
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

/// Returns whether `a` compresses `lane_count` lanes of 32 blocks faster than `b`. They run alternately, and the best
/// run of each counts: wide registers take a while to reach full speed, and another process may use the core meanwhile.
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

/// Returns the processor ticks that `unit` takes for these runs.
fn ticks<const WORDS: usize>(unit: &Unit<WORDS>, runs: &[&[Block]]) -> u64 {
    let mut states = [[0; WORDS]; LANES_MAX];
    // SAFETY: every x86-64 processor has the instruction, which reads a counter.
    let start = unsafe { _rdtsc() };
    for (states, runs) in states.chunks_mut(unit.lanes_max).zip(runs.chunks(unit.lanes_max)) {
        (unit.compress)(&mut states[..runs.len()], runs);
    }
    std::hint::black_box(&states);
    // SAFETY: as above.
    unsafe { _rdtsc() }.saturating_sub(start)
}
