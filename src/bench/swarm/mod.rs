//! `bench swarm --simulate N`: whole swarms of the sans-io core in memory, on a virtual clock.
//!
//! The real links, pieces, chokers, peer lists, announcing, tracker table and codec between nodes whose sockets, disks and
//! hashes are simulated. Every run follows from its seed.

mod membership;
mod node;
mod scenario;
mod slot;
mod wire;
mod world;

pub use node::Node;
pub use scenario::{Outcome, Progress, Scenario};
pub use slot::{CountingSlot, Landed};
pub use wire::{End, Line, Side};
pub use world::{LAN, World};
