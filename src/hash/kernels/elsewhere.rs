//! Processors without kernels of ours: all goes through the crates `sha1` and `sha2`.

use super::table::{Unit, Units};
use super::{SHA1_PORTABLE, SHA1_WORDS, SHA256_PORTABLE, SHA256_WORDS};

pub(super) fn sha1() -> Units<SHA1_WORDS> {
    none(SHA1_PORTABLE)
}

pub(super) fn sha256() -> Units<SHA256_WORDS> {
    none(SHA256_PORTABLE)
}

fn none<const WORDS: usize>(portable: Unit<WORDS>) -> Units<WORDS> {
    Units { portable, avx512: None, avx2: None, shani: None, avx512_from: [16, 16], is_faster: |_, _, _| false }
}
