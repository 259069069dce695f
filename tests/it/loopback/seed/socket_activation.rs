//! Socket activation: sockets that a service manager opened are used, and outlive the process that uses them.

use std::{
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
    process::Command,
    thread,
};

use rustix::process::Signal;

use crate::loopback::{
    DEADLINE, Fixture, NAME, STOP_DEADLINE, event, exit_code, own_address, own_ip, seed::utp::is_refused,
};
use crate::support::{
    bt_fast,
    http_client::get,
    process::{Running, run, wait_until},
    scratch::Scratch,
};

const LEN: u64 = (1 << 20) + 77;

/// The sockets that a service manager holds open, by name.
struct Sockets {
    peers: TcpListener,
    web: TcpListener,
    tracker: UdpSocket,
    admin: TcpListener,
}

impl Sockets {
    fn open() -> Self {
        let ip = own_ip();
        let listen = || TcpListener::bind((ip, 0)).unwrap();
        let web = listen();
        let tracker = UdpSocket::bind(web.local_addr().unwrap()).unwrap();
        Self { peers: listen(), web, tracker, admin: listen() }
    }

    fn hand(&self) -> Vec<OwnedFd> {
        vec![
            self.admin.try_clone().unwrap().into(),
            self.peers.try_clone().unwrap().into(),
            self.tracker.try_clone().unwrap().into(),
            self.web.try_clone().unwrap().into(),
        ]
    }
}

/// Wraps the command as systemd starts it: `LISTEN_PID` is the id of the process itself.
fn activated(command: &Command, names: &[&str]) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    shell.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    shell
}

fn stop(process: &mut Running) {
    process.signal(Signal::TERM);
    assert_eq!(exit_code(process, STOP_DEADLINE), Some(0), "{}", process.log_tail());
}

#[test]
fn an_origin_serves_on_passed_sockets() {
    let fixture = Fixture::file(LEN);
    let sockets = Sockets::open();
    let [web, admin] = [&sockets.web, &sockets.admin].map(|socket| socket.local_addr().unwrap());
    let mut seed = bt_fast();
    seed.args(["seed", "--json"]).arg(fixture.source.join(NAME)).args(["--rings", "2"]);
    let seed = activated(&seed, &["admin", "peers", "tracker", "web"]);
    let log = fixture.scratch.join("log");
    for turn in ["first", "second"] {
        // No process accepts yet: this connection waits in the socket's backlog.
        let early = thread::spawn(move || get(web, "/", "").body);
        let mut origin = Running::start_with("seed", &seed, &log, sockets.hand());
        assert!(wait_until(DEADLINE, || event(&origin.output(), "published").is_some()), "{}", origin.log_tail());
        assert!(String::from_utf8_lossy(&early.join().unwrap()).contains(NAME), "{turn}");
        assert!(is_refused(sockets.peers.local_addr().unwrap()), "{turn}");
        assert!(
            String::from_utf8_lossy(&get(admin, "/metrics", "").body).contains("btfast_uploaded_bytes_total"),
            "{turn}"
        );

        let published = event(&origin.output(), "published").unwrap();
        let target = fixture.scratch.join(turn);
        fs::create_dir(&target).unwrap();
        let mut command = bt_fast();
        command.args(["get", "--json", published["torrent"].as_str().unwrap(), "-o"]).arg(&target);
        command.args(["--listen", &own_address().to_string()]);
        run(&command, DEADLINE).success();
        assert_eq!(fs::read(target.join(NAME)).unwrap(), fs::read(fixture.source.join(NAME)).unwrap(), "{turn}");
        stop(&mut origin);
    }
}

/// The service is stopped while it serves peers; the next process on the same socket serves the rest.
#[test]
fn a_seed_on_a_passed_socket_stops_cleanly_mid_transfer() {
    let fixture = Fixture::file(8 * LEN);
    let sockets = Sockets::open();
    let peers = sockets.peers.local_addr().unwrap();
    let log = fixture.scratch.join("log");
    let start = |flags: &[&str]| {
        let mut seed = bt_fast();
        seed.args(["seed", "--json"]).arg(&fixture.torrent).arg("--data").arg(&fixture.source).args(flags);
        let handed = vec![sockets.peers.try_clone().unwrap().into()];
        let mut seed = Running::start_with("seed", &activated(&seed, &["peers"]), &log, handed);
        assert!(wait_until(DEADLINE, || event(&seed.output(), "seeding").is_some()), "{}", seed.log_tail());
        seed
    };
    let mut seed = start(&["--up", "500K"]);
    let targets = ["one", "two"].map(|name| fixture.scratch.folder(name));
    let mut gets = targets
        .each_ref()
        .map(|target| Running::start("get", &fixture.get_command(target, &[peers]), &target.with_extension("log")));
    let has_begun = |get: &Running| {
        event(&get.output(), "progress").is_some_and(|reported| reported["bytes_done"].as_u64() > Some(0))
    };
    assert!(wait_until(DEADLINE, || gets.iter().all(has_begun)), "{}", seed.log_tail());
    assert!(gets.iter_mut().all(Running::is_running), "{}", gets[0].log_tail());
    stop(&mut seed);
    let uploaded = event(&seed.output(), "stopped").expect("a final record")["uploaded"].as_u64().unwrap();
    assert!(uploaded > 0 && uploaded < 2 * 8 * LEN, "{uploaded}");
    let mut seed = start(&[]);
    for (get, target) in gets.iter_mut().zip(&targets) {
        assert_eq!(exit_code(get, DEADLINE), Some(0), "{}", get.log_tail());
        fixture.assert_complete(target);
    }
    stop(&mut seed);
}

#[test]
fn a_tracker_serves_on_passed_sockets() {
    let scratch = Scratch::new();
    let sockets = Sockets::open();
    let address: SocketAddr = sockets.web.local_addr().unwrap();
    let mut track = bt_fast();
    track.args(["track", "--json", "--open"]);
    let handed = vec![sockets.web.try_clone().unwrap().into(), sockets.tracker.try_clone().unwrap().into()];
    let command = activated(&track, &["web", "tracker"]);
    let mut tracker = Running::start_with("track", &command, &scratch.join("log"), handed);
    assert!(wait_until(DEADLINE, || event(&tracker.output(), "tracking").is_some()), "{}", tracker.log_tail());
    assert!(tracker.output().contains(&address.to_string()), "{}", tracker.log_tail());
    let hash = "%a1".repeat(20);
    let query = format!("info_hash={hash}&peer_id={}&port=1&uploaded=0&downloaded=0&left=1", "x".repeat(20));
    let answer = get(address, &format!("/announce?{query}"), "").body;
    assert!(String::from_utf8_lossy(&answer).contains("8:interval"), "{}", String::from_utf8_lossy(&answer));
    stop(&mut tracker);
}

#[test]
fn sockets_without_a_use_are_refused() {
    let fixture = Fixture::file(LEN);
    let sockets = Sockets::open();
    let content = fixture.source.join(NAME);
    let seed = |extra: &[&str]| {
        let mut command = bt_fast();
        command.arg("seed").arg(&content).args(extra);
        command
    };
    let cases = [
        (seed(&[]), vec!["bt-fast.socket", "peers", "tracker", "web"], "'bt-fast.socket'"),
        (seed(&[]), vec!["peers", "peers", "tracker", "web"], "'peers'"),
        (seed(&["--web", "off"]), vec!["admin", "peers"], "--web"),
        (seed(&[]), vec!["admin", "peers", "tracker"], "'tracker'"),
    ];
    for (command, names, part) in cases {
        let log = fixture.scratch.join("log");
        let handed = sockets.hand().into_iter().take(names.len()).collect();
        let mut process = Running::start_with("seed", &activated(&command, &names), &log, handed);
        assert_eq!(exit_code(&mut process, DEADLINE), Some(2), "{names:?}: {}", process.log_tail());
        let printed = process.output();
        assert!(printed.lines().count() == 1 && printed.contains(part), "{names:?}: {printed}");
    }
}
