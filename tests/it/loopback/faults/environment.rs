//! Faulty files and restricted environments: one clear error line, no wrong byte sent, nothing lost.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    time::Duration,
};

use bt_fast::codec::{handshake::Reserved, message::Message};
use rustix::{fs as unix, process::Signal};

use crate::loopback::{DEADLINE, Fixture, NAME, PIECE_LEN, Seed, assert_fails, event, failures, own_address, warnings};
use crate::support::{
    content::write_random,
    process::{Finished, Running, run, wait_until},
    wire_peer::{Received, WirePeer},
};

const BLOCK_LEN: u32 = 16 << 10;
const LEN: u64 = 40 * PIECE_LEN as u64;

test_on_both_drivers!(
    a_missing_file_is_reported_and_the_rest_served,
    altered_content_is_never_sent,
    entirely_wrong_content_takes_one_line,
    a_file_truncated_while_seeding_sends_nothing_wrong,
    a_symlink_created_during_a_download_is_not_followed,
    blocks_across_the_new_end_of_a_file_are_never_sent,
    a_full_disk_fails_and_the_next_run_resumes,
    a_file_size_limit_is_a_storage_error,
    a_symlink_in_place_of_a_file_or_folder_is_refused,
);

pub(crate) fn unchoked(fixture: &Fixture, seed: &Seed) -> WirePeer {
    let info_hash = fixture.metainfo.info_hash;
    let mut peer = WirePeer::connect_with_handshake(seed.address, info_hash, fixture.piece_count(), Reserved::ours());
    peer.send_message(&Message::Interested);
    peer.receive_until(|received| *received == Received::Unchoke);
    peer
}

/// Creates three files of five pieces each.
fn three_files() -> Fixture {
    Fixture::files(&["a", "b", "c"].map(|name| (name, 5 * u64::from(PIECE_LEN))))
}

#[test]
fn seed_without_content_fails() {
    for fixture in [Fixture::file(LEN), three_files()] {
        fs::rename(fixture.source.join(NAME), fixture.scratch.join("elsewhere")).unwrap();
        for verify in ["lazy", "full"] {
            let finished = run(fixture.seed_command(own_address()).args(["--verify", verify]), DEADLINE);
            assert_fails(&finished, 3, "no valid piece of 'content' found");
        }
        let mut command = fixture.seed_command(own_address());
        command.arg("--data").arg("/no/such/folder");
        let finished = run(&command, DEADLINE);
        assert!(finished.code != Some(0) && finished.code != Some(101), "{finished:#?}");
    }
}

fn a_missing_file_is_reported_and_the_rest_served() {
    let fixture = three_files();
    fs::remove_file(fixture.source.join(NAME).join("b")).unwrap();
    let short = File::options().write(true).open(fixture.source.join(NAME).join("c")).unwrap();
    short.set_len(2 * u64::from(PIECE_LEN) + 1).unwrap();
    let expected = fs::read(fixture.source.join(NAME).join("a")).unwrap();
    let seed = fixture.seed();
    let output = seed.process.output();
    let reported = warnings(&output);
    assert!(
        reported.len() == 2 && reported[0].contains("/b is missing") && reported[1].contains("/c is too short"),
        "{output}"
    );

    let mut peer = unchoked(&fixture, &seed);
    for index in 0..5 {
        assert!(peer.fetch(index, 0, BLOCK_LEN) == expected[(index * PIECE_LEN) as usize..][..BLOCK_LEN as usize]);
    }
    for index in [5, 9, 12, 14] {
        peer.send_message(&Message::Request { index, begin: 0, length: BLOCK_LEN });
        assert_eq!(peer.receive(), Received::Reject { index, begin: 0, length: BLOCK_LEN });
    }
    peer.fetch(11, 0, BLOCK_LEN);
    seed.stop();
}

fn altered_content_is_never_sent() {
    let fixture = Fixture::file(LEN);
    let mut bytes = fixture.bytes();
    bytes[7 * PIECE_LEN as usize + 3] ^= 1;
    fs::write(fixture.source.join(NAME), &bytes).unwrap();
    let seed = fixture.seed();
    let mut peer = unchoked(&fixture, &seed);
    for begin in [0, BLOCK_LEN] {
        // Not even the correct half of the piece.
        peer.send_message(&Message::Request { index: 7, begin, length: BLOCK_LEN });
        assert_eq!(peer.receive(), Received::Reject { index: 7, begin, length: BLOCK_LEN });
    }
    assert!(peer.fetch(8, 0, BLOCK_LEN) == bytes[8 * PIECE_LEN as usize..][..BLOCK_LEN as usize]);
    let output = seed.process.output();
    let reported = warnings(&output);
    assert!(reported.len() == 1 && reported[0].contains("piece 7 is not served"), "{output}");
    seed.stop();
}

fn entirely_wrong_content_takes_one_line() {
    let fixture = Fixture::file(LEN);
    fs::write(fixture.source.join(NAME), vec![0; usize::try_from(LEN).unwrap()]).unwrap();
    let seed = fixture.seed();
    let mut peer = unchoked(&fixture, &seed);
    for index in 0..fixture.piece_count() {
        peer.send_message(&Message::Request { index, begin: 0, length: BLOCK_LEN });
        assert_eq!(peer.receive(), Received::Reject { index, begin: 0, length: BLOCK_LEN });
    }
    let output = seed.process.output();
    assert_eq!(warnings(&output).len(), 1, "{output}");
    seed.stop();
}

fn a_file_truncated_while_seeding_sends_nothing_wrong() {
    let fixture = Fixture::file(LEN);
    let bytes = fixture.bytes();
    let mut seed = fixture.seed();
    let mut peer = unchoked(&fixture, &seed);
    // The whole file is verified, mapped and in memory.
    for index in 0..fixture.piece_count() {
        peer.fetch(index, 0, BLOCK_LEN);
    }
    let target = fixture.scratch.folder("target");
    let file = File::options().write(true).open(fixture.source.join(NAME)).unwrap();
    file.set_len(20 * u64::from(PIECE_LEN) + 5000).unwrap();
    // The downloader keeps only correct pieces.
    let mut get =
        Running::start("get", &fixture.get_command(&target, &[seed.address]), &fixture.scratch.join("get.log"));
    let zeros = vec![0; PIECE_LEN as usize];
    let mut kept = 0;
    let settled = wait_until(DEADLINE, || {
        let before = kept;
        let found = fs::read(target.join(NAME)).unwrap_or_default();
        kept = found.chunks(PIECE_LEN as usize).filter(|piece| *piece != zeros).count();
        std::thread::sleep(Duration::from_millis(300));
        kept > 0 && kept == before
    });
    assert!(settled, "{}{}", get.log_tail(), seed.process.log_tail());
    get.signal(Signal::KILL);
    get.wait(DEADLINE);
    let found = fs::read(target.join(NAME)).unwrap();
    for (expected, found) in bytes.chunks(PIECE_LEN as usize).zip(found.chunks(PIECE_LEN as usize)) {
        assert!(expected == found || found == zeros);
    }
    assert!(seed.process.is_running(), "{}", seed.process.log_tail());
    // The rest of the file is still served.
    assert!(unchoked(&fixture, &seed).fetch(2, 0, BLOCK_LEN) == bytes[2 * PIECE_LEN as usize..][..BLOCK_LEN as usize]);
    let mut late = unchoked(&fixture, &seed);
    late.send_message(&Message::Request { index: 30, begin: 0, length: BLOCK_LEN });
    // An origin with several peers may send suggest messages first.
    let refused = std::iter::repeat_with(|| late.receive()).find(|received| {
        matches!(received, Received::Reject { .. } | Received::Closed | Received::Silence | Received::Piece { .. })
    });
    assert!(matches!(refused, Some(Received::Reject { .. } | Received::Closed)), "{refused:?}");
    assert!(!warnings(&seed.process.output()).is_empty(), "{}", seed.process.log_tail());
    seed.stop();
}

/// Folders are replaced by symbolic links while the download writes to them.
fn a_symlink_created_during_a_download_is_not_followed() {
    let fixture = Fixture::made_by(&[], PIECE_LEN, |root| {
        (0..40).for_each(|at| write_random(&root.join(format!("{at}/file")), u64::from(PIECE_LEN), at));
    });
    let address = own_address();
    let mut command = fixture.seed_command(address);
    let seed = Seed::start(command.args(["--up", "300k"]), address, &fixture.scratch.join("seed.log"));
    let (target, outside) = (fixture.scratch.folder("target"), fixture.scratch.folder("outside"));
    fs::write(outside.join("file"), "keep").unwrap();
    let mut get =
        Running::start("get", &fixture.get_command(&target, &[seed.address]), &fixture.scratch.join("get.log"));
    let begun = wait_until(DEADLINE, || event(&get.output(), "progress").is_some_and(|p| p["bytes_done"] != 0));
    assert!(begun, "{}", get.log_tail());
    for at in 0..40 {
        let folder = target.join(NAME).join(at.to_string());
        fs::rename(&folder, target.join(format!("moved {at}"))).unwrap();
        std::os::unix::fs::symlink(&outside, folder).unwrap();
    }
    let code = get.wait(DEADLINE).unwrap().code();
    let output = get.output();
    assert!(matches!(code, Some(1 | 5)) && failures(&output).len() == 1, "{code:?} {output}");
    assert!(failures(&output)[0].contains("symbolic link"), "{output}");
    assert_eq!(fs::read(outside.join("file")).unwrap(), b"keep");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

/// A read of the bytes around the new end faults no missing page: the page contains zeros behind the end.
fn blocks_across_the_new_end_of_a_file_are_never_sent() {
    let (piece_len, block_len) = (u64::from(PIECE_LEN), u64::from(BLOCK_LEN));
    // The new end lies in the last page of a block, and in the last page of the file.
    for new_len in [20 * piece_len + 2 * block_len - 100, LEN - 5] {
        let fixture = Fixture::file(LEN);
        let mut seed = fixture.seed();
        let mut peer = unchoked(&fixture, &seed);
        for index in 0..fixture.piece_count() {
            (0..PIECE_LEN).step_by(BLOCK_LEN as usize).for_each(|begin| drop(peer.fetch(index, begin, BLOCK_LEN)));
        }
        File::options().write(true).open(fixture.source.join(NAME)).unwrap().set_len(new_len).unwrap();
        let [index, begin] = [new_len / piece_len, (new_len % piece_len) / block_len * block_len]
            .map(|number| u32::try_from(number).unwrap());
        peer.send_message(&Message::Request { index, begin, length: BLOCK_LEN });
        let answer = std::iter::repeat_with(|| peer.receive()).find(|received| {
            matches!(received, Received::Reject { .. } | Received::Closed | Received::Silence | Received::Piece { .. })
        });
        assert!(matches!(answer, Some(Received::Reject { .. } | Received::Closed)), "{new_len}: {answer:?}");
        assert!(!warnings(&seed.process.output()).is_empty(), "{}", seed.process.log_tail());
        // The rest of the file is still served.
        let bytes = fixture.bytes();
        assert!(
            unchoked(&fixture, &seed).fetch(2, 0, BLOCK_LEN) == bytes[2 * PIECE_LEN as usize..][..BLOCK_LEN as usize]
        );
        seed.stop();
    }
}

/// Runs a shell script in its own mount namespace. The script can call `get`, which downloads into the folder
/// `$TARGET`, and `get_while_disk_fills SIZE`, whose file system shrinks to SIZE after the download has begun.
pub(crate) fn with_mounts(fixture: &Fixture, peer: Option<&Seed>, script: &str) -> Finished {
    let target = fixture.scratch.folder("target");
    let peers: Vec<_> = peer.iter().map(|seed| seed.address).collect();
    let get = fixture.get_command(&target, &peers);
    let words = std::iter::once(get.get_program()).chain(get.get_args());
    let get = words.map(|word| format!("'{}'", word.display())).collect::<Vec<_>>().join(" ");
    let mut command = Command::new("unshare");
    let fill = r#"get_while_disk_fills() {
            get --down 1M & until [ -s "$TARGET/content" ]; do sleep 0.01; done
            mount -o remount,size="$1" "$TARGET"; wait $!
        }"#;
    command.args(["--mount", "sh", "-c", &format!("get() {{ {get} \"$@\"; }}\n{fill}\n{script}")]);
    command.env("TARGET", &target).env("SOURCE", fixture.source.join(NAME));
    run(&command, DEADLINE)
}

fn a_full_disk_fails_and_the_next_run_resumes() {
    let fixture = Fixture::file(8 << 20);
    let seed = fixture.seed();
    let finished = with_mounts(
        &fixture,
        Some(&seed),
        r#"mount -t tmpfs -o size=64m none "$TARGET" && get_while_disk_fills 2m; echo "code $?"
           echo ---; mount -o remount,size=64m "$TARGET"
           echo --- >&2; get; echo "code $?"
           cmp "$SOURCE" "$TARGET/content" && echo equal"#,
    );
    assert!(finished.stdout.contains("code 5\n") && finished.stdout.contains("code 0\n"), "{finished:#?}");
    assert!(finished.stdout.ends_with("equal\n"), "{finished:#?}");
    let first = finished.stderr.split("---").next().unwrap();
    let reported = failures(first);
    assert!(
        reported.len() == 1 && reported[0].contains("content") && reported[0].contains("disk is full"),
        "{finished:#?}"
    );
    // The second run fetched only pieces that the first one had not written.
    let downloaded = event(&finished.stdout, "complete").unwrap()["downloaded"].as_u64().unwrap();
    assert!(downloaded < 8 << 20, "{finished:#?}");
    seed.stop();
}

#[test]
fn a_read_only_target_is_refused() {
    let fixture = Fixture::file(LEN);
    let finished = with_mounts(&fixture, None, r#"mount -t tmpfs -o ro none "$TARGET" && get"#);
    assert_fails(&finished, 5, "read-only");
}

fn a_file_size_limit_is_a_storage_error() {
    let fixture = Fixture::file(8 << 20);
    let finished = with_mounts(&fixture, None, "ulimit -f 100; get");
    assert_fails(&finished, 5, "ulimit -f");
}

fn a_symlink_in_place_of_a_file_or_folder_is_refused() {
    let outside_bytes = b"not yours".to_vec();
    for (fixture, link) in [(Fixture::file(LEN), NAME), (three_files(), NAME), (three_files(), "content/b")] {
        let seed = fixture.seed();
        let (target, outside) = (fixture.scratch.folder("target"), fixture.scratch.folder("outside"));
        fs::write(outside.join("file"), &outside_bytes).unwrap();
        let leads_to =
            if fixture.metainfo.info.single_file || link != NAME { outside.join("file") } else { outside.clone() };
        fs::create_dir_all(target.join(link).parent().unwrap()).unwrap();
        symlink(&leads_to, target.join(link)).unwrap();
        let finished = run(&fixture.get_command(&target, &[seed.address]), DEADLINE);
        assert_fails(&finished, 1, "symbolic link");
        assert_eq!(fs::read(outside.join("file")).unwrap(), outside_bytes);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }
}

#[test]
fn other_entries_in_place_of_a_file_are_refused() {
    type Make = fn(&Path);
    let makes: [Make; 2] = [
        |path| fs::create_dir(path).unwrap(),
        |path| unix::mknodat(unix::CWD, path, unix::FileType::Fifo, 0o600.into(), 0).unwrap(),
    ];
    for make in makes {
        let fixture = Fixture::file(LEN);
        let target = fixture.scratch.folder("target");
        make(&target.join(NAME));
        assert_fails(&run(&fixture.get_command(&target, &[]), DEADLINE), 1, NAME);
    }
}

#[test]
fn a_tiny_locked_memory_limit_is_handled() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let target = fixture.scratch.folder("target");
    let get = fixture.get_command(&target, &[seed.address]);
    let mut limited = Command::new("prlimit");
    // The limit does not apply to processes with CAP_IPC_LOCK.
    limited.args(["--memlock=4096:4096", "setpriv", "--inh-caps=-ipc_lock", "--bounding-set=-ipc_lock"]);
    limited.arg(get.get_program()).args(get.get_args());
    let finished = run(&limited, DEADLINE);
    // Whether rings count against the limit depends on the kernel.
    match finished.code {
        Some(0) => fixture.assert_complete(&target),
        code => assert_eq!((code, failures(&finished.stderr).len()), (Some(1), 1), "{finished:#?}"),
    }
    assert!(finished.code == Some(0) || finished.stderr.contains("raise the limit with 'ulimit -l'"), "{finished:#?}");
}

#[test]
fn a_closed_output_pipe_does_not_end_the_download() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let finished = with_mounts(&fixture, Some(&seed), r#"{ get; echo "code $?" >&2; } | true"#);
    assert!(finished.stderr.contains("code 0\n") && failures(&finished.stderr).is_empty(), "{finished:#?}");
    fixture.assert_complete(&fixture.scratch.join("target"));
}
