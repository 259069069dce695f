//! The swarms of our own tracker, which takes announcements and returns peers (BEP 3, BEP 7, BEP 23).
//!
//! Owns the peers of each swarm, within limits of number and age, and the connection ids of BEP 15. `codec` owns the
//! wire format, `web` the sockets.

mod announcement;
pub mod connection_id;
mod swarm;
pub mod table;

pub use announcement::{Announcement, Origin, Refusal, Reply, SwarmPeer, SwarmStats};
pub use table::{Counts, Table};
