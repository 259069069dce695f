//! SHA-1's compression function over many messages at once, each in its lane, as the processor does it fastest.
//!
//! Owns which code runs for how many lanes. Where a message's blocks lie, padding and lengths are the caller's. Unsafe
//! code is that of the vector instructions: calls behind a check of the processor, loads and stores of whole arrays.

#![allow(unsafe_code, reason = "vector instructions: loads, stores, and calls that the processor must support")]

#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(not(target_arch = "x86_64"))]
#[path = "elsewhere.rs"]
mod x86;

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha1::block_api::compress;

/// What the compression function takes at a time (FIPS 180-4).
pub(super) type Block = [u8; 64];

/// The five words that a message is boiled down to.
pub(super) type State = [u32; 5];

/// The state before the first block (FIPS 180-4, 5.3.1).
pub(super) const INITIAL_STATE: State = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];

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
    /// The `sha1` crate: piece by piece, with the SHA instructions of x86 or ARM where there are any.
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
        _ => &Plan::PORTABLE,
    }
}

/// One compression function.
#[derive(Clone, Copy)]
struct Unit {
    name: &'static str,
    lanes_max: usize,
    /// Takes one run of blocks into each state. Runs are equally long; there are 1 to `lanes_max` of them.
    compress: fn(&mut [State], &[&[Block]]),
}

impl Unit {
    const PORTABLE: Self = Self {
        name: "portable",
        lanes_max: 1,
        compress: |states, runs| states.iter_mut().zip(runs).for_each(|(state, run)| compress(state, run)),
    };
}

/// Which compression function runs for how many lanes. It displays as that.
pub struct Plan {
    /// By lane count less one.
    units: [Unit; LANES_MAX],
}

impl Plan {
    const PORTABLE: Self = Self { units: [Unit::PORTABLE; LANES_MAX] };

    fn new(kernel: Kernel) -> Option<Self> {
        let mut plan = Self::PORTABLE;
        match kernel {
            Kernel::Auto => plan = Self::fastest(x86::avx512(), x86::avx2(), x86::shani()),
            Kernel::Avx512 => {
                let [x8, x16] = x86::avx512()?;
                plan.fill(1, x8);
                plan.fill(9, x16);
            }
            Kernel::Avx2 => plan.fill(1, x86::avx2()?),
            Kernel::ShaNi => x86::shani()?.into_iter().for_each(|unit| plan.fill(unit.lanes_max, unit)),
            Kernel::Portable => {}
        }
        Some(plan)
    }

    /// The choice for a processor that has these.
    ///
    /// From the benchmark `hash`; where two are close, a short race decides.
    fn fastest(avx512: Option<[Unit; 2]>, avx2: Option<Unit>, shani: Option<[Unit; 4]>) -> Self {
        let mut plan = Self::PORTABLE;
        // One stream is what the crate does too.
        for unit in shani.into_iter().flatten().skip(1) {
            plan.fill(unit.lanes_max, unit);
        }
        let widest_shani = shani.map(|[.., widest]| widest);
        match (avx512, avx2, widest_shani) {
            (Some([x8, x16]), _, Some(_)) => {
                plan.fill(5, x8);
                // Nine or ten lanes are eight and one or two SHA streams: sixteen would be mostly idle.
                plan.fill(11, x16);
            }
            (Some([x8, x16]), _, None) => {
                plan.fill(2, x8);
                plan.fill(9, x16);
            }
            (None, Some(x8), None) => plan.fill(2, x8),
            (None, Some(x8), Some(streams)) if x86::ticks(&x8, 8) < x86::ticks(&streams, 8) => plan.fill(7, x8),
            _ => {}
        }
        plan
    }

    /// `unit` for `lane_count` lanes and more.
    fn fill(&mut self, lane_count: usize, unit: Unit) {
        self.units.iter_mut().skip(lane_count - 1).for_each(|place| *place = unit);
    }

    /// How many lanes are worth filling.
    pub(super) fn lanes_max(&self) -> usize {
        self.units[LANES_MAX - 1].lanes_max
    }

    /// Takes one run of blocks into each state.
    ///
    /// # Panics
    /// When runs are not equally long or not as many as states.
    pub(super) fn compress(&self, mut states: &mut [State], mut runs: &[&[Block]]) {
        while let Some(last) = runs.len().checked_sub(1) {
            let unit = &self.units[last.min(LANES_MAX - 1)];
            let (states_now, states_later) = states.split_at_mut(unit.lanes_max.min(runs.len()));
            let (runs_now, runs_later) = runs.split_at(states_now.len());
            (unit.compress)(states_now, runs_now);
            (states, runs) = (states_later, runs_later);
        }
    }
}

/// `1: portable, 2–4: shani, 5–10: avx512x8, 11–16: avx512x16`.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = 1;
        for group in self.units.chunk_by(|a, b| a.name == b.name) {
            let last = first + group.len() - 1;
            let separator = if first == 1 { "" } else { ", " };
            match group {
                [unit] => write!(f, "{separator}{first}: {}", unit.name)?,
                [unit, ..] => write!(f, "{separator}{first}–{last}: {}", unit.name)?,
                [] => {}
            }
            first = last + 1;
        }
        Ok(())
    }
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
    fn a_plan_says_what_it_does() {
        let mut plan = Plan::PORTABLE;
        assert_eq!(plan.to_string(), "1–16: portable");
        plan.fill(2, Unit { name: "two", ..Unit::PORTABLE });
        plan.fill(11, Unit { name: "many", ..Unit::PORTABLE });
        assert_eq!(plan.to_string(), "1: portable, 2–10: two, 11–16: many");
    }

    #[test]
    fn every_processor_hashes_alike() {
        let mut content = [[0; 64]; 40 + 3];
        fastrand::Rng::with_seed(1).fill(content.as_flattened_mut());
        for lacking in 0..8 {
            let [avx512, avx2, shani] = [1, 2, 4].map(|bit| lacking & bit == 0);
            let plan = Plan::fastest(
                x86::avx512().filter(|_| avx512),
                x86::avx2().filter(|_| avx2),
                x86::shani().filter(|_| shani),
            );
            for lane_count in 1..=40 {
                let runs: Vec<&[Block]> = content.windows(3).take(lane_count).collect();
                let mut states = vec![INITIAL_STATE; lane_count];
                plan.compress(&mut states, &runs);
                let mut wanted = vec![INITIAL_STATE; lane_count];
                wanted.iter_mut().zip(&runs).for_each(|(state, run)| compress(state, run));
                assert_eq!(states, wanted, "{lane_count} lanes, {plan}");
            }
        }
    }

    #[test]
    fn portable_is_always_there() {
        assert!(Kernel::available().any(|kernel| kernel == Kernel::Portable));
        assert!(Kernel::available().any(|kernel| kernel == Kernel::Auto));
    }
}
