//! Kernel features newer than Linux 5.4, the oldest kernel that we support: whether this process may use them. The
//! kernel is asked once, not its version, since filters of containers refuse calls that the kernel has.

use std::io;
use std::ptr;
use std::sync::LazyLock;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

/// A kernel feature for which there is a replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelFeature {
    /// `openat2`, of Linux 5.6.
    OpenBeneath,
    /// `MADV_POPULATE_READ`, of Linux 5.14.
    PopulateRead,
}

impl KernelFeature {
    pub const ALL: [Self; 2] = [Self::OpenBeneath, Self::PopulateRead];

    /// Whether this process may use the feature.
    pub fn is_available(self) -> bool {
        static OPEN_BENEATH: LazyLock<bool> = LazyLock::new(can_open_beneath);
        static POPULATE_READ: LazyLock<bool> = LazyLock::new(can_populate);
        match self {
            Self::OpenBeneath => *OPEN_BENEATH,
            Self::PopulateRead => *POPULATE_READ,
        }
    }

    /// The name of the feature, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenBeneath => "openat2",
            Self::PopulateRead => "MADV_POPULATE_READ",
        }
    }

    /// The version of Linux that introduced the feature, and its replacement.
    pub fn replacement(self) -> &'static str {
        match self {
            Self::OpenBeneath => "Linux 5.6: paths are opened one folder at a time",
            Self::PopulateRead => "Linux 5.14: content is made resident by copying a byte of each page",
        }
    }
}

/// `openat2` is missing if it fails where a plain open works. Filters written before Linux 5.6 answer with `EPERM`.
fn can_open_beneath() -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(CWD, "/", flags, Mode::empty(), ResolveFlags::empty()).is_ok()
        || rustix::fs::open("/", flags, Mode::empty()).is_err()
}

/// The kernel must report a page behind the end of a file. Emulators report success and do nothing.
///
/// Memory that is shared anonymously is a file of the kernel, which does not grow with its map. Unlike a file of
/// `memfd_create`, it needs no call that filters refuse.
fn can_populate() -> bool {
    let page = rustix::param::page_size();
    let (access, flags) = (libc::PROT_READ, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: the kernel chooses an address that is not in use.
    let file = unsafe { libc::mmap(ptr::null_mut(), page, access, flags, -1, 0) };
    if file == libc::MAP_FAILED {
        return false;
    }
    // SAFETY: only this function knows the map.
    let map = unsafe { libc::mremap(file, page, 2 * page, libc::MREMAP_MAYMOVE) };
    if map == libc::MAP_FAILED {
        // SAFETY: as above; the map was not moved.
        unsafe { libc::munmap(file, page) };
        return false;
    }
    // SAFETY: the range lies inside the map, and the call does not change content.
    let failed = unsafe { libc::madvise(map.wrapping_byte_add(page), page, libc::MADV_POPULATE_READ) } != 0;
    let error = io::Error::last_os_error();
    // SAFETY: as above; no reference into the map was created.
    unsafe { libc::munmap(map, 2 * page) };
    failed && error.raw_os_error() == Some(libc::EFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_all_features() {
        assert!(KernelFeature::ALL.into_iter().all(KernelFeature::is_available));
    }
}
