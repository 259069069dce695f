//! When a seed has done its part.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::cli::options::UntilOptions;
use crate::engine::Snapshot;

/// Watches the conditions; the first that is met counts.
#[derive(Debug)]
pub(super) struct Until {
    options: UntilOptions,
    total_len: Arc<AtomicU64>,
    started: Instant,
    uploaded: u64,
    /// The last time that anything was sent.
    active_at: Instant,
}

impl Until {
    /// `total_len`: bytes of all torrents, as they come and go.
    pub(super) fn new(options: UntilOptions, total_len: Arc<AtomicU64>) -> Self {
        let now = Instant::now();
        Self { options, total_len, started: now, uploaded: 0, active_at: now }
    }

    /// Begins anew.
    pub(super) fn restart(&mut self) {
        self.started = Instant::now();
        self.active_at = self.started;
    }

    /// Why it is time to stop, once it is; `completed` is what our own tracker knows of finished downloads.
    pub(super) fn met(&mut self, now: &Snapshot, completed: impl FnOnce() -> usize) -> Option<String> {
        if now.uploaded > self.uploaded {
            self.uploaded = now.uploaded;
            self.active_at = Instant::now();
        }
        let UntilOptions { ratio, time, copies, idle } = self.options;
        if ratio.is_some_and(|ratio| self.ratio() >= ratio) {
            return Some(format!("{:.2} times the content was sent", self.ratio()));
        }
        // To be counted only where it matters.
        let have_all = copies.map_or(0, |_| now.copies.max(completed()));
        if copies.is_some_and(|copies| have_all >= copies) {
            return Some(format!("{have_all} others have everything"));
        }
        let passed = |since: Instant, limit: Option<Duration>| limit.is_some_and(|limit| since.elapsed() >= limit);
        if passed(self.started, time) {
            return Some("its time is over".to_owned());
        }
        passed(self.active_at, idle).then(|| "nobody took anything for a while".to_owned())
    }

    #[expect(clippy::cast_precision_loss, reason = "a ratio of bytes")]
    fn ratio(&self) -> f64 {
        self.uploaded as f64 / self.total_len.load(Ordering::Relaxed).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn len(bytes: u64) -> Arc<AtomicU64> {
        Arc::new(AtomicU64::new(bytes))
    }

    #[test]
    fn the_first_condition_that_is_met_counts() {
        let mut until =
            Until::new(UntilOptions { ratio: Some(1.5), copies: Some(2), ..UntilOptions::default() }, len(100));
        assert_eq!(until.met(&Snapshot { uploaded: 149, copies: 1, ..Snapshot::default() }, || 0), None);
        let told = until.met(&Snapshot { uploaded: 150, copies: 2, ..Snapshot::default() }, || 0);
        assert_eq!(told.as_deref(), Some("1.50 times the content was sent"));
        let told = until.met(&Snapshot::default(), || 0);
        assert!(told.is_some(), "what was sent stays sent");
        let mut copied = Until::new(UntilOptions { copies: Some(2), ..UntilOptions::default() }, len(100));
        assert_eq!(copied.met(&Snapshot::default(), || 1), None);
        assert!(copied.met(&Snapshot::default(), || 2).is_some());
        let mut at_once = Until::new(UntilOptions { time: Some(Duration::ZERO), ..UntilOptions::default() }, len(100));
        assert!(at_once.met(&Snapshot::default(), || 0).is_some());
        let mut idle = Until::new(UntilOptions { idle: Some(Duration::ZERO), ..UntilOptions::default() }, len(100));
        assert!(idle.met(&Snapshot::default(), || 0).is_some());
        assert_eq!(Until::new(UntilOptions::default(), len(0)).met(&Snapshot::default(), || 0), None);
    }
}
