//! The transfer matrix: each seeder, each downloader and each content on two hosts, compared byte for byte.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
    time::Duration,
};

use crate::support::{
    bt_fast,
    client::{Client, Site},
    content::{self, Content},
    creator::Creator,
    net::NetPair,
    process::{run, wait_until},
    scratch::Scratch,
    tracker::Tracker,
};

const CREATE_TIMEOUT: Duration = Duration::from_secs(60);
/// Deadline for a seeder to check the content and announce itself.
const SEED_TIMEOUT: Duration = Duration::from_secs(60);
/// Clients unchoke in rounds of ten seconds. More than a few rounds mean that a connection was lost and retried.
const GET_TIMEOUT: Duration = Duration::from_secs(45);
/// Deadline for 1 GiB on two busy cores. Transmission 3 sends its 512 queued blocks twice a second: 17 MB/s on any
/// link.
const GET_GIBIBYTE_TIMEOUT: Duration = Duration::from_secs(240);

pub(super) const SEED_PORT: u16 = 6981;
const GET_PORT: u16 = 6982;

/// Returns the torrent of a content, created once by `bt-fast create`. All tests use the same tracker address.
pub(super) fn torrent(content: Content) -> PathBuf {
    static MADE: OnceLock<Mutex<HashMap<&'static str, PathBuf>>> = OnceLock::new();
    static FOLDER: OnceLock<Scratch> = OnceLock::new();
    let mut made = MADE.get_or_init(Mutex::default).lock().unwrap();
    let make = || {
        let path = FOLDER.get_or_init(Scratch::new).join(&format!("{content:?}.torrent"));
        let mut command = bt_fast();
        command.arg("create").arg(content.folder().join(content.name())).arg("-o").arg(&path);
        command.args(["-l", &content.piece_len().to_string(), "-a", &Tracker::url(NetPair::LEFT_IP)]);
        run(&command, CREATE_TIMEOUT).success();
        path
    };
    made.entry(content.name()).or_insert_with(make).clone()
}

#[track_caller]
fn transfer(seeder: Client, getter: Client, content: Content, torrent: &Path) {
    transfer_by(seeder, getter, content, torrent, torrent);
}

/// Transfers content from `seeder`, on the left host with a tracker, to `getter`, on the right host. `link` is the
/// torrent or a magnet link for the getter.
#[track_caller]
pub(super) fn transfer_by(seeder: Client, getter: Client, content: Content, torrent: &Path, link: &Path) {
    let source = content.folder();
    let scratch = Scratch::new();
    let target = scratch.folder("target");
    let (seed_state, get_state) = (scratch.folder("seeder"), scratch.folder("getter"));

    let net = NetPair::new();
    let mut tracker = Tracker::start(&net.left, scratch.path());
    let seed_site = Site { host: &net.left, port: SEED_PORT, state: &seed_state };
    let mut seed = seeder.seed(torrent, &source, &seed_site);
    let port = SEED_PORT.to_string();
    let seeds = wait_until(SEED_TIMEOUT, || {
        // Transmission announces before it has checked the content and not again afterwards, so wait for its status
        // line.
        let checked = seed.output().contains("Seeding, ") && tracker.saw(&[("port", &port)]);
        checked || tracker.saw(&[("left", "0"), ("port", &port)])
    });
    assert!(seeds, "{seeder:?} did not announce itself as a seeder\n{}{}", tracker.log_tail(), seed.log_tail());

    let get_site = Site { host: &net.right, port: GET_PORT, state: &get_state };
    let mut get = getter.get(link, &target, &get_site);
    let timeout = if matches!(content, Content::Gibibyte) { GET_GIBIBYTE_TIMEOUT } else { GET_TIMEOUT };
    let result = get.wait(timeout).and_then(|()| {
        let (expected, found) = (source.join(content.name()), target.join(content.name()));
        content::difference(&expected, &found, getter.makes_empty_files()).map_or(Ok(()), Err)
    });
    if let Err(reason) = result {
        let logs = [get.process.log_tail(), seed.log_tail(), tracker.log_tail()].concat();
        panic!("{seeder:?} -> {getter:?}, {content:?}: {reason}\n{logs}");
    }
    let _ = fs::remove_dir_all(&target);
}

/// Defines one test per content.
macro_rules! pair {
    ($name:ident: $seeder:ident -> $getter:ident) => {
        mod $name {
            use super::*;

            #[test]
            fn tree() {
                transfer(Client::$seeder, Client::$getter, Content::Tree, &torrent(Content::Tree));
            }

            #[test]
            fn one_byte() {
                transfer(Client::$seeder, Client::$getter, Content::OneByte, &torrent(Content::OneByte));
            }

            #[test]
            fn one_piece() {
                transfer(Client::$seeder, Client::$getter, Content::OnePiece, &torrent(Content::OnePiece));
            }

            #[test]
            fn one_gibibyte() {
                transfer(Client::$seeder, Client::$getter, Content::Gibibyte, &torrent(Content::Gibibyte));
            }
        }
    };
}

pair!(bt_fast_to_bt_fast: BtFast -> BtFast);
pair!(bt_fast_to_libtorrent: BtFast -> Libtorrent);
pair!(bt_fast_to_aria2: BtFast -> Aria2);
pair!(bt_fast_to_transmission: BtFast -> Transmission);
pair!(libtorrent_to_bt_fast: Libtorrent -> BtFast);
pair!(aria2_to_bt_fast: Aria2 -> BtFast);
pair!(transmission_to_bt_fast: Transmission -> BtFast);

/// Transfers without bt-fast: if one of these fails, suspect the machine first.
mod other_clients {
    use super::*;

    fn among_other_clients(seeder: Client, getter: Client, content: Content) {
        let scratch = Scratch::new();
        let source = content.folder().join(content.name());
        let url = Tracker::url(NetPair::LEFT_IP);
        let torrent = Creator::Libtorrent.create(&source, &scratch.join("t.torrent"), content.piece_len(), false, &url);
        transfer(seeder, getter, content, &torrent);
    }

    #[test]
    fn libtorrent_to_aria2() {
        among_other_clients(Client::Libtorrent, Client::Aria2, Content::Tree);
    }

    #[test]
    fn aria2_to_transmission() {
        among_other_clients(Client::Aria2, Client::Transmission, Content::Tree);
    }

    #[test]
    fn transmission_to_libtorrent() {
        among_other_clients(Client::Transmission, Client::Libtorrent, Content::Tree);
    }

    #[test]
    #[ignore = "for work on the harness: 1 GiB through each other client"]
    fn large() {
        for (seeder, getter) in [
            (Client::Libtorrent, Client::Aria2),
            (Client::Aria2, Client::Transmission),
            (Client::Transmission, Client::Libtorrent),
        ] {
            for content in [Content::OneByte, Content::OnePiece, Content::Gibibyte] {
                let start = std::time::Instant::now();
                among_other_clients(seeder, getter, content);
                eprintln!("{seeder:?} -> {getter:?}, {content:?}: {:.1?}", start.elapsed());
            }
        }
    }
}
