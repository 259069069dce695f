use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn insert_all(paths: &[&str]) -> bool {
    let mut tree = PathTree::with_capacity(0);
    paths.iter().all(|path| tree.insert(path.split('/').map(|element| Cow::Borrowed(element.as_bytes()))))
}

fn files(paths: &[&str]) -> Vec<FileEntry> {
    let path = |path: &&str| path.split('/').map(|element| element.as_bytes().to_vec()).collect();
    paths.iter().map(|text| FileEntry { path: path(text), len: 1, pad: false, symlink: None }).collect()
}

fn separated(paths: &[&str]) -> Vec<String> {
    let mut files = files(paths);
    let renamed = separate(&mut files);
    let names: Vec<String> = files.iter().map(|file| String::from_utf8(file.path.join(&b'/')).unwrap()).collect();
    let changed: Vec<usize> = (0..paths.len()).filter(|&index| names[index] != paths[index]).collect();
    assert_eq!(renamed, changed);
    names
}

#[test]
fn colliding_paths_are_refused() {
    assert!(insert_all(&["a", "b/a", "b/c/a", "b/c/b", "A"]));
    for colliding in [&["b/a", "x", "b/a"][..], &["a/b/c", "a/b"], &["a/b", "a/b/c"], &["a", "a/b/c"]] {
        assert!(!insert_all(colliding), "{colliding:?}");
    }
}

#[test]
fn names_that_linux_accepts_are_unchanged() {
    for name in [b"a".as_slice(), b"...", b"..a", b"a\\b", b"\xff\xfe", b" ", b"~", &[b'x'; 255]] {
        assert!(matches!(file_name(name), Ok(Some(Cow::Borrowed(kept))) if kept == name), "{name:?}");
    }
    for (name, mapped) in [
        (&b"/abs"[..], &b"_abs"[..]),
        (b"a/../../b", b"a_.._.._b"),
        (b"../", b".._"),
        (b"R1/beta6 (x86_64)", b"R1_beta6 (x86_64)"),
    ] {
        assert_eq!(file_name(name).unwrap().unwrap(), mapped);
    }
    assert_eq!((file_name(b""), file_name(b".")), (Ok(None), Ok(None)));
    assert_eq!((file_name(b".."), file_name(b"a\0")), (Err(Fault::ParentFolder), Err(Fault::Nul)));
}

#[test]
fn long_names_are_cut_and_keep_a_short_extension() {
    let cut = |name: String| String::from_utf8(file_name(name.as_bytes()).unwrap().unwrap().into_owned()).unwrap();
    assert_eq!(cut("x".repeat(300)), "x".repeat(240));
    assert_eq!(cut(format!("{}.tar.gz", "x".repeat(300))), format!("{}.gz", "x".repeat(240)));
    assert_eq!(cut(format!("{}.far too long", "x".repeat(300))), "x".repeat(240));
    assert_eq!(cut("\u{e9}".repeat(200)), "\u{e9}".repeat(120));
    assert_eq!(cut(format!("x{}.txt", "\u{e9}".repeat(200))), format!("x{}.txt", "\u{e9}".repeat(120)));
    assert_eq!(cut("x/".repeat(200)), "x_".repeat(120));
}

#[test]
fn colliding_files_are_numbered_and_folders_keep_their_names() {
    assert_eq!(separated(&["t/a.txt", "t/a.txt", "t/a.txt"]), ["t/a.txt", "t/a.1.txt", "t/a.2.txt"]);
    assert_eq!(separated(&["t/a.txt", "t/a.1.txt", "t/a.txt"]), ["t/a.txt", "t/a.1.txt", "t/a.2.txt"]);
    assert_eq!(separated(&["t/a", "t/a/b", "t/a/b/c"]), ["t/a.1", "t/a/b.1", "t/a/b/c"]);
    assert_eq!(separated(&["t/a/b", "t/a"]), ["t/a/b", "t/a.1"]);
    assert_eq!(separated(&["t/.x", "t/.x", "u/.x"]), ["t/.x", "t/.1.x", "u/.x"]);
    let long = format!("t/{}.txt", "x".repeat(251));
    assert_eq!(separated(&[&long, &long])[1], format!("t/{}.1.txt", "x".repeat(243)));
}

#[test]
fn many_colliding_files_are_renamed_in_linear_time() {
    let names: Vec<String> = (0..50_000).map(|index| format!("t/{}{index:05}", "x".repeat(250))).collect();
    let mut paths: Vec<&str> = names.iter().map(String::as_str).collect();
    paths.extend(names.iter().map(String::as_str));
    paths.extend(std::iter::repeat_n("t/a", 50_000));
    let names: BTreeSet<String> = separated(&paths).into_iter().collect();
    assert_eq!(names.len(), paths.len());
}

proptest! {
    #[test]
    fn the_tree_agrees_with_comparing_every_pair(
        paths in prop::collection::vec(prop::collection::vec("[ab]", 1..4), 1..6)
    ) {
        let meets = |a: &Vec<String>, b: &Vec<String>| a.starts_with(b) || b.starts_with(a);
        let clash = (0..paths.len()).any(|i| (0..i).any(|j| meets(&paths[i], &paths[j])));
        let paths: Vec<String> = paths.iter().map(|path| path.join("/")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        prop_assert_eq!(insert_all(&paths), !clash);
        let separated = separated(&paths);
        let separated: Vec<&str> = separated.iter().map(String::as_str).collect();
        prop_assert!(insert_all(&separated), "{separated:?}");
        prop_assert!(clash || separated == paths);
    }

    #[test]
    fn every_mapped_name_is_one_safe_name(name in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(Some(name)) = file_name(&name) {
            prop_assert!((1..=255).contains(&name.len()) && !name.contains(&b'/') && !name.contains(&0));
            prop_assert!(*name != b"."[..] && *name != b".."[..]);
            prop_assert_eq!(file_name(&name).unwrap().unwrap(), name.as_ref());
        }
    }
}
