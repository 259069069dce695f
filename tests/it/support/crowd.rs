//! Many peers on one thread: plain sockets that shake hands and then idle, stop reading, or read and discard.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use bt_fast::{
    base::Geometry,
    codec::{
        handshake::{HANDSHAKE_LEN, Handshake, Reserved},
        message::{Bounds, Decoded, Message, PIECE_HEAD_LEN, decode},
        metainfo::Metainfo,
    },
};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::Semaphore,
};

use super::wire_peer::any_peer_id;

const BLOCK_LEN: u32 = 16 << 10;
/// The number of outstanding requests of a reading peer.
const WINDOW: usize = 64;
/// The most pending handshakes, below the limit of an origin.
const HANDSHAKES_MAX: usize = 500;
/// Peers per address, below the limit of an origin.
const PEERS_PER_IP: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behavior {
    /// Sends nothing after the handshake.
    Idle,
    /// Requests many blocks and reads nothing.
    Stalled,
    /// Requests and reads blocks without pause.
    Reading,
}

/// The peers of one thread. They disconnect on drop.
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Shared {
    to: SocketAddr,
    metainfo: Metainfo,
    content: Vec<u8>,
    behavior: Behavior,
    /// Completed handshakes.
    established: AtomicUsize,
    ended: AtomicUsize,
    /// Received blocks that differ from the content.
    wrong: AtomicUsize,
    /// Payload bytes received by each peer.
    received: Box<[AtomicU64]>,
    over: AtomicBool,
}

impl Crowd {
    /// Starts `count` peers. `ip` returns unused loopback addresses.
    pub(crate) fn start(
        to: SocketAddr,
        metainfo: Metainfo,
        content: Vec<u8>,
        count: usize,
        behavior: Behavior,
        mut ip: impl FnMut() -> Ipv4Addr,
    ) -> Self {
        let ips: Vec<Ipv4Addr> = (0..count.div_ceil(PEERS_PER_IP)).map(|_| ip()).collect();
        let shared = Arc::new(Shared {
            to,
            metainfo,
            content,
            behavior,
            established: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            wrong: AtomicUsize::new(0),
            received: (0..count).map(|_| AtomicU64::new(0)).collect(),
            over: AtomicBool::new(false),
        });
        let thread = thread::spawn({
            let shared = shared.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let permits = Arc::new(Semaphore::new(HANDSHAKES_MAX));
                    for index in 0..count {
                        let (shared, permits, ip) = (shared.clone(), permits.clone(), ips[index / PEERS_PER_IP]);
                        tokio::spawn(async move {
                            // An unexpected end is counted in `ended`.
                            let _ = play(&shared, &permits, index, ip).await;
                            shared.ended.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                    while !shared.over.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                });
            }
        });
        Self { shared, thread: Some(thread) }
    }

    pub(crate) fn established(&self) -> usize {
        self.shared.established.load(Ordering::Relaxed)
    }

    /// Returns the number of peers whose connection has ended.
    pub(crate) fn ended(&self) -> usize {
        self.shared.ended.load(Ordering::Relaxed)
    }

    /// Returns the number of received blocks that differ from the content.
    pub(crate) fn wrong(&self) -> usize {
        self.shared.wrong.load(Ordering::Relaxed)
    }

    /// Returns the payload bytes that each peer has received.
    pub(crate) fn received(&self) -> Vec<u64> {
        self.shared.received.iter().map(|bytes| bytes.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

async fn play(shared: &Shared, permits: &Semaphore, index: usize, ip: Ipv4Addr) -> std::io::Result<()> {
    let permit = permits.acquire().await.map_err(std::io::Error::other)?;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    if shared.behavior == Behavior::Stalled {
        // A small receive buffer, so that data soon queues at the origin.
        socket.set_recv_buffer_size(16 << 10)?;
    }
    socket.bind((ip, 0).into())?;
    let stream = socket.connect(shared.to).await?;
    let info_hash = shared.metainfo.info_hash;
    let reserved = Reserved::ours();
    write_all(&stream, &Handshake { reserved, info_hash, peer_id: any_peer_id() }.encode()).await?;
    let mut answered = 0;
    while answered < HANDSHAKE_LEN {
        answered += read(&stream, &mut [0; HANDSHAKE_LEN][answered..]).await?;
    }
    drop(permit);
    shared.established.fetch_add(1, Ordering::Relaxed);
    match shared.behavior {
        Behavior::Idle => {
            // Wait until the origin closes.
            while read(&stream, &mut [0; 64]).await.is_ok() {}
        }
        Behavior::Stalled => stall(shared, &stream).await?,
        Behavior::Reading => read_all(shared, index, &stream).await?,
    }
    Ok(())
}

async fn stall(shared: &Shared, stream: &TcpStream) -> std::io::Result<()> {
    send_messages(stream, &[Message::Interested]).await?;
    let mut requests = Requests::new(&shared.metainfo.info.geometry, 0);
    let mut received = Vec::new();
    let bounds = bounds(shared);
    while !matches!(receive(shared, stream, &mut received, &bounds).await?, Incoming::Unchoke) {}
    let wanted: Vec<_> = (0..4096).map(|_| requests.next()).collect();
    send_messages(stream, &wanted).await?;
    std::future::pending().await
}

async fn read_all(shared: &Shared, index: usize, stream: &TcpStream) -> std::io::Result<()> {
    send_messages(stream, &[Message::Interested]).await?;
    let geometry = &shared.metainfo.info.geometry;
    let mut requests = Requests::new(geometry, index);
    let (mut received, bounds) = (Vec::new(), bounds(shared));
    let mut waiting = 0;
    loop {
        match receive(shared, stream, &mut received, &bounds).await? {
            Incoming::Block(len) => {
                waiting -= 1;
                shared.received[index].fetch_add(u64::from(len), Ordering::Relaxed);
            }
            Incoming::Unchoke => {}
            Incoming::Other if waiting == 0 => continue,
            Incoming::Other => {}
        }
        if waiting <= WINDOW / 2 {
            let wanted: Vec<_> = (waiting..WINDOW).map(|_| requests.next()).collect();
            waiting = WINDOW;
            send_messages(stream, &wanted).await?;
            // All peers share one thread.
            tokio::task::yield_now().await;
        }
    }
}

/// An endless cycle of requests for the whole blocks of the content.
struct Requests {
    total_len: u64,
    piece_len: u64,
    at: u64,
}

impl Requests {
    /// Each peer starts at a different block.
    fn new(geometry: &Geometry, index: usize) -> Self {
        let blocks = geometry.total_len() / u64::from(BLOCK_LEN);
        let at = index as u64 * 97 % blocks * u64::from(BLOCK_LEN);
        Self { total_len: blocks * u64::from(BLOCK_LEN), piece_len: u64::from(geometry.piece_len()), at }
    }

    fn next(&mut self) -> Message<'static> {
        let at = self.at;
        self.at = (at + u64::from(BLOCK_LEN)) % self.total_len;
        let index = u32::try_from(at / self.piece_len).unwrap();
        let begin = u32::try_from(at % self.piece_len).unwrap();
        Message::Request { index, begin, length: BLOCK_LEN }
    }
}

enum Incoming {
    Unchoke,
    Block(u32),
    Other,
}

fn bounds(shared: &Shared) -> Bounds {
    Bounds { piece_count: shared.metainfo.info.geometry.piece_count(), block_len_max: BLOCK_LEN }
}

async fn send_messages(stream: &TcpStream, messages: &[Message<'_>]) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    messages.iter().for_each(|message| message.encode(&mut bytes));
    write_all(stream, &bytes).await
}

/// Receives the next message, and compares and discards the data of blocks.
async fn receive(
    shared: &Shared,
    stream: &TcpStream,
    received: &mut Vec<u8>,
    bounds: &Bounds,
) -> std::io::Result<Incoming> {
    loop {
        match decode(received, bounds).map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error))? {
            Decoded::Message { message, consumed } => {
                let incoming = if message == Message::Unchoke { Incoming::Unchoke } else { Incoming::Other };
                received.drain(..consumed);
                return Ok(incoming);
            }
            Decoded::Piece { index, begin, length } if received.len() >= PIECE_HEAD_LEN + length as usize => {
                let at = index as usize * shared.metainfo.info.geometry.piece_len() as usize + begin as usize;
                let block = received.get(PIECE_HEAD_LEN..PIECE_HEAD_LEN + length as usize);
                if shared.content.get(at..at + length as usize) != block {
                    shared.wrong.fetch_add(1, Ordering::Relaxed);
                }
                received.drain(..PIECE_HEAD_LEN + length as usize);
                return Ok(Incoming::Block(length));
            }
            Decoded::Piece { .. } | Decoded::Incomplete { .. } => {}
        }
        let filled = received.len();
        received.resize(filled + (64 << 10), 0);
        let more = read(stream, &mut received[filled..]).await?;
        received.truncate(filled + more);
    }
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads at least one byte. The end of the stream is an error.
async fn read(stream: &TcpStream, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}
