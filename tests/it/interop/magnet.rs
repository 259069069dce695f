//! Downloads by magnet link in both directions: metadata from peers, then the content.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::transfer::{SEED_PORT, torrent, transfer_by};
use crate::support::{bt_fast, client::Client, content::Content, net::NetPair, process::run, scratch::Scratch};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Returns the link that `bt-fast magnet` prints.
fn link(torrent: &Path, args: &[&str]) -> PathBuf {
    let printed = run(bt_fast().arg("magnet").arg(torrent).args(args), TIMEOUT).success();
    assert_eq!(printed.lines().count(), 1, "{printed}");
    printed.trim_end().into()
}

/// Transfers content by a link that names the tracker of the torrent.
#[track_caller]
fn by_tracker(seeder: Client, getter: Client) {
    let torrent = torrent(Content::Tree);
    transfer_by(seeder, getter, Content::Tree, &torrent, &link(&torrent, &[]));
}

#[test]
fn libtorrent_gets_by_our_link() {
    by_tracker(Client::BtFast, Client::Libtorrent);
}

#[test]
fn aria2_gets_by_our_link() {
    by_tracker(Client::BtFast, Client::Aria2);
}

#[test]
fn transmission_gets_by_our_link() {
    by_tracker(Client::BtFast, Client::Transmission);
}

#[test]
fn bt_fast_gets_from_libtorrent() {
    by_tracker(Client::Libtorrent, Client::BtFast);
}

#[test]
fn bt_fast_gets_from_transmission() {
    by_tracker(Client::Transmission, Client::BtFast);
}

#[test]
fn bt_fast_gets_from_aria2() {
    by_tracker(Client::Aria2, Client::BtFast);
}

#[test]
fn bt_fast_gets_from_itself() {
    by_tracker(Client::BtFast, Client::BtFast);
}

/// The link names the seeder and no tracker.
#[test]
fn libtorrent_and_bt_fast_get_from_the_peer_in_the_link() {
    let torrent = torrent(Content::OnePiece);
    let peer = format!("{}:{SEED_PORT}", NetPair::LEFT_IP);
    let scratch = Scratch::new();
    let alone = scratch.join("alone.torrent");
    let mut create = bt_fast();
    create.arg("create").arg(Content::OnePiece.folder().join(Content::OnePiece.name())).arg("-o").arg(&alone);
    create.args(["-l", &Content::OnePiece.piece_len().to_string()]);
    run(&create, TIMEOUT).success();
    let link = link(&alone, &["--peer", &peer]);
    assert!(!link.to_str().unwrap().contains("&tr="), "{link:?}");
    for getter in [Client::Libtorrent, Client::BtFast] {
        transfer_by(Client::BtFast, getter, Content::OnePiece, &torrent, &link);
    }
}
