//! Older kernels, and containers whose seccomp profile refuses system calls.

use std::{fs, path::Path, process::Command};

use bt_fast::codec::metainfo::{Metainfo, MetainfoLimits};

use crate::loopback::{DEADLINE, Fixture, NAME, PIECE_LEN, assert_fails, failures, own_address, warnings};
use crate::support::{
    bt_fast_path,
    process::{Finished, run_with},
    seccomp::Environment,
};

const NOTE: &str = "using epoll (--io plain), which may be slower: io_uring: ";

/// Runs a command in a sandbox of this environment: only the files of the fixture can be written, the user has no name
/// and no HOME.
fn run_in(environment: Environment, fixture: &Fixture, command: &Command) -> Finished {
    run_with_proc(environment, "--proc", fixture, command)
}

/// [`run_in`] with another kind of mount at `/proc`.
fn run_with_proc(environment: Environment, proc: &str, fixture: &Fixture, command: &Command) -> Finished {
    let filters = environment.filters();
    let mut sandbox = Command::new("bwrap");
    sandbox.args(["--die-with-parent", "--unshare-user", "--uid", "54321", "--gid", "54321", "--clearenv"]);
    sandbox.args(["--setenv", "PATH", "/usr/bin:/bin", "--ro-bind", "/", "/", "--dev", "/dev", proc, "/proc"]);
    sandbox.arg("--bind").arg(fixture.scratch.path()).arg(fixture.scratch.path());
    for descriptor in 3..3 + filters.len() {
        sandbox.args(["--add-seccomp-fd", &descriptor.to_string()]);
    }
    sandbox.arg("--").arg(command.get_program()).args(command.get_args());
    run_with(&sandbox, DEADLINE, filters)
}

/// Runs a shell script in a sandbox of this environment. `bt-fast` is `$BT`.
fn script_in(environment: Environment, fixture: &Fixture, script: &str) -> Finished {
    let [seed, get] = [own_address(), own_address()];
    let script = format!(
        "BT='{}'; cd '{}'; SEED={seed}; GET={get}; set -eu\n{script}",
        bt_fast_path().display(),
        fixture.scratch.path().display()
    );
    run_in(environment, fixture, Command::new("sh").args(["-c", &script]))
}

fn read(fixture: &Fixture, name: &str) -> String {
    fs::read_to_string(fixture.scratch.join(name)).unwrap()
}

/// Asserts that the run printed no warning and no error, and the note about io_uring where there is none.
#[track_caller]
fn assert_note(environment: Environment, stderr: &str) {
    assert!(failures(stderr).is_empty() && warnings(stderr).is_empty(), "{environment:?}: {stderr}");
    let notes: Vec<&str> = stderr.lines().filter(|line| line.contains("io_uring")).collect();
    match environment {
        _ if environment.has_ring() => assert!(notes.is_empty(), "{environment:?}: {stderr}"),
        Environment::NoRing(libc::ENOSYS) | Environment::Linux54WithoutRing => {
            assert!(notes.len() == 1 && notes[0].starts_with(NOTE), "{environment:?}: {stderr}");
            assert!(notes[0].contains("Linux 6.1"), "{environment:?}: {stderr}");
        }
        _ => {
            assert!(notes.len() == 1 && notes[0].starts_with(NOTE), "{environment:?}: {stderr}");
            assert!(notes[0].contains("kernel.io_uring_disabled"), "{environment:?}: {stderr}");
        }
    }
}

#[test]
fn every_command_works_on_old_kernels_and_in_containers() {
    let long = u64::from(20 * PIECE_LEN + 5);
    let fixtures = [
        Fixture::file(long),
        Fixture::files(&[("short", 100), ("folder/long", long), ("folder/deeper/page", 4096), ("empty", 0)]),
    ];
    for environment in Environment::ALL {
        for fixture in &fixtures {
            let finished = script_in(
                environment,
                fixture,
                r#"
                "$BT" create source/content -l 32KiB -o made.torrent 2>create.err
                "$BT" seed made.torrent --data source --listen "$SEED" --verify full --json >seed.out 2>seed.err &
                trap 'kill $!' EXIT
                until grep -q '"seeding"' seed.out; do sleep 0.02; kill -0 $!; done
                "$BT" get made.torrent -o target --peer "$SEED" --listen "$GET" 2>get.err
                trap - EXIT
                kill -TERM $!
                wait $!
                "$BT" verify made.torrent target 2>verify.err
                "#,
            );
            let errors = ["create", "seed", "get", "verify"].map(|name| format!("{name}.err"));
            let shown = || errors.iter().map(|name| read(fixture, name)).collect::<Vec<_>>();
            assert_eq!(finished.code, Some(0), "{environment:?}: {finished:#?} {:#?}", shown());
            fixture.assert_complete(&fixture.scratch.join("target"));
            let made = fs::read(fixture.scratch.join("made.torrent")).unwrap();
            let made = Metainfo::decode(&made, &MetainfoLimits::default()).unwrap();
            assert_eq!(made.info_hash, fixture.metainfo.info_hash, "{environment:?}");
            for name in ["seed.err", "get.err"] {
                assert_note(environment, &read(fixture, name));
            }
            for name in ["create.err", "verify.err"] {
                assert!(failures(&read(fixture, name)).is_empty(), "{environment:?}: {:#?}", shown());
            }
            fs::remove_dir_all(fixture.scratch.join("target")).unwrap();
            fs::remove_file(fixture.scratch.join("made.torrent")).unwrap();
        }
    }
}

#[test]
fn a_ring_that_is_asked_for_and_refused_is_an_error() {
    let fixture = Fixture::file(u64::from(PIECE_LEN));
    let target = fixture.scratch.folder("target");
    for (errno, remedy) in [(libc::EPERM, "kernel.io_uring_disabled"), (libc::ENOSYS, "Linux 6.1")] {
        for mut command in [fixture.seed_command(own_address()), fixture.get_command(&target, &[])] {
            command.args(["--io", "ring"]);
            assert_fails(&run_in(Environment::NoRing(errno), &fixture, &command), 1, remedy);
        }
    }
}

#[test]
fn replaced_kernel_features_are_listed_with_v() {
    let fixture = Fixture::file(u64::from(PIECE_LEN));
    let verify = r#""$BT" verify a.torrent source -v"#;
    let lines = |environment| {
        let finished = script_in(environment, &fixture, verify);
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        ["openat2", "MADV_POPULATE_READ", "clone3"]
            .map(|name| finished.stderr.matches(&format!("without {name}")).count())
    };
    assert_eq!(lines(Environment::Docker), [0, 0, 1]);
    assert_eq!(lines(Environment::NoMemoryFiles), [0, 1, 0]);
    assert_eq!(lines(Environment::OldDocker), [1, 0, 1]);
    assert_eq!(lines(Environment::Linux54), [1, 1, 0]);
    assert_eq!(lines(Environment::Linux510), [0, 1, 0]);
}

/// A symbolic link is refused without `openat2` too.
#[test]
fn old_kernels_follow_no_symbolic_link() {
    let fixture = Fixture::files(&[("folder/file", u64::from(PIECE_LEN))]);
    let script = r#"
        mkdir -p target/content outside
        ln -s ../../outside target/content/folder
        "$BT" get a.torrent -o target --listen "$GET""#;
    let finished = script_in(Environment::Linux54, &fixture, script);
    assert_fails(&finished, 1, "symbolic link");
    assert_eq!(fs::read_dir(fixture.scratch.join("outside")).unwrap().count(), 0);
    assert!(Path::new(&fixture.scratch.join("target").join(NAME)).exists());
}

#[test]
fn lines_about_kernel_features_are_consistent() {
    let fixture = Fixture::file(u64::from(PIECE_LEN));
    let get = r#""$BT" get a.torrent -o source --listen "$GET" -vv"#;
    // Docker's profile answers that `clone3` does not exist.
    for (environment, missing) in [(Environment::Docker, 1), (Environment::NoRing(libc::ENOSYS), 0)] {
        let finished = script_in(environment, &fixture, get);
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        let lines = ["openat2, MADV_POPULATE_READ and clone3 are available", "without clone3", "using epoll"];
        let counts = lines.map(|line| finished.stderr.matches(line).count());
        assert_eq!(counts, [1 - missing, missing, 1], "{finished:#?}");
        assert!(!finished.stderr.contains("all features"), "{finished:#?}");
    }
}

/// `/proc` is an empty folder.
#[test]
fn old_kernels_need_no_proc() {
    let fixture = Fixture::file(u64::from(20 * PIECE_LEN));
    let folder = fixture.scratch.path().to_str().unwrap();
    let bench = format!("bench loopback --size 1M --rounds 1 --no-floor --dir {folder}");
    let verify = format!("verify {folder}/a.torrent {folder}/source");
    let create = format!("create {folder}/source/{NAME} -o {folder}/made.torrent");
    for environment in [Environment::Linux54, Environment::Docker] {
        for line in [&verify, &create, &bench] {
            let mut command = Command::new(bt_fast_path());
            command.args(line.split(' '));
            let finished = run_with_proc(environment, "--tmpfs", &fixture, &command);
            assert_eq!(finished.code, Some(0), "{environment:?}: {line}: {finished:#?}");
        }
        fs::remove_file(fixture.scratch.join("made.torrent")).unwrap();
    }
}

#[test]
fn connections_that_are_never_accepted_are_reported_once() {
    let fixture = Fixture::file(u64::from(PIECE_LEN));
    for (driver, code) in [("plain", 4), ("ring", 0)] {
        let script = format!(
            r#"
            "$BT" seed a.torrent --data source --listen "$SEED" --io {driver} --json >seed.out 2>seed.err &
            trap 'kill $!' EXIT
            until grep -q '"seeding"' seed.out; do sleep 0.02; kill -0 $!; done
            code=0
            "$BT" get a.torrent -o target --peer "$SEED" --listen "$GET" --timeout 3 2>get.err || code=$?
            exit $code
            "#
        );
        let finished = script_in(Environment::NoAccept, &fixture, &script);
        assert_eq!(finished.code, Some(code), "{driver}: {finished:#?} {}", read(&fixture, "get.err"));
        let seed = read(&fixture, "seed.err");
        // A ring accepts connections with an operation that the filter does not see.
        let expected = usize::from(driver == "plain");
        assert_eq!(warnings(&seed).len(), expected, "{driver}: {seed}");
        assert_eq!(seed.matches("new connections wait: accept: Operation not permitted").count(), expected, "{seed}");
        assert_eq!(seed.matches("seccomp profile that allows accept4").count(), expected, "{seed}");
    }
}
