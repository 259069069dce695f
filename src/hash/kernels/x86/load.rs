//! Loads of message bytes, which the kernels share.

use std::arch::x86_64::{__m128i, _mm_loadu_si128};

/// Byte shuffle that turns four big-endian words into numbers: its low half and its high half.
pub(super) const BIG_ENDIAN_WORDS: [i64; 2] = [0x0405_0607_0001_0203, 0x0c0d_0e0f_0809_0a0b];

/// Loads 16 bytes from any address.
#[inline]
pub(super) fn load16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: `bytes` is 16 readable bytes, the load needs no alignment, and every x86-64 processor has SSE2.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}
