//! `seed --watch`: torrents that are added to the folder and removed from it.

use std::{fs, net::SocketAddr, time::Duration};

use bt_fast::base::limits;
use bt_fast::codec::{
    handshake::{Handshake, Reserved},
    message::Message,
    metainfo::{Metainfo, MetainfoLimits},
};
use rustix::process::Signal;

use crate::loopback::{
    DEADLINE, LISTEN_PORT, STOP_DEADLINE, event, exit_code, own_address, own_ip, seed::many_torrents::make_with_len,
};
use crate::support::{
    bencode::{dictionary, integer, string},
    bt_fast,
    content::difference,
    http_client::get,
    http_server::{Answer, HttpServer},
    process::{Running, run, wait_until},
    scratch::Scratch,
    wire_peer::{Received, WirePeer, any_peer_id},
};

const WEB_PORT: u16 = 7100;
/// Long enough for the file to be mapped.
const LEN: usize = 18_000;

/// A seed that watches the folder `watched`; the content lies in `scratch` itself.
struct Watching {
    process: Running,
    scratch: Scratch,
    address: SocketAddr,
    tracker: HttpServer,
}

impl Watching {
    fn start() -> Self {
        let scratch = Scratch::new();
        let folder = scratch.folder("watched");
        let ip = own_ip();
        let address = (ip, LISTEN_PORT).into();
        let reply = dictionary([("interval", integer(1800)), ("peers", string(Vec::new()))]).0;
        let tracker = HttpServer::start(own_ip(), move |_| Answer::ok(reply.clone()));
        let mut command = bt_fast();
        command.args(["seed", "--json", "--watch"]).arg(&folder).arg("--data").arg(scratch.join(""));
        command.args(["--listen", &format!("{address}"), "--web", &format!("{ip}:{WEB_PORT}"), "--admin", "off"]);
        command.args(["--announce", &tracker.url("/announce")]);
        let process = Running::start("seed", &command, &scratch.join("seed.log"));
        Self { process, scratch, address, tracker }
    }

    /// Creates content and its torrent outside the watched folder; returns the name and the bytes of the torrent.
    fn make(&self, number: usize) -> (String, Vec<u8>) {
        make_with_len(&self.scratch, number, LEN);
        let name = format!("f{number:05}");
        let path = self.scratch.join(&format!("{name}.torrent"));
        let bytes = fs::read(&path).unwrap();
        (name, bytes)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.scratch.join(&format!("watched/{name}.torrent")), bytes).unwrap();
    }

    #[track_caller]
    fn wait_for(&mut self, what: &str) {
        let reported = wait_until(DEADLINE / 2, || self.process.output().contains(what));
        assert!(reported, "{what}\n{}", self.process.log_tail());
    }

    #[track_caller]
    fn wait_for_event(&mut self, event: &str, name: &str) {
        let is_it = |line: &str| line.contains(&format!("\"event\":\"{event}\"")) && line.contains(name);
        let reported = wait_until(DEADLINE / 2, || self.process.output().lines().any(is_it));
        assert!(reported, "{event} {name}\n{}", self.process.log_tail());
    }

    #[track_caller]
    fn assert_gets(&self, name: &str) {
        let target = self.scratch.folder(&format!("target {}", fastrand::u32(..)));
        let mut command = bt_fast();
        command.arg("get").arg(self.scratch.join(&format!("{name}.torrent"))).arg("-o").arg(&target);
        command.args(["--listen", &own_address().to_string(), "--peer", &self.address.to_string()]);
        run(&command, DEADLINE).success();
        assert_eq!(difference(&self.scratch.join(name), &target.join(name), true), None);
    }

    fn page(&self) -> String {
        get((self.address.ip(), WEB_PORT).into(), "/", "").text().to_owned()
    }

    fn maps(&self, name: &str) -> bool {
        fs::read_to_string(format!("/proc/{}/maps", self.process.id())).unwrap().contains(name)
    }
}

#[test]
fn torrents_in_the_watched_folder_are_added_and_removed() {
    let mut seed = Watching::start();
    let ((first, first_bytes), (second, second_bytes)) = (seed.make(1), seed.make(2));
    seed.put(&first, &first_bytes);
    seed.wait_for_event("seeding", &first);
    seed.put("bad", b"this is no torrent");
    // The torrent is written in two steps, as by a slow copy.
    seed.put(&second, &second_bytes[..70]);
    seed.assert_gets(&first);
    seed.put(&second, &second_bytes);
    seed.wait_for_event("seeding", &second);
    seed.assert_gets(&second);
    let page = seed.page();
    assert!(page.contains(&first) && page.contains(&second), "{page}");
    seed.wait_for("bad.torrent");

    let info_hash = Metainfo::decode(&first_bytes, &MetainfoLimits::default()).unwrap().info_hash;
    let mut peer = WirePeer::connect_with_handshake(seed.address, info_hash, 1, Reserved::ours());
    peer.send_message(&Message::Interested);
    peer.receive_until(|received| *received == Received::Unchoke);
    peer.fetch(0, 0, 600);
    assert!(seed.maps(&first));
    fs::remove_file(seed.scratch.join(&format!("watched/{first}.torrent"))).unwrap();
    seed.wait_for_event("dropped", &first);
    peer.receive_until_closed();
    assert!(wait_until(DEADLINE, || !seed.maps(&first)), "the removed torrent's file is still mapped");
    assert!(seed.tracker.saw_event("stopped", DEADLINE), "{:?}", seed.tracker.events());
    let page = seed.page();
    assert!(!page.contains(&first) && page.contains(&second), "{page}");
    let mut late_peer = WirePeer::connect(seed.address, 1);
    late_peer.send(&Handshake { reserved: Reserved::ours(), info_hash, peer_id: any_peer_id() }.encode());
    assert!(late_peer.receive_handshake().is_none(), "the torrent is still known");
    seed.assert_gets(&second);

    let reported = seed.process.output();
    let warnings: Vec<&str> = reported.lines().filter(|line| line.contains("warning")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("bad.torrent"), "{warnings:?}");
    seed.process.signal(Signal::TERM);
    assert_eq!(exit_code(&mut seed.process, STOP_DEADLINE), Some(0), "{}", seed.process.log_tail());
    let stopped = event(&seed.process.output(), "stopped").unwrap();
    // Three downloads and the block that the peer fetched; the removed torrent counts too.
    assert_eq!(stopped["uploaded"], 3 * LEN + 600);
}

#[test]
fn many_torrents_added_at_once_are_all_served() {
    let mut seed = Watching::start();
    let count = 4 * limits::CHANGES_AT_ONCE;
    let torrents: Vec<_> = (0..count).map(|number| seed.make(number)).collect();
    torrents.iter().for_each(|(name, bytes)| seed.put(name, bytes));
    let all = || seed.process.output().matches("\"event\":\"seeding\"").count() == count;
    assert!(wait_until(DEADLINE, all), "{}", seed.process.log_tail());
    let is_served = |bytes: &[u8]| {
        let info_hash = Metainfo::decode(bytes, &MetainfoLimits::default()).unwrap().info_hash;
        let mut peer = WirePeer::connect(seed.address, 1);
        peer.send(&Handshake { reserved: Reserved::ours(), info_hash, peer_id: any_peer_id() }.encode());
        peer.receive_handshake().is_some()
    };
    // The event precedes the change of the session by a moment.
    for (name, bytes) in &torrents {
        assert!(wait_until(Duration::from_secs(5), || is_served(bytes)), "{name} is not served");
    }
}

#[test]
fn torrents_without_content_or_repeated_wait_until_a_hangup() {
    let mut seed = Watching::start();
    let (name, bytes) = seed.make(1);
    let content = fs::read(seed.scratch.join(&name)).unwrap();
    fs::remove_file(seed.scratch.join(&name)).unwrap();
    seed.put(&name, &bytes);
    seed.wait_for("no data");
    fs::write(seed.scratch.join(&name), content).unwrap();
    seed.process.signal(Signal::HUP);
    seed.wait_for_event("seeding", &name);
    seed.put("twin", &bytes);
    seed.wait_for("not served twice");
    fs::remove_file(seed.scratch.join(&format!("watched/{name}.torrent"))).unwrap();
    seed.wait_for_event("dropped", &name);
    seed.process.signal(Signal::HUP);
    let again = || seed.process.output().matches("\"event\":\"seeding\"").count() == 2;
    assert!(wait_until(Duration::from_secs(30), again), "{}", seed.process.output());
    seed.assert_gets(&name);
}

#[test]
fn a_missing_watch_folder_is_refused() {
    let finished = run(bt_fast().args(["seed", "--watch", "/nowhere/at/all"]), DEADLINE);
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    assert!(finished.stderr.contains("can't watch: /nowhere/at/all"), "{finished:#?}");
}
