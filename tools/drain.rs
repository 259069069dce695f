//! A peer that requests blocks as fast as they come and has the kernel discard them (`MSG_TRUNC`), for some seconds;
//! prints the rate of each connection. The receiving side costs little, as one on another host would, so the rate is
//! that of the origin.
//!
//!     rustc -O --edition 2024 tools/drain.rs -o target/drain
//!     target/drain 127.0.0.1:6881 HASH --pieces N --piece-length BYTES [--seconds S] [--streams N] [--window BLOCKS]
//!
//! HASH is the info-hash in hexadecimal. With `--streams N` the first connection asks for further ones (`bf_streams`)
//! and opens them; an origin that agrees to fewer is an error. The last piece is not requested.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

const BLOCK: u64 = 16_384;
const HANDSHAKE_LEN: usize = 68;

unsafe extern "C" {
    fn recv(fd: i32, buffer: *mut u8, len: usize, flags: i32) -> isize;
}

#[derive(Clone)]
struct Drain {
    origin: SocketAddr,
    hash: [u8; 20],
    pieces: u64,
    piece_len: u64,
    seconds: u64,
    streams: u64,
    window: u64,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| args.iter().position(|arg| arg == flag).and_then(|at| args.get(at + 1));
    let number = |flag: &str, default: Option<u64>| match value(flag) {
        Some(text) => text.parse().unwrap_or_else(|_| usage()),
        None => default.unwrap_or_else(|| usage()),
    };
    let hash = args.get(1).and_then(|text| decode_hex(text)).unwrap_or_else(|| usage());
    let drain = Drain {
        origin: args.first().and_then(|text| text.parse().ok()).unwrap_or_else(|| usage()),
        hash,
        pieces: number("--pieces", None).saturating_sub(1).max(1),
        piece_len: number("--piece-length", None),
        seconds: number("--seconds", Some(5)),
        streams: number("--streams", Some(1)).max(1),
        window: number("--window", Some(1024)),
    };
    let own_id = format!("-XD0001-{:012}", std::process::id());
    let mut first = drain.connect(own_id.as_bytes());
    first.write_all(&drain.extension_handshake()).expect("send the extension handshake");
    let id = drain.await_unchoke(&mut first);
    let mut connections = vec![first];
    for _ in 1..drain.streams {
        let id = id.expect("the origin agrees to no further connection");
        let mut further = drain.connect(&id);
        drain.await_unchoke(&mut further);
        connections.push(further);
    }
    let begin = Instant::now();
    let threads: Vec<_> = (0..)
        .zip(connections)
        .map(|(number, connection)| {
            let drain = drain.clone();
            std::thread::spawn(move || drain.run(connection, number))
        })
        .collect();
    let received: Vec<u64> = threads.into_iter().map(|thread| thread.join().expect("a connection failed")).collect();
    let rate = |len: u64| len as f64 / begin.elapsed().as_secs_f64() / 1e9;
    let each: Vec<String> = received.iter().map(|&len| format!("{:.2}", rate(len))).collect();
    println!("{:.2} GB/s over {} connections ({})", rate(received.iter().sum()), each.len(), each.join(", "));
}

impl Drain {
    fn connect(&self, peer_id: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.origin).expect("connect");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let reserved = [0, 0, 0, 0, 0, 0x10, 0, 0x04];
        let handshake = [b"\x13BitTorrent protocol".as_slice(), &reserved, &self.hash, peer_id].concat();
        // Have-none (BEP 6), then interested.
        stream.write_all(&[&handshake[..], &[0, 0, 0, 1, 15], &[0, 0, 0, 1, 2]].concat()).expect("send the handshake");
        let mut answer = [0; HANDSHAKE_LEN];
        stream.read_exact(&mut answer).expect("the origin closed the connection at the handshake");
        stream
    }

    fn extension_handshake(&self) -> Vec<u8> {
        let payload = format!("d10:bf_streamsd3:maxi{}ee1:mdee", self.streams);
        let len = u32::try_from(payload.len() + 2).expect("short");
        [&len.to_be_bytes()[..], &[20, 0], payload.as_bytes()].concat()
    }

    /// Reads messages until the origin unchokes this peer. Returns the id for further connections, if it gave one.
    fn await_unchoke(&self, stream: &mut TcpStream) -> Option<[u8; 20]> {
        let mut id = None;
        loop {
            let mut len = [0; 4];
            stream.read_exact(&mut len).expect("the origin closed the connection");
            let mut message = vec![0; u32::from_be_bytes(len) as usize];
            stream.read_exact(&mut message).expect("the origin closed the connection");
            match message.first() {
                Some(1) => return id,
                Some(20) => {
                    let key = b"bf_streamsd2:id20:";
                    let at = message.windows(key.len()).position(|part| part == key);
                    id = at.and_then(|at| message.get(at + key.len()..)?.first_chunk().copied()).or(id);
                }
                _ => {}
            }
        }
    }

    /// Requests and discards for the given time. Returns the number of bytes received.
    fn run(&self, mut stream: TcpStream, number: u64) -> u64 {
        let blocks_per_piece = (self.piece_len / BLOCK).max(1);
        let blocks = self.pieces * blocks_per_piece;
        let mut next = number * blocks / self.streams;
        let mut request = |stream: &mut TcpStream, count: u64| {
            let mut out = Vec::new();
            for _ in 0..count {
                let (piece, begin) = (next % blocks / blocks_per_piece, next % blocks_per_piece * BLOCK);
                next += 1;
                let numbers = [piece, begin, BLOCK].map(|n| u32::try_from(n).expect("32 bits").to_be_bytes());
                out.extend([0, 0, 0, 13, 6]);
                out.extend(numbers.concat());
            }
            stream.write_all(&out).expect("send requests");
        };
        request(&mut stream, self.window);
        let (begin, mut received, mut renewed) = (Instant::now(), 0, 0);
        let mut buffer = [0; 64];
        while begin.elapsed() < Duration::from_secs(self.seconds) {
            const MSG_TRUNC: i32 = 0x20;
            // SAFETY: with MSG_TRUNC, TCP discards the bytes and writes nothing to the buffer (tcp(7)).
            let len = unsafe { recv(stream.as_raw_fd(), buffer.as_mut_ptr(), 2 << 20, MSG_TRUNC) };
            received += u64::try_from(len).ok().filter(|&len| len > 0).expect("the origin closed the connection");
            let due = received / (BLOCK + 13) - renewed;
            if due >= self.window / 4 {
                request(&mut stream, due);
                renewed += due;
            }
        }
        received
    }
}

fn decode_hex(text: &str) -> Option<[u8; 20]> {
    let bytes: Option<Vec<u8>> =
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect();
    bytes?.try_into().ok()
}

fn usage() -> ! {
    eprintln!(
        "usage: drain ADDR:PORT HASH --pieces N --piece-length BYTES [--seconds S] [--streams N] [--window BLOCKS]"
    );
    std::process::exit(2);
}
