//! Read-only maps of the files, leased to sends.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use memmap2::{Advice, Mmap, MmapMut, UncheckedAdvice};

use super::layout::Inode;
use crate::base::{FileSpan, limits};
use crate::uring::{Gather, Step, persist, reach};

/// The maps that exist, at most [`limits::MAPPED_FILES_MAX`].
#[derive(Debug)]
pub(super) struct Maps {
    files: Box<[RwLock<Option<Arc<Mapped>>>]>,
    /// File indices in the order they were mapped: the oldest goes when there are too many.
    order: Mutex<VecDeque<usize>>,
}

#[derive(Debug)]
struct Mapped {
    map: Mmap,
    /// None of a pad file.
    inode: Option<Inode>,
}

impl Maps {
    /// `zero_lens[i]` is the length of file i where it is a pad file: zeros without a file.
    pub(super) fn new(zero_lens: &[Option<u64>]) -> std::io::Result<Self> {
        let longest = zero_lens.iter().flatten().max().and_then(|&len| usize::try_from(len).ok()).unwrap_or(0);
        let zeros = (longest > 0).then(|| MmapMut::map_anon(longest)?.make_read_only()).transpose()?;
        let zeros = zeros.map(|map| Arc::new(Mapped { map, inode: None }));
        let file = |zero_len: &Option<u64>| RwLock::new(zero_len.and(zeros.clone()));
        Ok(Self { files: zero_lens.iter().map(file).collect(), order: Mutex::default() })
    }

    pub(super) fn is_mapped(&self, file_index: usize) -> bool {
        self.map(file_index).is_some()
    }

    /// Whether another file than this one is mapped.
    pub(super) fn is_other(&self, file_index: usize, inode: Inode) -> bool {
        self.map(file_index).and_then(|mapped| mapped.inode).is_some_and(|mapped| mapped != inode)
    }

    fn map(&self, file_index: usize) -> Option<Arc<Mapped>> {
        self.files.get(file_index)?.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets a map go, as soon as nobody reads it.
    pub(super) fn remove(&self, file_index: usize) {
        if let Some(place) = self.files.get(file_index) {
            place.write().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    /// Maps a whole file, instead of another one. May block on the file system.
    pub(super) fn insert(&self, file_index: usize, file: &File) -> std::io::Result<()> {
        // SAFETY: the map is read by the kernel alone (through `Gather`), which answers a file shortened by somebody else
        // with EFAULT; no Rust reference into it is ever made.
        let map = unsafe { Mmap::map(file) }?;
        let map = Arc::new(Mapped { map, inode: Some(Inode::of(file)?) });
        let Some(place) = self.files.get(file_index) else { return Ok(()) };
        if place.write().unwrap_or_else(PoisonError::into_inner).replace(map).is_some() {
            return Ok(());
        }
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        order.push_back(file_index);
        if order.len() > limits::MAPPED_FILES_MAX
            && let Some(oldest) = order.pop_front().and_then(|oldest| self.files.get(oldest))
        {
            oldest.write().unwrap_or_else(PoisonError::into_inner).take();
        }
        Ok(())
    }

    /// Whether all pages of a span of a file are in memory. Of files that we neither own nor may write the kernel tells
    /// nothing, which counts as yes.
    pub(super) fn is_resident(&self, span: FileSpan) -> bool {
        const PAGES: usize = 128;
        let (Some(map), Ok(offset), Ok(len)) =
            (self.map(span.file_index), usize::try_from(span.offset), usize::try_from(span.len))
        else {
            return false;
        };
        let map = &map.map;
        let page = rustix::param::page_size();
        let (first, end) = (offset - offset % page, offset.saturating_add(len).min(map.len()));
        (first..end).step_by(PAGES * page).all(|at| {
            let mut pages = [0; PAGES];
            let len = (end - at).min(PAGES * page);
            let address = map.as_ptr().wrapping_add(at).cast_mut().cast();
            // SAFETY: the range lies inside the map; the kernel writes a byte for each of its pages, of which there is room.
            let failed = unsafe { libc::mincore(address, len, pages.as_mut_ptr()) } != 0;
            failed || pages.iter().take(len.div_ceil(page)).all(|state| state & 1 == 1)
        })
    }

    /// Unmaps the pages of a span of a file. They come back when they are read.
    pub(super) fn unmap_pages(&self, span: FileSpan) {
        let (Some(map), Ok(offset), Ok(len)) =
            (self.map(span.file_index), usize::try_from(span.offset), usize::try_from(span.len))
        else {
            return;
        };
        // SAFETY: a shared map of a file: its pages hold what the file holds, before and after. Out of range is an error.
        let _ = unsafe { map.map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len) };
    }

    /// The right to read these spans; `None` when a file of them is not mapped, or is shorter than the torrent says.
    pub(super) fn lease(&self, spans: impl Iterator<Item = FileSpan>) -> Option<ReadLease> {
        let spans = spans
            .map(|span| {
                let map = self.map(span.file_index)?;
                let offset = usize::try_from(span.offset).ok()?;
                let len = usize::try_from(span.len).ok()?;
                (offset.checked_add(len)? <= map.map.len()).then_some(MapSpan { map, offset, len })
            })
            .collect::<Option<_>>()?;
        Some(ReadLease { spans })
    }
}

#[derive(Debug)]
struct MapSpan {
    map: Arc<Mapped>,
    offset: usize,
    len: usize,
}

/// The right to have the kernel read spans of the maps; the maps stay while it lives.
#[derive(Debug)]
pub struct ReadLease {
    spans: Vec<MapSpan>,
}

impl ReadLease {
    /// Makes the pages of the spans resident. `EFAULT` means that a file is shorter than its map; `EIO` that it can't be read.
    /// May block.
    pub(super) fn read_in(&self) -> std::io::Result<()> {
        self.spans.iter().try_for_each(|span| {
            reach(Step::Read)?;
            persist(|| span.map.map.advise_range(Advice::PopulateRead, span.offset, span.len))
        })
    }
}

// SAFETY: the spans lie inside maps that the lease keeps alive. The files may be written to by others, which the kernel
// reads as it would from a file: no Rust reference to the bytes exists.
unsafe impl Gather for ReadLease {
    fn gather(&self, out: &mut Vec<libc::iovec>) {
        out.extend(self.spans.iter().map(|span| libc::iovec {
            iov_base: span.map.map.as_ptr().wrapping_add(span.offset).cast_mut().cast(),
            iov_len: span.len,
        }));
    }
}
