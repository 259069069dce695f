//! The content of one torrent on disk: read for verification, leased for sends (`reading`), and written one verified
//! piece at a time.
//!
//! Most methods may block on the file system, so ring threads call only those that are documented not to block, and
//! those that only read fields of the store.

mod file_changes;
mod reading;
mod sync;

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::arena::{BufferSpans, PieceBuffer};
use super::error::{Action, StorageError};
use super::layout::Layout;
use super::mapping::{Maps, maps_budget};
use super::read_content::{Packs, packs_budget};
use super::share::descriptors;
use super::verified_files::{OnChange, VerifiedFiles};
use crate::base::lock::lock;
use crate::base::units::Bytes;
use crate::base::{BlockRef, FileIdentity, FileSpan, Geometry, PieceIndex, limits};
use crate::io::{SharedFile, Step, fault_point, retry_transient};

pub use sync::Unsynced;

/// Alignment of the offset, length and address of a direct write.
const DIRECT_ALIGN: u64 = limits::DIRECT_ALIGN as u64;

/// How verified pieces are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WritePath {
    /// Through the page cache, from which the piece can be sent without reading the disk.
    Buffered,
    /// Past the page cache if alignment and file system allow it. Takes less processor time, but a later read of the
    /// piece goes to the disk.
    Direct,
}

/// A write of the part of a verified piece that lies in one file, or of such parts of adjacent pieces.
#[derive(Debug)]
pub struct WriteStep {
    pub file_index: usize,
    /// The preferred way to write it.
    pub path: WritePath,
    /// Offset in the file, in bytes.
    pub offset: u64,
    pub source: BufferSpans,
}

impl WriteStep {
    /// Whether `next` continues this write, and both are at most [`limits::WRITE_RUN_LEN`] long.
    pub fn is_continued_by(&self, next: &Self) -> bool {
        (self.file_index, self.path) == (next.file_index, next.path)
            && self.offset.checked_add(self.source.len().into()) == Some(next.offset)
            && self.source.len().saturating_add(next.source.len()) <= limits::WRITE_RUN_LEN
    }
}

/// The content of one torrent on disk.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    geometry: Geometry,
    /// `pads[i]` is true if file i is a pad file (BEP 47), which reads as zeros and is never created.
    pads: Box<[bool]>,
    /// `unselected[i]` is true if file i is neither created nor written. Empty if all files are selected.
    unselected: Box<[bool]>,
    maps: Maps,
    packs: Packs,
    /// The number of writes to each extent. A pack that was read before the latest write is outdated.
    writes: Box<[AtomicU32]>,
    /// Locked while a file is mapped or its identity compared, never while a block is leased.
    verified: Mutex<VerifiedFiles>,
    /// Files that are open for writing, oldest first.
    writable: Mutex<VecDeque<(usize, WritePath, SharedFile)>>,
    /// The file system has refused direct writes.
    buffered_only: AtomicBool,
}

impl Store {
    /// `pads[i]` is true if file i is a pad file.
    pub fn new(layout: Layout, geometry: Geometry, pads: Box<[bool]>) -> Result<Self, StorageError> {
        let zero_lens: Vec<_> =
            pads.iter().enumerate().map(|(index, pad)| pad.then(|| geometry.file_len(index))).collect();
        let maps = Maps::new(&zero_lens, maps_budget())
            .map_err(|error| StorageError::new(Action::Map, layout.path(0), error))?;
        let verified = Mutex::new(VerifiedFiles::new(layout.file_count()));
        let extents = 0..geometry.total_len().div_ceil(limits::EXTENT_LEN);
        Ok(Self {
            layout,
            geometry,
            pads,
            unselected: Box::default(),
            maps,
            packs: Packs::new(extents.clone().map(|_| None), packs_budget()),
            writes: extents.map(|_| AtomicU32::new(0)).collect(),
            verified,
            writable: Mutex::default(),
            buffered_only: AtomicBool::new(false),
        })
    }

    /// The number of files that may be open for writing at present, a share of the process's descriptors.
    pub fn open_files_max(&self) -> usize {
        descriptors().open_files
    }

    /// Excludes the files for which `unselected[i]` is true: they are neither created nor written.
    #[must_use]
    pub fn without_files(self, unselected: Box<[bool]>) -> Self {
        Self { unselected, ..self }
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    fn is_pad(&self, file_index: usize) -> bool {
        self.pads.get(file_index).copied().unwrap_or(false)
    }

    fn is_unselected(&self, file_index: usize) -> bool {
        self.unselected.get(file_index).copied().unwrap_or(false)
    }

    /// The indices of selected files, without pad files.
    pub fn file_indices(&self) -> impl Iterator<Item = usize> + '_ {
        self.listed().filter(|&file_index| !self.is_unselected(file_index))
    }

    /// Length of a file in the torrent, in bytes.
    pub(super) fn len(&self, file_index: usize) -> u64 {
        self.geometry.file_len(file_index)
    }

    /// The indices of all files, selected or not, without pad files.
    pub fn listed(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.layout.file_count()).filter(|&file_index| !self.is_pad(file_index))
    }

    /// Creates every selected file as a sparse file of its full length, as [`Target`](crate::storage::Target) does for a
    /// download.
    #[cfg(test)]
    pub fn create_files(&self) -> Result<(), StorageError> {
        self.file_indices()
            .try_for_each(|file_index| self.layout.create(file_index, self.geometry.file_len(file_index)).map(drop))
    }

    /// Reserves the space of every selected file. Does nothing if the file system does not support it.
    pub fn preallocate(&self) -> Result<(), StorageError> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        let lens = || {
            let lens = self.file_indices().map(|file_index| (file_index, self.geometry.file_len(file_index)));
            lens.filter(|&(_, len)| len > 0)
        };
        // Without this check, a reservation that does not fit would fill the disk before it fails.
        let lacking: u64 =
            lens().map(|(file_index, len)| len.saturating_sub(self.layout.reserved_len(file_index))).sum();
        if let Some(free) = self.layout.free_len().filter(|&free| free < lacking) {
            let line = format!(
                "{} more needed, {} free: free some space, or choose another folder",
                Bytes(lacking),
                Bytes(free)
            );
            let error = io::Error::new(io::ErrorKind::StorageFull, line);
            return Err(StorageError::new(Action::Reserve, self.layout.path(0), error));
        }
        for (file_index, len) in lens() {
            let file = self.layout.open_to_write(file_index)?;
            match fallocate(&file, FallocateFlags::empty(), 0, len) {
                Ok(()) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
                Err(error) => {
                    return Err(StorageError::new(
                        Action::Reserve,
                        self.layout.path(file_index),
                        io::Error::from(error),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Reads a piece in parts of at most the length of `buffer`, and passes each to `part` in order. Returns the files
    /// that were read, with their identities before the read.
    pub fn read_piece(
        &self,
        piece: PieceIndex,
        buffer: &mut [u8],
        mut part: impl FnMut(&[u8]),
        changed: OnChange<'_>,
    ) -> Result<Vec<(usize, FileIdentity)>, StorageError> {
        let spans = self.geometry.piece_spans(piece);
        let read = spans.map(|span| self.read_span(span, buffer, &mut part, changed));
        read.filter_map(Result::transpose).collect()
    }

    /// [`Self::read_piece`] for a span of one file. Returns `None` for a pad file.
    pub fn read_span(
        &self,
        span: FileSpan,
        buffer: &mut [u8],
        part: &mut impl FnMut(&[u8]),
        changed: OnChange<'_>,
    ) -> Result<Option<(usize, FileIdentity)>, StorageError> {
        let opened = (!self.is_pad(span.file_index)).then(|| self.layout.open_to_read(span.file_index)).transpose()?;
        if let Some((_, identity)) = &opened {
            self.handle_opened(span.file_index, *identity, changed);
        }
        let mut at = span.offset;
        let end = span.offset + span.len;
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let bytes = &mut buffer[..len];
            match &opened {
                Some((file, _)) => fault_point(Step::Read)
                    .and_then(|()| retry_transient(|| file.read_exact_at(bytes, at)))
                    .map_err(|error| self.failed(Action::Read, span.file_index, error))?,
                None => bytes.fill(0),
            }
            part(bytes);
            at += len as u64;
        }
        let Some((file, identity)) = opened else { return Ok(None) };
        let now = file.metadata().map_err(|error| self.failed(Action::Read, span.file_index, error))?;
        self.handle_read(span.file_index, identity, FileIdentity::from(&now), changed);
        Ok(Some((span.file_index, identity)))
    }

    fn failed(&self, action: Action, file_index: usize, error: io::Error) -> StorageError {
        StorageError::new(action, self.layout.path(file_index), error)
    }

    /// The files that contain part of a block, each with true if that part touches the last page of the file.
    pub fn files_of(&self, block: BlockRef) -> impl Iterator<Item = (usize, bool)> + '_ {
        let spans = self.geometry.block_spans(block).filter(|span| !self.is_pad(span.file_index));
        spans.map(|span| (span.file_index, span.offset + span.len > self.last_page_at(span.file_index)))
    }

    /// The files that contain part of a range of the content, without pad files.
    pub fn files_in(&self, offset: u64, len: u64) -> impl Iterator<Item = usize> + '_ {
        let spans = self.geometry.file_spans(offset, len).filter(|span| !self.is_pad(span.file_index));
        spans.map(|span| span.file_index)
    }

    /// Offset of the last page of a file.
    fn last_page_at(&self, file_index: usize) -> u64 {
        let last = self.geometry.file_len(file_index).saturating_sub(1);
        last - last % rustix::param::page_size() as u64
    }

    /// Drops all pages of these files that are not dirty from the page cache.
    fn drop_files(&self, file_indices: impl Iterator<Item = usize>) {
        for file_index in file_indices {
            if let Ok((file, _)) = self.layout.open_to_read(file_index) {
                let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
            }
        }
    }

    /// Returns the writes for a verified piece, which is complete in `buffer`.
    pub fn write_steps(
        &self,
        piece: PieceIndex,
        buffer: &PieceBuffer,
        path: WritePath,
    ) -> Result<Vec<WriteStep>, StorageError> {
        let mut steps = Vec::new();
        let mut at = 0u32;
        for span in self.geometry.piece_spans(piece) {
            let len = u32::try_from(span.len).unwrap_or(u32::MAX);
            if !self.is_pad(span.file_index) && !self.is_unselected(span.file_index) {
                let incomplete = || {
                    StorageError::new(
                        Action::Write,
                        self.layout.path(span.file_index),
                        io::Error::other("the piece is incomplete"),
                    )
                };
                let source = buffer.span(at, len).ok_or_else(incomplete)?;
                let aligned = [span.offset, span.len, u64::from(at)].iter().all(|n| n.is_multiple_of(DIRECT_ALIGN));
                let path = if aligned && buffer.is_aligned(DIRECT_ALIGN) { path } else { WritePath::Buffered };
                let source = BufferSpans::from(source);
                steps.push(WriteStep { file_index: span.file_index, path, offset: span.offset, source });
            }
            at = at.saturating_add(len);
        }
        Ok(steps)
    }

    /// Returns a file if it is already open for writing, with its write path. Does not block.
    pub fn writable_if_open(&self, file_index: usize, path: WritePath) -> Option<(SharedFile, WritePath)> {
        let path = if self.buffered_only.load(Ordering::Relaxed) { WritePath::Buffered } else { path };
        let open = lock(&self.writable);
        let found = open.iter().rev().find(|(index, opened, _)| (*index, *opened) == (file_index, path));
        found.map(|(.., file)| (file.clone(), path))
    }

    /// Returns a file open for writing, and its write path: direct writes fall back to buffered ones if the
    /// file system refuses them.
    pub fn writable(&self, file_index: usize, path: WritePath) -> Result<(SharedFile, WritePath), StorageError> {
        if let Some(open) = self.writable_if_open(file_index, path) {
            return Ok(open);
        }
        let mut path = if self.buffered_only.load(Ordering::Relaxed) { WritePath::Buffered } else { path };
        let open = || match path {
            WritePath::Buffered => self.layout.open_to_write(file_index),
            WritePath::Direct => self.layout.open_to_write_direct(file_index),
        };
        let opened = match open() {
            // Close the files kept open for later pieces, and try once more.
            Err(error) if matches!(error.source.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                lock(&self.writable).clear();
                open()
            }
            opened => opened,
        };
        let file = match opened {
            Err(error) if path == WritePath::Direct && error.source.raw_os_error() == Some(libc::EINVAL) => {
                self.buffered_only.store(true, Ordering::Relaxed);
                path = WritePath::Buffered;
                self.layout.open_to_write(file_index)?
            }
            opened => opened?,
        };
        let file = Arc::new(file);
        let mut open = lock(&self.writable);
        if open.len() >= self.open_files_max() {
            open.pop_front();
        }
        open.push_back((file_index, path, file.clone()));
        Ok((file, path))
    }
}

#[cfg(test)]
mod tests;
