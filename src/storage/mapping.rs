//! Read-only maps of the files.

use std::fs::File;
use std::io;
use std::sync::{Arc, OnceLock};

use memmap2::{Advice, Mmap, MmapMut, UncheckedAdvice};

use super::budget::{Budget, BudgetedCache};
use crate::base::{FileSpan, limits};
use crate::uring::{Step, fault_point, retry_transient};

/// The maps of one torrent, by file.
#[derive(Debug)]
pub(super) struct Maps(BudgetedCache<Mapped>);

/// A whole file, or the zeros of pad files.
#[derive(Debug)]
pub(super) struct Mapped(Mmap);

/// The maps that the process may have for content: a share of those that the kernel lets it have.
pub(super) fn maps_budget() -> Arc<Budget<Mapped>> {
    static BUDGET: OnceLock<Arc<Budget<Mapped>>> = OnceLock::new();
    BUDGET.get_or_init(|| Budget::new(maps_max(std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()))).clone()
}

/// By what the kernel says of itself.
fn maps_max(max_map_count: Option<String>) -> u64 {
    let count = max_map_count.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(limits::MAP_COUNT_DEFAULT);
    (count / limits::MAP_COUNT_SHARE).clamp(1, limits::MAPPED_FILES_MAX)
}

impl Maps {
    /// `zero_lens[i]` is the length of file i where it is a pad file: zeros without a file.
    pub(super) fn new(zero_lens: &[Option<u64>], budget: Arc<Budget<Mapped>>) -> io::Result<Self> {
        let longest = zero_lens.iter().flatten().max().and_then(|&len| usize::try_from(len).ok()).unwrap_or(0);
        let zeros = (longest > 0).then(|| MmapMut::map_anon(longest)?.make_read_only()).transpose()?;
        let zeros = zeros.map(|map| Arc::new(Mapped(map)));
        Ok(Self(BudgetedCache::new(zero_lens.iter().map(|zero_len| zero_len.and(zeros.clone())), budget)))
    }

    pub(super) fn get(&self, file_index: usize) -> Option<Arc<Mapped>> {
        self.0.get(file_index)
    }

    /// Lets a map go, when its last reader is done.
    pub(super) fn remove(&self, file_index: usize) {
        self.0.remove(file_index);
    }

    /// Maps that one call may take, so that they are not each other's room.
    pub(super) fn max_at_a_time(&self) -> u64 {
        self.0.budget().max() / limits::MAPS_AT_A_TIME_SHARE
    }

    /// Maps a whole file, instead of another one. `None`: no map can be had now. May block on the file system.
    pub(super) fn insert(&self, file_index: usize, file: &File) -> io::Result<Option<Arc<Mapped>>> {
        let map = || {
            fault_point(Step::Map)?;
            // SAFETY: the map is read by the kernel alone (through `Gather`), which answers a file shortened by another
            // program with EFAULT; no Rust reference into it is ever made.
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
                let map = Arc::new(Mapped(map));
                self.0.insert(file_index, map.clone(), 1);
                Ok(Some(map))
            }
            Err(error) if is_short_of_maps(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Mapped {
    pub(super) fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }

    /// Where a span of the file lies; `None` when the file was shorter when it was mapped.
    pub(super) fn place(&self, span: FileSpan) -> Option<(usize, usize)> {
        let (offset, len) = (usize::try_from(span.offset).ok()?, usize::try_from(span.len).ok()?);
        (offset.checked_add(len)? <= self.0.len()).then_some((offset, len))
    }

    /// Makes the pages of a span resident. `EFAULT` means that the file is shorter than its map; `EIO` that it can't be read.
    /// May block.
    pub(super) fn populate(&self, span: FileSpan) -> io::Result<()> {
        let (offset, len) = self.place(span).ok_or(io::ErrorKind::UnexpectedEof)?;
        fault_point(Step::Read)?;
        retry_transient(|| self.0.advise_range(Advice::PopulateRead, offset, len))
    }

    /// Whether all pages of a span are in memory. Of files that we neither own nor may write the kernel tells nothing, which
    /// counts as yes.
    pub(super) fn is_resident(&self, span: FileSpan) -> bool {
        const PAGES: usize = 128;
        let (Ok(offset), Ok(len)) = (usize::try_from(span.offset), usize::try_from(span.len)) else { return false };
        let page = rustix::param::page_size();
        let (first, end) = (offset - offset % page, offset.saturating_add(len).min(self.0.len()));
        (first..end).step_by(PAGES * page).all(|at| {
            let mut pages = [0; PAGES];
            let len = (end - at).min(PAGES * page);
            let address = self.0.as_ptr().wrapping_add(at).cast_mut().cast();
            // SAFETY: the range lies inside the map; the kernel writes a byte for each of its pages, of which there is room.
            let failed = unsafe { libc::mincore(address, len, pages.as_mut_ptr()) } != 0;
            failed || pages.iter().take(len.div_ceil(page)).all(|state| state & 1 == 1)
        })
    }

    /// Unmaps the pages of a span. They come back when they are read.
    pub(super) fn unmap_pages(&self, span: FileSpan) {
        if let Some((offset, len)) = self.place(span) {
            // SAFETY: a shared map of a file: its pages hold what the file holds, before and after. Out of range is an error.
            let _ = unsafe { self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_how_many_maps_there_are() {
        let told = |text: &str| maps_max(Some(text.to_owned()));
        assert_eq!(told("65530\n"), 32_765);
        assert_eq!((told("0\n"), told("1048576\n")), (1, limits::MAPPED_FILES_MAX));
        assert_eq!((maps_max(None), told("many")), (32_765, 32_765));
    }
}
