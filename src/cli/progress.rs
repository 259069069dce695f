//! Progress of long work: a bar on a terminal, and records with `--json`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::output::Output;
use super::records::Record;
use crate::base::units::{Bytes, Count, Rate};

const BAR: &str = "{prefix:>11} {wide_bar} {bytes}/{total_bytes} {msg}";
const NO_BAR: &str = "{prefix:>11} {msg}";

/// Progress of reading content. The threads that read share it; the bar is cleared on drop.
#[derive(Debug)]
pub struct ContentProgress<'a> {
    output: &'a Output,
    bar: ProgressBar,
    phase: &'static str,
    total: Option<u64>,
    done: AtomicU64,
    pace: Pace,
}

impl<'a> ContentProgress<'a> {
    /// `phase` is "hashing" or "checking"; `total` is the length of the content in bytes, or `None` for a pipe.
    pub(super) fn new(output: &'a Output, phase: &'static str, total: impl Into<Option<u64>>) -> Self {
        let total = total.into();
        let template = if total.is_some() { BAR } else { NO_BAR };
        let bar = ProgressBar::new(total.unwrap_or(0)).with_prefix(phase).with_style(style(template));
        let bar = output.bars().add(bar);
        Self { output, bar, phase, total, done: AtomicU64::new(0), pace: Pace::new(output.record_interval()) }
    }

    /// Reports that `done` bytes have been read in all. Calls of several threads may be out of order.
    pub fn update(&self, done: u64) {
        let done = self.done.fetch_max(done, Ordering::Relaxed).max(done);
        let Some(elapsed) = self.pace.due() else { return };
        let rate = Rate { bytes: done, over: elapsed };
        let eta = self.total.and_then(|total| eta(total.saturating_sub(done), rate.bytes_per_s()));
        self.bar.set_position(done);
        self.bar.set_message(match self.total {
            Some(_) => format!("{rate} {}", shown_eta(eta)),
            None => format!("{} {rate}", Bytes(done)),
        });
        self.output.record(&Record::Progress {
            phase: self.phase,
            done,
            total: self.total,
            bytes_per_s: whole(rate.bytes_per_s()),
            up_bytes_per_s: None,
            peers: None,
            eta_s: eta.map(|eta| eta.as_secs()),
        });
    }
}

impl Drop for ContentProgress<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The state of a transfer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TransferSnapshot {
    /// Bytes verified and written; for a seed, bytes sent.
    pub done: u64,
    /// Download rate of payload over the last seconds.
    pub down_bytes_per_s: f64,
    /// Upload rate of payload over the last seconds.
    pub up_bytes_per_s: f64,
    /// The number of connections with a complete handshake.
    pub peers: usize,
}

/// Progress of a download, or of an upload without an end. The bar is cleared on drop.
#[derive(Debug)]
pub struct TransferProgress<'a> {
    output: &'a Output,
    bar: ProgressBar,
    phase: &'static str,
    total: Option<u64>,
    pace: Pace,
}

impl<'a> TransferProgress<'a> {
    /// `phase` is "downloading" or "seeding"; `total` is the bytes of a complete download, or `None` for an upload.
    pub(super) fn new(output: &'a Output, phase: &'static str, total: Option<u64>) -> Self {
        let template = if total.is_some() { BAR } else { NO_BAR };
        let bar = ProgressBar::new(total.unwrap_or(0)).with_prefix(phase).with_style(style(template));
        Self { output, bar: output.bars().add(bar), phase, total, pace: Pace::new(output.record_interval()) }
    }

    /// Reports the state of the transfer. A call too soon after the last report is ignored.
    pub fn update(&self, now: TransferSnapshot) {
        if self.pace.due().is_none() {
            return;
        }
        let left = self.total.map(|total| total.saturating_sub(now.done));
        let eta = left.and_then(|left| eta(left, now.down_bytes_per_s));
        let rate = |bytes_per_s| Rate { bytes: whole(bytes_per_s), over: Duration::from_secs(1) };
        let (down, up) = (rate(now.down_bytes_per_s), rate(now.up_bytes_per_s));
        let mut message = format!("{}, up {up}", Count(now.peers as u64, "peer"));
        if self.total.is_some() {
            message = format!("{down} {}, {message}", shown_eta(eta));
        }
        self.bar.set_position(now.done);
        self.bar.set_message(message);
        self.output.record(&Record::Progress {
            phase: self.phase,
            done: now.done,
            total: self.total,
            bytes_per_s: down.bytes,
            up_bytes_per_s: Some(up.bytes),
            peers: Some(now.peers),
            eta_s: eta.map(|eta| eta.as_secs()),
        });
    }
}

impl Drop for TransferProgress<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Lets one update through in each `interval`.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    started: Instant,
    /// Number of the interval in which the last update was let through.
    last: AtomicU64,
}

impl Pace {
    fn new(interval: Duration) -> Self {
        Self { interval, started: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Returns the time since the start if an update is due.
    fn due(&self) -> Option<Duration> {
        let elapsed = self.started.elapsed();
        let interval = u64::try_from(elapsed.as_nanos() / self.interval.as_nanos().max(1)).unwrap_or(u64::MAX);
        (self.last.fetch_max(interval, Ordering::Relaxed) < interval).then_some(elapsed)
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
}

/// Estimates the time to move `left` bytes; `None` at a rate of zero.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn eta(left: u64, bytes_per_s: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(left as f64 / bytes_per_s).ok()
}

fn shown_eta(eta: Option<Duration>) -> String {
    eta.map_or_else(|| "ETA -".to_owned(), |eta| format!("ETA {:#}", indicatif::HumanDuration(eta)))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` clamps a float to the range")]
fn whole(bytes_per_s: f64) -> u64 {
    bytes_per_s as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::options::RECORD_INTERVAL;

    #[test]
    fn one_update_per_interval_is_let_through() {
        let pace = Pace::new(RECORD_INTERVAL);
        assert_eq!(pace.due(), None);
        std::thread::sleep(RECORD_INTERVAL);
        assert!(pace.due().is_some());
    }

    #[test]
    fn an_estimate_needs_a_positive_rate() {
        assert_eq!(eta(100, 10.0), Some(Duration::from_secs(10)));
        assert_eq!(eta(100, 0.0), None);
        assert_eq!(whole(-1.0), 0);
    }
}
