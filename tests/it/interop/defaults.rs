//! Transfers of 1 MB from `seed` to other clients with their default settings, which try uTP first and batch messages.
//! Each client finds its peers only through a tracker.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;

use super::transfer::{SEED_PORT, torrent};
use crate::support::{
    bt_fast,
    client::{Client, Site},
    content::{self, Content},
    net::NetPair,
    process::{Running, run, wait_until},
    python,
    scratch::Scratch,
    script,
    tracker::Tracker,
};

const CONTENT: Content = Content::Megabyte;
const GET_PORT: u16 = 6982;
/// The control port of deluged.
const DELUGED: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 58_846);
/// Deadline for a client to start on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Deadline from the first announce to the last byte. libtorrent waits 3 s for an answer to its uTP attempt, and up to
/// a second after a refusal.
const GET_TIMEOUT: Duration = Duration::from_millis(3500);
/// Deadline from the last byte to the `completed` announce.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Getter {
    Libtorrent,
    Deluge,
    Qbittorrent,
    Webtorrent,
}

impl Getter {
    /// Starts the processes that download `link`, a torrent or a magnet link, into `folder`.
    fn start(self, link: &Path, folder: &Path, site: &Site<'_>) -> Vec<Running> {
        match self {
            Self::Libtorrent => vec![start("libtorrent", &libtorrent(link, folder, site), site)],
            Self::Deluge => {
                let daemon = start("deluged", &deluged(folder, site), site);
                let mut add = Command::new("deluge-console");
                let line = format!("add -p '{}' '{}'", folder.display(), link.display());
                add.arg("-c").arg(site.state).arg(line);
                let listens = || site.host.inside(|| TcpStream::connect(DELUGED).is_ok());
                assert!(wait_until(START_TIMEOUT, listens), "{}", daemon.output());
                vec![start("deluge-console", &add, site), daemon]
            }
            Self::Qbittorrent => vec![start("qbittorrent-nox", &qbittorrent(link, folder, site), site)],
            Self::Webtorrent => vec![start("webtorrent", &webtorrent(link, folder), site)],
        }
    }
}

fn start(name: &str, command: &Command, site: &Site<'_>) -> Running {
    let mut command = site.host.command(command);
    command.env("HOME", site.state).env("LC_ALL", "C.UTF-8").env("PYTHONUNBUFFERED", "1");
    Running::start(name, &command, &site.state.join(format!("{name}.log")))
}

fn libtorrent(torrent: &Path, folder: &Path, site: &Site<'_>) -> Command {
    let mut command = Command::new(python());
    command.arg(script("lt_defaults.py")).arg(torrent).arg(folder);
    command.arg(site.host.ip.to_string()).arg(site.port.to_string());
    command
}

fn deluged(folder: &Path, site: &Site<'_>) -> Command {
    let settings = json!({
        "download_location": folder,
        "random_port": false,
        "listen_ports": [site.port, site.port],
        "dht": false,
        "lsd": false,
        "upnp": false,
        "natpmp": false,
        "utpex": false,
        "new_release_check": false,
    });
    let versions = json!({ "file": 1, "format": 1 });
    fs::write(site.state.join("core.conf"), format!("{versions:#}{settings:#}")).unwrap();
    let mut command = Command::new("deluged");
    command.args(["-d", "-L", "info", "-u", "127.0.0.1", "-c"]).arg(site.state);
    command
}

fn qbittorrent(torrent: &Path, folder: &Path, site: &Site<'_>) -> Command {
    let settings = format!(
        "[LegalNotice]\nAccepted=true\n\n\
         [BitTorrent]\nSession\\Port={}\nSession\\DHTEnabled=false\nSession\\LSDEnabled=false\nSession\\PeXEnabled=false\n\n\
         [Network]\nPortForwardingEnabled=false\n\n\
         [Preferences]\nWebUI\\Address=127.0.0.1\n",
        site.port
    );
    let settings_folder = site.state.join("qBittorrent/config");
    fs::create_dir_all(&settings_folder).unwrap();
    fs::write(settings_folder.join("qBittorrent.conf"), settings).unwrap();
    let mut command = Command::new("qbittorrent-nox");
    command.arg(format!("--profile={}", site.state.display()));
    command.arg(format!("--save-path={}", folder.display())).arg("--skip-dialog=true").arg(torrent);
    command
}

fn webtorrent(link: &Path, folder: &Path) -> Command {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/webtorrent/node_modules");
    let mut command = Command::new("node");
    command.arg(script("webtorrent.mjs")).arg(modules).arg(link).arg(folder);
    command
}

/// Waits until the client's copy is complete and announced, and returns the output of the client.
#[track_caller]
fn gets(getter: Getter, link: &Path) -> String {
    let scratch = Scratch::new();
    let (source, target) = (CONTENT.folder(), scratch.folder("target"));
    let (seed_state, get_state) = (scratch.folder("seeder"), scratch.folder("getter"));
    let net = NetPair::new();
    let mut tracker = Tracker::start(&net.left, scratch.path());
    let seed_site = Site { host: &net.left, port: SEED_PORT, state: &seed_state };
    let mut seed = Client::BtFast.seed(&torrent(CONTENT), &source, &seed_site);
    assert!(wait_until(START_TIMEOUT, || tracker.saw(&[("left", "0")])), "{}", seed.log_tail());
    // libtorrent listens only on interfaces that are up, and a new one takes up to a second.
    let state = net.right.command(Command::new("cat").arg("/sys/class/net/veth0/operstate"));
    assert!(wait_until(START_TIMEOUT, || run(&state, START_TIMEOUT).stdout == "up\n"));

    let mut processes = getter.start(link, &target, &Site { host: &net.right, port: GET_PORT, state: &get_state });
    let ip = net.right.ip.to_string();
    let announced = wait_until(START_TIMEOUT, || tracker.saw(&[("ip", &ip)]));
    let since = Instant::now();
    let expected = source.join(CONTENT.name());
    let is_whole = || content::difference(&expected, &target.join(CONTENT.name()), true).is_none();
    let whole = announced && wait_until(GET_TIMEOUT, is_whole);
    let took = since.elapsed();
    let reported =
        whole && wait_until(ANNOUNCE_TIMEOUT, || tracker.saw(&[("ip", &ip), ("event", "completed"), ("left", "0")]));
    let logs: String = processes.iter_mut().map(Running::log_tail).collect();
    assert!(reported, "{getter:?}: whole: {whole}, after {took:.1?}\n{logs}{}{}", seed.log_tail(), tracker.log_tail());
    eprintln!("{getter:?}: whole {took:.2?} after its first announce");
    logs
}

#[test]
fn libtorrent_connects_over_tcp_at_once() {
    gets(Getter::Libtorrent, &torrent(CONTENT));
}

#[test]
fn deluge_connects_over_tcp_at_once() {
    gets(Getter::Deluge, &torrent(CONTENT));
}

#[test]
fn qbittorrent_connects_over_tcp_at_once() {
    gets(Getter::Qbittorrent, &torrent(CONTENT));
}

#[test]
fn webtorrent_gets_by_a_magnet_link_over_one_connection() {
    let printed = run(bt_fast().arg("magnet").arg(torrent(CONTENT)), START_TIMEOUT).success();
    let printed = gets(Getter::Webtorrent, &PathBuf::from(printed.trim_end()));
    assert_eq!(printed.matches("wire ").count(), 1, "{printed}");
}
