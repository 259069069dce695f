//! Host names whose address changes between queries, that have a hundred addresses, or that are never resolved. Needs
//! root.

use std::{
    ffi::OsStr,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use rustix::process::Signal;

use crate::loopback::{DEADLINE, Fixture, LISTEN_PORT, STOP_DEADLINE, Seed, assert_fails, exit_code};
use crate::support::{
    bencode::{dictionary, integer, string},
    bt_fast,
    http_server::{Answer, HttpServer},
    name_server::NameServer,
    net::NetPair,
    process::{Running, run, wait_until},
};

const LEN: u64 = 1 << 20;
/// An address of TEST-NET-2 (RFC 5737), which counts as public.
const PUBLIC_IP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Deadline for operations that must not wait for a lookup, which hangs for 30 s.
const LOOKUP_FREE_DEADLINE: Duration = Duration::from_secs(10);

/// A seed on the left host, and a name server on the right host for the commands there.
struct Names {
    fixture: Fixture,
    net: NetPair,
    seed: Seed,
    server: NameServer,
}

impl Names {
    fn new(answer: impl Fn(&str, usize) -> Option<Vec<Ipv4Addr>> + Send + 'static) -> Self {
        let fixture = Fixture::file(LEN);
        let net = NetPair::new();
        net.add_default_routes();
        net.add_left_address(PUBLIC_IP);
        net.right.set_name_server(net.right.ip);
        let server = net.right.inside(|| NameServer::start(net.right.ip, answer));
        let here: SocketAddr = (net.left.ip, LISTEN_PORT).into();
        let seed = Seed::start(&net.left.command(&fixture.seed_command(here)), here, &fixture.scratch.join("seed.log"));
        Self { fixture, net, seed, server }
    }

    /// Returns `get SOURCE` on the right host.
    fn get(&self, source: impl AsRef<OsStr>, target: &Path, arguments: &[&str]) -> Command {
        let mut get = bt_fast();
        get.args(["get", "--json"]).arg(source).arg("-o").arg(target).args(arguments);
        get.args(["--listen", &SocketAddr::from((self.net.right.ip, LISTEN_PORT)).to_string()]);
        self.net.right.command(&get)
    }

    /// Asserts that `get SOURCE` stops on SIGTERM while its lookup hangs.
    fn assert_stops(&self, source: impl AsRef<OsStr>, arguments: &[&str]) {
        let command = self.get(source, &self.fixture.scratch.join("nothing"), arguments);
        let mut get = Running::start("get", &command, &self.fixture.scratch.join("stopped.log"));
        // Give the command time to send its query; a query without an answer cannot be observed.
        assert!(!wait_until(Duration::from_secs(1), || !get.is_running()), "{}", get.log_tail());
        get.signal(Signal::TERM);
        assert_eq!(exit_code(&mut get, STOP_DEADLINE), Some(130), "{command:?}\n{}", get.log_tail());
    }
}

fn answer(peers: &[SocketAddr]) -> Answer {
    let compact = peers.iter().flat_map(|peer| match peer {
        SocketAddr::V4(peer) => [&peer.ip().octets()[..], &peer.port().to_be_bytes()].concat(),
        SocketAddr::V6(_) => unreachable!("all hosts are IPv4"),
    });
    Answer::ok(dictionary([("interval", integer(1800)), ("peers", string(compact.collect::<Vec<u8>>()))]).0)
}

/// The address that was checked is the address that is connected to.
#[test]
fn a_name_that_turns_to_a_local_address_is_refused() {
    let names = Names::new(|name, before| {
        let is_home = (name == "home-first.test") == (before == 0);
        Some(vec![if is_home { Ipv4Addr::LOCALHOST } else { PUBLIC_IP }])
    });
    let victim = names.net.right.inside(|| HttpServer::start(Ipv4Addr::LOCALHOST, |_| Answer::ok("secret")));
    let seed = names.seed.address;
    let elsewhere = names.net.left.inside(|| {
        HttpServer::start(PUBLIC_IP, move |get| {
            if get.target == "/a.torrent" { Answer::redirect("http://127.0.0.1:7080/secret") } else { answer(&[seed]) }
        })
    });
    let target = names.fixture.scratch.folder("target");
    let get = names.get(&names.fixture.torrent, &target, &["--announce", "http://moves.test:7080/tracker"]);
    let finished = run(&get, DEADLINE);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    names.fixture.assert_complete(&target);
    assert_eq!(elsewhere.events(), ["started"]);
    assert!(names.server.answered("moves.test") > 1);

    // A name that resolves to loopback for the check and to a public address afterwards is refused too.
    let get = names.get("http://home-first.test:7080/a.torrent", &names.fixture.scratch.join("nothing"), &[]);
    let finished = run(&get, DEADLINE);
    assert_fails(&finished, 1, "can't fetch");
    assert!(names.server.answered("home-first.test") > 1);
    assert_eq!(victim.requests().len(), 0, "{:?}", victim.requests());
}

/// A name with many addresses costs a bounded number of connection attempts.
#[test]
fn few_of_a_hundred_addresses_are_tried() {
    // All addresses but one refuse. The C library keeps the order of equally near addresses.
    let address = |n: u8| Ipv4Addr::new(10, 77, 1, n);
    let names = Names::new(move |name, _| {
        let first = if name == "far.test" { 11 } else { 1 };
        Some((first..=100).chain(1..first).map(address).collect())
    });
    (1..=100).for_each(|n| names.net.add_left_address(address(n)));
    let seed = names.seed.address;
    let tracker = names.net.left.inside(|| HttpServer::start(address(10), move |_| answer(&[seed])));
    let get = |name: &str, arguments: &[&str]| {
        let target = names.fixture.scratch.folder(name);
        let announce = format!("http://{name}:7080/announce");
        let get = names.get(&names.fixture.torrent, &target, &[&["--announce", &announce], arguments].concat());
        let finished = run(&get, DEADLINE);
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        names.fixture.assert_complete(&target);
    };
    get("near.test", &[]);
    assert_eq!(tracker.events(), ["started", "completed", "stopped"]);
    // The answering address is the last one: it is never tried, and the download completes without it.
    get("far.test", &["--peer", &seed.to_string()]);
    assert!(names.server.answered("far.test") > 0);
    assert_eq!(tracker.requests().len(), 3);
}

/// Lookups hang for 30 s, but downloads from known peers do not wait for them.
#[test]
fn a_silent_name_server_delays_neither_download_nor_stop() {
    let names = Names::new(|_, _| None);
    let (fixture, peer) = (&names.fixture, names.seed.address.to_string());
    let http = ["--announce", "http://silent.test:7080/announce"];
    let udp = ["--announce", "udp://silent.test:7080/announce"];
    let info_hash = fixture.metainfo.info_hash;
    let magnet = format!("magnet:?xt=urn:btih:{info_hash}&x.pe=silent.test:7000&x.pe=quiet.test:7000");
    for (source, announce) in [(&*fixture.torrent, http), (&*fixture.torrent, udp), (Path::new(&magnet), http)] {
        let target = fixture.scratch.folder(&format!("target {}", fastrand::u32(..)));
        let finished = run(&names.get(source, &target, &[&announce[..], &["--peer", &peer]].concat()), DEADLINE);
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        assert!(finished.took < LOOKUP_FREE_DEADLINE, "{finished:#?}");
        fixture.assert_complete(&target);
        names.assert_stops(source, &announce);
    }
    names.assert_stops("http://silent.test:7080/a.torrent", &[]);
}
