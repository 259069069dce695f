//! `seed PATH`: the whole origin in one command, and hostile requests to it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use bt_fast::codec::magnet::{Magnet, PeerAddress};
use rustix::process::Signal;
use serde_json::Value;

use crate::loopback::{
    DEADLINE, NAME, STOP_DEADLINE, assert_fails, event, exit_code, own_address, own_ip,
    storage::content_changes::CHANGES,
};
use crate::support::{
    bt_fast,
    content::{difference, write_random},
    http_client::{Answer, ask, get, get_url},
    process::{Running, run, wait_until},
    scratch::Scratch,
};

const LEN: u64 = (3 << 20) + 77;
const WEB_PORT: u16 = 7100;
const ADMIN_PORT: u16 = 7101;

/// A running `seed PATH` with its own address.
struct Origin {
    process: Running,
    ip: IpAddr,
    source: PathBuf,
    published: Value,
    scratch: Scratch,
}

fn command(source: &Path, ip: IpAddr, flags: &[&str]) -> Command {
    let mut command = bt_fast();
    command.args(["seed", "--json"]).arg(source.join(NAME)).args(["--listen", &format!("{ip}:7000")]);
    command.args(["--web", &format!("{ip}:{WEB_PORT}"), "--admin", &format!("{ip}:{ADMIN_PORT}")]).args(flags);
    command
}

impl Origin {
    fn start(flags: &[&str]) -> Self {
        let scratch = Scratch::new();
        let source = scratch.folder("source");
        write_random(&source.join(NAME), LEN, fastrand::u64(..));
        Self::start_again(scratch, source, flags)
    }

    #[track_caller]
    fn start_again(scratch: Scratch, source: PathBuf, flags: &[&str]) -> Self {
        let ip = own_ip().into();
        let mut process = Running::start("seed", &command(&source, ip, flags), &scratch.join("seed.log"));
        let serves = wait_until(DEADLINE, || event(&process.output(), "seeding").is_some() || !process.is_running());
        assert!(serves && process.is_running(), "{}", process.log_tail());
        let published = event(&process.output(), "published").unwrap();
        Self { process, ip, source, published, scratch }
    }

    fn web(&self) -> SocketAddr {
        (self.ip, WEB_PORT).into()
    }

    fn admin(&self) -> SocketAddr {
        (self.ip, ADMIN_PORT).into()
    }

    fn link(&self, key: &str) -> &str {
        self.published[key].as_str().unwrap()
    }

    /// Downloads the link without further flags and compares the content.
    #[track_caller]
    fn assert_gets(&self, link: &str) {
        let target = self.scratch.folder(&format!("target {}", fastrand::u32(..)));
        let mut command = bt_fast();
        command.args(["get", "--json", link, "-o"]).arg(&target).args(["--listen", &own_address().to_string()]);
        run(&command, DEADLINE).success();
        assert_eq!(difference(&self.source.join(NAME), &target.join(NAME), true), None);
    }

    #[track_caller]
    fn api(&self) -> Value {
        serde_json::from_slice(&get(self.admin(), "/api", "").body).unwrap()
    }

    #[track_caller]
    fn stop(mut self) {
        self.process.signal(Signal::TERM);
        assert_eq!(exit_code(&mut self.process, STOP_DEADLINE), Some(0), "{}", self.process.log_tail());
    }
}

#[test]
fn the_page_leads_to_the_torrent_and_the_torrent_to_the_content() {
    let origin = Origin::start(&[]);
    let page = get_url(origin.link("page"));
    assert_eq!(page.status, 200);
    assert!(page.text().contains(NAME) && page.text().contains("1 seeder ·"), "{}", page.text());
    let torrent = get_url(origin.link("torrent"));
    assert!(torrent.head.contains("content-type: application/x-bittorrent"), "{}", torrent.head);
    origin.assert_gets(origin.link("torrent"));
    let stats = origin.api()["tracker"].clone();
    assert!(stats["http_announces"].as_u64().unwrap() + stats["udp_announces"].as_u64().unwrap() > 0, "{stats}");
    origin.stop();
}

#[test]
fn the_magnet_link_suffices() {
    let origin = Origin::start(&[]);
    origin.assert_gets(origin.link("magnet"));
}

/// The `x.pe` of the magnet link is the peer address, which is not the address of the pages.
#[test]
fn the_magnet_link_names_the_listen_address_of_the_seeder() {
    let scratch = Scratch::new();
    let source = scratch.folder("source");
    write_random(&source.join(NAME), 1000, fastrand::u64(..));
    let announced = ["--announce-ip", "192.0.2.7"];
    let proxied = ["--public-url", "https://origin.invalid/"];
    for (flags, expected) in [
        (&[][..], Some(None)),
        (&announced, Some(Some("192.0.2.7"))),
        (&["--announce-ip", "localhost"], Some(Some("127.0.0.1"))),
        (&proxied, None),
        (&["--public-url", "http://127.0.0.1:1/"], None),
        (&[announced, proxied].concat(), Some(Some("192.0.2.7"))),
    ] {
        let (peers, web) = (own_ip(), own_ip());
        let mut command = bt_fast();
        command.args(["seed", "--json", "--admin", "off"]).arg(source.join(NAME)).args(flags);
        command.args(["--listen", &format!("{peers}:7000"), "--web", &format!("{web}:{WEB_PORT}")]);
        let mut seed = Running::start("seed", &command, &scratch.join("seed.log"));
        let serves = wait_until(DEADLINE, || event(&seed.output(), "published").is_some() || !seed.is_running());
        assert!(serves && seed.is_running(), "{}", seed.log_tail());
        let magnet = event(&seed.output(), "published").unwrap()["magnet"].as_str().unwrap().to_owned();
        let expected = expected.map(|ip: Option<&str>| ip.map_or(peers.into(), |ip| ip.parse().unwrap()));
        let expected = expected.map(|ip: IpAddr| PeerAddress::Socket((ip, 7000).into()));
        assert_eq!(Magnet::parse(magnet.as_bytes()).unwrap().peers, Vec::from_iter(expected), "{flags:?}: {magnet}");
    }
}

/// The origin's tracker also names the peer address of the seeder.
#[test]
fn the_tracker_names_the_listen_address_of_the_seeder() {
    let scratch = Scratch::new();
    let source = scratch.folder("source");
    write_random(&source.join(NAME), LEN, fastrand::u64(..));
    let mut command = bt_fast();
    command.args(["seed", "--json", "--admin", "off"]).arg(source.join(NAME));
    command.args(["--listen", &own_address().to_string(), "--web", &format!("{}:{WEB_PORT}", own_ip())]);
    let mut seed = Running::start("seed", &command, &scratch.join("seed.log"));
    assert!(wait_until(DEADLINE, || event(&seed.output(), "published").is_some()), "{}", seed.log_tail());
    let published = event(&seed.output(), "published").unwrap();
    let target = scratch.folder("target");
    let mut get = bt_fast();
    get.args(["get", published["torrent"].as_str().unwrap(), "--listen", &own_address().to_string(), "-o"]);
    run(get.arg(&target), DEADLINE).success();
    assert_eq!(difference(&source.join(NAME), &target.join(NAME), true), None);
}

/// The UDP tracker (BEP 15) listens on the same port.
#[test]
fn the_tracker_answers_over_udp_too() {
    let origin = Origin::start(&[]);
    let socket = UdpSocket::bind((origin.ip, 0)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.connect(origin.web()).unwrap();
    socket.send(&[&0x0417_2710_1980_u64.to_be_bytes()[..], &[0, 0, 0, 0, 0, 0, 0, 9]].concat()).unwrap();
    let mut answer = [0; 100];
    assert_eq!(socket.recv(&mut answer).unwrap(), 16);
    assert_eq!(answer[..8], [0, 0, 0, 0, 0, 0, 0, 9]);
}

#[test]
fn content_hashed_once_is_served_at_once_after_a_restart() {
    let origin = Origin::start(&[]);
    let Origin { mut process, scratch, source, published, .. } = origin;
    process.signal(Signal::TERM);
    assert_eq!(exit_code(&mut process, STOP_DEADLINE), Some(0));
    // Timestamps are coarse: the check of a file that was written within the last two seconds is not cached.
    let aged = wait_until(DEADLINE, || {
        std::fs::metadata(source.join(NAME)).unwrap().modified().unwrap().elapsed().unwrap() > Duration::from_secs(4)
    });
    assert!(aged);
    let second = Origin::start_again(scratch, source, &[]);
    let Origin { mut process, scratch, source, .. } = second;
    process.signal(Signal::TERM);
    assert_eq!(exit_code(&mut process, STOP_DEADLINE), Some(0));
    let third = Origin::start_again(scratch, source, &[]);
    let seeding = event(&third.process.output(), "seeding").unwrap();
    assert!(seeding["remembered"].is_i64(), "{seeding}");
    assert!(!third.process.output().contains("hashing"), "{}", third.process.output());
    assert_eq!(third.published["info_hash"], published["info_hash"]);
    // Different bytes give a different torrent.
    let Origin { mut process, scratch, source, .. } = third;
    process.signal(Signal::TERM);
    assert_eq!(exit_code(&mut process, STOP_DEADLINE), Some(0));
    write_random(&source.join(NAME), LEN, fastrand::u64(..));
    let fourth = Origin::start_again(scratch, source, &[]);
    assert_ne!(fourth.published["info_hash"], published["info_hash"]);
}

#[test]
fn content_is_served_over_http_when_enabled() {
    let origin = Origin::start(&["--web-seed"]);
    let expected = std::fs::read(origin.source.join(NAME)).unwrap();
    let url = origin.link("content").to_owned();
    let whole = get_url(&url);
    assert!(whole.status == 200 && whole.body == expected);
    let path = url.strip_prefix(&format!("http://{}", origin.web())).unwrap();
    let part = get(origin.web(), path, "Range: bytes=1000-1999\r\n");
    assert!(part.status == 206 && part.body == expected[1000..2000], "{}", part.head);
    let closed = Origin::start(&[]);
    assert!(closed.published.get("content").is_none());
    assert_eq!(get(closed.web(), path, "").status, 404);
}

/// The origin connects to leechers of its own tracker, so clients behind a firewall or with uTP alone are served too.
#[test]
fn the_origin_connects_to_leechers_that_do_not_connect() {
    let origin = Origin::start(&[]);
    let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let info_hash = origin.published["info_hash"].as_str().unwrap();
    let escaped: String =
        info_hash.as_bytes().chunks(2).map(|hex| format!("%{}", str::from_utf8(hex).unwrap())).collect();
    let port = listener.local_addr().unwrap().port();
    let path = format!(
        "/announce?info_hash={escaped}&peer_id=-XX0000-abcdefghijkl&port={port}&uploaded=0&downloaded=0&left=1&compact=1"
    );
    assert_eq!(get(origin.web(), &format!("{path}&event=started"), "").status, 200);
    let (sender, arrived) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut handshake = [0; 48];
        peer.read_exact(&mut handshake).unwrap();
        let _ = sender.send(handshake);
    });
    let handshake = arrived.recv_timeout(DEADLINE).unwrap();
    assert_eq!(handshake[28..].iter().map(|byte| format!("{byte:02x}")).collect::<String>(), info_hash);
}

/// The change is noticed by requests before it, during it and after it.
#[test]
fn http_sends_no_byte_of_a_changed_file() {
    for change in CHANGES {
        let origin = Origin::start(&["--web-seed"]);
        let expected = std::fs::read(origin.source.join(NAME)).unwrap();
        let path = origin.link("content").strip_prefix(&format!("http://{}", origin.web())).unwrap();
        let part = || get(origin.web(), path, "Range: bytes=1000-1999\r\n");
        assert!(part().body == expected[1000..2000]);
        let mut reader = TcpStream::connect(origin.web()).unwrap();
        write!(reader, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", origin.web()).unwrap();
        let mut begun = vec![0; 100_000];
        reader.read_exact(&mut begun).unwrap();
        change(&origin.source.join(NAME));
        let _ = reader.read_to_end(&mut begun);
        let body = begun.windows(4).position(|part| part == b"\r\n\r\n").unwrap() + 4;
        assert!(expected.starts_with(&begun[body..]), "the running response");
        for part in [part(), get(origin.web(), path, "")] {
            assert_eq!((part.status, part.text()), (404, "not found: the file is missing or was changed\n"));
        }
    }
}

#[test]
fn http_serves_a_touched_file_with_the_same_bytes() {
    let origin = Origin::start(&["--web-seed"]);
    let path = origin.source.join(NAME);
    let expected = std::fs::read(&path).unwrap();
    let touch =
        || std::fs::File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let copy = || {
        let copy = path.with_extension("copy");
        std::fs::copy(&path, &copy).unwrap();
        std::fs::rename(copy, &path).unwrap();
    };
    for change in [&touch as &dyn Fn(), &copy] {
        change();
        let whole = get_url(origin.link("content"));
        assert!(whole.status == 200 && whole.body == expected, "{}", whole.head);
    }
}

#[test]
fn operator_pages_are_not_on_the_public_address() {
    let origin = Origin::start(&[]);
    for path in ["/dashboard", "/dashboard.js", "/metrics", "/api", "/rates", "/events"] {
        assert_eq!(get(origin.web(), path, "").status, 404, "{path}");
    }
    for path in ["/dashboard", "/dashboard.js", "/metrics", "/api", "/rates", "/style.css", "/healthz"] {
        assert_eq!(get(origin.admin(), path, "").status, 200, "{path}");
        let forged = get(origin.admin(), path, "Host: evil.example\r\n").status;
        assert_eq!(forged, if path == "/healthz" { 200 } else { 421 }, "{path}");
    }
}

/// Returns a value of `/metrics`.
fn metric(page: &Answer, name: &str) -> f64 {
    let line = page
        .text()
        .lines()
        .find(|line| line.split([' ', '{']).next() == Some(name))
        .unwrap_or_else(|| panic!("{name}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn metrics_and_api_agree_with_what_was_sent() {
    let origin = Origin::start(&[]);
    origin.assert_gets(origin.link("torrent"));
    let reported = wait_until(DEADLINE, || origin.api()["uploaded"].as_u64() == Some(LEN));
    let (page, api) = (get(origin.admin(), "/metrics", ""), origin.api());
    assert!(reported, "{api}");
    assert_eq!(metric(&page, "btfast_uploaded_bytes_total"), api["uploaded"].as_f64().unwrap());
    assert_eq!(metric(&page, "btfast_torrent_uploaded_bytes_total"), api["torrents"][0]["uploaded"].as_f64().unwrap());
    assert_eq!(metric(&page, "btfast_torrent_pieces_had"), api["torrents"][0]["pieces"].as_f64().unwrap());
    assert_eq!(metric(&page, "btfast_tracker_peers"), api["tracker"]["peers"].as_f64().unwrap());
}

#[test]
fn the_dashboard_receives_events() {
    let origin = Origin::start(&[]);
    let mut stream = TcpStream::connect(origin.admin()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", origin.admin()).unwrap();
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let events: Vec<Value> =
        lines.filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).take(3).collect();
    assert_eq!(events.len(), 3);
    assert!(events[2]["seconds"].as_f64() > events[0]["seconds"].as_f64(), "{events:?}");
    assert_eq!(events[2]["torrents"][0]["name"], NAME);
}

/// A request with a megabyte of headers is refused, and the origin keeps serving.
#[test]
fn a_megabyte_of_headers_is_refused() {
    let origin = Origin::start(&[]);
    let mut one = format!("GET / HTTP/1.1\r\nHost: {}\r\nX: ", origin.web()).into_bytes();
    one.resize(1 << 20, b'x');
    one.extend(b"\r\n\r\n");
    let mut many = format!("GET / HTTP/1.1\r\nHost: {}\r\n", origin.web()).into_bytes();
    (0..40_000).for_each(|number| many.extend(format!("X-{number}: {number:020}\r\n").bytes()));
    many.extend(b"\r\n");
    for request in [one, many] {
        assert!(ask(origin.web(), &request).is_none_or(|answer| answer.status == 431), "refused or cut off");
    }
    assert_eq!(get(origin.web(), "/", "").status, 200);
    origin.assert_gets(origin.link("torrent"));
}

/// Connections of one address beyond its share are closed, and other addresses are served meanwhile.
#[test]
fn ten_thousand_idle_connections_are_bounded_and_harmless() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let origin = Origin::start(&[]);
    let idle: Vec<TcpStream> = (0..10_000).map(|_| TcpStream::connect(origin.web()).unwrap()).collect();
    let is_closed = |mut stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        matches!(stream.read(&mut [0; 1]), Ok(0))
    };
    let mut closed = 0;
    wait_until(DEADLINE, || {
        closed = idle.iter().filter(|stream| is_closed(stream)).count();
        closed > 9000
    });
    assert!(closed > 9000, "{closed} of 10000 were closed");
    // Connect from another address of this host.
    let own = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    own.bind(&SocketAddr::from((own_ip(), 0)).into()).unwrap();
    own.connect(&origin.web().into()).unwrap();
    let mut stream = TcpStream::from(own);
    write!(stream, "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", origin.web()).unwrap();
    let mut page = String::new();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    let memory = origin.api()["memory_anon"].as_u64().unwrap();
    assert!(memory < 200 << 20, "{memory}");
}

#[test]
fn a_seed_stops_at_each_stop_condition() {
    for flags in [["--stop-ratio", "1"], ["--stop-copies", "1"]] {
        let mut origin = Origin::start(&flags);
        origin.assert_gets(origin.link("torrent"));
        assert_eq!(exit_code(&mut origin.process, DEADLINE), Some(0), "{flags:?}\n{}", origin.process.log_tail());
        assert_eq!(event(&origin.process.output(), "stopped").unwrap()["uploaded"], LEN);
    }
    for flags in [["--stop-time", "1s"], ["--stop-idle", "1"]] {
        let mut origin = Origin::start(&flags);
        assert_eq!(exit_code(&mut origin.process, DEADLINE), Some(0), "{flags:?}");
    }
}

#[test]
fn an_address_in_use_is_reported_in_one_line() {
    let origin = Origin::start(&[]);
    let mut second = command(&origin.source, own_ip().into(), &[]);
    second.args(["--web", &origin.web().to_string()]);
    let mut args: Vec<_> = second.get_args().map(std::ffi::OsStr::to_owned).collect();
    // Remove the first of the two `--web` flags.
    let first = args.iter().position(|arg| arg == "--web").unwrap();
    args.drain(first..first + 2);
    let mut second = bt_fast();
    let finished = run(second.args(args), DEADLINE);
    assert_fails(&finished, 1, "--web");
}

/// `show --scrape` queries the origin's HTTP tracker and its UDP tracker.
#[test]
fn scrape_shows_the_swarm_of_a_torrent() {
    let origin = Origin::start(&[]);
    let torrent = origin.scratch.join("published.torrent");
    std::fs::write(&torrent, get_url(origin.link("torrent")).body).unwrap();
    let shown = run(bt_fast().args(["show", "--scrape", "--json"]).arg(&torrent), DEADLINE).success();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let swarms = shown["swarms"].as_array().unwrap();
    assert_eq!(swarms.len(), 2, "{shown}");
    for (swarm, scheme) in swarms.iter().zip(["http://", "udp://"]) {
        assert!(swarm["tracker"].as_str().unwrap().starts_with(scheme), "{swarm}");
        assert_eq!((&swarm["seeders"], &swarm["leechers"]), (&1.into(), &0.into()), "{swarm}");
    }
    let text = run(bt_fast().args(["show", "--scrape"]).arg(&torrent), DEADLINE).success();
    assert_eq!(text.matches("1 seeder, 0 leechers, 0 downloaded").count(), 2, "{text}");
}
