//! The kernels of 64-bit ARM, each available if the processor has its instructions.

mod load;
mod neonx4;
mod sha;

use std::arch::{asm, is_aarch64_feature_detected};

use super::unit::{Block, LANES_MAX, SHA1_PORTABLE, SHA1_WORDS, SHA256_PORTABLE, SHA256_WORDS, Timed, Unit, Units};

/// Runs of each unit when the units are timed, once for each hash function at first use.
const CALIBRATION_TURNS: usize = 8;
/// Blocks that each lane compresses in such a run: a few microseconds, as the counter may advance only every 40 ns.
const CALIBRATION_BLOCKS: usize = 128;

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

fn has_neon() -> bool {
    is_aarch64_feature_detected!("neon")
}

/// True if the processor has the instructions for SHA-1 and SHA-256.
fn has_sha() -> bool {
    is_aarch64_feature_detected!("sha2")
}

pub(super) fn sha1() -> Units<SHA1_WORDS> {
    Units {
        portable: SHA1_PORTABLE,
        streams: has_sha().then_some([
            unit!("armsha", 1..=1, sha::sha1::<1>),
            unit!("armsha", 2..=2, sha::sha1::<2>),
            unit!("armsha", 3..=3, sha::sha1::<3>),
            unit!("armsha", 4..=4, sha::sha1::<4>),
        ]),
        vectors: has_neon().then_some(unit!("neonx4", 1..=4, neonx4::sha1)).into_iter().collect(),
        time,
    }
}

pub(super) fn sha256() -> Units<SHA256_WORDS> {
    Units {
        portable: SHA256_PORTABLE,
        streams: has_sha().then_some([
            unit!("armsha", 1..=1, sha::sha256::<1>),
            unit!("armsha", 2..=2, sha::sha256::<2>),
            unit!("armsha", 3..=3, sha::sha256::<3>),
            unit!("armsha", 4..=4, sha::sha256::<4>),
        ]),
        vectors: has_neon().then_some(unit!("neonx4", 1..=4, neonx4::sha256)).into_iter().collect(),
        time,
    }
}

/// Measures the ticks of each unit with all of its lanes busy. The units take turns, and the shortest run of each
/// counts, because another process may use the core meanwhile.
fn time<const WORDS: usize>(timed: &mut [Timed<WORDS>]) {
    let run: &[Block] = &[[0; 64]; CALIBRATION_BLOCKS];
    for _ in 0..CALIBRATION_TURNS {
        for Timed { unit, ticks: shortest } in &mut *timed {
            *shortest = ticks(unit, &[run; LANES_MAX][..unit.lanes_max]).min(*shortest);
        }
    }
}

/// Returns the ticks of the system counter that `unit` takes for these runs, one for each lane; `u64::MAX` if the
/// counter went back, as it may on another core.
fn ticks<const WORDS: usize>(unit: &Unit<WORDS>, runs: &[&[Block]]) -> u64 {
    let mut states = [[0; WORDS]; LANES_MAX];
    let states = &mut states[..runs.len()];
    let start = read_counter();
    (unit.compress)(states, runs);
    std::hint::black_box(states);
    read_counter().checked_sub(start).unwrap_or(u64::MAX)
}

/// Reads the system counter after all earlier instructions.
fn read_counter() -> u64 {
    let ticks: u64;
    // SAFETY: reads a register into `ticks`; Linux lets every process read this counter.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nostack)) };
    ticks
}
