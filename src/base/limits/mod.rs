//! Every bound of the program, with its unit and its reason. There is one file for each subject; all constants are used
//! as `limits::NAME`.
//!
//! A file asserts the order of its own related constants; the assertions here relate constants of different subjects.

mod connections;
mod descriptors;
mod display;
mod metainfo;
mod peer;
mod session;
mod storage;
mod swarm;
mod tracker;
mod web;

pub use connections::*;
pub use descriptors::*;
pub use display::*;
pub use metainfo::*;
pub use peer::*;
pub use session::*;
pub use storage::*;
pub use swarm::*;
pub use tracker::*;
pub use web::*;

use std::time::Duration;

/// Whether `a` is at most `b`; `Duration` cannot be compared in a constant.
const fn is_at_most(a: Duration, b: Duration) -> bool {
    a.as_nanos() <= b.as_nanos()
}

const _: () = assert!(WEB_CONNECTIONS_MIN <= WEB_CONNECTIONS_MAX);
const _: () = assert!(CONNECTIONS_MIN <= CONNECTIONS_GET_MAX);
const _: () = assert!(SEND_BLOCKS_MAX <= READ_AHEAD_BLOCKS_MAX);
const _: () = assert!(is_at_most(TRACKER_STOP_TIMEOUT, SHUTDOWN_TIMEOUT));
const _: () = assert!(is_at_most(RING_END_TIMEOUT, SHUTDOWN_TIMEOUT));
