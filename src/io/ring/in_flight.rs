//! Counts the pending operations of this thread's ring, and ends them with the ring.
//!
//! The driver frees the memory of an operation that no task awaits before it cancels the operation. Therefore a ring
//! ends in this order: no new operation is submitted, all pending ones are cancelled, and the driver is dropped only
//! when all are complete.

use std::cell::Cell;
use std::future::{Future, pending};
use std::marker::PhantomData;

use crate::base::limits::{RETRY_PAUSE, RING_END_TIMEOUT};

thread_local! {
    static STATE: State = const { State { count: Cell::new(0), ends: Cell::new(false) } };
}

struct State {
    count: Cell<usize>,
    ends: Cell<bool>,
}

/// Part of what an operation owns: counts it as pending until its last completion.
#[derive(Debug)]
pub(super) struct InFlight(PhantomData<*const ()>);

impl InFlight {
    pub(super) fn begin() -> Self {
        STATE.with(|state| state.count.set(state.count.get() + 1));
        Self(PhantomData)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        STATE.with(|state| state.count.set(state.count.get().saturating_sub(1)));
    }
}

/// Called when a ring starts on this thread. Operations that an earlier ring could not end are not counted.
pub(super) fn begin_ring() {
    STATE.with(|state| {
        state.count.set(0);
        state.ends.set(false);
    });
}

/// Never returns once the ring is ending, so that its tasks stop. Returns at once otherwise.
pub(super) async fn unless_ring_ends() {
    if STATE.with(|state| state.ends.get()) {
        pending().await
    }
}

/// Ends all pending operations of this thread's ring by calls of `cancel_all`. Returns false if some have not completed
/// within [`RING_END_TIMEOUT`].
pub(super) async fn end_ring<F: Future>(cancel_all: impl Fn() -> F) -> bool {
    STATE.with(|state| state.ends.set(true));
    let ended = async {
        while STATE.with(|state| state.count.get()) > 0 {
            // An operation that cannot be cancelled completes by itself.
            let _ = cancel_all().await;
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    };
    tokio::time::timeout(RING_END_TIMEOUT, ended).await.is_ok()
}
