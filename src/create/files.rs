//! Content bytes out of the files they lie in: through the page cache, or past it where they are not in it.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

use rustix::fs::{Advice, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::error::ContentError;
use super::pieces::{Content, Source};
use crate::base::FileSpan;
use crate::base::limits::DIRECT_ALIGN;

/// The files that one thread reads in several places at a time. Each place keeps the file it read last: the next bytes
/// are most likely in it too.
pub(super) struct Files<'a, C> {
    content: &'a C,
    /// Read past the page cache.
    direct: bool,
    places: Vec<Option<(usize, Rc<Source>)>>,
}

impl<'a, C: Content> Files<'a, C> {
    pub(super) fn new(content: &'a C, place_count: usize) -> Self {
        Self { content, direct: false, places: vec![None; place_count] }
    }

    /// Files for [`Self::read_direct`] alone.
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
            match &*self.open(place, span.file_index)? {
                Source::File(file) => {
                    file.read_exact_at(part, span.offset).map_err(|error| self.failed(span.file_index, error))?;
                }
                Source::Zeros => part.fill(0),
            }
        }
        Ok(())
    }

    /// Reads `span` past the page cache into `room`, and says where in `room` it begins. `None` where the file system
    /// refuses.
    ///
    /// `room` begins at a multiple of [`DIRECT_ALIGN`] and has that much to spare on both sides.
    pub(super) fn read_direct(
        &mut self,
        place: usize,
        span: FileSpan,
        room: &mut [u8],
    ) -> Result<Option<usize>, ContentError> {
        let source = self.open(place, span.file_index)?;
        let Source::File(file) = &*source else { return Ok(None) };
        match read_aligned(file, span, room) {
            Ok(begin) => Ok(Some(begin)),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
            Err(error) => Err(self.failed(span.file_index, error)),
        }
    }

    /// Whether most of `range`, which lies in one file, is in the page cache, going by a few samples.
    pub(super) fn is_resident(&mut self, place: usize, span: FileSpan) -> Result<bool, ContentError> {
        const SAMPLES: u64 = 3;
        let source = self.open(place, span.file_index)?;
        let Source::File(file) = &*source else { return Ok(true) };
        let absent = (0..SAMPLES).filter(|at| !is_page_resident(file, span.offset + span.len * (2 * at + 1) / 6));
        Ok(absent.count() < 2)
    }

    fn open(&mut self, place: usize, file_index: usize) -> Result<Rc<Source>, ContentError> {
        let is_it = |open: &&(usize, Rc<Source>)| open.0 == file_index;
        if let Some((_, source)) = self.places[place].as_ref().filter(is_it) {
            return Ok(Rc::clone(source));
        }
        let source = match self.places.iter().flatten().find(is_it) {
            Some((_, source)) => Rc::clone(source),
            None => Rc::new(self.content.open(file_index)?),
        };
        if let (true, Source::File(file)) = (self.direct, &*source) {
            // Where it is refused, reads go through the page cache after all.
            let _ = rustix::fs::fcntl_setfl(file, OFlags::DIRECT);
        }
        self.places[place] = Some((file_index, Rc::clone(&source)));
        Ok(source)
    }

    fn failed(&self, file_index: usize, error: io::Error) -> ContentError {
        let path = self.content.path(file_index);
        match error.kind() {
            io::ErrorKind::UnexpectedEof => ContentError::Changed { path },
            _ => ContentError::Read { path, error },
        }
    }
}

/// Reads whole aligned units around `span`; gives the place of its first byte in `room`.
fn read_aligned(file: &File, span: FileSpan, room: &mut [u8]) -> io::Result<usize> {
    let align = DIRECT_ALIGN as u64;
    let start = span.offset - span.offset % align;
    let begin = usize::try_from(span.offset - start).map_err(io::Error::other)?;
    let end = begin + usize::try_from(span.len).map_err(io::Error::other)?;
    let Range { start: mut filled, end: room_end } = 0..end.next_multiple_of(DIRECT_ALIGN);
    while filled < end {
        let room = room.get_mut(filled..room_end).ok_or(io::ErrorKind::OutOfMemory)?;
        let read = match file.read_at(room, start + filled as u64) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        // The next read has to begin at a whole unit again; where there is none, the file ends.
        let whole = read - read % DIRECT_ALIGN;
        match filled + read >= end {
            true => break,
            false if whole == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            false => filled += whole,
        }
    }
    Ok(begin)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_reads_find_every_span() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let bytes: Vec<u8> = (0..40_000u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let path = dir.path().join("file");
        std::fs::write(&path, &bytes).unwrap();
        let file = File::open(&path).unwrap();
        let _ = rustix::fs::fcntl_setfl(&file, OFlags::DIRECT);
        let mut memory = vec![0; 48 * 1024 + DIRECT_ALIGN];
        let aligned = memory.as_ptr().align_offset(DIRECT_ALIGN);
        let room = &mut memory[aligned..][..48 * 1024];
        for (offset, len) in [(0, 40_000), (0, 1), (4095, 2), (4096, 4096), (39_999, 1), (5000, 35_000)] {
            let begin = read_aligned(&file, FileSpan { file_index: 0, offset, len }, room).unwrap();
            let (offset, len) = (usize::try_from(offset).unwrap(), usize::try_from(len).unwrap());
            assert!(room[begin..][..len] == bytes[offset..][..len], "{len} bytes at {offset}");
        }
        for (offset, len) in [(39_999, 2), (40_000, 1), (0, 40_961), (45_000, 10)] {
            let error = read_aligned(&file, FileSpan { file_index: 0, offset, len }, room).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{len} bytes at {offset}");
        }
    }
}
