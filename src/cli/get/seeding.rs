//! The end of `get --seed`.

use std::time::Instant;

use crate::cli::options::SeedUntil;
use crate::engine::Snapshot;

/// Checks the conditions of `--seed`. The first one that is met ends the session.
#[derive(Debug)]
pub(super) struct Seeding {
    pub(super) until: SeedUntil,
    /// When all downloads were first seen to be complete.
    complete_at: Option<Instant>,
}

impl Seeding {
    pub(super) fn new(until: SeedUntil) -> Self {
        Self { until, complete_at: None }
    }

    /// Returns the reason to stop if a condition is met. To be called only while all downloads are complete;
    /// `total_len` is the bytes of all of them.
    #[expect(clippy::cast_precision_loss, reason = "a ratio of bytes")]
    pub(super) fn met(&mut self, now: &Snapshot, total_len: u64) -> Option<String> {
        let elapsed = self.complete_at.get_or_insert_with(Instant::now).elapsed();
        let sent = now.uploaded as f64 / total_len.max(1) as f64;
        if self.until.ratio.is_some_and(|ratio| sent >= ratio) {
            return Some(format!("{sent:.2} times the content was sent"));
        }
        let time = self.until.time.filter(|time| elapsed >= *time)?;
        Some(format!("seeded for {} s", time.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn met(until: SeedUntil, uploaded: u64) -> Option<String> {
        Seeding::new(until).met(&Snapshot { uploaded, ..Snapshot::default() }, 100)
    }

    #[test]
    fn the_first_condition_met_is_the_reason() {
        let ratio = SeedUntil { ratio: Some(1.5), ..SeedUntil::default() };
        assert_eq!(met(ratio, 149), None);
        assert_eq!(met(ratio, 150).as_deref(), Some("1.50 times the content was sent"));
        let short = SeedUntil { time: Some(Duration::from_millis(500)), ratio: None };
        assert_eq!(short.to_string(), "for 0.5 s");
        let at_once = SeedUntil { time: Some(Duration::ZERO), ..ratio };
        assert_eq!(met(at_once, 0).as_deref(), Some("seeded for 0 s"));
        assert_eq!(met(SeedUntil { time: Some(Duration::from_secs(3600)), ratio: None }, 1000), None);
        assert_eq!(met(SeedUntil::default(), 1000), None);
    }
}
