//! Ends of the process where a test wants them. In release builds there is nothing of it.
//!
//! A program that `BT_FAST_KILL_AT=N` starts is killed right before its step number N, counted from 0 over all threads:
//! tests go through every N until a run is untouched. A step is one call that changes what a crash leaves behind.

use std::io;

/// What is about to be done to a file or a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Write,
    Sync,
    Rename,
}

/// A step is about to be made.
#[cfg(not(debug_assertions))]
#[inline]
pub fn reach(_step: Step) -> io::Result<()> {
    Ok(())
}

/// A step is about to be made. Does not return where the process is to end.
#[cfg(debug_assertions)]
pub fn reach(step: Step) -> io::Result<()> {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static KILL_AT: OnceLock<Option<u64>> = OnceLock::new();
    static STEPS: AtomicU64 = AtomicU64::new(0);

    let kill_at = KILL_AT.get_or_init(|| std::env::var("BT_FAST_KILL_AT").ok()?.parse().ok());
    if kill_at.is_some_and(|kill_at| STEPS.fetch_add(1, Ordering::Relaxed) == kill_at) {
        tracing::debug!("killed before a {step:?}");
        // Not to be caught, and nothing is put in order.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::thread::park();
    }
    Ok(())
}
