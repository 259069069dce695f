//! Connections to the tracker over HTTP: announces are answered where they are received, everything else by the server
//! of pages, in any order and however the bytes arrive.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::loopback::{DEADLINE, bt_fast, own_ip};
use crate::support::process::{Running, wait_until};
use crate::support::scratch::Scratch;

const ANNOUNCE: &str = "GET /announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&port=6881&left=1 HTTP/1.1\r\nHost: x\r\n";

/// A running tracker of any torrent.
struct Tracker {
    address: SocketAddr,
    _process: Running,
    _scratch: Scratch,
}

impl Tracker {
    fn start() -> Self {
        let (scratch, address) = (Scratch::new(), SocketAddr::from((own_ip(), 6969)));
        let mut command = bt_fast();
        command.args(["track", "--open", "--threads", "1", "--listen", &address.to_string()]);
        let process = Running::start("track", &command, &scratch.join("track.log"));
        assert!(wait_until(DEADLINE, || TcpStream::connect(address).is_ok()));
        Self { address, _process: process, _scratch: scratch }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Sends these parts with a pause between them, of which the last makes the server close the connection, and returns
    /// everything that comes back.
    fn exchange(&self, parts: &[&str]) -> String {
        let mut stream = self.connect();
        for part in parts {
            let _ = stream.write_all(part.as_bytes());
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut answer = Vec::new();
        // The server may reset a connection whose request it refuses.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// [`Self::exchange`] of requests on a connection that stays open, whose last response is left out.
    fn exchange_kept(&self, parts: &[&str]) -> String {
        const END: &str = "GET /end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let answer = self.exchange(&[parts, &[END]].concat());
        let (kept, last) = answer.rsplit_once("HTTP/1.").unwrap_or_else(|| panic!("{answer}"));
        assert!(last.starts_with("1 404"), "{answer}");
        kept.to_owned()
    }
}

/// The status and the number of `interval` keys of each response.
fn responses(answer: &str) -> Vec<(&str, usize)> {
    let parts = answer.split("HTTP/1.").skip(1);
    parts.map(|part| (&part[2..5], part.matches("8:intervali").count())).collect()
}

#[test]
fn announces_and_pages_share_a_connection_in_any_order() {
    let tracker = Tracker::start();
    let announce = format!("{ANNOUNCE}\r\n");
    let page = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let scrape = "GET /scrape?info_hash=aaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\nHost: x\r\n\r\n";
    let (a, p) = (("200", 1), ("200", 0));
    assert_eq!(responses(&tracker.exchange_kept(&[&announce, page, &announce])), [a, p, a]);
    assert_eq!(responses(&tracker.exchange_kept(&[page, &announce])), [p, a]);
    let pipelined =
        [&announce[..], &announce, scrape, page, &announce, "GET /none HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
    assert_eq!(responses(&tracker.exchange_kept(&[&pipelined])), [a, a, p, p, a, ("404", 0)]);
    let many = announce.repeat(200);
    assert_eq!(responses(&tracker.exchange_kept(&[&many])), [a; 200]);
}

#[test]
fn a_head_may_arrive_in_any_parts() {
    let tracker = Tracker::start();
    let announce = format!("{ANNOUNCE}Connection: close\r\n\r\n");
    let bytes: Vec<String> = announce.chars().map(String::from).collect();
    let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
    assert_eq!(responses(&tracker.exchange(&bytes)), [("200", 1)]);
    let (start, end) = announce.split_at(announce.len() - 1);
    assert_eq!(responses(&tracker.exchange(&[&format!("{ANNOUNCE}\r\n{start}"), end])), [("200", 1); 2]);
}

/// A body is never taken for a request, and a request that the tracker does not answer gets its own status.
#[test]
fn other_requests_are_answered_by_their_own_rules() {
    let tracker = Tracker::start();
    let announce = format!("{ANNOUNCE}\r\n");
    let hidden = format!("{ANNOUNCE}Content-Length: {}\r\n\r\n{announce}", announce.len());
    assert_eq!(responses(&tracker.exchange_kept(&[&hidden])), [("200", 1)], "the body is no second request");
    let chunked =
        format!("{ANNOUNCE}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{announce}\r\n0\r\n\r\n", announce.len());
    assert_eq!(responses(&tracker.exchange_kept(&[&chunked])), [("200", 1)], "the chunk is no second request");
    let both = format!("{ANNOUNCE}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    let answer = tracker.exchange(&[&both.replace("Host: x", "Host: x\r\nConnection: close")]);
    assert!(responses(&answer).len() <= 1, "{answer}");
    for (request, status) in [
        (format!("POST {}", &announce[4..]), "405"),
        (announce.replace("HTTP/1.1", "HTTP/9.9"), "400"),
        (announce.replace("Host: x", "Host: x\r\n bent"), "400"),
        (announce.replace("Host: x", "Host\0: x"), "400"),
        (announce.replace("left=1", &"x".repeat(40_000)), "4"),
    ] {
        let answer = tracker.exchange(&[&request.replace("Host", "Connection: close\r\nHost")]);
        let statuses = responses(&answer);
        assert!(statuses.len() == 1 && statuses[0].0.starts_with(status) && statuses[0].1 == 0, "{status}: {answer}");
    }
    let head = tracker.exchange_kept(&[&announce.replace("GET", "HEAD")]);
    assert!(responses(&head) == [("200", 0)] && head.ends_with("\r\n\r\n"), "{head}");
    let absolute = tracker.exchange_kept(&[&announce.replace("/announce", "http://x/announce")]);
    assert_eq!(responses(&absolute), [("200", 1)]);
    let old = tracker.exchange(&[&announce.replace("HTTP/1.1", "HTTP/1.0")]);
    assert!(old.starts_with("HTTP/1.0 200 "), "{old}");
    let kept = announce.replace("HTTP/1.1\r\n", "HTTP/1.0\r\nConnection: keep-alive\r\n");
    assert_eq!(responses(&tracker.exchange_kept(&[&kept, &kept])), [("200", 1); 2]);
}

/// A client that sends nothing, or only a part, holds no other client up.
#[test]
fn silent_clients_hold_up_no_announce() {
    let tracker = Tracker::start();
    let mut silent: Vec<TcpStream> = (0..300).map(|_| tracker.connect()).collect();
    silent.iter_mut().step_by(2).for_each(|stream| stream.write_all(b"GET /annou").unwrap());
    let close = format!("{ANNOUNCE}Connection: close\r\n\r\n");
    for _ in 0..50 {
        assert_eq!(responses(&tracker.exchange(&[&close])), [("200", 1)]);
    }
    // They are served once they go on.
    let rest = format!("nce?{}Connection: close\r\n\r\n", ANNOUNCE.split_once('?').unwrap().1);
    silent[0].write_all(rest.as_bytes()).unwrap();
    let mut answer = String::new();
    silent[0].read_to_string(&mut answer).unwrap();
    assert_eq!(responses(&answer), [("200", 1)]);
}
