use super::*;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::Arc;

const LEN: usize = 64 << 10;
const COUNT: u8 = 100;

/// Page-aligned bytes, as direct writes need them.
struct Page(Box<[u8]>, usize);

impl Page {
    fn new(value: u8) -> Self {
        let memory = vec![value; LEN + DIRECT_ALIGN].into_boxed_slice();
        let start = memory.as_ptr().align_offset(DIRECT_ALIGN);
        Self(memory, start)
    }
}

/// A write that the kernel makes after the drop has wrong bytes.
impl Drop for Page {
    fn drop(&mut self) {
        self.0.fill(0xff);
    }
}

// SAFETY: the heap memory of the box does not move, and nothing writes to it before the drop.
unsafe impl Gather for Page {
    fn gather(&self, out: &mut Vec<libc::iovec>) {
        let bytes = &self.0[self.1..][..LEN];
        out.push(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: LEN });
    }
}

/// A file in the build folder, whose file system has direct writes.
fn direct_file() -> SharedFile {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let file = tempfile::NamedTempFile::new_in(folder).unwrap();
    let direct = File::options().read(true).write(true).custom_flags(libc::O_DIRECT).open(file.path());
    // A file system in memory refuses the flag before Linux 6.6.
    Arc::new(direct.unwrap_or_else(|_| file.reopen().unwrap()))
}

fn write(file: &SharedFile, value: u8) -> AsyncWrite<u8> {
    let offset = u64::from(value) * LEN as u64;
    AsyncWrite { file: file.clone(), source: Box::new(Page::new(value)), offset, tag: value }
}

fn assert_written(file: &SharedFile, value: u8) {
    let mut memory = vec![0; LEN + DIRECT_ALIGN];
    let start = memory.as_ptr().align_offset(DIRECT_ALIGN);
    let read = &mut memory[start..][..LEN];
    file.read_exact_at(read, u64::from(value) * LEN as u64).unwrap();
    assert!(read.iter().all(|byte| *byte == value), "write {value}");
}

fn write_all(mut writes: AsyncWrites<u8>) {
    let file = direct_file();
    let mut waiting = 0..COUNT;
    let mut ended = Vec::new();
    while ended.len() < usize::from(COUNT) {
        for value in waiting.by_ref().take(writes.room()) {
            writes.add(write(&file, value));
        }
        writes.wait(|value, result| {
            result.unwrap();
            ended.push(value);
        });
    }
    assert!(writes.is_empty() && writes.room() == ASYNC_WRITES_MAX);
    ended.sort_unstable();
    assert!(ended.into_iter().eq(0..COUNT));
    (0..COUNT).for_each(|value| assert_written(&file, value));
}

#[test]
fn each_write_lands_at_its_offset() {
    write_all(AsyncWrites::new(Some(AsyncContext::new().unwrap())));
    write_all(AsyncWrites::new(None));
}

#[test]
fn a_context_can_be_used_again() {
    let mut writes = AsyncWrites::new(Some(AsyncContext::new().unwrap()));
    let file = direct_file();
    writes.add(write(&file, 1));
    while !writes.is_empty() {
        writes.wait(|_, result| result.unwrap());
    }
    let context = writes.into_context();
    assert_written(&file, 1);
    assert!(context.is_some());
    write_all(AsyncWrites::new(context));
}

#[test]
fn dropped_writes_keep_their_memory_until_they_end() {
    let file = direct_file();
    let mut writes = AsyncWrites::new(Some(AsyncContext::new().unwrap()));
    (0..8).for_each(|value| writes.add(write(&file, value)));
    let mut ended = Vec::new();
    writes.wait(|value, result| {
        result.unwrap();
        ended.push(value);
    });
    drop(writes);
    (0..8).for_each(|value| assert_written(&file, value));
    assert!(!ended.is_empty());
}

#[test]
fn a_write_that_fails_has_its_own_error() {
    let file = direct_file();
    let read_only = Arc::new(File::open("/proc/self/exe").unwrap());
    let full = Arc::new(File::options().write(true).open("/dev/full").unwrap());
    let mut writes = AsyncWrites::new(Some(AsyncContext::new().unwrap()));
    for (file, value) in [(&file, 0), (&read_only, 1), (&file, 2), (&full, 3), (&file, 4)] {
        writes.add(write(file, value));
    }
    let mut errors = [None; 5];
    while !writes.is_empty() {
        writes.wait(|value, result| {
            errors[usize::from(value)] = result.err().and_then(|error| error.raw_os_error());
        });
    }
    assert_eq!(errors, [None, Some(libc::EBADF), None, Some(libc::ENOSPC), None]);
    [0, 2, 4].into_iter().for_each(|value| assert_written(&file, value));
}

/// One call takes fewer spans.
#[test]
fn a_write_of_many_spans_is_whole() {
    struct Bytes(Vec<Box<[u8]>>);
    // SAFETY: the heap memory of the boxes does not move, and nothing writes to it.
    unsafe impl Gather for Bytes {
        fn gather(&self, out: &mut Vec<libc::iovec>) {
            self.0.iter().for_each(|bytes| bytes.gather(out));
        }
    }
    let file = Arc::new(tempfile::tempfile().unwrap());
    let spans = (0..251).cycle().take(2 * SPANS_PER_CALL).map(|value| vec![value; 3].into()).collect();
    let mut writes = AsyncWrites::new(Some(AsyncContext::new().unwrap()));
    writes.add(AsyncWrite { file: file.clone(), source: Box::new(Bytes(spans)), offset: 5, tag: () });
    while !writes.is_empty() {
        writes.wait(|(), result| result.unwrap());
    }
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut &*file, &mut bytes).unwrap();
    assert_eq!(bytes.len(), 5 + 3 * 2 * SPANS_PER_CALL);
    assert!(bytes[5..].chunks(3).zip((0..251).cycle()).all(|(chunk, value)| chunk == [value; 3]));
}
