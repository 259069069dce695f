//! Read-only maps of content files.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::ptr;
use std::sync::{Arc, OnceLock};

use memmap2::{Advice, Mmap, MmapMut, UncheckedAdvice};

use super::budget::{Budget, BudgetedCache};
use super::kernel::KernelFeature;
use super::memory_limit::{address_space, memory_limit};
use crate::base::{FileSpan, limits};
use crate::io::{Step, fault_point, retry_transient};

/// The maps of one torrent, by file index.
#[derive(Debug)]
pub(super) struct Maps(BudgetedCache<Mapped>);

/// A map of a whole file, or of zeros for pad files.
#[derive(Debug)]
pub(super) struct Mapped {
    map: Mmap,
    /// Whether the kernel tells this process which pages of the file are in memory.
    tells_residency: bool,
}

/// The maximum number of maps for content in the process, a share of the kernel's limit; if address space is limited,
/// their bytes instead, a share of it.
pub(super) fn maps_budget() -> Arc<Budget<Mapped>> {
    static BUDGET: OnceLock<Arc<Budget<Mapped>>> = OnceLock::new();
    let max = || match address_space() {
        Some(space) => space / limits::MAP_SPACE_SHARE,
        None => granted_maps(),
    };
    BUDGET.get_or_init(|| Budget::new(max())).clone()
}

/// The share of the kernel's limit on maps.
fn granted_maps() -> u64 {
    static GRANTED: OnceLock<u64> = OnceLock::new();
    *GRANTED.get_or_init(|| maps_max(std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()))
}

/// `max_map_count` is the text of the kernel's setting, `None` if it cannot be read.
fn maps_max(max_map_count: Option<String>) -> u64 {
    let count = max_map_count.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(limits::MAP_COUNT_DEFAULT);
    (count / limits::MAP_COUNT_SHARE).clamp(1, limits::MAPPED_FILES_MAX)
}

/// Whether the kernel has one huge page for all that is zeros. Otherwise each would take memory of its own.
fn has_huge_page_of_zeros() -> bool {
    std::fs::read("/sys/kernel/mm/transparent_hugepage/use_zero_page").is_ok_and(|text| text.starts_with(b"1"))
}

/// Whether only the spans that are needed are read, and nothing behind them. Reading ahead helps the next reader, unless
/// memory is so short that it displaces content that waits to be sent.
fn is_read_exactly() -> bool {
    memory_limit() < limits::READ_AROUND_MEMORY_MIN
}

impl Maps {
    /// `zero_lens[i]` is the length of file i if it is a pad file. Pad files share one map of zeros.
    pub(super) fn new(zero_lens: &[Option<u64>], budget: Arc<Budget<Mapped>>) -> io::Result<Self> {
        let longest = zero_lens.iter().flatten().max().and_then(|&len| usize::try_from(len).ok()).unwrap_or(0);
        let zeros = (longest > 0).then(|| MmapMut::map_anon(longest)?.make_read_only()).transpose()?;
        if let Some(zeros) = zeros.as_ref().filter(|_| has_huge_page_of_zeros()) {
            // It takes one page fault where others take hundreds.
            let _ = zeros.advise(Advice::HugePage);
        }
        let zeros = zeros.map(|map| Arc::new(Mapped { map, tells_residency: true }));
        Ok(Self(BudgetedCache::new(zero_lens.iter().map(|zero_len| zero_len.and(zeros.clone())), budget)))
    }

    pub(super) fn get(&self, file_index: usize) -> Option<Arc<Mapped>> {
        self.0.get(file_index)
    }

    /// Removes a map. It is unmapped when its last reader drops it.
    pub(super) fn remove(&self, file_index: usize) {
        self.0.remove(file_index);
    }

    /// The maximum number of maps that one call may insert, so that they do not evict each other.
    pub(super) fn max_at_a_time(&self) -> u64 {
        if address_space().is_some() { 1 } else { self.0.budget().max() / limits::MAPS_AT_A_TIME_SHARE }
    }

    /// Maps a whole file, in place of an earlier map of the same file. Returns `None` if the process is out of maps or of
    /// address space. May block on the file system.
    pub(super) fn insert(&self, file_index: usize, file: &File) -> io::Result<Option<Arc<Mapped>>> {
        let max = self.0.budget().max();
        // In bytes, a short file costs more than its length, so that the kernel's limit on maps holds too.
        let cost = if address_space().is_some() { file.metadata()?.len().max(max / granted_maps()) } else { 1 };
        if cost > max {
            return Ok(None);
        }
        let map = || {
            fault_point(Step::Map)?;
            // SAFETY: only the kernel reads the map (through `Gather`), and fails with EFAULT if another program has
            // truncated the file. No Rust reference into the map is ever created.
            retry_transient(|| unsafe { Mmap::map(file) })
        };
        let is_short_of_maps = |error: &io::Error| error.raw_os_error() == Some(libc::ENOMEM);
        let mapped = map().or_else(|error| {
            if !is_short_of_maps(&error) {
                return Err(error);
            }
            self.0.budget().make_room(limits::MAPS_ROOM_SHARE);
            map()
        });
        match mapped {
            Ok(map) => {
                // A send must not make the kernel read ahead. Where the advice is refused, it may.
                let _ = map.advise(Advice::Random);
                let map = Arc::new(Mapped { map, tells_residency: tells_residency(file) });
                self.0.insert(file_index, map.clone(), cost);
                Ok(Some(map))
            }
            Err(error) if is_short_of_maps(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Mapped {
    pub(super) fn as_ptr(&self) -> *const u8 {
        self.map.as_ptr()
    }

    /// The offset and length of a span in the map; `None` if the file was shorter when it was mapped.
    pub(super) fn place(&self, span: FileSpan) -> Option<(usize, usize)> {
        let (offset, len) = (usize::try_from(span.offset).ok()?, usize::try_from(span.len).ok()?);
        (offset.checked_add(len)? <= self.map.len()).then_some((offset, len))
    }

    /// Makes the pages of a span resident. Fails with `EFAULT` if the file is shorter than its map, and with `EIO` if
    /// it cannot be read. May block.
    pub(super) fn populate(&self, span: FileSpan) -> io::Result<()> {
        let (offset, len) = self.place(span).ok_or(io::ErrorKind::UnexpectedEof)?;
        fault_point(Step::Read)?;
        // Starts to read the whole span: otherwise each page would be read by itself.
        let ahead = if is_read_exactly() { 0 } else { limits::READ_AHEAD_LEN };
        let _ = self.map.advise_range(Advice::WillNeed, offset, (len + ahead).min(self.map.len() - offset));
        if KernelFeature::PopulateRead.is_available() {
            retry_transient(|| self.map.advise_range(Advice::PopulateRead, offset, len))
        } else {
            self.touch(offset, len)
        }
    }

    /// Makes the pages of a range resident with the calls of old kernels: the kernel copies a byte of each page to a
    /// pipe, and fails like [`Self::populate`].
    fn touch(&self, offset: usize, len: usize) -> io::Result<()> {
        let (mut reader, writer) = io::pipe()?;
        let mut copies = [0; limits::POPULATE_PAGES_MAX];
        let page = rustix::param::page_size();
        let (mut at, end) = (offset - offset % page, offset + len);
        while at < end {
            let bytes: Vec<_> = (at..end)
                .step_by(page)
                .take(limits::POPULATE_PAGES_MAX)
                .map(|at| libc::iovec { iov_base: self.map.as_ptr().wrapping_add(at).cast_mut().cast(), iov_len: 1 })
                .collect();
            let count = libc::c_int::try_from(bytes.len()).map_err(io::Error::other)?;
            let copied = retry_transient(|| {
                // SAFETY: the range lies inside the map, which only the kernel reads. It fails with EFAULT if the file
                // was truncated. The spans outlive the call.
                let copied = unsafe { libc::writev(writer.as_raw_fd(), bytes.as_ptr(), count) };
                usize::try_from(copied).map_err(|_| io::Error::last_os_error())
            })?;
            if copied == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            // Empties the pipe, so that the next call does not wait.
            reader.read_exact(&mut copies[..copied])?;
            at += copied * page;
        }
        Ok(())
    }

    /// Whether all pages of a span are in memory for certain.
    pub(super) fn is_known_resident(&self, span: FileSpan) -> bool {
        self.tells_residency && self.is_resident(span)
    }

    /// Whether all pages of a span are in memory, as far as the kernel tells: other pages count as resident.
    pub(super) fn is_resident(&self, span: FileSpan) -> bool {
        const PAGES: usize = 128;
        let (Ok(offset), Ok(len)) = (usize::try_from(span.offset), usize::try_from(span.len)) else { return false };
        let page = rustix::param::page_size();
        let (first, end) = (offset - offset % page, offset.saturating_add(len).min(self.map.len()));
        (first..end).step_by(PAGES * page).all(|at| {
            let mut pages = [0; PAGES];
            let len = (end - at).min(PAGES * page);
            let address = self.map.as_ptr().wrapping_add(at).cast_mut().cast();
            // SAFETY: the range lies inside the map. The kernel writes one byte per page, and `pages` has room for
            // them.
            let failed = unsafe { libc::mincore(address, len, pages.as_mut_ptr()) } != 0;
            failed || pages.iter().take(len.div_ceil(page)).all(|state| state & 1 == 1)
        })
    }

    /// Unmaps the pages of a span. The next access maps them again.
    pub(super) fn unmap_pages(&self, span: FileSpan) {
        if let Some((offset, len)) = self.place(span) {
            // SAFETY: the map is a shared one of a file, so its pages have the content of the file before and after. A
            // range outside the map is an error.
            let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len) };
        }
    }
}

/// Whether the kernel tells this process which pages of a file are in memory: it does not for files that the process
/// neither owns nor may write, whose pages it calls resident all. It would call a page behind the end of the file so too.
fn tells_residency(file: &File) -> bool {
    let page = rustix::param::page_size();
    let end = file.metadata().ok().and_then(|metadata| metadata.len().checked_next_multiple_of(page as u64));
    let Some(behind) = end.and_then(|end| libc::off_t::try_from(end).ok()) else { return false };
    // SAFETY: the kernel chooses an address that is not in use.
    let map = unsafe { libc::mmap(ptr::null_mut(), page, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), behind) };
    if map == libc::MAP_FAILED {
        return false;
    }
    let mut state = 1;
    // SAFETY: the range is the map of one page, of which the kernel writes one byte.
    let failed = unsafe { libc::mincore(map, page, &raw mut state) } != 0;
    // SAFETY: only this function knows the map, and has no reference into it.
    unsafe { libc::munmap(map, page) };
    !failed && state & 1 == 0
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn old_kernels_populate_and_report_truncation_too() {
        let page = rustix::param::page_size();
        let len = (limits::POPULATE_PAGES_MAX + 3) * page + 5;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![1; len]).unwrap();
        let maps = Maps::new(&[None], Budget::new(1)).unwrap();
        let map = maps.insert(0, &file).unwrap().unwrap();
        map.touch(0, len).unwrap();
        map.touch(page + 7, 1).unwrap();
        assert!(map.is_resident(FileSpan { file_index: 0, offset: 0, len: len as u64 }));
        file.set_len(3 * page as u64 - 1).unwrap();
        map.touch(page, 2 * page).unwrap();
        assert_eq!(map.touch(page, 2 * page + 1).unwrap_err().raw_os_error(), Some(libc::EFAULT));
        assert_eq!(map.touch(0, len).unwrap_err().raw_os_error(), Some(libc::EFAULT));
    }

    #[test]
    fn residency_is_known_of_own_files() {
        let page = rustix::param::page_size() as u64;
        for len in [1, page - 1, page, 3 * page + 1] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&vec![1; usize::try_from(len).unwrap()]).unwrap();
            let map = Maps::new(&[None], Budget::new(1)).unwrap().insert(0, &file).unwrap().unwrap();
            assert!(map.is_known_resident(FileSpan { file_index: 0, offset: 0, len }), "{len}");
            // Pages behind the new end are in no file.
            file.set_len(0).unwrap();
            assert!(!map.is_known_resident(FileSpan { file_index: 0, offset: 0, len }), "{len}");
        }
    }

    #[test]
    fn the_kernel_setting_limits_the_maps() {
        let max_of = |text: &str| maps_max(Some(text.to_owned()));
        assert_eq!(max_of("65530\n"), 32_765);
        assert_eq!((max_of("0\n"), max_of("1048576\n")), (1, limits::MAPPED_FILES_MAX));
        assert_eq!((maps_max(None), max_of("many")), (32_765, 32_765));
    }
}
