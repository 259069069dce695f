//! The kernels of x86-64, each available if the processor has its instructions.

mod avx2;
mod avx512x16;
mod avx512x8;
mod load;
mod shani;
mod ymm;

use std::arch::x86_64::_rdtsc;

use super::unit::{Counter, SHA1_PORTABLE, SHA1_WORDS, SHA256_PORTABLE, SHA256_WORDS, Unit, Units};

/// The time stamp counter.
const COUNTER: Counter = Counter { read: read_counter, calibration_blocks: 32 };

/// A compression function, used below only if the processor has the features of its module.
macro_rules! unit {
    ($name:literal, $lanes_min:literal..=$lanes_max:literal, $compress:expr) => {
        Unit {
            name: $name,
            lanes_min: $lanes_min,
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
        streams: has_shani().then_some([
            unit!("shani", 1..=1, shani::sha1::<1>),
            unit!("shani", 2..=2, shani::sha1::<2>),
            unit!("shani", 3..=3, shani::sha1::<3>),
            unit!("shani", 4..=4, shani::sha1::<4>),
        ]),
        vectors: vectors(
            unit!("avx2x8", 1..=8, avx2::sha1),
            [unit!("avx512x8", 1..=8, avx512x8::sha1), unit!("avx512x16", 1..=16, avx512x16::sha1)],
        ),
        counter: Some(COUNTER),
    }
}

pub(super) fn sha256() -> Units<SHA256_WORDS> {
    Units {
        portable: SHA256_PORTABLE,
        streams: has_shani().then_some([
            unit!("shani", 1..=1, shani::sha256::<1>),
            unit!("shani", 2..=2, shani::sha256::<2>),
            unit!("shani", 3..=3, shani::sha256::<3>),
            unit!("shani", 4..=4, shani::sha256::<4>),
        ]),
        vectors: vectors(
            unit!("avx2x8", 1..=8, avx2::sha256),
            [unit!("avx512x8", 1..=8, avx512x8::sha256), unit!("avx512x16", 1..=16, avx512x16::sha256)],
        ),
        counter: Some(COUNTER),
    }
}

/// Returns those of the units that this processor can run, narrow registers first.
fn vectors<const WORDS: usize>(avx2: Unit<WORDS>, avx512: [Unit<WORDS>; 2]) -> Vec<Unit<WORDS>> {
    let avx2 = has_avx2().then_some(avx2);
    avx2.into_iter().chain(avx512.into_iter().filter(|_| has_avx512())).collect()
}

fn read_counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, which reads a counter.
    unsafe { _rdtsc() }
}
