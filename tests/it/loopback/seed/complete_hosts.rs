//! `seed` counts the hosts that have all pieces, and the same numbers are in its lines, records and pages.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use bt_fast::{
    base::PeerId,
    codec::{
        handshake::Reserved,
        tracker_http::{AnnounceQuery, Event},
    },
};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::loopback::{DEADLINE, Fixture, NAME, exit_code, own_ip};
use crate::support::{
    http_client::get,
    process::{Running, run, wait_until},
    wire_peer::WirePeer,
};

const LEN: u64 = 300_000;

/// A running `seed` with tracker and pages.
struct Origin {
    fixture: Fixture,
    process: Running,
    peers: SocketAddr,
    web: SocketAddr,
    admin: SocketAddr,
}

impl Origin {
    #[track_caller]
    fn start(flags: &[&str]) -> Self {
        let fixture = Fixture::file(LEN);
        let ip = own_ip();
        let [peers, web, admin] = [7000, 7100, 7101].map(|port| SocketAddr::from((ip, port)));
        let mut command = fixture.seed_command(peers);
        command.args(["--web", &web.to_string(), "--admin", &admin.to_string()]).args(flags);
        let mut process = Running::start("seed", &command, &fixture.scratch.join("seed.log"));
        let serves = wait_until(DEADLINE, || process.output().contains("\"seeding\"") || !process.is_running());
        assert!(serves && process.is_running(), "{}", process.log_tail());
        Self { fixture, process, peers, web, admin }
    }

    /// Announces a peer of this host to the tracker.
    #[track_caller]
    fn announce(&self, host: Ipv4Addr, peer: u8, left: u64, event: Event) {
        let query = AnnounceQuery {
            info_hash: self.fixture.metainfo.info_hash,
            peer_id: PeerId([peer; 20]),
            ip: None,
            port: 7000 + u16::from(peer),
            uploaded: 0,
            downloaded: 0,
            left,
            event,
            numwant: 0,
            key: 1,
            tracker_id: None,
        };
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((host, 0)).into()).unwrap();
        socket.connect(&self.web.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        let target = query.append_to("/announce");
        write!(stream, "GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.web).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("failure"), "{answer}");
    }

    /// Runs `get` into this folder from an address of its own.
    #[track_caller]
    fn get_into(&self, folder: &Path) {
        let tracker = format!("http://{}/announce", self.web);
        let mut command = self.fixture.get_command(folder, &[]);
        command.args(["--announce", &tracker]);
        run(&command, DEADLINE).success();
        self.fixture.assert_complete(folder);
    }

    #[track_caller]
    fn api(&self) -> Value {
        serde_json::from_slice(&get(self.admin, "/api", "").body).unwrap()
    }

    /// Returns the numbers of complete and of seen hosts.
    #[track_caller]
    fn counts(&self) -> [u64; 2] {
        let torrent = &self.api()["torrents"][0];
        ["hosts_complete", "hosts_seen"].map(|key| torrent[key].as_u64().unwrap())
    }

    #[track_caller]
    fn await_counts(&mut self, counts: [u64; 2]) {
        let reached = wait_until(DEADLINE, || self.counts() == counts);
        assert!(reached, "{:?} in place of {counts:?}\n{}", self.counts(), self.process.log_tail());
    }

    /// Returns the `completed` records.
    fn completions(&self) -> Vec<Value> {
        let output = self.process.output();
        let records = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.filter(|record| record["event"] == "completed").collect()
    }
}

#[test]
fn hosts_that_had_the_content_before_end_stop_copies() {
    let mut origin = Origin::start(&["--stop-copies", "3"]);
    // Three peers of one host.
    let complete = own_ip();
    (1..=3).for_each(|peer| origin.announce(complete, peer, 0, Event::Started));
    // A host with a part of the content comes and goes; another one has a magnet link at first.
    let (partial, magnet) = (own_ip(), own_ip());
    origin.announce(partial, 4, 5, Event::Started);
    origin.announce(partial, 4, 5, Event::Stopped);
    origin.announce(magnet, 5, 0, Event::Started);
    origin.announce(magnet, 5, LEN, Event::Started);
    origin.await_counts([1, 3]);
    // `get` of content that is complete already.
    origin.get_into(&origin.fixture.source);
    origin.await_counts([2, 4]);
    origin.announce(complete, 1, 0, Event::Stopped);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(origin.counts(), [2, 4], "a host that left is counted, and no other host is complete");
    assert!(origin.process.is_running(), "{}", origin.process.log_tail());

    origin.get_into(&origin.fixture.scratch.folder("target"));
    assert_eq!(exit_code(&mut origin.process, DEADLINE), Some(0), "{}", origin.process.log_tail());
    let completions = origin.completions();
    assert_eq!(completions.len(), 3, "{completions:?}");
    for (record, number) in completions.iter().zip(1_u64..) {
        assert_eq!((&record["complete"], &record["name"]), (&number.into(), &NAME.into()), "{record}");
        assert_eq!(record["info_hash"], origin.fixture.metainfo.info_hash.to_string(), "{record}");
    }
    assert_eq!((&completions[0]["host"], &completions[0]["seen"]), (&complete.to_string().into(), &3.into()));
    let output = origin.process.output();
    for line in [
        format!("{complete} has all of {NAME} (1 of 3 hosts)"),
        "stopping: 3 hosts complete".to_owned(),
        format!("; {NAME}: 3 of 5 hosts complete"),
    ] {
        assert!(output.contains(&line), "{line}\n{output}");
    }
}

#[test]
fn pages_and_metrics_have_the_same_numbers() {
    let mut origin = Origin::start(&["--up", "1M"]);
    let (complete, partial) = (own_ip(), own_ip());
    origin.announce(complete, 1, 5, Event::Started);
    origin.announce(complete, 1, 0, Event::Completed);
    origin.announce(partial, 2, 5, Event::Started);
    origin.await_counts([1, 2]);
    let api = origin.api();
    let (torrent, swarm) = (&api["torrents"][0], &api["tracker"]["swarms"][0]);
    let info_hash = origin.fixture.metainfo.info_hash.to_string();
    assert_eq!((&swarm["info_hash"], &swarm["name"]), (&info_hash.as_str().into(), &NAME.into()));
    let metrics = get(origin.admin, "/metrics", "");
    let metrics = metrics.text();
    for (key, metric, value) in [
        ("seeders", "seeders", 2),
        ("leechers", "leechers", 1),
        ("completed", "completed_total", 1),
        ("hosts_seen", "hosts_seen", 2),
        ("hosts_complete", "hosts_complete", 1),
    ] {
        assert_eq!((&torrent[key], &swarm[key]), (&value.into(), &value.into()), "{key}");
        let line = format!("btfast_torrent_{metric}{{info_hash=\"{info_hash}\",name=\"{NAME}\"}} {value}");
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    for line in ["btfast_upload_limit_bytes_per_second 1048576", "btfast_torrents 1"] {
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    assert!(metrics.contains("btfast_build_info{version=\""), "{metrics}");
}

#[test]
fn the_first_request_for_the_status_lists_the_peers() {
    let origin = Origin::start(&[]);
    let piece_count = origin.fixture.piece_count();
    let info_hash = origin.fixture.metainfo.info_hash;
    let _peer = WirePeer::connect_with_handshake(origin.peers, info_hash, piece_count, Reserved::ours());
    // Let the session publish a status without the list.
    std::thread::sleep(Duration::from_secs(2));
    let api = origin.api();
    let torrent = &api["torrents"][0];
    assert_eq!(torrent["peer_list"].as_array().unwrap().len(), 1, "{torrent}");
    assert_eq!(torrent["availability"].as_array().unwrap().len(), piece_count as usize, "{torrent}");
    let answer = get(origin.admin, "/api/", "");
    assert!(answer.status == 308 && answer.head.contains("location: /api"), "{answer:?}");
    let answer = get(origin.admin, "/nothing", "");
    assert_eq!((answer.status, answer.text().lines().count()), (404, 1));
}
