#![allow(clippy::disallowed_methods, reason = "a bound of the test's time")]

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;

fn page() -> usize {
    rustix::param::page_size()
}

/// A file of `page_count` pages, none of which has a zero.
fn file(page_count: usize) -> (File, Vec<u8>) {
    let content: Vec<u8> = (0..page_count * page()).map(|at| u8::try_from(at % 251).unwrap() + 1).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content).unwrap();
    (file, content)
}

#[test]
fn windows_show_their_ranges_until_they_are_cleared() {
    let (file, content) = file(9);
    let mut windows = Windows::reserve(16 * page()).unwrap();
    for begin in [0, 1, page() - 1, 3 * page()] {
        let first = windows.map(&file, begin as u64, 2 * page()).unwrap();
        let second = windows.map(&file, 7 * page() as u64, 1).unwrap();
        assert_eq!(windows.bytes(first), &content[begin..][..2 * page()]);
        assert_eq!(windows.bytes(second), &content[7 * page()..][..1]);
        assert!(!windows.has_lost());
        windows.clear();
    }
    windows.map(&file, 0, 9 * page()).unwrap();
    assert_eq!(windows.map(&file, 0, 9 * page()).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
}

#[test]
fn a_thread_has_one_space() {
    let windows = Windows::reserve(page()).unwrap();
    assert_eq!(Windows::reserve(page()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    std::thread::spawn(|| drop(Windows::reserve(page()).unwrap())).join().unwrap();
    drop(windows);
    drop(Windows::reserve(page()).unwrap());
}

#[test]
fn a_range_behind_the_end_is_an_error() {
    let (file, _) = file(2);
    let mut windows = Windows::reserve(8 * page()).unwrap();
    let error = windows.map(&file, 0, 3 * page()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
    windows.clear();
    assert!(windows.map(&file, 0, 2 * page()).is_ok());
}

#[test]
fn a_lost_page_reads_as_zeros_and_is_noted() {
    let (file, content) = file(8);
    let mut windows = Windows::reserve(8 * page()).unwrap();
    let place = windows.map(&file, 0, 8 * page()).unwrap();
    file.set_len(2 * page() as u64).unwrap();
    assert_eq!(windows.bytes(place)[..2 * page()], content[..2 * page()]);
    assert!(!windows.has_lost(), "no byte of the lost pages was read");
    assert!(windows.bytes(place)[2 * page()..].iter().all(|&byte| byte == 0));
    assert!(windows.has_lost());
    windows.clear();
    assert!(!windows.has_lost());
    let place = windows.map(&file, 0, 2 * page()).unwrap();
    assert_eq!(windows.bytes(place), &content[..2 * page()]);
}

/// Another thread truncates the file and writes it again without end.
#[test]
fn a_file_that_keeps_changing_its_length_is_survived() {
    use std::os::unix::fs::FileExt as _;
    const LOSSES: u32 = 20;
    const TIME_MAX: Duration = Duration::from_secs(20);
    let page_count = 1024;
    let (file, content) = file(page_count);
    let is_done = AtomicBool::new(false);
    let (mut losses, mut foreign_bytes) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                file.set_len(0).unwrap();
                file.write_all_at(&content, 0).unwrap();
                // Time for the reader to map all of it.
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        let mut windows = Windows::reserve(page_count * page()).unwrap();
        let start = Instant::now();
        while losses < LOSSES && start.elapsed() < TIME_MAX {
            windows.clear();
            let Ok(place) = windows.map(&file, 0, page_count * page()) else { continue };
            // A page that is written anew may be zeros, but every byte is one or the other.
            let pairs = windows.bytes(place).iter().zip(&content);
            foreign_bytes += pairs.filter(|&(byte, expected)| ![0, *expected].contains(byte)).count();
            losses += u32::from(windows.has_lost());
        }
        is_done.store(true, Ordering::Relaxed);
    });
    assert_eq!((losses, foreign_bytes), (LOSSES, 0));
}

/// Run by [`a_foreign_page_still_ends_the_process`] in a process of its own.
#[test]
#[ignore = "ends its process"]
fn reads_a_foreign_lost_page() {
    let (file, _) = file(2);
    let _windows = Windows::reserve(page()).unwrap();
    // SAFETY: the map is only read below, and ends the process there.
    let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
    file.set_len(0).unwrap();
    std::hint::black_box(map[0]);
}

#[test]
fn a_foreign_page_still_ends_the_process() {
    let name = "storage::window::tests::reads_a_foreign_lost_page";
    let mut child = Command::new(std::env::current_exe().unwrap());
    // Sanitizers would handle the signal themselves.
    child.env("ASAN_OPTIONS", "handle_sigbus=0").env("TSAN_OPTIONS", "handle_sigbus=0");
    let output = child.args(["--exact", "--ignored", "--test-threads=1", name]).output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{output:?}");
}
