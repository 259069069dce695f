//! Counters, statistics and the published status of a session. The pages that show the status are `web`'s.

pub mod monitor;
pub(in crate::engine) mod stats;
pub(in crate::engine) mod usage;
