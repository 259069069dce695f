//! `/metrics` in the text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write as _};

use super::{TorrentView, VERSION};
use crate::base::limits::METRICS_NAME_LEN_MAX;
use crate::engine::metrics::monitor::Status;
use crate::web::tracker::TrackerTotals;

/// Returns the page. `torrents` are those that are shown one by one.
pub(super) fn text(status: &Status, torrents: &[TorrentView<'_>], tracker: &TrackerTotals) -> String {
    let mut out = Page(String::new());
    out.many("build_info", "gauge", "1, with the version of bt-fast", "version", [(VERSION, 1)]);
    out.one("uploaded_bytes_total", "counter", "Payload sent", status.uploaded);
    out.one("downloaded_bytes_total", "counter", "Payload received", status.downloaded);
    out.one("wasted_bytes_total", "counter", "Redundant payload received", status.wasted);
    out.one("corrupt_bytes_total", "counter", "Payload of pieces that failed the hash check", status.corrupt);
    out.one("connections", "gauge", "Connections, handshakes included", status.connections);
    out.one("hashed_pieces_total", "counter", "Received pieces that were hashed", status.hashed_pieces);
    if let Some(limit) = status.up_limit {
        out.one("upload_limit_bytes_per_second", "gauge", "Limit of the upload rate of all torrents", limit);
    }
    out.one("torrents", "gauge", "Torrents that are served", status.torrents.len());
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
    out.all_torrents(torrents);
    out.latency(&status.latency_buckets);
    out.many(
        "tracker_announces_total",
        "counter",
        "Announces to our tracker",
        "protocol",
        [("http", tracker.http_announces), ("udp", tracker.udp_announces)],
    );
    out.one("tracker_scrapes_total", "counter", "Scrapes of torrents", tracker.scrapes);
    out.one("tracker_refused_total", "counter", "Announces refused", tracker.refused);
    out.one("tracker_peers", "gauge", "Peers known to our tracker", tracker.peers);
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

    fn all_torrents(&mut self, torrents: &[TorrentView<'_>]) {
        let (gauge, counter) = ("gauge", "counter");
        self.torrents("uploaded_bytes_total", counter, "Payload sent", torrents, |torrent| torrent.status.uploaded);
        let downloaded = |torrent: &TorrentView<'_>| torrent.status.downloaded;
        self.torrents("downloaded_bytes_total", counter, "Payload received", torrents, downloaded);
        self.torrents("length_bytes", gauge, "Length of the content", torrents, |torrent| torrent.status.length);
        self.torrents("peers", gauge, "Connected peers", torrents, |torrent| torrent.status.peers);
        self.torrents("pieces", gauge, "Pieces of the torrent", torrents, |torrent| torrent.status.pieces);
        self.torrents("pieces_had", gauge, "Verified pieces", torrents, |torrent| torrent.status.pieces_had);
        let failed = |torrent: &TorrentView<'_>| u8::from(torrent.status.failed);
        self.torrents("failed", gauge, "1 if storage has failed or files have changed", torrents, failed);
        let help = "Complete peers that our tracker knows, this origin included";
        self.torrents("seeders", gauge, help, torrents, |torrent| torrent.swarm.seeders);
        let help = "Incomplete peers that our tracker knows";
        self.torrents("leechers", gauge, help, torrents, |torrent| torrent.swarm.leechers);
        let help = "Downloads whose completion was announced to our tracker";
        self.torrents("completed_total", counter, help, torrents, |torrent| torrent.swarm.completed);
        let help = "Hosts that announced themselves or were connected";
        self.torrents("hosts_seen", gauge, help, torrents, |torrent| torrent.swarm.hosts_seen);
        let help = "Hosts that have all pieces, or had them when they left";
        self.torrents("hosts_complete", gauge, help, torrents, |torrent| torrent.swarm.hosts_complete);
    }

    fn torrents<V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        torrents: &[TorrentView<'_>],
        value: impl Fn(&TorrentView<'_>) -> V,
    ) {
        self.head(&format!("torrent_{name}"), kind, help);
        for torrent in torrents {
            let label = escaped(&torrent.status.name);
            let info_hash = &torrent.status.info_hash;
            let value = value(torrent);
            let _ = writeln!(self.0, "btfast_torrent_{name}{{info_hash=\"{info_hash}\",name=\"{label}\"}} {value}");
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

/// Returns the value of a label: `text` up to a length, with backslash, quotation mark and line break escaped.
fn escaped(text: &str) -> String {
    let text: String = text.chars().take(METRICS_NAME_LEN_MAX).collect();
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::metrics::monitor::TorrentStatus;
    use crate::web::admin::SwarmView;

    #[test]
    fn names_cannot_end_their_label() {
        let torrent = TorrentStatus {
            info_hash: "00".into(),
            name: format!("a\"}} 1\nevil \\{}", "x".repeat(1000)),
            length: 1,
            pieces: 2,
            pieces_had: 1,
            uploaded: 7,
            downloaded: 0,
            peers: 0,
            failed: false,
            rarest: 0,
            availability: Vec::new(),
            peer_list: Vec::new(),
        };
        let swarm = SwarmView { hosts_seen: 5, hosts_complete: 3, ..SwarmView::default() };
        let status = Status { up_limit: Some(7), latency_buckets: vec![(1000, 2), (2000, 3)], ..Status::default() };
        let totals = TrackerTotals { http_announces: 5, udp_announces: 6, torrents: 1, peers: 2, ..Default::default() };
        let text = text(&status, &[TorrentView { status: &torrent, swarm }], &totals);
        let label =
            format!("{{info_hash=\"00\",name=\"a\\\"}} 1\\nevil \\\\{}\"}}", "x".repeat(METRICS_NAME_LEN_MAX - 12));
        let of_torrent = |name: &str, value: u32| format!("btfast_torrent_{name}{label} {value}");
        for line in [
            &of_torrent("uploaded_bytes_total", 7),
            &of_torrent("hosts_complete", 3),
            &of_torrent("hosts_seen", 5),
            "btfast_upload_limit_bytes_per_second 7",
            "btfast_block_latency_seconds_bucket{le=\"0.002\"} 5",
            "btfast_tracker_announces_total{protocol=\"udp\"} 6",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(text.lines().all(|line| line.starts_with("btfast_") || line.starts_with("# ")));
    }
}
