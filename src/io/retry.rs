//! Retries of calls and operations that fail with a transient error, hidden from their callers.
//!
//! After `EINTR` and `EAGAIN` nothing has been done. The same holds for `ECANCELED`, which an operation gets for
//! example when its ring cannot start a worker. Product code does not cancel operations: it shuts their sockets down,
//! which ends them with another result. A partial operation is no error; its result is the part that was done.

use std::io;

use super::fault::chaos_interrupt;
use crate::base::limits::{RETRIES_MAX, RETRY_PAUSE};

/// Whether the failed call or operation has had no effect and should be repeated.
pub(super) fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::ECANCELED))
}

/// Repeats a call until its result is not a transient error, at most [`RETRIES_MAX`] times. Blocks the thread.
pub fn retry_transient<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..RETRIES_MAX {
        match chaos_interrupt().map_or_else(&mut call, Err) {
            Err(error) if is_transient(&error) => std::thread::sleep(RETRY_PAUSE),
            done => return done,
        }
    }
    call()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transient_errors_are_retried_and_others_returned() {
        let mut errnos = [libc::EINTR, libc::EAGAIN, libc::ECANCELED, libc::EIO].into_iter();
        let result = retry_transient(|| errnos.next().map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno))));
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EIO));
    }

    #[test]
    fn a_lasting_transient_error_is_returned_in_the_end() {
        let mut count = 0;
        let result: io::Result<()> = retry_transient(|| {
            count += 1;
            Err(io::Error::from_raw_os_error(libc::EAGAIN))
        });
        assert_eq!((result.unwrap_err().raw_os_error(), count), (Some(libc::EAGAIN), RETRIES_MAX + 1));
    }
}
