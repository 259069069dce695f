//! The sources of `get` and `show`: several torrents in one session, standard input, links, torrents without peers, and
//! the end of `--seed`.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::Duration,
};

use serde_json::Value;

use crate::loopback::{
    DEADLINE, Fixture, NAME, STOP_DEADLINE, Seed, assert_fails, event, failures, own_address, own_ip,
};
use crate::support::{
    bt_fast,
    content::{difference, write_random},
    http_server::{Answer, HttpServer},
    process::{Running, run, wait_until},
    scratch::Scratch,
};

const LEN: u64 = 500_000;

/// Some torrents of a file each, and one seed for all but the last.
struct Several {
    scratch: Scratch,
    torrents: Vec<PathBuf>,
    seed: Seed,
}

impl Several {
    fn new(names: &[&str]) -> Self {
        let scratch = Scratch::new();
        let torrent_of = |name: &&str| {
            let (file, torrent) = (scratch.join(name), scratch.join(&format!("{name}.torrent")));
            write_random(&file, LEN, fastrand::u64(..));
            run(bt_fast().arg("create").arg(file).arg("-o").arg(&torrent), DEADLINE).success();
            torrent
        };
        let torrents: Vec<PathBuf> = names.iter().map(torrent_of).collect();
        let address = own_address();
        let mut command = bt_fast();
        command.args(["seed", "--json"]).args(&torrents[..names.len() - 1]);
        let seed = Seed::start(command.args(["--listen", &address.to_string()]), address, &scratch.join("seed.log"));
        Self { scratch, torrents, seed }
    }

    fn link(&self, index: usize) -> String {
        let mut command = bt_fast();
        command.arg("magnet").arg(&self.torrents[index]).args(["--peer", &self.seed.address.to_string()]);
        run(&command, DEADLINE).success().trim_end().to_owned()
    }

    /// Returns a `get` into the folder `target` from the seed, without its sources.
    fn get(&self) -> Command {
        get_from(self.seed.address, &self.scratch.join("target"))
    }

    #[track_caller]
    fn assert_complete(&self, names: &[&str]) {
        for name in names {
            let found = difference(&self.scratch.join(name), &self.scratch.join("target").join(name), true);
            assert_eq!(found, None, "{name}");
        }
    }
}

fn get_from(peer: SocketAddr, target: &Path) -> Command {
    let mut command = bt_fast();
    command.args(["get", "--json", "--listen", &own_address().to_string(), "--peer", &peer.to_string()]);
    command.arg("-o").arg(target);
    command
}

/// Returns the command with the file as standard input.
fn with_stdin(command: &Command, file: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "file=$1; shift; exec \"$@\" < \"$file\"", "sh"]).arg(file);
    shell.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(key, value),
            None => shell.env_remove(key),
        };
    }
    shell
}

fn records(output: &str, name: &str) -> Vec<Value> {
    let records = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.filter(|record| record["event"] == name).collect()
}

#[test]
fn a_file_a_url_and_a_link_share_a_session() {
    let several = Several::new(&["a", "b", "c", "unused"]);
    let torrent = fs::read(&several.torrents[1]).unwrap();
    let server = HttpServer::start(own_ip(), move |_| Answer::ok(torrent.clone()));
    let hooks = several.scratch.join("hooks");
    let mut command = several.get();
    command.arg(&several.torrents[0]).arg(server.url("/b.torrent")).arg(several.link(2)).arg(several.link(0));
    command.arg("--on-complete").arg(format!("echo \"$BT_FAST_NAME\" >> {}", hooks.display()));
    let finished = run(&command, DEADLINE);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    several.assert_complete(&["a", "b", "c"]);
    assert!(finished.stderr.contains("given more than once and is downloaded once"), "{finished:#?}");
    assert!(finished.stderr.trim_end().ends_with("3 of 3 complete"), "{finished:#?}");
    let mut names: Vec<String> =
        records(&finished.stdout, "complete").iter().map(|record| record["name"].to_string()).collect();
    names.sort();
    assert_eq!(names, ["\"a\"", "\"b\"", "\"c\""]);
    let mut hooked: Vec<String> = fs::read_to_string(hooks).unwrap().lines().map(str::to_owned).collect();
    hooked.sort();
    assert_eq!(hooked, ["a", "b", "c"]);
    assert_eq!(several.seed.stop()["uploaded"], 3 * LEN);
}

/// A link without peers neither takes its torrent from a URL nor holds up the end, whether its fetch fails before or is
/// still under way.
#[test]
fn a_dead_link_leaves_its_torrent_to_a_url() {
    let fixture = Fixture::file(LEN);
    let torrent = fs::read(&fixture.torrent).unwrap();
    let link = format!("magnet:?xt=urn:btih:{}", fixture.metainfo.info_hash);
    for (wait, flags) in [(Duration::ZERO, &[][..]), (Duration::from_secs(3), &["--timeout", "1"])] {
        let torrent = torrent.clone();
        let server = HttpServer::start(own_ip(), move |_| {
            sleep(wait);
            Answer::ok(torrent.clone())
        });
        // No peer listens at this address. The content is there already.
        let mut command = get_from(own_address(), &fixture.source);
        let finished = run(command.arg(&link).arg(server.url("/a.torrent")).args(flags), DEADLINE);
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        assert!(finished.stderr.contains("given more than once and is downloaded once"), "{finished:#?}");
        assert!(finished.stderr.trim_end().ends_with("1 of 1 complete"), "{finished:#?}");
        assert_eq!(records(&finished.stdout, "complete").len(), 1, "{finished:#?}");
    }
}

#[test]
fn a_failed_hook_leaves_its_download_complete() {
    let several = Several::new(&["a", "b", "unused"]);
    let mut command = several.get();
    command.args(&several.torrents[..2]).args(["--on-complete", "test $BT_FAST_NAME != a"]);
    let finished = run(&command, DEADLINE);
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    several.assert_complete(&["a", "b"]);
    assert_eq!(
        failures(&finished.stderr),
        [
            "bt-fast: --on-complete: a: the command ended with exit status 1",
            "bt-fast: 2 of 2 complete, but --on-complete failed for 1"
        ],
        "{finished:#?}"
    );
}

#[test]
fn failed_torrents_do_not_end_the_others() {
    let several = Several::new(&["a", "b", "orphan"]);
    let server = HttpServer::start(own_ip(), |_| Answer { status: "404 Not Found", ..Answer::ok("") });
    let mut command = several.get();
    command.args(&several.torrents).arg(several.scratch.join("missing.torrent")).arg(server.url("/x.torrent"));
    let finished = run(command.args(["--timeout", "2"]), DEADLINE);
    assert_eq!(finished.code, Some(1), "a failure precedes the lack of peers: {finished:#?}");
    several.assert_complete(&["a", "b"]);
    let lines = failures(&finished.stderr);
    for part in ["missing.torrent", "/x.torrent", "orphan.torrent: no peers"] {
        assert_eq!(lines.iter().filter(|line| line.contains(part)).count(), 1, "{part}: {finished:#?}");
    }
    assert_eq!((lines.len(), lines.last().copied()), (4, Some("bt-fast: 2 of 5 complete")), "{finished:#?}");
    let mut exits: Vec<u64> =
        records(&finished.stdout, "not_downloaded").iter().filter_map(|record| record["exit"].as_u64()).collect();
    exits.sort_unstable();
    assert_eq!(exits, [1, 1, 4]);
    // Only the orphan fails.
    let finished = run(several.get().args(&several.torrents).args(["--timeout", "1"]), DEADLINE);
    assert_eq!(finished.code, Some(4), "{finished:#?}");
    assert!(finished.stderr.contains("a is already complete"), "{finished:#?}");
}

#[test]
fn an_interrupt_reports_each_incomplete_torrent() {
    let several = Several::new(&["a", "orphan"]);
    let command = {
        let mut command = several.get();
        command.args(&several.torrents).arg(format!("magnet:?xt=urn:btih:{}", "ab".repeat(20)));
        command
    };
    let mut getter = Running::start("get", &command, &several.scratch.join("get.log"));
    let is_complete = || event(&getter.output(), "complete").is_some();
    assert!(wait_until(DEADLINE, is_complete), "{}", getter.log_tail());
    getter.signal(rustix::process::Signal::INT);
    let status = getter.wait(STOP_DEADLINE).expect("it ends");
    assert_eq!(status.code(), Some(130), "{}", getter.log_tail());
    let output = getter.output();
    let lines = failures(&output);
    assert!(lines[0].contains("interrupted: orphan: 0 B of"), "{output}");
    assert_eq!(lines[1..], ["bt-fast: interrupted: 1 of 3 complete; run the same command to resume"]);
    several.assert_complete(&["a"]);
}

#[test]
fn torrents_that_would_share_a_path_are_refused() {
    let (one, two) = (Fixture::file(LEN), Fixture::file(LEN));
    let target = one.scratch.join("target");
    let finished = run(get_from(own_address(), &target).arg(&one.torrent).arg(&two.torrent), DEADLINE);
    assert_fails(&finished, 1, "two torrents have this name");
    assert!(!target.exists(), "nothing is written");
}

#[test]
fn flags_of_one_torrent_are_refused_with_several() {
    for (flag, part) in [(&["--select", "1"][..], "--select"), (&["--metadata-only"], "--metadata-only")] {
        let finished = run(bt_fast().args(["get", "a.torrent", "b.torrent"]).args(flag), DEADLINE);
        assert_fails(&finished, 2, &format!("{part}: applies to one torrent"));
    }
    assert_fails(&run(bt_fast().args(["get", "-", "-"]), DEADLINE), 2, "give - once");
}

#[test]
fn a_torrent_without_peers_is_refused_at_once() {
    let fixture = Fixture::file(LEN);
    let (target, info_hash) = (fixture.scratch.join("target"), fixture.metainfo.info_hash.to_string());
    let get = |source: &dyn AsRef<std::ffi::OsStr>, target: &Path| {
        run(bt_fast().arg("get").arg(source).arg("-o").arg(target), DEADLINE)
    };
    assert_fails(&get(&fixture.torrent, &target), 2, "content: no tracker and no peer is known: give --announce URL");
    assert!(!target.exists(), "nothing is written");
    assert_fails(&get(&info_hash, &target), 2, "or --listen ADDR:PORT to wait for peers");
    // Content that is there needs no peers, unless a part of it is wrong. It is left as it is.
    assert_eq!(get(&fixture.torrent, &fixture.source).code, Some(0));
    let mut bytes = fixture.bytes();
    bytes[0] ^= 1;
    fs::write(fixture.source.join(NAME), &bytes).unwrap();
    assert_fails(&get(&fixture.torrent, &fixture.source), 2, "no tracker and no peer is known");
    assert_eq!(fixture.bytes(), bytes);
}

/// Peers that know a fixed address connect to it, for a torrent and for a bare info-hash.
#[test]
fn a_fixed_address_waits_for_peers() {
    let fixture = Fixture::file(LEN);
    let (first, second) = (own_address(), own_address());
    let info_hash = fixture.metainfo.info_hash.to_string();
    let mut getters = Vec::new();
    for (address, source) in [(first, fixture.torrent.as_os_str()), (second, info_hash.as_ref())] {
        let mut command = bt_fast();
        command.arg("get").arg(source).args(["--listen", &address.to_string(), "-o"]);
        command.arg(fixture.scratch.join(&address.ip().to_string()));
        getters.push(Running::start("get", &command, &fixture.scratch.join(&format!("{}.log", address.ip()))));
    }
    let mut seed = fixture.seed_command(own_address());
    seed.args(["--peer", &first.to_string(), "--peer", &second.to_string()]);
    let _seed = Running::start("seed", &seed, &fixture.scratch.join("seed.log"));
    for (getter, address) in getters.iter_mut().zip([first, second]) {
        let status = getter.wait(DEADLINE).and_then(|status| status.code());
        assert_eq!(status, Some(0), "{}", getter.log_tail());
        fixture.assert_complete(&fixture.scratch.join(&address.ip().to_string()));
    }
}

#[test]
fn an_info_hash_is_found_by_a_tracker_or_a_peer() {
    let fixture = Fixture::file(LEN);
    let info_hash = fixture.metainfo.info_hash.to_string();
    let seed = fixture.seed();
    let SocketAddr::V4(peer) = seed.address else { panic!("not IPv4") };
    let compact = [&peer.ip().octets()[..], &peer.port().to_be_bytes()].concat();
    let reply = [b"d8:intervali60e5:peers6:".as_slice(), &compact, b"e"].concat();
    let tracker = HttpServer::start(own_ip(), move |_| Answer::ok(reply.clone()));
    for (flag, value) in [("--announce", tracker.url("/announce")), ("--peer", seed.address.to_string())] {
        let target = fixture.scratch.folder(flag);
        let mut command = bt_fast();
        command.args(["get", &info_hash, flag, &value, "--listen", &own_address().to_string(), "-o"]).arg(&target);
        run(&command, DEADLINE).success();
        fixture.assert_complete(&target);
    }
}

#[test]
fn standard_input_holds_a_torrent() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let target = fixture.scratch.folder("target");
    run(&with_stdin(get_from(seed.address, &target).arg("-"), &fixture.torrent), DEADLINE).success();
    fixture.assert_complete(&target);
    let show = |word: &str| with_stdin(bt_fast().args(["show", word]), &fixture.torrent);
    let shown = run(&show("-"), DEADLINE).success();
    assert_eq!(shown, run(&show(fixture.torrent.to_str().unwrap()), DEADLINE).success());
    let page = fixture.scratch.join("page");
    fs::write(&page, "<!DOCTYPE html>").unwrap();
    assert_fails(&run(&with_stdin(bt_fast().args(["show", "-"]), &page), DEADLINE), 1, "standard input: a web page");
}

#[test]
fn show_and_magnet_read_links_and_urls() {
    let fixture = Fixture::files(&[("one", LEN), ("two", 10)]);
    let seed = fixture.seed();
    let torrent = fs::read(&fixture.torrent).unwrap();
    let server = HttpServer::start(own_ip(), move |_| Answer::ok(torrent.clone()));
    let show = |word: &str| {
        let mut command = bt_fast();
        command.args(["show", "--json", word, "--listen", &own_address().to_string()]);
        command.args(["--peer", &seed.address.to_string()]);
        serde_json::from_str::<Value>(&run(&command, DEADLINE).success()).unwrap()
    };
    let expected = show(fixture.torrent.to_str().unwrap());
    assert_eq!(show(&server.url("/a.torrent")), expected);
    let shown = show(&fixture.metainfo.info_hash.to_string());
    for key in ["name", "info_hash", "files", "piece_count", "total_length"] {
        assert_eq!(shown[key], expected[key], "{key}");
    }
    let link = |word: &std::ffi::OsStr| run(bt_fast().arg("magnet").arg(word), DEADLINE).success();
    assert_eq!(link(server.url("/a.torrent").as_ref()), link(fixture.torrent.as_os_str()));
    let bare = format!("magnet:?xt=urn:btih:{}", fixture.metainfo.info_hash);
    assert_fails(&run(bt_fast().args(["show", &bare]), DEADLINE), 2, "no tracker and no peer is known");
    let mut command = bt_fast();
    command.args(["show", &bare, "--timeout", "1", "--listen", &own_address().to_string()]);
    let timed_out = run(command.args(["--peer", &own_address().to_string()]), DEADLINE);
    assert_fails(&timed_out, 4, "no metadata");
}

#[test]
fn seed_ends_after_a_time_or_a_ratio() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let (timed, hooked) = (fixture.scratch.folder("timed"), fixture.scratch.join("hooked"));
    let mut command = get_from(seed.address, &timed);
    command.arg(&fixture.torrent).arg("--seed=1s").arg("--on-complete").arg(format!("touch {}", hooked.display()));
    let finished = run(command.args(["--json-interval", "100ms"]), DEADLINE);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let uploads = |record: &Value| record["phase"] == "seeding" && record["total"].is_null();
    assert!(records(&finished.stdout, "progress").iter().any(uploads), "{finished:#?}");
    let seconds = event(&finished.stdout, "complete").unwrap()["seconds"].as_f64().unwrap();
    assert!(seconds + 1.0 <= finished.took.as_secs_f64(), "the time of the upload does not count: {finished:#?}");
    assert!(finished.stderr.contains("stopping: seeded for 1 s"), "{finished:#?}");
    assert!(hooked.exists());
    fixture.assert_complete(&timed);

    let (middle_address, middle_folder) = (own_address(), fixture.scratch.folder("middle"));
    let mut command = bt_fast();
    command.args(["get", "--json", "--seed=1,1h", "--listen", &middle_address.to_string()]).arg(&fixture.torrent);
    command.args(["--peer", &seed.address.to_string(), "-o"]).arg(&middle_folder);
    let mut middle = Running::start("get --seed", &command, &fixture.scratch.join("middle.log"));
    let seeds = || middle.output().contains("complete; uploading until 1 times the content is sent");
    assert!(wait_until(DEADLINE, seeds), "{}", middle.log_tail());
    drop(seed);
    fixture.get(&fixture.scratch.folder("last"), &[middle_address]);
    let status = middle.wait(DEADLINE).and_then(|status| status.code());
    assert_eq!(status, Some(0), "{}", middle.log_tail());
    assert!(middle.output().contains("stopping: 1.00 times the content was sent"), "{}", middle.output());
    let refused = run(bt_fast().args(["get", "x.torrent", "--seed=-1"]), DEADLINE);
    assert_fails(&refused, 2, "give a ratio above 0");
}
