//! The io_uring driver, on the runtime of the crate tokio-uring.

mod chaos;
mod in_flight;
pub(super) mod operation;
pub(super) mod probe;
pub(super) mod read;
pub(super) mod runtime;
pub(super) mod zero_copy;
