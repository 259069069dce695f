//! The compression functions of SHA-1 and SHA-256 over many messages at once, one message per lane, in the form that is
//! fastest on this processor.
//!
//! Owns the choice of the code for each number of lanes. The caller owns the location of a message's blocks, padding
//! and lengths. Unsafe code is limited to vector instructions: calls behind a check of the processor, and loads and
//! stores of whole arrays.

#![allow(unsafe_code, reason = "vector instructions: loads, stores, and calls that the processor must support")]

#[cfg(any(test, target_arch = "x86_64", target_arch = "aarch64"))]
#[macro_use]
mod rounds;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(any(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod fallback;
#[cfg(test)]
mod model;
mod table;
mod timing;
mod unit;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) use table::Table;
pub(super) use unit::{Block, LANES_MAX, SHA1_START, SHA1_WORDS, SHA256_START, SHA256_WORDS, State};
use unit::{SHA1_PORTABLE, SHA256_PORTABLE, Units};

#[cfg(target_arch = "aarch64")]
use aarch64 as processor;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use fallback as processor;
#[cfg(target_arch = "x86_64")]
use x86 as processor;

/// A method of hashing many pieces at once, as chosen on the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kernel {
    /// The fastest kernel for the number of pieces to hash.
    #[default]
    Auto,
    /// Sixteen lanes in 512-bit registers.
    Avx512x16,
    /// Eight lanes in 256-bit registers, with the rotation and ternary logic of AVX-512.
    Avx512x8,
    /// Eight lanes in 256-bit registers.
    Avx2x8,
    /// One to four streams side by side through the SHA instructions of x86.
    ShaNi,
    /// One to four streams side by side through the SHA instructions of 64-bit ARM.
    ArmSha,
    /// Four lanes in the 128-bit registers of 64-bit ARM.
    NeonX4,
    /// The crates `sha1` and `sha2`: one piece after the other, with the SHA instructions of x86 or ARM if present.
    Portable,
}

impl Kernel {
    pub const ALL: [Self; 8] = [
        Self::Auto,
        Self::Avx512x16,
        Self::Avx512x8,
        Self::Avx2x8,
        Self::ShaNi,
        Self::ArmSha,
        Self::NeonX4,
        Self::Portable,
    ];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Avx512x16 => "avx512x16",
            Self::Avx512x8 => "avx512x8",
            Self::Avx2x8 => "avx2x8",
            Self::ShaNi => "shani",
            Self::ArmSha => "armsha",
            Self::NeonX4 => "neonx4",
            Self::Portable => "portable",
        }
    }

    /// Returns the kernels that this processor can run.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kernel| kernel.plan().is_ok())
    }

    /// Returns the choice of compression functions by number of pieces, or an error if this processor cannot run it.
    pub fn plan(self) -> Result<&'static Plan, Unavailable> {
        PLANS[self.index()].as_ref().ok_or(Unavailable(self))
    }

    fn index(self) -> usize {
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

/// The name on the command line is not that of a kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no such hash kernel: auto, avx512x16, avx512x8, avx2x8, shani, armsha, neonx4 or portable")]
pub struct UnknownKernel;

/// The processor lacks instructions that a kernel needs.
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

/// Index of the selected kernel in [`Kernel::ALL`].
static CHOSEN: AtomicUsize = AtomicUsize::new(0);

/// Selects the kernel of all hashing that this process begins after the call.
pub fn choose(kernel: Kernel) -> Result<(), Unavailable> {
    kernel.plan()?;
    CHOSEN.store(kernel.index(), Ordering::Relaxed);
    Ok(())
}

/// Returns the plan of the selected kernel, by default [`Kernel::Auto`].
pub fn chosen() -> &'static Plan {
    match PLANS.get(CHOSEN.load(Ordering::Relaxed)) {
        Some(Some(plan)) => plan,
        _ => &PORTABLE,
    }
}

/// The compression function for each number of lanes. It displays the choice for SHA-1.
pub struct Plan {
    pub(super) sha1: Table<SHA1_WORDS>,
    pub(super) sha256: Table<SHA256_WORDS>,
}

impl Plan {
    fn new(kernel: Kernel, sha1: &Units<SHA1_WORDS>, sha256: &Units<SHA256_WORDS>) -> Option<Self> {
        Some(Self { sha1: table(kernel, sha1)?, sha256: table(kernel, sha256)? })
    }

    /// Returns the names of the kernels that hash this many pieces together with SHA-1, as in `avx512x8 + shani`.
    pub fn sha1_names(&self, piece_count: usize) -> String {
        self.sha1.names(piece_count)
    }

    /// Like [`Self::sha1_names`] for SHA-256.
    pub fn sha256_names(&self, piece_count: usize) -> String {
        self.sha256.names(piece_count)
    }
}

/// Returns the table of one kernel, or `None` if the kernel's units are missing.
fn table<const WORDS: usize>(kernel: Kernel, units: &Units<WORDS>) -> Option<Table<WORDS>> {
    match kernel {
        Kernel::Auto => Some(Table::fastest(units)),
        kernel => Table::named(units, kernel.name()),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sha1.fmt(f)
    }
}

/// Plans that run on any processor, by name: the model of the lanes, and the plans of a processor without kernels.
#[cfg(test)]
pub(super) fn portable_plans() -> impl Iterator<Item = (String, Plan)> {
    let model = Plan { sha1: Table::filled(model::SHA1), sha256: Table::filled(model::SHA256) };
    let fallback = Kernel::ALL.into_iter().filter_map(|kernel| {
        let plan = Plan::new(kernel, &fallback::sha1(), &fallback::sha256())?;
        Some((format!("fallback, {kernel}"), plan))
    });
    fallback.chain([("model".to_owned(), model)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_back() {
        for kernel in Kernel::ALL {
            assert_eq!(kernel.name().parse(), Ok(kernel));
        }
        assert_eq!("avx".parse::<Kernel>(), Err(UnknownKernel));
    }

    #[test]
    fn available_kernels_can_be_chosen() {
        for kernel in Kernel::ALL {
            assert_eq!(choose(kernel).is_ok(), Kernel::available().any(|available| available == kernel));
        }
        choose(Kernel::Auto).unwrap();
    }

    #[test]
    fn portable_and_auto_are_always_available() {
        assert!(Kernel::available().any(|kernel| kernel == Kernel::Portable));
        assert!(Kernel::available().any(|kernel| kernel == Kernel::Auto));
    }
}
