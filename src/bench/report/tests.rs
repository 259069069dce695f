use super::*;
use crate::bench::{Conditions, FloorShare, Machine, PairFigures, Resource};

fn figures() -> Figures {
    let side = Side {
        cpu_s_per_gb: 0.5,
        cpu_kinds: CpuKinds { ring: CpuTime { user_s: 0.1, system_s: 0.4 }, ..Default::default() },
        copied_bytes: 1 << 30,
        ..Default::default()
    };
    Figures {
        bytes: 1 << 30,
        piece_length: 1 << 20,
        peers: 1,
        io: "ring",
        rings: 2,
        rounds: 3,
        place: "disk",
        write: "auto",
        machine: Machine {
            cpu: "<script>alert('x')</script> & \"Sons\"".into(),
            cores: 2,
            memory: 24 << 30,
            kernel: "6.18<b>".into(),
            version: "0",
            taken_at: "2026-01-31 12:00:00 UTC".into(),
        },
        create_s: Some(0.5),
        transfer_s: 1.0,
        verify_s: None,
        gb_per_s: 1.07,
        floor: Some(FloorShare {
            pair: PairFigures { seconds: 0.9, gb_per_s: 1.2, seed_cpu_s_per_gb: 0.3, get_cpu_s_per_gb: 0.8 },
            share: 0.89,
            round_gb_per_s: vec![1.2, 1.1, 1.3],
        }),
        at_most: Some(AtMost {
            gb_per_s: 2.0,
            bound_by: Resource::Cpu,
            cpu_gb_per_s: 2.0,
            disk_gb_per_s: Some(2.5),
            memory_gb_per_s: Some(9.0),
        }),
        seed: side,
        get: side,
        latency_p50_us: Some(700),
        latency_p99_us: Some(5_000),
        latency_p999_us: Some(9_000),
        latency_buckets: vec![(512, 10), (1024, 40), (2048, 5)],
        wasted_bytes: 0,
        seed_copies: 1.0,
        fairness: 1.0,
        round_gb_per_s: vec![1.07, 1.0, 1.1],
        progress: vec![(0.1, 0), (0.5, 500_000_000), (1.0, 1 << 30)],
        conditions: Conditions::default(),
        measured: Vec::new(),
    }
}

#[test]
fn the_page_is_self_contained() {
    let page = page(&figures());
    for reach in ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link", "<img", "<iframe"] {
        assert!(!page.contains(reach), "{reach}");
    }
    assert!(page.contains("default-src 'none'") && page.contains("prefers-color-scheme: dark"));
}

#[test]
fn names_from_outside_are_escaped() {
    let page = page(&figures());
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;Sons&quot;"), "{page}");
    assert!(page.contains("6.18&lt;b&gt;") && !page.contains("<b>"));
}

#[test]
fn every_chart_has_a_title_and_a_table() {
    let page = page(&figures());
    let charts = page.matches(r#"<svg role="img""#).count();
    assert_eq!(charts, 2 * 4, "each for wide and narrow pages");
    assert_eq!((page.matches(r#"class="narrow""#).count(), page.matches(r#"class="broad""#).count()), (4, 4));
    assert_eq!(page.matches("aria-label=").count(), charts);
    assert_eq!(page.matches("<details>").count(), charts / 2);
    assert!(page.matches("<table>").count() > charts / 2);
    assert!(!page.contains("NaN") && !page.contains("inf\""));
}

#[test]
fn a_run_without_bare_pair_and_progress_has_a_page() {
    let bare = Figures { floor: None, progress: Vec::new(), latency_buckets: Vec::new(), ..figures() };
    let page = page(&bare);
    assert!(!page.contains("bare pair") && !page.contains("NaN") && page.contains("not counted"));
}

#[test]
fn a_rate_above_the_bare_pair_is_explained() {
    let below = page(&figures());
    assert!(below.contains("no limit") && !below.contains("bt-fast is faster here"));
    assert!(below.contains("At most 2.00 GB/s are possible on this machine, where the processor binds"), "{below}");
    let floor = || figures().floor.map(|floor| FloorShare { share: 1.49, ..floor });
    let above = page(&Figures { floor: floor(), ..figures() });
    assert!(above.contains("bt-fast is faster here") && above.contains("149"));
    let at_most = figures().at_most.map(|at_most| AtMost { disk_gb_per_s: None, ..at_most });
    let in_memory = page(&Figures { floor: floor(), at_most, ..figures() });
    assert!(!in_memory.contains("bt-fast is faster here"), "no writes past the page cache");
}

#[test]
fn rates_are_averaged_over_windows() {
    let progress: Vec<(f64, u64)> = (1..=20u32).map(|at| (f64::from(at) * 0.05, u64::from(at) * 50_000_000)).collect();
    let rates = rates(&progress);
    assert!(rates.len() < progress.len());
    assert!(rates[1..].iter().all(|(_, rate)| (rate - 1.0).abs() < 1e-6), "{rates:?}");
}
