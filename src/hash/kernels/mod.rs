//! The compression functions of SHA-1 and SHA-256 over many messages at once, each in its lane, as the processor does it fastest.
//!
//! Owns which code runs for how many lanes. Where a message's blocks lie, padding and lengths are the caller's. Unsafe
//! code is that of the vector instructions: calls behind a check of the processor, loads and stores of whole arrays.

#![allow(unsafe_code, reason = "vector instructions: loads, stores, and calls that the processor must support")]

mod table;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(not(target_arch = "x86_64"))]
#[path = "elsewhere.rs"]
mod x86;

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) use table::Table;
use table::Unit;

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
#[error("this processor cannot run {kernel}: it has {}", available_names(), kernel = .0)]
pub struct Unavailable(pub Kernel);

fn available_names() -> String {
    Kernel::available().map(Kernel::name).collect::<Vec<_>>().join(", ")
}

static PLANS: LazyLock<[Option<Plan>; Kernel::ALL.len()]> = LazyLock::new(|| Kernel::ALL.map(Plan::new));

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
    fn new(kernel: Kernel) -> Option<Self> {
        Some(Self { sha1: Table::new(kernel, &x86::sha1())?, sha256: Table::new(kernel, &x86::sha256())? })
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
