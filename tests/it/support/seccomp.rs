//! Kernels and containers that refuse system calls: seccomp filters, loaded by bubblewrap.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Seek as _, Write as _},
    ops::RangeInclusive,
    os::fd::OwnedFd,
};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// System calls since Linux 5.4 have the same number on every architecture. These are newer than 5.4, up to numbers
/// that no kernel has.
const NEWER_THAN_5_4: RangeInclusive<i64> = libc::SYS_close_range..=600;
const NEWER_THAN_5_10: RangeInclusive<i64> = libc::SYS_epoll_pwait2..=600;
const RING: [i64; 3] = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
/// Advice for `madvise` that Linux 5.14 introduced.
const POPULATE: [libc::c_int; 2] = [libc::MADV_POPULATE_READ, libc::MADV_POPULATE_WRITE];
/// Linux's `PR_GET_AUXV`.
const GET_AUXV: libc::c_int = 0x4155_5856;
/// Calls that Docker's default profile refuses to a container without capabilities, as far as every architecture has
/// them.
const REFUSED_BY_DOCKER: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_get_mempolicy,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_set_mempolicy,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// A kernel or container that the tests imitate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Environment {
    /// Refuses only io_uring, with this error.
    NoRing(i32),
    /// Docker's default profile since Engine 25.
    Docker,
    /// Docker's default profile before Engine 20.10.10: calls that it does not know fail with `EPERM`.
    OldDocker,
    /// Linux 5.4, apart from operations of io_uring.
    Linux54,
    /// Linux 5.4 without io_uring.
    Linux54WithoutRing,
    /// Linux 5.10, apart from operations of io_uring.
    Linux510,
    /// Linux 5.10 in a container that refuses files in memory.
    NoMemoryFiles,
    /// Refuses io_uring and asynchronous I/O.
    NoAsyncWrites,
    /// Refuses io_uring, and asynchronous I/O when something is submitted.
    NoSubmission,
    /// Refuses only to accept connections, except by io_uring.
    NoAccept,
}

impl Environment {
    /// Those in which every command works.
    pub(crate) const ALL: [Self; 10] = [
        Self::NoRing(libc::EPERM),
        Self::NoRing(libc::ENOSYS),
        Self::Docker,
        Self::OldDocker,
        Self::Linux54,
        Self::Linux54WithoutRing,
        Self::Linux510,
        Self::NoMemoryFiles,
        Self::NoAsyncWrites,
        Self::NoSubmission,
    ];

    /// The filters of this environment, each in a file that bubblewrap can read as a descriptor.
    pub(crate) fn filters(self) -> Vec<OwnedFd> {
        match self {
            Self::NoRing(errno) => vec![refuse(RING, errno)],
            Self::Docker => {
                vec![refuse(REFUSED_BY_DOCKER.iter().copied(), libc::EPERM), refuse([libc::SYS_clone3], libc::ENOSYS)]
            }
            Self::OldDocker => vec![refuse(NEWER_THAN_5_4.chain([libc::SYS_clone3]), libc::EPERM)],
            Self::Linux54 => [refuse(NEWER_THAN_5_4, libc::ENOSYS)].into_iter().chain(refuse_options()).collect(),
            Self::Linux54WithoutRing => {
                [refuse(NEWER_THAN_5_4.chain(RING), libc::ENOSYS)].into_iter().chain(refuse_options()).collect()
            }
            Self::Linux510 => [refuse(NEWER_THAN_5_10, libc::ENOSYS)].into_iter().chain(refuse_options()).collect(),
            Self::NoMemoryFiles => {
                [refuse([libc::SYS_memfd_create], libc::EPERM)].into_iter().chain(Self::Linux510.filters()).collect()
            }
            Self::NoAsyncWrites => vec![refuse(RING.into_iter().chain([libc::SYS_io_setup]), libc::EPERM)],
            Self::NoSubmission => vec![refuse(RING, libc::EPERM), refuse_submission()],
            Self::NoAccept => vec![refuse([libc::SYS_accept, libc::SYS_accept4], libc::EPERM)],
        }
    }

    pub(crate) fn has_ring(self) -> bool {
        matches!(self, Self::OldDocker | Self::Linux54 | Self::Linux510 | Self::NoMemoryFiles | Self::NoAccept)
    }
}

/// Makes these system calls fail.
fn refuse(calls: impl IntoIterator<Item = i64>, errno: i32) -> OwnedFd {
    filter(calls.into_iter().map(|call| (call, Vec::new())).collect(), errno)
}

/// Makes `madvise` fail as on kernels before Linux 5.14, and `prctl` as on kernels before 6.4.
fn refuse_options() -> [OwnedFd; 2] {
    let rule = |argument, option: libc::c_int| {
        let option = u64::try_from(option).unwrap();
        let is_option = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, option).unwrap();
        SeccompRule::new(vec![is_option]).unwrap()
    };
    let populate = POPULATE.map(|advice| rule(2, advice));
    [(libc::SYS_madvise, populate.into()), (libc::SYS_prctl, vec![rule(0, GET_AUXV)])]
        .map(|refused| filter([refused].into(), libc::EINVAL))
}

/// Makes `io_submit` fail unless it submits nothing.
fn refuse_submission() -> OwnedFd {
    let is_any = SeccompCondition::new(1, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0).unwrap();
    filter([(libc::SYS_io_submit, vec![SeccompRule::new(vec![is_any]).unwrap()])].into(), libc::EPERM)
}

/// Compiles a filter and writes it to a file in memory.
fn filter(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> OwnedFd {
    let refuse = SeccompAction::Errno(u32::try_from(errno).unwrap());
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    let mut file = File::from(rustix::fs::memfd_create("filter", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    for instruction in program {
        file.write_all(&instruction.code.to_ne_bytes()).unwrap();
        file.write_all(&[instruction.jt, instruction.jf]).unwrap();
        file.write_all(&instruction.k.to_ne_bytes()).unwrap();
    }
    file.rewind().unwrap();
    file.into()
}
