//! Maps of ranges of files that this program itself reads, and the guard that turns a lost page into an error.
//!
//! A page of a map is lost if another program truncates the file, or if the device cannot read it. The kernel then sends
//! SIGBUS to the thread that touches the page. The guard's handler knows the [`Windows`] of that thread: it puts zeros in
//! the place of the page and notes the loss, so that the reader finds its bytes to be void. Any other SIGBUS goes to the
//! handler that was there before.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd as _;
use std::ptr;
use std::sync::OnceLock;

use super::kernel::KernelFeature;
use crate::io::{Step, fault_point};

/// The address space of the windows of one thread, and the windows in it.
///
/// The space is reserved once and each window is mapped into it, so that the handler has one range to know. At most one
/// value exists per thread, and it stays there.
#[derive(Debug)]
pub struct Windows {
    space: *mut u8,
    len: usize,
    /// Bytes from the front of the space that are mapped.
    mapped_len: usize,
    _of_this_thread: PhantomData<*mut ()>,
}

/// The place of one window in [`Windows`].
#[derive(Debug, Clone, Copy)]
pub struct WindowPlace {
    begin: usize,
    len: usize,
}

/// The windows of a thread, for the handler.
struct Guarded {
    /// The addresses of the space; equal if there is none.
    start: Cell<usize>,
    end: Cell<usize>,
    /// Whether a page was lost since the windows were last cleared.
    lost: Cell<bool>,
}

thread_local! {
    // Constant and without a destructor, so that the handler's access is a plain load.
    static GUARDED: Guarded = const { Guarded { start: Cell::new(0), end: Cell::new(0), lost: Cell::new(false) } };
}

impl Windows {
    /// Reserves address space for windows of `len` bytes in total, with a page at each end of a window.
    ///
    /// Fails if the kernel cannot populate maps, if address space is short, and if this thread has windows already.
    pub fn reserve(len: usize) -> io::Result<Self> {
        if !KernelFeature::PopulateRead.is_available() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        install()?;
        if GUARDED.with(|guarded| guarded.end.get() != 0) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let len = len.next_multiple_of(rustix::param::page_size());
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: the kernel chooses an address that is not in use.
        let space = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
        if space == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        GUARDED.with(|guarded| {
            guarded.start.set(space.addr());
            guarded.end.set(space.addr() + len);
            guarded.lost.set(false);
        });
        Ok(Self { space: space.cast(), len, mapped_len: 0, _of_this_thread: PhantomData })
    }

    /// Maps `len` bytes of `file` from `offset` and makes them resident. May block on the disk.
    ///
    /// Fails with `EFAULT` if the file is shorter, with `EIO` if it cannot be read, and with
    /// [`io::ErrorKind::OutOfMemory`] if the space is full.
    pub fn map(&mut self, file: &File, offset: u64, len: usize) -> io::Result<WindowPlace> {
        let page = rustix::param::page_size();
        let start = offset - offset % page as u64;
        let begin = usize::try_from(offset - start).map_err(io::Error::other)?;
        let map_len = (begin + len).next_multiple_of(page);
        if map_len > self.len - self.mapped_len {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let start = libc::off_t::try_from(start).map_err(io::Error::other)?;
        fault_point(Step::Map)?;
        let address = self.space.wrapping_add(self.mapped_len).cast();
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        // SAFETY: the range lies inside the reserved space behind the windows, so that it replaces no map in use.
        let map = unsafe { libc::mmap(address, map_len, libc::PROT_READ, flags, file.as_raw_fd(), start) };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let place = WindowPlace { begin: self.mapped_len + begin, len };
        self.mapped_len += map_len;
        fault_point(Step::Read)?;
        // SAFETY: the range is the map that was just made, and the call does not change content.
        if unsafe { libc::madvise(address, map_len, libc::MADV_POPULATE_READ) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(place)
    }

    /// The bytes of a window.
    ///
    /// Another program may change them at any time, and a lost page reads as zeros. The caller may only hash or copy
    /// them, and asks [`Self::has_lost`] afterwards.
    ///
    /// # Panics
    /// If `place` is not one of the windows that are mapped now.
    pub fn bytes(&self, place: WindowPlace) -> &[u8] {
        assert!(place.begin + place.len <= self.mapped_len, "a window that is not mapped");
        // SAFETY: the range is mapped until `clear`, which needs exclusive access. It stays readable: the handler
        // replaces lost pages. Their content is no part of any invariant: hashing reads each byte once, without a
        // decision that depends on it.
        unsafe { std::slice::from_raw_parts(self.space.wrapping_add(place.begin), place.len) }
    }

    /// Whether a page was lost since the last [`Self::clear`]: what was read of the windows is void.
    pub fn has_lost(&self) -> bool {
        GUARDED.with(|guarded| guarded.lost.get())
    }

    /// Unmaps all windows.
    pub fn clear(&mut self) {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        if self.mapped_len > 0 {
            // SAFETY: the range is that of the windows, and no reference into them exists while `self` is borrowed
            // exclusively.
            let cleared = unsafe { libc::mmap(self.space.cast(), self.mapped_len, libc::PROT_NONE, flags, -1, 0) };
            // If the kernel has no memory for that, the pages stay mapped until a later window replaces them.
            let _ = cleared;
        }
        self.mapped_len = 0;
        GUARDED.with(|guarded| guarded.lost.set(false));
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        GUARDED.with(|guarded| {
            guarded.start.set(0);
            guarded.end.set(0);
        });
        // SAFETY: the space was reserved by this value, and no reference into it outlives the value.
        unsafe { libc::munmap(self.space.cast(), self.len) };
    }
}

/// The action for SIGBUS before the guard's.
static EARLIER: OnceLock<libc::sigaction> = OnceLock::new();

/// Installs the handler, once per process.
fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        let mut earlier = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: `earlier` has room for an action, which the kernel fills on success.
        let earlier = unsafe {
            if libc::sigaction(libc::SIGBUS, ptr::null(), earlier.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL));
            }
            earlier.assume_init()
        };
        let _ = EARLIER.set(earlier);
        // SAFETY: an all-zero action is valid.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handle_bus_error as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        // SAFETY: the handler has the signature of SA_SIGINFO and only does what a handler may.
        match unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)),
        }
    });
    installed.map_err(io::Error::from_raw_os_error)
}

/// Replaces the rest of the space by zeros if the address lies in this thread's windows. It only loads and stores cells
/// of its thread and makes system calls.
extern "C" fn handle_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid description of the signal.
    let address = unsafe { (*info).si_addr() };
    let end = GUARDED.with(|guarded| {
        let is_inside = (guarded.start.get()..guarded.end.get()).contains(&address.addr());
        is_inside.then(|| guarded.end.get())
    });
    // SAFETY: the location of this thread's `errno`, which the interrupted code may be about to read.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let saved = unsafe { *errno };
    if let Some(end) = end {
        // The rest of the space at once, so that a long truncated range is one signal. All of it is void in any case.
        let start = address.map_addr(|address| address - address % rustix::param::page_size());
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: the range lies inside the space of this thread's windows, of which nothing depends on the content.
        let zeros = unsafe { libc::mmap(start, end - start.addr(), libc::PROT_READ, flags, -1, 0) };
        if zeros != libc::MAP_FAILED {
            GUARDED.with(|guarded| guarded.lost.set(true));
            // SAFETY: as above.
            unsafe { *errno = saved };
            return;
        }
    }
    pass_on(signal, info, context);
    // SAFETY: as above.
    unsafe { *errno = saved };
}

/// Has the earlier action handle a signal that is not about windows.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let earlier = EARLIER.get().filter(|earlier| ![libc::SIG_DFL, libc::SIG_IGN].contains(&earlier.sa_sigaction));
    match earlier {
        Some(earlier) if earlier.sa_flags & libc::SA_SIGINFO != 0 => {
            type Action = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            // SAFETY: the flag says that the address is that of a handler with this signature.
            let handle = unsafe { std::mem::transmute::<usize, Action>(earlier.sa_sigaction) };
            handle(signal, info, context);
        }
        Some(earlier) => {
            // SAFETY: without the flag it is a handler with this signature.
            let handle = unsafe { std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(earlier.sa_sigaction) };
            handle(signal);
        }
        // The instruction runs again and ends the process as it would have without the guard.
        None => {
            // SAFETY: the default action is valid.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
