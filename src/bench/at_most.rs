//! The highest rate that a machine permits, from the figures of a run: the tightest of its processor, disk and memory.

use serde::Serialize;

/// Rates in 10^9 bytes per second of downloaded content.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AtMost {
    pub gb_per_s: f64,
    /// The resource that has this rate.
    pub bound_by: Resource,
    /// Rate at which all cores are busy with the processor time of both sides.
    pub cpu_gb_per_s: f64,
    /// Highest rate at which the run wrote past the page cache; absent if downloads do not wait for a disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_gb_per_s: Option<f64>,
    /// Highest rate at which all cores together copied memory: each byte is read and written at least once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_gb_per_s: Option<f64>,
}

/// A resource of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    Cpu,
    Disk,
    Memory,
}

impl Resource {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "processor",
            Self::Disk => "disk",
            Self::Memory => "memory",
        }
    }
}

/// Rates of the place and of memory in 10^9 bytes per second, measured during a run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Probe {
    /// `None` if downloads do not wait for a disk.
    pub(super) disk: Option<f64>,
    pub(super) memory: Option<f64>,
}

impl Probe {
    /// Returns the higher rate of two probes for each resource.
    pub(super) fn max(self, other: Self) -> Self {
        let higher = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).max_by(f64::total_cmp);
        Self { disk: higher(self.disk, other.disk), memory: higher(self.memory, other.memory) }
    }
}

impl AtMost {
    /// Computes the bound of a machine with `cores`, for a transfer that takes `cpu_s_per_gb` processor seconds of both
    /// sides for each 10^9 bytes. `None` if the transfer took no processor time.
    #[expect(clippy::cast_precision_loss, reason = "a measurement")]
    pub(super) fn of(cores: usize, cpu_s_per_gb: f64, probe: Probe) -> Option<Self> {
        let cpu_gb_per_s = Some(cores as f64 / cpu_s_per_gb).filter(|rate| rate.is_finite())?;
        let Probe { disk, memory } = probe;
        let others = [(Resource::Disk, disk), (Resource::Memory, memory)];
        let (mut bound_by, mut gb_per_s) = (Resource::Cpu, cpu_gb_per_s);
        for (resource, rate) in others {
            if let Some(rate) = rate.filter(|rate| *rate < gb_per_s) {
                (bound_by, gb_per_s) = (resource, rate);
            }
        }
        Some(Self { gb_per_s, bound_by, cpu_gb_per_s, disk_gb_per_s: disk, memory_gb_per_s: memory })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(cpu_s_per_gb: f64, disk: Option<f64>, memory: Option<f64>) -> Option<(Resource, f64)> {
        let at_most = AtMost::of(4, cpu_s_per_gb, Probe { disk, memory })?;
        Some((at_most.bound_by, at_most.gb_per_s))
    }

    #[test]
    fn the_tightest_resource_is_the_bound() {
        assert_eq!(bound(2.0, Some(3.0), Some(9.0)), Some((Resource::Cpu, 2.0)));
        assert_eq!(bound(1.0, Some(3.0), Some(9.0)), Some((Resource::Disk, 3.0)));
        assert_eq!(bound(0.25, Some(30.0), Some(9.0)), Some((Resource::Memory, 9.0)));
        assert_eq!(bound(0.25, None, None), Some((Resource::Cpu, 16.0)));
        assert_eq!(bound(0.0, Some(1.0), Some(1.0)), None, "nothing was transferred");
    }

    #[test]
    fn the_best_probe_of_all_rounds_counts() {
        let a = Probe { disk: Some(1.0), memory: Some(5.0) };
        let best = a.max(Probe { disk: None, memory: Some(7.0) });
        assert_eq!((best.disk, best.memory), (Some(1.0), Some(7.0)));
    }
}
