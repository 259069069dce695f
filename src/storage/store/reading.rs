//! Bringing content into memory, and the right to send it from there.
//!
//! Long files are mapped. Short ones are read into memory of our own, a stretch of the content at a time, and so is what no map
//! can be had for: any content can be served however few maps there are.

use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;

use super::Store;
use crate::base::limits::STRETCH_LEN;
use crate::base::{BlockRef, FileIdentity, FileSpan, PieceIndex, limits};
use crate::storage::error::{Action, StorageError};
use crate::storage::lease::ReadLease;
use crate::storage::mapping::Mapped;
use crate::storage::read_content::PackDraft;
use crate::storage::verified_files::OnChange;
use crate::uring::{Step, fault_point, retry_transient};

/// A range of the content that lies in one file and one stretch.
#[derive(Clone, Debug)]
struct Part {
    stretch: usize,
    /// In the content.
    range: Range<u64>,
    span: FileSpan,
}

impl Store {
    fn parts(&self, range: Range<u64>) -> impl Iterator<Item = Part> + '_ {
        let stretches = range.start / EXTENT_LEN..range.end.div_ceil(EXTENT_LEN);
        stretches.flat_map(move |stretch| {
            let start = range.start.max(stretch * EXTENT_LEN);
            let len = range.end.min((stretch + 1) * EXTENT_LEN) - start;
            let mut at = start;
            self.geometry.file_spans(start, len).map(move |span| {
                let range = at..at + span.len;
                at = range.end;
                Part { stretch: usize::try_from(stretch).unwrap_or(usize::MAX), range, span }
            })
        })
    }

    /// Whether a file is read and not mapped.
    fn is_short(&self, file_index: usize) -> bool {
        !self.is_pad(file_index) && self.geometry.file_len(file_index) <= limits::READ_FILE_LEN_MAX
    }

    /// The file in which a range of the content ends, and the range of the content that is this file's last page; `None` when
    /// the first range has something of it, or no map can hide its loss.
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

    /// Lets go of what is in memory of a file. What is in its place comes there when it is read in again.
    pub(super) fn forget(&self, file_index: usize) {
        self.maps.remove(file_index);
        let range = self.geometry.range_of_file(file_index);
        for stretch in range.start / EXTENT_LEN..range.end.div_ceil(EXTENT_LEN) {
            self.packs.remove(usize::try_from(stretch).unwrap_or(usize::MAX));
        }
    }

    /// A piece has been written to its files: what was read there before goes. Does not block.
    pub fn handle_written(&self, piece: PieceIndex) {
        let start = self.geometry.offset_of(piece);
        let end = start + u64::from(self.geometry.len_of(piece));
        for stretch in start / EXTENT_LEN..end.div_ceil(EXTENT_LEN) {
            let stretch = usize::try_from(stretch).unwrap_or(usize::MAX);
            // In this order: a thread that reads meanwhile finds either that it was written to, or its own pack gone.
            self.writes.get(stretch).inspect(|writes| _ = writes.fetch_add(1, Ordering::SeqCst));
            self.packs.remove(stretch);
        }
    }

    /// Whether a range of the content is in memory and can be leased, as far as the kernel tells. Does not block.
    pub fn is_resident(&self, offset: u64, len: u64) -> bool {
        self.parts(offset..offset + len).all(|part| match self.maps.get(part.span.file_index) {
            Some(map) => self.is_pad(part.span.file_index) || map.is_resident(part.span),
            None => self.is_read(&part),
        })
    }

    fn is_read(&self, part: &Part) -> bool {
        self.packs.get(part.stretch).is_some_and(|pack| pack.find(&part.range).is_some())
    }

    /// Lets the pages of a range of the content leave memory. What others have mapped, or is not written yet, stays.
    pub fn drop_range(&self, offset: u64, len: u64) {
        for part in self.parts(offset..offset + len).filter(|part| !self.is_pad(part.span.file_index)) {
            self.packs.remove(part.stretch);
            if let Some(map) = self.maps.get(part.span.file_index) {
                map.unmap_pages(part.span);
            }
            if let Ok((file, _)) = self.layout.open_to_read(part.span.file_index) {
                // Not to be dropped is no fault.
                let _ = fadvise(file, part.span.offset, NonZeroU64::new(part.span.len), Advice::DontNeed);
            }
        }
    }

    /// Brings a range of the content into memory, so that it can be leased and no ring thread waits for a disk. What
    /// [`StorageError::is_transient`] may be done later. May block.
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
        let stretches = offset / EXTENT_LEN..(offset + len).div_ceil(EXTENT_LEN);
        stretches.into_iter().try_for_each(|stretch| {
            let wanted = offset.max(stretch * EXTENT_LEN)..(offset + len).min((stretch + 1) * EXTENT_LEN);
            self.read_stretch(stretch, &wanted, &unmapped, changed)
        })
    }

    /// Maps a file; `None` when there is no map to be had.
    fn map(&self, file_index: usize, changed: OnChange<'_>) -> Result<Option<Arc<Mapped>>, StorageError> {
        let (file, identity) = self.layout.open_to_read(file_index)?;
        self.handle_opened(file_index, identity, changed);
        let mut map = Ok(None);
        self.if_unchanged(&[(file_index, identity)], || map = self.maps.insert(file_index, &file));
        map.map_err(|error| self.failed(Action::Map, file_index, error))
    }

    /// Reads what a stretch has of short files and of those that are `unmapped`, unless that part of it which is `wanted` is
    /// there. An error tells of this part alone.
    fn read_stretch(
        &self,
        stretch: u64,
        wanted: &Range<u64>,
        unmapped: &[usize],
        changed: OnChange<'_>,
    ) -> Result<(), StorageError> {
        let is_for_us = |part: &Part| self.is_short(part.span.file_index) || unmapped.contains(&part.span.file_index);
        if self.parts(wanted.clone()).filter(is_for_us).all(|part| self.is_read(&part)) {
            return Ok(());
        }
        let index = usize::try_from(stretch).unwrap_or(usize::MAX);
        let writes = || self.writes.get(index).map(|writes| writes.load(Ordering::SeqCst));
        let writes_before = writes();
        let mut draft = PackDraft::default();
        let (mut outcome, mut files) = (Ok(()), Vec::new());
        for part in self.parts(stretch * EXTENT_LEN..(stretch + 1) * EXTENT_LEN).filter(is_for_us) {
            let Part { range, span, .. } = part;
            let read = self.layout.open_to_read(span.file_index).and_then(|(file, identity)| {
                self.handle_opened(span.file_index, identity, changed);
                files.push((span.file_index, identity));
                let read = |room: &mut [u8]| {
                    fault_point(Step::Read)?;
                    retry_transient(|| file.read_exact_at(room, span.offset))?;
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
                // It is read again when it is asked for.
                self.packs.remove(index);
            }
            return outcome;
        }
        // It is read again, as it is then.
        let first = files.first().map_or(0, |&(file_index, _)| file_index);
        Err(self.failed(Action::Read, first, Errno::AGAIN.into()))
    }

    /// The right to send a block from memory. Does not block; `None` where [`Self::populate`] has to come first, again
    /// perhaps.
    pub fn lease(&self, block: BlockRef) -> Option<ReadLease> {
        let start = self.geometry.offset_of(block.piece) + u64::from(block.begin);
        let mut lease = ReadLease::default();
        for part in self.parts(start..start + u64::from(block.len)) {
            if let Some(map) = self.maps.get(part.span.file_index) {
                lease.push_mapped(map, part.span)?;
            } else {
                let pack = self.packs.get(part.stretch)?;
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
