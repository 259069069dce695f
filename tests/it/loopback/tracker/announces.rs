//! Announces of `seed` and `get`, and how they treat the replies.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use rustix::process::Signal;

use crate::loopback::{
    DEADLINE, Fixture, NAME, STOP_DEADLINE, Seed, assert_fails, event, exit_code, own_address, own_ip, warnings,
};
use crate::support::{
    bencode::{Bencoded, dictionary, integer, list, string},
    bt_fast,
    http_server::{Answer, HttpServer},
    process::{Running, run, wait_until},
};

const LEN: u64 = (1 << 20) + 77;
/// The URL of a tracker that refuses connections.
const DEAD: &str = "http://127.0.0.1:1/announce";

/// Encodes peers compactly: six bytes for IPv4 (BEP 23), eighteen for IPv6 (BEP 7).
fn compact(peers: &[SocketAddr]) -> Bencoded {
    let bytes: Vec<u8> = peers
        .iter()
        .flat_map(|peer| {
            let mut bytes = match peer.ip() {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            bytes.extend(peer.port().to_be_bytes());
            bytes
        })
        .collect();
    string(bytes)
}

fn reply<'a>(entries: impl IntoIterator<Item = (&'a str, Bencoded)>) -> Answer {
    Answer::ok(dictionary(entries).0)
}

/// Starts a tracker that gives the same reply to every announce.
fn tracker<'a>(entries: impl IntoIterator<Item = (&'a str, Bencoded)>) -> HttpServer {
    let answer = reply(entries);
    HttpServer::start(own_ip(), move |_| answer.clone())
}

fn tracker_of(peers: &[SocketAddr]) -> HttpServer {
    tracker([("interval", integer(1800)), ("peers", compact(peers))])
}

#[test]
fn a_download_announces_started_completed_and_stopped() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let tracker = tracker_of(&[seed.address]);
    let target = fixture.scratch.folder("target");
    let mut command = fixture.get_command(&target, &[]);
    command.args(["--announce", &tracker.url("/announce?passkey=a%20b"), "--announce-ip", "origin.example.org"]);
    run(&command, DEADLINE).success();
    fixture.assert_complete(&target);

    assert_eq!(tracker.events(), ["started", "completed", "stopped"]);
    let announces = tracker.requests();
    let peer_id = announces[0].bytes("peer_id").unwrap();
    assert!(peer_id.len() == 20 && peer_id.starts_with(b"-FB0100-"), "{announces:?}");
    for (announce, (downloaded, left)) in announces.iter().zip([(0, LEN), (LEN, 0), (LEN, 0)]) {
        assert!(announce.target.starts_with("/announce?passkey=a%20b&info_hash="), "{announce:?}");
        let escaped = announce.raw("info_hash").unwrap();
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
        assert!(escaped.bytes().all(unreserved), "{escaped}");
        assert_eq!(announce.bytes("info_hash").unwrap(), fixture.metainfo.info_hash.0);
        assert_eq!(announce.bytes("peer_id").unwrap(), peer_id);
        assert_eq!(announce.raw("key"), announces[0].raw("key"));
        assert!(announce.raw("key").is_some());
        assert_eq!(announce.raw("ip"), Some("origin.example.org"));
        assert_eq!(announce.number("port"), Some(7000));
        assert_eq!(announce.number("compact"), Some(1));
        assert_eq!(announce.number("uploaded"), Some(0));
        assert_eq!(announce.number("downloaded"), Some(downloaded), "{announce:?}");
        assert_eq!(announce.number("left"), Some(left), "{announce:?}");
        assert_eq!(announce.number("numwant").unwrap() > 0, announce.event() != "stopped");
    }
}

#[test]
fn a_seed_announces_no_completed_and_not_too_often() {
    let tracker = tracker([("interval", integer(1)), ("peers", string(""))]);
    let fixture = Fixture::file_with_trackers(LEN, &[&tracker.url("/announce")]);
    let mut seed = fixture.seed();
    assert!(tracker.saw_event("started", DEADLINE));
    fixture.get_by_peer(seed.address);
    // The tracker's interval is one second, but clients announce at most once a minute.
    std::thread::sleep(Duration::from_secs(2));
    let by_seed = |port: u64| {
        let announces = tracker.requests().into_iter();
        announces.filter(|get| get.number("left") == Some(0) && get.number("port") == Some(port)).collect::<Vec<_>>()
    };
    assert_eq!(by_seed(7000).iter().filter(|get| get.bytes("peer_id") == by_seed(7000)[0].bytes("peer_id")).count(), 1);
    seed.process.signal(Signal::TERM);
    assert_eq!(exit_code(&mut seed.process, STOP_DEADLINE), Some(0));
    let peer_id = tracker.requests()[0].bytes("peer_id");
    let own: Vec<_> = tracker.requests().into_iter().filter(|get| get.bytes("peer_id") == peer_id).collect();
    let events: Vec<_> = own.iter().map(|get| get.event().to_owned()).collect();
    assert_eq!(events, ["started", "stopped"]);
    assert_eq!(own[1].number("uploaded"), Some(LEN));
}

#[test]
fn trackers_of_the_torrent_can_be_omitted() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let (own, given) = (tracker_of(&[]), tracker_of(&[seed.address]));
    let torrent = fixture.scratch.join("with.torrent");
    let mut create = bt_fast();
    create.args(["create", "-a", &own.url("/announce"), "-l", "32K", "-o"]).arg(&torrent);
    run(create.arg(fixture.source.join(NAME)), DEADLINE).success();
    let target = fixture.scratch.folder("target");
    let mut command = bt_fast();
    command.arg("get").arg(&torrent).arg("-o").arg(&target).args(["--listen", &own_address().to_string()]);
    run(command.args(["--announce-only", "--announce", &given.url("/announce")]), DEADLINE).success();
    fixture.assert_complete(&target);
    assert!(own.requests().is_empty() && !given.requests().is_empty());
}

#[test]
fn complete_content_announces_no_completed() {
    let tracker = tracker_of(&[]);
    let fixture = Fixture::file_with_trackers(LEN, &[&tracker.url("/announce")]);
    let finished = run(&fixture.get_command(&fixture.source, &[]), DEADLINE);
    finished.success();
    assert!(!tracker.events().contains(&"completed".to_owned()), "{:?}", tracker.events());
}

#[test]
fn failing_trackers_stop_no_transfer() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let tracker = tracker([("failure reason", string("go away"))]);
    let target = fixture.scratch.folder("target");
    let mut command = fixture.get_command(&target, &[seed.address]);
    command.args(["--announce", DEAD, "--announce", &tracker.url("/announce"), "--announce", "udp://127.0.0.1:1"]);
    run(&command, DEADLINE).success();
    fixture.assert_complete(&target);
}

#[test]
fn tracker_failures_are_reported_once() {
    let fixture = Fixture::file(LEN);
    let tracker = tracker([("failure reason", string("go \x1b[31maway\nnow"))]);
    let target = fixture.scratch.folder("target");
    let mut command = fixture.get_command(&target, &[]);
    command.args(["--announce", &tracker.url("/announce"), "--announce", DEAD, "--announce", "udp://127.0.0.1:1"]);
    let mut get = Running::start("get", &command, &fixture.scratch.join("get.log"));
    let printed = |part: &str| warnings(&get.output()).iter().filter(|line| line.contains(part)).count();
    assert!(wait_until(DEADLINE, || printed("away") > 0 && printed("127.0.0.1:1") > 1), "{}", get.output());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(
        (printed("away"), printed("http://127.0.0.1:1"), printed("udp://127.0.0.1:1")),
        (1, 1, 1),
        "{}",
        get.output()
    );
    assert!(!get.output().contains('\x1b'));
    get.signal(Signal::TERM);
    assert_eq!(exit_code(&mut get, STOP_DEADLINE), Some(130));
}

#[test]
fn a_warning_message_is_reported() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let tracker = tracker([
        ("interval", integer(1800)),
        ("peers", compact(&[seed.address])),
        ("warning message", string("slow today")),
    ]);
    let target = fixture.scratch.folder("target");
    let finished = run(fixture.get_command(&target, &[]).args(["--announce", &tracker.url("/announce")]), DEADLINE);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let reported = warnings(&finished.stderr);
    assert!(reported.len() == 1 && reported[0].contains("slow today"), "{finished:#?}");
}

#[test]
fn nonsensical_tracker_replies_are_survived() {
    for body in
        [&b"<html>busy</html>"[..], b"d5:peers7:1234567e", b"d8:intervali-5e5:peersi1ee", b"", b"d5:peersld2:ip1:"]
    {
        let fixture = Fixture::file(100_000);
        let seed = fixture.seed();
        let answer = Answer::ok(body);
        let tracker = HttpServer::start(own_ip(), move |_| answer.clone());
        let target = fixture.scratch.folder("target");
        let mut command = fixture.get_command(&target, &[seed.address]);
        run(command.args(["--announce", &tracker.url("/announce")]), DEADLINE).success();
        fixture.assert_complete(&target);
    }
}

#[test]
fn peers_as_dictionaries_may_have_addresses_or_names() {
    let fixture = Fixture::file(LEN);
    let any_port: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let seed = Seed::start(&fixture.seed_command(any_port), any_port, &fixture.scratch.join("seed.log"));
    let port = event(&seed.process.output(), "seeding").unwrap()["port"].as_u64().unwrap();
    for host in ["127.0.0.1", "localhost", "::ffff:127.0.0.1"] {
        let peer = |host: &str, port| dictionary([("ip", string(host)), ("port", integer(port))]);
        // Unusable peers next to the real one.
        let peers = [peer("no.such.name.invalid", 5), peer("", 5), peer(host, 0), peer("0.0.0.0", 6), peer(host, port)];
        let tracker = tracker([("interval", integer(1800)), ("peers", list(peers))]);
        let target = fixture.scratch.folder(host);
        run(fixture.get_command(&target, &[]).args(["--announce", &tracker.url("/announce")]), DEADLINE).success();
        fixture.assert_complete(&target);
    }
}

/// A peer whose id differs from its tracker's is disconnected (BEP 3).
#[test]
fn a_peer_with_an_unexpected_id_is_dropped() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let peer = dictionary([
        ("ip", string(seed.address.ip().to_string())),
        ("peer id", string("-XX0000-abcdefghijkl")),
        ("port", integer(seed.address.port())),
    ]);
    let tracker = tracker([("interval", integer(1800)), ("peers", list([peer]))]);
    let target = fixture.scratch.folder("target");
    let mut command = fixture.get_command(&target, &[]);
    let finished = run(command.args(["--announce", &tracker.url("/announce"), "--timeout", "2"]), DEADLINE);
    assert_fails(&finished, 4, "no peers");
}

#[test]
fn ipv6_peers_of_a_tracker_are_used() {
    let fixture = Fixture::file(LEN);
    let any_port: SocketAddr = (Ipv6Addr::LOCALHOST, 0).into();
    let seed = Seed::start(&fixture.seed_command(any_port), any_port, &fixture.scratch.join("seed.log"));
    let port = event(&seed.process.output(), "seeding").unwrap()["port"].as_u64().unwrap();
    let peer = SocketAddr::from((Ipv6Addr::LOCALHOST, u16::try_from(port).unwrap()));
    let tracker = tracker([("interval", integer(1800)), ("peers", string("")), ("peers6", compact(&[peer]))]);
    let target = fixture.scratch.folder("target");
    run(fixture.get_command(&target, &[]).args(["--announce", &tracker.url("/announce")]), DEADLINE).success();
    fixture.assert_complete(&target);
}

#[test]
fn a_dead_tier_is_skipped() {
    let seed_address = own_address();
    let tracker = tracker_of(&[seed_address]);
    let fixture = Fixture::file_with_trackers(LEN, &[DEAD, &tracker.url("/announce")]);
    assert_eq!(fixture.metainfo.tiers.len(), 2);
    let _seed = Seed::start(&fixture.seed_command(seed_address), seed_address, &fixture.scratch.join("seed.log"));
    let target = fixture.scratch.folder("target");
    run(&fixture.get_command(&target, &[]), DEADLINE).success();
    fixture.assert_complete(&target);
}

#[test]
fn a_tracker_id_is_sent_back() {
    let fixture = Fixture::file(LEN);
    let tracker = tracker([("interval", integer(1800)), ("peers", string("")), ("tracker id", string(b"a b&\xff"))]);
    let address = own_address();
    let mut command = fixture.seed_command(address);
    command.args(["--announce", &tracker.url("/announce")]);
    let seed = Seed::start(&command, address, &fixture.scratch.join("seed.log"));
    assert!(tracker.saw_event("started", DEADLINE));
    seed.stop();
    let announces = tracker.requests();
    assert_eq!(tracker.events(), ["started", "stopped"]);
    assert_eq!(announces[0].raw("trackerid"), None);
    assert_eq!(announces[1].bytes("trackerid").unwrap(), b"a b&\xff");
}

#[test]
fn a_hung_tracker_delays_neither_download_nor_stop() {
    let fixture = Fixture::file(LEN);
    let answer = reply([("interval", integer(1800)), ("peers", string(""))]);
    let tracker = HttpServer::start(own_ip(), move |get| {
        if get.event() == "stopped" {
            std::thread::sleep(DEADLINE);
        }
        answer.clone()
    });
    let address = own_address();
    let mut command = fixture.seed_command(address);
    command.args(["--announce", &tracker.url("/announce")]);
    let seed = Seed::start(&command, address, &fixture.scratch.join("seed.log"));
    assert!(tracker.saw_event("started", DEADLINE));
    fixture.get_by_peer(address);
    seed.stop();

    // A second SIGINT ends the process without waiting for the tracker.
    let seed = Seed::start(&command, address, &fixture.scratch.join("seed2.log"));
    let mut process = seed.process;
    let started = || tracker.events().iter().filter(|event| *event == "started").count();
    assert!(wait_until(DEADLINE, || started() == 2));
    process.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(200));
    if process.is_running() {
        process.signal(Signal::INT);
        assert_eq!(exit_code(&mut process, STOP_DEADLINE), Some(130));
    }
}
