//! One torrent's content on disk: read for checks, leased for sends (`reading`), written piece by verified piece.
//!
//! Every method but [`Store::lease`] and [`Store::is_resident`] may block on the file system: ring threads leave them to others.

mod file_changes;
mod reading;
mod sync;

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::arena::{BufferSpan, PieceBuffer};
use super::error::{Action, StorageError};
use super::layout::Layout;
use super::mapping::{Maps, maps_budget};
use super::read_content::{Packs, packs_budget};
use super::verified_files::{OnChange, VerifiedFiles};
use crate::base::lock::lock;
use crate::base::units::Bytes;
use crate::base::{BlockRef, FileIdentity, FileSpan, Geometry, PieceIndex, limits};
use crate::uring::{SharedFile, Step, fault_point, retry_transient};

pub use sync::Unsynced;

/// Offsets, lengths and addresses of direct writes are multiples of this: the largest block size of today's disks.
const DIRECT_ALIGN: u64 = 4096;

/// How verified pieces reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WritePath {
    /// Through the page cache, from where they can be read at once.
    Buffered,
    /// Past the page cache where alignment and file system allow: a quarter of the processor time, but who reads the
    /// piece again reads the disk.
    Direct,
}

/// One file's part of a verified piece, for the ring to write.
#[derive(Debug)]
pub struct WriteStep {
    pub file_index: usize,
    /// How it is best written.
    pub path: WritePath,
    /// Byte offset in the file.
    pub offset: u64,
    pub source: BufferSpan,
}

/// See the module.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    geometry: Geometry,
    /// Pad files (BEP 47) read as zeros and are never made.
    pads: Box<[bool]>,
    /// Files that are neither made nor written; empty: none.
    unselected: Box<[bool]>,
    maps: Maps,
    packs: Packs,
    /// How often each stretch was written to: what was read of it before is old.
    writes: Box<[AtomicU32]>,
    /// Locked while a file comes into memory or is compared with what it was, never for a block.
    verified: Mutex<VerifiedFiles>,
    /// Open for writing, the first one for the longest time.
    writable: Mutex<VecDeque<(usize, WritePath, SharedFile)>>,
    open_files_max: usize,
    /// The file system has refused direct writes.
    buffered_only: AtomicBool,
}

impl Store {
    /// `pads[i]` says that file i is a pad file.
    pub fn new(layout: Layout, geometry: Geometry, pads: Box<[bool]>) -> Result<Self, StorageError> {
        let zero_lens: Vec<_> =
            pads.iter().enumerate().map(|(index, pad)| pad.then(|| geometry.file_len(index))).collect();
        let maps = Maps::new(&zero_lens, maps_budget())
            .map_err(|error| StorageError::new(Action::Map, layout.path(0), error))?;
        let verified = Mutex::new(VerifiedFiles::new(layout.file_count()));
        let stretches = 0..geometry.total_len().div_ceil(limits::STRETCH_LEN);
        Ok(Self {
            layout,
            geometry,
            pads,
            unselected: Box::default(),
            maps,
            packs: Packs::new(stretches.clone().map(|_| None), packs_budget()),
            writes: stretches.map(|_| AtomicU32::new(0)).collect(),
            verified,
            writable: Mutex::default(),
            open_files_max: open_files_max(),
            buffered_only: AtomicBool::new(false),
        })
    }

    /// Files that may be open for writing at a time: a share of the descriptors that the process may have.
    pub fn open_files_max(&self) -> usize {
        self.open_files_max
    }

    /// The same without the files for which `unselected[i]` holds: they are neither made nor written.
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

    /// The files that are read and written: all but pad files and those left out.
    pub fn file_indices(&self) -> impl Iterator<Item = usize> + '_ {
        self.listed().filter(|&file_index| !self.is_unselected(file_index))
    }

    /// Length of a file in the torrent.
    pub(super) fn len(&self, file_index: usize) -> u64 {
        self.geometry.file_len(file_index)
    }

    /// All but pad files.
    pub fn listed(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.layout.file_count()).filter(|&file_index| !self.is_pad(file_index))
    }

    /// Makes every file with its length, sparse. Called before a download writes.
    pub fn create_files(&self) -> Result<(), StorageError> {
        self.file_indices()
            .try_for_each(|file_index| self.layout.create(file_index, self.geometry.file_len(file_index)).map(drop))
    }

    /// Has the file system reserve the space of every file. A file system that can't is left alone.
    pub fn preallocate(&self) -> Result<(), StorageError> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        let lens = || {
            let lens = self.file_indices().map(|file_index| (file_index, self.geometry.file_len(file_index)));
            lens.filter(|&(_, len)| len > 0)
        };
        // What does not fit would fill the disk first.
        let lacking: u64 =
            lens().map(|(file_index, len)| len.saturating_sub(self.layout.reserved_len(file_index))).sum();
        if let Some(free) = self.layout.free_len().filter(|&free| free < lacking) {
            let line = format!("{} more are needed, and {} are free", Bytes(lacking), Bytes(free));
            let error = io::Error::new(io::ErrorKind::StorageFull, line);
            return Err(StorageError::new(Action::Reserve, self.layout.path(0), error));
        }
        for (file_index, len) in lens() {
            let file = self.layout.open_to_write(file_index, false)?;
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

    /// Reads a piece in parts of at most `buffer`'s length, each handed to `part` in order. Says which files were read, as
    /// they were before.
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

    /// The same for a part of one file; `None` for a pad file.
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

    /// The files that have something of a block, and whether that is something of their last page.
    pub fn files_of(&self, block: BlockRef) -> impl Iterator<Item = (usize, bool)> + '_ {
        let spans = self.geometry.block_spans(block).filter(|span| !self.is_pad(span.file_index));
        spans.map(|span| (span.file_index, span.offset + span.len > self.last_page_at(span.file_index)))
    }

    /// The files that hold a range of the content, without pad files.
    pub fn files_in(&self, offset: u64, len: u64) -> impl Iterator<Item = usize> + '_ {
        let spans = self.geometry.file_spans(offset, len).filter(|span| !self.is_pad(span.file_index));
        spans.map(|span| span.file_index)
    }

    fn last_page_at(&self, file_index: usize) -> u64 {
        let last = self.geometry.file_len(file_index).saturating_sub(1);
        last - last % rustix::param::page_size() as u64
    }

    /// Lets go of all pages of these files that are not to be written.
    fn drop_files(&self, file_indices: impl Iterator<Item = usize>) {
        for file_index in file_indices {
            if let Ok((file, _)) = self.layout.open_to_read(file_index) {
                let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
            }
        }
    }

    /// What has to be written where for a piece that lies complete and verified in `buffer`.
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
                        io::Error::other("piece not complete"),
                    )
                };
                let source = buffer.span(at, len).ok_or_else(incomplete)?;
                let aligned = [span.offset, span.len, u64::from(at)].iter().all(|n| n.is_multiple_of(DIRECT_ALIGN));
                let path = if aligned && buffer.is_aligned(DIRECT_ALIGN) { path } else { WritePath::Buffered };
                steps.push(WriteStep { file_index: span.file_index, path, offset: span.offset, source });
            }
            at = at.saturating_add(len);
        }
        Ok(steps)
    }

    /// A file to write to, and how it is open, if it is open already. Does not block.
    pub fn open_writable(&self, file_index: usize, path: WritePath) -> Option<(SharedFile, WritePath)> {
        let path = if self.buffered_only.load(Ordering::Relaxed) { WritePath::Buffered } else { path };
        let open = lock(&self.writable);
        let found = open.iter().rev().find(|(index, how, _)| (*index, *how) == (file_index, path));
        found.map(|(.., file)| (file.clone(), path))
    }

    /// A file to write to, and how it is open.
    pub fn writable(&self, file_index: usize, path: WritePath) -> Result<(SharedFile, WritePath), StorageError> {
        if let Some(open) = self.open_writable(file_index, path) {
            return Ok(open);
        }
        let mut path = if self.buffered_only.load(Ordering::Relaxed) { WritePath::Buffered } else { path };
        let opened = match self.layout.open_to_write(file_index, path == WritePath::Direct) {
            // Those that are open for the next piece are fewer from now on.
            Err(error) if matches!(error.source.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                lock(&self.writable).clear();
                self.layout.open_to_write(file_index, path == WritePath::Direct)
            }
            opened => opened,
        };
        let file = match opened {
            Err(error) if path == WritePath::Direct && error.source.raw_os_error() == Some(libc::EINVAL) => {
                self.buffered_only.store(true, Ordering::Relaxed);
                path = WritePath::Buffered;
                self.layout.open_to_write(file_index, false)?
            }
            opened => opened?,
        };
        let file = Arc::new(file);
        let mut open = lock(&self.writable);
        if open.len() >= self.open_files_max {
            open.pop_front();
        }
        open.push_back((file_index, path, file.clone()));
        Ok((file, path))
    }
}

fn open_files_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let share = usize::try_from(limit / limits::OPEN_FILES_SHARE).unwrap_or(usize::MAX);
    share.clamp(limits::OPEN_FILES_MIN, limits::OPEN_FILES_MAX)
}

#[cfg(test)]
mod tests;
