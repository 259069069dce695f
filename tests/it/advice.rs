//! Remedies in error messages: they fit the command, and they work.

#![allow(clippy::disallowed_methods, reason = "tests create links and folders")]

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::sandbox::{Run, Sandbox, content};

/// Creates content whose name needs shell quoting, and its torrent.
fn made() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("my data/it's.bin", content(100_000));
    sandbox.run_args(["create", "my data", "-q", "-o", "the torrent.torrent"]).ok();
    sandbox
}

fn verify(sandbox: &Sandbox) -> Run {
    sandbox.run_args(["verify", "the torrent.torrent"])
}

/// Runs the command that `verify` advises in a shell. There is no peer, so errors about the files come first.
#[track_caller]
fn follow(sandbox: &Sandbox, run: &Run) -> String {
    let (_, advice) = run.stderr.trim().rsplit_once("repair it with bt-fast ").unwrap();
    let script = format!("bt_fast() {{ \"$BIN\" \"$@\"; }}; bt_fast {advice} --timeout 1 --listen 127.0.0.1:0");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]).current_dir(sandbox.path("")).env("BIN", crate::support::bt_fast_path());
    String::from_utf8(shell.output().unwrap().stderr).unwrap()
}

#[test]
fn verify_advises_a_command_that_works() {
    let sandbox = made();
    let right = sandbox.read("my data/it's.bin");
    for (bytes, overwrites) in [
        (vec![b'x'; 100_000], true),
        ([&right[..], b"more"].concat(), true),
        ([&right[..50_000], &[b'x'; 50_000]].concat(), false),
        (right[..60_000].to_vec(), false),
    ] {
        sandbox.write("my data/it's.bin", bytes);
        let run = verify(&sandbox).fails(3, "repair it with bt-fast get 'the torrent.torrent' -o .");
        assert_eq!(run.stderr.trim().ends_with(" --overwrite"), overwrites, "{run:?}");
        let reported = follow(&sandbox, &run);
        assert!(
            reported.contains("no peers") || reported.is_empty() || reported.contains("already complete"),
            "{reported}"
        );
    }
    sandbox.write("my data/it's.bin", [&right[..], b"more"].concat());
    let run = verify(&sandbox).fails(3, "data does not match: .: 1 file has 4 extra bytes: repair it");
    assert!(run.stderr.contains("7 of 7 pieces right"), "{run:?}");
    fs::remove_file(sandbox.path("my data/it's.bin")).unwrap();
    let run = verify(&sandbox).fails(3, "7 of 7 pieces bad, 1 of 1 file wrong");
    assert!(run.stderr.contains("no file was found") && !run.stderr.contains("B/s"), "{run:?}");
}

#[test]
fn verify_names_obstacles() {
    let sandbox = made();
    let path = sandbox.path("my data/it's.bin");
    fs::rename(&path, sandbox.path("kept")).unwrap();
    fs::create_dir(&path).unwrap();
    let run = verify(&sandbox).fails(3, "move ./my data/it's.bin away");
    assert!(run.text().starts_with("not a file my data/it's.bin (a folder)\n"), "{run:?}");
    fs::remove_dir(&path).unwrap();
    symlink("nowhere", &path).unwrap();
    verify(&sandbox).fails(3, "move ./my data/it's.bin away");
    fs::remove_dir_all(sandbox.path("my data")).unwrap();
    sandbox.write("my data", "a file");
    verify(&sandbox).fails(3, "move ./my data away");
    sandbox
        .run_args(["verify", "the torrent.torrent", "/dev/null"])
        .fails(3, "/dev/null: 7 of 7 pieces bad, 1 of 1 file wrong: it is not a folder");
}

#[test]
fn help_and_version_need_no_configuration() {
    let sandbox = Sandbox::new();
    sandbox.write("bad", "what = 1\n");
    for line in ["--help", "magnet --help", "--version", "-h", "bench loopback --help"] {
        for (name, value) in [("BT_FAST_DWON", "1"), ("BT_FAST_CONFIG", "bad"), ("BT_FAST_CONFIG", "/dev/null/none")] {
            let mut command = sandbox.command(line.split(' '));
            let run = Run::from(command.env(name, value).output().unwrap()).ok();
            assert!(!run.stdout.is_empty() && run.stderr.is_empty(), "{line}: {run:?}");
        }
    }
    let run = Run::from(sandbox.command(["show", "x"]).env("BT_FAST_CONFIG", "bad").output().unwrap());
    run.fails(2, "line 1: no command has a flag 'what'");
}

#[test]
fn switches_in_the_environment_are_on_or_off() {
    let sandbox = made();
    let show = |name: &str, value: &str, more: &[&str]| {
        let mut command = sandbox.command(["show", "the torrent.torrent"]);
        Run::from(command.args(more).env(name, value).output().unwrap())
    };
    assert!(show("BT_FAST_JSON", "Yes", &[]).ok().text().starts_with('{'));
    for off in ["off", "0", ""] {
        assert!(show("BT_FAST_JSON", off, &[]).ok().text().starts_with("name"));
    }
    show("BT_FAST_JSON", "2", &[]).fails(2, "'2' for '--json': BT_FAST_JSON in the environment: give on or off");
    // A flag that is off conflicts with no other flag.
    show("BT_FAST_QUIET", "off", &["-v"]).ok();
    show("BT_FAST_VERBOSE", "true", &[]).ok();
    show("BT_FAST_VERBOSE", "loud", &[]).fails(2, "BT_FAST_VERBOSE in the environment");
}

#[test]
fn errors_name_the_mistake_of_the_user() {
    let sandbox = Sandbox::new();
    sandbox.write("big.iso", content(1000));
    sandbox.write("folder/file", "x");
    symlink("nowhere", sandbox.path("folder/dead")).unwrap();
    symlink("nowhere", sandbox.path("dead")).unwrap();
    for (code, line, part) in [
        (1, "create /dev/null", "it is a device: give a file or folder"),
        (1, "seed /dev/null", "it is a device: give a file or folder"),
        (
            1,
            "create folder",
            "folder/dead: it is a broken symbolic link: remove it, or exclude it with create -g '!dead'",
        ),
        (1, "create dead", "dead: it is a broken symbolic link"),
        (1, "seed dead", "dead: it is a broken symbolic link"),
        (1, "show dead", "dead: it is a broken symbolic link"),
        (2, "get x --peer foo", "'foo' has no port: give ADDR:PORT, for example 192.0.2.7:6881"),
        (2, "get x --down zz", "'zz' is not a rate"),
        (2, "get x --dht", "unexpected argument '--dht' found: see bt-fast get --help"),
        (2, "get x --overwite", "argument '--overwite': did you mean '--overwrite'? see bt-fast get --help"),
        (2, "gett x", "unrecognized subcommand 'gett': did you mean 'get'? see bt-fast --help"),
        (2, "get x --seed 5", "get: '5' is not a torrent: for a value write --seed=5"),
        (2, "get --seed 2,12h x", "for a value write --seed=2,12h"),
        (2, "get x --timeout soon", "--timeout: 'soon' is not a time"),
        (2, "get x --arena 1K", "--arena: 1K: give at least 64 KiB"),
        (2, "create big.iso -l 17K", "-l: '17K': give a power of two"),
        (2, "create big.iso -a ftp://x/", "give one with http, https or udp and a host"),
        (2, "seed", "--watch"),
        (1, "seed none.iso", "no such file or folder: none.iso: give a .torrent, or content to serve"),
        (2, "seed big.iso --data folder", "--data: "),
        (1, "get 192.0.2.7:6880/t/x.torrent", "begin it with http:// or https://"),
        (1, "get localhost:6880/t/x.torrent", "begin it with http:// or https://"),
        (1, "get 00000000000000000000000000000000000000000", "40 hexadecimal digits"),
    ] {
        let run = sandbox.run(line).fails(code, part);
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    }
    let blank = ["get", "0000000000000000000 000000000000000000000"];
    sandbox.run_args(blank).fails(1, "without blanks");
    let line = "seed big.iso --web off --bind-device nodev --listen 127.0.0.1:0";
    let run = sandbox.run(line).fails(1, "the interface 'nodev'");
    assert!(run.stderr.contains("--bind-device") && !run.stderr.contains("--listen"), "{run:?}");
}

#[test]
fn usage_errors_are_json_objects() {
    let sandbox = Sandbox::new();
    for line in ["get x --json --what", "--json get", "show x --json --config /none"] {
        let json = sandbox.run(line).fails(2, "").json();
        assert_eq!((&json[0]["event"], &json[0]["exit"]), (&"failed".into(), &2.into()), "{line}");
    }
    assert!(sandbox.run("get -- --json --what").stdout.is_empty());
}

#[test]
fn a_dry_run_needs_no_free_output() {
    let sandbox = Sandbox::new();
    sandbox.write("big.iso", content(1000));
    sandbox.write("big.iso.torrent", "old");
    sandbox.run("create big.iso --dry-run").ok();
    sandbox.run("create big.iso").fails(1, "output exists");
    assert_eq!(sandbox.read("big.iso.torrent"), b"old");
}

#[test]
fn paths_not_served_are_reported_as_events() {
    let sandbox = Sandbox::new();
    sandbox.write("big.iso", content(1000));
    let line = "seed --json big.iso none.torrent --stop-time 1 --listen 127.0.0.1:0 --web 127.0.0.1:0 --admin off";
    let json = sandbox.run(line).ok().json();
    let event = json.iter().find(|event| event["event"] == "not_served").unwrap_or_else(|| panic!("{json:?}"));
    assert_eq!((&event["path"], &event["exit"]), (&"none.torrent".into(), &1.into()));
    assert!(event["message"].as_str().unwrap().contains("No such file"), "{event}");
}
