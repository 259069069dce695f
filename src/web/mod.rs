//! The control plane over HTTP and UDP: the endpoints of the tracker (HTTP and BEP 15), the public pages of an origin
//! and the operator's pages, all on bounded listeners.
//!
//! Owns no swarm and no session: `tracker` computes the replies, `engine::Monitor` provides the status, and this layer
//! serves them.

pub mod admin;
mod conditional;
mod connection_limit;
mod direct;
pub mod forwarded;
pub mod hosts;
pub mod listener;
mod plain;
pub mod range;
mod replaced;
pub mod reuse_port;
pub mod server;
pub mod site;
pub mod tracker;
