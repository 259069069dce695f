//! Which requests to this host a torrent, a tracker or a redirect can cause, and through which device requests leave.
//! Needs root.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use crate::loopback::{DEADLINE, Fixture, LISTEN_PORT, assert_fails, own_address, own_ip};
use crate::support::{
    bencode::{dictionary, integer, string},
    bt_fast,
    http_server::{Answer, HttpServer},
    net::NetPair,
    process::{Running, run, wait_until},
};

const LEN: u64 = 300_000;

/// An address of the left host that is neither private nor loopback (RFC 5737).
const PUBLIC_IP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

#[test]
fn trackers_of_a_torrent_reach_only_trackers_on_this_host() {
    let nothing = || Answer { status: "404 Not Found", ..Answer::ok("") };
    let net = NetPair::new();
    net.add_default_routes();
    net.add_left_address(PUBLIC_IP);
    let own = [net.left.ip, PUBLIC_IP].map(|ip| net.left.inside(|| HttpServer::start(ip, move |_| nothing())));
    let elsewhere = net.right.inside(|| {
        HttpServer::start(net.right.ip, |get| {
            let is_private = get.target.starts_with("/announce/private");
            Answer::redirect(if is_private {
                "http://10.77.0.1:7080/announce"
            } else {
                "http://198.51.100.1:7080/announce"
            })
        })
    });
    let mut trackers = Vec::new();
    for server in &own {
        trackers.extend([server.url("/admin/x"), server.url("/announce/../admin/x"), server.url("/announce/own")]);
    }
    trackers.extend([elsewhere.url("/announce/private"), elsewhere.url("/announce/public")]);
    let fixture = Fixture::file_with_trackers(LEN, &trackers.iter().map(String::as_str).collect::<Vec<_>>());
    let mut get = bt_fast();
    get.arg("get").arg(&fixture.torrent).arg("-o").arg(fixture.scratch.join("target"));
    get.args(["--listen", &SocketAddr::from((Ipv4Addr::UNSPECIFIED, LISTEN_PORT)).to_string()]);
    let mut get = Running::start("get", &net.left.command(&get), &fixture.scratch.join("get.log"));
    // All trackers fail, so each is tried in turn.
    assert!(wait_until(DEADLINE, || elsewhere.requests().len() >= 2), "{}", get.log_tail());
    std::thread::sleep(Duration::from_millis(300));
    for server in &own {
        let asked = server.requests();
        assert!(!asked.is_empty() && asked.iter().all(|get| get.target.starts_with("/announce/own?")), "{asked:?}");
    }
}

#[test]
fn a_tracker_named_by_the_user_may_have_any_path() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let compact = match seed.address {
        SocketAddr::V4(address) => [&address.ip().octets()[..], &address.port().to_be_bytes()].concat(),
        SocketAddr::V6(_) => unreachable!("own addresses are IPv4"),
    };
    let tracker = HttpServer::start(own_ip(), move |_| {
        Answer::ok(dictionary([("interval", integer(1800)), ("peers", string(compact.clone()))]).0)
    });
    let target = fixture.scratch.folder("target");
    let mut get = fixture.get_command(&target, &[]);
    get.args(["--announce", &tracker.url("/any/path")]);
    run(&get, DEADLINE).success();
    fixture.assert_complete(&target);
}

#[test]
fn torrent_urls_are_fetched_through_the_bound_device() {
    let fixture = Fixture::file(LEN);
    let torrent = fs::read(&fixture.torrent).unwrap();
    let server = HttpServer::start(own_ip(), move |_| Answer::ok(torrent.clone()));
    let get = |device: &str| {
        let mut get = bt_fast();
        get.args(["get", &server.url("/a.torrent"), "--metadata-only", "--bind-device", device, "-o"]);
        get.arg(fixture.scratch.join(device)).args(["--listen", &own_address().to_string()]);
        run(&get, DEADLINE)
    };
    assert_fails(&get("nosuchdevice0"), 1, "No such device");
    assert_eq!(server.requests().len(), 0);
    get("lo").success();
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn scrapes_go_through_the_bound_device() {
    let tracker = HttpServer::start(own_ip(), |_| Answer::ok("d5:filesdee"));
    let udp = std::net::UdpSocket::bind((own_ip(), 0)).unwrap();
    udp.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let url = format!("udp://{}/announce", udp.local_addr().unwrap());
    let fixture = Fixture::file_with_trackers(LEN, &[&tracker.url("/announce"), &url]);
    let mut show = bt_fast();
    show.arg("show").arg(&fixture.torrent).args(["--scrape", "--bind-device", "nosuchdevice0"]);
    run(&show, DEADLINE).success();
    assert_eq!(tracker.requests().len(), 0);
    assert!(udp.recv(&mut [0; 100]).is_err(), "a packet was sent");
}
