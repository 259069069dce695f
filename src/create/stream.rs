//! Creates a torrent from a pipe, which is read once and in order, and whose length is unknown until it ends.
//!
//! A separate thread reads, so that a paused writer delays neither hashing nor cancellation. A few buffers of
//! [`STREAM_READ_LEN`] circulate, independent of the length of content and pieces. All cores hash them, but a piece
//! longer than a buffer is hashed by one core at a time, since its hash depends on the order of its bytes.

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

/// Creates a single-file torrent from all bytes of `source`. `place` is the name of the source in messages.
///
/// `settings.name` is required. The default piece length is [`STREAM_PIECE_LEN_DEFAULT`]. If the work is cancelled
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
    let splitter = Splitter { piece_len, place: &place, control, done: AtomicU64::new(0), hashes: Mutex::default() };
    let total_len = splitter.run(&buffers)?;
    let pieces = splitter.into_pieces();
    let piece_count = pieces.len() as u64;
    let geometry =
        Geometry::new(piece_len, [total_len]).ok_or(CreateError::TooManyPieces { piece_len, piece_count })?;
    finish(name, &geometry, DraftFiles::Single(total_len), pieces, settings)
}

/// Buffers that circulate between the reading thread and the hashing threads.
struct Buffers {
    /// Buffers in the order of the content, each but the last [`STREAM_READ_LEN`] long. The channel closes at the end
    /// of the content.
    filled: Receiver<io::Result<Vec<u8>>>,
    free: Sender<Vec<u8>>,
}

impl Buffers {
    /// Starts the reading thread.
    fn fill_from(source: impl Read + Send + 'static) -> io::Result<Self> {
        // One buffer for each core, one that is being read into, and one that waits.
        let count = (rayon::current_num_threads() + 2).min(STREAM_BUFFERS_MAX);
        // The number of buffers bounds both channels.
        let (filled_in, filled) = mpsc::channel();
        let (free, free_out) = mpsc::channel();
        (0..count).for_each(|_| drop(free.send(Vec::new())));
        thread::Builder::new().name("stream".to_owned()).spawn(move || read_all(source, &free_out, &filled_in))?;
        Ok(Self { filled, free })
    }

    /// Waits for the next buffer. Returns `None` at the end of the content.
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

/// Reads until the end of the content, an error, or the end of the hashing, which closes a channel.
fn read_all(mut source: impl Read, free: &Receiver<Vec<u8>>, filled: &Sender<io::Result<Vec<u8>>>) {
    while let Ok(mut bytes) = free.recv() {
        bytes.clear();
        bytes.reserve_exact(STREAM_READ_LEN);
        let read = source.by_ref().take(STREAM_READ_LEN as u64).read_to_end(&mut bytes);
        let is_last = read.is_err() || bytes.len() < STREAM_READ_LEN;
        let is_received = match read {
            Ok(0) => true,
            read => filled.send(read.map(|_| bytes)).is_ok(),
        };
        if is_last || !is_received {
            return;
        }
    }
}

/// Divides content into pieces and hashes them.
struct Splitter<'a> {
    piece_len: u32,
    place: &'a Path,
    control: Control<'a>,
    /// The number of bytes hashed.
    done: AtomicU64,
    /// The number of each buffer, with the hashes of the pieces that end in it.
    hashes: Mutex<Vec<(u64, Vec<PieceHash>)>>,
}

impl Splitter<'_> {
    /// Hashes all buffers, and returns the length of the content.
    ///
    /// Piece length and buffer length are powers of two, so one is a multiple of the other. A piece therefore either
    /// begins and ends in the same buffer, or consists of whole buffers, except for the last one.
    fn run(&self, buffers: &Buffers) -> Result<u64, CreateError> {
        let piece_len = self.piece_len as usize;
        let mut total_len = 0;
        let mut long = LongPiece { piece_len, hasher: PieceHasher::default(), len: 0 };
        // In place, so that waiting for the pipe does not occupy a thread of the pool.
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

    /// Stores the hashes of the pieces that end in buffer `index`, which is `len` bytes long.
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

/// The current piece, if pieces are longer than a buffer.
struct LongPiece {
    piece_len: usize,
    hasher: PieceHasher,
    /// The number of bytes hashed so far.
    len: usize,
}

impl LongPiece {
    /// Hashes the next bytes. Returns the hash of the piece if they complete it.
    fn take(&mut self, bytes: &[u8]) -> Vec<PieceHash> {
        self.hasher.update(bytes);
        self.len += bytes.len();
        if self.len == self.piece_len { self.end() } else { Vec::new() }
    }

    /// Ends the piece, and returns its hash if it has any bytes.
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

    /// A source that returns few bytes at a time, as a pipe does.
    struct Trickle(io::Cursor<Vec<u8>>);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = buffer.len().min(70_001);
            self.0.read(&mut buffer[..len])
        }
    }

    #[test]
    fn a_stream_and_a_file_give_the_same_torrent() {
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

    /// A source of consecutive numbers.
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
    fn an_empty_broken_or_endless_stream_is_an_error() {
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
        // A pipe that stays open without a writer of bytes.
        let (reader, _writer) = io::pipe().unwrap();
        let cancel = AtomicBool::new(true);
        let error = create_from_stream(reader, "-", &settings, Control { cancel: &cancel, progress: &|_| () });
        assert!(matches!(error, Err(CreateError::Content(ContentError::Cancelled))));
    }
}
