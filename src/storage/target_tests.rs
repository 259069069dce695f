use super::Sidecar::{Parts, Record};
use super::*;
use std::fs;
use std::io::Write as _;

const INFO_HASH: InfoHash = InfoHash([7; 20]);

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_second_process_is_refused_and_the_first_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let first = Target::lock(folder.path(), b"name", INFO_HASH).unwrap();
    assert_eq!(names(folder.path()), [".name.bt-fast-lock"]);
    let refused = Target::lock(folder.path(), b"name", INFO_HASH).unwrap_err().to_string();
    assert!(refused.contains("/name: can't lock") && refused.contains(&std::process::id().to_string()), "{refused}");
    let other = Target::lock(folder.path(), b"other name", INFO_HASH).unwrap();
    drop((first, other));
    assert_eq!(names(folder.path()), [""; 0]);
    // A killed process left its lock file.
    for (left, interrupted) in [("bt-fast 1\n", false), ("", false), (&format!("bt-fast 1 {INFO_HASH}\n"), true)] {
        fs::write(folder.path().join(".name.bt-fast-lock"), left).unwrap();
        let target = Target::lock(folder.path(), b"name", INFO_HASH).unwrap();
        assert_eq!(target.was_interrupted(), interrupted);
    }
}

#[test]
fn a_released_lock_neither_blocks_nor_unlinks_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let first = Target::lock(folder.path(), b"name", INFO_HASH).unwrap();
    first.release();
    let second = Target::lock(folder.path(), b"name", INFO_HASH).unwrap();
    drop(first);
    assert!(second.holds_name());
    assert!(Target::lock(folder.path(), b"name", INFO_HASH).is_err());
}

#[test]
fn a_record_is_replaced_atomically_and_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::lock(folder.path(), b"name", INFO_HASH).unwrap();
    assert_eq!(target.load(Record, 10).unwrap(), None);
    fs::write(folder.path().join(".name.bt-fast-new"), "bt-fast resume, half of it").unwrap();
    for bytes in [&b"bt-fast 1"[..], b"bt-fast two"] {
        target.save(Record, |file| file.write_all(bytes)).unwrap();
        assert_eq!(target.load(Record, 20).unwrap().as_deref(), Some(bytes));
    }
    assert_eq!(target.load(Record, 3).unwrap().as_deref(), Some(&b"bt-f"[..]), "one byte more than asked for");
    target.save(Parts, |file| file.write_all(b"bt-fast parts")).unwrap();
    assert_eq!(target.load(Record, 20).unwrap().as_deref(), Some(&b"bt-fast two"[..]));
    assert_eq!(names(folder.path()), [".name.bt-fast-lock", ".name.bt-fast-parts", ".name.bt-fast-resume"]);
    target.remove(&[Parts]).unwrap();
    assert_eq!(names(folder.path()), [".name.bt-fast-lock", ".name.bt-fast-resume"]);
    target.remove(&Sidecar::ALL).unwrap();
    target.remove(&Sidecar::ALL).unwrap();
    drop(target);
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn a_partial_replacement_file_is_removed_too() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::lock(folder.path(), b"name", INFO_HASH).unwrap();
    fs::write(folder.path().join(".name.bt-fast-new"), "bt-fast resume, half of it").unwrap();
    target.remove(&Sidecar::ALL).unwrap();
    drop(target);
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn links_and_folders_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside");
    fs::write(&outside, "bt-fast keep").unwrap();
    let link = |name| std::os::unix::fs::symlink(&outside, folder.path().join(name)).unwrap();
    let target = Target::lock(folder.path(), b"name", INFO_HASH).unwrap();
    for name in [".name.bt-fast-resume", ".name.bt-fast-new"] {
        link(name);
    }
    assert!(target.load(Record, 10).is_err() && target.save(Record, |file| file.write_all(b"bt-fast")).is_err());
    target.remove(&Sidecar::ALL).unwrap();
    drop(target);
    assert!(
        Target::lock(folder.path(), b"name", INFO_HASH).unwrap_err().to_string().contains("not written by bt-fast")
    );
    fs::remove_file(folder.path().join(".name.bt-fast-resume")).unwrap();
    fs::create_dir(folder.path().join(".name.bt-fast-resume")).unwrap();
    assert!(
        Target::lock(folder.path(), b"name", INFO_HASH).unwrap_err().to_string().contains("not written by bt-fast")
    );
    link(".other.bt-fast-lock");
    assert!(Target::lock(folder.path(), b"other", INFO_HASH).unwrap_err().to_string().contains("symbolic link"));
    assert_eq!(fs::read(&outside).unwrap(), b"bt-fast keep");
}

/// Such files are content of another torrent, or belong to the user.
#[test]
fn files_that_are_not_ours_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    for name in [".name.bt-fast-lock", ".name.bt-fast-resume", ".name.bt-fast-parts"] {
        for content in [&b"content"[..], b"1\n", &[0; 100]] {
            fs::write(folder.path().join(name), content).unwrap();
            let refused = Target::lock(folder.path(), b"name", INFO_HASH).unwrap_err().to_string();
            assert!(refused.contains(name) && refused.contains("not written by bt-fast"), "{refused}");
            assert_eq!(read(name), content);
        }
        fs::remove_file(folder.path().join(name)).unwrap();
        let _ = fs::remove_file(folder.path().join(".name.bt-fast-lock"));
    }
    // The files appear while the download runs.
    let target = Target::lock(folder.path(), b"name", INFO_HASH).unwrap();
    for name in [".name.bt-fast-new", ".name.bt-fast-parts"] {
        fs::write(folder.path().join(name), "content").unwrap();
    }
    target.save(Record, |file| file.write_all(b"bt-fast record")).unwrap();
    assert!(target.save(Parts, |file| file.write_all(b"bt-fast parts")).is_err());
    target.remove(&Sidecar::ALL).unwrap();
    drop(target);
    assert_eq!(names(folder.path()), [".name.bt-fast-new", ".name.bt-fast-parts"]);
    assert_eq!((read(".name.bt-fast-new"), read(".name.bt-fast-parts")), (b"content".into(), b"content".into()));
}

#[test]
fn long_names_are_cut_and_reserved_names_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let name = [b'n'; 255];
    let target = Target::lock(folder.path(), &name, INFO_HASH).unwrap();
    target.save(Record, |file| file.write_all(b"bt-fast record")).unwrap();
    assert!(names(folder.path()).iter().all(|name| name.len() > 200));
    for name in [".a.bt-fast-resume", ".a.bt-fast-parts", ".a.bt-fast-lock", ".a.bt-fast-new", ".a.bt-fast-new1"] {
        let refused = Target::lock(folder.path(), name.as_bytes(), INFO_HASH).unwrap_err().to_string();
        assert!(refused.contains("reserved for bt-fast"), "{refused}");
    }
}
