//! Malformed and hostile `.torrent` files: `show` and `get` exit with 1 within two seconds and one line that names the
//! cause, and no file appears outside the target folder.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use crate::support::{
    bencode::{Bencoded, dictionary, integer, list, raw, string},
    bt_fast, content,
    process::{Finished, run},
    scratch::Scratch,
};

const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Long enough to measure a run that is too slow.
const TIMEOUT: Duration = Duration::from_secs(20);
const PIECE_LEN: u64 = 32 << 10;

/// A folder for the runs, with files around the target that must stay unchanged.
struct World {
    scratch: Scratch,
}

impl World {
    fn new() -> Self {
        let scratch = Scratch::new();
        for folder in ["home", "target", "torrents", "work"] {
            scratch.folder(folder);
        }
        fs::write(scratch.join("work/precious"), "precious").unwrap();
        Self { scratch }
    }

    fn torrent(&self, bytes: &[u8]) -> PathBuf {
        let path = self.scratch.join("torrents/case.torrent");
        fs::write(&path, bytes).unwrap();
        path
    }

    fn show(&self, torrent: &Path) -> Finished {
        let mut command = bt_fast();
        command.arg("show").arg(torrent).current_dir(self.scratch.join("work")).env("HOME", self.scratch.join("home"));
        run(&command, TIMEOUT)
    }

    fn get(&self, torrent: &Path) -> Finished {
        let mut command = bt_fast();
        command.arg("get").arg(torrent).arg("-o").arg(self.scratch.join("target"));
        command.args(["--timeout", "1", "--listen", "127.0.0.1:0"]);
        command.current_dir(self.scratch.join("work")).env("HOME", self.scratch.join("home"));
        run(&command, TIMEOUT)
    }

    /// Returns the number of distinct paths that `show` lists, and asserts that none is a folder of another.
    fn paths(&self, bytes: &[u8]) -> usize {
        let done = run(bt_fast().args(["show", "--json"]).arg(self.torrent(bytes)), TIMEOUT);
        let shown: Value = serde_json::from_str(done.stdout.trim()).unwrap_or_else(|_| panic!("{done:#?}"));
        let files = shown["files"].as_array().unwrap();
        let paths: BTreeSet<&str> = files.iter().map(|file| file["path"].as_str().unwrap()).collect();
        for path in &paths {
            assert!(!paths.contains(path.rsplit_once('/').unwrap().0), "{path}: {done:#?}");
        }
        paths.len()
    }

    /// Returns everything outside the target.
    fn outside(&self) -> Vec<PathBuf> {
        let mut files = content::files(self.scratch.path());
        files.retain(|path| !path.starts_with("target"));
        files
    }

    /// Asserts that `show` and `get` refuse `torrent` with a line that contains one of `words`.
    #[track_caller]
    fn refuses(&self, case: &str, torrent: &Path, words: &[&str]) {
        let before = self.outside();
        for (command, done) in [("show", self.show(torrent)), ("get", self.get(torrent))] {
            let what = format!("{command}, {case}: {done:#?}");
            assert_eq!(done.code, Some(1), "{what}");
            assert_eq!(done.stderr.lines().count(), 1, "{what}");
            assert_eq!(done.stdout, "", "{what}");
            assert!(done.took < REFUSAL_TIMEOUT, "{what}");
            assert!(!done.stderr.contains("panicked"), "{what}");
            assert!(is_printable(&done.stderr), "{what}");
            let line = done.stderr.to_lowercase();
            assert!(words.iter().any(|word| line.contains(word)), "none of {words:?}: {what}");
        }
        assert_eq!(self.outside(), before, "{case}");
        assert!(content::files(&self.scratch.join("target")).is_empty(), "{case}");
    }

    #[track_caller]
    fn refuses_bytes(&self, case: &str, bytes: &[u8], words: &[&str]) {
        self.refuses(case, &self.torrent(bytes), words);
    }

    /// Asserts that `show` accepts the torrent and prints no control characters.
    #[track_caller]
    fn shows(&self, case: &str, bytes: &[u8]) -> Finished {
        let done = self.show(&self.torrent(bytes));
        assert_eq!(done.code, Some(0), "{case}: {done:#?}");
        assert!(is_printable(&done.stdout) && is_printable(&done.stderr), "{case}: {done:#?}");
        done
    }
}

fn is_printable(text: &str) -> bool {
    !text.chars().any(|character| character.is_control() && character != '\n')
}

fn torrent(info: Bencoded) -> Vec<u8> {
    dictionary([("announce", string("http://127.0.0.1:1/announce")), ("info", info)]).0
}

fn hashes(count: u64) -> Bencoded {
    string(vec![0x5a; usize::try_from(count * 20).unwrap()])
}

/// The info dictionary of one file of one whole and one partial piece. The single-file cases change one of its keys.
fn single_file() -> Vec<(&'static str, Bencoded)> {
    vec![
        ("length", integer(PIECE_LEN + 1)),
        ("name", string("file")),
        ("piece length", integer(PIECE_LEN)),
        ("pieces", hashes(2)),
    ]
}

/// [`single_file`] with `key` changed or removed.
fn single_file_with(key: &'static str, value: Option<Bencoded>) -> Vec<u8> {
    let mut entries = single_file();
    entries.retain(|(existing, _)| *existing != key);
    entries.extend(value.map(|value| (key, value)));
    entries.sort_by_key(|(key, _)| *key);
    torrent(dictionary(entries))
}

/// An info dictionary with these `files`, which fill one piece together.
fn many_files(files: Bencoded) -> Vec<u8> {
    torrent(dictionary([
        ("files", files),
        ("name", string("folder")),
        ("piece length", integer(PIECE_LEN)),
        ("pieces", hashes(1)),
    ]))
}

fn file_entry(path: &[&[u8]]) -> Bencoded {
    dictionary([("length", integer(1)), ("path", list(path.iter().map(string)))])
}

fn with_paths(paths: &[&[&[u8]]]) -> Vec<u8> {
    many_files(list(paths.iter().map(|path| file_entry(path))))
}

fn with_path(path: &[&[u8]]) -> Vec<u8> {
    with_paths(&[&[b"good"], path])
}

#[test]
fn the_unmodified_torrent_is_accepted() {
    let world = World::new();
    world.shows("single file", &torrent(dictionary(single_file())));
    world.shows("files", &with_path(&[b"a", b"b"]));
}

#[test]
fn endless_nesting_is_refused() {
    let world = World::new();
    let words = &["deep", "depth", "nest", "levels"];
    for pattern in ["l", "d1:a"] {
        for len in [20_000, 1_000_000, 60_000_000] {
            let deep = pattern.repeat(len / pattern.len());
            world.refuses_bytes(&format!("{len} bytes of {pattern}"), deep.as_bytes(), words);
        }
        for len in [20_000, 1_000_000] {
            let deep = pattern.repeat(len / pattern.len());
            for key in ["announce", "announce-list", "ignored", "info"] {
                let bytes = format!("d{}:{key}{deep}", key.len());
                world.refuses_bytes(&format!("{len} bytes of {pattern} in {key}"), bytes.as_bytes(), words);
            }
        }
    }
    let closed = format!("d7:ignored{}{}e", "l".repeat(10_000), "e".repeat(10_000));
    world.refuses_bytes("deep and complete", closed.as_bytes(), words);
}

#[test]
fn malformed_integers_are_refused() {
    let world = World::new();
    for text in ["i-0e", "i03e", "i-03e", "i-e", "ie", "i e", "i+1e", "i1.0e", "i1", "i00e", "i1 e", "i0x1e"] {
        let known = single_file_with("length", Some(raw(text)));
        world.refuses_bytes(&format!("length {text}"), &known, &["integer", "number", "length", "byte"]);
        let ignored = single_file_with("zzz", Some(raw(text)));
        world.refuses_bytes(&format!("ignored key {text}"), &ignored, &["integer", "number", "byte", "offset"]);
    }
    for text in ["i9223372036854775808e", "i-9223372036854775809e", "i99999999999999999999999999e"] {
        for key in ["length", "piece length"] {
            let bytes = single_file_with(key, Some(raw(text)));
            world.refuses_bytes(&format!("{key} {text}"), &bytes, &[key]);
        }
        // Integers in unknown keys may have any size.
        world.shows(text, &single_file_with("zzz", Some(raw(text))));
    }
}

#[test]
fn malformed_structure_is_refused() {
    let world = World::new();
    let good = torrent(dictionary(single_file()));
    let words = &["byte", "offset", "end", "trailing"];
    let cases: [(&str, &[u8]); 14] = [
        ("string past the end", b"d8:announce9999:http"),
        ("string length past u64", b"d8:announce99999999999999999999999:http"),
        ("negative string length", b"d8:announce-1:e"),
        ("string without a colon", b"d8:announce4"),
        ("no end of a dictionary", b"d8:announce4:http"),
        ("no end of a list", b"d1:al"),
        ("key without a value", b"d8:announcee"),
        ("key that is an integer", b"di1ei2ee"),
        ("key that is a list", b"dlei2ee"),
        ("end too many", b"dee"),
        ("no bencoding", b"hello, world"),
        ("a web page", b"<!doctype html><html></html>"),
        ("only a colon", b":"),
        ("zeros", &[0; 100]),
    ];
    for (case, bytes) in cases {
        world.refuses_bytes(case, bytes, &["byte", "offset", "end", "bencod", "expected", "dictionary", "web page"]);
    }
    world.refuses_bytes("trailing byte", &[&good[..], b"e"].concat(), words);
    world.refuses_bytes("trailing NUL", &[&good[..], b"\0"].concat(), words);
    world.refuses_bytes("trailing line", &[&good[..], b"\nx"].concat(), words);
    world.shows("trailing line ends", &[&good[..], b"\r\n\n"].concat());
    world.refuses_bytes("two torrents", &[&good[..], &good[..]].concat(), words);
}

#[test]
fn every_prefix_of_a_torrent_is_refused() {
    let world = World::new();
    let good = torrent(dictionary(single_file()));
    for len in 1..good.len() {
        let done = world.show(&world.torrent(&good[..len]));
        assert_eq!((done.code, done.stderr.lines().count()), (Some(1), 1), "{len} bytes: {done:#?}");
    }
}

#[test]
fn unsorted_keys_cause_a_warning_and_are_hashed_as_written() {
    use sha1::{Digest, Sha1};
    let world = World::new();
    let mut unsorted = single_file();
    unsorted.reverse();
    let mut doubled = single_file();
    doubled.push(("pieces", hashes(2)));
    for (case, entries) in [("unsorted", unsorted), ("doubled", doubled)] {
        let info = dictionary(entries);
        let expected = Sha1::digest(&info.0).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let path = world.torrent(&torrent(info));
        let done = run(bt_fast().args(["show", "--json"]).arg(path), TIMEOUT);
        assert_eq!(done.code, Some(0), "{case}: {done:#?}");
        assert!(done.stderr.lines().count() == 1, "{case}: {done:#?}");
        let shown: Value = serde_json::from_str(done.stdout.trim()).unwrap();
        assert_eq!(shown["info_hash"], expected, "{case}");
    }
}

#[test]
fn faulty_top_level_keys_are_refused() {
    let world = World::new();
    for (case, bytes) in [("list", &b"le"[..]), ("integer", b"i1e"), ("string", b"4:info")] {
        world.refuses_bytes(&format!("torrent is a {case}"), bytes, &["dictionary"]);
    }
    world.refuses_bytes("empty dictionary", b"de", &["info"]);
    world.refuses_bytes("no info", b"d8:announce4:httpe", &["info"]);
    for (case, value) in [("integer", integer(1)), ("list", list([])), ("string", string("info"))] {
        world.refuses_bytes(&format!("info is a {case}"), &torrent(value), &["info"]);
    }
    world.refuses_bytes("empty info", &torrent(dictionary([])), &["info", "name", "piece", "length"]);
}

#[test]
fn faulty_single_file_keys_are_refused() {
    let world = World::new();
    let wrong_types = |right: &str| {
        let all =
            [("integer", integer(1)), ("string", string("s")), ("list", list([])), ("dictionary", dictionary([]))];
        all.into_iter().filter(|(kind, _)| *kind != right).collect::<Vec<_>>()
    };
    for (key, right) in [("piece length", "integer"), ("length", "integer"), ("name", "string"), ("pieces", "string")] {
        world.refuses_bytes(&format!("no {key}"), &single_file_with(key, None), &[key]);
        for (kind, value) in wrong_types(right) {
            world.refuses_bytes(&format!("{key} is {kind}"), &single_file_with(key, Some(value)), &[key]);
        }
    }
    for (key, value) in [("piece length", 0), ("piece length", -1), ("length", -1)] {
        let bytes = single_file_with(key, Some(integer(value)));
        world.refuses_bytes(&format!("{key} {value}"), &bytes, &[key]);
    }
    for (case, len) in [("empty", 0), ("one hash short", 20), ("19 bytes", 39), ("21 bytes", 41), ("one too many", 60)]
    {
        let bytes = single_file_with("pieces", Some(string(vec![1; len])));
        world.refuses_bytes(&format!("pieces {case}"), &bytes, &["pieces"]);
    }
    let both = single_file_with("files", Some(list([file_entry(&[b"a"])])));
    world.refuses_bytes("length and files", &both, &["files", "length"]);
}

#[test]
fn faulty_file_entries_are_refused() {
    let world = World::new();
    let path = || list([string("a")]);
    let cases = [
        ("integer", integer(1), "files"),
        ("string", string("a"), "files"),
        ("dictionary", dictionary([]), "files"),
        ("empty", list([]), "files"),
        ("entry is an integer", list([integer(1)]), "files"),
        ("entry is a string", list([string("a")]), "files"),
        ("entry is a list", list([list([])]), "files"),
        ("entry is empty", list([dictionary([])]), "length"),
        ("no length", list([dictionary([("path", path())])]), "length"),
        ("length is a string", list([dictionary([("length", string("1")), ("path", path())])]), "length"),
        ("length is negative", list([dictionary([("length", integer(-1)), ("path", path())])]), "length"),
        ("no path", list([dictionary([("length", integer(1))])]), "path"),
        ("path is a string", list([dictionary([("length", integer(1)), ("path", string("a"))])]), "path"),
        ("path is an integer", list([dictionary([("length", integer(1)), ("path", integer(1))])]), "path"),
        ("path is empty", list([file_entry(&[])]), "path"),
        ("path of integers", list([dictionary([("length", integer(1)), ("path", list([integer(1)]))])]), "path"),
        ("path of lists", list([dictionary([("length", integer(1)), ("path", list([list([])]))])]), "path"),
    ];
    for (case, files, word) in cases {
        world.refuses_bytes(&format!("files: {case}"), &many_files(files), &[word, "files"]);
    }
}

#[test]
fn overflowing_lengths_are_refused() {
    let world = World::new();
    let entry = |length: u64, name: &str| dictionary([("length", integer(length)), ("path", list([string(name)]))]);
    let max = i64::MAX as u64;
    let huge = many_files(list([entry(max, "a"), entry(max, "b"), entry(2 + PIECE_LEN, "c")]));
    world.refuses_bytes("lengths that wrap around", &huge, &["length", "size", "large", "long"]);
    let words = &["length", "size", "large", "long", "pieces"];
    for len in [1_u64 << 62, max, 1 << 48] {
        let bytes = single_file_with("length", Some(integer(len)));
        world.refuses_bytes(&format!("length {len}"), &bytes, words);
    }
    for len in [1_u64 << 31, 1 << 32, (512 << 20) + 1, 1 << 62] {
        let bytes = single_file_with("piece length", Some(integer(len)));
        world.refuses_bytes(&format!("piece length {len}"), &bytes, &["piece length"]);
    }
    // Any positive piece length is accepted.
    let odd = torrent(dictionary([
        ("length", integer(10)),
        ("name", string("file")),
        ("piece length", integer(3)),
        ("pieces", hashes(4)),
    ]));
    world.shows("piece length 3", &odd);
}

#[test]
fn escaping_and_overlong_names_are_refused() {
    let world = World::new();
    for name in [&b".."[..], b"a\0b", b"\0"] {
        let case = format!("{:?}", String::from_utf8_lossy(name));
        let words = &["name", "path"];
        world.refuses_bytes(&format!("name {case}"), &single_file_with("name", Some(string(name))), words);
        world.refuses_bytes(&format!("path {case}"), &with_path(&[name]), words);
        world.refuses_bytes(&format!("path a, {case}"), &with_path(&[b"a", name]), words);
        world.refuses_bytes(&format!("path {case}, a"), &with_path(&[name, b"a"]), words);
    }
    world.refuses_bytes("path a, .., .., b", &with_path(&[b"a", b"..", b"..", b"b"]), &["path"]);
    world.refuses_bytes("path of 5,000 bytes", &with_path(&[&[b'x'; 200][..]; 25]), &["path"]);
    world.refuses_bytes("101 levels", &with_path(&[&b"x"[..]; 102]), &["path", "deep", "depth"]);
}

/// Invalid names are mapped to valid ones, and nothing leaves the target.
#[test]
fn mapped_names_stay_inside_the_target() {
    let world = World::new();
    let outside = world.scratch.join("escaped").into_os_string().into_encoded_bytes();
    let names: [&[u8]; 9] = [b"", b".", b"/", b"/abs", b"../escaped", b"a/b", b"a/../../b", &[b'x'; 300], &outside];
    let paths: Vec<[&[u8]; 2]> = names
        .iter()
        .flat_map(|&name| [[name, b"".as_slice()], [b"a".as_slice(), name], [name, b"a".as_slice()]])
        .collect();
    let paths: Vec<&[&[u8]]> = paths.iter().map(|path| &path[..]).collect();
    let in_names = names.iter().map(|name| single_file_with("name", Some(string(name))));
    for bytes in in_names.chain([with_paths(&paths)]) {
        let case = String::from_utf8_lossy(&bytes);
        world.shows(&case, &bytes);
        let before = world.outside();
        let done = world.get(&world.torrent(&bytes));
        assert!(matches!(done.code, Some(1 | 4)) && !done.stderr.contains("panicked"), "{case}: {done:#?}");
        assert_eq!(world.outside(), before, "{case}");
    }
}

/// Names that are odd but valid on Linux are kept, shown escaped, and stay inside the target.
#[test]
fn odd_names_stay_inside_the_target() {
    let world = World::new();
    let names: [&[u8]; 12] = [
        b"a\\b",
        b"..\\..\\c",
        b"\xff\xfe\x80",
        b"\x1b[31mred\x1b]0;title\x07",
        b"two\nlines\r",
        b"~",
        b"-rf",
        b" ",
        b"...",
        b"C:",
        b"$HOME",
        "\u{202e}gpj.exe".as_bytes(),
    ];
    for name in names {
        let case = String::from_utf8_lossy(name);
        let bytes = with_path(&[name, name]);
        world.shows(&case, &bytes);
        let before = world.outside();
        let done = world.get(&world.torrent(&bytes));
        assert!(matches!(done.code, Some(1 | 4)), "{case}: {done:#?}");
        assert!(is_printable(&done.stderr) && !done.stderr.contains("panicked"), "{case}: {done:#?}");
        assert_eq!(world.outside(), before, "{case}");
    }
}

#[test]
fn colliding_paths_get_distinct_names() {
    let world = World::new();
    let cases: [(&str, &[&[&[u8]]]); 6] = [
        ("same name", &[&[b"a"], &[b"a"]]),
        ("same name, deep", &[&[b"a", b"b", b"c"], &[b"z"], &[b"a", b"b", b"c"]]),
        ("file, then folder", &[&[b"a"], &[b"a", b"b"]]),
        ("folder, then file", &[&[b"a", b"b", b"c"], &[b"x"], &[b"a", b"b"]]),
        ("file amid look-alikes", &[&[b"a", b"b"], &[b"a!"], &[b"a"]]),
        ("equal but for case", &[&[b"a"], &[b"A"], &[b"b", b"c"], &[b"B", b"c"]]),
    ];
    for (case, paths) in cases {
        assert_eq!(world.paths(&with_paths(paths)), paths.len(), "{case}");
    }
    let duplicates = many_files(list((0..501).map(|_| file_entry(&[b"same"]))));
    assert_eq!(world.paths(&duplicates), 501);
}

#[test]
fn more_files_than_the_limit_are_refused() {
    let world = World::new();
    let mut files = b"l".to_vec();
    for number in 0..2_000_001_u32 {
        files.extend(format!("d6:lengthi0e4:pathl6:{number:06x}ee").into_bytes());
    }
    files.push(b'e');
    world.refuses_bytes("2,000,001 files", &many_files(Bencoded(files)), &["files", "values", "tokens"]);
}

#[test]
fn more_pieces_than_the_limit_are_refused() {
    let world = World::new();
    let count = 2_097_153;
    let info = dictionary([
        ("length", integer(count * PIECE_LEN)),
        ("name", string("file")),
        ("piece length", integer(PIECE_LEN)),
        ("pieces", hashes(count)),
    ]);
    world.refuses_bytes("2,097,153 pieces", &torrent(info), &["--max-pieces"]);
}

#[test]
fn entries_that_are_no_regular_files_are_refused() {
    let world = World::new();
    let words = &["torrent", "file", "folder", "directory", "empty"];
    let folder = world.scratch.folder("folder.torrent");
    world.refuses("folder", &folder, words);
    world.refuses("/dev/zero", Path::new("/dev/zero"), words);
    world.refuses("/dev/null", Path::new("/dev/null"), words);
    world.refuses("no such file", &world.scratch.join("none.torrent"), words);
    world.refuses_bytes("empty", b"", words);

    let fifo = world.scratch.join("fifo.torrent");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    world.refuses("FIFO", &fifo, words);

    let large = world.scratch.join("large.torrent");
    File::create(&large).unwrap().set_len(1 << 40).unwrap();
    world.refuses("1 TiB of zeros", &large, words);
}
