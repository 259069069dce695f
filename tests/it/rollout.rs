//! The daily work with an origin, from start to end: five hosts get an image and a folder, the operator sees when all
//! are done, restarts the origin during a download, publishes a new version, and stops.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::bt_fast;
use crate::support::content::{difference, write_random};
use crate::support::http_client::{self, Answer};
use crate::support::lan::Lan;
use crate::support::process::{Running, wait_until};
use crate::support::scratch::Scratch;

const DEADLINE: Duration = Duration::from_secs(60);
/// The time within which a download goes on after a restart of its origin, with some seconds for a busy machine.
const BACK_WITHIN: Duration = Duration::from_secs(6);
const IMAGE: &str = "image.img";
const FOLDER: &str = "folder of files";
const IMAGE_LEN: u64 = 12 << 20;
const FILE_COUNT: u64 = 200;
const WEB_PORT: u16 = 6880;
const ADMIN_PORT: u16 = 6870;

/// An origin on the first host of a link with five more hosts.
struct Rollout {
    lan: Lan,
    scratch: Scratch,
}

impl Rollout {
    fn new() -> Self {
        let scratch = Scratch::new();
        let source = scratch.folder("source");
        write_random(&source.join(IMAGE), IMAGE_LEN, 1);
        for number in 0..FILE_COUNT {
            write_random(
                &source.join(FOLDER).join(format!("{}/file {number}", number % 7)),
                1000 + 97 * number,
                number,
            );
        }
        Self { lan: Lan::new(6), scratch }
    }

    fn origin_ip(&self) -> Ipv4Addr {
        self.lan.hosts[0].ip
    }

    fn source(&self, name: &str) -> PathBuf {
        self.scratch.join("source").join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = bt_fast();
        command.args(args).env("XDG_CACHE_HOME", self.scratch.join("cache"));
        command
    }

    /// Starts the origin with the default addresses, and waits until it has printed the links of both torrents.
    fn seed(&self, log: &str) -> Running {
        let mut command = self.command(&["seed", "--admin", &format!("{}:{ADMIN_PORT}", self.origin_ip())]);
        command.arg(self.source(IMAGE)).arg(self.source(FOLDER));
        let mut seed = Running::start("seed", &self.lan.hosts[0].command(&command), &self.scratch.join(log));
        let has_links = || links(&seed.output(), "get it").len() == 2;
        let has_started = wait_until(DEADLINE, has_links);
        assert!(has_started, "{}", seed.log_tail());
        seed
    }

    /// Starts `get` on a host, into a folder of its own.
    fn get(&self, host: usize, link: &str, flags: &[&str]) -> Running {
        let mut command = self.command(&["get", link, "-o"]);
        command.arg(self.target(host)).args(flags);
        let log = self.scratch.join(&format!("get.{host}.{}", fastrand::u32(..)));
        Running::start(&format!("get on host {host}"), &self.lan.hosts[host].command(&command), &log)
    }

    fn target(&self, host: usize) -> PathBuf {
        self.scratch.join(&format!("host {host}"))
    }

    #[track_caller]
    fn assert_equal(&self, host: usize, name: &str) {
        assert_eq!(difference(&self.source(name), &self.target(host).join(name), true), None, "host {host}");
    }

    /// Requests a path from the origin, from another host of the link.
    fn request(&self, port: u16, path: &str) -> Answer {
        let address = SocketAddr::from((self.origin_ip(), port));
        self.lan.hosts[1].inside(|| http_client::get(address, path, ""))
    }

    /// Returns the value of a metric of the torrent of this name. An origin that has just started lists no torrents.
    fn metric(&self, metric: &str, name: &str) -> Option<u64> {
        let answer = self.request(ADMIN_PORT, "/metrics");
        let (start, label) = (format!("btfast_torrent_{metric}{{"), format!("name=\"{name}\""));
        let line = answer.text().lines().find(|line| line.starts_with(&start) && line.contains(&label))?;
        Some(line.rsplit(' ').next().unwrap().parse().unwrap())
    }
}

/// Returns the texts behind this label, one for each torrent.
fn links(output: &str, label: &str) -> Vec<String> {
    let texts = output.lines().filter_map(|line| line.strip_prefix(label)).map(|text| text.trim().to_owned());
    texts.collect()
}

#[track_caller]
fn assert_succeeds(mut process: Running) -> String {
    let status = process.wait(DEADLINE);
    assert_eq!(status.and_then(|status| status.code()), Some(0), "{}", process.log_tail());
    process.output()
}

fn info_hash_of(torrent: &[u8]) -> String {
    bt_fast::codec::metainfo::Metainfo::decode(torrent, &Default::default()).unwrap().info_hash.to_string()
}

#[test]
fn an_operators_day_from_first_copy_to_new_version() {
    let rollout = Rollout::new();
    let origin = format!("http://{}:{WEB_PORT}", rollout.origin_ip());

    // The origin has no default route. Every printed link works on the other hosts.
    let mut seed = rollout.seed("seed.log");
    let printed = seed.output();
    let commands = links(&printed, "get it");
    assert!(!printed.lines().any(|line| line.contains("127.0.0.1") && !line.starts_with("dashboard")), "{printed}");
    let image_url = format!("{origin}/t/{IMAGE}.torrent");
    assert_eq!(commands[0], format!("bt-fast get {image_url}"));
    let magnet = links(&printed, "magnet").remove(1);
    assert!(magnet.contains(&format!("x.pe={}:6881", rollout.origin_ip())), "{magnet}");

    // Host 5 has the folder already; the other hosts get it by its magnet link.
    fs::create_dir(rollout.target(5)).unwrap();
    let copied = Command::new("cp").arg("-r").arg(rollout.source(FOLDER)).arg(rollout.target(5)).status().unwrap();
    assert!(copied.success());
    let gets: Vec<Running> =
        (1..=5).flat_map(|host| [rollout.get(host, &image_url, &[]), rollout.get(host, &magnet, &[])]).collect();
    gets.into_iter().for_each(|get| drop(assert_succeeds(get)));
    for host in 1..=5 {
        rollout.assert_equal(host, IMAGE);
        rollout.assert_equal(host, FOLDER);
    }

    // All are done: the lines, the metrics and the API agree.
    for name in [IMAGE, FOLDER] {
        let counted = wait_until(DEADLINE, || rollout.metric("hosts_complete", name) == Some(5));
        assert!(counted, "{name}: {}", seed.log_tail());
        assert_eq!(rollout.metric("hosts_seen", name), Some(5));
        let line = format!("has all of {name} (5 of 5 hosts)");
        assert!(wait_until(DEADLINE, || seed.output().contains(&line)), "{}", seed.log_tail());
    }
    let api: Value = serde_json::from_slice(&rollout.request(ADMIN_PORT, "/api").body).unwrap();
    for swarm in api["tracker"]["swarms"].as_array().unwrap() {
        assert_eq!((swarm["hosts_complete"].as_u64(), swarm["hosts_seen"].as_u64()), (Some(5), Some(5)), "{swarm}");
    }

    // A restart during a download: the host waits, says for which peer, and goes on.
    fs::remove_file(rollout.target(2).join(IMAGE)).unwrap();
    let get = rollout.get(2, &image_url, &["--json", "--json-interval", "100ms", "--down", "2M"]);
    let done = |get: &Running| {
        let records = get.output();
        let records = records.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.filter_map(|record| record["bytes_done"].as_u64()).max().unwrap_or(0)
    };
    assert!(wait_until(DEADLINE, || done(&get) > 1 << 20), "{}", get.output());
    seed.signal(Signal::TERM);
    let report = assert_succeeds(seed);
    assert!(report.lines().last().unwrap().starts_with("sent "), "{report}");
    let waits = format!("no peer is connected: trying {}:6881 again", rollout.origin_ip());
    assert!(wait_until(DEADLINE, || get.output().contains(&waits)), "{}", get.output());
    let before = done(&get);
    let mut seed = rollout.seed("seed.2.log");
    assert!(wait_until(BACK_WITHIN, || done(&get) > before), "{}", get.output());
    assert_succeeds(get);
    rollout.assert_equal(2, IMAGE);

    // A new version: the name leads to it, the old URL says so, and a host replaces its old copy.
    let old = info_hash_of(&rollout.request(WEB_PORT, &format!("/t/{IMAGE}.torrent")).body);
    let next = rollout.scratch.join("next");
    write_random(&next, IMAGE_LEN, 2);
    fs::rename(&next, rollout.source(IMAGE)).unwrap();
    let newest = || info_hash_of(&rollout.request(WEB_PORT, &format!("/t/{IMAGE}.torrent")).body);
    assert!(wait_until(DEADLINE, || newest() != old), "{}", seed.log_tail());
    let answer = rollout.request(WEB_PORT, &format!("/t/{old}.torrent"));
    assert_eq!(answer.status, 410, "{}", answer.head);
    assert!(answer.head.contains(&format!("link: <{image_url}>; rel=\"successor-version\"")), "{}", answer.head);
    assert_succeeds(rollout.get(3, &image_url, &["--overwrite"]));
    rollout.assert_equal(3, IMAGE);
    let mut late = rollout.get(4, &format!("{origin}/t/{old}.torrent"), &[]);
    assert_eq!(late.wait(DEADLINE).and_then(|status| status.code()), Some(1));
    assert!(late.output().contains(&image_url), "{}", late.output());
    assert!(is_old_copy(&rollout.target(4).join(IMAGE)));

    seed.signal(Signal::TERM);
    assert_succeeds(seed);
}

/// Whether a file is the first version of the image.
fn is_old_copy(path: &Path) -> bool {
    let scratch = Scratch::new();
    write_random(&scratch.join(IMAGE), IMAGE_LEN, 1);
    difference(&scratch.join(IMAGE), path, true).is_none()
}
