//! Transient shortages of memory, maps and descriptors: peers wait, and no piece is lost.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    process::Command,
    thread,
    time::Duration,
};

use crate::loopback::{
    DEADLINE, Fixture, NAME, PIECE_LEN, STOP_DEADLINE, Seed, event, exit_code, failures, own_address,
};
use crate::support::{
    bt_fast,
    content::write_random,
    http_client::get_url,
    process::{Running, run, wait_until},
};

const LEN: u64 = 3 << 20;

test_on_both_drivers!(
    transient_resource_errors_lose_no_piece,
    content_is_served_without_any_map,
    many_short_files_are_served_with_few_maps,
    a_download_with_few_descriptors_works_or_fails_cleanly,
    a_download_names_the_pieces_that_no_peer_has,
);

/// Asserts that a seed with these injected faults serves all content and prints no "not served" line.
#[track_caller]
fn served_with(fixture: &Fixture, faults: &str, options: &[&str]) {
    let address = own_address();
    let mut command = fixture.seed_command(address);
    command.args(options).env("BT_FAST_FAULTS", faults);
    let mut seed = Seed::start(&command, address, &fixture.scratch.join("seed.log"));
    let target = fixture.scratch.folder(&format!("target {}", fastrand::u32(..)));
    let finished = run(&fixture.get_command(&target, &[seed.address]), DEADLINE);
    assert_eq!(finished.code, Some(0), "{faults}: {finished:#?}");
    fixture.assert_complete(&target);
    assert!(!seed.process.output().contains("not served"), "{faults}: {}", seed.process.log_tail());
    seed.stop();
}

fn failing(step: &str, numbers: std::ops::Range<u32>, errno: i32) -> String {
    numbers.map(|number| format!("{step}@{number}={errno}")).collect::<Vec<_>>().join(",")
}

fn transient_resource_errors_lose_no_piece() {
    if cfg!(not(debug_assertions)) {
        return;
    }
    let fixture = Fixture::file(LEN);
    for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM] {
        // Earlier opens belong to the check for existing files.
        served_with(&fixture, &failing("opentoread", 10..40, errno), &[]);
    }
    for errno in [libc::EAGAIN, libc::ENOMEM] {
        served_with(&fixture, &failing("map", 0..4, errno), &[]);
        served_with(&fixture, &failing("read", 0..4, errno), &[]);
    }
}

fn content_is_served_without_any_map() {
    if cfg!(not(debug_assertions)) {
        return;
    }
    let fixture = Fixture::file(LEN);
    for options in [&[][..], &["--cache", "drop-behind"]] {
        served_with(&fixture, &format!("map@0+={}", libc::ENOMEM), options);
    }
}

#[test]
fn zero_copy_sends_that_the_kernel_defers_are_completed() {
    if cfg!(not(debug_assertions)) {
        return;
    }
    let fixture = Fixture::file(LEN);
    for faults in [failing("submit", 0..5, libc::EBUSY), failing("submit", 1..4, libc::EAGAIN)] {
        served_with(&fixture, &faults, &["--zero-copy", "on"]);
    }
    // The first connection fails, and the next one sends by copying.
    served_with(&fixture, &format!("submit@2+={}", libc::EBUSY), &["--zero-copy", "on"]);
}

#[test]
fn an_origin_out_of_descriptors_warns_once_and_recovers() {
    let fixture = Fixture::file(LEN);
    let start = |limit: Option<usize>| {
        let address = own_address();
        let web = SocketAddr::new(address.ip(), 7100);
        let mut seed = bt_fast();
        seed.args(["seed", "--json", "--admin", "off"]).arg(fixture.source.join(NAME));
        seed.args(["--listen", &address.to_string(), "--web", &web.to_string(), "--rings", "1"]);
        if let Some(limit) = limit {
            let mut limited = Command::new("prlimit");
            limited.arg(format!("--nofile={limit}:{limit}")).arg(seed.get_program()).args(seed.get_args());
            seed = limited;
        }
        (Seed::start(&seed, address, &fixture.scratch.join("seed.log")), web)
    };
    let needed = {
        let (idle, _) = start(None);
        fs::read_dir(format!("/proc/{}/fd", idle.process.id())).unwrap().count()
    };
    let (mut seed, web) = start(Some(needed + 16));
    let reported = |seed: &Seed| seed.process.output().matches("no descriptor is left").count();
    let idle: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(web).unwrap()).collect();
    assert!(wait_until(DEADLINE, || reported(&seed) > 0), "{}", seed.process.log_tail());
    // Peer connections are not accepted either, and both listeners keep retrying.
    let peers: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(seed.address).unwrap()).collect();
    thread::sleep(Duration::from_secs(1));
    assert_eq!(reported(&seed), 1, "{}", seed.process.log_tail());
    drop((idle, peers));
    let published = event(&seed.process.output(), "published").unwrap();
    assert_eq!(get_url(published["page"].as_str().unwrap()).status, 200);
    let target = fixture.scratch.folder("target");
    let mut get = bt_fast();
    get.args(["get", published["torrent"].as_str().unwrap(), "--listen", &own_address().to_string(), "-o"]);
    run(get.arg(&target), DEADLINE).success();
    fixture.assert_complete(&target);
    assert_eq!(reported(&seed), 1, "{}", seed.process.log_tail());
    seed.stop();
}

fn many_short_files_are_served_with_few_maps() {
    const FILES: usize = 4000;
    let fixture = Fixture::made_by(&[], PIECE_LEN, |root| {
        for at in 0..FILES {
            write_random(&root.join(format!("{}/{at}", at % 40)), (at % 300) as u64, fastrand::u64(..));
        }
        write_random(&root.join("long"), 100_000, fastrand::u64(..));
    });
    let seed = fixture.seed();
    fixture.get_by_peer(seed.address);
    let maps = fs::read_to_string(format!("/proc/{}/maps", seed.process.id())).unwrap();
    assert!(maps.lines().count() < FILES / 4, "{}", maps.lines().count());
    seed.stop();
}

/// With any descriptor limit a download either completes or fails with one line. Connections wait for a free
/// descriptor.
fn a_download_with_few_descriptors_works_or_fails_cleanly() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    for count in 12..32 {
        let target = fixture.scratch.folder(&format!("target {count}"));
        let mut command = std::process::Command::new("prlimit");
        let get = fixture.get_command(&target, &[seed.address]);
        command.arg(format!("--nofile={count}:{count}")).arg(get.get_program()).args(get.get_args());
        command.args(["--timeout", "2"]);
        let finished = run(&command, DEADLINE);
        match finished.code {
            Some(0) => fixture.assert_complete(&target),
            Some(1 | 4) => assert_eq!(failures(&finished.stderr).len(), 1, "{count}: {finished:#?}"),
            _ => panic!("{count}: {finished:#?}"),
        }
    }
}

fn a_download_names_the_pieces_that_no_peer_has() {
    let fixture = Fixture::file(LEN);
    let (pieces, target) = (fixture.piece_count(), fixture.scratch.folder("target"));
    let lacking = fs::File::options().write(true).open(fixture.source.join(NAME)).unwrap();
    lacking.set_len(LEN - u64::from(2 * PIECE_LEN)).unwrap();
    let seed = fixture.seed();
    let mut get =
        Running::start("get", &fixture.get_command(&target, &[seed.address]), &fixture.scratch.join("get.log"));
    let reported = format!("no connected peer offers pieces {}-{}: waiting", pieces - 2, pieces - 1);
    assert!(wait_until(DEADLINE, || get.output().contains(&reported)), "{}", get.log_tail());
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(get.output().matches(&reported).count(), 1, "{}", get.log_tail());
    get.signal(rustix::process::Signal::INT);
    assert_eq!(exit_code(&mut get, STOP_DEADLINE), Some(130));
}
