//! Reads content from its files, through the page cache or past it.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use rustix::fs::{Advice, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::error::ContentError;
use super::sweep::{Content, Source};
use crate::base::FileSpan;
use crate::io::SharedFile;

/// The unit of `st_blocks`, in bytes.
const STAT_BLOCK_LEN: u64 = 512;

/// The files that one thread reads, at several cursors in turn. Each cursor keeps its last file open, since the next
/// bytes are likely in the same file.
pub(super) struct Files<'a, C> {
    content: &'a C,
    /// Whether files are read past the page cache.
    direct: bool,
    cursors: Vec<Option<(usize, Source)>>,
}

impl<'a, C: Content> Files<'a, C> {
    pub(super) fn new(content: &'a C, cursor_count: usize) -> Self {
        Self { content, direct: false, cursors: vec![None; cursor_count] }
    }

    /// [`Self::new`] for reads past the page cache, if the file systems support them.
    pub(super) fn direct(content: &'a C, cursor_count: usize) -> Self {
        Self { direct: true, ..Self::new(content, cursor_count) }
    }

    /// Fills `buffer` with the content from `offset`.
    pub(super) fn read(&mut self, cursor: usize, offset: u64, buffer: &mut [u8]) -> Result<(), ContentError> {
        let mut rest = buffer;
        for span in self.content.geometry().file_spans(offset, rest.len() as u64) {
            let span_len = usize::try_from(span.len).map_or(rest.len(), |len| len.min(rest.len()));
            let (part, tail) = rest.split_at_mut(span_len);
            rest = tail;
            match self.open(cursor, span.file_index)? {
                Source::File(file) => {
                    file.read_exact_at(part, span.offset).map_err(|error| self.failed(span.file_index, error))?;
                }
                Source::Zeros => part.fill(0),
            }
        }
        Ok(())
    }

    /// Opens a file. Returns `None` for a pad file.
    pub(super) fn file(&mut self, cursor: usize, file_index: usize) -> Result<Option<SharedFile>, ContentError> {
        match self.open(cursor, file_index)? {
            Source::File(file) => Ok(Some(file)),
            Source::Zeros => Ok(None),
        }
    }

    /// Whether most of `span` is in the page cache, judged by a few samples.
    pub(super) fn is_resident(&mut self, cursor: usize, span: FileSpan) -> Result<bool, ContentError> {
        const SAMPLES: u64 = 3;
        let source = self.open(cursor, span.file_index)?;
        let Source::File(file) = &source else { return Ok(true) };
        let absent = (0..SAMPLES).filter(|at| !is_page_resident(file, span.offset + span.len * (2 * at + 1) / 6));
        Ok(absent.count() < 2)
    }

    /// Whether all of a file has storage. A map of a hole in a file in memory (tmpfs) would take memory for it.
    pub(super) fn is_dense(&mut self, cursor: usize, file_index: usize) -> Result<bool, ContentError> {
        Ok(match self.open(cursor, file_index)? {
            Source::File(file) => file.metadata().is_ok_and(|now| now.blocks() * STAT_BLOCK_LEN >= now.len()),
            Source::Zeros => false,
        })
    }

    fn open(&mut self, cursor: usize, file_index: usize) -> Result<Source, ContentError> {
        let is_it = |open: &&(usize, Source)| open.0 == file_index;
        if let Some((_, source)) = self.cursors[cursor].as_ref().filter(is_it) {
            return Ok(source.clone());
        }
        let source = match self.cursors.iter().flatten().find(is_it) {
            Some((_, source)) => source.clone(),
            None => self.content.open(file_index)?,
        };
        if let (true, Source::File(file)) = (self.direct, &source) {
            // If the flag is refused, reads go through the page cache.
            let _ = rustix::fs::fcntl_setfl(file, OFlags::DIRECT);
        }
        self.cursors[cursor] = Some((file_index, source.clone()));
        Ok(source)
    }

    pub(super) fn failed(&self, file_index: usize, error: io::Error) -> ContentError {
        let path = self.content.path(file_index);
        match error.kind() {
            io::ErrorKind::UnexpectedEof => ContentError::Changed { path },
            _ => ContentError::Read { path, error },
        }
    }
}

/// Whether the byte at `offset` is in the page cache. Returns true if the kernel does not report it.
pub(super) fn is_page_resident(file: &File, offset: u64) -> bool {
    let advise = |advice| rustix::fs::fadvise(file, 0, None, advice);
    // The probe may make the kernel read the page. This advice keeps it from reading neighboring pages too.
    if advise(Advice::Random).is_err() {
        return true;
    }
    let asked = rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut [0])], offset, ReadWriteFlags::NOWAIT);
    let _ = advise(Advice::Normal);
    asked != Err(Errno::AGAIN)
}
