//! How many operations the kernel has of this thread's ring, and how they come to an end with it.
//!
//! The driver gives the memory of operations that no task waits for back before it cancels them. So a ring ends in this order:
//! nothing is begun any more, what is under way is cancelled, and only when all of it is complete the driver goes.

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

/// Goes with what an operation owns: counts it until the kernel is done with it.
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

/// A ring begins on this thread. What an earlier one could not bring to an end is not counted any more.
pub(super) fn begin_ring() {
    STATE.with(|state| {
        state.count.set(0);
        state.ends.set(false);
    });
}

/// Waits for ever where the ring ends: its tasks go no further.
pub(super) async fn unless_ring_ends() {
    if STATE.with(|state| state.ends.get()) {
        pending().await
    }
}

/// Ends all operations of this thread's ring, which `cancel_all` asks for; false when the kernel has not let go of all in time.
pub(super) async fn end_ring<F: Future>(cancel_all: impl Fn() -> F) -> bool {
    STATE.with(|state| state.ends.set(true));
    let ended = async {
        while STATE.with(|state| state.count.get()) > 0 {
            // What can't be cancelled ends by itself.
            let _ = cancel_all().await;
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    };
    tokio::time::timeout(RING_END_TIMEOUT, ended).await.is_ok()
}
