use super::*;
use crate::swarm::HostCounts;

const MIB: u64 = 1 << 20;

fn download(name: &str) -> ProgressLine<'_> {
    ProgressLine {
        phase: "downloading",
        label: Some(name),
        hosts: None,
        amount: Amount::Part { done: 126 * MIB, total: 300 * MIB },
        bytes_per_s: 11 * MIB,
        up_bytes_per_s: Some(MIB / 2),
        peers: Some(PeerCounts { connected: 3, known: 12 }),
    }
}

#[test]
fn a_wide_terminal_shows_everything() {
    let line = download("image.iso").for_terminal(200);
    assert!(line.starts_with("image.iso  ━━━") && line.contains("━╸─"), "{line}");
    let fields = " 42 %   126 MiB/300 MiB  11.0 MiB/s      ETA 15s   3/12 peers   up 512 KiB/s";
    assert!(line.ends_with(fields), "{line}");
    assert_eq!(line.width(), 199);
}

#[test]
fn narrower_terminals_lose_bar_and_details_first() {
    for (width, expected) in [
        (80, "image.iso   42 %   126 MiB/300 MiB  11.0 MiB/s      ETA 15s   3/12 peers"),
        (60, "image.iso   42 %  11.0 MiB/s      ETA 15s   3/12 peers"),
        (59, "42 %  11.0 MiB/s  ETA 15s  3/12 peers  up 512 KiB/s"),
        (40, "42 %  11.0 MiB/s  ETA 15s  3/12 peers"),
        (20, "42 %  11.0 MiB/s"),
        (8, "42 %"),
        (3, ""),
        (0, ""),
    ] {
        assert_eq!(download("image.iso").for_terminal(width), expected, "{width}");
    }
}

#[test]
fn no_line_reaches_the_last_column() {
    let names = ["x".repeat(300), "長い名前".repeat(40), "e\u{301}".repeat(99), "❤\u{fe0f}".repeat(99), String::new()];
    for name in &names {
        for peers in [0, 9, 123_456] {
            let peers = Some(PeerCounts { connected: peers, known: peers * 10 });
            for width in 0..=250 {
                let line = ProgressLine { peers, ..download(name) }.for_terminal(width);
                assert!(line.width() <= width.saturating_sub(1), "{width}: {line}");
            }
        }
    }
}

#[test]
fn long_names_are_cut_in_the_middle() {
    assert_eq!(cut("debian-13.1.0-amd64-netinst.iso", 15), "debian-…nst.iso");
    assert_eq!(cut("short", 5), "short");
    assert_eq!(cut("長い名前の映画", 8), "長い…画");
    assert_eq!(cut("ae\u{301}bcdef", 5), "ae\u{301}…ef");
    assert_eq!((cut("abc", 1), cut("abc", 0)), ("…".to_owned(), String::new()));
}

#[test]
fn a_log_line_is_one_sentence() {
    let expected = "downloading image.iso: 42 %, 126 MiB of 300 MiB, 11.0 MiB/s, ETA 15s, 3/12 peers, up 512 KiB/s";
    assert_eq!(download("image.iso").for_log(), expected);
    let checking =
        ProgressLine { phase: "checking", label: None, peers: None, up_bytes_per_s: None, ..download("image.iso") };
    assert_eq!(checking.for_log(), "checking: 42 %, 126 MiB of 300 MiB, 11.0 MiB/s, ETA 15s");
}

#[test]
fn work_without_an_end_has_no_percentage() {
    let peers = Some(PeerCounts { connected: 1, known: 1 });
    let seeding =
        ProgressLine { phase: "seeding", label: None, amount: Amount::Sent(3 * MIB / 2), peers, ..download("") };
    assert_eq!(seeding.for_log(), "seeding: 1.50 MiB sent, 1/1 peer, up 512 KiB/s");
    assert_eq!(seeding.for_terminal(80), "seeding  1.50 MiB sent     1/1 peer   up 512 KiB/s");
    assert_eq!((seeding.per_mille(), seeding.eta()), (None, None));
}

#[test]
fn percentages_are_rounded_down_and_estimates_need_a_rate() {
    let part = |done, total| ProgressLine { amount: Amount::Part { done, total }, bytes_per_s: 0, ..download("") };
    assert_eq!(part(999_999, 1_000_000).per_mille(), Some(999));
    assert_eq!(
        (part(7, 7).per_mille(), part(0, 0).per_mille(), part(9, 7).per_mille()),
        (Some(1000), None, Some(1000))
    );
    assert_eq!((part(u64::MAX - 1, u64::MAX).per_mille(), part(1, 2).eta()), (Some(999), None));
}

#[test]
fn times_have_two_units() {
    let shown = |s| ShownEta(Some(Duration::from_secs(s))).to_string();
    let expected = ["59s", "1m 00s", "59m 59s", "2h 05m", "3d 04h", "-"];
    assert_eq!([59, 60, 3599, 7500, 273_600, 8_640_000].map(shown), expected);
    assert_eq!(ShownEta(None).to_string(), "-");
}

#[test]
fn without_metadata_there_is_no_amount() {
    let unknown = ProgressLine { amount: Amount::Unknown, bytes_per_s: 0, up_bytes_per_s: None, ..download("x") };
    assert_eq!(unknown.for_log(), "downloading x: 0 B/s, 3/12 peers");
    assert_eq!(unknown.for_terminal(80), "x       0 B/s   3/12 peers");
}

fn summary(torrents: &[(&'static str, usize, usize)]) -> HostSummary {
    let hosts = |&(name, complete, seen): &(&'static str, _, _)| (name, HostCounts { seen, complete });
    HostSummary::of(torrents.iter().map(hosts).collect::<Vec<_>>().into_iter())
}

/// Returns the line of a seed on a terminal of this width.
fn seeding(hosts: &HostSummary, width: usize) -> String {
    let peers = Some(PeerCounts { connected: 4, known: 10 });
    let amount = Amount::Sent(3 * MIB / 2);
    ProgressLine { phase: "seeding", label: None, hosts: Some(hosts), amount, peers, ..download("") }
        .for_terminal(width)
}

#[test]
fn counts_of_hosts_are_never_cut() {
    let one = summary(&[("debian-13.1.0-amd64-netinst.iso", 3, 5)]);
    for (width, expected) in [
        (80, "debian…t.iso: 3 of 5 hosts complete  1.50 MiB sent   4/10 peers   up 512 KiB/s"),
        (60, "deb…so: 3 of 5 hosts complete  1.50 MiB sent   4/10 peers"),
        (59, "3 of 5 hosts complete  4/10 peers  up 512 KiB/s"),
        (40, "3 of 5 hosts complete  4/10 peers"),
        (12, "3/5 hosts"),
    ] {
        assert_eq!(seeding(&one, width), expected, "{width}");
    }
    let two = summary(&[("image.img", 5, 5), ("another image.img", 1, 5)]);
    for (width, expected) in [
        (120, "2 torrents: image.img 5/5, another image.img 1/5  1.50 MiB sent   4/10 peers   up 512 KiB/s"),
        (80, "2 torrents: ima…mg 5/5, ano…mg 1/5  1.50 MiB sent   4/10 peers   up 512 KiB/s"),
        (60, "2 torrents, 6 of 10 hosts  1.50 MiB sent   4/10 peers"),
        (59, "2 torrents, 6 of 10 hosts  4/10 peers  up 512 KiB/s"),
        (40, "2 torrents, 6 of 10 hosts  4/10 peers"),
        (20, "6/10 hosts"),
    ] {
        assert_eq!(seeding(&two, width), expected, "{width}");
    }
    for width in 0..=250 {
        assert!([&one, &two].iter().all(|hosts| seeding(hosts, width).width() <= width.saturating_sub(1)), "{width}");
    }
}
