//! Content that comes through a pipe: read once, in order, its length unknown until it ends.
//!
//! A thread of its own reads, so that a writer that pauses holds up neither the hashing nor the end of the work. A few
//! buffers of [`STREAM_READ_LEN`] go round, whatever the length of content and pieces, and all cores hash them. A piece
//! longer than a buffer is one chain, which no second core can help with.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::error::{ContentError, CreateError};
use super::plan::{Created, Settings, finish};
use super::sweep::Control;
use crate::base::limits::{self, STREAM_BUFFERS_MAX, STREAM_PIECE_LEN_DEFAULT, STREAM_POLL_INTERVAL, STREAM_READ_LEN};
use crate::base::lock::lock;
use crate::base::{Geometry, PieceHash};
use crate::codec::metainfo::DraftFiles;
use crate::hash::{PieceHasher, sha1_batch};

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
    let buffers = Buffers::fill_from(source).map_err(|error| ContentError::Read { path: place.clone(), error })?;
    let cut = Cut { piece_len, place: &place, control, done: AtomicU64::new(0), hashes: Mutex::default() };
    let total_len = cut.run(&buffers)?;
    let pieces = cut.into_pieces();
    let piece_count = pieces.len() as u64;
    let geometry =
        Geometry::new(piece_len, [total_len]).ok_or(CreateError::TooManyPieces { piece_len, piece_count })?;
    finish(name, &geometry, DraftFiles::Single(total_len), pieces, settings)
}

/// Buffers that go round between the reading thread and the hashing.
struct Buffers {
    /// In the content's order, all of [`STREAM_READ_LEN`] but the last; the channel's end is the content's.
    filled: Receiver<io::Result<Vec<u8>>>,
    free: Sender<Vec<u8>>,
}

impl Buffers {
    /// Starts the reading thread.
    fn fill_from(source: impl Read + Send + 'static) -> io::Result<Self> {
        // One for each core, one that is read into, one that waits.
        let count = (rayon::current_num_threads() + 2).min(STREAM_BUFFERS_MAX);
        // As many messages as there are buffers, so neither channel needs a bound of its own.
        let (filled_in, filled) = mpsc::channel();
        let (free, free_out) = mpsc::channel();
        (0..count).for_each(|_| drop(free.send(Vec::new())));
        thread::Builder::new().name("stream".to_owned()).spawn(move || read_all(source, &free_out, &filled_in))?;
        Ok(Self { filled, free })
    }

    /// The next one; `None` at the content's end.
    fn next(&self, control: Control<'_>, place: &Path) -> Result<Option<Vec<u8>>, ContentError> {
        loop {
            if control.cancel.load(Ordering::Relaxed) {
                return Err(ContentError::Cancelled);
            }
            match self.filled.recv_timeout(STREAM_POLL_INTERVAL) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Ok(read) => {
                    return read.map(Some).map_err(|error| ContentError::Read { path: place.to_owned(), error });
                }
            }
        }
    }
}

/// Ends with the content, with an error, or when nobody takes or brings back buffers any more.
fn read_all(mut source: impl Read, free: &Receiver<Vec<u8>>, filled: &Sender<io::Result<Vec<u8>>>) {
    while let Ok(mut bytes) = free.recv() {
        bytes.clear();
        bytes.reserve_exact(STREAM_READ_LEN);
        let read = source.by_ref().take(STREAM_READ_LEN as u64).read_to_end(&mut bytes);
        let is_last = read.is_err() || bytes.len() < STREAM_READ_LEN;
        let is_heard = match read {
            Ok(0) => true,
            read => filled.send(read.map(|_| bytes)).is_ok(),
        };
        if is_last || !is_heard {
            return;
        }
    }
}

/// Content on its way into pieces.
struct Cut<'a> {
    piece_len: u32,
    place: &'a Path,
    control: Control<'a>,
    /// Bytes hashed.
    done: AtomicU64,
    /// Hashes of the pieces that end in one buffer, by the buffer's number.
    hashes: Mutex<Vec<(u64, Vec<PieceHash>)>>,
}

impl Cut<'_> {
    /// Hashes all buffers; the content's length.
    ///
    /// Piece length and buffer length are powers of two, so one is a multiple of the other and no piece but the last ends
    /// inside a buffer that it does not begin in.
    fn run(&self, buffers: &Buffers) -> Result<u64, CreateError> {
        let piece_len = self.piece_len as usize;
        let mut total_len = 0;
        let mut long = LongPiece { piece_len, hasher: PieceHasher::default(), len: 0 };
        // In place: to wait for the pipe takes no hashing thread.
        rayon::in_place_scope(|scope| {
            for index in 0.. {
                let Some(bytes) = buffers.next(self.control, self.place)? else { break };
                total_len += bytes.len() as u64;
                self.check(total_len)?;
                let free = buffers.free.clone();
                if piece_len <= STREAM_READ_LEN {
                    scope.spawn(move |_| {
                        self.keep(index, bytes.len(), sha1_batch(bytes.chunks(piece_len).map(|piece| [piece])));
                        let _ = free.send(bytes);
                    });
                } else {
                    self.keep(index, bytes.len(), long.take(&bytes));
                    let _ = free.send(bytes);
                }
            }
            Ok::<_, CreateError>(())
        })?;
        if total_len == 0 {
            return Err(CreateError::NoBytes { path: self.place.to_owned() });
        }
        self.keep(u64::MAX, 0, long.end());
        Ok(total_len)
    }

    fn check(&self, total_len: u64) -> Result<(), CreateError> {
        let piece_count = total_len.div_ceil(u64::from(self.piece_len));
        if total_len > limits::CONTENT_LEN_MAX {
            return Err(CreateError::TooLong { path: self.place.to_owned() });
        }
        if piece_count > u64::from(limits::PIECE_COUNT_MAX) {
            return Err(CreateError::TooManyPieces { piece_len: self.piece_len, piece_count });
        }
        Ok(())
    }

    /// Buffer `index`, of `len` bytes, is hashed.
    fn keep(&self, index: u64, len: usize, hashes: Vec<PieceHash>) {
        lock(&self.hashes).push((index, hashes));
        let done = self.done.fetch_add(len as u64, Ordering::Relaxed) + len as u64;
        (self.control.progress)(done);
    }

    fn into_pieces(self) -> Vec<PieceHash> {
        let mut hashes = self.hashes.into_inner().unwrap_or_else(PoisonError::into_inner);
        hashes.sort_unstable_by_key(|(index, _)| *index);
        hashes.into_iter().flat_map(|(_, hashes)| hashes).collect()
    }
}

/// The piece that is longer than a buffer.
struct LongPiece {
    piece_len: usize,
    hasher: PieceHasher,
    /// Bytes of it so far.
    len: usize,
}

impl LongPiece {
    /// The hash, when these bytes end the piece.
    fn take(&mut self, bytes: &[u8]) -> Vec<PieceHash> {
        self.hasher.update(bytes);
        self.len += bytes.len();
        if self.len == self.piece_len { self.end() } else { Vec::new() }
    }

    /// The hash of what there is, if there is anything.
    fn end(&mut self) -> Vec<PieceHash> {
        let is_begun = std::mem::take(&mut self.len) > 0;
        is_begun.then(|| self.hasher.finish()).into_iter().collect()
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

    /// Numbers, one after the other.
    struct Numbers(std::ops::Range<u64>);

    impl Read for Numbers {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let numbers = buffer.as_chunks_mut().0.iter_mut().zip(&mut self.0);
            Ok(numbers.map(|(bytes, number)| *bytes = number.to_le_bytes()).count() * size_of::<u64>())
        }
    }

    #[test]
    fn pieces_stay_in_order_while_all_cores_hash_them() {
        const PIECE_LEN: usize = 4 << 20;
        let len = (STREAM_BUFFERS_MAX + 3) * STREAM_READ_LEN + 8;
        let numbers = || Numbers(0..len as u64 / 8);
        let streamed = stream(numbers(), &settings(u32::try_from(PIECE_LEN).unwrap())).unwrap();
        let mut source = numbers();
        for found in &streamed.info.pieces {
            let mut piece = Vec::new();
            source.by_ref().take(PIECE_LEN as u64).read_to_end(&mut piece).unwrap();
            assert_eq!(*found, crate::hash::sha1(&[&piece]));
        }
        assert_eq!((source.0.next(), streamed.info.geometry.total_len()), (None, len as u64));
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
        assert!(error.starts_with("can't read: standard input: "), "{error}");
        // A pipe that nobody writes to, and that stays open.
        let (reader, _writer) = io::pipe().unwrap();
        let cancel = AtomicBool::new(true);
        let error = create_from_stream(reader, "-", &settings, Control { cancel: &cancel, progress: &|_| () });
        assert!(matches!(error, Err(CreateError::Content(ContentError::Cancelled))));
    }
}
