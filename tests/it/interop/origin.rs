//! An origin on one host and other clients on a second host: page, `.torrent`, magnet link and plain HTTP.

use std::{fs, path::Path, process::Command, time::Duration};

use serde_json::Value;

use super::transfer::SEED_PORT;
use crate::support::{
    bt_fast,
    client::{Client, Site},
    content::{self, Content},
    net::{Host, NetPair},
    process::{Running, run, wait_until},
    python,
    scratch::Scratch,
};

const TIMEOUT: Duration = Duration::from_secs(60);
const WEB_PORT: u16 = 6880;

/// Starts `seed PATH` on `host` and returns its `published` record.
fn start(host: &Host, content: Content, scratch: &Scratch, flags: &[&str]) -> (Running, Value) {
    let mut command = bt_fast();
    command.args(["seed", "--json"]).arg(content.folder().join(content.name()));
    command
        .args(["--listen", &format!("{}:{SEED_PORT}", host.ip), "--web", &format!("{}:{WEB_PORT}", host.ip)])
        .args(flags);
    let mut seed = Running::start("seed", &host.command(&command), &scratch.join("seed.log"));
    let record = |seed: &Running| {
        let records = seed.output();
        let mut records = records.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.find(|record| record["event"] == "published")
    };
    assert!(wait_until(TIMEOUT, || record(&seed).is_some()), "{}", seed.log_tail());
    let published = record(&seed).unwrap();
    (seed, published)
}

/// Fetches a URL on `host` with another program.
fn fetch(host: &Host, url: &str, to: &Path, range: &str) {
    let script = "import sys, urllib.request as r\n\
                  q = r.Request(sys.argv[1], headers={'Range': sys.argv[3]} if sys.argv[3] else {})\n\
                  open(sys.argv[2], 'wb').write(r.urlopen(q, timeout=20).read())";
    let mut command = Command::new(python());
    command.args(["-c", script, url]).arg(to).arg(range);
    run(&host.command(&command), TIMEOUT).success();
}

/// Fetches the page and the `.torrent` that it links to, like a browser.
fn torrent_of_page(host: &Host, page: &str, scratch: &Scratch) -> std::path::PathBuf {
    let (html, torrent) = (scratch.join("page.html"), scratch.join("page.torrent"));
    fetch(host, page, &html, "");
    let html = fs::read_to_string(html).unwrap();
    let (_, rest) = html.split_once("class=\"main\" href=\"").unwrap();
    fetch(host, &format!("{page}{}", rest.split('"').next().unwrap()), &torrent, "");
    torrent
}

#[track_caller]
fn assert_gets(getter: Client, by_magnet: bool) {
    let content = Content::Tree;
    let (scratch, net) = (Scratch::new(), NetPair::new());
    let (mut seed, published) = start(&net.left, content, &scratch, &[]);
    let link = if by_magnet {
        published["magnet"].as_str().unwrap().into()
    } else {
        torrent_of_page(&net.right, published["page"].as_str().unwrap(), &scratch)
    };
    let (target, state) = (scratch.folder("target"), scratch.folder("getter"));
    let mut get = getter.get(&link, &target, &Site { host: &net.right, port: SEED_PORT + 1, state: &state });
    let result = get.wait(TIMEOUT).and_then(|()| {
        let (expected, found) = (content.folder().join(content.name()), target.join(content.name()));
        content::difference(&expected, &found, getter.makes_empty_files()).map_or(Ok(()), Err)
    });
    if let Err(reason) = result {
        panic!("{getter:?}: {reason}\n{}{}", get.process.log_tail(), seed.log_tail());
    }
}

#[test]
fn aria2_gets_it_from_the_page() {
    assert_gets(Client::Aria2, false);
}

#[test]
fn transmission_gets_it_from_the_page() {
    assert_gets(Client::Transmission, false);
}

#[test]
fn transmission_that_tries_utp_first_gets_it_from_the_page() {
    assert_gets(Client::TransmissionUtp, false);
}

#[test]
fn libtorrent_gets_it_from_the_page() {
    assert_gets(Client::Libtorrent, false);
}

#[test]
fn libtorrent_gets_it_by_the_magnet_link_alone() {
    assert_gets(Client::Libtorrent, true);
}

#[test]
fn aria2_gets_it_by_the_magnet_link_alone() {
    assert_gets(Client::Aria2, true);
}

#[test]
fn a_range_of_the_file_comes_over_http() {
    let content = Content::OnePiece;
    let (scratch, net) = (Scratch::new(), NetPair::new());
    let (_seed, published) = start(&net.left, content, &scratch, &["--web-seed"]);
    let part = scratch.join("part");
    fetch(&net.right, published["content"].as_str().unwrap(), &part, "bytes=100-999");
    let expected = fs::read(content.folder().join(content.name())).unwrap();
    assert_eq!(fs::read(part).unwrap(), expected[100..1000]);
}
