//! `/metrics` in the text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write as _};

use super::TrackerView;
use crate::engine::metrics::monitor::{Status, TorrentStatus};

pub(super) fn text(status: &Status, tracker: &TrackerView) -> String {
    let mut out = Page(String::new());
    out.one("uploaded_bytes_total", "counter", "Payload sent", status.uploaded);
    out.one("downloaded_bytes_total", "counter", "Payload received", status.downloaded);
    out.one("wasted_bytes_total", "counter", "Redundant payload received", status.wasted);
    out.one("corrupt_bytes_total", "counter", "Payload of pieces that failed the hash check", status.corrupt);
    out.one("connections", "gauge", "Connections, handshakes included", status.connections);
    out.one("hashed_pieces_total", "counter", "Received pieces that were hashed", status.hashed_pieces);
    out.one("uptime_seconds", "gauge", "Time since the start", status.seconds);
    out.many(
        "cpu_seconds_total",
        "counter",
        "Processor time",
        "mode",
        [("user", status.cpu_user_s), ("system", status.cpu_system_s)],
    );
    out.many(
        "memory_bytes",
        "gauge",
        "Resident memory",
        "kind",
        [("anon", status.memory_anon), ("file", status.memory_file)],
    );
    out.torrents("torrent_uploaded_bytes_total", "counter", "Payload sent", status, |torrent| torrent.uploaded);
    out.torrents("torrent_downloaded_bytes_total", "counter", "Payload received", status, |torrent| torrent.downloaded);
    out.torrents("torrent_peers", "gauge", "Connected peers", status, |torrent| torrent.peers);
    out.torrents("torrent_pieces", "gauge", "Pieces of the torrent", status, |torrent| torrent.pieces);
    out.torrents("torrent_pieces_had", "gauge", "Verified pieces", status, |torrent| torrent.pieces_had);
    out.torrents("torrent_failed", "gauge", "1 if storage has failed or files have changed", status, |torrent| {
        u8::from(torrent.failed)
    });
    out.latency(&status.latency_buckets);
    out.many(
        "tracker_announces_total",
        "counter",
        "Announces to our tracker",
        "protocol",
        [("http", tracker.totals.http_announces), ("udp", tracker.totals.udp_announces)],
    );
    out.one("tracker_scrapes_total", "counter", "Scrapes of torrents", tracker.totals.scrapes);
    out.one("tracker_refused_total", "counter", "Announces refused", tracker.totals.refused);
    out.one("tracker_peers", "gauge", "Peers known to our tracker", tracker.totals.peers);
    out.0
}

/// The text of the page so far.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP btfast_{name} {help}\n# TYPE btfast_{name} {kind}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "btfast_{name} {value}");
    }

    fn many<V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'static str, V)>,
    ) {
        self.head(name, kind, help);
        for (of, value) in values {
            let _ = writeln!(self.0, "btfast_{name}{{{label}=\"{of}\"}} {value}");
        }
    }

    fn torrents<V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        status: &Status,
        value: fn(&TorrentStatus) -> V,
    ) {
        self.head(name, kind, help);
        for torrent in &status.torrents {
            let label = escaped(&torrent.name);
            let _ = writeln!(
                self.0,
                "btfast_{name}{{info_hash=\"{}\",name=\"{label}\"}} {}",
                torrent.info_hash,
                value(torrent)
            );
        }
    }

    /// `buckets` are upper bounds in microseconds, each with the number of blocks in its bucket.
    fn latency(&mut self, buckets: &[(u64, u64)]) {
        self.head("block_latency_seconds", "histogram", "Time from queueing a request to its block");
        let mut sum = 0;
        for (upper, count) in buckets {
            sum += count;
            let seconds = std::time::Duration::from_micros(*upper).as_secs_f64();
            let _ = writeln!(self.0, "btfast_block_latency_seconds_bucket{{le=\"{seconds}\"}} {sum}");
        }
        let _ = writeln!(self.0, "btfast_block_latency_seconds_bucket{{le=\"+Inf\"}} {sum}");
        let _ = writeln!(self.0, "btfast_block_latency_seconds_count {sum}");
    }
}

/// Escapes backslash, quotation mark and line break in the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::tracker::TrackerTotals;
    use std::sync::Arc;

    #[test]
    fn names_cannot_end_their_label() {
        let torrent = TorrentStatus {
            info_hash: "00".into(),
            name: "a\"} 1\nevil \\".into(),
            length: 1,
            pieces: 2,
            pieces_had: 1,
            uploaded: 7,
            downloaded: 0,
            peers: 0,
            seeders: 0,
            failed: false,
            rarest: 0,
            availability: Vec::new(),
            peer_list: Vec::new(),
        };
        let status = Status {
            torrents: vec![Arc::new(torrent)],
            latency_buckets: vec![(1000, 2), (2000, 3)],
            ..Status::default()
        };
        let totals = TrackerTotals { http_announces: 5, udp_announces: 6, torrents: 1, peers: 2, ..Default::default() };
        let tracker = TrackerView { totals, swarms: Vec::new() };
        let text = text(&status, &tracker);
        for line in [
            "btfast_torrent_uploaded_bytes_total{info_hash=\"00\",name=\"a\\\"} 1\\nevil \\\\\"} 7",
            "btfast_block_latency_seconds_bucket{le=\"0.002\"} 5",
            "btfast_tracker_announces_total{protocol=\"udp\"} 6",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(text.lines().all(|line| line.starts_with("btfast_") || line.starts_with("# ")));
    }
}
