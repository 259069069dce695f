//! Opens paths relative to a folder with limits on symbolic links: with `openat2`, or one folder at a time.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::kernel::KernelFeature;
use crate::base::limits;

/// Opens a path beneath `folder` that contains no symbolic link, even if another program creates links at the same
/// time. Fails with `ELOOP` at a symbolic link, and with `EXDEV` if the path leaves the folder.
pub(super) fn open_beneath(folder: BorrowedFd<'_>, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC;
    if KernelFeature::OpenBeneath.is_available() {
        rustix::fs::openat2(folder, path, flags, mode_for(flags), resolve)
    } else {
        walk(folder, path, flags, Links::Refused)
    }
}

/// Opens a path relative to `folder` and follows symbolic links, but no link of `/proc` to an open file of a process:
/// `openat2` refuses it, and the walk follows its text.
pub(super) fn open_following(folder: BorrowedFd<'_>, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    if KernelFeature::OpenBeneath.is_available() {
        rustix::fs::openat2(folder, path, flags, mode_for(flags), ResolveFlags::NO_MAGICLINKS)
    } else {
        walk(folder, path, flags, Links::Followed)
    }
}

/// The kernel refuses a mode without `CREATE`.
fn mode_for(flags: OFlags) -> Mode {
    if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o666) } else { Mode::empty() }
}

/// The symbolic links in a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    /// They end the walk, and so does leaving the folder.
    Refused,
    Followed,
}

/// Opens a path one element at a time, each relative to the folder before it.
fn walk(folder: BorrowedFd<'_>, path: &Path, flags: OFlags, links: Links) -> rustix::io::Result<OwnedFd> {
    let mut elements = elements_of(path);
    let mut parent: Option<OwnedFd> = None;
    let mut links_left = limits::SYMLINKS_MAX;
    while let Some(element) = elements.pop_front() {
        let leaves_folder = element == "/" || element == "..";
        if leaves_folder && links == Links::Refused {
            return Err(Errno::XDEV);
        }
        let at = parent.as_ref().map_or(folder, |parent| parent.as_fd());
        let is_last = elements.is_empty();
        let wanted = if is_last { flags } else { OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC };
        match open_element(at, &element, wanted) {
            Ok(opened) if is_last => return Ok(opened),
            Ok(opened) => parent = Some(opened),
            Err(Errno::LOOP) if links == Links::Followed => {
                links_left = links_left.checked_sub(1).ok_or(Errno::LOOP)?;
                let target = rustix::fs::readlinkat(at, &element, Vec::new())?;
                let target = elements_of(Path::new(&OsString::from_vec(target.into_bytes())));
                target.into_iter().rev().for_each(|element| elements.push_front(element));
            }
            Err(error) => return Err(error),
        }
    }
    Err(Errno::NOENT)
}

/// The elements of a path, the first of which may be `/`.
fn elements_of(path: &Path) -> VecDeque<OsString> {
    path.components().map(|component: Component<'_>| component.as_os_str().to_owned()).collect()
}

/// Opens one element. Fails with `ELOOP` if it is a symbolic link.
fn open_element(at: BorrowedFd<'_>, element: &OsStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let is_link = |mode| FileType::from_raw_mode(mode).is_symlink();
    match rustix::fs::openat(at, element, flags | OFlags::NOFOLLOW, mode_for(flags)) {
        // The link itself was opened.
        Ok(opened) if flags.contains(OFlags::PATH) && is_link(rustix::fs::fstat(&opened)?.st_mode) => Err(Errno::LOOP),
        // A link is not a folder either.
        Err(Errno::NOTDIR) if flags.contains(OFlags::DIRECTORY) => {
            let found = rustix::fs::statat(at, element, AtFlags::SYMLINK_NOFOLLOW);
            Err(if found.is_ok_and(|found| is_link(found.st_mode)) { Errno::LOOP } else { Errno::NOTDIR })
        }
        opened => opened,
    }
}

#[cfg(test)]
#[path = "beneath_tests.rs"]
mod tests;
