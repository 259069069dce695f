//! Failures that pass: what the kernel interrupted, or gave up unasked, is done again here, so that no caller need know of it.
//!
//! `EINTR` and `EAGAIN` say that nothing was done. So does `ECANCELED`, which an operation gets for instance when its ring can
//! start no worker: nobody here cancels one but by shutting its socket down, which is told otherwise. What was done of
//! an operation in part is its result.

use std::io;

use super::fault::chaos_interrupt;
use crate::base::limits::{RETRIES_MAX, RETRY_PAUSE};

pub(super) fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::ECANCELED))
}

/// Makes a call until it does anything else than fail in passing. Blocks its thread.
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
    fn what_passes_is_tried_again_and_what_does_not_is_told() {
        let mut errnos = [libc::EINTR, libc::EAGAIN, libc::ECANCELED, libc::EIO].into_iter();
        let told = retry_transient(|| errnos.next().map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno))));
        assert_eq!(told.unwrap_err().raw_os_error(), Some(libc::EIO));
    }

    #[test]
    fn what_never_passes_is_told_in_the_end() {
        let mut count = 0;
        let told: io::Result<()> = retry_transient(|| {
            count += 1;
            Err(io::Error::from_raw_os_error(libc::EAGAIN))
        });
        assert_eq!((told.unwrap_err().raw_os_error(), count), (Some(libc::EAGAIN), RETRIES_MAX + 1));
    }
}
