use super::*;
use crate::base::limits::{CONTENT_LEN_MAX, METAINFO_WARNINGS_MAX, PATH_LEN_MAX, PIECE_LEN_READ_MAX};
use crate::codec::bencode::{BencodeError, Kind, Value};
use proptest::prelude::*;
use sha1::{Digest, Sha1};

type Entries<'a> = Vec<(&'a str, Value)>;

fn decode(bytes: &[u8]) -> Result<Metainfo, MetainfoError> {
    Metainfo::decode(bytes, &MetainfoLimits::default())
}

/// Returns a metainfo file with this info dictionary. A later entry replaces an earlier one; an empty `Raw` removes it.
fn torrent(base: Entries<'_>, changes: Entries<'_>) -> Vec<u8> {
    let mut entries: std::collections::BTreeMap<&str, Value> = base.into_iter().collect();
    entries.extend(changes);
    entries.retain(|_, value| *value != Value::Raw(Vec::new()));
    Value::dictionary([("info", Value::dictionary(entries))]).encode()
}

/// One file of two pieces.
fn single() -> Entries<'static> {
    vec![("length", 20_000u32.into()), ("name", "a".into()), ("piece length", 16_384u32.into()), ("pieces", pieces(2))]
}

/// Two files in a folder, one piece.
fn multi() -> Entries<'static> {
    let files = vec![file(10, &["x"]), file(20, &["d", "y"])];
    vec![("files", Value::List(files)), ("name", "a".into()), ("piece length", 16_384u32.into()), ("pieces", pieces(1))]
}

fn pieces(count: usize) -> Value {
    Value::Bytes(vec![0xcc; count * 20])
}

fn absent() -> Value {
    Value::Raw(Vec::new())
}

fn raw(text: &str) -> Value {
    Value::Raw(text.as_bytes().to_vec())
}

fn file(len: u64, path: &[&str]) -> Value {
    Value::dictionary([("length", len.into()), ("path", Value::List(path.iter().map(|part| (*part).into()).collect()))])
}

fn files(files: impl IntoIterator<Item = Value>) -> Entries<'static> {
    vec![("files", Value::List(files.into_iter().collect()))]
}

/// Returns field and fault of a refusal, and checks that the offset is inside the file.
fn refusal(bytes: &[u8]) -> (String, Fault) {
    match decode(bytes) {
        Err(MetainfoError::Field { field, offset, fault }) if offset < bytes.len() => (field, fault),
        other => panic!("{}: {other:?}", String::from_utf8_lossy(bytes)),
    }
}

fn check_table(base: fn() -> Entries<'static>, table: Vec<(&'static str, Value, &str, Fault)>) {
    for (key, value, field, fault) in table {
        let bytes = torrent(base(), vec![(key, value)]);
        assert_eq!(refusal(&bytes), (field.to_owned(), fault), "{}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn a_single_file_is_read() {
    let bytes = torrent(single(), vec![("private", 1u32.into()), ("source", "S".into())]);
    let metainfo = decode(&bytes).unwrap();
    let info = &metainfo.info;
    assert_eq!((info.name.as_slice(), info.single_file, info.private), (&b"a"[..], true, true));
    assert_eq!(info.files, [FileEntry { path: vec![b"a".to_vec()], len: 20_000, pad: false, symlink: None }]);
    assert_eq!(*info.pieces, [PieceHash([0xcc; 20]); 2]);
    assert_eq!((info.geometry.piece_len(), info.geometry.total_len()), (16_384, 20_000));
    assert_eq!(info.source.as_deref(), Some(&b"S"[..]));
    assert_eq!(*metainfo.info_bytes, bytes[7..bytes.len() - 1]);
    assert_eq!(metainfo.info_hash.0, *Sha1::digest(&bytes[7..bytes.len() - 1]));
    assert_eq!(metainfo.warnings, [""; 0]);
}

#[test]
fn files_are_in_a_folder_with_the_torrents_name() {
    let pad = Value::dictionary([("attr", "xp".into()), ("length", 3u32.into()), ("path", raw("l4:.pad1:3e"))]);
    let list = [file(10, &["x"]), pad.clone(), file(20, &["d", "y"]), pad, file(0, &["d", "X"])];
    let info = decode(&torrent(multi(), files(list))).unwrap().info;
    let paths: Vec<String> = info.files.iter().map(|file| String::from_utf8(file.path.join(&b'/')).unwrap()).collect();
    assert_eq!(paths, ["a/x", "a/.pad/3", "a/d/y", "a/.pad/3", "a/d/X"]);
    assert_eq!(info.files.iter().map(|file| file.pad).collect::<Vec<_>>(), [false, true, false, true, false]);
    assert_eq!((info.single_file, info.geometry.total_len(), info.geometry.file_count()), (false, 36, 5));
}

#[test]
fn empty_content_has_no_pieces() {
    let info = decode(&torrent(single(), vec![("length", 0u32.into()), ("pieces", pieces(0))])).unwrap().info;
    assert_eq!((info.pieces.len(), info.files.len(), info.geometry.piece_count()), (0, 1, 0));
    let mut changes = files([file(0, &["x"]), file(0, &["y"])]);
    changes.push(("pieces", pieces(0)));
    assert_eq!(decode(&torrent(multi(), changes)).unwrap().info.files.len(), 2);
}

#[test]
fn any_piece_length_up_to_the_limit_is_read() {
    for (piece_len, count) in [(1, 20_000), (3, 6667), (20_000, 1), (PIECE_LEN_READ_MAX, 1)] {
        let changes = vec![("piece length", piece_len.into()), ("pieces", pieces(count))];
        assert_eq!(decode(&torrent(single(), changes)).unwrap().info.pieces.len(), count);
    }
}

#[test]
fn other_files_are_refused() {
    assert_eq!(decode(b""), Err(MetainfoError::Mistaken(Mistaken::Empty)));
    assert_eq!(decode(b"<!doctype html>"), Err(MetainfoError::Mistaken(Mistaken::WebPage)));
    assert_eq!(decode(b"hello"), Err(MetainfoError::Bencode(BencodeError::UnexpectedByte { offset: 0, byte: b'h' })));
    let wrong = |found| Fault::WrongKind { found, expected: Kind::Dictionary };
    assert_eq!(refusal(b"le"), ("metainfo".into(), wrong(Kind::List)));
    assert_eq!(refusal(b"de"), ("info".into(), Fault::Missing));
    assert_eq!(refusal(b"d4:infolee"), ("info".into(), wrong(Kind::List)));
    for place in ["", "d4:info", "d1:x", "d4:infod1:x", "d4:infod5:filesl"] {
        let bytes = [place.as_bytes(), &vec![b'l'; 20_000]].concat();
        assert!(
            matches!(decode(&bytes), Err(MetainfoError::Bencode(BencodeError::TooDeep { max: 32, .. }))),
            "{place}"
        );
    }
}

#[test]
fn each_malformed_info_has_its_own_error() {
    use Fault::*;
    let wrong = |found, expected| WrongKind { found, expected };
    check_table(
        single,
        vec![
            ("name", absent(), "info.name", Missing),
            ("name", 1u32.into(), "info.name", wrong(Kind::Integer, Kind::Bytes)),
            ("name", "..".into(), "info.name", ParentFolder),
            ("name", "a\0".into(), "info.name", Nul),
            ("piece length", absent(), "info.piece length", Missing),
            ("piece length", "16384".into(), "info.piece length", wrong(Kind::Bytes, Kind::Integer)),
            ("piece length", 0u32.into(), "info.piece length", PieceLenNotPositive(0)),
            ("piece length", Value::Integer(-1), "info.piece length", PieceLenNotPositive(-1)),
            ("piece length", (1u64 << 31).into(), "info.piece length", PieceLenTooLong(1 << 31)),
            ("piece length", (1u64 << 32).into(), "info.piece length", PieceLenTooLong(1 << 32)),
            ("piece length", u64::MAX.into(), "info.piece length", IntegerTooLarge),
            ("pieces", absent(), "info.pieces", Missing),
            ("pieces", raw("le"), "info.pieces", wrong(Kind::List, Kind::Bytes)),
            ("pieces", Value::Bytes(vec![0; 41]), "info.pieces", PiecesLen(41)),
            ("pieces", pieces(1), "info.pieces", PieceCount { found: 1, expected: 2 }),
            ("pieces", pieces(3), "info.pieces", PieceCount { found: 3, expected: 2 }),
            ("pieces", pieces(0), "info.pieces", PieceCount { found: 0, expected: 2 }),
            ("length", absent(), "info", NoLengthNorFiles),
            ("length", "20000".into(), "info.length", wrong(Kind::Bytes, Kind::Integer)),
            ("length", Value::Integer(-5), "info.length", NegativeLength(-5)),
            ("length", (1u64 << 62).into(), "info.length", ContentTooLong),
            ("length", (1u64 << 63).into(), "info.length", IntegerTooLarge),
            ("length", (CONTENT_LEN_MAX + 1).into(), "info.length", ContentTooLong),
            (
                "length",
                (2_097_153u64 * 16_384).into(),
                "info.pieces",
                TooManyPieces { count: 2_097_153, max: 2_097_152 },
            ),
            ("files", Value::List(vec![file(1, &["x"])]), "info", LengthAndFiles),
            ("files", 1u32.into(), "info.files", wrong(Kind::Integer, Kind::List)),
        ],
    );
}

#[test]
fn each_malformed_file_has_its_own_error() {
    use Fault::*;
    let wrong = |found, expected| WrongKind { found, expected };
    let one = |file: Value| Value::List(vec![file]);
    let with_path = |path: &[&str]| one(file(1, path));
    let long_path = "x".repeat(250);
    let levels = vec!["d"; 101];
    let second = |text: &str| Value::List(vec![file(1, &["x"]), raw(text)]);
    check_table(
        multi,
        vec![
            ("files", Value::List(vec![]), "info.files", NoFiles),
            ("files", one("x".into()), "info.files[0]", wrong(Kind::Bytes, Kind::Dictionary)),
            ("files", second("d4:pathl1:yee"), "info.files[1].length", Missing),
            ("files", second("d6:length1:14:pathl1:yee"), "info.files[1].length", wrong(Kind::Bytes, Kind::Integer)),
            ("files", second("d6:lengthi-1e4:pathl1:yee"), "info.files[1].length", NegativeLength(-1)),
            ("files", second("d6:lengthi9223372036854775808e4:pathl1:yee"), "info.files[1].length", IntegerTooLarge),
            ("files", second("d6:lengthi9223372036854775807e4:pathl1:yee"), "info.files[1].length", ContentTooLong),
            ("files", second("d6:lengthi281474976710655e4:pathl1:yee"), "info.files[1].length", ContentTooLong),
            ("files", second("d6:lengthi1ee"), "info.files[1].path", Missing),
            ("files", second("d6:lengthi1e4:path1:ye"), "info.files[1].path", wrong(Kind::Bytes, Kind::List)),
            ("files", second("d6:lengthi1e4:pathlee"), "info.files[1].path", EmptyPath),
            (
                "files",
                second("d6:lengthi1e4:pathl1:yi1eee"),
                "info.files[1].path[1]",
                wrong(Kind::Integer, Kind::Bytes),
            ),
            ("files", with_path(&["d", ".."]), "info.files[0].path[1]", ParentFolder),
            ("files", with_path(&["a\0b"]), "info.files[0].path[0]", Nul),
            ("files", with_path(&[long_path.as_str(); 20]), "info.files[0].path", PathTooLong(1 + 20 * 251)),
            ("files", with_path(&levels), "info.files[0].path", PathTooDeep(101)),
        ],
    );
    for path in [vec!["d"; 100], vec!["a\\b"], vec!["...", "C:"], vec![&"x".repeat(255)]] {
        assert!(decode(&torrent(multi(), files([file(1, &path)]))).is_ok());
    }
    const { assert!(PATH_LEN_MAX < 1 + 20 * 251) };
}

#[test]
fn errors_name_the_place_and_the_fault() {
    let message = |key, value| decode(&torrent(single(), vec![(key, value)])).unwrap_err().to_string();
    assert_eq!(
        message("pieces", Value::Bytes(vec![0; 41])),
        "info.pieces: length 41 is not a multiple of 20 (at byte 62)"
    );
    assert_eq!(
        message("length", (2_097_153u64 * 16_384).into()),
        "info.pieces: 2097153 pieces, the limit is 2097152; raise it with --max-pieces (at byte 68)"
    );
    let bytes = torrent(multi(), files([file(1, &["d", ".."])]));
    let error = decode(&bytes).unwrap_err();
    assert_eq!(error.to_string(), "info.files[0].path[1]: '..' is not allowed (at byte 38)");
    assert!(bytes[38..].starts_with(b"2:.."));
    assert_eq!(
        decode(b"d4:infoi-0ee").unwrap_err().to_string(),
        "not a torrent file: the integer at byte 7 is minus zero"
    );
}

#[test]
fn limits_can_be_raised_and_lowered() {
    let many = torrent(single(), vec![("piece length", 1u32.into()), ("pieces", pieces(20_000))]);
    let refuse = |limits: MetainfoLimits| Metainfo::decode(&many, &limits).unwrap_err();
    let pieces = refuse(MetainfoLimits { piece_count_max: 19_999, ..Default::default() });
    assert!(pieces.to_string().contains("--max-pieces"));
    let tokens = refuse(MetainfoLimits { tokens_max: 3, ..Default::default() });
    assert!(matches!(tokens, MetainfoError::Bencode(BencodeError::TooManyTokens { max: 3, .. })));
    let limits = MetainfoLimits { file_count_max: 1, ..Default::default() };
    let error = Metainfo::decode(&torrent(multi(), vec![]), &limits).unwrap_err();
    assert!(matches!(error, MetainfoError::Field { fault: Fault::TooManyFiles { count: 2, max: 1 }, .. }));
}

#[test]
fn v2_only_is_refused_and_hybrids_are_read() {
    let v2 = |entry: (&'static str, Value)| torrent(single(), vec![("pieces", absent()), ("length", absent()), entry]);
    assert_eq!(refusal(&v2(("meta version", 2u32.into()))), ("info".into(), Fault::V2Only));
    assert_eq!(refusal(&v2(("file tree", raw("de")))), ("info".into(), Fault::V2Only));
    let hybrid = torrent(single(), vec![("meta version", 2u32.into()), ("file tree", raw("de"))]);
    assert_eq!(decode(&hybrid).unwrap().info.geometry.total_len(), 20_000);
}

/// A valid metainfo file with these top-level keys before and after `info`, as raw text.
fn with_keys(before: &str, after: &str) -> Metainfo {
    let info = Value::dictionary(single()).encode();
    decode(&[b"d", before.as_bytes(), b"4:info", &info, after.as_bytes(), b"e"].concat()).unwrap()
}

#[test]
fn trackers_come_from_the_list_or_else_from_announce() {
    assert_eq!(with_keys("8:announce8:http://x", "").tiers, [["http://x"]]);
    assert_eq!(with_keys("8:announce0:", "").tiers, [[""; 0]; 0]);
    let list = "8:announce8:http://x13:announce-listll8:http://a7:udp://bel9:https://cee";
    assert_eq!(with_keys(list, "").tiers, [vec!["http://a", "udp://b"], vec!["https://c"]]);
    // A list without a usable URL does not hide `announce`.
    for list in ["le", "llee", "lleli1eee", "i1e"] {
        assert_eq!(with_keys(&format!("8:announce8:http://x13:announce-list{list}"), "").tiers, [["http://x"]]);
    }
    let repeated = with_keys("13:announce-listll8:http://a8:http://ael8:http://aee", "");
    assert_eq!((repeated.tiers, repeated.warnings), (vec![vec!["http://a".to_owned()]], vec![]));
}

#[test]
fn unusable_urls_are_ignored_with_a_warning() {
    for url in ["wss://x", "ftp://x", "http://", "udp://", "x", "http://a b", "http://a\x1b[m", "http://a\r\nb"] {
        let metainfo = with_keys(&format!("8:announce{}:{url}", url.len()), "");
        assert_eq!((metainfo.tiers.len(), metainfo.warnings.len()), (0, 1), "{url:?}");
        assert!(metainfo.warnings[0].starts_with("announce: '") && !metainfo.warnings[0].contains('\x1b'), "{url:?}");
    }
    assert_eq!(with_keys("8:announce9:HTTP://x\n", "").tiers, [["HTTP://x"]]);
    assert_eq!(with_keys("8:announce12:http://x/ ä", "").tiers, [["http://x/%20%C3%A4"]]);
    let urls: String = (0..300).map(|i| format!("11:http://t{i:03}")).collect();
    let many = with_keys(&format!("13:announce-listll{urls}3:bad{}ee", "1:x".repeat(100)), "");
    assert_eq!((many.tiers[0].len(), many.warnings.len()), (limits::TRACKER_COUNT_MAX, METAINFO_WARNINGS_MAX));
}

#[test]
fn web_seeds_are_a_string_or_a_list() {
    assert_eq!(with_keys("", "8:url-list8:http://x").web_seeds, ["http://x"]);
    assert_eq!(with_keys("", "8:url-listl8:http://x9:https://y7:udp://ze").web_seeds, ["http://x", "https://y"]);
    assert_eq!(with_keys("", "8:url-list0:").web_seeds, [""; 0]);
    assert_eq!(with_keys("", "8:url-list0:").warnings, [""; 0]);
}

#[test]
fn only_private_1_is_private() {
    for (value, private) in [("i1e", true), ("i0e", false), ("i2e", false), ("1:1", false), ("le", false)] {
        assert_eq!(decode(&torrent(single(), vec![("private", raw(value))])).unwrap().info.private, private);
    }
}

#[test]
fn disorder_is_reported_and_the_hash_is_of_the_raw_bytes() {
    let info = b"d4:name1:a6:lengthi0e12:piece lengthi1e6:pieces0:1:xi12345678901234567890123ee";
    let metainfo = decode(&[b"d4:info", info.as_slice(), b"e"].concat()).unwrap();
    assert_eq!(metainfo.info_hash.0, *Sha1::digest(info));
    assert_eq!(metainfo.warnings, ["dictionary keys are unsorted or repeated, the first at byte 17"]);
}

#[test]
fn unknown_keys_are_written_back() {
    let before = "8:announce8:http://x5:nodesl2:abe";
    let after = "12:piece layersd1:a1:be8:url-list8:http://w";
    let metainfo =
        with_keys(&format!("{before}7:comment2:hi10:created by2:me13:creation datei7e8:encoding5:UTF-8"), after);
    assert_eq!(metainfo.unknown_keys.len(), 3);
    assert_eq!(metainfo.unknown_keys[2], (b"piece layers".to_vec(), b"d1:a1:be".to_vec()));
    let written = metainfo.encode();
    let again = decode(&written).unwrap();
    // `nodes` and `encoding` are written in sorted order.
    assert_eq!((again.info_hash, again.info_bytes.clone()), (metainfo.info_hash, metainfo.info_bytes.clone()));
    assert_eq!((again.comment.as_deref(), again.created_by.as_deref()), (Some("hi"), Some("me")));
    assert_eq!((again.creation_date, again.warnings.len()), (Some(7), 0));
    assert_eq!(again.encode(), written);
    let twins = with_keys("3:keyi1e3:keyi2e", "");
    assert_eq!(twins.unknown_keys, [(b"key".to_vec(), b"i1e".to_vec())]);
}

#[test]
fn a_million_files_are_read_in_linear_time() {
    let count = 1_000_000u32;
    // The stride is coprime to the count, so the names are unsorted.
    let entries = (0..count).map(|i| {
        let name = u64::from(i) * 7919 % u64::from(count);
        FileEntry {
            path: vec![format!("d{}", name % 1000).into(), format!("f{name}").into()],
            len: 1,
            pad: false,
            symlink: None,
        }
    });
    let mut draft = draft(DraftFiles::Many(entries.collect()), 1 << 20, 1);
    let metainfo = decode(&draft.encode()).unwrap();
    assert_eq!((metainfo.info.files.len(), metainfo.info.geometry.total_len()), (1_000_000, 1_000_000));
    let DraftFiles::Many(files) = &mut draft.files else { unreachable!() };
    files[999_999].path = files[0].path.clone();
    let last = decode(&draft.encode()).unwrap().info.files.pop().unwrap();
    assert_eq!(last.path[1..], [b"d0".to_vec(), b"f0.1".to_vec()]);
}

fn draft(files: DraftFiles, piece_len: u32, piece_count: usize) -> Draft {
    Draft::new(b"a".to_vec(), piece_len, files, vec![PieceHash([7; 20]); piece_count])
}

#[test]
fn a_draft_has_sorted_keys_and_only_the_given_ones() {
    let smallest = draft(DraftFiles::Single(0), 16_384, 0);
    let info = "d6:lengthi0e4:name1:a12:piece lengthi16384e6:pieces0:e";
    assert_eq!(smallest.encode(), format!("d4:info{info}e").into_bytes());
    let urls = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
    let with = |attributes| Draft { attributes, ..smallest.clone() };
    let one = Attributes { tiers: vec![urls(&["http://x"])], web_seeds: urls(&["http://w"]), ..Default::default() };
    let expected = format!("d8:announce8:http://x4:info{info}8:url-list8:http://we");
    assert_eq!(with(one).encode(), expected.into_bytes());
    let two = Attributes { tiers: vec![urls(&["http://x"]), urls(&["http://y"])], ..Default::default() };
    let expected = format!("d8:announce8:http://x13:announce-listll8:http://xel8:http://yee4:info{info}e");
    assert_eq!(with(two).encode(), expected.into_bytes());
}

prop_compose! {
    fn any_draft()(
        name in "[a-zä]{1,9}",
        piece_len in 1u32..100,
        lens in prop::collection::vec(0u64..200, 1..9),
        pads in any::<u8>(),
        single in any::<bool>(),
        private in any::<bool>(),
        source in prop::option::of("[a-z]{0,9}"),
        comment in prop::option::of(".{0,9}"),
        created_by in prop::option::of(".{0,9}"),
        creation_date in prop::option::of(any::<i64>()),
        tiers in prop::collection::vec(1usize..4, 0..4),
        web_seed_count in 0usize..3,
    ) -> Draft {
        let total_len: u64 = if single { lens[0] } else { lens.iter().sum() };
        let piece_count = usize::try_from(total_len.div_ceil(piece_len.into())).unwrap();
        let files = if single {
            DraftFiles::Single(total_len)
        } else {
            DraftFiles::Many(lens.iter().enumerate().map(|(i, &len)| FileEntry {
                path: vec![format!("d{}", i % 2).into(), format!("f{i}").into()],
                len,
                pad: pads >> (i % 8) & 1 == 1, symlink: None,
            }).collect())
        };
        let tiers = tiers.iter().enumerate()
            .map(|(tier, &count)| (0..count).map(|i| format!("http://t{tier}.example/{i}")).collect()).collect();
        let web_seeds = (0..web_seed_count).map(|i| format!("https://w/{i}")).collect();
        let base = draft(files, piece_len, piece_count);
        let attributes = Attributes { private, source, comment, created_by, creation_date, tiers, web_seeds };
        Draft { name: name.into_bytes(), attributes, ..base }
    }
}

proptest! {
    #[test]
    fn a_written_draft_is_read_back(draft in any_draft()) {
        let bytes = draft.encode();
        let read = decode(&bytes).unwrap();
        let Attributes { private, source, tiers, web_seeds, comment, created_by, creation_date } = &draft.attributes;
        prop_assert_eq!(&read.info.name, &draft.name);
        prop_assert_eq!(read.info.geometry.piece_len(), draft.piece_len);
        prop_assert_eq!(&*read.info.pieces, &draft.pieces[..]);
        prop_assert_eq!(read.info.private, *private);
        prop_assert_eq!(&read.info.source, &source.as_ref().map(|source| source.clone().into_bytes()));
        let files: Vec<FileEntry> = match &draft.files {
            DraftFiles::Single(len) => vec![FileEntry { path: vec![], len: *len, pad: false, symlink: None }],
            DraftFiles::Many(files) => files.clone(),
        };
        let named = files.into_iter()
            .map(|file| FileEntry { path: [vec![draft.name.clone()], file.path].concat(), ..file });
        prop_assert_eq!(&read.info.files, &named.collect::<Vec<_>>());
        prop_assert_eq!(&read.tiers, tiers);
        prop_assert_eq!(&read.web_seeds, web_seeds);
        prop_assert_eq!(&read.comment, comment);
        prop_assert_eq!(&read.created_by, created_by);
        prop_assert_eq!(read.creation_date, *creation_date);
        prop_assert!(read.warnings.is_empty() && read.unknown_keys.is_empty());
        prop_assert_eq!(read.encode(), bytes);
    }

    #[test]
    fn damaged_files_are_refused_or_consistent(
        draft in any_draft(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut bytes = draft.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(metainfo) = decode(&bytes) {
            prop_assert_eq!(metainfo.info.pieces.len(), metainfo.info.geometry.piece_count() as usize);
            prop_assert_eq!(metainfo.info.files.len(), metainfo.info.geometry.file_count());
        }
        let _ = decode(&bytes[..at]);
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes).is_err());
    }
}
