//! Processors without kernels of ours: all goes through the `sha1` crate.

use super::Unit;

pub(super) fn avx512() -> Option<[Unit; 2]> {
    None
}

pub(super) fn avx2() -> Option<Unit> {
    None
}

pub(super) fn shani() -> Option<[Unit; 4]> {
    None
}

pub(super) fn ticks(_: &Unit, _: usize) -> u64 {
    0
}
