//! The `--stop-…` conditions of `seed`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::base::units::Count;
use crate::cli::options::UntilOptions;
use crate::engine::Snapshot;

/// Checks the conditions. The first one that is met ends the session.
#[derive(Debug)]
pub(super) struct Until {
    options: UntilOptions,
    total_len: Arc<AtomicU64>,
    started: Instant,
    /// Bytes sent until the last check.
    uploaded: u64,
    /// When bytes were last seen to be sent.
    active_at: Instant,
}

impl Until {
    /// `total_len` is the bytes of all torrents that are served, which may change.
    pub(super) fn new(options: UntilOptions, total_len: Arc<AtomicU64>) -> Self {
        let now = Instant::now();
        Self { options, total_len, started: now, uploaded: 0, active_at: now }
    }

    /// Starts all times again.
    pub(super) fn restart(&mut self) {
        self.started = Instant::now();
        self.active_at = self.started;
    }

    /// Returns the reason to stop if a condition is met. `complete_hosts` is the number of hosts with the complete
    /// content; with several torrents, of the torrent with the fewest.
    pub(super) fn met(&mut self, now: &Snapshot, complete_hosts: usize) -> Option<String> {
        if now.uploaded > self.uploaded {
            self.uploaded = now.uploaded;
            self.active_at = Instant::now();
        }
        let UntilOptions { ratio, time, copies, idle } = self.options;
        if ratio.is_some_and(|ratio| self.ratio() >= ratio) {
            return Some(format!("{:.2} times the content was sent", self.ratio()));
        }
        if copies.is_some_and(|copies| complete_hosts >= copies) {
            return Some(format!("{} complete", Count(complete_hosts as u64, "host")));
        }
        if time.is_some_and(|limit| self.started.elapsed() >= limit) {
            return Some("the time of --stop-time has passed".to_owned());
        }
        let idle = idle.filter(|&limit| self.active_at.elapsed() >= limit)?;
        Some(format!("nothing was sent for {} s", idle.as_secs_f64()))
    }

    #[expect(clippy::cast_precision_loss, reason = "a ratio of bytes")]
    fn ratio(&self) -> f64 {
        self.uploaded as f64 / self.total_len.load(Ordering::Relaxed).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn len(bytes: u64) -> Arc<AtomicU64> {
        Arc::new(AtomicU64::new(bytes))
    }

    #[test]
    fn the_first_condition_met_is_the_reason() {
        let mut until =
            Until::new(UntilOptions { ratio: Some(1.5), copies: Some(2), ..UntilOptions::default() }, len(100));
        assert_eq!(until.met(&Snapshot { uploaded: 149, ..Snapshot::default() }, 1), None);
        let reason = until.met(&Snapshot { uploaded: 150, ..Snapshot::default() }, 2);
        assert_eq!(reason.as_deref(), Some("1.50 times the content was sent"));
        let reason = until.met(&Snapshot::default(), 0);
        assert!(reason.is_some(), "the bytes of earlier checks count");
        let mut copied = Until::new(UntilOptions { copies: Some(2), ..UntilOptions::default() }, len(100));
        assert_eq!(copied.met(&Snapshot::default(), 1), None);
        assert!(copied.met(&Snapshot::default(), 2).is_some());
        let mut at_once = Until::new(UntilOptions { time: Some(Duration::ZERO), ..UntilOptions::default() }, len(100));
        assert!(at_once.met(&Snapshot::default(), 0).is_some());
        let mut idle = Until::new(UntilOptions { idle: Some(Duration::ZERO), ..UntilOptions::default() }, len(100));
        assert_eq!(idle.met(&Snapshot::default(), 0).as_deref(), Some("nothing was sent for 0 s"));
        assert_eq!(Until::new(UntilOptions::default(), len(0)).met(&Snapshot::default(), 0), None);
    }
}
