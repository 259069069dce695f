//! Operations of a ring that are cancelled now and then, where the environment asks for it ([`super::fault`]).

/// Cancels what is under way on this thread's ring, for as long as it runs.
#[cfg(not(debug_assertions))]
pub(super) fn cancel_now_and_then() {}

/// Cancels what is under way on this thread's ring, for as long as it runs.
#[cfg(debug_assertions)]
pub(super) fn cancel_now_and_then() {
    use super::fault::chaos_pause;
    use super::operation::cancel_all;

    let Some(mut pause) = chaos_pause() else { return };
    tokio_uring::spawn(async move {
        loop {
            tokio::time::sleep(pause).await;
            // That nothing was under way is no fault.
            let _ = cancel_all().await;
            pause = chaos_pause().unwrap_or(pause);
        }
    });
}
