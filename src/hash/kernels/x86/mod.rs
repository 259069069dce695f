//! The kernels of x86-64, each handed out where the processor has it.

#[macro_use]
mod rounds;

mod avx2;
mod avx512x16;
mod avx512x8;
mod shani;
mod ymm;

use std::arch::x86_64::{__m128i, _mm_loadu_si128, _rdtsc};

use super::{Block, State, Unit};

/// Byte shuffle that makes numbers of four big-endian words: its low half, its high half.
const BIG_ENDIAN_WORDS: [i64; 2] = [0x0405_0607_0001_0203, 0x0c0d_0e0f_0809_0a0b];

#[inline]
fn load16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: `bytes` is 16 readable bytes, the load needs no alignment, and every x86-64 has SSE2.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Eight lanes and sixteen lanes.
pub(super) fn avx512() -> Option<[Unit; 2]> {
    let has = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx2");
    fn x8(states: &mut [State], runs: &[&[Block]]) {
        // SAFETY: handed out below where the processor has AVX2, AVX-512F and AVX-512VL.
        unsafe { avx512x8::compress(states, runs) }
    }
    fn x16(states: &mut [State], runs: &[&[Block]]) {
        // SAFETY: handed out below where the processor has AVX-512F and AVX-512BW.
        unsafe { avx512x16::compress(states, runs) }
    }
    has.then_some([
        Unit { name: "avx512x8", lanes_max: 8, compress: x8 },
        Unit { name: "avx512x16", lanes_max: 16, compress: x16 },
    ])
}

pub(super) fn avx2() -> Option<Unit> {
    fn x8(states: &mut [State], runs: &[&[Block]]) {
        // SAFETY: handed out below where the processor has AVX2.
        unsafe { avx2::compress(states, runs) }
    }
    is_x86_feature_detected!("avx2").then_some(Unit { name: "avx2x8", lanes_max: 8, compress: x8 })
}

/// One to four streams.
pub(super) fn shani() -> Option<[Unit; 4]> {
    let has =
        is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1");
    fn streams<const N: usize>(states: &mut [State], runs: &[&[Block]]) {
        // SAFETY: handed out below where the processor has SHA, SSSE3 and SSE4.1.
        unsafe { shani::compress::<N>(states, runs) }
    }
    let unit = |lanes_max, compress| Unit { name: "shani", lanes_max, compress };
    has.then_some([unit(1, streams::<1>), unit(2, streams::<2>), unit(3, streams::<3>), unit(4, streams::<4>)])
}

/// Processor ticks that `unit` needs for `lane_count` lanes of 32 blocks: the least of a few tries, some 10 µs in all.
pub(super) fn ticks(unit: &Unit, lane_count: usize) -> u64 {
    const TRIES: usize = 4;
    let run = [[0; 64]; 32];
    let attempt = |_| {
        let mut states = [[0; 5]; 16];
        let mut rest = &mut states[..lane_count];
        // SAFETY: every x86-64 has the instruction; it reads a counter.
        let start = unsafe { _rdtsc() };
        while !rest.is_empty() {
            let (now, later) = rest.split_at_mut(unit.lanes_max.min(rest.len()));
            (unit.compress)(now, &[&run[..]; 16][..now.len()]);
            rest = later;
        }
        std::hint::black_box(&states);
        // SAFETY: as above.
        unsafe { _rdtsc() }.saturating_sub(start)
    };
    (0..TRIES).map(attempt).min().unwrap_or(u64::MAX)
}
