//! Swarms behind a tracker: how close to the bound the last peer finishes, and the cost of hostile peers. For larger
//! swarms see `bt-fast bench swarm --simulate`.

use bt_fast::bench::swarm::{Outcome, Scenario};

use super::with_seeds;

/// A scenario with equal links of 100 Mbit/s.
fn equal(seed: u64, leechers: usize, piece_count: u32) -> Scenario {
    Scenario {
        seed,
        leechers,
        piece_count,
        piece_len: 64 << 10,
        origin_rate: 12_500_000,
        link_rate: 12_500_000,
        mixed_rates: false,
        churn: 0.0,
        free_riders: 0.0,
        corrupting: 0.0,
        silent: 0.0,
    }
}

fn run(scenario: &Scenario) -> Outcome {
    let outcome = scenario.run(&mut |_| ()).unwrap();
    println!(
        "{} leechers: T_min/T_last {:.3} of {:.1} s, origin {:.2} copies, Jain {:.4}, waste {:.3} %",
        outcome.leechers,
        outcome.finish.efficiency_last,
        outcome.finish.t_min_s,
        outcome.finish.origin_copies,
        outcome.finish.jain,
        100.0 * outcome.finish.waste
    );
    assert_eq!(outcome.finished, outcome.honest, "not all of the honest finished");
    assert_eq!(outcome.honest_bans, 0);
    outcome
}

#[test]
fn an_equal_fleet_finishes_near_the_bound_with_one_origin_copy() {
    with_seeds(2, |seed| {
        for (leechers, pieces, share) in [(10, 2000, 0.95), (40, 4000, 0.85)] {
            let outcome = run(&equal(seed, leechers, pieces));
            assert!(outcome.finish.efficiency_last >= share, "{}", outcome.finish.efficiency_last);
            assert!(outcome.finish.origin_copies <= 1.1, "{}", outcome.finish.origin_copies);
            assert!(outcome.finish.waste < 0.01 && outcome.finish.jain > 0.95);
        }
    });
}

#[test]
fn hostile_peers_cost_little_and_are_banned() {
    with_seeds(2, |seed| {
        let clean = Scenario { mixed_rates: true, ..equal(seed, 40, 800) };
        let bad = Scenario { churn: 0.2, free_riders: 0.1, corrupting: 0.03, silent: 0.03, ..clean.clone() };
        let (clean, bad) = (run(&clean), run(&bad));
        assert!(
            bad.finish.t_last_s <= 1.3 * clean.finish.t_last_s,
            "{} after {}",
            bad.finish.t_last_s,
            clean.finish.t_last_s
        );
        assert!(bad.corrupting > 0 && bad.bans > 0);
    });
}

/// Enough peers that the simulation uses all cores.
#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| serde_json::to_string(&Outcome { wall_s: 0.0, ..run(&equal(seed, 50, 60)) }).unwrap();
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

/// The control traffic and the decisions of a peer grow with its connections, whose number is bounded, and not with the
/// size of the swarm.
#[test]
fn a_larger_fleet_adds_no_decisions_per_peer() {
    with_seeds(1, |seed| {
        let [few, many] = [15, 150].map(|leechers| run(&equal(seed, leechers, 200)));
        let log = (150f64).ln() / (15f64).ln();
        for (what, few, many) in [
            ("control bytes", few.control_bytes_per_peer, many.control_bytes_per_peer),
            ("messages", few.messages_per_peer, many.messages_per_peer),
            ("looks at pieces", few.looks_per_peer, many.looks_per_peer),
            (
                "looks at peers to choke",
                few.ranked_per_peer / few.finish.t_last_s,
                many.ranked_per_peer / many.finish.t_last_s,
            ),
            ("chokes", few.choke_changes_per_peer, many.choke_changes_per_peer),
            ("connections", few.connections_per_peer, many.connections_per_peer),
        ] {
            println!("{what} for each peer: {few:.0} of 15, {many:.0} of 150");
            assert!(many <= few * log * 2.0, "{what}: {few} to {many}");
        }
    });
}
