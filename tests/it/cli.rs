//! The contract of the command line: streams, exit codes, one-line errors, `show`.

#![allow(clippy::disallowed_methods, reason = "deadlines are real")]

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::sandbox::{Run, Sandbox, content};

fn made() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("tree/file", content(70_000));
    sandbox.write("tree/other", "x");
    let options = "-a http://t/announce -w http://w/x -c words -s SRC -p";
    sandbox.run(&format!("create tree -q {options}")).ok();
    sandbox
}

#[test]
fn help_and_version_are_results() {
    let sandbox = Sandbox::new();
    for line in [
        "--help",
        "create --help",
        "get --help",
        "verify --help",
        "bench loopback --help",
        "bench floor --help",
        "--version",
    ] {
        let run = sandbox.run(line).ok();
        assert!(!run.stdout.is_empty() && run.stderr.is_empty(), "{line}");
    }
    let bare = sandbox.run_args([""; 0]);
    assert_eq!(bare.code, Some(2));
    assert!(bare.stdout.is_empty() && bare.stderr.contains("Usage:"));
}

#[test]
fn bad_usage_is_one_line_and_code_2() {
    let sandbox = Sandbox::new();
    for (line, part) in [
        ("creat x", "create"),
        ("create", "<PATH>"),
        ("create x --what", "--what"),
        ("create x -l 3M", "power of two"),
        ("create -", "-n"),
        ("create - -n x -g *.iso", "-g"),
        ("create - -n x --dry-run", "--dry-run"),
        ("verify x -q -v", "--quiet"),
        ("get x --timeout soon", "--timeout"),
        ("bench swarm --simulate 0", "--simulate"),
        ("bench loopback --peers 0", "--peers"),
        ("bench loopback --peers 1000", "--peers"),
        ("bench loopback --rounds 0", "--rounds"),
        ("bench loopback --size 0", "--size"),
        ("bench loopback --write maybe", "--write"),
        ("bench loopback --ram --dir x", "--dir"),
        ("bench floor --size 0", "--size"),
        ("bench floor --size much", "--size"),
        ("bench floor -l 3M", "power of two"),
        ("get magnet:?xt=urn:btih:00", "info-hash is malformed"),
        ("get magnet:?xt=urn:btih:0000000000000000000000000000000000000000", "--peer"),
        ("get 0000000000000000000000000000000000000000", "--peer"),
        ("get ftp://t.example/x.torrent", "http"),
        ("create x --hash-kernel md5", "avx512x16"),
        ("track", "--allow"),
        ("track --open --allow x", "--allow"),
        ("track --open --listen here", "--listen"),
        ("track --open --threads 0", "--threads"),
        ("seed x.torrent --web here", "--web"),
        ("seed x.torrent --web off --web-seed", "--web-seed"),
        ("seed x.torrent --public-url here", "public URL"),
        ("seed x.torrent --public-url http://x/?y", "--public-url"),
        ("seed x.torrent --stop-ratio 0", "--stop-ratio"),
        ("seed x.torrent --stop-copies 0", "--stop-copies"),
        ("seed x.torrent --stop-time soon", "--stop-time"),
        ("seed x.torrent --deny-peer 10.0.0.0/33", "--deny-peer"),
        ("seed x.torrent --dscp 64", "--dscp"),
        ("seed x.torrent --bind-device a/very/long/name", "--bind-device"),
    ] {
        let run = sandbox.run(line).fails(2, part);
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
        assert!(run.stdout.is_empty(), "{run:?}");
    }
}

#[test]
fn other_files_are_recognized_and_a_remedy_named() {
    let sandbox = Sandbox::new();
    for (bytes, part) in [
        (&b"\x1f\x8b\x08\0\0\0\0\0"[..], "gzip -d"),
        (b"\x28\xb5\x2f\xfd\0\0", "zstd -d"),
        (b"\xfd7zXZ\0\0\x04", "xz -d"),
        (b"\n<!DOCTYPE html><html>Log in</html>", "web page"),
        (b"magnet:?xt=urn:btih:0\n", "bt-fast get"),
        (b"https://t.example/x.torrent\n", "bt-fast get"),
        (b"", "empty"),
    ] {
        sandbox.write("x.torrent", bytes);
        for command in ["show x.torrent", "get x.torrent", "verify x.torrent x"] {
            let run = sandbox.run(command).fails(1, part);
            assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
        }
    }
    sandbox.write("folder/x", b"x");
    sandbox.run("show folder").fails(1, "create");
    let long = "x".repeat(255);
    sandbox.write(&long, b"x");
    sandbox.run(&format!("create {long}")).fails(2, "-o");
    sandbox.run(&format!("create {long} -o x.torrent -f")).ok();
}

/// Kernels that this processor lacks are refused with a list of those it has; all others agree.
#[test]
fn every_hash_kernel_makes_the_same_torrent() {
    let sandbox = Sandbox::new();
    sandbox.write("tree/a", content(1_000_000));
    sandbox.write("tree/b", content(77_777));
    let torrent = |kernel: &str| {
        let run = sandbox.run(&format!("create tree -o - --no-date --hash-kernel {kernel}"));
        (run.code == Some(0)).then(|| run.ok().stdout)
    };
    let wanted = torrent("portable").unwrap();
    fs::write(sandbox.path("tree.torrent"), &wanted).unwrap();
    assert_eq!(torrent("auto"), Some(wanted.clone()));
    for kernel in ["avx512x16", "avx512x8", "avx2x8", "shani", "armsha", "neonx4"] {
        if let Some(torrent) = torrent(kernel) {
            assert_eq!(torrent, wanted, "{kernel}");
            let run = sandbox.run(&format!("--hash-kernel {kernel} verify tree.torrent -v")).ok();
            assert_eq!(run.stderr.matches("hash kernel: ").count(), 1, "{run:?}");
        } else {
            eprintln!("not tested, this processor has no {kernel}");
            let run = sandbox.run(&format!("create tree --hash-kernel {kernel}")).fails(2, "portable");
            assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
        }
    }
}

#[test]
fn show_prints_a_table_or_one_object() {
    let sandbox = made();
    let text = sandbox.run("show tree.torrent").ok();
    for part in ["info-hash", "http://t/announce", "http://w/x", "words", "SRC", "yes", "tree/other", "70001 bytes"] {
        assert!(text.text().contains(part), "{part}: {text:?}");
    }
    let json = sandbox.run("--json show tree.torrent").ok().json();
    let [shown] = &json[..] else { panic!("{json:?}") };
    assert_eq!(shown["name"], "tree");
    assert_eq!(shown["info_hash"].as_str().unwrap().len(), 40);
    assert_eq!(shown["piece_length"], 16384);
    assert_eq!(shown["piece_count"], 5);
    assert_eq!(shown["total_length"], 70_001);
    assert_eq!(shown["files"][1]["path"], "tree/other");
    assert_eq!(shown["files"][1]["length"], 1);
    assert_eq!(shown["private"], true);
    assert_eq!(shown["trackers"][0][0], "http://t/announce");
    assert_eq!(shown["web_seeds"][0], "http://w/x");
    assert_eq!(shown["comment"], "words");
    assert_eq!(shown["source"], "SRC");
    assert!(shown["created_by"].as_str().unwrap().starts_with("bt-fast "));
    assert!(shown["creation_date"].as_i64().unwrap() > 1_700_000_000);
}

#[test]
fn foreign_names_never_control_the_terminal() {
    let sandbox = Sandbox::new();
    let name = std::ffi::OsStr::from_bytes(b"\x1b[31m\xff\n");
    fs::create_dir(sandbox.path("tree")).unwrap();
    fs::write(sandbox.path("tree").join(name), b"x").unwrap();
    let created = sandbox.run("create tree").ok();
    assert!(created.stderr.contains("not UTF-8"), "{created:?}");
    for line in ["show tree.torrent", "show tree.torrent --json", "verify tree.torrent"] {
        let run = sandbox.run(line).ok();
        assert!(!run.text().contains('\x1b') && !run.stderr.contains('\x1b'), "{run:?}");
    }
    let shown = sandbox.run("show tree.torrent --json").json();
    assert_eq!(shown[0]["files"][0]["path"], "tree/\\x1b[31m\\xff\\x0a");
    let missing = sandbox.run_args([std::ffi::OsStr::new("show"), name]);
    assert!(missing.fails(1, "\\x1b").stderr.lines().count() == 1);
}

/// Files and other entries in place of a `.torrent` (row M10 of the torture list).
#[test]
fn files_that_are_no_torrents_are_refused_at_once() {
    let sandbox = Sandbox::new();
    let fifo = sandbox.path("fifo.torrent");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    sandbox.write("empty.torrent", "");
    sandbox.write("text.torrent", "hello");
    sandbox.write("deep.torrent", [b'l'].repeat(1 << 20));
    fs::create_dir(sandbox.path("folder.torrent")).unwrap();
    fs::File::create(sandbox.path("long.torrent")).unwrap().set_len(1 << 40).unwrap();
    for command in ["show", "verify"] {
        for (path, part) in [
            ("fifo.torrent", "FIFO"),
            ("/dev/zero", "device"),
            ("empty.torrent", "empty"),
            ("text.torrent", "text.torrent"),
            ("deep.torrent", "deep.torrent"),
            ("folder.torrent", "folder"),
            ("long.torrent", "64 MiB"),
            ("none.torrent", "No such file"),
        ] {
            let started = Instant::now();
            let run = sandbox.run(&format!("{command} {path}")).fails(1, part);
            assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
            assert!(started.elapsed() < Duration::from_secs(2), "{path}");
        }
    }
}

#[test]
fn failures_are_json_objects() {
    let sandbox = Sandbox::new();
    let json = sandbox.run("show none.torrent --json").fails(1, "none.torrent").json();
    assert_eq!(json[0]["event"], "failed");
    assert_eq!(json[0]["exit"], 1);
    assert!(json[0]["message"].as_str().unwrap().contains("none.torrent"));
}

#[test]
fn quiet_prints_only_errors() {
    let sandbox = made();
    assert_eq!(sandbox.run("verify -q tree.torrent").ok().stderr, "");
    fs::remove_file(sandbox.path("tree/other")).unwrap();
    let run = sandbox.run("verify -q tree.torrent").fails(3, "does not match");
    assert_eq!(run.stderr.lines().count(), 1);
}

#[test]
fn verify_tells_the_content_from_its_folder() {
    let sandbox = made();
    for data in ["tree", "tree/../tree"] {
        sandbox
            .run(&format!("verify tree.torrent {data}"))
            .fails(3, "it is the content itself: give the folder that holds it");
    }
    sandbox.write("other/tree/unrelated", "x");
    sandbox.run("verify tree.torrent other/tree").fails(3, "repair it with bt-fast get");
}

#[test]
fn a_raised_limit_allows_more_pieces() {
    let sandbox = made();
    sandbox.run("show tree.torrent --max-pieces 4").fails(1, "--max-pieces");
    sandbox.run("show tree.torrent --max-pieces 5").ok();
}

#[test]
fn closed_stdout_never_panics_and_full_stdout_is_an_error() {
    let sandbox = made();
    let run = |line: &str, stdout: Stdio| {
        let child = sandbox.command(line.split_whitespace()).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        Run::from(child.wait_with_output().unwrap())
    };
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    run("show tree.torrent", closed()).ok();
    run("verify tree.torrent --json", closed()).ok();
    run("create tree -o -", closed()).fails(1, "standard output");
    let full = || Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    run("show tree.torrent", full()).fails(5, "standard output");
    run("create tree -o -", full()).fails(5, "standard output");
}

#[test]
fn a_log_file_that_cannot_be_written_is_reported_once() {
    let sandbox = made();
    let run = sandbox.run("verify tree.torrent -vvv --log /dev/full").ok();
    assert_eq!(run.stderr.matches("can't write the log: /dev/full").count(), 1, "{run:?}");
    rustix::fs::mknodat(rustix::fs::CWD, sandbox.path("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    sandbox.run("verify tree.torrent --log fifo").fails(1, "can't open the log: fifo");
}

#[test]
fn an_unwritable_log_does_not_end_the_command() {
    let sandbox = made();
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for stderr in [Stdio::from(closed), Stdio::from(full)] {
        let mut command = sandbox.command(["verify", "tree.torrent", "-vvv"]);
        let status = command.stdout(Stdio::null()).stderr(stderr).status().unwrap();
        assert_eq!(status.code(), Some(0));
    }
}
