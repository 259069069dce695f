//! Control-plane HTTP: the tracker's end points, on a listener with bounds.
//!
//! Owns no swarm: `tracker` answers, this layer speaks HTTP.

pub mod listener;
pub mod tracker;
