//! Files that break a rule harmlessly and are read all the same (`docs/leniency.md`).

use super::*;
use crate::codec::bencode::Value;

const NAME: &str = "a";

fn decode(bytes: &[u8]) -> Metainfo {
    Metainfo::decode(bytes, &MetainfoLimits::default()).unwrap()
}

fn torrent(name: &[u8], more: Vec<(&'static str, Value)>) -> Vec<u8> {
    let mut entries = vec![("name", name.into()), ("piece length", 16_384u32.into())];
    entries.extend(more);
    Value::dictionary([("info", Value::dictionary(entries))]).encode()
}

fn single(name: &[u8], more: Vec<(&'static str, Value)>) -> Metainfo {
    let content = [("length", 1u32.into()), ("pieces", Value::Bytes(vec![0; 20]))];
    decode(&torrent(name, content.into_iter().chain(more).collect()))
}

/// A torrent of several files that together have at most one piece.
fn many(files: Vec<Value>, more: Vec<(&'static str, Value)>) -> Metainfo {
    let content = [("files", Value::List(files)), ("pieces", Value::Bytes(vec![0; 20]))];
    decode(&torrent(NAME.as_bytes(), content.into_iter().chain(more).collect()))
}

fn path(elements: &[&[u8]]) -> Value {
    Value::List(elements.iter().map(|element| (*element).into()).collect())
}

fn file(elements: &[&[u8]], more: Vec<(&'static str, Value)>) -> Value {
    Value::dictionary([("length", 1u32.into()), ("path", path(elements))].into_iter().chain(more))
}

fn paths(metainfo: &Metainfo) -> Vec<String> {
    metainfo.info.files.iter().map(|file| String::from_utf8_lossy(&file.path.join(&b'/')).into_owned()).collect()
}

#[test]
fn names_are_mapped_to_safe_ones_with_a_warning() {
    for (name, mapped) in [
        (&b"R1/beta6"[..], "R1_beta6".to_owned()),
        (b"/etc/passwd", "_etc_passwd".to_owned()),
        (&[b'x'; 300], "x".repeat(240)),
    ] {
        let metainfo = single(name, vec![]);
        assert_eq!(
            (String::from_utf8_lossy(&metainfo.info.name), metainfo.warnings.len()),
            (mapped.as_str().into(), 1)
        );
        assert_eq!(paths(&metainfo), [mapped]);
    }
    for nameless in [&b""[..], b"."] {
        let metainfo = single(nameless, vec![]);
        assert_eq!(metainfo.info.name, metainfo.info_hash.to_string().into_bytes());
    }
    let elements: [&[&[u8]]; 6] = [&[b"", b"b"], &[b"c", b".", b"d"], &[b"", b"."], &[b"e/../f"], &[b"g", b""], &[b""]];
    let metainfo = many(elements.iter().map(|elements| file(elements, vec![])).collect(), vec![]);
    assert_eq!(paths(&metainfo), ["a/b", "a/c/d", "a/_", "a/e_.._f", "a/g", "a/_.1"]);
    assert_eq!(metainfo.warnings.len(), 8, "{:#?}", metainfo.warnings);
}

#[test]
fn colliding_files_are_renamed() {
    let elements: [&[&[u8]]; 5] = [&[b"x.bin"], &[b"d"], &[b"d", b"y"], &[b"x.bin"], &[b"X.bin"]];
    let metainfo = many(elements.iter().map(|elements| file(elements, vec![])).collect(), vec![]);
    assert_eq!(paths(&metainfo), ["a/x.bin", "a/d.1", "a/d/y", "a/x.1.bin", "a/X.bin"]);
    assert_eq!(metainfo.warnings.len(), 2, "{:#?}", metainfo.warnings);
    assert!(metainfo.warnings[0].contains("'a/d.1' is used"));
}

#[test]
fn names_in_utf_8_are_preferred() {
    let entry = |utf8: Value| file(&[b"\xd3.avi"], vec![("path.utf-8", utf8)]);
    let good = entry(path(&["\u{43b}.avi".as_bytes()]));
    let bad = [path(&[b"\xff"]), path(&[]), path(&[b""]), Value::from("x")].map(entry);
    let files = std::iter::once(good).chain(bad).collect();
    let metainfo = many(files, vec![("name.utf-8", "\u{442}".into())]);
    let found: Vec<&[u8]> = metainfo.info.files.iter().map(|file| &file.path[1][..]).collect();
    let expected: [&[u8]; 5] = ["\u{43b}.avi".as_bytes(), b"\xd3.avi", b"\xd3.1.avi", b"\xd3.2.avi", b"\xd3.3.avi"];
    assert_eq!(found, expected);
    assert_eq!(metainfo.info.name, "\u{442}".as_bytes());
    assert_eq!(single(b"n", vec![("name.utf-8", Value::Bytes(vec![0xff]))]).info.name, b"n");
    let lone = Value::dictionary([("length", 1u32.into()), ("path.utf-8", path(&[b"z"]))]);
    assert_eq!(paths(&many(vec![lone], vec![])), ["a/z"]);
}

#[test]
fn names_in_utf_8_are_checked_too() {
    let refused = |bytes: &[u8]| Metainfo::decode(bytes, &MetainfoLimits::default()).unwrap_err().to_string();
    let content = || vec![("length", 1u32.into()), ("pieces", Value::Bytes(vec![0; 20]))];
    let named = [content(), vec![("name.utf-8", "..".into())]].concat();
    assert!(refused(&torrent(b"n", named)).starts_with("info.name.utf-8: '..'"));
    let entry = file(&[b"x"], vec![("path.utf-8", path(&[b"d", b".."]))]);
    let listed = vec![("files", Value::List(vec![entry])), ("pieces", Value::Bytes(vec![0; 20]))];
    assert!(refused(&torrent(b"n", listed)).contains("path[1]: '..'"));
}

#[test]
fn only_blanks_after_the_end_are_ignored() {
    let bytes = torrent(b"n", vec![("length", 1u32.into()), ("pieces", Value::Bytes(vec![0; 20]))]);
    let metainfo = decode(&[&bytes[..], b" \r\n\n"].concat());
    assert_eq!((metainfo.warnings.len(), metainfo.info_hash), (1, decode(&bytes).info_hash));
    for tail in [&b"x"[..], b"\0", b"\ne", b"<html>"] {
        assert!(Metainfo::decode(&[&bytes[..], tail].concat(), &MetainfoLimits::default()).is_err());
    }
}

#[test]
fn padding_needs_no_path_and_links_have_no_content() {
    let padding = Value::dictionary([("attr", "p".into()), ("length", 5u32.into())]);
    let link = |more: Vec<(&'static str, Value)>| {
        let entries = [("attr", "l".into()), ("path", path(&[b"l"])), ("symlink path", path(&[b"d", b"x"]))];
        Value::dictionary(entries.into_iter().chain(more))
    };
    let files = vec![file(&[b"x"], vec![]), padding, link(vec![]), link(vec![("length", 9u32.into())])];
    let metainfo = many(files, vec![]);
    assert_eq!(paths(&metainfo), ["a/x", "a/.pad/5", "a/l", "a/l.1"]);
    let files = &metainfo.info.files;
    assert_eq!(files.iter().map(|file| file.len).collect::<Vec<_>>(), [1, 5, 0, 0]);
    assert_eq!(files.iter().map(|file| file.pad).collect::<Vec<_>>(), [false, true, true, true]);
    assert_eq!(files.iter().map(FileEntry::is_padding).collect::<Vec<_>>(), [false, true, false, false]);
    assert_eq!(files[2].symlink.as_deref(), Some(&b"d/x"[..]));
    assert!(metainfo.warnings.iter().any(|warning| warning.contains("'d/x'")), "{:?}", metainfo.warnings);
}
