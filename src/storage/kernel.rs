//! Kernel features newer than Linux 5.4, the oldest kernel that we support: whether this process may use them. The
//! kernel is asked once, not its version, since filters of containers refuse calls that the kernel has.

use std::fs::File;
use std::io;
use std::sync::LazyLock;

use memmap2::{Advice, MmapOptions};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, ResolveFlags, memfd_create};

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
fn can_populate() -> bool {
    let populate = || -> io::Result<io::Result<()>> {
        let empty = File::from(memfd_create("bt-fast", MemfdFlags::CLOEXEC)?);
        // SAFETY: the map is never read, and no Rust reference into it is created.
        let map = unsafe { MmapOptions::new().len(1).map(&empty) }?;
        Ok(map.advise(Advice::PopulateRead))
    };
    // If the test itself fails, descriptors or memory are short, and the replacement would need them too.
    populate().map_or(true, |populated| populated.is_err_and(|error| error.raw_os_error() == Some(libc::EFAULT)))
}
