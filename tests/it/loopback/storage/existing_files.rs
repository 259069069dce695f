//! Files that exist before a download: foreign content is never overwritten, correct content is reused, and two
//! downloads never write to the same file.

use std::{
    fs::{self, File},
    path::Path,
};

use rustix::process::Signal;

use crate::loopback::{
    DEADLINE, Fixture, NAME, PIECE_LEN, assert_fails, event, failures, faults::environment::with_mounts, own_address,
    own_ip, scripted_seeder::seeder_that_stops,
};
use crate::support::{
    bt_fast,
    content::write_random,
    process::{Running, run, wait_until},
};

const BYTE_COUNT: usize = 20 * PIECE_LEN as usize;
const LEN: u64 = BYTE_COUNT as u64;

test_on_both_drivers!(
    a_foreign_file_is_kept_without_overwrite,
    overwrite_truncates_a_file_that_is_too_long,
    overwrite_truncates_complete_content_that_is_too_long,
    content_named_like_its_torrent_does_not_replace_it,
    empty_and_reserved_files_are_written_to,
    a_killed_run_recognizes_only_its_own_files,
    a_file_that_replaces_a_correct_one_is_kept,
    a_verified_piece_vouches_for_neighboring_short_files,
    a_deselected_file_with_foreign_content_is_kept,
    complete_read_only_content_is_complete,
    incomplete_read_only_content_fails,
    two_torrents_with_one_file_take_turns,
    two_names_of_one_file_are_refused,
    two_names_of_one_correct_file_are_complete,
    a_seed_may_run_beside_a_download_of_the_same_files,
);

/// Creates one file of several pieces, and three that are shorter than a piece.
fn folder() -> Fixture {
    Fixture::files(&[("a", 10), ("b", 5 * u64::from(PIECE_LEN)), ("c", 1000), ("d", 2000)])
}

fn a_foreign_file_is_kept_without_overwrite() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    for len in [1, LEN - 1, LEN, LEN + 1] {
        let target = fixture.scratch.folder(&format!("target {len}"));
        write_random(&target.join(NAME), len, 1);
        let before = fs::read(target.join(NAME)).unwrap();
        let mut command = fixture.get_command(&target, &[seed.address]);
        assert_fails(&run(&command, DEADLINE), 1, "/content: it has no content of this torrent");
        assert!(fs::read(target.join(NAME)).unwrap() == before);
        assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
        let finished = run(command.arg("--overwrite"), DEADLINE);
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        fixture.assert_complete(&target);
    }
}

fn overwrite_truncates_a_file_that_is_too_long() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let target = fixture.scratch.folder("target");
    fs::write(target.join(NAME), [&fixture.bytes()[..BYTE_COUNT / 2], &[7; BYTE_COUNT]].concat()).unwrap();
    let mut command = fixture.get_command(&target, &[seed.address]);
    assert_fails(&run(&command, DEADLINE), 1, "bytes longer than in the torrent");
    assert_eq!(fs::metadata(target.join(NAME)).unwrap().len(), LEN / 2 + LEN);
    let finished = run(command.arg("--overwrite"), DEADLINE);
    assert_eq!(event(&finished.success(), "complete").unwrap()["downloaded"], LEN / 2);
    fixture.assert_complete(&target);
}

fn overwrite_truncates_complete_content_that_is_too_long() {
    let fixture = Fixture::file(LEN);
    let target = fixture.scratch.folder("target");
    fs::write(target.join(NAME), [&fixture.bytes()[..], b"and more"].concat()).unwrap();
    let finished = run(fixture.get_command(&target, &[]).arg("--overwrite"), DEADLINE);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    fixture.assert_complete(&target);
}

fn content_named_like_its_torrent_does_not_replace_it() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let target = fixture.scratch.folder("target");
    let torrent = target.join(NAME);
    fs::copy(&fixture.torrent, &torrent).unwrap();
    for arguments in [&[][..], &["--overwrite"]] {
        let mut command = bt_fast();
        command.args(["get", "--json"]).arg(&torrent).arg("-o").arg(&target).args(arguments);
        command.args(["--listen", &own_address().to_string(), "--peer", &seed.address.to_string()]);
        assert_fails(&run(&command, DEADLINE), 1, "/content: it is the .torrent itself");
        assert!(fs::read(&torrent).unwrap() == fs::read(&fixture.torrent).unwrap());
    }
}

fn empty_and_reserved_files_are_written_to() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    for zeros in [None, Some(0), Some(LEN / 2), Some(LEN)] {
        let target = fixture.scratch.folder(&format!("target {zeros:?}"));
        match zeros {
            None => File::create(target.join(NAME)).unwrap().set_len(LEN).unwrap(),
            Some(len) => fs::write(target.join(NAME), vec![0; usize::try_from(len).unwrap()]).unwrap(),
        }
        fixture.get(&target, &[seed.address]);
    }
}

/// After a kill the next run recognizes the file that it created, even with less than one piece in it, but not a file
/// that replaced it.
fn a_killed_run_recognizes_only_its_own_files() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let mut torn = vec![0; BYTE_COUNT];
    torn[..1000].copy_from_slice(&fixture.bytes()[..1000]);
    for is_replaced in [false, true] {
        let target = fixture.scratch.folder(&format!("target {is_replaced}"));
        let path = target.join(NAME);
        let log = fixture.scratch.join("killed.log");
        let mut killed = Running::start("killed", &fixture.get_command(&target, &[]), &log);
        let record = target.join(format!(".{NAME}.bt-fast-resume"));
        assert!(wait_until(DEADLINE, || record.exists()), "{}", killed.log_tail());
        killed.signal(Signal::KILL);
        assert!(killed.wait(DEADLINE).is_some());
        let command = fixture.get_command(&target, &[seed.address]);
        if is_replaced {
            // A hard link to a file of another program.
            let other = fixture.scratch.join("other");
            fs::write(&other, &torn).unwrap();
            fs::remove_file(&path).unwrap();
            fs::hard_link(&other, &path).unwrap();
            assert_fails(&run(&command, DEADLINE), 1, "it has no content of this torrent");
            assert!(fs::read(&other).unwrap() == torn);
        } else {
            fs::write(&path, &torn).unwrap();
            fixture.get(&target, &[seed.address]);
        }
    }
}

/// The other files of the torrent are complete.
fn a_file_that_replaces_a_correct_one_is_kept() {
    let fixture = folder();
    let seed = fixture.seed();
    let target = fixture.scratch.folder("target");
    fixture.get(&target, &[seed.address]);
    for (name, len) in [("b", 5 * PIECE_LEN as usize), ("c", 999)] {
        let (path, other) = (target.join(NAME).join(name), fixture.scratch.join(name));
        let right = fs::read(&path).unwrap();
        fs::write(&other, vec![9; len]).unwrap();
        fs::remove_file(&path).unwrap();
        fs::hard_link(&other, &path).unwrap();
        let mut command = fixture.get_command(&target, &[seed.address]);
        assert_fails(&run(&command, DEADLINE), 1, &format!("/{name}: it has no content of this torrent"));
        assert!(fs::read(&other).unwrap() == vec![9; len]);
        assert_eq!(run(command.arg("--overwrite"), DEADLINE).code, Some(0));
        assert!(fs::read(&path).unwrap() == right);
    }
}

fn a_verified_piece_vouches_for_neighboring_short_files() {
    let fixture = folder();
    let seed = fixture.seed();
    let target = fixture.scratch.folder("target");
    fs::create_dir(target.join(NAME)).unwrap();
    fs::write(target.join(NAME).join("c"), [9; 1000]).unwrap();
    let command = fixture.get_command(&target, &[seed.address]);
    assert_fails(&run(&command, DEADLINE), 1, "/c: it has no content of this torrent");
    assert_eq!(fs::read_dir(target.join(NAME)).unwrap().count(), 1, "no file was created");
    fs::copy(fixture.source.join(NAME).join("b"), target.join(NAME).join("b")).unwrap();
    fixture.get(&target, &[seed.address]);
}

fn a_deselected_file_with_foreign_content_is_kept() {
    let fixture = folder();
    let seed = fixture.seed();
    let target = fixture.scratch.folder("target");
    fs::create_dir(target.join(NAME)).unwrap();
    // The file shares its only piece with its neighbors.
    fs::write(target.join(NAME).join("c"), [9; 1000]).unwrap();
    let finished = run(fixture.get_command(&target, &[seed.address]).args(["--select", "2,4"]), DEADLINE);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(fs::read(target.join(NAME).join("c")).unwrap(), [9; 1000]);
    for name in ["b", "d"] {
        let equal =
            fs::read(target.join(NAME).join(name)).unwrap() == fs::read(fixture.source.join(NAME).join(name)).unwrap();
        assert!(equal, "{name}");
    }
}

fn complete_read_only_content_is_complete() {
    let fixture = folder();
    let finished = with_mounts(
        &fixture,
        None,
        r#"cp -r "$SOURCE" "$TARGET" && mount --bind "$TARGET" "$TARGET" && mount -o remount,bind,ro "$TARGET" && get"#,
    );
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(event(&finished.stdout, "complete").unwrap()["downloaded"], 0);
    assert!(failures(&finished.stderr).is_empty(), "{finished:#?}");
}

fn incomplete_read_only_content_fails() {
    let fixture = folder();
    let finished = with_mounts(
        &fixture,
        None,
        r#"cp -r "$SOURCE" "$TARGET" && echo x >"$TARGET/content/a"
           mount --bind "$TARGET" "$TARGET" && mount -o remount,bind,ro "$TARGET" && get"#,
    );
    assert_fails(&finished, 5, "read-only");
}

/// Starts a `get` that has created its files, has received some data and waits for more.
fn waiting(fixture: &Fixture, target: &Path) -> Running {
    let peer = seeder_that_stops(fixture, own_ip(), 2);
    let mut get = Running::start("get", &fixture.get_command(target, &[peer]), &fixture.scratch.join("get.log"));
    let has_some = || event(&get.output(), "progress").is_some_and(|reported| reported["bytes_done"] != 0);
    assert!(wait_until(DEADLINE, has_some), "{}", get.log_tail());
    assert!(get.is_running());
    get
}

fn two_torrents_with_one_file_take_turns() {
    let folder = folder();
    let target = folder.scratch.folder("target");
    // A torrent of the single file `b`, downloaded into the folder of the other torrent.
    let single = Fixture::made_by(&[], PIECE_LEN, |path| write_random(path, LEN, 1));
    let torrent = folder.scratch.join("b.torrent");
    let content = single.scratch.folder("renamed").join("b");
    fs::rename(single.source.join(NAME), &content).unwrap();
    run(bt_fast().arg("create").arg(&content).arg("-o").arg(&torrent), DEADLINE).success();
    let mut get = waiting(&folder, &target);
    let mut second = bt_fast();
    second.args(["get", "--json"]).arg(&torrent).arg("-o").arg(target.join(NAME)).arg("--overwrite");
    second.args(["--listen", &own_address().to_string(), "--timeout", "3"]);
    assert_fails(&run(&second, DEADLINE), 1, "/b: can't lock: another download is writing to it");
    get.signal(Signal::INT);
    get.wait(DEADLINE).unwrap();
    let seed = folder.seed();
    folder.get(&target, &[seed.address]);
}

fn two_names_of_one_file_are_refused() {
    let fixture = folder();
    let target = fixture.scratch.folder("target");
    fs::create_dir(target.join(NAME)).unwrap();
    File::create(target.join(NAME).join("c")).unwrap();
    fs::hard_link(target.join(NAME).join("c"), target.join(NAME).join("d")).unwrap();
    let command = fixture.get_command(&target, &[]);
    assert_fails(&run(&command, DEADLINE), 1, "/d: can't write: it is the same file as");
}

/// Complete content needs no write, so hard links are allowed.
fn two_names_of_one_correct_file_are_complete() {
    let fixture = Fixture::made_by(&[], PIECE_LEN, |root| {
        fs::create_dir(root).unwrap();
        ["a", "b"].iter().for_each(|name| write_random(&root.join(name), 50_000, 1));
    });
    let target = fixture.scratch.folder("target");
    fs::create_dir(target.join(NAME)).unwrap();
    fs::copy(fixture.source.join(NAME).join("a"), target.join(NAME).join("a")).unwrap();
    fs::hard_link(target.join(NAME).join("a"), target.join(NAME).join("b")).unwrap();
    fixture.get(&target, &[]);
}

fn a_seed_may_run_beside_a_download_of_the_same_files() {
    let fixture = Fixture::file(LEN);
    let target = fixture.scratch.folder("target");
    let mut get = waiting(&fixture, &target);
    let address = own_address();
    let mut command = bt_fast();
    command.args(["seed", "--json"]).arg(&fixture.torrent).arg("--data").arg(&target);
    command.args(["--listen", &address.to_string()]);
    let log = fixture.scratch.join("beside.log");
    let mut beside = Running::start("seed", &command, &log);
    assert!(wait_until(DEADLINE, || event(&beside.output(), "seeding").is_some()), "{}", beside.log_tail());
    assert!(get.is_running(), "{}", get.log_tail());
}
