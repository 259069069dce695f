//! The driver without io_uring: non-blocking sockets on epoll, by the runtime of the crate tokio.

pub(super) mod acceptor;
pub(super) mod aio;
pub(super) mod file;
pub(super) mod probe;
pub(super) mod runtime;
pub(super) mod stream;
