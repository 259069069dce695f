//! `create` and `verify` on real files.

#![allow(clippy::disallowed_methods, reason = "deadlines are real")]

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::sandbox::{Run, Sandbox, content};

/// Info-hashes of the fixed content below, computed by another program.
const GOLDEN_TREE: &str = "f54fd52a4e017f238999e21a5f627c5c9a67e895";
const GOLDEN_FILE: &str = "1637b218ad272c2d0c46c23d4f58447b7b442533";
const GOLDEN_PRIVATE_FILE: &str = "1680587cc7ab1023c8eb892375c7a47d5fb95ba5";

fn golden() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("golden/a.txt", content(40_000));
    sandbox.write("golden/B.bin", content(100_000));
    sandbox.write("golden/a b/größe.txt", "hello\n");
    sandbox.write("golden/a b/empty", "");
    sandbox.write("golden/.hidden", "hidden");
    sandbox.write("one", "x");
    sandbox
}

#[test]
fn info_hashes_match_the_golden_values() {
    let sandbox = golden();
    for (line, info_hash) in [
        ("create golden -a http://t/announce", GOLDEN_TREE),
        ("create golden/ -o slash.torrent", GOLDEN_TREE),
        ("create golden/../golden/. -o dots.torrent -l 16K --no-date", GOLDEN_TREE),
        ("create one", GOLDEN_FILE),
        ("create one -o private.torrent -p -s SRC", GOLDEN_PRIVATE_FILE),
    ] {
        let run = sandbox.run(line).ok();
        assert!(run.text().starts_with(&format!("info-hash  {info_hash}\n")), "{line}: {run:?}");
    }
}

#[test]
fn torrents_are_reproducible_without_date_and_creator() {
    let sandbox = golden();
    let options = "--no-date --no-creator -a http://t/announce,http://u/announce -a udp://v:1 -w http://w/ -c words";
    sandbox.run(&format!("create golden -o 1.torrent {options}")).ok();
    fs::set_permissions(sandbox.path("golden/a.txt"), fs::Permissions::from_mode(0o600)).unwrap();
    sandbox.run(&format!("create golden -o 2.torrent {options}")).ok();
    assert_eq!(sandbox.read("1.torrent"), sandbox.read("2.torrent"));
    let stdout = sandbox.run(&format!("create golden -o - {options}")).ok();
    assert_eq!(stdout.stdout, sandbox.read("1.torrent"));
    let text = String::from_utf8_lossy(&stdout.stdout).into_owned();
    assert!(!text.contains("created by") && !text.contains("creation date"));
    let dated = sandbox.run("create golden -o -").ok();
    assert!(String::from_utf8_lossy(&dated.stdout).contains("created by"));
}

#[test]
fn an_existing_output_is_kept_without_force() {
    let sandbox = golden();
    sandbox.write("one.torrent", "precious");
    sandbox.run("create one").fails(1, "-f");
    assert_eq!(sandbox.read("one.torrent"), b"precious");
    sandbox.run("create one -f").ok();
    assert!(sandbox.read("one.torrent").starts_with(b"d"));
    sandbox.run("create one -f -o golden").fails(1, "not a file");
    sandbox.run("create one -o no/such/folder/x").fails(1, "no/such/folder/x");
    assert_eq!(sandbox.names(), ["golden", "one", "one.torrent"]);
}

#[test]
fn a_folder_with_its_own_torrent_gives_the_same_torrent() {
    let sandbox = golden();
    let run = |line: &str| {
        let output = sandbox.command(line.split_whitespace()).current_dir(sandbox.path("golden")).output().unwrap();
        Run::from(output).ok()
    };
    let first = run("create .");
    let second = run("create . -f");
    assert!(first.text().contains(GOLDEN_TREE), "{first:?}");
    assert_eq!(first.text(), second.text());
}

#[test]
fn a_dry_run_writes_nothing() {
    let sandbox = golden();
    let run = sandbox.run("create golden --dry-run --json").ok();
    let planned = &run.json()[0];
    assert_eq!(planned["event"], "planned");
    assert_eq!(planned["pieces"], 9);
    assert_eq!(planned["files"], 5);
    assert_eq!(sandbox.names(), ["golden", "one"]);
}

#[test]
fn json_ends_with_the_created_torrent() {
    let sandbox = golden();
    let run = sandbox.run("create golden --json").ok();
    let json = run.json();
    let created = json.last().unwrap();
    assert_eq!(created["event"], "created");
    assert_eq!(created["info_hash"], GOLDEN_TREE);
    assert_eq!(created["output"], "golden.torrent");
    assert_eq!(created["pieces"], 9);
    assert_eq!(created["bytes"], 140_012);
    assert!(created["seconds"].is_number());
    assert!(json[..json.len() - 1].iter().all(|event| event["event"] == "progress"));
}

#[test]
fn globs_select_files() {
    let sandbox = golden();
    for (globs, expected) in [
        (&["*.txt"][..], &["golden/a b/größe.txt", "golden/a.txt"][..]),
        (&["!*.txt", "!.hidden"], &["golden/B.bin", "golden/a b/empty"]),
        (&["!a b"], &["golden/.hidden", "golden/B.bin", "golden/a.txt"]),
        (&["/a.*"], &["golden/a.txt"]),
    ] {
        let mut args = vec!["create", "golden", "-f", "-q"];
        globs.iter().for_each(|glob| args.extend(["-g", glob]));
        sandbox.run_args(args).ok();
        let shown = sandbox.run("show golden.torrent --json").ok().json();
        let files = shown[0]["files"].as_array().unwrap();
        let paths: Vec<&str> = files.iter().map(|file| file["path"].as_str().unwrap()).collect();
        assert_eq!(paths, expected, "{globs:?}");
    }
    sandbox.run("create golden -f -g *.iso").fails(1, "no files");
    sandbox.run("create one -f -g *.iso").fails(1, "-g");
    sandbox.run("create golden -f -g a[").fails(2, "-g");
}

#[test]
fn junk_files_are_skipped_and_counted() {
    let sandbox = golden();
    sandbox.write("golden/.DS_Store", "x");
    sandbox.write("golden/a b/thumbs.db", "x");
    let run = sandbox.run("create golden").ok();
    assert!(run.text().contains(GOLDEN_TREE) && run.stderr.contains("left out 2 junk files"), "{run:?}");
    let planned = sandbox.run("create golden -f --dry-run --json").ok().json();
    assert_eq!((&planned[0]["files"], &planned[0]["junk_left_out"]), (&5.into(), &2.into()));
    let created = sandbox.run("create golden -f --json --include-junk").ok().json();
    let created = created.last().unwrap();
    assert_eq!((&created["files"], &created["junk_left_out"]), (&7.into(), &0.into()));
    sandbox.run("create golden -f -g .DS_Store").ok();
    let shown = sandbox.run("show golden.torrent --json").ok().json();
    assert_eq!(shown[0]["files"][0]["path"], "golden/.DS_Store");
}

#[test]
fn incompatible_clients_are_named() {
    let sandbox = golden();
    let run = sandbox.run("create golden -l 256M").ok();
    assert!(run.stderr.contains("warning: pieces of 256 MiB: libtorrent"), "{run:?}");
    for line in ["create golden -l 256M -f --json", "create golden -l 256M -f --dry-run --json"] {
        let json = sandbox.run(line).ok().json();
        let warnings = json.last().unwrap()["warnings"].as_array().unwrap().clone();
        assert!(warnings.len() == 1 && warnings[0].as_str().unwrap().contains("libtorrent"), "{json:?}");
    }
    let plain = sandbox.run("create golden -l 128M -f --json").ok();
    assert!(!plain.stderr.contains("warning") && plain.json().last().unwrap()["warnings"].is_null(), "{plain:?}");
    // Sparse: a dry run reads no content.
    fs::File::create(sandbox.path("huge")).unwrap().set_len(300_000 << 14).unwrap();
    let many = sandbox.run("create huge -l 16K --dry-run --json").ok();
    assert!(many.json()[0]["warnings"][0].as_str().unwrap().contains("rqbit"), "{many:?}");
}

#[test]
fn invalid_content_is_named_and_nothing_is_written() {
    let sandbox = golden();
    sandbox.run("create nowhere").fails(1, "nowhere");
    sandbox.write("folder/file", "x");
    let fifo = sandbox.path("folder/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    sandbox.run("create folder").fails(1, "folder/fifo");
    sandbox.run("create folder/fifo").fails(1, "FIFO");
    fs::remove_file(fifo).unwrap();
    symlink("..", sandbox.path("folder/up")).unwrap();
    sandbox.run("create folder").fails(1, "folder/up");
    fs::remove_file(sandbox.path("folder/up")).unwrap();
    sandbox.run("create /dev/zero").fails(1, "device");
    sandbox.write("empty", "");
    sandbox.run("create empty").fails(1, "empty");
    sandbox.run("create /").fails(1, "-n");
    assert_eq!(sandbox.names(), ["empty", "folder", "golden", "one"]);
}

#[test]
fn symlinks_are_followed() {
    let sandbox = golden();
    symlink(sandbox.path("golden"), sandbox.path("link")).unwrap();
    let run = sandbox.run("create link -n golden").ok();
    assert!(run.text().contains(GOLDEN_TREE), "{run:?}");
}

#[test]
fn standard_input_becomes_a_file_of_the_given_name() {
    let sandbox = golden();
    let stdin = |path: &str| Stdio::from(fs::File::open(sandbox.path(path)).unwrap());
    let run = |line: &str, path: &str| {
        let output = sandbox.command(line.split_whitespace()).stdin(stdin(path)).output().unwrap();
        Run::from(output)
    };
    let made = run("create - -n one -l 16K", "one").ok();
    assert!(made.text().contains(GOLDEN_FILE) && made.stderr.contains("one.torrent"), "{made:?}");
    let options = "--no-date --no-creator -l 16K";
    sandbox.run(&format!("create golden/B.bin -o file.torrent {options}")).ok();
    let piped = run(&format!("create - -n B.bin -o - {options}"), "golden/B.bin").ok();
    assert_eq!(piped.stdout, sandbox.read("file.torrent"));
    let json = run("create - -n default --json", "golden/B.bin").ok().json();
    assert_eq!(json.last().unwrap()["piece_length"], 1 << 20);
    assert_eq!(json.last().unwrap()["bytes"], 100_000);
    run("create - -n empty", "golden/a b/empty").fails(1, "standard input");
    run("create - -n folder", "golden").fails(1, "standard input");
    run("create - -n one", "one").fails(1, "-f");
    assert_eq!(sandbox.names(), ["default.torrent", "file.torrent", "golden", "one", "one.torrent"]);
}

#[test]
fn ctrl_c_ends_a_silent_pipe() {
    let sandbox = Sandbox::new();
    let mut child = sandbox.command(["create", "-", "-n", "x"]).stdin(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    // `wait` would close the pipe, which must stay open until the process ends.
    let interrupted_at = Instant::now();
    let code = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status.code(),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
        assert!(interrupted_at.elapsed() < Duration::from_secs(3));
    };
    assert_eq!(code, Some(130));
    assert!(sandbox.names().is_empty());
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let sandbox = Sandbox::new();
    // Sparse, and too long to hash within the test.
    fs::File::create(sandbox.path("huge")).unwrap().set_len(1 << 40).unwrap();
    let mut child = sandbox.command(["create", "huge"]).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let interrupted_at = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(interrupted_at.elapsed() < Duration::from_secs(3));
    assert_eq!(sandbox.names(), ["huge"]);
}

#[test]
fn verify_finds_each_fault() {
    let sandbox = golden();
    sandbox.run("create golden -q").ok();
    sandbox.run("verify golden.torrent").ok();
    let moved = sandbox.path("moved");
    fs::create_dir(&moved).unwrap();
    sandbox.run("verify golden.torrent moved").fails(3, "moved");
    fs::rename(sandbox.path("golden"), moved.join("golden")).unwrap();
    sandbox.run("verify golden.torrent moved").ok();
    fs::rename(moved.join("golden"), sandbox.path("golden")).unwrap();

    // In content order: .hidden (6 bytes), B.bin (100,000), a b/empty, a b/größe.txt (6), a.txt (40,000).
    let big = sandbox.read("golden/B.bin");
    let faults: [(&str, Option<Vec<u8>>, &str, serde_json::Value); 5] = [
        (
            "golden/B.bin",
            Some([&big[..50_000], &[big[50_000] ^ 1], &big[50_001..]].concat()),
            "altered",
            [[3, 3]].into(),
        ),
        ("golden/B.bin", Some(big[..60_000].to_vec()), "short", [[3, 6]].into()),
        ("golden/a.txt", Some([content(40_000), vec![0]].concat()), "long", serde_json::Value::Array(vec![])),
        ("golden/a b/größe.txt", None, "missing", [[6, 6]].into()),
        ("golden/a b/empty", None, "missing", serde_json::Value::Array(vec![])),
    ];
    for (path, bytes, problem, bad_pieces) in faults {
        let before = sandbox.read(path);
        match bytes {
            Some(bytes) => sandbox.write(path, bytes),
            None => fs::remove_file(sandbox.path(path)).unwrap(),
        }
        let text = sandbox.run("verify golden.torrent").fails(3, "does not match");
        assert!(text.text().lines().any(|line| line.starts_with(problem) && line.contains(path)), "{text:?}");
        let json = sandbox.run("verify golden.torrent --json").fails(3, "does not match").json();
        assert!(json.iter().any(|event| event["problem"] == problem && event["path"] == path), "{json:?}");
        let verified = json.iter().find(|event| event["event"] == "verified").unwrap();
        assert_eq!(verified["bad_pieces"], bad_pieces, "{path} {problem}");
        assert_eq!(verified["match"], false);
        assert_eq!(json.last().unwrap()["exit"], 3);
        sandbox.write(path, before);
    }
    let json = sandbox.run("verify golden.torrent --json").ok().json();
    assert_eq!(json.last().unwrap()["match"], true);
}

#[test]
fn extra_files_are_listed_without_a_mismatch() {
    let sandbox = golden();
    sandbox.run("create golden -q").ok();
    let clean = sandbox.run("verify golden.torrent --json").ok().json();
    assert_eq!(clean.last().unwrap()["extra_files"], 0);
    sandbox.write("golden/new", "x");
    sandbox.write("golden/more/deep", "x");
    let text = sandbox.run("verify golden.torrent").ok();
    assert_eq!(text.text(), "extra      golden/more/deep\nextra      golden/new\n");
    let json = sandbox.run("verify golden.torrent --json").ok().json();
    assert!(json.iter().any(|event| event["event"] == "extra" && event["path"] == "golden/more/deep"), "{json:?}");
    let verified = json.last().unwrap();
    assert_eq!((&verified["extra_files"], &verified["match"]), (&2.into(), &true.into()));
    fs::remove_file(sandbox.path("golden/a.txt")).unwrap();
    let both = sandbox.run("verify golden.torrent").fails(3, "1 of 5 files wrong");
    assert!(both.text().contains("extra      golden/new") && both.text().contains("missing"), "{both:?}");
    sandbox.run("create one -q").ok();
    assert_eq!(sandbox.run("verify one.torrent").ok().text(), "");
}

#[test]
fn a_cached_check_is_trusted_until_a_file_changes() {
    let sandbox = golden();
    let verify = |line: &str| {
        let run = sandbox.run(line).ok();
        (run.stderr.contains("remembered check of 20"), run)
    };
    // The file was just written: a later write could leave the same timestamps.
    sandbox.run("create golden -q").ok();
    assert!(!verify("verify golden.torrent --fast").0);
    std::thread::sleep(Duration::from_millis(4100));
    assert!(!verify("verify golden.torrent --fast").0);
    assert!(verify("verify golden.torrent --fast").0);
    let json = sandbox.run("verify golden.torrent --fast --json").ok().json();
    let verified = json.last().unwrap();
    assert!(verified["match"] == true && verified["remembered"].as_i64().unwrap() > 1_700_000_000, "{json:?}");
    assert_eq!(verified["good_pieces"], verified["pieces"]);
    assert!(!verify("verify golden.torrent").0);

    // A damaged cache entry is ignored, and the check replaces it.
    let records = sandbox.cache().join("bt-fast");
    let record = fs::read_dir(&records).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&record).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&record, bytes).unwrap();
    assert!(!verify("verify golden.torrent --fast").0);
    assert!(verify("verify golden.torrent --fast").0);

    // An unchanged length and a restored modification time do not hide a change.
    let path = sandbox.path("golden/a.txt");
    let before = sandbox.read("golden/a.txt");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    sandbox.write("golden/a.txt", [&before[..39_999], &[before[39_999] ^ 1]].concat());
    fs::File::options().append(true).open(&path).unwrap().set_modified(modified).unwrap();
    sandbox.run("verify golden.torrent --fast").fails(3, "1 of 5 files wrong");
    assert_eq!(fs::read_dir(&records).unwrap().count(), 0);

    // Without a writable cache all content is read.
    sandbox.write("golden/a.txt", before);
    fs::remove_dir(&records).unwrap();
    fs::write(&records, "in the way").unwrap();
    assert!(!verify("verify golden.torrent --fast").0);
    sandbox.run("create golden -f").ok();
}

#[test]
fn create_caches_its_check() {
    let sandbox = golden();
    std::thread::sleep(Duration::from_millis(4100));
    sandbox.run("create golden -q").ok();
    let run = sandbox.run("verify golden.torrent --fast").ok();
    assert!(run.stderr.contains("remembered check of 20"), "{run:?}");
    fs::remove_file(sandbox.path("golden/a b/empty")).unwrap();
    sandbox.run("verify golden.torrent --fast").fails(3, "does not match");
}

#[test]
fn a_file_that_shrinks_while_it_is_hashed_is_named() {
    let sandbox = Sandbox::new();
    // Sparse, and too long to hash within the test.
    sandbox.write("folder/huge", "");
    let huge = fs::File::options().append(true).open(sandbox.path("folder/huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    let child = sandbox.command(["create", "folder"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    huge.set_len(1 << 20).unwrap();
    let truncated_at = Instant::now();
    Run::from(child.wait_with_output().unwrap()).fails(1, "changed while it was read: folder/huge");
    assert!(truncated_at.elapsed() < Duration::from_secs(10));
    assert_eq!(sandbox.names(), ["folder"]);
}

/// Content in memory is hashed in maps, from which another program can cut pages at any moment.
#[test]
fn content_in_memory_that_is_truncated_does_not_match() {
    const LEN: usize = 96 << 20;
    let kept_len = LEN / 3;
    let sandbox = Sandbox::new();
    sandbox.write("hot", vec![7; LEN]);
    sandbox.run("create hot -q").ok();
    let hot = fs::File::options().write(true).open(sandbox.path("hot")).unwrap();
    let other = vec![9; LEN - kept_len];
    hot.write_all_at(&other, kept_len as u64).unwrap();
    for pause_ms in [0, 2, 5, 10, 20] {
        let is_over = AtomicBool::new(false);
        let run = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(pause_ms));
                    hot.set_len(kept_len as u64).unwrap();
                    hot.write_all_at(&other, kept_len as u64).unwrap();
                }
            });
            let run = sandbox.run("verify hot.torrent");
            is_over.store(true, Ordering::Relaxed);
            run
        });
        // It changed while it was read, or does not match.
        assert!(matches!(run.code, Some(1 | 3)), "{run:?}");
    }
}

#[test]
fn a_file_that_reads_short_of_its_length_is_named() {
    let sandbox = Sandbox::new();
    sandbox.write("folder/a", "x");
    // A sysfs file reports a length of one page but reads as a few bytes.
    symlink("/sys/class/net/lo/mtu", sandbox.path("folder/short")).unwrap();
    sandbox.run("create folder").fails(1, "folder/short");
    assert_eq!(sandbox.names(), ["folder"]);
}

#[test]
fn an_unreadable_file_is_named() {
    let sandbox = golden();
    sandbox.run("create golden -q").ok();
    fs::set_permissions(sandbox.path("golden/B.bin"), fs::Permissions::from_mode(0o000)).unwrap();
    let run = |line: &str| {
        let mut command = sandbox.command(line.split_whitespace());
        if !rustix::process::geteuid().is_root() {
            return Run::from(command.output().unwrap());
        }
        // Without the capability to override them, permissions apply to root too.
        let mut limited = std::process::Command::new("setpriv");
        limited.arg("--bounding-set=-dac_override,-dac_read_search").arg(command.get_program());
        limited.args(command.get_args()).current_dir(sandbox.path("")).env("XDG_CACHE_HOME", sandbox.cache());
        Run::from(limited.output().unwrap())
    };
    run("create golden -o new.torrent").fails(1, "golden/B.bin: Permission denied");
    run("verify golden.torrent").fails(1, "golden/B.bin: Permission denied");
    assert_eq!(sandbox.names(), ["golden", "golden.torrent", "one"]);
}

#[test]
fn an_output_that_cannot_be_written_leaves_nothing() {
    let sandbox = golden();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -f 0; exec \"$0\" create golden"]).arg(crate::support::bt_fast_path());
    command.env("XDG_CACHE_HOME", sandbox.cache()).current_dir(sandbox.path(""));
    Run::from(command.output().unwrap()).fails(5, "golden.torrent");
    assert_eq!(sandbox.names(), ["golden", "one"]);
}
