//! Simulations of whole swarms: the sans-io core in memory on a virtual clock, in the world of `bt_fast::bench::swarm`.
//! Every run is determined by its seed. A failure prints the seed, and `TEST_SIM_SEED` repeats that run.
//! `TEST_SIM_SEEDS` sets the number of seeds.

mod faults;
mod fleets;
mod pairs;
mod swarms;

use bt_fast::base::Geometry;
use bt_fast::bench::swarm::World;

/// Prints how to repeat a failed run.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat with: TEST_SIM_SEED={}", self.0);
        }
    }
}

/// Creates a world whose invariants are checked after every step.
fn world(seed: u64, geometry: Geometry) -> World {
    let mut world = World::new(seed, geometry);
    world.checked = true;
    world
}

/// Runs a simulation once per seed, or only with `$TEST_SIM_SEED`.
fn with_seeds(count: u64, mut simulate: impl FnMut(u64)) {
    let from_env = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let count = from_env("TEST_SIM_SEEDS").unwrap_or(count);
    for seed in from_env("TEST_SIM_SEED").map_or(1..=count, |seed| seed..=seed) {
        let _replay = Replay(seed);
        simulate(seed);
    }
}

/// A layout of `whole` pieces and a last piece of `rest` bytes.
fn geometry(piece_len: u32, whole: u32, rest: u64) -> Geometry {
    Geometry::new(piece_len, [u64::from(whole) * u64::from(piece_len) + rest]).unwrap()
}
