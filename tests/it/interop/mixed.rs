//! A mixed swarm of bt-fast and libtorrent behind one origin with a slow uplink: downloaders pass pieces on to each
//! other.

use std::path::Path;
use std::time::Duration;

use crate::support::{
    bt_fast,
    client::{Client, Site},
    content,
    net::NetPair,
    process::{Running, run, wait_until},
    scratch::Scratch,
    tracker::Tracker,
};

const TIMEOUT: Duration = Duration::from_secs(60);
const LEN: u64 = (24 << 20) + 12_345;
/// Shorter than the origin needs for four copies, so the test fails if downloaders do not pass pieces on.
const ORIGIN_RATE: &str = "4M";
const ORIGIN_PORT: u16 = 6981;

fn origin(net: &NetPair, torrent: &Path, source: &Path, state: &Path) -> Running {
    let mut command = bt_fast();
    command.arg("seed").arg(torrent).arg("--data").arg(source).args(["--up", ORIGIN_RATE, "--listen"]);
    command.arg(format!("{}:{ORIGIN_PORT}", net.left.ip));
    Running::start("origin", &net.left.command(&command), &state.join("origin.log"))
}

#[test]
fn two_of_each_client_finish_with_the_same_bytes() {
    let scratch = Scratch::new();
    let (source, state) = (scratch.folder("source"), scratch.folder("state"));
    content::write_random(&source.join("content.bin"), LEN, 7);
    let torrent = scratch.join("mixed.torrent");
    let mut create = bt_fast();
    create.arg("create").arg(source.join("content.bin")).arg("-o").arg(&torrent);
    create.args(["-l", "256K", "-a", &Tracker::url(NetPair::LEFT_IP)]);
    run(&create, TIMEOUT).success();

    let net = NetPair::new();
    let tracker = Tracker::start(&net.left, scratch.path());
    let mut origin = origin(&net, &torrent, &source, &state);
    let seeds = wait_until(TIMEOUT, || tracker.saw(&[("left", "0")]));
    assert!(seeds, "{}", origin.log_tail());
    let clients = [Client::BtFast, Client::Libtorrent, Client::BtFast, Client::Libtorrent];
    let mut downloads = Vec::new();
    for (client, port) in clients.into_iter().zip(ORIGIN_PORT + 1..) {
        let (folder, state) = (scratch.folder(&format!("get{port}")), scratch.folder(&format!("state{port}")));
        let site = Site { host: &net.right, port, state: &state };
        downloads.push((client, client.get(&torrent, &folder, &site), folder));
    }
    for (client, download, folder) in &mut downloads {
        let done = download.wait(TIMEOUT);
        assert!(done.is_ok(), "{client:?}: {done:?}\n{}{}", download.process.log_tail(), origin.log_tail());
        let difference = content::difference(&source.join("content.bin"), &folder.join("content.bin"), true);
        assert_eq!(difference, None, "{client:?}");
    }
}
