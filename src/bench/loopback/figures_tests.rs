use super::*;
use crate::engine::WriteMode;
use crate::hash::Kernel;
use serde_json::json;

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

fn settings(peer_count: usize, rounds: usize) -> Settings {
    Settings {
        len: 1_000_000_000,
        piece_len: None,
        folder: ".".into(),
        to: Medium::Disk,
        peer_count,
        rounds,
        with_floor: true,
        write: WriteMode::Auto,
        drivers: vec![Driver::Ring],
        ring_count: 2,
        arena_len: 1 << 20,
        hash_kernel: Kernel::Auto,
        seed_flags: Vec::new(),
        get_flags: Vec::new(),
    }
}

fn ended(cpu_user_s: f64) -> Ended {
    Ended::of(&json!({
        "event": "complete", "downloaded": 1_000_000_000u64, "uploaded": 2_000_000_000u64, "wasted": 7,
        "latency_p99_us": 900, "latency_buckets": [[16, 1], [32, 2]],
        "cpu_user_s": cpu_user_s, "cpu_system_s": 0.5, "minor_faults": 100, "memory_peak": 5, "zero_copied": 500_000_000u64,
        "threads": {
            "ring": { "cpu_user_s": 0.25, "cpu_system_s": 0.25, "major_faults": 3, "voluntary_switches": 10 },
            "hash": { "cpu_user_s": 0.5, "involuntary_switches": 4 },
        },
    }))
}

fn round(seconds: f64, cpu_user_s: f64, floor_gb_per_s: f64) -> Round {
    let floor = PairFigures { gb_per_s: floor_gb_per_s, seconds: 1.0, ..Default::default() };
    Round {
        progress: vec![(seconds, 1_000_000_000)],
        peer_s: vec![seconds],
        sent: ended(cpu_user_s),
        got: vec![ended(cpu_user_s)],
        verify_s: Some(1.0),
        floor: Some(floor),
        probe: Probe { disk: Some(0.25), memory: Some(8.0) },
    }
}

#[test]
fn details_are_those_of_the_median_round() {
    let rounds = vec![round(4.0, 1.0, 1.0), round(1.0, 2.0, 2.0), round(2.0, 3.0, 1.0)];
    let figures = Figures::of(&settings(1, 3), Driver::Ring, 16384, Some(0.5), rounds);
    assert!(near(figures.transfer_s, 2.0) && near(figures.gb_per_s, 0.5));
    assert!(near(figures.get.cpu_user_s, 3.0), "{:?}", figures.get);
    // Medians of the rounds; the seed's is for the bytes that it sent.
    assert!(near(figures.get.cpu_s_per_gb, 2.5) && near(figures.seed.cpu_s_per_gb, 1.25), "{:?}", figures.seed);
    assert_eq!(figures.progress, [(2.0, 1_000_000_000)]);
    let floor = figures.floor.unwrap();
    // 0.25, 0.5 and 0.5 of the floor.
    assert!(near(floor.share, 0.5) && near(floor.pair.gb_per_s, 1.0), "{floor:?}");
    assert!(near(figures.seed_copies, 2.0));
    assert_eq!((figures.wasted_bytes, figures.latency_p99_us), (7, Some(900)));
}

#[test]
fn every_round_is_there_to_compare() {
    let rounds = vec![round(4.0, 1.0, 1.0), round(1.0, 2.0, 2.0), round(2.0, 3.0, 1.0)];
    let figures = Figures::of(&settings(1, 3), Driver::Ring, 16384, None, rounds);
    let of = |name: &str| &figures.measured.iter().find(|measured| measured.name == name).unwrap().rounds;
    assert_eq!(of("seed → get"), &[0.25, 1.0, 0.5]);
    assert_eq!(of("share of the bare pair"), &[0.25, 0.5, 0.5]);
    assert_eq!(of("get, processor time"), &[1.5, 2.5, 3.5]);
    assert_eq!(of("latency p99"), &[900.0; 3]);
    let other = settings(2, 3).conditions(Driver::Ring);
    assert_eq!(other.differences(&figures.conditions), ["peers: 1, here 2"]);
}

#[test]
fn no_result_is_above_the_bound_of_the_machine() {
    let rounds = vec![round(4.0, 1.0, 1.0), round(1.0, 2.0, 2.0), round(2.0, 0.01, 1.0)];
    let figures = Figures::of(&settings(1, 3), Driver::Ring, 16384, None, rounds);
    let at_most = figures.at_most.unwrap();
    // The probe wrote less per second than the bare pair, so the pair's rate is the disk's.
    assert_eq!((at_most.disk_gb_per_s, at_most.memory_gb_per_s), (Some(2.0), Some(8.0)));
    assert!(figures.round_gb_per_s.iter().all(|rate| *rate <= 2.0));
    // Both sides of the median round: half a second in the kernel and a second in user space each.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = f64::from(u32::try_from(cores).unwrap());
    assert!(near(at_most.cpu_gb_per_s, cores / 3.0), "{at_most:?}");
    let unprobed = vec![Round { floor: None, probe: Probe::default(), ..round(4.0, 1.0, 1.0) }];
    assert_eq!(Figures::of(&settings(1, 1), Driver::Ring, 16384, None, unprobed).at_most, None);
}

#[test]
fn time_of_ended_threads_counts_as_other() {
    let counted = |count| ended(1.0).with_system_calls(Some(count));
    let side = Side::of(&[counted(6), counted(8)], 2_000_000_000);
    assert!(side.system_calls_per_gb.is_some_and(|count| near(count, 7.0)));
    assert_eq!(Side::of(&[counted(6), ended(1.0)], 1).system_calls_per_gb, None, "all of them or none");
    let CpuKinds { ring, hash, kernel, other } = side.cpu_kinds;
    assert!(near(ring.user_s, 0.5) && near(hash.user_s, 1.0) && near(kernel.user_s, 0.0));
    assert!(near(other.user_s, 0.5) && near(other.system_s, 0.5));
    assert!(near(side.cpu_s_per_gb, 1.5) && near(side.voluntary_switches_per_gb, 10.0));
    assert!(near(side.involuntary_switches_per_gb, 4.0) && near(side.minor_faults_per_gb, 100.0));
    assert_eq!((side.ring_major_faults, side.memory_peak), (6, 5));
    assert_eq!((side.copied_bytes, side.zero_copied_bytes), (3_000_000_000, 1_000_000_000));
}

#[test]
fn equal_times_have_fairness_one() {
    assert!(near(fairness(&[2.0, 2.0, 2.0]), 1.0));
    assert!(near(fairness(&[1.0, f64::INFINITY]), 0.5));
    assert!(near(fairness(&[]), 1.0));
}

#[test]
fn histograms_add_up_and_curves_are_thinned() {
    let (a, b) = ([(16, 1), (32, 2)], [(32, 3), (64, 1)]);
    assert_eq!(merged([&a[..], &b[..]].into_iter()), [(16, 1), (32, 5), (64, 1)]);
    let long: Vec<(f64, u64)> = (0..2000).map(|at| (f64::from(at), 0)).collect();
    let short = thinned(long);
    assert!(short.len() <= POINTS_MAX && near(short.last().unwrap().0, 1999.0));
}

#[test]
fn records_of_an_older_program_are_read() {
    let ended = Ended::of(&json!({ "event": "complete", "downloaded": 5 }));
    assert_eq!((ended.downloaded, ended.minor_faults), (5, 0));
}
