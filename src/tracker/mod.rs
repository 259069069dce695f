//! The swarms our own tracker knows: announcements in, peers out (BEP 3, BEP 7, BEP 23).
//!
//! Owns who is in which swarm and since when, within bounds, and BEP 15's connection ids. The wire format is `codec`'s,
//! sockets are `web`'s.

mod announcement;
pub mod connection_id;
mod swarm;
pub mod table;

pub use announcement::{Announcement, Origin, Refusal, Reply, SwarmPeer, SwarmStats};
pub use table::Table;
