//! A load for trackers: announces over UDP or HTTP as fast as the tracker answers, for some seconds; prints the
//! number of announces.
//!
//!     rustc -O --edition 2024 tools/load.rs -o target/load
//!     target/load udp 127.0.0.1:6969 [--seconds S] [--threads N] [--window N] [--numwant N]
//!         [--hash HEX | --torrents N]
//!     target/load http 127.0.0.1:6969 [--keep-alive] …
//!
//! Each thread is one host (over UDP with a source address of its own in 127/8) with up to 64 peers, and keeps a window
//! of outstanding announces: over HTTP with `--keep-alive`, where the default is one, sent and awaited together. One in eight peers is a seeder. Answers are checked: a refusal, or an
//! answer without an interval, counts as a failure. Info-hashes are derived from the number of the torrent; `--list`
//! prints them for a tracker that needs a list.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const PEERS_PER_HOST: u64 = 64;

#[derive(Clone)]
struct Load {
    http: bool,
    keep_alive: bool,
    tracker: SocketAddr,
    seconds: u64,
    threads: u64,
    window: u64,
    torrents: u64,
    numwant: u64,
}

#[derive(Default)]
struct Count {
    answered: u64,
    failed: u64,
    bytes: u64,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str, default: u64| {
        let at = args.iter().position(|arg| arg == flag);
        at.map_or(default, |at| args.get(at + 1).and_then(|text| text.parse().ok()).unwrap_or_else(|| usage()))
    };
    let torrents = value("--torrents", 100);
    if args.iter().any(|arg| arg == "--list") {
        (0..torrents).for_each(|number| println!("{}", hex(&info_hash(number))));
        return;
    }
    let (Some(kind), Some(tracker)) = (args.first(), args.get(1).and_then(|text| text.parse().ok())) else { usage() };
    let load = Load {
        http: kind == "http",
        keep_alive: args.iter().any(|arg| arg == "--keep-alive"),
        tracker,
        seconds: value("--seconds", 5),
        threads: value("--threads", 1),
        window: value("--window", if kind == "udp" { 32 } else { 1 }),
        torrents,
        numwant: value("--numwant", 50),
    };
    let started = Instant::now();
    let threads: Vec<_> = (0..load.threads)
        .map(|number| {
            let load = load.clone();
            std::thread::spawn(move || if load.http { http(&load, number) } else { udp(&load, number) })
        })
        .collect();
    let mut sum = Count::default();
    for thread in threads {
        let Count { answered, failed, bytes } =
            thread.join().expect("a thread of the load").expect("the load's sockets");
        sum = Count { answered: sum.answered + answered, failed: sum.failed + failed, bytes: sum.bytes + bytes };
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{{\"kind\":\"{kind}\",\"announces\":{},\"failed\":{},\"seconds\":{seconds:.2},\"announces_per_s\":{:.0},\"reply_len\":{:.0}}}",
        sum.answered,
        sum.failed,
        sum.answered as f64 / seconds,
        sum.bytes as f64 / (sum.answered.max(1)) as f64,
    );
}

fn usage() -> ! {
    eprintln!(
        "load udp|http ADDR:PORT [--seconds S] [--threads N] [--window N] [--torrents N] [--numwant N] [--keep-alive] [--list]"
    );
    std::process::exit(2);
}

fn info_hash(number: u64) -> [u8; 20] {
    let mut state = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    std::array::from_fn(|_| random(&mut state) as u8)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// xorshift64*
fn random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 24
}

fn host(number: u64) -> Ipv4Addr {
    Ipv4Addr::new(127, 77, (number >> 8) as u8, number as u8 + 1)
}

struct Peer {
    info_hash: [u8; 20],
    id: [u8; 20],
    port: u16,
    left: u64,
}

fn peer(load: &Load, state: &mut u64) -> Peer {
    let number = random(state) % PEERS_PER_HOST;
    let mut id = *b"-LD0000-000000000000";
    id[19] = number as u8;
    let left = if number % 8 == 0 { 0 } else { 1 << 20 };
    Peer { info_hash: info_hash(random(state) % load.torrents), id, port: 10_000 + number as u16, left }
}

fn udp(load: &Load, number: u64) -> std::io::Result<Count> {
    let socket = UdpSocket::bind((host(number), 0))?;
    socket.connect(load.tracker)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut answer = [0; 4096];
    socket.send(&[0x0417_2710_1980_u64.to_be_bytes().as_slice(), &[0; 8]].concat())?;
    let len = socket.recv(&mut answer)?;
    assert_eq!(len, 16, "no connection id");
    let connection_id: [u8; 8] = answer[8..16].try_into().expect("eight bytes");

    let mut state = number + 1;
    let mut count = Count::default();
    let mut send = |transaction: u64| {
        let Peer { info_hash, id, port, left } = peer(load, &mut state);
        let mut packet = Vec::with_capacity(98);
        packet.extend(connection_id);
        packet.extend(1_u32.to_be_bytes());
        packet.extend((transaction as u32).to_be_bytes());
        packet.extend(info_hash);
        packet.extend(id);
        packet.extend([0; 8]);
        packet.extend(left.to_be_bytes());
        packet.extend([0; 16]);
        packet.extend(load.numwant.to_be_bytes());
        packet.extend(port.to_be_bytes());
        socket.send(&packet)
    };
    let end = Instant::now() + Duration::from_secs(load.seconds);
    let mut sent = 0;
    for _ in 0..load.window {
        send(sent)?;
        sent += 1;
    }
    while sent % 64 != 0 || Instant::now() < end {
        match socket.recv(&mut answer) {
            Ok(len) if len >= 20 && answer[..4] == [0, 0, 0, 1] => {
                count.answered += 1;
                count.bytes += len as u64;
            }
            Ok(_) => count.failed += 1,
            // The answers were lost: start a new window.
            Err(_) => {
                count.failed += load.window;
                for _ in 1..load.window {
                    send(sent)?;
                    sent += 1;
                }
            }
        }
        send(sent)?;
        sent += 1;
    }
    Ok(count)
}

fn http(load: &Load, number: u64) -> std::io::Result<Count> {
    let escape = |bytes: &[u8]| bytes.iter().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let hashes: Vec<String> = (0..load.torrents).map(|number| escape(&info_hash(number))).collect();
    let mut state = number + 1;
    let mut request = || {
        let Peer { id, port, left, .. } = peer(load, &mut state);
        format!(
            "GET /announce?info_hash={}&peer_id={}&port={port}&uploaded=0&downloaded=0&left={left}&compact=1&numwant={} HTTP/1.1\r\nHost: {}\r\nConnection: {}\r\n\r\n",
            hashes[(random(&mut state) % load.torrents) as usize],
            escape(&id),
            load.numwant,
            load.tracker,
            if load.keep_alive { "keep-alive" } else { "close" },
        )
    };
    // Made before the clock starts, so that the load takes little of the processor.
    let requests: Vec<String> = (0..1024).map(|_| request()).collect();
    let window = if load.keep_alive { load.window.max(1) as usize } else { 1 };
    let mut count = Count::default();
    let mut kept: Option<TcpStream> = None;
    let mut answers = vec![0; 1 << 20];
    let end = Instant::now() + Duration::from_secs(load.seconds);
    for batch in (0..).map(|at| at * window % requests.len()) {
        if Instant::now() >= end {
            break;
        }
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => TcpStream::connect(load.tracker)?,
        };
        let batch: String = requests.iter().cycle().skip(batch).take(window).map(String::as_str).collect();
        stream.write_all(batch.as_bytes())?;
        let Answers { good, len } = receive(&mut stream, &mut answers, window)?;
        count.answered += good as u64;
        count.failed += (window - good) as u64;
        count.bytes += len as u64;
        if load.keep_alive {
            kept = Some(stream);
        }
    }
    Ok(count)
}

#[derive(Default)]
struct Answers {
    /// With an interval, as a reply has that is no refusal.
    good: usize,
    /// In bytes.
    len: usize,
}

/// Receives this number of answers, each of its announced length.
fn receive(stream: &mut TcpStream, buffer: &mut [u8], wanted: usize) -> std::io::Result<Answers> {
    let (mut answers, mut begin) = (Answers::default(), 0);
    for _ in 0..wanted {
        let end = loop {
            if let Some(len) = answer_len(&buffer[begin..answers.len]) {
                break begin + len;
            }
            match stream.read(&mut buffer[answers.len..])? {
                // The connection ends the last answer.
                0 => break answers.len,
                received => answers.len += received,
            }
        };
        answers.good += usize::from(contains(&buffer[begin..end], b"8:interval").is_some());
        begin = end;
    }
    Ok(answers)
}

/// Length of the answer at the start of these bytes; `None` if it is incomplete or does not announce its length.
fn answer_len(bytes: &[u8]) -> Option<usize> {
    let head = contains(bytes, b"\r\n\r\n")? + 4;
    let lines = bytes[..head].split(|&byte| byte == b'\n');
    let value = lines.filter_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        name.eq_ignore_ascii_case(b"content-length:").then(|| std::str::from_utf8(value).ok()?.trim().parse().ok())?
    });
    let body: usize = { value }.next()?;
    (bytes.len() >= head + body).then_some(head + body)
}

fn contains(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|found| found == part)
}
