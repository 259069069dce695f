//! Content bytes out of the files they lie in.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

use super::error::ContentError;
use super::pieces::{Content, Source};

/// The files that one thread reads in several places at a time. Each place keeps the file it read last: the next bytes
/// are most likely in it too.
pub(super) struct Files<'a, C> {
    content: &'a C,
    places: Vec<Option<(usize, Rc<Source>)>>,
}

impl<'a, C: Content> Files<'a, C> {
    pub(super) fn new(content: &'a C, place_count: usize) -> Self {
        Self { content, places: vec![None; place_count] }
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

    fn open(&mut self, place: usize, file_index: usize) -> Result<Rc<Source>, ContentError> {
        let is_it = |open: &&(usize, Rc<Source>)| open.0 == file_index;
        let here = self.places[place].as_ref().filter(is_it);
        if let Some((_, source)) = here {
            return Ok(Rc::clone(source));
        }
        let source = match self.places.iter().flatten().find(is_it) {
            Some((_, source)) => Rc::clone(source),
            None => Rc::new(self.content.open(file_index)?),
        };
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
