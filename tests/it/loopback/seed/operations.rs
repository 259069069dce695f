//! Operation as a service: the service manager's protocol, configuration, hooks and reloaded lists.

use std::{fs, net::SocketAddr, os::unix::net::UnixDatagram, path::Path, process::Command, time::Duration};

use rustix::process::Signal;

use crate::loopback::{
    DEADLINE, Fixture, NAME, STOP_DEADLINE, Seed, assert_fails, event, exit_code, failures, own_address, own_ip,
};
use crate::support::{
    bt_fast, bt_fast_path,
    content::write_random,
    http_client::get,
    process::{Running, run, wait_until},
    scratch::Scratch,
};

const LEN: u64 = (1 << 20) + 77;

/// The notification socket of a service manager.
pub(crate) struct Manager(UnixDatagram);

impl Manager {
    pub(crate) fn new(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(socket)
    }

    pub(crate) fn receive(&self) -> String {
        let mut message = [0; 1000];
        let len = self.0.recv(&mut message).unwrap();
        String::from_utf8(message[..len].to_vec()).unwrap()
    }
}

/// The protocol of systemd's `Type=notify`: `READY` when peers can connect, `STOPPING` after SIGTERM.
#[test]
fn the_service_manager_is_notified_of_start_and_stop() {
    let fixture = Fixture::file(LEN);
    let path = fixture.scratch.join("notify");
    let manager = Manager::new(&path);
    let address = own_address();
    let mut track = bt_fast();
    track.args(["track", "--open", "--listen", &address.to_string()]);
    for (what, mut command) in [("seeding", fixture.seed_command(address)), ("tracking", track)] {
        command.env("NOTIFY_SOCKET", &path);
        let mut process = Running::start(what, &command, &fixture.scratch.join("log"));
        let ready = manager.receive();
        assert!(ready.starts_with("READY=1\nSTATUS=") && ready.contains(what), "{ready}");
        process.signal(Signal::TERM);
        assert_eq!(manager.receive(), "STOPPING=1");
        assert_eq!(exit_code(&mut process, STOP_DEADLINE), Some(0), "{}", process.log_tail());
    }
}

fn announce(tracker: SocketAddr, info_hash: &str) -> String {
    let escaped: String =
        info_hash.as_bytes().chunks(2).map(|pair| format!("%{}{}", pair[0] as char, pair[1] as char)).collect();
    let peer_id = "x".repeat(20);
    let query = format!("info_hash={escaped}&peer_id={peer_id}&port=1&uploaded=0&downloaded=0&left=1");
    String::from_utf8_lossy(&get(tracker, &format!("/announce?{query}"), "").body).into_owned()
}

#[test]
fn a_tracker_reloads_its_list() {
    let scratch = Scratch::new();
    let (list, address) = (scratch.join("list"), own_address());
    let (first, second) = ("a1".repeat(20), "B2".repeat(20));
    fs::write(&list, format!("# ours\n{first} a name\n\n")).unwrap();
    let mut command = bt_fast();
    command.args(["track", "--json", "--listen", &address.to_string(), "--allow"]).arg(&list);
    let mut process = Running::start("track", &command, &scratch.join("log"));
    assert!(wait_until(DEADLINE, || event(&process.output(), "tracking").is_some()), "{}", process.log_tail());
    assert!(announce(address, &first).contains("8:interval"));
    assert!(announce(address, &second).contains("does not serve"));

    fs::write(&list, format!("{second}\n")).unwrap();
    process.signal(Signal::HUP);
    assert!(wait_until(DEADLINE, || announce(address, &second).contains("8:interval")));
    assert!(announce(address, &first).contains("does not serve"));

    // A broken list is ignored: the tracker keeps the previous one.
    fs::write(&list, "what?\n").unwrap();
    process.signal(Signal::HUP);
    assert!(wait_until(DEADLINE, || process.output().contains("the list is unchanged")), "{}", process.log_tail());
    assert!(announce(address, &second).contains("8:interval"));
    process.signal(Signal::TERM);
    assert_eq!(exit_code(&mut process, STOP_DEADLINE), Some(0));
    assert!(event(&process.output(), "tracked").unwrap()["http_announces"].as_u64() >= Some(5));
}

#[test]
fn the_completion_hook_runs_after_the_download() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let target = fixture.scratch.folder("target");
    let report = fixture.scratch.join("report");
    let mut command = fixture.get_command(&target, &[seed.address]);
    let line = format!(
        "echo \"$BT_FAST_HOOK_NAME $BT_FAST_HOOK_INFO_HASH\" > {}; test -f \"$BT_FAST_HOOK_OUTPUT/$BT_FAST_NAME\"",
        report.display()
    );
    command.args(["--on-complete", &line]);
    let finished = run(&command, DEADLINE);
    assert!(finished.code == Some(0) && !finished.stderr.contains("--on-complete"), "{finished:#?}");
    assert_eq!(fs::read_to_string(report).unwrap(), format!("{NAME} {}\n", fixture.metainfo.info_hash));
}

#[test]
fn a_failed_hook_is_an_exit_code() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    for (at, (line, part)) in [
        ("exit 7", "--on-complete: content: the command ended with exit status 7"),
        ("kill -9 $$", "--on-complete: content: the command was ended by signal 9"),
    ]
    .into_iter()
    .enumerate()
    {
        let target = fixture.scratch.folder(&format!("target {at}"));
        let mut command = fixture.get_command(&target, &[seed.address]);
        command.args(["--on-complete", line]);
        let finished = run(&command, DEADLINE);
        assert_fails(&finished, 1, part);
        assert!(event(&finished.stdout, "complete").is_some(), "{finished:#?}");
        assert_eq!(event(&finished.stdout, "failed").unwrap()["message"], part);
        fixture.assert_complete(&target);
        assert_eq!(fs::read_dir(&target).unwrap().count(), 1, "no resume file stays");
    }
}

/// The kernel keeps no exit status for a process that ignores the signal of its children, as its parent may have made it.
#[test]
fn the_exit_status_of_a_hook_is_known_where_sigchld_is_ignored() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let target = fixture.scratch.folder("target");
    let mut get = fixture.get_command(&target, &[seed.address]);
    get.args(["--on-complete", "exit 7"]);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "trap '' CHLD; exec \"$0\" \"$@\""]).arg(get.get_program()).args(get.get_args());
    assert_fails(&run(&command, DEADLINE), 1, "--on-complete: content: the command ended with exit status 7");
}

/// Neither the variables that describe the download nor its flags act as flags of a bt-fast in the hook.
#[test]
fn bt_fast_within_the_hook_has_its_own_flags() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let target = fixture.scratch.folder("target");
    let made = fixture.scratch.join("made.torrent");
    let mut command = fixture.get_command(&target, &[seed.address]);
    command.current_dir(fixture.scratch.join("")).env("BT_FAST_NAME", "flag").env("BT_FAST_COMMENT", "flag");
    let line = format!("cp \"$BT_FAST_OUTPUT/$BT_FAST_NAME\" made; '{}' create made", bt_fast_path().display());
    command.args(["--on-complete", &line]);
    let finished = run(&command, DEADLINE);
    assert!(finished.code == Some(0) && !finished.stderr.contains("--on-complete"), "{finished:#?}");
    let shown = run(bt_fast().args(["show", "--json"]).arg(made), DEADLINE).success();
    assert!(shown.contains("\"name\":\"made\"") && !shown.contains("flag"), "{shown}");
}

#[test]
fn a_failed_hook_is_reported_while_seeding() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let target = fixture.scratch.folder("target");
    let mut command = fixture.get_command(&target, &[seed.address]);
    command.args(["--seed", "--on-complete", "exit 7"]);
    let mut get = Running::start("get", &command, &fixture.scratch.join("get.log"));
    let line = "--on-complete: content: the command ended with exit status 7";
    let is_reported = || get.log_tail().contains(&format!("bt-fast: warning: {line}"));
    assert!(wait_until(DEADLINE, is_reported), "{}", get.log_tail());
    get.signal(Signal::TERM);
    assert_eq!(exit_code(&mut get, STOP_DEADLINE), Some(1));
    assert_eq!(failures(&get.output()), [format!("bt-fast: {line}")]);
}

#[test]
fn the_hook_is_waited_for_at_the_end_of_seeding() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let target = fixture.scratch.folder("target");
    let mut command = fixture.get_command(&target, &[seed.address]);
    command.args(["--seed=1s", "--on-complete", "sleep 3; exit 7"]);
    let finished = run(&command, DEADLINE);
    assert_fails(&finished, 1, "--on-complete: content: the command ended with exit status 7");
    fixture.assert_complete(&target);
}

/// With and without `--seed`, the first signal ends the hook and what it has started, then `get`.
#[test]
fn a_signal_ends_the_hook() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    for flags in [&[][..], &["--seed"]] {
        let target = fixture.scratch.folder(&format!("target {}", flags.len()));
        let pids = fixture.scratch.join(&format!("pids {}", flags.len()));
        let mut command = fixture.get_command(&target, &[seed.address]);
        let line = format!("sleep 1000 & echo $$ $! > '{}'; wait", pids.display());
        command.args(flags).args(["--on-complete", &line]);
        let mut get = Running::start("get", &command, &fixture.scratch.join("get.log"));
        let started = || fs::read_to_string(&pids).is_ok_and(|pids| pids.ends_with('\n'));
        assert!(wait_until(DEADLINE, started), "{}", get.log_tail());
        get.signal(Signal::TERM);
        assert_eq!(exit_code(&mut get, STOP_DEADLINE), Some(130), "{}", get.log_tail());
        let line = "bt-fast: interrupted: content is complete, but the command of --on-complete was ended";
        assert_eq!(failures(&get.output()), [line]);
        assert!(event(&get.output(), "complete").is_some(), "{}", get.log_tail());
        for pid in fs::read_to_string(&pids).unwrap().split_whitespace() {
            // A process that nothing has reaped yet has no command line.
            let has_ended = || fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().is_empty();
            assert!(wait_until(STOP_DEADLINE, has_ended), "{pid} still runs");
        }
        fixture.assert_complete(&target);
    }
}

#[test]
fn unreadable_flags_are_refused() {
    let fixture = Fixture::file(LEN);
    fixture.scratch.folder("config");
    let folder = fixture.scratch.folder("config/bt-fast");
    let config = folder.join("config");
    let show = || {
        let mut show = bt_fast();
        show.arg("show").arg(&fixture.torrent).env("XDG_CONFIG_HOME", fixture.scratch.join("config"));
        show
    };
    run(&show(), DEADLINE).success();
    fs::write(&config, b"# caf\xe9: the VPN\njson = true\n").unwrap();
    let shown = run(&show(), DEADLINE).success();
    assert!(shown.starts_with('{'), "the setting holds: {shown}");
    for (content, part) in [
        (&b"# caf\xe9\nbind-devise = x\n"[..], "config: line 2: no command has a flag 'bind-devise'"),
        (b"[seeed]\n", "config: line 1: there is no command 'seeed'"),
        (b"bind-device = x\0\n", "config: line 1: a control character"),
    ] {
        fs::write(&config, content).unwrap();
        assert_fails(&run(&show(), DEADLINE), 2, part);
    }
    fs::remove_file(&config).unwrap();
    fs::create_dir(&config).unwrap();
    assert_fails(&run(&show(), DEADLINE), 2, "can't read the configuration: ");
    let missing = fixture.scratch.join("missing");
    assert_fails(&run(show().arg("--config").arg(missing), DEADLINE), 2, "can't read the configuration: ");
    let finished = run(show().args(["--config", "/dev/null"]).env("BT_FAST_BIND_DEVISE", "x"), DEADLINE);
    assert_fails(&finished, 2, "BT_FAST_BIND_DEVISE");
}

#[test]
fn flags_come_from_the_environment_and_from_a_file() {
    let fixture = Fixture::file(LEN);
    let config = fixture.scratch.join("config");
    fs::write(&config, "[show]\njson = true\n[magnet]\npeer = 192.0.2.1:1\npeer = 192.0.2.2:2\n").unwrap();
    let ran = |command: &mut Command| run(command, Duration::from_secs(20)).success();
    let json = ran(bt_fast().arg("show").arg(&fixture.torrent).env("BT_FAST_CONFIG", &config));
    assert!(json.starts_with('{'), "{json}");
    let link = ran(bt_fast().arg("magnet").arg(&fixture.torrent).arg("--config").arg(&config));
    assert!(link.contains("x.pe=192.0.2.1:1&x.pe=192.0.2.2:2"), "{link}");
    let typed =
        ran(bt_fast().arg("magnet").arg(&fixture.torrent).arg("--config").arg(&config).args(["--peer", "192.0.2.3:3"]));
    assert!(typed.contains("x.pe=192.0.2.3:3") && !typed.contains("192.0.2.1"), "{typed}");
    let json = ran(bt_fast().arg("show").arg(&fixture.torrent).env("BT_FAST_JSON", "1"));
    assert!(json.starts_with('{'), "{json}");
    let finished = run(
        bt_fast().args(["track", "--open", "--listen"]).arg(own_ip().to_string()).arg("--config").arg(&config),
        DEADLINE,
    );
    assert_fails(&finished, 2, "--listen");
    fs::write(&config, "listn = x\n").unwrap();
    let finished = run(bt_fast().args(["show", "x", "--config"]).arg(&config), DEADLINE);
    assert_fails(&finished, 2, "line 1: no command has a flag 'listn'");
}

#[test]
fn completions_and_manual_cover_the_command_line() {
    let scratch = Scratch::new();
    for shell in ["bash", "zsh", "fish"] {
        let text = run(bt_fast().args(["completions", shell]), DEADLINE).success();
        assert!(text.contains("bt-fast") && text.contains("web-seed"), "{shell}");
        assert!(!text.contains("one side of the bare pair"), "{shell}");
    }
    let folder = scratch.join("man");
    let pages = run(bt_fast().arg("manual").arg(&folder), DEADLINE).success();
    assert!(pages.lines().count() > 8, "{pages}");
    let page = fs::read_to_string(folder.join("bt-fast-seed.1")).unwrap();
    assert!(page.contains(".TH bt-fast-seed 1") && page.contains("public\\-url"), "{page}");
}

/// A denied address is neither served nor connected to.
#[test]
fn address_ranges_deny_peers() {
    let fixture = Fixture::file(LEN);
    let address = own_address();
    let mut command = fixture.seed_command(address);
    command.args(["--deny-peer", "127.0.0.0/8", "--dscp", "8", "--bind-device", "lo"]);
    let closed = Seed::start(&command, address, &fixture.scratch.join("closed.log"));
    let target = fixture.scratch.folder("target");
    let refused = run(fixture.get_command(&target, &[closed.address]).args(["--timeout", "2"]), DEADLINE);
    assert_eq!(refused.code, Some(4), "{refused:#?}");

    let address = own_address();
    let mut command = fixture.seed_command(address);
    command.args(["--allow-peer", "127.0.0.0/8", "--deny-peer", "::/0", "--dscp", "8", "--bind-device", "lo"]);
    let open = Seed::start(&command, address, &fixture.scratch.join("open.log"));
    let mut ours = fixture.get_command(&target, &[open.address]);
    let denied = run(ours.args(["--timeout", "2", "--allow-peer", "10.0.0.0/8"]), DEADLINE);
    assert_eq!(denied.code, Some(4), "{denied:#?}");
    fixture.get(&target, &[open.address]);
}

/// Returns the number of bytes that a process has read by system calls, cached or not.
fn bytes_read(process: &Running) -> u64 {
    let io = fs::read_to_string(format!("/proc/{}/io", process.id())).unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[test]
fn an_origin_of_a_hundred_torrents_restarts_without_reading() {
    const TORRENTS: usize = 100;
    const EACH_LEN: u64 = 256 << 10;
    let scratch = Scratch::new();
    let contents: Vec<_> = (0..TORRENTS).map(|number| scratch.join(&format!("{number}.bin"))).collect();
    contents.iter().for_each(|path| write_random(path, EACH_LEN, fastrand::u64(..)));
    // The check of a file that was written within the last two seconds is not cached.
    std::thread::sleep(Duration::from_millis(4100));
    let cache = scratch.folder("cache");
    let ip = own_ip();
    let mut command = bt_fast();
    command.args(["seed", "--json"]).args(&contents).env("XDG_CACHE_HOME", &cache);
    command.args(["--listen", &format!("{ip}:7000"), "--web", &format!("{ip}:7001"), "--admin", "off"]);
    let serving = |process: &mut Running| {
        let all = |output: &str| output.matches("\"event\":\"seeding\"").count() == TORRENTS;
        assert!(wait_until(DEADLINE, || all(&process.output())), "{}", process.log_tail());
        let read = bytes_read(process);
        process.signal(Signal::TERM);
        assert_eq!(exit_code(process, STOP_DEADLINE), Some(0), "{}", process.log_tail());
        read
    };
    let log = scratch.join("log");
    let first = serving(&mut Running::start("seed", &command, &log));
    assert!(first >= TORRENTS as u64 * EACH_LEN, "{first}");
    let again = serving(&mut Running::start("seed", &command, &log));
    assert!(again < TORRENTS as u64 * EACH_LEN / 4, "{again}");
}
