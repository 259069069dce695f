//! Content that comes through a pipe: read once, in order, its length unknown until it ends.
//!
//! A thread of its own reads, so that a writer that pauses holds up neither the hashing nor the end of the work. Three
//! buffers of [`STREAM_READ_LEN`] go round, whatever the length of content and pieces.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;

use super::error::{ContentError, CreateError};
use super::pieces::Control;
use super::plan::{Created, Settings, finish};
use crate::base::limits::{self, STREAM_PIECE_LEN_DEFAULT, STREAM_POLL_INTERVAL, STREAM_READ_LEN};
use crate::base::{Geometry, PieceHash};
use crate::codec::metainfo::DraftFiles;
use crate::hash::{PieceHasher, sha1_batch};

/// Buffers on their way between the reader and the hashing, beside the one each of them holds.
const BUFFERS_WAITING: usize = 1;

/// A torrent of one file from all that `source` gives. `place` names it in messages.
///
/// Needs `settings.name`; a piece length that is not given is [`STREAM_PIECE_LEN_DEFAULT`]. When the work is given up
/// while `source` blocks, the reading thread stays in that read until it returns.
pub fn create_from_stream(
    source: impl Read + Send + 'static,
    place: &str,
    settings: &Settings,
    control: Control<'_>,
) -> Result<Created, CreateError> {
    let place = PathBuf::from(place);
    let name = settings.name_for(&place)?;
    let piece_len = settings.piece_len.unwrap_or(STREAM_PIECE_LEN_DEFAULT);
    let mut cut = Cut { piece_len, hashes: Vec::new(), open: PieceHasher::default(), open_len: 0, total_len: 0 };
    let buffers = start_reader(source).map_err(|error| ContentError::Read { path: place.clone(), error })?;
    loop {
        if control.cancel.load(Ordering::Relaxed) {
            return Err(ContentError::Cancelled.into());
        }
        match buffers.recv_timeout(STREAM_POLL_INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
            Ok(Err(error)) => return Err(ContentError::Read { path: place, error }.into()),
            Ok(Ok(bytes)) => {
                cut.take(&bytes);
                cut.check(&place)?;
                (control.progress)(cut.total_len);
            }
        }
    }
    if cut.total_len == 0 {
        return Err(CreateError::NoBytes { path: place });
    }
    let (total_len, pieces) = cut.end();
    let piece_count = pieces.len() as u64;
    let geometry =
        Geometry::new(piece_len, [total_len]).ok_or(CreateError::TooManyPieces { piece_len, piece_count })?;
    finish(name, &geometry, DraftFiles::Single(total_len), pieces, settings)
}

/// Buffers in order, all of [`STREAM_READ_LEN`] but the last; the channel's end is the content's.
fn start_reader(source: impl Read + Send + 'static) -> io::Result<Receiver<io::Result<Vec<u8>>>> {
    let (sender, receiver) = mpsc::sync_channel(BUFFERS_WAITING);
    thread::Builder::new().name("stream".to_owned()).spawn(move || read_all(source, &sender))?;
    Ok(receiver)
}

fn read_all(mut source: impl Read, buffers: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut bytes = Vec::with_capacity(STREAM_READ_LEN);
        let read = source.by_ref().take(STREAM_READ_LEN as u64).read_to_end(&mut bytes);
        let is_last = read.is_err() || bytes.len() < STREAM_READ_LEN;
        let is_heard = match read {
            Ok(0) => true,
            read => buffers.send(read.map(|_| bytes)).is_ok(),
        };
        if is_last || !is_heard {
            return;
        }
    }
}

/// Content so far, cut into pieces.
struct Cut {
    piece_len: u32,
    hashes: Vec<PieceHash>,
    /// The piece that is longer than a buffer, and its bytes so far.
    open: PieceHasher,
    open_len: usize,
    total_len: u64,
}

impl Cut {
    /// The next buffer. Piece length and buffer length are powers of two, so one is a multiple of the other and no piece
    /// but the last ends inside a buffer that it does not begin in.
    fn take(&mut self, bytes: &[u8]) {
        self.total_len += bytes.len() as u64;
        let piece_len = self.piece_len as usize;
        if piece_len <= STREAM_READ_LEN {
            self.hashes.extend(sha1_batch(bytes.chunks(piece_len).map(|piece| [piece])));
            return;
        }
        self.open.update(bytes);
        self.open_len += bytes.len();
        if self.open_len == piece_len {
            self.hashes.push(self.open.finish());
            self.open_len = 0;
        }
    }

    fn check(&self, place: &std::path::Path) -> Result<(), CreateError> {
        let piece_count = self.total_len.div_ceil(u64::from(self.piece_len));
        if self.total_len > limits::CONTENT_LEN_MAX {
            return Err(CreateError::TooLong { path: place.to_owned() });
        }
        if piece_count > u64::from(limits::PIECE_COUNT_MAX) {
            return Err(CreateError::TooManyPieces { piece_len: self.piece_len, piece_count });
        }
        Ok(())
    }

    /// The content's length and the hashes of its pieces.
    fn end(mut self) -> (u64, Vec<PieceHash>) {
        if self.open_len > 0 {
            self.hashes.push(self.open.finish());
        }
        (self.total_len, self.hashes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create::Plan;
    use std::sync::atomic::AtomicBool;

    fn settings(piece_len: u32) -> Settings {
        Settings { name: Some(b"name".to_vec()), piece_len: Some(piece_len), ..Settings::default() }
    }

    fn stream(source: impl Read + Send + 'static, settings: &Settings) -> Result<Created, CreateError> {
        let cancel = AtomicBool::new(false);
        create_from_stream(source, "standard input", settings, Control { cancel: &cancel, progress: &|_| () })
    }

    /// A source that gives a few bytes at a time, as pipes do.
    struct Trickle(io::Cursor<Vec<u8>>);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = buffer.len().min(70_001);
            self.0.read(&mut buffer[..len])
        }
    }

    #[test]
    fn a_stream_gives_the_torrent_of_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("name");
        let bytes: Vec<u8> = (0..2 * STREAM_READ_LEN + 100_000).map(|at| u8::try_from(at % 253).unwrap()).collect();
        let cancel = AtomicBool::new(false);
        for (len, piece_len) in [
            (1, 16 << 10),
            (STREAM_READ_LEN, 16 << 10),
            (STREAM_READ_LEN, 32 << 20),
            (bytes.len(), 1 << 20),
            (bytes.len(), 16 << 20),
            (bytes.len(), 32 << 20),
            (bytes.len(), 64 << 20),
        ] {
            std::fs::write(&path, &bytes[..len]).unwrap();
            let settings = settings(piece_len);
            let control = Control { cancel: &cancel, progress: &|_| () };
            let from_file = Plan::new(&path, &settings, None).unwrap().build(&settings, control).unwrap();
            let streamed = stream(Trickle(io::Cursor::new(bytes[..len].to_vec())), &settings).unwrap();
            assert_eq!(streamed.bytes, from_file.bytes, "{len} {piece_len}");
        }
    }

    #[test]
    fn an_empty_broken_or_endless_stream_ends_with_its_reason() {
        let settings = settings(16 << 10);
        assert!(matches!(stream(io::empty(), &settings), Err(CreateError::NoBytes { .. })));
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
        }
        let error = stream(io::Read::chain(io::repeat(1).take(100), Broken), &settings).unwrap_err().to_string();
        assert!(error.starts_with("cannot read: standard input: "), "{error}");
        // A pipe that nobody writes to, and that stays open.
        let (reader, _writer) = io::pipe().unwrap();
        let cancel = AtomicBool::new(true);
        let error = create_from_stream(reader, "-", &settings, Control { cancel: &cancel, progress: &|_| () });
        assert!(matches!(error, Err(CreateError::Content(ContentError::Cancelled))));
    }
}
