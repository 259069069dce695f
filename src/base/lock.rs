//! Locking without regard to poisoning.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`, poisoned or not: a thread that panics must not take down every thread that shares data with it. The
/// data under the lock must therefore be valid between any two statements of the code that changes it.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn a_panic_of_another_thread_does_not_poison() {
        let value = Arc::new(Mutex::new(1));
        let held = Arc::clone(&value);
        let panicked = thread::spawn(move || {
            *lock(&held) = 2;
            let _guard = lock(&held);
            panic!("with the lock held");
        });
        assert!(panicked.join().is_err());
        assert!(value.is_poisoned());
        assert_eq!(*lock(&value), 2);
    }
}
