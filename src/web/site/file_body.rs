//! The body of a file response. One buffer circulates between the source and the connection.
//!
//! A client that does not read occupies only a short buffer. The number of long buffers is limited; fast clients get
//! them.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use futures_util::stream;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::limits::{WEB_KEEPS_UP, WEB_LONG_READ_LEN, WEB_READ_LEN};
use crate::io::ThreadPool;
use crate::web::listener::Activity;

/// A source of bytes.
pub(super) trait Source: Send + Sync + 'static {
    /// Fills `buffer` with the bytes from offset `at`. May block.
    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;
}

/// The threads and the memory with which content is read.
#[derive(Debug)]
pub(super) struct FileReaders {
    pub(super) threads: ThreadPool,
    /// One permit for each long buffer into which content is read.
    long_reads: Arc<Semaphore>,
}

impl FileReaders {
    pub(super) fn new(long_reads_max: usize) -> Self {
        Self { threads: ThreadPool::new("web-files"), long_reads: Arc::new(Semaphore::new(long_reads_max)) }
    }
}

/// Creates a body with the bytes of `range`, which are read as the client consumes them. If bytes are missing or wrong,
/// the connection ends early, so that the client notices.
pub(super) fn read(source: impl Source, range: Range<u64>, readers: &Arc<FileReaders>, activity: Activity) -> Body {
    let (give_back, returned) = mpsc::channel(1);
    let reader = Reader {
        source: Arc::new(source),
        range,
        activity,
        readers: Arc::clone(readers),
        give_back,
        returned,
        buffer: Some(Vec::new()),
        lent_at: None,
    };
    Body::from_stream(stream::try_unfold(reader, |mut reader| async move {
        let next = reader.next().await?;
        Ok::<_, io::Error>(next.map(|bytes| (bytes, reader)))
    }))
}

struct Reader<S> {
    source: Arc<S>,
    /// The range that is left to read.
    range: Range<u64>,
    /// The connection that gets the bytes.
    activity: Activity,
    readers: Arc<FileReaders>,
    give_back: Sender<Vec<u8>>,
    returned: Receiver<Vec<u8>>,
    /// The buffer before the first read. Later it is lent to the connection, which returns it through the channel.
    buffer: Option<Vec<u8>>,
    lent_at: Option<Instant>,
}

/// A buffer that is lent to the connection. It is returned on drop, when all of it has been written.
struct Lent {
    bytes: Vec<u8>,
    give_back: Sender<Vec<u8>>,
    _long: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // An error means that the client has disconnected and the reader was dropped.
        let _ = self.give_back.try_send(std::mem::take(&mut self.bytes));
    }
}

impl<S: Source> Reader<S> {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.range.is_empty() {
            return Ok(None);
        }
        let mut bytes = match self.buffer.take() {
            Some(buffer) => buffer,
            None => self.returned.recv().await.unwrap_or_default(),
        };
        let keeps_up = self.lent_at.is_some_and(|lent_at| lent_at.elapsed() < WEB_KEEPS_UP);
        let long = keeps_up.then(|| Arc::clone(&self.readers.long_reads).try_acquire_owned().ok()).flatten();
        let len_max = if long.is_some() { WEB_LONG_READ_LEN } else { WEB_READ_LEN };
        let len = usize::try_from(self.range.end - self.range.start).unwrap_or(len_max).min(len_max);
        if bytes.capacity() > len_max {
            bytes = Vec::new();
        }
        bytes.resize(len, 0);
        let bytes = self.fill(bytes).await?;
        self.range.start += bytes.len() as u64;
        self.lent_at = Some(Instant::now());
        Ok(Some(Bytes::from_owner(Lent { bytes, give_back: self.give_back.clone(), _long: long })))
    }

    async fn fill(&self, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let _busy = self.activity.begin_busy();
        let (source, at) = (Arc::clone(&self.source), self.range.start);
        let read = self.readers.threads.run(move || source.read_exact_at(&mut bytes, at).map(|()| bytes));
        read.await.unwrap_or_else(|| Err(io::Error::other("no thread can be started")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write as _;
    use std::os::unix::fs::FileExt;

    impl Source for File {
        fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
            FileExt::read_exact_at(self, buffer, at)
        }
    }

    async fn pieces(len: usize, long_reads: usize) -> (Vec<usize>, Vec<u8>) {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..len).map(|at| u8::try_from(at / 7 % 256).unwrap()).collect();
        file.write_all(&content).unwrap();
        let body = read(file, 1..len as u64, &Arc::new(FileReaders::new(long_reads)), Activity::default());
        let mut stream = body.into_data_stream();
        let (mut lens, mut all) = (Vec::new(), vec![content[0]]);
        while let Some(part) = futures_util::StreamExt::next(&mut stream).await {
            let part = part.unwrap();
            lens.push(part.len());
            all.extend_from_slice(&part);
        }
        assert_eq!(all, content);
        (lens, all)
    }

    #[tokio::test]
    async fn a_fast_client_gets_long_reads_while_permits_last() {
        let (lens, _) = pieces(300_000, 1).await;
        assert!(lens[0] <= WEB_READ_LEN && lens[1..].iter().any(|&len| len > WEB_READ_LEN), "{lens:?}");
        let (lens, _) = pieces(300_000, 0).await;
        assert!(lens.iter().all(|&len| len <= WEB_READ_LEN), "{lens:?}");
    }

    #[tokio::test]
    async fn no_byte_is_read_while_the_buffer_is_lent() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 100_000]).unwrap();
        let mut stream = read(file, 0..100_000, &Arc::new(FileReaders::new(0)), Activity::default()).into_data_stream();
        let lent = futures_util::StreamExt::next(&mut stream).await.unwrap().unwrap();
        let next = futures_util::StreamExt::next(&mut stream);
        let waited = tokio::time::timeout(std::time::Duration::from_millis(50), next).await;
        assert!(waited.is_err());
        drop(lent);
        assert!(futures_util::StreamExt::next(&mut stream).await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_truncated_file_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 10]).unwrap();
        let mut stream = read(file, 0..100, &Arc::new(FileReaders::new(0)), Activity::default()).into_data_stream();
        assert!(futures_util::StreamExt::next(&mut stream).await.unwrap().is_err());
    }
}
