//! `bench swarm`: compares the time at which the last of several downloaders is complete with the theoretical bound.
//!
//! `fleet` measures processes on this machine. The other modules implement `--simulate N`: swarms of the sans-io core
//! in memory, on a virtual clock. Links, pieces, chokers, peer lists, announces, tracker table and codec are the real
//! ones; sockets, disks and hashes are simulated. A run is determined by its seed.

mod counting_buffer;
mod disk;
mod finish;
mod fleet;
mod node;
mod scenario;
mod trackers;
mod wire;
mod world;

pub use counting_buffer::{CountingBuffer, Landed};
pub use disk::Disk;
pub use finish::Finish;
pub use fleet::{FleetFigures, Links, fleet};
pub use node::{Connections, Effort, Misbehavior, Node, Record, Settings};
pub use scenario::{Outcome, Progress, Scenario};
pub use trackers::{TrackerBehavior, Trackers};
pub use wire::{End, LAN, Line, Side};
pub use world::World;

/// Returns the lower bound of the distribution time in seconds: max(F / u_s, F / d_min, N·F / (u_s + Σu_i)). No
/// protocol is faster.
///
/// `len` is the content length F in bytes and `takers` the number N of downloaders. Rates are in bytes per second:
/// `origin_rate` is the uplink u_s of the origin, `slowest_rate` the lowest downlink d_min, and `given_rate` the sum of
/// the downloaders' uplinks u_i.
#[expect(clippy::cast_precision_loss, reason = "a measurement")]
fn fluid_bound(len: f64, takers: usize, origin_rate: f64, slowest_rate: f64, given_rate: f64) -> f64 {
    (len / origin_rate).max(len / slowest_rate).max(takers as f64 * len / (origin_rate + given_rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bottleneck_determines_the_bound() {
        let near = |is: f64, expected: f64| assert!((is - expected).abs() < 1e-9, "{is} {expected}");
        near(fluid_bound(100.0, 3, 10.0, 50.0, 150.0), 10.0);
        near(fluid_bound(100.0, 3, 100.0, 5.0, 15.0), 20.0);
        near(fluid_bound(100.0, 9, 10.0, 50.0, 20.0), 30.0);
        near(fluid_bound(100.0, 9, f64::INFINITY, f64::INFINITY, f64::INFINITY), 0.0);
    }
}
