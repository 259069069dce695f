//! Simulations of several nodes, honest and hostile.

use std::time::Duration;

use bt_fast::base::Geometry;
use bt_fast::base::limits::SNUB_TIMEOUT;
use bt_fast::bench::swarm::{LAN, Line, Side, World};

use super::{geometry, with_seeds, world};

const K: u32 = 1 << 10;
/// The most redundant blocks of a leecher's endgame with eight connections, independent of the content length.
const WASTED_BLOCKS_MAX: f64 = 40.0;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Creates a full mesh in which node 0 is an origin and all other nodes are leechers.
fn mesh(seed: u64, geometry: Geometry, leechers: usize, buffer_count: usize) -> World {
    let mut world = world(seed, geometry);
    world.add_origin();
    for _ in 0..leechers {
        world.add_leecher(buffer_count);
    }
    world.nodes.iter_mut().for_each(|node| node.settings.uplink_rate = 5_000_000);
    for a in 0..=leechers {
        for b in a + 1..=leechers {
            world.connect([Side::of(a), Side::of(b)]);
        }
    }
    world
}

#[test]
fn a_swarm_of_eight_finishes_and_spreads_the_pieces() {
    let leechers: Vec<usize> = (1..=8).collect();
    with_seeds(2, |seed| {
        for shape in [geometry(16 * K, 1, 0), geometry(32 * K, 7, 11), geometry(128 * K, 64, 4000)] {
            let pieces = shape.piece_count();
            let mut world = mesh(seed, shape, leechers.len(), 32);
            let took = world.run_until_complete(&leechers, secs(120));
            let (wasted, copies) = (world.wasted_blocks(&leechers), world.copies(0));
            println!(
                "swarm of 8, {pieces} pieces: {took:?}, {wasted:.1} blocks wasted, {copies:.2} copies from origin"
            );
            assert!(world.faults().count() == 0, "{:?}", world.faults().collect::<Vec<_>>());
            assert!(wasted < WASTED_BLOCKS_MAX, "{wasted}");
            if pieces > 50 {
                assert!(copies < 4.0, "{copies}");
            }
            world.finish();
        }
    });
}

/// The origin has a slow uplink, so the leechers must pass on each piece that it sends.
#[test]
fn rarest_first_spreads_the_pieces_of_a_slow_origin() {
    let leechers: Vec<usize> = (1..=8).collect();
    with_seeds(2, |seed| {
        let mut world = mesh(seed, geometry(64 * K, 96, 0), leechers.len(), 48);
        world.nodes[0].settings.uplink_rate = 500_000;
        let took = world.run_until_complete(&leechers, secs(600));
        let (wasted, copies) = (world.wasted_blocks(&leechers), world.copies(0));
        println!("slow origin: {took:?}, {wasted:.1} blocks wasted, {copies:.2} copies from origin");
        assert!(copies < 2.0, "{copies}");
        assert!(wasted < WASTED_BLOCKS_MAX, "{wasted}");
        assert!(world.nodes[0].record.served.iter().all(|&blocks| blocks >= 4), "each piece came from the origin");
        world.finish();
    });
}

#[test]
fn pieces_claimed_by_a_departed_peer_are_reassigned() {
    with_seeds(6, |seed| {
        let mut world = world(seed, geometry(256 * K, 16, 77));
        let origins = [world.add_origin(), world.add_origin()];
        let leecher = world.add_leecher(2);
        let slow = Line { rate: 100_000, ..LAN };
        let leaving = world.connect([Side { line: slow, ..Side::of(origins[0]) }, Side::of(leecher)]);
        world.run_for(secs(2));
        world.connect([Side::of(origins[1]), Side::of(leecher)]);
        let moment = Duration::from_millis(world.rng.u64(1..300));
        world.run_for(moment);
        world.disconnect(leaving);
        world.run_until_complete(&[leecher], secs(5));
        assert_eq!(world.wasted_blocks(&[leecher]), 0.0);
        world.finish();
    });
}

#[test]
fn a_peer_that_reconnects_repeatedly_breaks_nothing() {
    with_seeds(6, |seed| {
        let mut world = mesh(seed, geometry(64 * K, 24, 9), 4, 4);
        for _ in 0..40 {
            let moment = Duration::from_millis(world.rng.u64(1..400));
            world.run_for(moment);
            let end = world.rng.usize(..world.end_count());
            let node = |end: usize| world.end(end).map(|end| end.node);
            if let Some((a, b)) = node(end).zip(node(end ^ 1)) {
                world.disconnect(end);
                world.connect([Side { fast: seed % 2 == 0, ..Side::of(a) }, Side::of(b)]);
            }
        }
        world.run_until_complete(&[1, 2, 3, 4], secs(120));
        world.finish();
    });
}

#[test]
fn a_silent_peer_is_snubbed_and_its_blocks_reassigned() {
    with_seeds(4, |seed| {
        let mut world = world(seed, geometry(64 * K, 20, 0));
        let (silent, origin) = (world.add_origin(), world.add_origin());
        let leecher = world.add_leecher(2);
        // The silent peer claims all pieces, unchokes, and never sends a block.
        let fast = seed % 2 == 0;
        let first = world.connect([Side { silent: true, fast, ..Side::of(silent) }, Side::of(leecher)]);
        let state = |world: &World| {
            let connection = world.end(first + 1).unwrap().link.connection();
            (connection.is_snubbed(), connection.outstanding_count())
        };
        world.run_for(secs(1));
        assert_eq!(state(&world), (false, 8), "two pieces of four blocks");
        world.run_for(SNUB_TIMEOUT + secs(1));
        assert_eq!(state(&world), (true, 1));
        world.connect([Side::of(origin), Side::of(leecher)]);
        world.run_until_complete(&[leecher], secs(5));
        assert_eq!(world.wasted_blocks(&[leecher]), 0.0);
        world.finish();
    });
}

#[test]
fn a_lone_silent_peer_is_used_once_it_answers() {
    with_seeds(2, |seed| {
        let mut world = world(seed, geometry(64 * K, 20, 0));
        let (origin, leecher) = (world.add_origin(), world.add_leecher(2));
        let first = world.connect([Side { silent: true, fast: seed % 2 == 0, ..Side::of(origin) }, Side::of(leecher)]);
        world.run_for(secs(100));
        world.set_silent(first, false);
        world.run_until_complete(&[leecher], secs(30));
        world.finish();
    });
}

#[test]
fn corrupt_blocks_are_refetched_and_their_sender_named() {
    with_seeds(4, |seed| {
        let mut world = world(seed, geometry(64 * K, 24, 100));
        let (corrupter, honest) = (world.add_origin(), world.add_origin());
        world.nodes[corrupter].settings.corrupt_share = 0.1;
        let leechers = [world.add_leecher(4), world.add_leecher(4)];
        for leecher in leechers {
            world.connect([Side::of(corrupter), Side::of(leecher)]);
            world.connect([Side::of(honest), Side::of(leecher)]);
        }
        world.connect(leechers.map(Side::of));
        world.run_until_complete(&leechers, secs(300));
        assert!(leechers.iter().any(|&leecher| world.nodes[leecher].record.blamed.contains(&corrupter)));
        world.finish();
    });
}

#[test]
fn only_the_corrupting_peer_is_blamed() {
    with_seeds(2, |seed| {
        let mut world = world(seed, geometry(64 * K, 12, 100));
        let (corrupter, leecher) = (world.add_origin(), world.add_leecher(3));
        world.nodes[corrupter].settings.corrupt_share = 0.05;
        world.connect([Side::of(corrupter), Side::of(leecher)]);
        world.run_until_complete(&[leecher], secs(300));
        assert_eq!(world.nodes[leecher].record.blamed.iter().copied().collect::<Vec<_>>(), [corrupter]);
        world.finish();
    });
}

/// BEP 3: "a tendency for the last few pieces to all be downloaded off a single hosed modem line".
#[test]
fn the_endgame_duplicates_and_cancels_blocks_of_a_slow_peer() {
    for (slow_count, buffer_count, bound) in [(1, 40, 8), (1, 2, 20), (4, 40, 8), (4, 2, 60)] {
        with_seeds(2, |seed| {
            let mut world = world(seed, geometry(128 * K, 32, 0));
            let leecher = world.add_leecher(buffer_count);
            // A block takes eight seconds, too short to be snubbed.
            let slow = Line { rate: 2000, ..LAN };
            for _ in 0..slow_count {
                let origin = world.add_origin();
                world.connect([Side { line: slow, ..Side::of(origin) }, Side::of(leecher)]);
            }
            world.run_for(secs(3));
            let origin = world.add_origin();
            let end =
                world.connect([Side { line: Line { rate: 1_000_000, ..LAN }, ..Side::of(origin) }, Side::of(leecher)]);
            let took = world.run_until_complete(&[leecher], secs(bound));
            let wasted = world.wasted_blocks(&[leecher]);
            println!("{slow_count} slow, {buffer_count} piece buffers: {took:?}, {wasted:.1} blocks wasted");
            world.run_for(secs(1));
            let waiting = world.ends().filter(|at| at.node == leecher);
            assert_eq!(waiting.map(|end| end.link.connection().outstanding_count()).sum::<usize>(), 0);
            assert!(world.end(end).is_some() && world.faults().count() == 0);
            world.finish();
        });
    }
}

#[test]
fn a_lost_piece_is_fetched_again() {
    with_seeds(4, |seed| {
        let shape = geometry(64 * K, 6, 0);
        let mut world = world(seed, shape.clone());
        let (origin, leecher, other) = (world.add_origin(), world.add_leecher(2), world.add_leecher(2));
        world.connect([Side::of(origin), Side::of(leecher)]);
        world.connect([Side::of(leecher), Side::of(other)]);
        world.run_until_complete(&[leecher], secs(30));
        for index in [2, 4, 5] {
            world.nodes[leecher].swarm.pieces.handle_lost(shape.piece(index).unwrap());
        }
        world.flush_haves_all(leecher);
        world.run_until_complete(&[leecher, other], secs(60));
        world.finish();
    });
}
