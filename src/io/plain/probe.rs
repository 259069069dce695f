//! Checks whether an event loop on epoll can be set up, and explains why if not.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, epoll, eventfd};
use socket2::{MaybeUninitSlice, SockRef};

/// An event loop cannot be set up. The message names the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum EventLoopError {
    #[error(
        "epoll: not available or refused ({0}): bt-fast needs Linux 5.4 or newer; a container may need a seccomp \
         profile that allows epoll_create1, epoll_ctl, epoll_wait, eventfd2, sendmsg and recvmsg"
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
pub(in crate::io) fn lock_event_loops() -> Result<MutexGuard<'static, ()>, EventLoopError> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    probe()?;
    Ok(turn)
}

/// Opens all descriptors that an event loop needs, and makes each call that filters may refuse and that would otherwise
/// fail in the middle of a session.
pub(in crate::io) fn probe() -> Result<(), EventLoopError> {
    let events = || -> io::Result<_> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (sender, receiver) = UnixStream::pair()?;
        wait_without_time(&epoll)?;
        SockRef::from(&sender).send_vectored(&[IoSlice::new(&[0])])?;
        SockRef::from(&receiver).recv_vectored(&mut [MaybeUninitSlice::new(&mut [MaybeUninit::uninit()])])?;
        Ok((epoll.try_clone()?, epoll, wakeup, receiver.try_clone()?, receiver, sender))
    };
    drop(events()?);
    Ok(())
}

/// Polls for events once, by the call that event loops wait with.
fn wait_without_time(epoll: &OwnedFd) -> io::Result<()> {
    let mut events = [libc::epoll_event { events: 0, u64: 0 }];
    // SAFETY: the kernel writes at most one event, for which there is room.
    let count = unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), 1, 0) };
    if count < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
