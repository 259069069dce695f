//! Simulations of two nodes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bt_fast::base::{Bitfield, Geometry};
use bt_fast::bench::swarm::{LAN, Line, Side, World};
use bt_fast::swarm::choker::Slots;

use super::{geometry, with_seeds, world};

const K: u32 = 1 << 10;

/// Creates an origin and a leecher that are connected.
fn pair(seed: u64, geometry: Geometry, sides: impl FnOnce(Side, Side) -> [Side; 2]) -> World {
    let mut world = world(seed, geometry);
    let origin = world.add_origin();
    let leecher = world.add_leecher(4);
    world.connect(sides(Side::of(origin), Side::of(leecher)));
    world
}

#[test]
fn a_pair_finishes_with_any_extensions_and_any_number_of_pieces() {
    let shapes = [
        geometry(16 * K, 0, 1),
        geometry(16 * K, 1, 0),
        geometry(256 * K, 0, 100_000),
        geometry(40 * K, 3, 17),
        geometry(32 * K, 60, 5),
        geometry(1000, 300, 999),
    ];
    with_seeds(2, |seed| {
        for (shape, flags) in shapes.iter().flat_map(|shape| (0..16u8).map(move |flags| (shape, flags))) {
            let side = |side: Side, fast: u8, extension: u8| Side {
                fast: flags & fast != 0,
                extension: flags & extension != 0,
                ..side
            };
            let mut world = pair(seed, shape.clone(), |origin, leecher| {
                let sides = [side(origin, 1, 2), side(leecher, 4, 8)];
                if seed % 2 == 0 { sides } else { [sides[1], sides[0]] }
            });
            world.run_until_complete(&[1], Duration::from_secs(30));
            assert_eq!(world.wasted_blocks(&[1]), 0.0);
            assert!(world.faults().count() == 0, "{:?}", world.faults().collect::<Vec<_>>());
            world.finish();
        }
    });
}

#[test]
fn two_partial_peers_complete_each_other() {
    with_seeds(8, |seed| {
        let shape = geometry(64 * K, 40, 70);
        let mut world = world(seed, shape.clone());
        let mut have = [Bitfield::new(41), Bitfield::new(41)];
        for piece in shape.pieces() {
            have[world.rng.usize(..2)].insert(piece);
        }
        for have in &have {
            world.add_node(have, 3, Slots::Count(4));
        }
        world.connect([Side { fast: seed % 2 == 0, ..Side::of(0) }, Side::of(1)]);
        world.run_until_complete(&[0, 1], Duration::from_secs(60));
        assert_eq!(world.wasted_blocks(&[0, 1]), 0.0);
        world.finish();
    });
}

#[test]
fn messages_may_arrive_a_few_bytes_at_a_time() {
    with_seeds(1, |seed| {
        let mut world = pair(seed, geometry(20 * K, 2, 3), |origin, leecher| [origin, leecher]);
        world.split = true;
        world.run_until_complete(&[1], Duration::from_secs(30));
        world.finish();
    });
}

#[test]
fn a_long_fast_link_is_filled() {
    with_seeds(2, |seed| {
        let line = Line { rate: 20_000_000, delay: Duration::from_millis(50) };
        let mut world = world(seed, geometry(1 << 20, 60, 0));
        let (origin, leecher) = (world.add_origin(), world.add_leecher(16));
        world.connect([Side { line, ..Side::of(origin) }, Side { line, ..Side::of(leecher) }]);
        let took = world.run_until_complete(&[leecher], Duration::from_secs(60));
        // 3.1 s at the rate of the link, and a few round trips until the window is open.
        assert!(took < Duration::from_secs(6), "{took:?}");
        world.finish();
    });
}

/// A peer in the same rack and a peer on another continent both fill a link of 1 Gbit/s.
#[test]
fn a_gigabit_link_fills_within_two_seconds_at_any_latency() {
    const RATE: u64 = 125_000_000;
    for round_trip in [Duration::from_micros(100), Duration::from_millis(50)] {
        with_seeds(1, |seed| {
            let line = Line { rate: RATE, delay: round_trip / 2 };
            let mut world = World::new(seed, geometry(1 << 20, 600, 0));
            let (origin, leecher) = (world.add_origin(), world.add_leecher(256));
            world.connect([Side { line, ..Side::of(origin) }, Side { line, ..Side::of(leecher) }]);
            let received = |world: &World| world.nodes[leecher].swarm.totals.downloaded.load(Ordering::Relaxed);
            world.run_for(Duration::from_secs(2));
            let before = received(&world);
            world.run_for(Duration::from_secs(1));
            let share = (received(&world) - before) as f64 / RATE as f64;
            assert!(share >= 0.9, "{round_trip:?}: {share:.2} of the line, {before} bytes in the first two seconds");
        });
    }
}

/// The disk writes at most four pieces per second: outstanding requests stay within the piece memory.
#[test]
fn a_slow_disk_limits_requests() {
    with_seeds(2, |seed| {
        let mut world = pair(seed, geometry(256 * K, 100, 0), |origin, leecher| [origin, leecher]);
        world.write_time = Duration::from_secs(1);
        let mut most = 0;
        let took = {
            let start = world.now;
            world.run(Duration::from_secs(60), |world| {
                let connection = world.ends().find(|end| end.node == 1).unwrap().link.connection();
                most = most.max(connection.outstanding_count());
                world.nodes[1].swarm.pieces.is_complete()
            });
            world.now - start
        };
        assert!(most <= 4 * 16, "{most} blocks were outstanding, four piece buffers hold 64");
        assert!(took < Duration::from_secs(100 / 4 + 6), "{took:?}: only the disk may limit the transfer");
        assert_eq!(world.wasted_blocks(&[1]), 0.0);
        world.finish();
    });
}

/// Choking usually changes every ten seconds (BEP 3). A peer that changes it a hundred times as often breaks nothing.
#[test]
fn a_choke_storm_loses_nothing() {
    with_seeds(8, |seed| {
        let line = Line { rate: 500_000, delay: Duration::from_millis(40) };
        let mut world = world(seed, geometry(64 * K, 30, 1234));
        let (origin, leecher) = (world.add_origin(), world.add_leecher(4));
        world.nodes[origin].control = None;
        let fast = seed % 2 == 0;
        world.connect([Side { line, fast, ..Side::of(origin) }, Side { line, ..Side::of(leecher) }]);
        let mut unchoke = false;
        for _ in 0..2000 {
            if world.nodes[leecher].swarm.pieces.is_complete() {
                break;
            }
            unchoke = !unchoke;
            let shared = world.nodes[origin].connections.peers[0].clone();
            shared.set_unchoked(unchoke);
            world.flush_haves_all(origin);
            let pause = world.rng.u64(5..if unchoke { 400 } else { 100 });
            world.run_for(Duration::from_millis(pause));
        }
        assert!(world.nodes[leecher].swarm.pieces.is_complete());
        assert!(world.faults().count() == 0, "{:?}", world.faults().collect::<Vec<_>>());
        let wasted = world.wasted_blocks(&[leecher]);
        println!("choke storm, fast {fast}: {wasted:.1} blocks wasted");
        world.finish();
    });
}

#[test]
fn an_idle_pair_is_kept_alive() {
    with_seeds(1, |seed| {
        let mut world = world(seed, geometry(16 * K, 2, 0));
        let leechers = [world.add_leecher(2), world.add_leecher(2)];
        world.connect(leechers.map(Side::of));
        world.run_for(Duration::from_secs(1000));
        assert!(world.faults().count() == 0 && world.end(0).is_some(), "{:?}", world.faults().collect::<Vec<_>>());
        world.finish();
    });
}

#[test]
fn a_peer_that_vanished_silently_times_out() {
    with_seeds(1, |seed| {
        let mut world = world(seed, geometry(16 * K, 2, 0));
        let leechers = [world.add_leecher(2), world.add_leecher(2)];
        // A byte takes longer than any timeout.
        let dead = Line { rate: LAN.rate, delay: Duration::from_secs(10_000) };
        world.connect(leechers.map(|node| Side { line: dead, ..Side::of(node) }));
        world.run_for(Duration::from_secs(200));
        assert!(world.end(0).is_none());
        assert!(world.faults().all(|fault| matches!(fault, bt_fast::peer::PeerFault::Silent)));
        world.finish();
    });
}
