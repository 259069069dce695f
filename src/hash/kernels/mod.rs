//! The compression functions of SHA-1 and SHA-256 over many messages at once, each in its lane, as the processor does it fastest.
//!
//! Owns which code runs for how many lanes. Where a message's blocks lie, padding and lengths are the caller's. Unsafe
//! code is that of the vector instructions: calls behind a check of the processor, loads and stores of whole arrays.

#![allow(unsafe_code, reason = "vector instructions: loads, stores, and calls that the processor must support")]

#[cfg(any(test, target_arch = "x86_64"))]
#[macro_use]
mod rounds;

#[cfg(any(test, not(target_arch = "x86_64")))]
mod elsewhere;
#[cfg(test)]
mod model;
mod table;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) use table::Table;
use table::{Unit, Units};

#[cfg(not(target_arch = "x86_64"))]
use elsewhere as processor;
#[cfg(target_arch = "x86_64")]
use x86 as processor;

/// What the compression functions take at a time (FIPS 180-4).
pub(super) type Block = [u8; 64];

/// The words that a message is boiled down to.
pub(super) type State<const WORDS: usize> = [u32; WORDS];

pub(super) const SHA1_WORDS: usize = 5;
pub(super) const SHA256_WORDS: usize = 8;

/// The state before the first block (FIPS 180-4, 5.3.1).
pub(super) const SHA1_START: State<SHA1_WORDS> = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];

/// The state before the first block (FIPS 180-4, 5.3.3).
pub(super) const SHA256_START: State<SHA256_WORDS> =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The constants of SHA-256's rounds (FIPS 180-4, 4.2.2).
#[cfg(any(test, target_arch = "x86_64"))]
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

/// Lanes of the widest kernel.
pub(super) const LANES_MAX: usize = 16;

/// A way to hash many pieces at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kernel {
    /// The fastest for the number of pieces at hand.
    #[default]
    Auto,
    /// Sixteen lanes in 512-bit registers, or eight in 256-bit ones for up to eight pieces.
    Avx512,
    /// Eight lanes in 256-bit registers.
    Avx2,
    /// One to four streams side by side through the SHA instructions.
    ShaNi,
    /// The crates `sha1` and `sha2`: piece by piece, with the SHA instructions of x86 or ARM where there are any.
    Portable,
}

impl Kernel {
    pub const ALL: [Self; 5] = [Self::Auto, Self::Avx512, Self::Avx2, Self::ShaNi, Self::Portable];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Avx512 => "avx512x16",
            Self::Avx2 => "avx2x8",
            Self::ShaNi => "shani",
            Self::Portable => "portable",
        }
    }

    /// The kernels that this processor can run.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kernel| kernel.plan().is_ok())
    }

    /// What it does with how many pieces.
    pub fn plan(self) -> Result<&'static Plan, Unavailable> {
        PLANS[self.place()].as_ref().ok_or(Unavailable(self))
    }

    fn place(self) -> usize {
        Self::ALL.iter().position(|kernel| *kernel == self).unwrap_or(0)
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kernel {
    type Err = UnknownKernel;

    fn from_str(name: &str) -> Result<Self, UnknownKernel> {
        Self::ALL.into_iter().find(|kernel| kernel.name() == name).ok_or(UnknownKernel)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no such hash kernel: auto, avx512x16, avx2x8, shani or portable")]
pub struct UnknownKernel;

/// The processor lacks what a kernel needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this processor can't run {kernel}: it has {}", available_names(), kernel = .0)]
pub struct Unavailable(pub Kernel);

fn available_names() -> String {
    Kernel::available().map(Kernel::name).collect::<Vec<_>>().join(", ")
}

static PLANS: LazyLock<[Option<Plan>; Kernel::ALL.len()]> = LazyLock::new(|| {
    let (sha1, sha256) = (processor::sha1(), processor::sha256());
    Kernel::ALL.map(|kernel| Plan::new(kernel, &sha1, &sha256))
});

static PORTABLE: Plan = Plan { sha1: Table::filled(SHA1_PORTABLE), sha256: Table::filled(SHA256_PORTABLE) };

/// Place of the chosen kernel in [`Kernel::ALL`].
static CHOSEN: AtomicUsize = AtomicUsize::new(0);

/// From now on this process hashes with `kernel`. What is under way goes on as it began.
pub fn choose(kernel: Kernel) -> Result<(), Unavailable> {
    kernel.plan()?;
    CHOSEN.store(kernel.place(), Ordering::Relaxed);
    Ok(())
}

/// What this process hashes with: [`Kernel::Auto`] unless something else was chosen.
pub fn chosen() -> &'static Plan {
    match PLANS.get(CHOSEN.load(Ordering::Relaxed)) {
        Some(Some(plan)) => plan,
        _ => &PORTABLE,
    }
}

/// Which compression function runs for how many lanes. It displays as that, for SHA-1.
pub struct Plan {
    pub(super) sha1: Table<SHA1_WORDS>,
    pub(super) sha256: Table<SHA256_WORDS>,
}

impl Plan {
    fn new(kernel: Kernel, sha1: &Units<SHA1_WORDS>, sha256: &Units<SHA256_WORDS>) -> Option<Self> {
        Some(Self { sha1: Table::new(kernel, sha1)?, sha256: Table::new(kernel, sha256)? })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sha1.fmt(f)
    }
}

const SHA1_PORTABLE: Unit<SHA1_WORDS> = Unit {
    name: "portable",
    lanes_max: 1,
    compress: |states, runs| states.iter_mut().zip(runs).for_each(|(state, run)| sha1::block_api::compress(state, run)),
};

const SHA256_PORTABLE: Unit<SHA256_WORDS> = Unit {
    name: "portable",
    lanes_max: 1,
    compress: |states, runs| {
        states.iter_mut().zip(runs).for_each(|(state, run)| sha2::block_api::compress256(state, run));
    },
};

/// Plans that need nothing of the processor, by name: the lanes without vector instructions, and what a processor that
/// has no kernels here gets.
#[cfg(test)]
pub(super) fn processorless() -> impl Iterator<Item = (String, Plan)> {
    let model = Plan { sha1: Table::filled(model::SHA1), sha256: Table::filled(model::SHA256) };
    let elsewhere = Kernel::ALL.into_iter().filter_map(|kernel| {
        let plan = Plan::new(kernel, &elsewhere::sha1(), &elsewhere::sha256())?;
        Some((format!("elsewhere, {kernel}"), plan))
    });
    elsewhere.chain([("model".to_owned(), model)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for kernel in Kernel::ALL {
            assert_eq!(kernel.name().parse(), Ok(kernel));
        }
        assert_eq!("avx".parse::<Kernel>(), Err(UnknownKernel));
    }

    #[test]
    fn what_is_available_can_be_chosen() {
        for kernel in Kernel::ALL {
            assert_eq!(choose(kernel).is_ok(), Kernel::available().any(|available| available == kernel));
        }
        choose(Kernel::Auto).unwrap();
    }

    #[test]
    fn portable_is_always_there() {
        assert!(Kernel::available().any(|kernel| kernel == Kernel::Portable));
        assert!(Kernel::available().any(|kernel| kernel == Kernel::Auto));
    }
}
