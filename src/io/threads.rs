//! Threads under container profiles that are older than `clone3`, and under a limit of address space.
//!
//! The C library starts a thread with `clone3`, and with `clone` only if the kernel answers `ENOSYS`. Docker before
//! 20.10.10 answers `EPERM`, so that no thread starts. Of several filters that refuse a call the newest one chooses the
//! error (seccomp(2)): one of our own answers `ENOSYS`.

use std::io;
use std::sync::LazyLock;

use rustix::process::{Resource, getrlimit};

/// How the C library starts threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadStart {
    /// With `clone3`.
    Unchanged,
    /// With `clone`, since the kernel or a filter answers that `clone3` does not exist.
    Clone3Missing,
    /// With `clone`, since a filter of ours hides `clone3`. Programs that this process runs gain no privileges from
    /// their files (`PR_SET_NO_NEW_PRIVS`).
    Clone3Hidden,
}

/// Makes sure that threads can start, and that their heaps fit. Must be called before the first thread starts. Later
/// calls return the same.
pub fn prepare_threads() -> ThreadStart {
    static START: LazyLock<ThreadStart> = LazyLock::new(|| {
        if getrlimit(Resource::As).current.is_some() {
            share_heap();
        }
        match clone3_error() {
            Some(libc::ENOSYS) => ThreadStart::Clone3Missing,
            Some(libc::EPERM) if hide_clone3().is_ok() => ThreadStart::Clone3Hidden,
            _ => ThreadStart::Unchanged,
        }
    });
    *START
}

/// Has all threads use one heap: the C library otherwise reserves 64 MiB of address space for the heap of each.
fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes no pointer, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

fn clone3_error() -> Option<i32> {
    // SAFETY: without arguments the kernel creates nothing and answers EINVAL.
    let result = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<libc::c_void>(), 0) };
    if result == -1 { io::Error::last_os_error().raw_os_error() } else { None }
}

/// Loads a filter that answers `clone3` with `ENOSYS` and allows all other calls.
fn hide_clone3() -> io::Result<()> {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let instruction = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let number = u32::try_from(libc::SYS_clone3).map_err(io::Error::other)?;
    let errno = libc::ENOSYS.unsigned_abs();
    let mut program = [
        // The number of the call is the first field of its description.
        instruction(LOAD, 0, 0),
        instruction(JUMP_IF_EQUAL, 1, number),
        instruction(RETURN, 0, libc::SECCOMP_RET_ERRNO | errno),
        instruction(RETURN, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    let (set, none): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: the call takes no pointer.
    let failed = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, set, none, none, none) } != 0;
    // SAFETY: the kernel copies the program, which outlives the call.
    let failed = failed
        || unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}
