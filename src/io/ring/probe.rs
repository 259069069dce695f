//! Checks whether io_uring is usable, and explains why if not.

use io_uring_06::{IoUring, Probe, opcode};

/// A ring cannot be set up. The message names the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    #[error(
        "io_uring: not available in this kernel ({0}): a ring needs Linux 6.1 or newer; a container may need a seccomp \
         profile that allows io_uring"
    )]
    NotThere(std::io::Error),
    #[error(
        "io_uring: refused ({0}): allow it with 'sysctl kernel.io_uring_disabled=0', or with a seccomp profile that \
         permits io_uring_setup, io_uring_enter and io_uring_register"
    )]
    Refused(std::io::Error),
    #[error("io_uring: not enough locked memory ({0}): raise the limit with 'ulimit -l'")]
    LockedMemory(std::io::Error),
    #[error("io_uring: {0}: raise the limit with 'ulimit -n'")]
    Descriptors(std::io::Error),
    #[error("io_uring: this kernel lacks the operation {0}: a ring needs Linux 6.1 or newer")]
    Operation(&'static str),
    #[error("io_uring: this kernel's is too old ({0}): a ring needs Linux 6.1 or newer")]
    TooOld(std::io::Error),
    #[error(
        "io_uring: the kernel starts no worker thread ({0}): raise the limit on processes ('ulimit -u', or pids.max of \
         the container), or give --io plain"
    )]
    Worker(std::io::Error),
    #[error("io_uring: {0}")]
    Other(std::io::Error),
}

impl From<std::io::Error> for RingError {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOSYS) => Self::NotThere(error),
            Some(libc::EPERM | libc::EACCES) => Self::Refused(error),
            Some(libc::ENOMEM) => Self::LockedMemory(error),
            Some(libc::EMFILE | libc::ENFILE) => Self::Descriptors(error),
            Some(libc::EINVAL) => Self::TooOld(error),
            _ => Self::Other(error),
        }
    }
}

/// Requests the kind of ring that an I/O thread has.
pub(in crate::io) fn set_kind(builder: &mut io_uring_06::Builder) {
    // DEFER_TASKRUN would save interrupts, but with it the first operation of this driver never completes.
    builder.setup_single_issuer().setup_coop_taskrun().setup_submit_all().setup_clamp();
}

/// Sets up a small ring and checks that the kernel supports all operations that bt-fast uses.
pub fn probe() -> Result<(), RingError> {
    let mut builder = IoUring::builder();
    set_kind(&mut builder);
    let mut ring = builder.build(4)?;
    // Some filters permit the setup of a ring and refuse its use.
    // SAFETY: the entry contains no pointer.
    unsafe { ring.submission().push(&opcode::Nop::new().build()) }.map_err(std::io::Error::other)?;
    ring.submit_and_wait(1)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [
        ("accept", opcode::Accept::CODE),
        ("connect", opcode::Connect::CODE),
        ("recv", opcode::Recv::CODE),
        ("sendmsg", opcode::SendMsg::CODE),
        ("writev", opcode::Writev::CODE),
        ("sync_file_range", opcode::SyncFileRange::CODE),
    ];
    match needed.iter().find(|(_, code)| !probe.is_supported(*code)) {
        Some((name, _)) => Err(RingError::Operation(name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_gets_its_cause_and_remedy() {
        for (errno, remedy) in [
            (libc::ENOSYS, "Linux 6.1"),
            (libc::EINVAL, "Linux 6.1"),
            (libc::EPERM, "kernel.io_uring_disabled=0"),
            (libc::ENOMEM, "ulimit -l"),
            (libc::EMFILE, "ulimit -n"),
        ] {
            let text = RingError::from(std::io::Error::from_raw_os_error(errno)).to_string();
            assert!(text.contains(remedy) && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn this_machine_supports_the_operations() {
        probe().unwrap();
    }
}
