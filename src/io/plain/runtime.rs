//! The event loop of one I/O thread.

use std::future::Future;

use tokio::runtime::Builder;
use tokio::task::LocalSet;

use super::probe::EventLoopError;

/// Runs `main` to its end on this thread, with an event loop of its own. Its tasks end with it.
pub(in crate::io) fn run<F: Future>(main: impl FnOnce() -> F) -> Result<F::Output, EventLoopError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    let output = tasks.block_on(&runtime, async { main().await });
    // Sockets deregister from the event loop, so the tasks that own them end first.
    let _context = runtime.enter();
    drop(tasks);
    Ok(output)
}
