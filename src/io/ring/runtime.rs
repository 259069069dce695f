//! The runtime of one ring thread.

use std::future::Future;
use std::mem::ManuallyDrop;

use super::chaos::cancel_now_and_then;
use super::in_flight::{begin_ring, end_ring};
use super::operation::cancel_all;
use super::probe::{RingError, set_kind};

/// The number of submission entries of a ring. There are eight times as many completion entries.
const ENTRIES: u32 = 1024;

/// Runs `main` to its end on this thread, with a ring of its own.
///
/// Afterwards, pending operations are cancelled and awaited. The memory of operations that do not end in time is
/// leaked.
pub(in crate::io) fn run<F: Future>(main: impl FnOnce() -> F) -> Result<F::Output, RingError> {
    run_of(ENTRIES, ENTRIES * 8, main)
}

/// [`run`] with a given number of submission and completion entries.
pub(in crate::io) fn run_of<F: Future>(
    submissions: u32,
    completions: u32,
    main: impl FnOnce() -> F,
) -> Result<F::Output, RingError> {
    let mut ring = tokio_uring::uring_builder();
    set_kind(&mut ring);
    ring.setup_cqsize(completions);
    let mut builder = tokio_uring::builder();
    builder.entries(submissions).uring_builder(&ring);
    // Not dropped while operations are pending, not even after a panic: the driver would free their memory.
    let runtime = ManuallyDrop::new(tokio_uring::Runtime::new(&builder)?);
    begin_ring();
    let (output, has_ended) = runtime.block_on(async {
        cancel_now_and_then();
        let output = main().await;
        (output, end_ring(cancel_all).await)
    });
    if has_ended {
        drop(ManuallyDrop::into_inner(runtime));
    }
    Ok(output)
}
