//! `create` and `edit` as publishers use them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::sandbox::{Run, Sandbox, content};

const TRACKER: &str = "http://t.example/announce";

fn published(options: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("tree/file", content(70_000));
    sandbox.write("tree/other", "x");
    sandbox.run(&format!("create tree -q {options}")).ok();
    sandbox
}

fn shown(sandbox: &Sandbox, torrent: &str) -> Value {
    sandbox.run(&format!("show {torrent} --json")).ok().json().remove(0)
}

fn hash(sandbox: &Sandbox, torrent: &str) -> String {
    shown(sandbox, torrent)["info_hash"].as_str().unwrap().to_owned()
}

/// Returns the text of the line with this label.
fn line<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(label).filter(|rest| rest.starts_with(' '))).map(str::trim)
}

#[test]
fn create_prints_info_hash_and_magnet_link() {
    let sandbox = published("-a http://t.example/announce -w http://w.example/tree");
    let expected = shown(&sandbox, "tree.torrent");
    let (expected, link) = (expected["info_hash"].as_str().unwrap(), expected["magnet"].as_str().unwrap());
    let options = "create tree -f -a http://t.example/announce -w http://w.example/tree";
    let run = sandbox.run(options).ok();
    assert_eq!((line(run.text(), "info-hash"), line(run.text(), "magnet")), (Some(expected), Some(link)));
    assert_eq!(run.text().lines().count(), 2);
    let quiet = sandbox.run(&format!("-q {options}")).ok();
    assert_eq!((quiet.text(), quiet.stderr.as_str()), (format!("{expected}\n").as_str(), ""));
    let json = sandbox.run(&format!("{options} --json")).ok().json();
    let created = json.last().unwrap();
    assert_eq!((&created["info_hash"], &created["magnet"]), (&json!(expected), &json!(link)));
    let piped = sandbox.run(&format!("{options} -o - --no-date --no-creator")).ok();
    assert!(piped.stdout.starts_with(b"d8:announce") && piped.stdout.ends_with(b"e"));
    assert_eq!((line(&piped.stderr, "info-hash"), line(&piped.stderr, "magnet")), (Some(expected), Some(link)));
    assert_eq!(sandbox.run(&format!("{options} -o - -q")).ok().stderr, "");
}

#[test]
fn a_private_torrent_has_no_link_and_needs_a_tracker() {
    let sandbox = published("-p -a http://t.example/announce");
    let run = sandbox.run("create tree -f -p -a http://t.example/announce").ok();
    assert!(line(run.text(), "info-hash").is_some() && line(run.text(), "magnet").is_none());
    assert!(!run.stderr.contains("warning"), "{run:?}");
    let alone = sandbox.run("create tree -f -p").ok();
    assert!(alone.stderr.contains("a private torrent without a tracker"), "{alone:?}");
    let json = sandbox.run("create tree -f -p --json").ok().json();
    let created = json.last().unwrap();
    assert!(created["magnet"].is_null() && created["warnings"][0].as_str().unwrap().contains("-a"), "{created}");
    let edited = sandbox.run("edit tree.torrent --no-announce --add-announce http://t.example/announce");
    edited.fails(2, "--no-announce");
    let edited = sandbox.run("edit tree.torrent -c x").ok();
    assert!(edited.stderr.contains("without a tracker"), "{edited:?}");
}

#[test]
fn a_dry_run_tells_that_the_output_exists() {
    let sandbox = published("");
    let before = sandbox.read("tree.torrent");
    let run = sandbox.run("create tree --dry-run -l 32K").ok();
    assert!(run.text().contains("tree.torrent  2 files"), "{run:?}");
    assert!(run.stderr.contains("output exists: tree.torrent: -f would replace it"), "{run:?}");
    let forced = sandbox.run("create tree --dry-run -f").ok();
    assert!(forced.stderr.contains("tree.torrent: it would be replaced"), "{forced:?}");
    let json = sandbox.run("create tree --dry-run --json").ok().json();
    assert_eq!(json[0]["output_exists"], true);
    let free = sandbox.run("create tree --dry-run -o free.torrent").ok();
    assert!(!free.stderr.contains("exists"), "{free:?}");
    assert_eq!(sandbox.read("tree.torrent"), before);
}

#[test]
fn the_creation_date_can_be_given() {
    let sandbox = published("");
    for (date, seconds) in [("2026-11-30", 1_795_996_800), ("2026-11-30T12:00:00Z", 1_796_040_000), ("@77", 77)] {
        sandbox.run(&format!("create tree -f --date {date}")).ok();
        assert_eq!(shown(&sandbox, "tree.torrent")["creation_date"], seconds, "{date}");
    }
    for bad in ["--date today", "--date 2026-02-30", "--date @-1", "--date 2026-11-30 --no-date"] {
        sandbox.run(&format!("create tree -f {bad}")).fails(2, "--date");
    }
}

#[test]
fn an_exponent_as_piece_length_is_explained() {
    let sandbox = published("");
    for (len, remedy) in [(14, "2^14 or 16K"), (18, "2^18 or 256K"), (20, "2^20 or 1M"), (28, "2^28 or 256M")] {
        let part = format!("-l: {len} is a length in bytes: for 2^{len} write {remedy}");
        sandbox.run(&format!("create tree -l {len}")).fails(2, &part);
        sandbox.run(&format!("bench floor -l {len}")).fails(2, &part);
    }
    sandbox.run("create tree -l 29").fails(2, "give a power of two");
    sandbox.run("create tree -f -l 2^18").ok();
    assert_eq!(shown(&sandbox, "tree.torrent")["piece_length"], 256 << 10);
}

#[test]
fn like_takes_the_settings_of_another_torrent() {
    let old = "-l 64K -p -s SRC -a http://a.example/announce,udp://b.example:1 -a http://c.example/announce -c old";
    let sandbox = published(&format!("{old} -w http://w.example/tree -o old.torrent"));
    sandbox.run("create tree --like old.torrent -o new.torrent").ok();
    let (old, new) = (shown(&sandbox, "old.torrent"), shown(&sandbox, "new.torrent"));
    for key in ["info_hash", "piece_length", "private", "source", "trackers", "web_seeds"] {
        assert_eq!(old[key], new[key], "{key}");
    }
    assert!(new["comment"].is_null());
    let flags = "-l 32K -s X -a http://x.example/announce -w http://x.example/";
    sandbox.run(&format!("create tree --like old.torrent -o flags.torrent {flags}")).ok();
    let new = shown(&sandbox, "flags.torrent");
    assert_eq!((&new["piece_length"], &new["source"]), (&json!(32 << 10), &json!("X")));
    assert_eq!(new["trackers"], json!([["http://x.example/announce"]]));
    assert_eq!(new["web_seeds"], json!(["http://x.example/"]));
    sandbox.run("create tree --like none.torrent -o x.torrent").fails(1, "none.torrent");
}

/// Torrents of other programs: unsorted and unknown keys inside and outside the info dictionary, text that is not
/// UTF-8, trackers that bt-fast does not speak to.
fn odd_torrents() -> Vec<Vec<u8>> {
    let pieces = [&b"6:pieces20:"[..], &[0xa5; 20]].concat();
    let sorted = [&b"d6:lengthi3e4:name1:x12:piece lengthi16384e"[..], &pieces, b"e"].concat();
    let unsorted = [&b"d"[..], &pieces, b"4:name1:x6:lengthi3e12:piece lengthi16384e7:x-thingd1:bi2e1:ai1eee"].concat();
    let private = [&sorted[..sorted.len() - 1], b"7:privatei1e6:source3:SRCe"].concat();
    let mut torrents = Vec::new();
    for info in [sorted, unsorted, private] {
        torrents.push([&b"d4:info"[..], &info, b"e"].concat());
        torrents
            .push([&b"d8:announce9:wss://w/a7:comment2:\xff\xfe4:info"[..], &info, b"5:nodesle1:zd1:bi1eee"].concat());
        torrents.push([&b"d4:info"[..], &info, b"8:announce10:http://a/x3:abcli1eee\n"].concat());
    }
    torrents
}

fn info_of(torrent: &[u8]) -> &[u8] {
    let start = torrent.windows(6).position(|bytes| bytes == b"4:info").unwrap() + 6;
    let end = (start..=torrent.len()).rev().find(|&end| {
        let info = &torrent[start..end];
        info.ends_with(b"e") && bt_fast::codec::bencode::Document::decode(info, &caps()).is_ok()
    });
    &torrent[start..end.unwrap()]
}

fn caps() -> bt_fast::codec::bencode::Limits {
    bt_fast::codec::bencode::Limits { depth_max: 16, tokens_max: 1000 }
}

#[test]
fn edit_never_changes_the_info_dictionary() {
    let sandbox = Sandbox::new();
    for torrent in odd_torrents() {
        for flags in
            ["-a http://n.example/a", "--add-announce udp://n.example:1,http://m/", "--no-announce -w http://w/"]
        {
            sandbox.write("odd.torrent", &torrent);
            let before = hash(&sandbox, "odd.torrent");
            let run = sandbox.run(&format!("edit odd.torrent -q -c words --date 2026-11-30 {flags}")).ok();
            assert_eq!(run.text(), format!("{before}\n"));
            let after = sandbox.read("odd.torrent");
            assert_eq!(info_of(&after), info_of(&torrent), "{}", torrent.escape_ascii());
            for kept in [&b"5:nodesle"[..], b"1:zd1:bi1ee", b"3:abcli1ee"] {
                let has = |bytes: &[u8]| bytes.windows(kept.len()).any(|part| part == kept);
                assert_eq!(has(&torrent), has(&after), "{}", kept.escape_ascii());
            }
            let shown = shown(&sandbox, "odd.torrent");
            assert_eq!((&shown["info_hash"], &shown["comment"]), (&json!(before), &json!("words")));
            assert_eq!(shown["creation_date"], 1_795_996_800);
        }
    }
}

#[test]
fn edit_changes_what_its_flags_name() {
    let sandbox = published("-a http://t.example/announce -c old --date @5");
    let before = hash(&sandbox, "tree.torrent");
    let run = sandbox.run("edit tree.torrent -a http://a/x,http://b/x -a udp://c:1 -w http://w/ -c new --date @9").ok();
    assert_eq!(line(run.text(), "info-hash"), Some(before.as_str()));
    assert_eq!(line(run.text(), "comment"), Some("old -> new"));
    assert_eq!(line(run.text(), "trackers"), Some(format!("{TRACKER} -> http://a/x,http://b/x udp://c:1").as_str()));
    let edited = shown(&sandbox, "tree.torrent");
    assert_eq!(edited["trackers"], json!([["http://a/x", "http://b/x"], ["udp://c:1"]]));
    assert_eq!((&edited["web_seeds"], &edited["creation_date"]), (&json!(["http://w/"]), &json!(9)));
    sandbox.run("edit tree.torrent --no-announce --no-web-seed --no-comment --no-date").ok();
    let bare = shown(&sandbox, "tree.torrent");
    assert_eq!((&bare["trackers"], &bare["web_seeds"]), (&json!([]), &json!([])));
    assert!(bare["comment"].is_null() && bare["creation_date"].is_null());
    assert_eq!(bare["info_hash"], json!(before));
    sandbox.run("edit tree.torrent").fails(2, "no change is given");
}

#[test]
fn changes_of_the_info_hash_need_a_flag() {
    let sandbox = published("-a http://t.example/announce");
    let (before, bytes) = (hash(&sandbox, "tree.torrent"), sandbox.read("tree.torrent"));
    for flag in ["-p", "-s SRC"] {
        sandbox.run(&format!("edit tree.torrent {flag}")).fails(2, "--new-hash");
    }
    // Values that the torrent has already change nothing.
    sandbox.run("edit tree.torrent --public --no-source").ok();
    assert_eq!(sandbox.read("tree.torrent"), bytes);
    let run = sandbox.run("edit tree.torrent -p -s SRC --new-hash").ok();
    let after = shown(&sandbox, "tree.torrent");
    assert_eq!((&after["private"], &after["source"]), (&json!(true), &json!("SRC")));
    assert_eq!(line(run.text(), "old hash"), Some(before.as_str()));
    assert_eq!(line(run.text(), "info-hash"), after["info_hash"].as_str());
    sandbox.run("create tree -o same.torrent -p -s SRC -a http://t.example/announce").ok();
    assert_eq!(json!(hash(&sandbox, "same.torrent")), after["info_hash"]);
    let json = sandbox.run("edit tree.torrent --public --no-source --new-hash --json").ok().json();
    assert_eq!((&json[0]["event"], &json[0]["info_hash"]), (&json!("edited"), &json!(before)));
    assert_eq!(json[0]["old_info_hash"], after["info_hash"]);
    assert_eq!(json[0]["changes"][0], json!({"field": "private", "old": "yes", "new": null}));
}

#[test]
fn edit_writes_in_place_elsewhere_or_nowhere() {
    let sandbox = published("-a http://t.example/announce");
    let bytes = sandbox.read("tree.torrent");
    let dry = sandbox.run("edit tree.torrent -c new --dry-run").ok();
    assert_eq!(line(dry.text(), "comment"), Some("none -> new"));
    assert!(dry.stderr.contains("would change tree.torrent"), "{dry:?}");
    sandbox.run("edit tree.torrent -c new -o other.torrent").ok();
    sandbox.run("edit tree.torrent -c newer -o other.torrent").fails(1, "-f");
    sandbox.run("edit tree.torrent -c newer -o other.torrent -f").ok();
    let piped = sandbox.run("edit tree.torrent -c newer -o -").ok();
    assert_eq!(piped.stdout, sandbox.read("other.torrent"));
    assert!(line(&piped.stderr, "info-hash").is_some());
    sandbox.run("edit tree.torrent -c newer -o - --json").fails(2, "--json");
    assert_eq!(sandbox.read("tree.torrent"), bytes);
    let mode = || fs::metadata(sandbox.path("tree.torrent")).unwrap().permissions().mode() & 0o7777;
    fs::set_permissions(sandbox.path("tree.torrent"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("tree.torrent", sandbox.path("link.torrent")).unwrap();
    sandbox.run("edit link.torrent -c linked").ok();
    assert!(sandbox.path("link.torrent").is_symlink());
    assert_eq!((shown(&sandbox, "tree.torrent")["comment"].as_str(), mode()), (Some("linked"), 0o640));
    assert_eq!(sandbox.names(), ["link.torrent", "other.torrent", "tree", "tree.torrent"]);
}

#[test]
fn edit_refuses_files_that_are_no_torrents_at_once() {
    let sandbox = Sandbox::new();
    let fifo = sandbox.path("fifo.torrent");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    sandbox.write("text.torrent", "hello");
    symlink("nowhere", sandbox.path("dead.torrent")).unwrap();
    fs::File::create(sandbox.path("long.torrent")).unwrap().set_len(1 << 40).unwrap();
    for (path, part) in [
        ("fifo.torrent", "FIFO"),
        ("text.torrent", "text.torrent"),
        ("dead.torrent", "broken symbolic link"),
        ("long.torrent", "64 MiB"),
        ("/dev/zero", "device"),
        ("none.torrent", "No such file"),
    ] {
        sandbox.run(&format!("edit {path} -c x")).fails(1, part);
    }
    assert_eq!(sandbox.read("text.torrent"), b"hello");
    let sandbox = published("");
    let full = Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let child = sandbox.command("edit tree.torrent -c x -o -".split(' ')).stdout(full).stderr(Stdio::piped()).spawn();
    Run::from(child.unwrap().wait_with_output().unwrap()).fails(5, "standard output");
}
