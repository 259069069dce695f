//! Definitions that all kernels share: blocks, states, the constants of the standard, and the form of a compression
//! function.

/// A message block, the unit of the compression functions (FIPS 180-4).
pub(in crate::hash) type Block = [u8; 64];

/// The intermediate hash value of a message, in words.
pub(in crate::hash) type State<const WORDS: usize> = [u32; WORDS];

/// Words in a state of SHA-1.
pub(in crate::hash) const SHA1_WORDS: usize = 5;
/// Words in a state of SHA-256.
pub(in crate::hash) const SHA256_WORDS: usize = 8;

/// The state of SHA-1 before the first block (FIPS 180-4, 5.3.1).
pub(in crate::hash) const SHA1_START: State<SHA1_WORDS> =
    [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];

/// The state of SHA-256 before the first block (FIPS 180-4, 5.3.3).
pub(in crate::hash) const SHA256_START: State<SHA256_WORDS> =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The constants of SHA-256's rounds (FIPS 180-4, 4.2.2).
#[cfg(any(test, target_arch = "x86_64", target_arch = "aarch64"))]
#[rustfmt::skip]
pub(super) const SHA256_K: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// Number of lanes of the widest kernel.
pub(in crate::hash) const LANES_MAX: usize = 16;

/// One compression function.
#[derive(Clone, Copy)]
pub(super) struct Unit<const WORDS: usize> {
    pub(super) name: &'static str,
    pub(super) lanes_min: usize,
    pub(super) lanes_max: usize,
    /// Compresses one run of blocks into each state. Takes `lanes_min` to `lanes_max` runs of equal length.
    pub(super) compress: fn(&mut [State<WORDS>], &[&[Block]]),
}

/// The compression functions that this processor can run.
pub(super) struct Units<const WORDS: usize> {
    pub(super) portable: Unit<WORDS>,
    /// One to four streams side by side through the processor's SHA instructions.
    pub(super) streams: Option<[Unit<WORDS>; 4]>,
    /// Lanes in vector registers, narrow registers first.
    pub(super) vectors: Vec<Unit<WORDS>>,
    /// Measures the units, or `None` if the portable unit has no rival.
    pub(super) counter: Option<Counter>,
}

/// A counter of the processor that advances at a constant rate.
#[derive(Clone, Copy)]
pub(super) struct Counter {
    /// Reads the counter.
    pub(super) read: fn() -> u64,
    /// Blocks that each lane compresses while a unit is timed: enough for many ticks.
    pub(super) calibration_blocks: usize,
}

impl<const WORDS: usize> Units<WORDS> {
    /// Returns all units, those with narrow registers first.
    pub(super) fn all(&self) -> impl Iterator<Item = Unit<WORDS>> {
        let streams = self.streams.into_iter().flatten();
        std::iter::once(self.portable).chain(streams).chain(self.vectors.iter().copied())
    }
}

/// A unit and its speed.
#[derive(Clone, Copy)]
pub(super) struct Timed<const WORDS: usize> {
    pub(super) unit: Unit<WORDS>,
    /// Time for a run of blocks in each lane. Idle lanes do not shorten it.
    pub(super) ticks: u64,
}

pub(super) const SHA1_PORTABLE: Unit<SHA1_WORDS> = Unit {
    name: "portable",
    lanes_min: 1,
    lanes_max: 1,
    compress: |states, runs| states.iter_mut().zip(runs).for_each(|(state, run)| sha1::block_api::compress(state, run)),
};

pub(super) const SHA256_PORTABLE: Unit<SHA256_WORDS> = Unit {
    name: "portable",
    lanes_min: 1,
    lanes_max: 1,
    compress: |states, runs| {
        states.iter_mut().zip(runs).for_each(|(state, run)| sha2::block_api::compress256(state, run));
    },
};
