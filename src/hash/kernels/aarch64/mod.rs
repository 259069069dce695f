//! The kernels of 64-bit ARM, each available if the processor has its instructions.

mod load;
mod neonx4;
mod sha;

use std::arch::{asm, is_aarch64_feature_detected};

use super::unit::{Counter, SHA1_PORTABLE, SHA1_WORDS, SHA256_PORTABLE, SHA256_WORDS, Unit, Units};

/// The system counter. It may advance only every 40 ns, and a run of these blocks takes a few microseconds.
const COUNTER: Counter = Counter { read: read_counter, calibration_blocks: 128 };

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
        counter: Some(COUNTER),
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
        counter: Some(COUNTER),
    }
}

/// Reads the system counter after all earlier instructions.
fn read_counter() -> u64 {
    let ticks: u64;
    // SAFETY: reads a register into `ticks`; Linux lets every process read this counter.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nostack)) };
    ticks
}
