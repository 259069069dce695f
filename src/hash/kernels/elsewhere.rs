//! Processors without kernels of ours: all goes through the crates `sha1` and `sha2`.

use super::table::{Unit, Units};
use super::{SHA1_PORTABLE, SHA1_WORDS, SHA256_PORTABLE, SHA256_WORDS};

pub(super) fn sha1() -> Units<SHA1_WORDS> {
    Units { portable: SHA1_PORTABLE, avx512: None, avx2: None, shani: None, avx512_from: [16, 16] }
}

pub(super) fn sha256() -> Units<SHA256_WORDS> {
    Units { portable: SHA256_PORTABLE, avx512: None, avx2: None, shani: None, avx512_from: [16, 16] }
}

pub(super) fn ticks<const WORDS: usize>(_: &Unit<WORDS>, _: usize) -> u64 {
    0
}
