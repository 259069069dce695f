//! All use of io_uring: the runtime of the ring threads and the operations on it.
//!
//! Owns the unsafe contract with the kernel: an operation owns its buffers and descriptors until its last completion,
//! even when its future is dropped or its ring ends. Does not know BitTorrent. Only this module depends on the driver.
//!
//! Rules for code on a ring thread:
//! - The driver submits only when its thread is about to park. Yield with [`no_op`], not with a self-waking future, and
//!   do not loop over a channel without a ring operation.
//! - Do not pass one of these futures to `select!` by value, since a dropped receive loses bytes. End it with
//!   [`Socket::shutdown`].
#![allow(unsafe_code, reason = "fence 1: the kernel reads and writes memory that operations own")]

mod chaos;
mod fault;
mod in_flight;
mod operation;
mod probe;
mod read;
mod retry;
mod runtime;
mod scatter;
mod socket;
mod zero_copy;

pub use fault::{Step, fault_point};
pub use operation::{Batch, Gather, RecvBuffer, SharedFile, flush_range, no_op, write_all_at};
pub use probe::{RingError, probe};
pub use read::{ReadBuffer, read_ahead};
pub use retry::retry_transient;
pub use runtime::{RingTask, run_ring, spawn};
pub use scatter::{Scatter, ScatterList};
pub use socket::{Device, Listener, Socket, SocketOptions};
pub use zero_copy::{ZeroCopyMode, ZeroCopyRing, ZeroCopySender, ZeroCopyUsage};

#[cfg(test)]
mod tests;
