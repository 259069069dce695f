//! Progress of long work: a line that a terminal redraws, lines in a log, or records with `--json`.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::output::{Output, ProgressForm};
use super::progress_line::{Amount, PeerCounts, ProgressLine};
use super::records::Record;
use crate::base::limits::TERMINAL_WIDTH;
use crate::base::units::Rate;
use crate::engine::HostSummary;

/// Progress of reading content. The threads that read share it; the line is cleared on drop.
#[derive(Debug)]
pub struct ContentProgress<'a> {
    reporter: Reporter<'a>,
    phase: &'static str,
    total: Option<u64>,
    done: AtomicU64,
}

impl<'a> ContentProgress<'a> {
    /// `phase` is "hashing" or "checking"; `total` is the length of the content in bytes, or `None` for a pipe.
    pub(super) fn new(output: &'a Output, phase: &'static str, total: impl Into<Option<u64>>) -> Self {
        Self { reporter: Reporter::new(output), phase, total: total.into(), done: AtomicU64::new(0) }
    }

    /// Reports that `done` bytes have been read in all. Calls of several threads may be out of order.
    pub fn update(&self, done: u64) {
        let done = self.done.fetch_max(done, Ordering::Relaxed).max(done);
        let Some(elapsed) = self.reporter.pace.due() else { return };
        self.reporter.report(&ProgressLine {
            phase: self.phase,
            label: None,
            hosts: None,
            amount: self.total.map_or(Amount::Read(done), |total| Amount::Part { done, total }),
            bytes_per_s: whole(Rate { bytes: done, over: elapsed }.bytes_per_s()),
            up_bytes_per_s: None,
            peers: None,
        });
    }
}

/// The state of a transfer.
#[derive(Debug, Clone, Copy)]
pub(super) struct TransferSnapshot<'a> {
    pub(super) work: TransferWork<'a>,
    /// Download rate of payload over the last seconds.
    pub(super) down_bytes_per_s: f64,
    /// Upload rate of payload over the last seconds.
    pub(super) up_bytes_per_s: f64,
    /// The number of connections with a complete handshake.
    pub(super) peers: usize,
    /// The number of peers whose addresses are known.
    pub(super) known_peers: usize,
}

/// The work of a transfer. A `label` is printable.
#[derive(Debug, Clone, Copy)]
pub(super) enum TransferWork<'a> {
    /// `done` of `total` bytes are verified and written. The total is 0 before any metadata is there.
    Downloading { label: &'a str, done: u64, total: u64 },
    /// Complete downloads of `total` bytes are uploaded.
    Uploading { label: &'a str, total: u64, sent: u64 },
    /// Content is served.
    Serving { hosts: &'a HostSummary, sent: u64 },
}

/// Progress of a transfer. The line is cleared on drop.
#[derive(Debug)]
pub(super) struct TransferProgress<'a> {
    reporter: Reporter<'a>,
    /// The end of the downloads has been reported.
    has_uploaded: AtomicBool,
}

impl<'a> TransferProgress<'a> {
    pub(super) fn new(output: &'a Output) -> Self {
        Self { reporter: Reporter::new(output), has_uploaded: AtomicBool::new(false) }
    }

    /// Reports the state of the transfer. A call too soon after the last report is ignored, but not the first one after
    /// the end of the downloads: it reports their last byte.
    pub(super) fn update(&self, now: TransferSnapshot<'_>) {
        if let TransferWork::Uploading { label, total, .. } = now.work
            && !self.has_uploaded.swap(true, Ordering::Relaxed)
        {
            return self
                .report(TransferSnapshot { work: TransferWork::Downloading { label, done: total, total }, ..now });
        }
        if self.reporter.pace.due().is_some() {
            self.report(now);
        }
    }

    fn report(&self, now: TransferSnapshot<'_>) {
        let (phase, label, hosts, amount) = match now.work {
            TransferWork::Downloading { label, total: 0, .. } => ("downloading", Some(label), None, Amount::Unknown),
            TransferWork::Downloading { label, done, total } => {
                ("downloading", Some(label), None, Amount::Part { done, total })
            }
            TransferWork::Uploading { label, sent, .. } => ("seeding", Some(label), None, Amount::Sent(sent)),
            TransferWork::Serving { hosts, sent } => ("seeding", None, Some(hosts), Amount::Sent(sent)),
        };
        self.reporter.report(&ProgressLine {
            phase,
            label,
            hosts,
            amount,
            bytes_per_s: whole(now.down_bytes_per_s),
            up_bytes_per_s: Some(whole(now.up_bytes_per_s)),
            peers: Some(PeerCounts { connected: now.peers, known: now.known_peers.max(now.peers) }),
        });
    }
}

/// Reports progress in the form of the output.
#[derive(Debug)]
struct Reporter<'a> {
    output: &'a Output,
    bar: ProgressBar,
    pace: Pace,
    /// Bytes sent at the last line in a log.
    logged_sent: AtomicU64,
}

impl<'a> Reporter<'a> {
    fn new(output: &'a Output) -> Self {
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = output.bars().add(ProgressBar::new(0).with_style(style));
        Self { output, bar, pace: Pace::new(output.progress_form().interval()), logged_sent: AtomicU64::new(0) }
    }

    fn report(&self, line: &ProgressLine<'_>) {
        match self.output.progress_form() {
            ProgressForm::Nothing => {}
            ProgressForm::Redrawn => self.bar.set_message(line.for_terminal(terminal_width())),
            ProgressForm::Lines(_) => {
                // An idle seed must not fill a log.
                let is_news = match line.amount {
                    Amount::Sent(sent) => self.logged_sent.swap(sent, Ordering::Relaxed) != sent,
                    Amount::Part { .. } | Amount::Read(_) | Amount::Unknown => true,
                };
                if is_news {
                    self.output.progress_line(&line.for_log());
                }
            }
            ProgressForm::Records(_) => self.output.record(&Record::Progress {
                phase: line.phase,
                done: line.done(),
                total: line.total(),
                percent: line.per_mille().map(|per_mille| f64::from(per_mille) / 10.0),
                bytes_per_s: line.bytes_per_s,
                up_bytes_per_s: line.up_bytes_per_s,
                peers: line.peers.map(|peers| peers.connected),
                known_peers: line.peers.map(|peers| peers.known),
                eta_s: line.eta().map(|eta| eta.as_secs()),
            }),
        }
    }
}

impl Drop for Reporter<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Returns the columns of the terminal, which the user may resize at any time.
fn terminal_width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0).unwrap_or(TERMINAL_WIDTH)
}

/// Lets one update through in each `interval`.
#[derive(Debug)]
struct Pace {
    /// `None` lets no update through.
    interval: Option<Duration>,
    started: Instant,
    /// Number of the interval in which the last update was let through.
    last: AtomicU64,
}

impl Pace {
    fn new(interval: Option<Duration>) -> Self {
        Self { interval, started: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Returns the time since the start if an update is due.
    fn due(&self) -> Option<Duration> {
        let elapsed = self.started.elapsed();
        let interval = u64::try_from(elapsed.as_nanos() / self.interval?.as_nanos().max(1)).unwrap_or(u64::MAX);
        (self.last.fetch_max(interval, Ordering::Relaxed) < interval).then_some(elapsed)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` clamps a float to the range")]
fn whole(bytes_per_s: f64) -> u64 {
    bytes_per_s as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::REDRAW_INTERVAL;

    #[test]
    fn one_update_per_interval_is_let_through() {
        let pace = Pace::new(Some(REDRAW_INTERVAL));
        assert_eq!(pace.due(), None);
        std::thread::sleep(REDRAW_INTERVAL);
        assert!(pace.due().is_some());
        assert_eq!(Pace { last: AtomicU64::new(0), interval: None, started: pace.started }.due(), None);
    }

    #[test]
    fn rates_are_whole_and_not_negative() {
        assert_eq!((whole(-1.0), whole(1.9)), (0, 1));
    }
}
