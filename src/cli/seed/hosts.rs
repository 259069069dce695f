//! Reports which hosts have all pieces: a line and a record for each, and their number in the progress line.

use std::time::{Duration, Instant};

use crate::base::units::Count;
use crate::cli::output::Output;
use crate::cli::records::Record;
use crate::engine::{CompletedHost, Contents, HostSummary};

/// Interval at which the summary is renewed if no host completes and no torrent is added or removed.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(1);

/// Reports the complete hosts of the session while it runs.
pub(super) struct HostReporter<'a> {
    contents: &'a Contents,
    output: &'a Output,
    summary: HostSummary,
    /// [`Self::summary`] as text.
    line: String,
    /// Torrents of the session when the summary was renewed.
    torrent_count: usize,
    renewed_at: Option<Instant>,
}

impl<'a> HostReporter<'a> {
    pub(super) fn new(contents: &'a Contents, output: &'a Output) -> Self {
        Self {
            contents,
            output,
            summary: HostSummary::default(),
            line: String::new(),
            torrent_count: 0,
            renewed_at: None,
        }
    }

    /// Reports the hosts that have completed since the last call, and renews the summary when it is due.
    pub(super) fn update(&mut self) {
        let torrent_count = self.contents.torrent_count();
        let mut is_due =
            torrent_count != self.torrent_count || self.renewed_at.is_none_or(|at| at.elapsed() >= SUMMARY_INTERVAL);
        while let Some(host) = self.contents.poll_completed_host() {
            self.report(&host);
            is_due = true;
        }
        if is_due {
            self.torrent_count = torrent_count;
            self.renewed_at = Some(Instant::now());
            self.summary = self.contents.host_summary();
            self.line = self.summary.to_string();
        }
    }

    /// The number of complete hosts as a part of a line.
    pub(super) fn line(&self) -> &str {
        &self.line
    }

    pub(super) fn summary(&self) -> &HostSummary {
        &self.summary
    }

    fn report(&self, host: &CompletedHost) {
        let CompletedHost { info_hash, name, ip, counts } = host;
        let (complete, seen) = (counts.complete, counts.seen);
        self.output.message(format_args!("{ip} has all of {name} ({complete} of {})", Count(seen as u64, "host")));
        self.output.record(&Record::Completed {
            info_hash: info_hash.to_string(),
            name,
            host: ip.to_string(),
            complete,
            seen,
        });
    }
}
