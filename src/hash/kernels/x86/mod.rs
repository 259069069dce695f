//! The kernels of x86-64, each handed out where the processor has it.

#[macro_use]
mod rounds;

mod avx2;
mod avx512x16;
mod avx512x8;
mod shani;
mod ymm;

use std::arch::x86_64::{__m128i, _mm_loadu_si128, _rdtsc};

use super::table::{Unit, Units};
use super::{Block, SHA1_PORTABLE, SHA1_WORDS, SHA256_PORTABLE, SHA256_WORDS, State};

/// Byte shuffle that makes numbers of four big-endian words: its low half, its high half.
const BIG_ENDIAN_WORDS: [i64; 2] = [0x0405_0607_0001_0203, 0x0c0d_0e0f_0809_0a0b];

/// The constants of SHA-256's rounds (FIPS 180-4, 4.2.2).
#[rustfmt::skip]
const SHA256_K: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

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
    }
}

/// Processor ticks that `unit` needs for `lane_count` lanes of 32 blocks: the least of a few tries, some 20 µs in all.
pub(super) fn ticks<const WORDS: usize>(unit: &Unit<WORDS>, lane_count: usize) -> u64 {
    const TRIES: usize = 4;
    let run = [[0; 64]; 32];
    let attempt = |_| {
        let mut states = [[0; WORDS]; 16];
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
