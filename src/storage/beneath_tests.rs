use std::fs::{create_dir_all, read, write};
use std::os::unix::fs::{MetadataExt as _, symlink};

use super::*;

const READ: OFlags = OFlags::RDONLY;
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
const LOCK: OFlags = OFlags::RDWR.union(OFlags::CREATE);
const NEW: OFlags = LOCK.union(OFlags::EXCL);

type Opened = Result<u64, Errno>;

/// Opens a path with `openat2` and with the walk. Returns both results, with the inode number of the opened file.
fn both(folder: &Path, path: &str, flags: OFlags, links: Links) -> [Opened; 2] {
    let folder = rustix::fs::open(folder, FOLDER, Mode::empty()).unwrap();
    let resolve = match links {
        Links::Refused => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        Links::Followed => ResolveFlags::NO_MAGICLINKS,
    };
    let by_kernel = rustix::fs::openat2(&folder, path, flags | OFlags::CLOEXEC, mode_for(flags), resolve);
    let walked = walk(folder.as_fd(), Path::new(path), flags | OFlags::CLOEXEC, links);
    [by_kernel, walked].map(|opened| Ok(rustix::fs::fstat(opened?)?.st_ino))
}

fn content() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let at = |path| root.path().join(path);
    create_dir_all(at("in/d/e")).unwrap();
    create_dir_all(at("out")).unwrap();
    write(at("in/d/e/f"), b"inside").unwrap();
    write(at("out/f"), b"outside").unwrap();
    for (target, link) in [("../out", "in/up"), ("d", "in/same"), ("loop", "in/loop"), ("gone", "in/dangling")] {
        symlink(target, at(link)).unwrap();
    }
    symlink("../out/f", at("in/file")).unwrap();
    symlink(at("out/f"), at("in/absolute")).unwrap();
    root
}

#[test]
fn a_walk_opens_and_refuses_like_openat2() {
    let root = content();
    let folder = root.path().join("in");
    let paths = [
        ".",
        "d",
        "d/e/f",
        "d/e/g",
        "g/f",
        "d/e/f/g",
        "up",
        "up/f",
        "same/e/f",
        "loop",
        "loop/f",
        "dangling",
        "file",
        "absolute",
        "/",
        "/etc/passwd",
        "..",
        "../out/f",
        "",
    ];
    for path in paths {
        for flags in [READ, OFlags::PATH, FOLDER, READ | OFlags::DIRECTORY, OFlags::RDWR, READ | OFlags::NONBLOCK] {
            let [by_kernel, walked] = both(&folder, path, flags, Links::Refused);
            assert_eq!(walked, by_kernel, "{path} {flags:?}");
            let [by_kernel, walked] = both(&folder, path, flags, Links::Followed);
            assert_eq!(walked, by_kernel, "followed: {path} {flags:?}");
        }
    }
}

#[test]
fn a_walk_creates_only_beneath_the_folder() {
    let root = content();
    let folder = root.path().join("in");
    for path in ["dangling", "file", "up/new", "../new", "d/e/f", "loop", "same/new", "/tmp/new"] {
        for flags in [LOCK, NEW] {
            let [by_kernel, walked] = both(&folder, path, flags, Links::Refused);
            assert_eq!(walked, by_kernel, "{path} {flags:?}");
            assert!(walked.is_err() || path == "d/e/f", "{path} {flags:?}");
        }
    }
    let opened = rustix::fs::open(&folder, FOLDER, Mode::empty()).unwrap();
    let created = walk(opened.as_fd(), Path::new("d/new"), NEW, Links::Refused).unwrap();
    let named = folder.join("d/new").metadata().unwrap();
    assert_eq!(rustix::fs::fstat(created).unwrap().st_ino, named.ino());
    assert!(!folder.join("gone").exists() && !root.path().join("new").exists());
    assert_eq!(read(root.path().join("out/f")).unwrap(), b"outside");
    assert_eq!(root.path().join("out").read_dir().unwrap().count(), 1);
}

#[test]
fn links_of_proc_lead_to_no_open_file() {
    let root = content();
    let removed = tempfile::tempfile().unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&removed);
    symlink(format!("/proc/self/fd/{number}"), root.path().join("in/magic")).unwrap();
    let [by_kernel, walked] = both(&root.path().join("in"), "magic", READ, Links::Followed);
    assert!(by_kernel.is_err() && walked.is_err(), "{by_kernel:?} {walked:?}");
}
