//! Populates memory with content, and leases it for sends.
//!
//! Long files are mapped. Short files are read into the heap, one extent of the content at a time. Long files are read
//! too while no map is available, so that any content can be served with few maps.

use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;

use super::Store;
use crate::base::limits::EXTENT_LEN;
use crate::base::{BlockRef, FileIdentity, FileSpan, PieceIndex, limits};
use crate::io::{Step, fault_point, retry_transient};
use crate::storage::error::{Action, StorageError};
use crate::storage::lease::ReadLease;
use crate::storage::mapping::Mapped;
use crate::storage::read_content::PackDraft;
use crate::storage::verified_files::OnChange;

/// A range of the content inside one file and one extent.
#[derive(Clone, Debug)]
struct Part {
    extent: usize,
    /// Offsets in the content.
    range: Range<u64>,
    span: FileSpan,
}

impl Store {
    /// Splits a range of the content at the ends of files and extents.
    fn parts(&self, range: Range<u64>) -> impl Iterator<Item = Part> + '_ {
        let extents = range.start / EXTENT_LEN..range.end.div_ceil(EXTENT_LEN);
        extents.flat_map(move |extent| {
            let start = range.start.max(extent * EXTENT_LEN);
            let len = range.end.min((extent + 1) * EXTENT_LEN) - start;
            let mut at = start;
            self.geometry.file_spans(start, len).map(move |span| {
                let range = at..at + span.len;
                at = range.end;
                Part { extent: usize::try_from(extent).unwrap_or(usize::MAX), range, span }
            })
        })
    }

    /// Returns whether a file is so short that it is read instead of mapped.
    fn is_short(&self, file_index: usize) -> bool {
        !self.is_pad(file_index) && self.geometry.file_len(file_index) <= limits::READ_FILE_LEN_MAX
    }

    /// The file in which a range of the content ends, and the offset and length in the content of that file's last
    /// page.
    ///
    /// `None` if the range touches that page, or if the file is not mapped: only a map can hide that a file was
    /// truncated.
    pub fn last_page_behind(&self, offset: u64, len: u64) -> Option<(usize, (u64, u64))> {
        let span = self.geometry.file_spans(offset, len).last()?;
        if self.is_pad(span.file_index) || self.is_short(span.file_index) {
            return None;
        }
        let page = self.last_page_at(span.file_index);
        let end = span.offset + span.len;
        let file_len = self.geometry.file_len(span.file_index);
        (end <= page).then(|| (span.file_index, (offset + len + (page - end), file_len - page)))
    }

    /// Drops the content of a file from memory. The next call of [`Self::populate`] loads it again.
    pub(super) fn forget(&self, file_index: usize) {
        self.maps.remove(file_index);
        let range = self.geometry.range_of_file(file_index);
        for extent in range.start / EXTENT_LEN..range.end.div_ceil(EXTENT_LEN) {
            self.packs.remove(usize::try_from(extent).unwrap_or(usize::MAX));
        }
    }

    /// Notes that a piece was written to its files, and drops the packs that it makes outdated. Does not block.
    pub fn handle_written(&self, piece: PieceIndex) {
        let start = self.geometry.offset_of(piece);
        let end = start + u64::from(self.geometry.len_of(piece));
        for extent in start / EXTENT_LEN..end.div_ceil(EXTENT_LEN) {
            let extent = usize::try_from(extent).unwrap_or(usize::MAX);
            // The order matters: a thread that reads the extent at the same time either sees the new number of writes,
            // or its pack is removed here.
            self.writes.get(extent).inspect(|writes| _ = writes.fetch_add(1, Ordering::SeqCst));
            self.packs.remove(extent);
        }
    }

    /// Whether a range of the content is in memory and can be leased, as far as the kernel reports it. Does not block.
    pub fn is_resident(&self, offset: u64, len: u64) -> bool {
        self.parts(offset..offset + len).all(|part| match self.maps.get(part.span.file_index) {
            Some(map) => self.is_pad(part.span.file_index) || map.is_resident(part.span),
            None => self.is_read(&part),
        })
    }

    /// Whether a range of the content is mapped and in memory for certain. Does not block.
    pub fn is_known_resident(&self, offset: u64, len: u64) -> bool {
        self.parts(offset..offset + len).all(|part| {
            self.is_pad(part.span.file_index)
                || self.maps.get(part.span.file_index).is_some_and(|map| map.is_known_resident(part.span))
        })
    }

    fn is_read(&self, part: &Part) -> bool {
        self.packs.get(part.extent).is_some_and(|pack| pack.find(&part.range).is_some())
    }

    /// Drops a range of the content from memory and the page cache. Dirty pages, and pages that another process has
    /// mapped, stay.
    pub fn drop_range(&self, offset: u64, len: u64) {
        for part in self.parts(offset..offset + len).filter(|part| !self.is_pad(part.span.file_index)) {
            self.packs.remove(part.extent);
            if let Some(map) = self.maps.get(part.span.file_index) {
                map.unmap_pages(part.span);
            }
            if let Ok((file, _)) = self.layout.open_to_read(part.span.file_index) {
                // Dropping pages is an optimization, so an error is ignored.
                let _ = fadvise(file, part.span.offset, NonZeroU64::new(part.span.len), Advice::DontNeed);
            }
        }
    }

    /// Loads a range of the content into memory, so that it can be leased and no ring thread waits for a disk. After a
    /// [transient](StorageError::is_transient) error the caller may try again. May block.
    pub fn populate(&self, offset: u64, len: u64, changed: OnChange<'_>) -> Result<(), StorageError> {
        let mut unmapped = Vec::new();
        let mut maps_left = self.maps.max_at_a_time();
        for Part { span, .. } in self.parts(offset..offset + len) {
            if self.is_pad(span.file_index) || self.is_short(span.file_index) {
                continue;
            }
            let mapped = match self.maps.get(span.file_index).filter(|map| map.place(span).is_some()) {
                None if maps_left == 0 => None,
                None => {
                    maps_left -= 1;
                    self.map(span.file_index, changed)?
                }
                mapped => mapped,
            };
            match mapped {
                Some(map) => {
                    let failed = |error| StorageError::new(Action::Read, self.layout.path(span.file_index), error);
                    map.populate(span).map_err(failed)?;
                }
                None => unmapped.push(span.file_index),
            }
        }
        let extents = offset / EXTENT_LEN..(offset + len).div_ceil(EXTENT_LEN);
        extents.into_iter().try_for_each(|extent| {
            let wanted = offset.max(extent * EXTENT_LEN)..(offset + len).min((extent + 1) * EXTENT_LEN);
            self.read_extent(extent, &wanted, &unmapped, changed)
        })
    }

    /// Maps a file. Returns `None` if no map is available.
    fn map(&self, file_index: usize, changed: OnChange<'_>) -> Result<Option<Arc<Mapped>>, StorageError> {
        let (file, identity) = self.layout.open_to_read(file_index)?;
        self.handle_opened(file_index, identity, changed);
        let mut map = Ok(None);
        self.if_unchanged(&[(file_index, identity)], || map = self.maps.insert(file_index, &file));
        map.map_err(|error| self.failed(Action::Map, file_index, error))
    }

    /// Reads the parts of an extent that lie in short or `unmapped` files, unless those inside the `wanted` range are
    /// in memory. Returns an error only if it concerns the `wanted` range, or is transient.
    fn read_extent(
        &self,
        extent: u64,
        wanted: &Range<u64>,
        unmapped: &[usize],
        changed: OnChange<'_>,
    ) -> Result<(), StorageError> {
        let is_read_here =
            |part: &Part| self.is_short(part.span.file_index) || unmapped.contains(&part.span.file_index);
        if self.parts(wanted.clone()).filter(is_read_here).all(|part| self.is_read(&part)) {
            return Ok(());
        }
        let index = usize::try_from(extent).unwrap_or(usize::MAX);
        let writes = || self.writes.get(index).map(|writes| writes.load(Ordering::SeqCst));
        let writes_before = writes();
        let mut draft = PackDraft::default();
        let (mut outcome, mut files) = (Ok(()), Vec::new());
        for part in self.parts(extent * EXTENT_LEN..(extent + 1) * EXTENT_LEN).filter(is_read_here) {
            let Part { range, span, .. } = part;
            let read = self.layout.open_to_read(span.file_index).and_then(|(file, identity)| {
                self.handle_opened(span.file_index, identity, changed);
                files.push((span.file_index, identity));
                let read = |buffer: &mut [u8]| {
                    fault_point(Step::Read)?;
                    retry_transient(|| file.read_exact_at(buffer, span.offset))?;
                    self.handle_read(span.file_index, identity, FileIdentity::from(&file.metadata()?), changed);
                    Ok(())
                };
                draft.read(&range, read).map_err(|error| self.failed(Action::Read, span.file_index, error))
            });
            match read {
                Err(error) if error.is_transient() => return Err(error),
                Err(error) if range.start < wanted.end && wanted.start < range.end => outcome = outcome.and(Err(error)),
                _ => {}
            }
        }
        let pack = draft.finish();
        let cost = pack.cost();
        let insert = || {
            if writes() == writes_before {
                self.packs.insert(index, Arc::new(pack), cost);
            }
        };
        if self.if_unchanged(&files, insert) {
            if writes() != writes_before {
                // The pack is outdated. The next call reads the extent again.
                self.packs.remove(index);
            }
            return outcome;
        }
        // A file has changed. The caller tries again with the new file.
        let first = files.first().map_or(0, |&(file_index, _)| file_index);
        Err(self.failed(Action::Read, first, Errno::AGAIN.into()))
    }

    /// Returns the right to send a block from memory, or `None` if the block is not in memory: call [`Self::populate`]
    /// and try again. Does not block.
    pub fn lease(&self, block: BlockRef) -> Option<ReadLease> {
        let start = self.geometry.offset_of(block.piece) + u64::from(block.begin);
        let mut lease = ReadLease::default();
        for part in self.parts(start..start + u64::from(block.len)) {
            if let Some(map) = self.maps.get(part.span.file_index) {
                lease.push_mapped(map, part.span)?;
            } else {
                let pack = self.packs.get(part.extent)?;
                let (run, place) = pack.find(&part.range)?;
                lease.push_read(run, place.start, place.len());
            }
        }
        Some(lease)
    }
}

#[cfg(test)]
#[path = "reading_tests.rs"]
mod tests;
