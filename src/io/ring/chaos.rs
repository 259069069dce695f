//! Random cancellation of a ring's operations, for tests ([`crate::io::fault`]).

/// Does nothing in release builds.
#[cfg(not(debug_assertions))]
pub(super) fn cancel_now_and_then() {}

/// Starts a task that cancels all pending operations of this thread's ring at random times, if `BT_FAST_CHAOS` is set.
#[cfg(debug_assertions)]
pub(super) fn cancel_now_and_then() {
    use super::operation::cancel_all;
    use crate::io::fault::chaos_pause;

    tokio_uring::spawn(async move {
        while let Some(pause) = chaos_pause() {
            tokio::time::sleep(pause).await;
            // An error means that no operation was pending.
            let _ = cancel_all().await;
        }
    });
}
