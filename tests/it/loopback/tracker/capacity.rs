//! `track --open` under floods, with honest announces at the same time.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use bt_fast::{
    base::{InfoHash, PeerId, limits::TRACKER_SWARM_COUNT_MAX},
    codec::{
        tracker_http::{AnnounceQuery, AnnounceReply, Event},
        tracker_udp::{UdpReply, decode_reply, encode_announce, encode_connect},
    },
};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::loopback::{DEADLINE, STOP_DEADLINE, event, exit_code, own_address, own_ip};
use crate::support::{
    bt_fast, http_client,
    process::{Running, wait_until},
    scratch::Scratch,
    wire_peer::any_peer_id,
};

/// The number of half-open connections: more than a tracker with two threads accepts.
const HALF_OPEN_COUNT: usize = 10_000;
/// Half-open connections per address.
const HALF_OPEN_PER_IP: usize = 400;
const FLOOD_LEN: usize = 40_000;
/// Packets of a flood that are sent at a time.
const BURST_LEN: usize = 64;
/// The limit on the peak resident memory of the tracker in bytes.
const RESIDENT_MAX: u64 = 256 << 20;

struct OpenTracker {
    process: Running,
    address: SocketAddr,
    _scratch: Scratch,
}

impl OpenTracker {
    fn start() -> Self {
        let scratch = Scratch::new();
        let address = own_address();
        let mut command = bt_fast();
        command.args(["track", "--open", "--json", "--listen", &address.to_string()]);
        let mut process = Running::start("track", &command, &scratch.join("log"));
        assert!(wait_until(DEADLINE, || event(&process.output(), "tracking").is_some()), "{}", process.log_tail());
        Self { process, address, _scratch: scratch }
    }

    fn resident_len(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    fn stop(mut self) -> serde_json::Value {
        self.process.signal(Signal::TERM);
        assert_eq!(exit_code(&mut self.process, STOP_DEADLINE), Some(0), "{}", self.process.log_tail());
        event(&self.process.output(), "tracked").unwrap()
    }
}

/// A peer that announces over UDP from its own address.
struct Announcer {
    socket: UdpSocket,
    connection_id: u64,
    peer_id: PeerId,
}

impl Announcer {
    fn new(tracker: SocketAddr) -> Self {
        let socket = UdpSocket::bind((own_ip(), 0)).unwrap();
        socket.connect(tracker).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut announcer = Self { socket, connection_id: 0, peer_id: any_peer_id() };
        let UdpReply::Connected { connection_id } = announcer.ask(&encode_connect(1)) else { panic!("no connection") };
        announcer.connection_id = connection_id;
        announcer
    }

    fn packet(&self, info_hash: InfoHash) -> Vec<u8> {
        let query = AnnounceQuery {
            info_hash,
            peer_id: self.peer_id,
            ip: None,
            port: self.socket.local_addr().unwrap().port(),
            uploaded: 0,
            downloaded: 0,
            left: 1,
            event: Event::Started,
            numwant: 50,
            key: 1,
            tracker_id: None,
        };
        encode_announce(&query, "", self.connection_id, 1)
    }

    /// Sends the packet until there is an answer, because a flood also fills the tracker's receive buffer.
    fn ask(&self, packet: &[u8]) -> UdpReply {
        let mut answer = [0; 2048];
        for _ in 0..100 {
            self.socket.send(packet).unwrap();
            if let Ok(len) = self.socket.recv(&mut answer) {
                return decode_reply(&answer[..len], 1, false).unwrap();
            }
        }
        panic!("no answer");
    }

    fn announce(&self, info_hash: InfoHash) -> AnnounceReply {
        match self.ask(&self.packet(info_hash)) {
            UdpReply::Announced(reply) => reply,
            other => panic!("{other:?}"),
        }
    }
}

/// Opens connections and sends half a request on each. Connections may fail.
fn half_open(to: SocketAddr) -> Vec<TcpStream> {
    let mut sources: Vec<Ipv4Addr> = Vec::new();
    let open = (0..HALF_OPEN_COUNT).map(|n| {
        if n % HALF_OPEN_PER_IP == 0 {
            sources.push(own_ip());
        }
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((*sources.last().unwrap(), 0)).into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        // The connection is in progress.
        let _ = socket.connect(&to.into());
        let mut stream = TcpStream::from(socket);
        let _ = stream.write(b"GET /announce?info_hash=");
        stream
    });
    open.collect()
}

/// Half-open connections over HTTP do not affect announces over HTTP and UDP.
#[test]
fn half_open_connections_do_not_lock_out_peers() {
    let tracker = OpenTracker::start();
    let flood = half_open(tracker.address);
    let info_hash = InfoHash([b'a'; 20]);
    let first = Announcer::new(tracker.address);
    first.announce(info_hash);
    let announce = format!(
        "/announce?info_hash={}&peer_id={}&port=7000&uploaded=0&downloaded=0&left=1&compact=1",
        "a".repeat(20),
        "b".repeat(20)
    );
    let answer = http_client::get(tracker.address, &announce, "");
    assert_eq!(answer.status, 200);
    assert!(String::from_utf8_lossy(&answer.body).contains("5:peers6:"), "{answer:?}");
    // Both peers are in the swarm.
    assert_eq!(Announcer::new(tracker.address).announce(info_hash).peers.len(), 2);
    let resident_len = tracker.resident_len();
    assert!(resident_len < RESIDENT_MAX, "{resident_len}");
    drop(flood);
    assert_eq!(tracker.stop()["torrents"], 1);
}

/// A flood of new torrents displaces only its own entries.
#[test]
fn a_flood_of_udp_announces_displaces_no_swarm() {
    let tracker = OpenTracker::start();
    let info_hash = InfoHash([7; 20]);
    let peers = [0; 3].map(|_| Announcer::new(tracker.address));
    peers.iter().for_each(|peer| drop(peer.announce(info_hash)));
    let flooder = Announcer::new(tracker.address);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for n in 0..FLOOD_LEN {
        let packet = flooder.packet(InfoHash(std::array::from_fn(|_| rng.u8(..))));
        flooder.socket.send(&packet).unwrap();
        if n % BURST_LEN == BURST_LEN - 1 {
            // Wait for the answers, or the kernel would drop most packets of the flood on a busy machine.
            let answers = std::iter::repeat_with(|| flooder.socket.recv(&mut [0; 64]));
            assert!(answers.take(BURST_LEN).take_while(Result::is_ok).count() > 0);
        }
    }
    assert_eq!(peers[0].announce(info_hash).peers.len(), 2);
    let late = InfoHash([8; 20]);
    peers[1].announce(late);
    assert_eq!(peers[2].announce(late).peers.len(), 1);
    let resident_len = tracker.resident_len();
    assert!(resident_len < RESIDENT_MAX, "{resident_len}");
    let tracked = tracker.stop();
    assert!(tracked["udp_announces"].as_u64().unwrap() > 2 * TRACKER_SWARM_COUNT_MAX as u64, "{tracked}");
    assert_eq!(tracked["torrents"], TRACKER_SWARM_COUNT_MAX, "{tracked}");
}
