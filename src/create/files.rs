//! Content bytes out of the files they lie in: through the page cache, or past it where they are not in it.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{Advice, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::error::ContentError;
use super::sweep::{Content, Source};
use crate::base::FileSpan;
use crate::uring::SharedFile;

/// The files that one thread reads in several places at a time. Each place keeps the file it read last: the next bytes
/// are most likely in it too.
pub(super) struct Files<'a, C> {
    content: &'a C,
    /// Read past the page cache.
    direct: bool,
    places: Vec<Option<(usize, Source)>>,
}

impl<'a, C: Content> Files<'a, C> {
    pub(super) fn new(content: &'a C, place_count: usize) -> Self {
        Self { content, direct: false, places: vec![None; place_count] }
    }

    /// Files to be read past the page cache, as far as their file systems do that.
    pub(super) fn direct(content: &'a C, place_count: usize) -> Self {
        Self { direct: true, ..Self::new(content, place_count) }
    }

    /// Fills `buffer` with the content bytes from `offset` on.
    pub(super) fn read(&mut self, place: usize, offset: u64, buffer: &mut [u8]) -> Result<(), ContentError> {
        let mut rest = buffer;
        for span in self.content.geometry().file_spans(offset, rest.len() as u64) {
            let span_len = usize::try_from(span.len).map_or(rest.len(), |len| len.min(rest.len()));
            let (part, tail) = rest.split_at_mut(span_len);
            rest = tail;
            match self.open(place, span.file_index)? {
                Source::File(file) => {
                    file.read_exact_at(part, span.offset).map_err(|error| self.failed(span.file_index, error))?;
                }
                Source::Zeros => part.fill(0),
            }
        }
        Ok(())
    }

    /// The file itself; `None` for a pad file.
    pub(super) fn file(&mut self, place: usize, file_index: usize) -> Result<Option<SharedFile>, ContentError> {
        match self.open(place, file_index)? {
            Source::File(file) => Ok(Some(file)),
            Source::Zeros => Ok(None),
        }
    }

    /// Whether most of `range`, which lies in one file, is in the page cache, going by a few samples.
    pub(super) fn is_resident(&mut self, place: usize, span: FileSpan) -> Result<bool, ContentError> {
        const SAMPLES: u64 = 3;
        let source = self.open(place, span.file_index)?;
        let Source::File(file) = &source else { return Ok(true) };
        let absent = (0..SAMPLES).filter(|at| !is_page_resident(file, span.offset + span.len * (2 * at + 1) / 6));
        Ok(absent.count() < 2)
    }

    fn open(&mut self, place: usize, file_index: usize) -> Result<Source, ContentError> {
        let is_it = |open: &&(usize, Source)| open.0 == file_index;
        if let Some((_, source)) = self.places[place].as_ref().filter(is_it) {
            return Ok(source.clone());
        }
        let source = match self.places.iter().flatten().find(is_it) {
            Some((_, source)) => source.clone(),
            None => self.content.open(file_index)?,
        };
        if let (true, Source::File(file)) = (self.direct, &source) {
            // Where it is refused, reads go through the page cache after all.
            let _ = rustix::fs::fcntl_setfl(file, OFlags::DIRECT);
        }
        self.places[place] = Some((file_index, source.clone()));
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

/// Whether the byte at `offset` is in the page cache. Where nobody can tell, it counts as if it were.
pub(super) fn is_page_resident(file: &File, offset: u64) -> bool {
    let advise = |advice| rustix::fs::fadvise(file, 0, None, advice);
    // To ask is to have the page read; not its neighbours as well.
    if advise(Advice::Random).is_err() {
        return true;
    }
    let asked = rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut [0])], offset, ReadWriteFlags::NOWAIT);
    let _ = advise(Advice::Normal);
    asked != Err(Errno::AGAIN)
}
