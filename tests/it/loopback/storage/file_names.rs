//! Names that no file can have: `seed`, `get` and `verify` map them identically.

use std::{fs, path::PathBuf};

use bt_fast::codec::metainfo::{Metainfo, MetainfoLimits};
use serde_json::Value;
use sha1::{Digest as _, Sha1};

use crate::loopback::{DEADLINE, Fixture, NAME, PIECE_LEN};
use crate::support::{
    bencode::{Bencoded, dictionary, integer, list, string},
    bt_fast,
    content::write_random,
    process::run,
    scratch::Scratch,
};

const LEN: u64 = 20_000;

test_on_both_drivers!(every_command_maps_names_identically,);

fn entry(path: &[&str], more: &[(&'static str, Bencoded)]) -> Bencoded {
    let path = list(path.iter().map(string));
    let mut entries = vec![("length", integer(LEN)), ("path", path)];
    entries.extend(more.iter().cloned());
    entries.sort_by_key(|(key, _)| *key);
    dictionary(entries)
}

/// Creates content under mapped names, as other clients choose them, and a torrent with the original names.
fn fixture() -> Fixture {
    let scratch = Scratch::new();
    let source = scratch.folder("source");
    let short = format!("{}.bin", "x".repeat(240));
    let files = ["R1_beta6", "same.bin", "same.1.bin", "d/f", "d.1", "\u{43b}.avi", &short];
    for (index, file) in files.iter().enumerate() {
        let path = source.join(NAME).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_random(&path, LEN, index as u64);
    }
    let bytes: Vec<u8> = files.iter().flat_map(|file| fs::read(source.join(NAME).join(file)).unwrap()).collect();
    let hashes: Vec<u8> = bytes.chunks(PIECE_LEN as usize).flat_map(|piece| Sha1::digest(piece).to_vec()).collect();
    let long = format!("{}.bin", "x".repeat(300));
    let link =
        dictionary([("attr", string("l")), ("path", list([string("link")])), ("symlink path", list([string("d.1")]))]);
    let listed = [
        entry(&["R1/beta6"], &[]),
        entry(&["", "same.bin"], &[]),
        link,
        entry(&[".", "same.bin"], &[]),
        entry(&["d", "f"], &[]),
        entry(&["d"], &[]),
        entry(&["?.avi"], &[("path.utf-8", list([string("\u{43b}.avi")]))]),
        entry(&[&long], &[]),
    ];
    let info = dictionary([
        ("files", list(listed)),
        ("name", string("in another encoding")),
        ("name.utf-8", string(NAME)),
        ("piece length", integer(PIECE_LEN)),
        ("pieces", string(hashes)),
    ]);
    let torrent = scratch.join("a.torrent");
    fs::write(&torrent, [&dictionary([("info", info)]).0[..], b"\r\n"].concat()).unwrap();
    let metainfo = Metainfo::decode(&fs::read(&torrent).unwrap(), &MetainfoLimits::default()).unwrap();
    Fixture { scratch, source, torrent, metainfo }
}

fn every_command_maps_names_identically() {
    let fixture = fixture();
    run(bt_fast().arg("verify").arg(&fixture.torrent).arg(&fixture.source), DEADLINE).success();
    let seed = fixture.seed();
    let target = fixture.scratch.folder("target");
    fixture.get(&target, &[seed.address]);
    run(bt_fast().arg("verify").arg(&fixture.torrent).arg(&target), DEADLINE).success();
    // Symbolic links of the torrent are not created.
    assert!(fs::symlink_metadata(target.join(NAME).join("link")).is_err());
}

#[test]
fn show_marks_padding_and_links() {
    let fixture = fixture();
    let done = run(bt_fast().args(["show", "--json"]).arg(&fixture.torrent), DEADLINE);
    let shown: Value = serde_json::from_str(done.stdout.trim()).unwrap();
    assert_eq!(shown["files"][2]["symlink"], "d.1");
    assert_eq!(shown["files"][2]["number"], Value::Null);
    assert_eq!(shown["files"][3]["number"], 3);
    let done = run(bt_fast().arg("show").arg(&fixture.torrent), DEADLINE);
    let expected = PathBuf::from(NAME).join("link");
    let line = done.stdout.lines().find(|line| line.contains(" -> d.1")).unwrap_or_else(|| panic!("{done:#?}"));
    assert!(line.trim_start().starts_with("link") && line.contains(expected.to_str().unwrap()), "{line}");
}
