//! The event loop of one thread.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use super::probe::{EventLoopError, lock_event_loops};

/// Creates an event loop for one thread that is not an I/O thread.
pub fn event_loop() -> Result<Runtime, EventLoopError> {
    let _turn = lock_event_loops()?;
    Ok(build()?)
}

fn build() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Runs `main` to its end on this thread, with an event loop of its own. Its tasks end with it.
pub(in crate::io) fn run<F: Future>(main: impl FnOnce() -> F) -> Result<F::Output, EventLoopError> {
    let runtime = build()?;
    let tasks = LocalSet::new();
    let output = tasks.block_on(&runtime, async { main().await });
    // Sockets deregister from the event loop, so the tasks that own them end first.
    let _context = runtime.enter();
    drop(tasks);
    Ok(output)
}
