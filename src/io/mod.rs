//! I/O of the engine's I/O threads: sockets and files, over one of two drivers.
//!
//! - [`Driver::Ring`]: io_uring. An operation owns its buffers and descriptors until its last completion, even when its
//!   future is dropped or its ring ends.
//! - [`Driver::Plain`]: non-blocking sockets on epoll, for kernels and containers that refuse io_uring. Its calls
//!   borrow memory and never wait in the kernel. Writes and syncs may wait, and belong on file threads; [`AsyncWrites`]
//!   owns the memory of direct writes until their completions.
//!
//! A session runs on one driver from start to end. Owns the unsafe contract with the kernel, and does not know
//! BitTorrent. Only this module depends on the drivers' crates.
//!
//! Rules for code on an I/O thread:
//! - The ring submits only when its thread is about to park. Yield with [`no_op`], not with a self-waking future, and
//!   do not loop over a channel without an operation.
//! - Do not pass one of these futures to `select!` by value, since a dropped receive loses bytes. End it with
//!   [`Socket::shutdown`].
#![allow(unsafe_code, reason = "fence 1: the kernel reads and writes memory that operations own")]

mod descriptors;
mod driver;
mod fault;
mod memory;
mod plain;
mod retry;
mod ring;
mod scatter;
mod socket;
mod thread_pool;
mod threads;

pub use descriptors::{Descriptors, initial_descriptor_limit, raise_descriptor_limit};
pub use driver::{
    ChosenDriver, Driver, DriverChoice, StartError, Task, no_op, run_thread, spawn, start_scoped, start_thread,
    start_workers,
};
pub use fault::{Step, fault_point};
pub use memory::{Batch, FlushStep, Gather, RecvBuffer, SharedFile};
pub use plain::acceptor::Acceptor;
pub use plain::aio::{AsyncContext, AsyncWrite, AsyncWrites};
pub use plain::file::{flush_range_blocking, write_all_at_blocking};
pub use plain::probe::EventLoopError;
pub use plain::runtime::event_loop;
pub use retry::retry_transient;
pub use ring::operation::{flush_range, write_all_at};
pub use ring::probe::{RingError, probe};
pub use ring::read::{ReadBuffer, read_ahead};
pub use ring::zero_copy::{ZeroCopyMode, ZeroCopyRing, ZeroCopySender, ZeroCopyUsage};
pub use scatter::{Scatter, ScatterList};
pub use socket::{Device, Listener, Socket, SocketOptions};
pub use thread_pool::ThreadPool;
pub use threads::{ThreadStart, prepare_threads};

#[cfg(test)]
mod tests;
