//! Limits on the threads, descriptors and address space of a process.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use bt_fast::base::InfoHash;
use socket2::{Domain, Socket, Type};

use crate::loopback::{DEADLINE, DRIVER, Fixture, NAME, PIECE_LEN, Seed, event, exit_code, failures, own_address};
use crate::support::{
    bt_fast,
    content::write_random,
    control_group::ControlGroup,
    http_client::get_url,
    process::{Running, run, wait_until},
    scratch::Scratch,
};

const LEN: u64 = 3 << 20;
const FILES: usize = 60;
const DESCRIPTORS: usize = 64;
/// More than the descriptors of the process.
const IDLE: u8 = 80;

test_on_both_drivers!(
    a_session_with_few_threads_works_or_fails_cleanly,
    a_session_with_little_address_space_works,
    idle_peers_leave_descriptors_for_the_content,
    a_crowded_download_keeps_descriptors_for_its_files,
    several_downloads_share_few_descriptors,
);

fn a_session_with_few_threads_works_or_fails_cleanly() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    for count in 3..13 {
        let group = ControlGroup::of_processes(count);
        let mut seed = fixture.seed_command(own_address());
        let finished = run(&group.command(seed.args(["--stop-time", "100ms"])), DEADLINE);
        assert!(!finished.stderr.contains("panicked"), "{count}: {finished:#?}");
        match finished.code {
            Some(0) => {}
            Some(1) => assert_eq!(failures(&finished.stderr).len(), 1, "{count}: {finished:#?}"),
            _ => panic!("{count}: {finished:#?}"),
        }
    }
    for count in (3..11).chain([64]) {
        let group = ControlGroup::of_processes(count);
        let target = fixture.scratch.folder(&format!("target {count}"));
        let finished = run(&group.command(&fixture.get_command(&target, &[seed.address])), DEADLINE);
        assert!(!finished.stderr.contains("panicked"), "{count}: {finished:#?}");
        match finished.code {
            Some(0) => fixture.assert_complete(&target),
            Some(1) if count < 64 => {
                let failures = failures(&finished.stderr);
                assert!(failures.len() == 1 && failures[0].contains("pids.max"), "{count}: {finished:#?}");
            }
            _ => panic!("{count}: {finished:#?}"),
        }
    }
}

/// The content is longer than the address space, so that it cannot be mapped.
fn a_session_with_little_address_space_works() {
    let fixture = Fixture::file_with_piece_len(128 << 20, 1 << 20);
    let with_little = |command: &Command| {
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--as={}", 96 << 20)).arg(command.get_program()).args(command.get_args());
        limited
    };
    let address = own_address();
    let log = fixture.scratch.join("seed.log");
    let seed = Seed::start(&with_little(&fixture.seed_command(address)), address, &log);
    let target = fixture.scratch.folder("target");
    run(&with_little(&fixture.get_command(&target, &[address])), DEADLINE).success();
    fixture.assert_complete(&target);
    seed.stop();
}

/// Connects as a peer that has nothing and asks for nothing. `number` makes its id, and with seven others its address.
fn idle_peer(number: u8, seed: SocketAddr, info_hash: InfoHash) -> Option<TcpStream> {
    let host = number / 8 + 1;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 9, 9, host), 0)).into()).unwrap();
    socket.connect_timeout(&seed.into(), DEADLINE).ok()?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0").ok()?;
    stream.write_all(&info_hash.0).ok()?;
    stream.write_all(&[number; 20]).ok()?;
    Some(stream)
}

fn crowd(seed: SocketAddr, info_hash: InfoHash) -> Vec<TcpStream> {
    (0..IDLE).filter_map(|number| idle_peer(number, seed, info_hash)).collect()
}

fn limited(command: &Command, descriptors: usize) -> Command {
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--nofile={descriptors}:{descriptors}")).arg(command.get_program()).args(command.get_args());
    limited
}

fn folder_of_files() -> Fixture {
    Fixture::made_by(&[], PIECE_LEN, |root| {
        (0..FILES).for_each(|at| write_random(&root.join(format!("{at}")), 50_000, fastrand::u64(..)));
    })
}

fn idle_peers_leave_descriptors_for_the_content() {
    let fixture = folder_of_files();
    let address = own_address();
    let web = SocketAddr::new(address.ip(), 7100);
    let mut command = bt_fast();
    command.args(["seed", "--json", "--admin", "off", "--web-seed"]).arg(fixture.source.join(NAME));
    command.args(["--listen", &address.to_string(), "--web", &web.to_string()]);
    command.args(DRIVER.get().iter().flat_map(|driver| ["--io", driver]));
    let mut seed = Seed::start(&limited(&command, DESCRIPTORS), address, &fixture.scratch.join("seed.log"));
    let published = event(&seed.process.output(), "published").unwrap();
    let info_hash = published["info_hash"].as_str().and_then(InfoHash::from_hex).unwrap();
    let idle = crowd(address, info_hash);
    let is_short = || seed.process.output().contains("no descriptor is left");
    assert!(wait_until(DEADLINE, is_short), "{}", seed.process.log_tail());
    let page = published["page"].as_str().unwrap();
    for file in 0..FILES {
        let url = format!("{page}f/{info_hash}/{NAME}/{file}");
        let answer = get_url(&url);
        assert_eq!((answer.status, answer.body.len()), (200, 50_000), "{url}");
    }
    drop(idle);
    seed.stop();
}

fn a_crowded_download_keeps_descriptors_for_its_files() {
    let fixture = folder_of_files();
    let seed = fixture.seed();
    let target = fixture.scratch.folder("target");
    let mut get = fixture.get_command(&target, &[seed.address]);
    get.args(["--down", "600K", "--connections", "1000"]);
    let listen = get.get_args().skip_while(|arg| *arg != "--listen").nth(1).unwrap();
    let own: SocketAddr = listen.to_str().unwrap().parse().unwrap();
    let log = fixture.scratch.join("get.log");
    let mut get = Running::start("get", &limited(&get, DESCRIPTORS), &log);
    assert!(wait_until(DEADLINE, || TcpStream::connect(own).is_ok()), "{}", get.log_tail());
    let mut idle = crowd(own, fixture.metainfo.info_hash);
    let mut answered = 0;
    for peer in &mut idle {
        peer.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        answered += usize::from(peer.read(&mut [0; 68]).is_ok_and(|len| len > 0));
    }
    assert!(answered < DESCRIPTORS, "{answered}");
    assert_eq!(exit_code(&mut get, DEADLINE), Some(0), "{}", fs::read_to_string(log).unwrap());
    fixture.assert_complete(&target);
    seed.stop();
}

#[test]
fn a_hook_has_the_descriptor_limit_of_the_caller() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let (target, noted) = (fixture.scratch.folder("target"), fixture.scratch.join("noted"));
    let mut get = fixture.get_command(&target, &[seed.address]);
    get.args(["--on-complete", &format!("ulimit -Sn > '{}'", noted.display())]);
    let mut limited = Command::new("prlimit");
    limited.arg("--nofile=300:").arg(get.get_program()).args(get.get_args());
    run(&limited, DEADLINE).success();
    assert_eq!(fs::read_to_string(noted).unwrap().trim(), "300");
    seed.stop();
}

fn several_downloads_share_few_descriptors() {
    const TORRENTS: usize = 8;
    let scratch = Scratch::new();
    let folders: Vec<_> = (0..TORRENTS).map(|number| scratch.folder(&format!("folder {number}"))).collect();
    for folder in &folders {
        (0..100).for_each(|at| write_random(&folder.join(format!("{at}")), 20_000, fastrand::u64(..)));
    }
    let address = own_address();
    let web = SocketAddr::new(address.ip(), 7100);
    let mut command = bt_fast();
    command.args(["seed", "--json", "--admin", "off"]).args(&folders);
    command.args(["--listen", &address.to_string(), "--web", &web.to_string()]);
    let mut seed = Seed::start(&command, address, &scratch.join("seed.log"));
    let published = || seed.process.output().matches("\"event\":\"seeding\"").count();
    assert!(wait_until(DEADLINE, || published() == TORRENTS), "{}", seed.process.log_tail());
    let target = scratch.folder("target");
    let mut get = bt_fast();
    get.arg("get").args((0..TORRENTS).map(|number| format!("http://{web}/t/folder%20{number}.torrent")));
    get.args(["--listen", &own_address().to_string(), "-o"]).arg(&target);
    get.args(DRIVER.get().iter().flat_map(|driver| ["--io", driver]));
    let finished = run(&limited(&get, 256), DEADLINE);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    for (number, folder) in folders.iter().enumerate() {
        for at in 0..100 {
            let got = fs::read(target.join(format!("folder {number}/{at}"))).unwrap();
            assert!(got == fs::read(folder.join(format!("{at}"))).unwrap(), "{number}/{at}");
        }
    }
    seed.stop();
}
