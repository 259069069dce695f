//! A scripted peer, which sends exactly the messages of a test over a connection that either side opened.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bt_fast::{
    base::{InfoHash, PeerId},
    codec::{
        handshake::{HANDSHAKE_LEN, Handshake, Reserved},
        message::{Bounds, Decoded, Message, PIECE_HEAD_LEN, decode, encode_piece_head},
    },
};

/// How long a scripted peer waits for the next message.
const TIMEOUT: Duration = Duration::from_secs(30);
const PORT: u16 = 7001;
/// The longest block that a peer may send: the limit of requests in BEP 3.
const BLOCK_LEN_MAX: u32 = 1 << 17;

/// A message from the other side, or the end of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Choke,
    Unchoke,
    Interested,
    NotInterested,
    Have(u32),
    Bitfield(Vec<u8>),
    HaveAll,
    HaveNone,
    Request {
        index: u32,
        begin: u32,
        length: u32,
    },
    Cancel,
    Piece {
        index: u32,
        begin: u32,
        block: Vec<u8>,
    },
    Reject {
        index: u32,
        begin: u32,
        length: u32,
    },
    Extended {
        id: u8,
        payload: Vec<u8>,
    },
    Other,
    /// The connection ended.
    Closed,
    /// No message arrived before the timeout.
    Silence,
}

pub(crate) struct WirePeer {
    stream: TcpStream,
    received: Vec<u8>,
    piece_count: u32,
    timeout: Duration,
}

impl WirePeer {
    pub(crate) fn new(stream: TcpStream, piece_count: u32) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new(), piece_count, timeout: TIMEOUT }
    }

    pub(crate) fn connect(to: SocketAddr, piece_count: u32) -> Self {
        Self::new(TcpStream::connect_timeout(&to, TIMEOUT).unwrap(), piece_count)
    }

    /// Connects and exchanges handshakes with these reserved bytes.
    pub(crate) fn connect_with_handshake(
        to: SocketAddr,
        info_hash: InfoHash,
        piece_count: u32,
        reserved: Reserved,
    ) -> Self {
        let mut peer = Self::connect(to, piece_count);
        peer.send(&Handshake { reserved, info_hash, peer_id: any_peer_id() }.encode());
        assert_eq!(peer.receive_handshake().expect("a handshake").info_hash, info_hash);
        peer
    }

    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Sends these bytes. Ignores a closed connection, which the next receive reports.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub(crate) fn send_message(&mut self, message: &Message<'_>) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.send(&bytes);
    }

    pub(crate) fn send_piece(&mut self, index: u32, begin: u32, block: &[u8]) {
        let head = encode_piece_head(index, begin, u32::try_from(block.len()).unwrap());
        self.send(&[&head[..], block].concat());
    }

    /// Receives a handshake; returns `None` if the connection ends first.
    pub(crate) fn receive_handshake(&mut self) -> Option<Handshake> {
        let deadline = Instant::now() + self.timeout;
        while self.received.len() < HANDSHAKE_LEN {
            self.fill_buffer(deadline).ok().filter(|&received| received > 0)?;
        }
        let handshake = Handshake::decode(self.received.first_chunk().unwrap()).unwrap();
        self.received.drain(..HANDSHAKE_LEN);
        Some(handshake)
    }

    /// Receives the next message that is not a keep-alive.
    pub(crate) fn receive(&mut self) -> Received {
        let deadline = Instant::now() + self.timeout;
        loop {
            match self.take_message() {
                Some(Some(received)) => return received,
                Some(None) => continue,
                None => {}
            }
            match self.fill_buffer(deadline) {
                Ok(0) => return Received::Closed,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Received::Silence;
                }
                Err(_) => return Received::Closed,
            }
        }
    }

    /// Receives until a message matches, and returns all messages before it.
    #[track_caller]
    pub(crate) fn receive_until(&mut self, wanted: impl Fn(&Received) -> bool) -> Vec<Received> {
        let mut before = Vec::new();
        loop {
            let received = self.receive();
            if wanted(&received) {
                return before;
            }
            let over = matches!(received, Received::Closed | Received::Silence);
            assert!(!over, "{received:?} instead of what is waited for, after {before:?}");
            before.push(received);
        }
    }

    /// Waits until the other side closes the connection, and returns all messages before that.
    #[track_caller]
    pub(crate) fn receive_until_closed(&mut self) -> Vec<Received> {
        self.receive_until(|received| *received == Received::Closed)
    }

    /// Requests a block and returns it. Skips other messages except rejects.
    #[track_caller]
    pub(crate) fn fetch(&mut self, index: u32, begin: u32, length: u32) -> Vec<u8> {
        self.send_message(&Message::Request { index, begin, length });
        loop {
            match self.receive() {
                Received::Piece { index: i, begin: b, block } if (i, b) == (index, begin) => return block,
                received @ (Received::Closed | Received::Silence | Received::Reject { .. }) => {
                    panic!("{received:?} for a request")
                }
                _ => {}
            }
        }
    }

    /// Takes a whole message from the receive buffer; `Some(None)` for a keep-alive.
    fn take_message(&mut self) -> Option<Option<Received>> {
        let bounds = Bounds { piece_count: self.piece_count, block_len_max: BLOCK_LEN_MAX };
        if self.received.is_empty() {
            return None;
        }
        let (received, consumed) = match decode(&self.received, &bounds).expect("a valid message") {
            Decoded::Incomplete { .. } => return None,
            Decoded::Message { message: Message::KeepAlive, consumed } => (None, consumed),
            Decoded::Message { message, consumed } => (Some(to_received(&message)), consumed),
            Decoded::Piece { index, begin, length } => {
                let end = PIECE_HEAD_LEN + usize::try_from(length).unwrap();
                let block = self.received.get(PIECE_HEAD_LEN..end)?.to_vec();
                (Some(Received::Piece { index, begin, block }), end)
            }
        };
        self.received.drain(..consumed);
        Some(received)
    }

    fn fill_buffer(&mut self, deadline: Instant) -> std::io::Result<usize> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left))?;
        let mut chunk = [0; 64 << 10];
        let received = self.stream.read(&mut chunk)?;
        self.received.extend_from_slice(&chunk[..received]);
        Ok(received)
    }
}

fn to_received(message: &Message<'_>) -> Received {
    match *message {
        Message::Choke => Received::Choke,
        Message::Unchoke => Received::Unchoke,
        Message::Interested => Received::Interested,
        Message::NotInterested => Received::NotInterested,
        Message::Have { index } => Received::Have(index),
        Message::Bitfield(payload) => Received::Bitfield(payload.to_vec()),
        Message::HaveAll => Received::HaveAll,
        Message::HaveNone => Received::HaveNone,
        Message::Request { index, begin, length } => Received::Request { index, begin, length },
        Message::Cancel { .. } => Received::Cancel,
        Message::Reject { index, begin, length } => Received::Reject { index, begin, length },
        Message::Extended { id, payload } => Received::Extended { id, payload: payload.to_vec() },
        _ => Received::Other,
    }
}

/// Returns a random peer id with the prefix of no known client.
pub(crate) fn any_peer_id() -> PeerId {
    let mut id = *b"-XX0000-............";
    id[8..].fill_with(|| fastrand::u8(b'a'..=b'z'));
    PeerId(id)
}

/// A scripted peer that accepts connections until the tests end.
pub(crate) struct ListeningPeer {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl ListeningPeer {
    /// Starts a peer that runs `script` for each connection on a separate thread, before any handshake.
    pub(crate) fn start(ip: Ipv4Addr, piece_count: u32, script: impl Fn(WirePeer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((ip, PORT)).unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(script);
        let (connections, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counters = (connections.clone(), ended.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counters.0.fetch_add(1, Ordering::Relaxed);
                let (script, ended) = (script.clone(), counters.1.clone());
                thread::spawn(move || {
                    script(WirePeer::new(stream, piece_count));
                    ended.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, connections, ended }
    }

    /// Returns the number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Returns the counter of connections whose script has ended.
    pub(crate) fn ended(&self) -> Arc<AtomicUsize> {
        self.ended.clone()
    }
}
