//! Checks whether an event loop on epoll can be set up, and explains why if not.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, epoll, eventfd};

/// An event loop cannot be set up. The message names the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum EventLoopError {
    #[error(
        "epoll: not available or refused ({0}): bt-fast needs Linux 5.4 or newer; a container may need a seccomp \
         profile that allows epoll_create1, epoll_ctl, epoll_wait and eventfd2"
    )]
    Refused(io::Error),
    #[error("epoll: {0}: raise the limit with 'ulimit -n'")]
    Descriptors(io::Error),
    #[error("epoll: {0}")]
    Other(io::Error),
}

impl From<io::Error> for EventLoopError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOSYS | libc::EPERM | libc::EACCES) => Self::Refused(error),
            Some(libc::EMFILE | libc::ENFILE) => Self::Descriptors(error),
            _ => Self::Other(error),
        }
    }
}

/// Waits until no other thread creates an event loop, and checks that the descriptors of one are free, without which
/// the crate tokio panics. The caller drops the guard when it has created its event loop.
pub(in crate::io) fn take_turn() -> Result<MutexGuard<'static, ()>, EventLoopError> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    probe()?;
    Ok(turn)
}

/// Opens all descriptors that an event loop needs.
pub(in crate::io) fn probe() -> Result<(), EventLoopError> {
    let events = || -> io::Result<_> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (sender, receiver) = UnixStream::pair()?;
        Ok((epoll.try_clone()?, epoll, wakeup, receiver.try_clone()?, receiver, sender))
    };
    drop(events()?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_gets_its_cause_and_remedy() {
        for (errno, remedy) in
            [(libc::ENOSYS, "Linux 5.4"), (libc::EPERM, "seccomp profile"), (libc::EMFILE, "ulimit -n")]
        {
            let text = EventLoopError::from(io::Error::from_raw_os_error(errno)).to_string();
            assert!(text.contains(remedy) && !text.contains('\n'), "{text}");
        }
        probe().unwrap();
    }
}
