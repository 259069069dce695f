//! Operation in containers: health checks, and the binary as a container runtime runs it.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::support::{
    bt_fast,
    container::{Containers, Limits, Proc, Profile, Recipe, System, VOLUME, children, first_process, signal_first},
    content::{difference, write_random},
    control_group::ControlGroup,
    http_server::{Answer, HttpServer},
    net::NetPair,
    process::{CONTAINER_DEADLINE as DEADLINE, Finished, Running, run, wait_until},
    scratch::Scratch,
};

/// The time that the binary has to exit after SIGTERM, as in the manifests less the time of a busy machine.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
const LEN: u64 = (3 << 20) + 77;
const NAME: &str = "content";
/// Memory of a small container.
const MEMORY: u64 = 64 << 20;
/// Length of content that does not fit into [`MEMORY`].
const LONG: u64 = 128 << 20;
/// Descriptors of a small container.
const DESCRIPTORS: u32 = 64;

#[track_caller]
fn assert_unhealthy(finished: &Finished, part: &str) {
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    let lines: Vec<&str> = finished.stderr.lines().collect();
    assert!(lines.len() == 1 && lines[0].starts_with("bt-fast: unhealthy: "), "{finished:#?}");
    assert!(lines[0].contains(part) && finished.stdout.is_empty(), "{part}: {finished:#?}");
}

fn health(args: &[&str]) -> Command {
    let mut command = bt_fast();
    command.arg("health").args(args);
    command
}

#[test]
fn health_of_a_seed_and_a_tracker_is_0() {
    let (net, scratch) = (NetPair::new(), Scratch::new());
    write_random(&scratch.join(NAME), LEN, fastrand::u64(..));
    let mut seed = bt_fast();
    seed.args(["seed", "--web", "127.0.0.1:80", "--admin", "127.0.0.1:81"]).arg(scratch.join(NAME));
    let mut track = bt_fast();
    track.args(["track", "--open", "--listen", "127.0.0.1:82"]);
    let mut servers: Vec<Running> = [("seed", seed), ("track", track)]
        .map(|(name, command)| Running::start(name, &net.left.command(&command), &scratch.join(name)))
        .into();
    let ask = |url: &str| run(&net.left.command(health(&[url]).env("http_proxy", "http://127.0.0.1:1")), DEADLINE);
    for url in ["http://127.0.0.1:80", "http://127.0.0.1:81/healthz", "http://localhost:80/", "http://127.0.0.1:82"] {
        let answers = wait_until(DEADLINE, || ask(url).code == Some(0));
        assert!(answers, "{url}: {:#?}\n{}", ask(url), servers.iter_mut().map(Running::log_tail).collect::<String>());
    }
    assert_eq!(ask("http://127.0.0.1:80/").stderr, "healthy: http://127.0.0.1:80/\n");
    assert_unhealthy(&ask("http://127.0.0.1:82/nothing"), "HTTP status 404");
    for server in &mut servers {
        server.signal(Signal::TERM);
        assert!(server.wait(STOP_DEADLINE).is_some_and(|status| status.success()), "{}", server.log_tail());
    }
    assert_unhealthy(&ask("http://127.0.0.1:82"), "refused");
}

#[test]
fn health_of_a_server_that_fails_is_1() {
    let net = NetPair::new();
    let server = net.left.inside(|| {
        HttpServer::start(NetPair::LEFT_IP, |get| match get.target.as_str() {
            "/healthz" => Answer { status: "500 Internal Server Error", ..Answer::ok("broken") },
            "/elsewhere" => Answer::redirect("/fine"),
            "/long" => Answer::ok(vec![b'x'; (1 << 20) + 1]),
            _ => Answer::ok("fine"),
        })
    });
    let ask = |url: &str, more: &[&str]| run(&net.left.command(&health(&[&[url], more].concat())), DEADLINE);
    assert_eq!(ask(&server.url("/fine"), &[]).code, Some(0));
    let healthy = ask(&server.url("/fine"), &["--json"]);
    assert!(healthy.stdout.starts_with("{\"event\":\"healthy\",\"url\":"), "{healthy:#?}");
    assert_unhealthy(&ask(&server.url(""), &[]), "HTTP status 500");
    assert_unhealthy(&ask(&server.url("/elsewhere"), &[]), "HTTP status 302");
    let with_password = server.url("").replace("://", "://user:secret@");
    let refused = ask(&with_password, &[]);
    assert_unhealthy(&refused, "HTTP status 500");
    assert!(!refused.stderr.contains("secret") && !refused.stderr.contains("user"), "{refused:#?}");
    assert_unhealthy(&ask(&server.url("/long"), &[]), "longer than");
    assert_eq!(ask("127.0.0.1:80", &[]).code, Some(2));

    // This server accepts and never answers.
    let silent = net.left.inside(|| TcpListener::bind((NetPair::LEFT_IP, 99)).unwrap());
    let url = format!("http://{}", silent.local_addr().unwrap());
    let start = Instant::now();
    assert_unhealthy(&ask(&url, &["--timeout", "1s"]), "no answer within 1 s");
    assert!(start.elapsed() < DEADLINE / 2);
}

/// The files that a container leaves in its volume, without the content.
fn left_behind(volume: &Path) -> Vec<String> {
    let entries = fs::read_dir(volume).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != NAME).collect()
}

/// Drops a file from the page cache, so that it is read from disk.
fn drop_from_memory(path: &Path) {
    let file = fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

/// Starts an origin of `len` random bytes in a container. It listens at ports 6880 and 6881.
#[track_caller]
fn origin(containers: &Containers, recipe: Recipe<'_>, len: u64) -> (Running, PathBuf) {
    let volume = containers.volume(&format!("origin {}", fastrand::u32(..)));
    write_random(&volume.join(NAME), len, fastrand::u64(..));
    drop_from_memory(&volume.join(NAME));
    let mut seed = containers.start(recipe, &volume, &["seed", "/data/*"]);
    let is_healthy = || containers.run(recipe, &volume, &["health", "http://127.0.0.1:6880"]).code == Some(0);
    assert!(wait_until(DEADLINE, is_healthy), "{}", seed.log_tail());
    // An origin is healthy before its content is hashed and its torrent is served.
    let serves = wait_until(DEADLINE, || seed.output().contains("seeding content") || !seed.is_running());
    assert!(serves && seed.is_running(), "{}", seed.log_tail());
    (seed, volume)
}

const TORRENT_URL: &str = "http://127.0.0.1:6880/t/content.torrent";

#[test]
fn seed_and_get_run_in_bare_containers() {
    let containers = Containers::new();
    for proc in [Proc::Mounted, Proc::Absent] {
        for profile in [Profile::Ours, Profile::NoRing] {
            let recipe = Recipe { proc, profile, ..Recipe::default() };
            let (mut seed, source) = origin(&containers, recipe, LEN);
            let target = containers.volume(&format!("{proc:?} {profile:?}"));
            let get = containers.run(recipe, &target, &["get", TORRENT_URL, "-o", VOLUME]);
            assert_eq!(get.code, Some(0), "{proc:?} {profile:?}: {get:#?}\n{}", seed.log_tail());
            assert_eq!(difference(&source.join(NAME), &target.join(NAME), true), None);
            assert_eq!(left_behind(&target), [""; 0]);
            // Without a ring each says one line about it, and there is nothing else to warn of.
            let expected = usize::from(profile == Profile::NoRing);
            for output in [&get.stderr, &seed.output()] {
                let warnings = output.lines().filter(|line| line.contains("warning") || line.contains("--io plain"));
                assert_eq!(warnings.count(), expected, "{proc:?} {profile:?}: {output}");
            }
            signal_first(&seed, Signal::TERM);
            let status = seed.wait(STOP_DEADLINE);
            assert!(status.is_some_and(|status| status.code() == Some(0)), "{proc:?} {profile:?}: {}", seed.log_tail());
        }
    }
}

#[test]
fn a_getter_as_pid_1_ends_on_sigterm_and_resumes() {
    let containers = Containers::new();
    let recipe = Recipe::default();
    let (_seed, source) = origin(&containers, recipe, 16 * LEN);
    let target = containers.volume("target");
    let args = ["get", TORRENT_URL, "-o", VOLUME];
    let mut slow = containers.start(recipe, &target, &[&args[..], &["--down", "2M"]].concat());
    let begun = || fs::metadata(target.join(NAME)).is_ok_and(|metadata| metadata.len() > 0);
    assert!(wait_until(DEADLINE, begun), "{}", slow.log_tail());
    signal_first(&slow, Signal::TERM);
    let status = slow.wait(STOP_DEADLINE);
    assert_eq!(status.and_then(|status| status.code()), Some(130), "{}", slow.log_tail());
    let get = containers.run(recipe, &target, &args);
    assert_eq!(get.code, Some(0), "{get:#?}");
    assert_eq!(difference(&source.join(NAME), &target.join(NAME), true), None);
}

/// PID 1 inherits the processes that a hook leaves behind.
#[test]
fn orphans_of_a_hook_are_reaped_by_pid_1() {
    let containers = Containers::new();
    let (_seed, source) = origin(&containers, Recipe::default(), LEN);
    let target = containers.volume("target");
    let recipe = Recipe { system: System::Shell, ..Recipe::default() };
    // One orphan in the group of the command, and one in a session of its own.
    let hook = "sleep 0.1 & setsid sleep 0.1 & touch /data/called; exit 3";
    let args = ["get", TORRENT_URL, "-o", VOLUME, "--seed", "--on-complete", hook];
    let mut get = containers.start(recipe, &target, &args);
    assert!(wait_until(DEADLINE, || target.join("called").exists()), "{}", get.log_tail());
    let first = u32::try_from(first_process(&get).as_raw_nonzero().get()).unwrap();
    assert!(wait_until(DEADLINE, || children(first).is_empty()), "{:?}\n{}", children(first), get.log_tail());
    signal_first(&get, Signal::TERM);
    // The status of the command itself was not lost.
    assert_eq!(get.wait(STOP_DEADLINE).and_then(|status| status.code()), Some(1), "{}", get.log_tail());
    assert!(get.output().contains("ended with exit status 3"), "{}", get.log_tail());
    assert_eq!(difference(&source.join(NAME), &target.join(NAME), true), None);

    let args = ["get", TORRENT_URL, "-o", VOLUME, "--on-complete", "sleep 0.2; exit 4"];
    let get = containers.run(recipe, &containers.volume("second"), &args);
    assert!(get.code == Some(1) && get.stderr.contains("ended with exit status 4"), "{get:#?}");
}

#[test]
fn few_descriptors_and_little_memory_suffice() {
    let containers = Containers::new();
    let group = ControlGroup::new(MEMORY);
    let limits = Some(Limits { group: &group, descriptors: DESCRIPTORS });
    let (mut small, _) = origin(&containers, Recipe { limits, ..Recipe::default() }, LONG);
    signal_first(&small, Signal::TERM);
    assert!(small.wait(STOP_DEADLINE).is_some_and(|status| status.success()), "{}", small.log_tail());
    let (_seed, source) = origin(&containers, Recipe::default(), LONG);
    for (profile, proc) in
        [(Profile::Ours, Proc::Mounted), (Profile::NoRing, Proc::Mounted), (Profile::NoRing, Proc::Absent)]
    {
        let limits = Some(Limits { group: &group, descriptors: DESCRIPTORS });
        let recipe = Recipe { profile, proc, limits, ..Recipe::default() };
        let target = containers.volume(&format!("{profile:?} {proc:?}"));
        let get = containers.run(recipe, &target, &["get", TORRENT_URL, "-o", VOLUME]);
        assert_eq!(get.code, Some(0), "{profile:?} {proc:?}: {get:#?}");
        assert_eq!(difference(&source.join(NAME), &target.join(NAME), true), None);
        fs::remove_dir_all(target).unwrap();
    }
}

/// The folders of settings and of remembered checks are optional.
#[test]
fn homes_that_are_unusable_are_no_fault() {
    let containers = Containers::new();
    for home in ["/", "/nonexistent", "/data/locked"] {
        let volume = containers.volume(&format!("{}", fastrand::u32(..)));
        write_random(&volume.join(NAME), LEN, fastrand::u64(..));
        // A folder of root.
        let locked = volume.join("locked");
        fs::create_dir(&locked).unwrap();
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
        let variables = [("HOME", home)];
        let recipe = Recipe { variables: &variables, ..Recipe::default() };
        let run = |args: &[&str]| containers.run(recipe, &volume, args);
        let created = run(&["create", "/data/content", "-o", "/data/content.torrent"]);
        assert_eq!(created.code, Some(0), "{created:#?}");
        let verified = run(&["verify", "/data/content.torrent", "--fast"]);
        assert_eq!(verified.code, Some(0), "{verified:#?}");
        for output in [created.stderr, verified.stderr] {
            assert!(!output.contains("warning"), "{output}");
        }
    }
}

/// Kubernetes sets such variables for a service of the name `bt-fast`.
#[test]
fn variables_of_a_kubernetes_service_are_no_flags() {
    let mut command = health(&["http://127.0.0.1:1"]);
    command.env("BT_FAST_SERVICE_HOST", "10.0.0.1").env("BT_FAST_PORT", "tcp://10.0.0.1:6880");
    command.env("BT_FAST_SERVICE_PORT_WEB", "6880").env("BT_FAST_PORT_6880_TCP_ADDR", "10.0.0.1");
    assert_unhealthy(&run(&command, DEADLINE), "refused");
}

#[track_caller]
fn openssl(folder: &Path, arguments: &str) {
    let done = run(Command::new("openssl").args(arguments.split_whitespace()).current_dir(folder), DEADLINE);
    assert_eq!(done.code, Some(0), "{done:#?}");
}

/// Without root certificates on the system those that are compiled in judge the server.
#[test]
fn https_needs_no_certificates_on_the_system() {
    let containers = Containers::new();
    let volume = containers.volume("volume");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&volume, &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"));
    openssl(&volume, &format!("req {key} -keyout leaf.key -out leaf.csr -subj /CN=server"));
    fs::write(volume.join("leaf.ext"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let sign = "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile leaf.ext -days 2";
    openssl(&volume, &format!("{sign} -out leaf.pem"));
    let mut server = Command::new("openssl");
    server.args(["s_server", "-accept", "127.0.0.1:443", "-cert", "leaf.pem", "-key", "leaf.key", "-www"]);
    server.current_dir(&volume);
    let mut server = Running::start("openssl", &containers.host().command(&server), &volume.join("log"));
    assert!(wait_until(DEADLINE, || server.output().contains("ACCEPT")), "{}", server.log_tail());
    let recipe = Recipe::default();
    let args = ["health", "https://127.0.0.1/"];
    // The certificate's authority is not one of Mozilla's.
    assert_unhealthy(&containers.run(recipe, &volume, &args), "invalid peer certificate");
    let trusting = |file: &str| {
        let variables = [("SSL_CERT_FILE", file)];
        containers.run(Recipe { variables: &variables, ..recipe }, &volume, &args)
    };
    assert_eq!(trusting("/data/ca.pem").code, Some(0), "{:#?}", trusting("/data/ca.pem"));
    // Other roots do not take the place of the ones that the operator names.
    fs::write(volume.join("empty.pem"), "").unwrap();
    assert_unhealthy(&trusting("/data/empty.pem"), "No CA certificates were loaded from the system");
}

/// A static C library has no other libraries to find names with.
#[test]
fn host_names_are_found_in_a_container() {
    let containers = Containers::new();
    let (_seed, source) = origin(&containers, Recipe::default(), LEN);
    let hosts = source.join("hosts");
    fs::write(&hosts, "127.0.0.1 origin.example\n").unwrap();
    let recipe = Recipe { hosts: Some(&hosts), ..Recipe::default() };
    let ask = |url| containers.run(recipe, &source, &["health", url]);
    let found = ask("http://origin.example:6880");
    assert_eq!(found.code, Some(0), "{found:#?}");
    assert_unhealthy(&ask("http://missing.example:6880"), "missing.example");
}
