//! Control-plane HTTP: the tracker's end points (and those of BEP 15), an origin's public pages and the operator's, all on
//! listeners with bounds.
//!
//! Owns no swarm and no session: `tracker` answers, `engine::Monitor` is shown, and this layer speaks HTTP.

pub mod admin;
mod conditional;
mod connection_limit;
pub mod forwarded;
pub mod hosts;
pub mod listener;
mod plain;
pub mod range;
pub mod reuse_port;
pub mod server;
pub mod site;
pub mod tracker;
