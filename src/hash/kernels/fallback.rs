//! Processors for which there is no kernel here: the crates `sha1` and `sha2` do all the work.

use super::unit::{SHA1_PORTABLE, SHA1_WORDS, SHA256_PORTABLE, SHA256_WORDS, Unit, Units};

pub(super) fn sha1() -> Units<SHA1_WORDS> {
    portable_only(SHA1_PORTABLE)
}

pub(super) fn sha256() -> Units<SHA256_WORDS> {
    portable_only(SHA256_PORTABLE)
}

fn portable_only<const WORDS: usize>(portable: Unit<WORDS>) -> Units<WORDS> {
    Units { portable, streams: None, vectors: Vec::new(), counter: None }
}
