//! Torrents are exchanged between other tools and ours: same fields, same info-hash.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};

use crate::support::{
    bt_fast,
    content::Content,
    creator::{Creator, libtorrent_show, transmission_info_hash},
    process::run,
    scratch::Scratch,
};

const TIMEOUT: Duration = Duration::from_secs(60);
const TRACKER: &str = "http://tracker.example:6969/announce";
const SMALL: [Content; 3] = [Content::Tree, Content::OneByte, Content::OnePiece];

/// Returns the fields of `bt-fast show --json` that libtorrent reports too.
#[track_caller]
fn show(torrent: &Path) -> Value {
    let output = run(bt_fast().arg("show").arg("--json").arg(torrent), TIMEOUT).success();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines.len(), 1, "one object on one line: {output}");
    let shown: Value = serde_json::from_str(lines[0]).unwrap();
    let keys = ["name", "info_hash", "piece_length", "piece_count", "total_length", "private", "trackers"];
    let mut wanted: Value = keys.iter().map(|key| ((*key).to_owned(), shown[*key].clone())).collect();
    let files = shown["files"].as_array().unwrap().iter();
    wanted["files"] = files.map(|file| json!({ "path": file["path"], "length": file["length"] })).collect();
    wanted
}

/// Creates a torrent with `bt-fast create --json` and returns the reported info-hash.
#[track_caller]
fn create(content: Content, torrent: &Path, private: bool) -> String {
    let mut command = bt_fast();
    command.args(["create", "--json", "-a", TRACKER, "-l", &content.piece_len().to_string()]);
    command.args(private.then_some("-p"));
    command.arg("-o").arg(torrent).arg(content.folder().join(content.name()));
    let output = run(&command, TIMEOUT).success();
    let last: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "created", "{output}");
    assert_eq!(last["output"], torrent.to_str().unwrap(), "{output}");
    last["info_hash"].as_str().unwrap().to_owned()
}

fn theirs_is_read(creator: Creator) {
    let scratch = Scratch::new();
    for content in SMALL {
        for private in [false, true] {
            let torrent = scratch.join(&format!("{content:?} {private}.torrent"));
            creator.create(&content.folder().join(content.name()), &torrent, content.piece_len(), private, TRACKER);
            let found = show(&torrent);
            assert_eq!(found, libtorrent_show(&torrent), "{creator:?} {content:?}");
            assert_eq!(found["info_hash"], transmission_info_hash(&torrent), "{creator:?} {content:?}");
            assert_eq!(found["total_length"], content.len());
            assert_eq!(found["private"], private);
        }
    }
}

#[test]
fn torrents_of_mktorrent_are_read() {
    theirs_is_read(Creator::Mktorrent);
}

#[test]
fn torrents_of_libtorrent_are_read() {
    theirs_is_read(Creator::Libtorrent);
}

#[test]
fn torrents_of_transmission_are_read() {
    theirs_is_read(Creator::Transmission);
}

#[test]
fn our_torrents_are_read_by_other_clients() {
    let scratch = Scratch::new();
    for content in SMALL {
        for private in [false, true] {
            let torrent = scratch.join(&format!("{content:?} {private}.torrent"));
            let info_hash = create(content, &torrent, private);
            let found = show(&torrent);
            assert_eq!(found["info_hash"], info_hash, "{content:?}");
            assert_eq!(found, libtorrent_show(&torrent), "{content:?}");
            assert_eq!(transmission_info_hash(&torrent), info_hash, "{content:?}");
        }
    }
}

#[test]
fn edited_torrents_are_read_by_other_clients() {
    let scratch = Scratch::new();
    for (creator, private) in Creator::ALL.into_iter().flat_map(|creator| [(creator, false), (creator, true)]) {
        let content = Content::Tree;
        let torrent = scratch.join(&format!("{creator:?} {private}.torrent"));
        creator.create(&content.folder().join(content.name()), &torrent, content.piece_len(), private, TRACKER);
        let before = show(&torrent);
        let edit = ["edit", "--add-announce", "http://b.example/announce", "-w", "http://w.example/", "-c", "words"];
        run(bt_fast().args(edit).arg(&torrent), TIMEOUT).success();
        let edited = show(&torrent);
        assert_eq!(edited["trackers"], json!([[TRACKER], ["http://b.example/announce"]]), "{creator:?}");
        assert_eq!(edited["info_hash"], before["info_hash"], "{creator:?}");
        assert_eq!(edited, libtorrent_show(&torrent), "{creator:?}");
        assert_eq!(edited["info_hash"], transmission_info_hash(&torrent), "{creator:?}");
    }
}

/// The same layout and the same keys give the same info-hash. Transmission always writes `private`, even 0, and omits
/// empty files, so its hash equals ours only for a private torrent without empty files.
#[test]
fn every_creator_gives_the_same_info_hash() {
    let scratch = Scratch::new();
    for content in SMALL {
        let source = content.folder().join(content.name());
        for private in [false, true] {
            let ours = create(content, &scratch.join(&format!("{content:?} {private}.torrent")), private);
            for creator in Creator::ALL {
                let torrent = scratch.join(&format!("{creator:?} {content:?} {private}.torrent"));
                creator.create(&source, &torrent, content.piece_len(), private, TRACKER);
                let same = creator != Creator::Transmission || (private && !matches!(content, Content::Tree));
                assert_eq!(transmission_info_hash(&torrent) == ours, same, "{creator:?} {content:?} {private}");
            }
        }
    }
}
