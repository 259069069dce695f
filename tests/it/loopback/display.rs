//! Output for people: the progress line, the log, and the check of free space.

use std::{fs, net::SocketAddr, path::Path, process::Command, thread::sleep, time::Duration};

use serde_json::Value;

use crate::loopback::{
    DEADLINE, Fixture, NAME, Seed, assert_fails, event, failures, faults::environment::with_mounts, own_address,
};
use crate::support::{
    bt_fast,
    process::{Finished, run, wait_until},
};

const LEN: u64 = 3 << 20;

/// Returns a `get` with text output that takes about three seconds.
fn slow_get(fixture: &Fixture, target: &Path, peer: SocketAddr) -> Command {
    let mut command = bt_fast();
    command.arg("get").arg(&fixture.torrent).arg("-o").arg(target).args(["--down", "1M"]);
    command.args(["--listen", &own_address().to_string(), "--peer", &peer.to_string()]);
    command
}

/// Runs a command on a terminal of this width. Standard output has what the terminal gets.
fn run_on_terminal(command: &Command, columns: usize, term: &str) -> Finished {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| format!("'{}'", word.display())).collect();
    let mut script = Command::new("script");
    script.args(["-qefc", &format!("stty cols {columns} rows 24; exec {}", words.join(" ")), "/dev/null"]);
    run(script.env("TERM", term).env("SHELL", "/bin/sh"), DEADLINE)
}

#[test]
fn the_progress_line_fits_the_terminal() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    for columns in [20, 40, 80, 200] {
        let target = fixture.scratch.folder(&format!("target {columns}"));
        let finished = run_on_terminal(&slow_get(&fixture, &target, seed.address), columns, "xterm");
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        let output = finished.stdout.replace("\x1b[2K", "");
        let drawn: Vec<&str> =
            output.split(['\r', '\n']).map(str::trim_end).filter(|line| line.contains(" % ")).collect();
        assert!(drawn.len() > 2, "{columns}: {finished:#?}");
        assert!(drawn.iter().all(|line| line.chars().count() < columns), "{columns}: {drawn:#?}");
        let has = |part: &str| drawn.iter().any(|line| line.contains(part));
        assert!(has("MiB/s"), "{columns}: {drawn:#?}");
        assert_eq!(["ETA ", "1/1 peer"].map(has), [columns >= 40; 2], "{columns}: {drawn:#?}");
        assert_eq!(
            (has(NAME), has("/3.00 MiB"), has("━")),
            (columns >= 80, columns >= 80, columns == 200),
            "{drawn:#?}"
        );
        assert!(!output.rsplit_once("got ").unwrap().1.contains(" % "), "nothing is drawn below the result: {output}");
        // The line was never wrapped: only the final message ends a line.
        assert_eq!(finished.stdout.matches('\n').count(), 1, "{columns}: {finished:#?}");
    }
}

#[test]
fn without_a_terminal_progress_is_a_line_in_each_interval() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let lines = |flags: &[&str], term: Option<&str>| {
        let target = fixture.scratch.folder(&format!("target {}", fastrand::u32(..)));
        let mut command = slow_get(&fixture, &target, seed.address);
        command.args(flags);
        let finished = match term {
            Some(term) => run_on_terminal(&command, 80, term),
            None => run(command.env("TERM", "xterm"), DEADLINE),
        };
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        let output = if term.is_some() { finished.stdout } else { finished.stderr };
        assert!(!output.contains('\x1b'), "{output}");
        output.lines().filter(|line| line.starts_with("downloading ")).map(str::to_owned).collect::<Vec<_>>()
    };
    for term in [None, Some("dumb"), Some("")] {
        let lines = lines(&["--progress-interval", "500ms"], term);
        assert!((2..=20).contains(&lines.len()), "{term:?}: {lines:?}");
        for part in ["downloading content: ", " %, ", " of 3 MiB, ", "iB/s, ETA ", ", 1/1 peer, up "] {
            assert!(lines.iter().all(|line| line.contains(part)), "{term:?}: {lines:?}");
        }
    }
    for flags in [&["--progress-interval", "0"][..], &["-q", "--progress-interval", "500ms"], &[]] {
        assert_eq!(lines(flags, None), [""; 0], "{flags:?}");
    }
}

#[test]
fn records_have_their_interval_and_count_known_peers() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let target = fixture.scratch.folder("target");
    let mut command = slow_get(&fixture, &target, seed.address);
    // No peer listens at this address.
    command.args(["--json", "--json-interval", "500ms", "--peer", &own_address().to_string()]);
    let finished = run(&command, DEADLINE);
    assert!(finished.code == Some(0) && finished.stderr.lines().count() == 1, "only the result: {finished:#?}");
    let records = finished.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let progress: Vec<Value> = records.filter(|record| record["event"] == "progress").collect();
    let most = finished.took.as_millis() / 500;
    assert!(progress.len() >= 2 && progress.len() as u128 <= most, "{most}: {finished:#?}");
    assert!(progress.iter().all(|record| record["known_peers"] == 2), "{finished:#?}");
    let percent = |record: &Value| record["percent"].as_f64().unwrap();
    assert!(progress.is_sorted_by_key(percent) && percent(&progress[0]) > 0.0, "{finished:#?}");
    let refused = run(bt_fast().args(["get", "x", "--json-interval", "10ms"]), DEADLINE);
    assert_fails(&refused, 2, "give at least 50ms");
}

#[test]
fn a_download_that_does_not_fit_writes_nothing() {
    let fixture = Fixture::file(64 << 20);
    let script = r#"mount -t tmpfs -o size=40m none "$TARGET"; get; code=$?; ls "$TARGET"
        truncate -s 64m "$TARGET/content"; get; du -k "$TARGET/content"; exit $code"#;
    let finished = with_mounts(&fixture, None, script);
    assert_eq!(finished.code, Some(5), "{finished:#?}");
    let place = fixture.scratch.join("target");
    // The second download finds a sparse file, which takes no space yet.
    let reported = failures(&finished.stderr);
    assert_eq!(reported.len(), 2, "{finished:#?}");
    for line in reported {
        let place = place.display();
        assert!(line.starts_with(&format!("bt-fast: not enough space: {place}: 64 MiB are needed")), "{line}");
        assert!(line.contains(" and 40.00 MiB are free: "), "the lock file takes a page: {line}");
        assert!(line.ends_with(": free some space or choose another folder with -o"), "{line}");
    }
    assert_eq!(event(&finished.stdout, "failed").unwrap()["exit"], 5);
    let other: Vec<&str> = finished.stdout.lines().filter(|line| !line.starts_with('{')).collect();
    assert!(matches!(other[..], [du] if du.starts_with("0\t")), "no file was made and none written: {other:?}");
}

#[test]
fn present_content_and_unselected_files_need_no_space() {
    let fixture = Fixture::file(8 << 20);
    let seed = fixture.seed();
    let script = r#"mount -t tmpfs -o size=10m none "$TARGET"
        head -c 6M "$SOURCE" >"$TARGET/content"; get && cmp "$SOURCE" "$TARGET/content" && echo equal"#;
    let finished = with_mounts(&fixture, Some(&seed), script);
    assert!(finished.stdout.ends_with("equal\n"), "{finished:#?}");

    let fixture = Fixture::files(&[("large", 8 << 20), ("small", 1 << 20)]);
    let seed = fixture.seed();
    let script = r#"mount -t tmpfs -o size=4m none "$TARGET"
        get --select small && cmp "$SOURCE/small" "$TARGET/content/small" && echo equal; get"#;
    let finished = with_mounts(&fixture, Some(&seed), script);
    assert!(finished.stdout.contains("equal\n"), "{finished:#?}");
    assert_fails(&finished, 5, ": 8 MiB are needed and ");
}

#[test]
fn replaced_files_free_their_space() {
    let fixture = Fixture::file(6 << 20);
    let seed = fixture.seed();
    let script = r#"mount -t tmpfs -o size=10m none "$TARGET"; head -c 8M /dev/urandom >"$TARGET/content"
        get; get --overwrite && cmp "$SOURCE" "$TARGET/content" && echo equal"#;
    let finished = with_mounts(&fixture, Some(&seed), script);
    assert!(finished.stdout.ends_with("equal\n"), "{finished:#?}");
    assert!(failures(&finished.stderr)[..].iter().all(|line| line.contains("file exists")), "{finished:#?}");
}

#[test]
fn the_log_has_every_message_with_its_time() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let log = fixture.scratch.join("log");
    let get = |target: &str| {
        let mut command = bt_fast();
        command.arg("get").arg(&fixture.torrent).arg("-o").arg(fixture.scratch.join(target)).arg("--log").arg(&log);
        command.args(["-q", "--listen", &own_address().to_string(), "--peer", &seed.address.to_string()]);
        run(&command, DEADLINE)
    };
    let finished = get("target");
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:#?}");
    fs::write(fixture.scratch.join("\x1b[31m"), b"in the way").unwrap();
    assert_eq!(get("\x1b[31m").code, Some(1));
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.ends_with('\n') && text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
    let is_dated = |line: &str| line.starts_with("20") && line.as_bytes().get(10) == Some(&b'T');
    assert!(text.lines().all(is_dated), "{text}");
    let has = |level: &str, part: &str| text.lines().any(|line| line.contains(level) && line.contains(part));
    assert!(has(" INFO ", "hash kernel: ") && has(" INFO ", "got content: 3 MiB in "), "{text}");
    assert!(has(" ERROR ", "bt-fast: ") && has(" ERROR ", "\\x1b[31m"), "{text}");

    let mut command = bt_fast();
    command.args(["verify"]).arg(&fixture.torrent).arg("--log").arg(fixture.scratch.join("none/log"));
    assert_fails(&run(&command, DEADLINE), 1, "/none/log: No such file or directory");
}

#[test]
fn a_log_that_was_moved_or_truncated_continues() {
    let fixture = Fixture::file(LEN);
    let (log, old) = (fixture.scratch.join("log"), fixture.scratch.join("log.1"));
    let address = own_address();
    let mut command = fixture.seed_command(address);
    command.arg("--log").arg(&log);
    let seed = Seed::start(&command, address, &fixture.scratch.join("seed.log"));
    let has = |path: &Path, part: &str| fs::read_to_string(path).is_ok_and(|text| text.contains(part));
    assert!(wait_until(DEADLINE, || has(&log, "seeding content")));
    fs::rename(&log, &old).unwrap();
    fs::File::create(&old).unwrap();
    sleep(Duration::from_millis(1100));
    seed.stop();
    assert!(has(&log, "sent 0 B") && !has(&old, "sent "), "the last message is in the new file");
}

#[test]
fn misspelt_settings_are_refused_with_the_nearest_word() {
    let refused = run(bt_fast().args(["show", "x"]).env("BT_FAST_UPP", "1"), DEADLINE);
    assert_fails(&refused, 2, "bad environment: BT_FAST_UPP: no flag has this variable: did you mean BT_FAST_UP?");
    let fixture = Fixture::file(1);
    let config = fixture.scratch.join("config");
    fs::write(&config, "[seeed]\nup = 1M\n").unwrap();
    let refused = run(bt_fast().args(["show", "x", "--config"]).arg(&config), DEADLINE);
    assert_fails(&refused, 2, "/config: line 1: there is no command 'seeed': did you mean [seed]?");
}
