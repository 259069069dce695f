//! What a session counts and shows of itself.

pub mod monitor;
pub(in crate::engine) mod stats;
pub(in crate::engine) mod usage;
