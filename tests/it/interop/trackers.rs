//! Trackers over UDP and HTTP: bt-fast and other clients find each other through Debian's opentracker, and other
//! clients through ours.

use std::{fs, path::Path, process::Command, time::Duration};

use serde_json::Value;

use super::transfer::SEED_PORT;
use crate::support::{
    bt_fast,
    client::{Client, Site},
    content::{self, Content},
    net::{Host, NetPair},
    opentracker::opentracker,
    process::{Running, run, wait_until},
    python,
    scratch::Scratch,
};

const PORT: u16 = 6971;
const TIMEOUT: Duration = Duration::from_secs(60);
const CONTENT: Content = Content::Tree;

#[derive(Clone, Copy, Debug)]
enum Tracker {
    Opentracker,
    BtFast,
}

impl Tracker {
    /// Starts the tracker with a list of one torrent.
    fn start(self, host: &Host, folder: &Path, info_hash: &str) -> Running {
        let ip = host.ip.to_string();
        let command = match self {
            Self::Opentracker => opentracker(&ip, PORT, folder, info_hash),
            Self::BtFast => {
                fs::write(folder.join("listed"), format!("{info_hash}\n")).unwrap();
                let mut command = bt_fast();
                command.args(["track", "--allow", "listed", "--listen", &format!("{ip}:{PORT}")]);
                command
            }
        };
        let mut command = host.command(&command);
        Running::start(&format!("{self:?}"), command.current_dir(folder), &folder.join("log"))
    }
}

/// Returns the number of seeders that the tracker counts.
fn seeders(host: &Host, info_hash: &str) -> usize {
    let escaped: String =
        info_hash.as_bytes().chunks(2).map(|pair| format!("%{}{}", pair[0] as char, pair[1] as char)).collect();
    let url = format!("http://{}:{PORT}/scrape?info_hash={escaped}", host.ip);
    let script = "import sys, urllib.request as r; sys.stdout.write(ascii(r.urlopen(sys.argv[1], timeout=5).read()))";
    let finished = run(&host.command(Command::new(python()).args(["-c", script, &url])), TIMEOUT);
    let count = finished.stdout.split("completei").nth(1).and_then(|rest| rest.split('e').next()?.parse().ok());
    count.unwrap_or(0)
}

#[track_caller]
fn transfer(tracker: Tracker, scheme: &str, seeder: Client, getter: Client) {
    let scratch = Scratch::new();
    let source = CONTENT.folder();
    let torrent = scratch.join("a.torrent");
    let url = format!("{scheme}://{}:{PORT}/announce", NetPair::LEFT_IP);
    let mut create = bt_fast();
    create.args(["create", "--json", "-a", &url, "-l", &CONTENT.piece_len().to_string(), "-o"]).arg(&torrent);
    let created = run(create.arg(source.join(CONTENT.name())), TIMEOUT).success();
    let created: Value = serde_json::from_str(created.lines().last().unwrap()).unwrap();
    let info_hash = created["info_hash"].as_str().unwrap();

    let net = NetPair::new();
    let mut tracker = tracker.start(&net.left, &scratch.folder("tracker"), info_hash);
    let (seed_state, get_state, target) =
        (scratch.folder("seeder"), scratch.folder("getter"), scratch.folder("target"));
    let mut seed = seeder.seed(&torrent, &source, &Site { host: &net.left, port: SEED_PORT, state: &seed_state });
    let reported = wait_until(TIMEOUT, || seeders(&net.left, info_hash) == 1);
    assert!(reported, "{seeder:?} did not announce itself\n{}{}", seed.log_tail(), tracker.log_tail());
    let mut get = getter.get(&torrent, &target, &Site { host: &net.right, port: SEED_PORT + 1, state: &get_state });
    let result = get.wait(TIMEOUT).and_then(|()| {
        let (expected, found) = (source.join(CONTENT.name()), target.join(CONTENT.name()));
        content::difference(&expected, &found, getter.makes_empty_files()).map_or(Ok(()), Err)
    });
    if let Err(reason) = result {
        let logs = [get.process.log_tail(), seed.log_tail(), tracker.log_tail()].concat();
        panic!("{seeder:?} -> {getter:?} by {url}: {reason}\n{logs}");
    }
}

#[test]
fn bt_fast_finds_itself_by_udp() {
    transfer(Tracker::Opentracker, "udp", Client::BtFast, Client::BtFast);
}

#[test]
fn bt_fast_finds_itself_by_http() {
    transfer(Tracker::Opentracker, "http", Client::BtFast, Client::BtFast);
}

#[test]
fn libtorrent_finds_bt_fast_by_udp() {
    transfer(Tracker::Opentracker, "udp", Client::BtFast, Client::Libtorrent);
}

#[test]
fn bt_fast_finds_libtorrent_by_udp() {
    transfer(Tracker::Opentracker, "udp", Client::Libtorrent, Client::BtFast);
}

/// aria2 supports UDP trackers only with DHT, so it uses HTTP here.
#[test]
fn aria2_finds_bt_fast_by_http() {
    transfer(Tracker::Opentracker, "http", Client::BtFast, Client::Aria2);
}

#[test]
fn bt_fast_finds_transmission_by_udp() {
    transfer(Tracker::Opentracker, "udp", Client::Transmission, Client::BtFast);
}

/// Only the tracker is ours.
#[test]
fn libtorrent_finds_transmission_at_our_tracker_by_udp() {
    transfer(Tracker::BtFast, "udp", Client::Transmission, Client::Libtorrent);
}

#[test]
fn transmission_finds_libtorrent_at_our_tracker_by_http() {
    transfer(Tracker::BtFast, "http", Client::Libtorrent, Client::Transmission);
}

#[test]
fn aria2_finds_libtorrent_at_our_tracker_by_http() {
    transfer(Tracker::BtFast, "http", Client::Libtorrent, Client::Aria2);
}

#[test]
fn bt_fast_finds_aria2_at_our_tracker() {
    transfer(Tracker::BtFast, "http", Client::Aria2, Client::BtFast);
}
