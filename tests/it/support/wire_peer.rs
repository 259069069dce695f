//! A scripted peer: says on a real connection, from either end, exactly what a test tells it to.

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

/// How long a scripted peer listens for the next word.
const PATIENCE: Duration = Duration::from_secs(30);
const PORT: u16 = 7001;
/// The longest block anybody may send: BEP 3's limit for requests.
const BLOCK_LEN_MAX: u32 = 1 << 17;

/// What the other side said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
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
    /// Nothing came for a long time.
    Silence,
}

pub(crate) struct WirePeer {
    stream: TcpStream,
    received: Vec<u8>,
    piece_count: u32,
    patience: Duration,
}

impl WirePeer {
    pub(crate) fn new(stream: TcpStream, piece_count: u32) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new(), piece_count, patience: PATIENCE }
    }

    pub(crate) fn connect(to: SocketAddr, piece_count: u32) -> Self {
        Self::new(TcpStream::connect_timeout(&to, PATIENCE).unwrap(), piece_count)
    }

    /// Connects and shakes hands with these reserved bytes.
    pub(crate) fn greet(to: SocketAddr, info_hash: InfoHash, piece_count: u32, reserved: Reserved) -> Self {
        let mut peer = Self::connect(to, piece_count);
        peer.send(&Handshake { reserved, info_hash, peer_id: any_peer_id() }.encode());
        assert_eq!(peer.hear_handshake().expect("a handshake").info_hash, info_hash);
        peer
    }

    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// A connection that is closed already is no failure: a test finds out when it listens.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub(crate) fn say(&mut self, message: &Message<'_>) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.send(&bytes);
    }

    pub(crate) fn send_piece(&mut self, index: u32, begin: u32, block: &[u8]) {
        let head = encode_piece_head(index, begin, u32::try_from(block.len()).unwrap());
        self.send(&[&head[..], block].concat());
    }

    /// `None` when the connection ends before.
    pub(crate) fn hear_handshake(&mut self) -> Option<Handshake> {
        let deadline = Instant::now() + self.patience;
        while self.received.len() < HANDSHAKE_LEN {
            self.receive(deadline).ok().filter(|&received| received > 0)?;
        }
        let handshake = Handshake::decode(self.received.first_chunk().unwrap()).unwrap();
        self.received.drain(..HANDSHAKE_LEN);
        Some(handshake)
    }

    /// The next message that is not a keep-alive.
    pub(crate) fn hear(&mut self) -> Heard {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.take_message() {
                Some(Some(heard)) => return heard,
                Some(None) => continue,
                None => {}
            }
            match self.receive(deadline) {
                Ok(0) => return Heard::Closed,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Heard::Silence;
                }
                Err(_) => return Heard::Closed,
            }
        }
    }

    /// Listens until this is said, and returns all that was said before it.
    #[track_caller]
    pub(crate) fn hear_until(&mut self, wanted: impl Fn(&Heard) -> bool) -> Vec<Heard> {
        let mut before = Vec::new();
        loop {
            let heard = self.hear();
            if wanted(&heard) {
                return before;
            }
            let over = matches!(heard, Heard::Closed | Heard::Silence);
            assert!(!over, "{heard:?} instead of what is waited for, after {before:?}");
            before.push(heard);
        }
    }

    /// Waits until the other side hangs up, and returns what it said last.
    #[track_caller]
    pub(crate) fn hear_close(&mut self) -> Vec<Heard> {
        self.hear_until(|heard| *heard == Heard::Closed)
    }

    /// The block that answers this request; anything else that is said before it is passed over.
    #[track_caller]
    pub(crate) fn fetch(&mut self, index: u32, begin: u32, length: u32) -> Vec<u8> {
        self.say(&Message::Request { index, begin, length });
        loop {
            match self.hear() {
                Heard::Piece { index: i, begin: b, block } if (i, b) == (index, begin) => return block,
                heard @ (Heard::Closed | Heard::Silence | Heard::Reject { .. }) => panic!("{heard:?} for a request"),
                _ => {}
            }
        }
    }

    /// A whole message from what was received; `Some(None)` for a keep-alive.
    fn take_message(&mut self) -> Option<Option<Heard>> {
        let bounds = Bounds { piece_count: self.piece_count, block_len_max: BLOCK_LEN_MAX };
        if self.received.is_empty() {
            return None;
        }
        let (heard, consumed) = match decode(&self.received, &bounds).expect("a message by the table") {
            Decoded::Incomplete { .. } => return None,
            Decoded::Message { message: Message::KeepAlive, consumed } => (None, consumed),
            Decoded::Message { message, consumed } => (Some(heard(&message)), consumed),
            Decoded::Piece { index, begin, length } => {
                let end = PIECE_HEAD_LEN + usize::try_from(length).unwrap();
                let block = self.received.get(PIECE_HEAD_LEN..end)?.to_vec();
                (Some(Heard::Piece { index, begin, block }), end)
            }
        };
        self.received.drain(..consumed);
        Some(heard)
    }

    fn receive(&mut self, deadline: Instant) -> std::io::Result<usize> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left))?;
        let mut chunk = [0; 64 << 10];
        let received = self.stream.read(&mut chunk)?;
        self.received.extend_from_slice(&chunk[..received]);
        Ok(received)
    }
}

fn heard(message: &Message<'_>) -> Heard {
    match *message {
        Message::Choke => Heard::Choke,
        Message::Unchoke => Heard::Unchoke,
        Message::Interested => Heard::Interested,
        Message::NotInterested => Heard::NotInterested,
        Message::Have { index } => Heard::Have(index),
        Message::Bitfield(payload) => Heard::Bitfield(payload.to_vec()),
        Message::HaveAll => Heard::HaveAll,
        Message::HaveNone => Heard::HaveNone,
        Message::Request { index, begin, length } => Heard::Request { index, begin, length },
        Message::Cancel { .. } => Heard::Cancel,
        Message::Reject { index, begin, length } => Heard::Reject { index, begin, length },
        Message::Extended { id, payload } => Heard::Extended { id, payload: payload.to_vec() },
        _ => Heard::Other,
    }
}

/// The id of a client that does not exist.
pub(crate) fn any_peer_id() -> PeerId {
    let mut id = *b"-XX0000-............";
    id[8..].fill_with(|| fastrand::u8(b'a'..=b'z'));
    PeerId(id)
}

/// A scripted peer that others connect to; it stays until the tests end.
pub(crate) struct ListeningPeer {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl ListeningPeer {
    /// Each connection is `script`'s to play, on a thread of its own, from before the handshake.
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

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts the connections whose script is over.
    pub(crate) fn ended(&self) -> Arc<AtomicUsize> {
        self.ended.clone()
    }
}
