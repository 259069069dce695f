//! Whole swarms of the sans-io core in memory, on a virtual clock, in the world of `bt_fast::bench::swarm`. Every run follows from its seed; a failure prints it, and
//! `BT_FAST_SIM_SEED` runs that one again. `BT_FAST_SIM_SEEDS` says how many are run instead of a few.

mod fleets;
mod pairs;
mod swarms;
mod torture;

use bt_fast::base::Geometry;
use bt_fast::bench::swarm::World;

/// Says at a failure how to see it again.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("again with: BT_FAST_SIM_SEED={}", self.0);
        }
    }
}

/// A world whose invariants are looked at after every step.
fn world(seed: u64, geometry: Geometry) -> World {
    let mut world = World::new(seed, geometry);
    world.checked = true;
    world
}

/// Runs a simulation once per seed, or with the one that is asked for.
fn with_seeds(count: u64, mut simulate: impl FnMut(u64)) {
    let asked = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let count = asked("BT_FAST_SIM_SEEDS").unwrap_or(count);
    for seed in asked("BT_FAST_SIM_SEED").map_or(1..=count, |seed| seed..=seed) {
        let _replay = Replay(seed);
        simulate(seed);
    }
}

/// Whole pieces, then `rest` bytes of a last one.
fn geometry(piece_len: u32, whole: u32, rest: u64) -> Geometry {
    Geometry::new(piece_len, [u64::from(whole) * u64::from(piece_len) + rest]).unwrap()
}
