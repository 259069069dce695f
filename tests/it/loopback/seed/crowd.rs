//! Many peers at one origin: the memory they cost and the share of the bandwidth that each of them receives.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use bt_fast::base::limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

use crate::loopback::{
    DEADLINE, Fixture, NAME, PIECE_LEN, Seed, exit_code, faults::environment::unchoked, own_address, own_ip,
};
use crate::support::{
    bt_fast,
    crowd::{Behavior, Crowd},
    process::{Running, wait_until},
};

/// The most sent but unacknowledged bytes at a stalled peer's socket: segments in flight when the peer stalled.
const IN_FLIGHT_MAX: u64 = 128 << 10;
/// The number of peers that do not read.
const STALLED_COUNT: usize = 300;

/// Returns the number of peers: `$TEST_CROWD`, or `usual` if it is not set.
fn count_or(usual: usize) -> usize {
    std::env::var("TEST_CROWD").map_or(usual, |count| count.parse().unwrap())
}

/// Starts a seed without an upload slot limit and without verification.
pub(crate) fn seed_for_all(fixture: &Fixture, flags: &[&str]) -> Seed {
    // The sockets of the peers count against the limit of the test process: raise it to the hard limit.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let address = own_address();
    let mut command = fixture.seed_command(address);
    command.args(["--slots", "all", "--verify", "none"]).args(flags);
    Seed::start(&command, address, &fixture.scratch.join("seed.log"))
}

/// Returns the anonymous resident memory of the seed in bytes.
pub(crate) fn memory(seed: &Seed) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", seed.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

/// Returns the length of the kernel's send queue for each established connection of the seed, in bytes.
fn unacknowledged(seed: SocketAddr) -> Vec<u64> {
    let SocketAddr::V4(seed) = seed else { panic!("not IPv4") };
    let local = format!("{:08X}:{:04X}", u32::from(*seed.ip()).swap_bytes(), seed.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let established = rows.filter(|row| row.get(1) == Some(&&*local) && row.get(3) == Some(&"01"));
    established.map(|row| u64::from_str_radix(row[4].split(':').next().unwrap(), 16).unwrap()).collect()
}

/// The drivers of sockets and files, as values of `--io`, with the memory in bytes that a connection of each may take
/// in addition.
const DRIVERS: [(&str, usize); 2] = [("ring", 0), ("plain", limits::CONNECTION_PLAIN_LEN_MAX)];

#[test]
fn idle_peers_cost_little_memory() {
    let count = count_or(2000);
    let fixture = Fixture::file(1 << 20);
    for (driver, more) in DRIVERS {
        let seed = seed_for_all(&fixture, &["--io", driver]);
        fixture.get_by_peer(seed.address);
        let before = memory(&seed);
        let crowd =
            Crowd::start(seed.address, fixture.metainfo.clone(), fixture.content(), count, Behavior::Idle, own_ip);
        let begun_at = Instant::now();
        assert!(wait_until(DEADLINE, || crowd.established() == count), "{} of {count}", crowd.established());
        let let_in = begun_at.elapsed();
        let each = (memory(&seed) - before) / count;
        assert!(each <= limits::CONNECTION_IDLE_LEN_MAX + more, "{driver}: {each} bytes per peer");
        fixture.get_by_peer(seed.address);
        assert_eq!(crowd.ended(), 0);
        drop(crowd);
        seed.stop();
        println!("{driver}: {count} peers let in within {let_in:?}, {each} bytes per peer");
    }
}

/// The incoming connections of a download are all taken by idle peers: it connects to the seed nevertheless.
#[test]
fn idle_peers_do_not_crowd_out_a_download() {
    let fixture = Fixture::file(1 << 20);
    let (own, source, target) = (own_address(), own_address(), fixture.scratch.folder("target"));
    let mut get = bt_fast();
    get.args(["get", "--json"]).arg(&fixture.torrent).arg("-o").arg(&target);
    get.args(["--listen", &own.to_string(), "--peer", &source.to_string()]);
    let mut get = Running::start("get", &get, &fixture.scratch.join("get.log"));
    assert!(wait_until(DEADLINE, || TcpStream::connect(own).is_ok()), "{}", get.log_tail());
    let count = limits::CONNECTIONS_LEECHING_MAX;
    let crowd = Crowd::start(own, fixture.metainfo.clone(), fixture.content(), count, Behavior::Idle, own_ip);
    assert!(wait_until(DEADLINE, || crowd.established() == count), "{} of {count}", crowd.established());
    let seed = Seed::start(&fixture.seed_command(source), source, &fixture.scratch.join("seed.log"));
    assert_eq!(exit_code(&mut get, DEADLINE), Some(0), "{}", get.log_tail());
    fixture.assert_complete(&target);
    seed.stop();
}

#[test]
fn peers_that_do_not_read_hold_a_bounded_amount() {
    let fixture = Fixture::file(64 << 20);
    for (driver, _) in DRIVERS {
        assert_stalled_peers_are_bounded(&fixture, driver);
    }
}

fn assert_stalled_peers_are_bounded(fixture: &Fixture, driver: &str) {
    let seed = seed_for_all(fixture, &["--io", driver]);
    fixture.get_by_peer(seed.address);
    let before = memory(&seed);
    let crowd = Crowd::start(
        seed.address,
        fixture.metainfo.clone(),
        fixture.content(),
        STALLED_COUNT,
        Behavior::Stalled,
        own_ip,
    );
    let each_max = u64::from(limits::SEND_UNSENT_LEN_MAX) + IN_FLIGHT_MAX;
    // The send queue of a peer is full when it holds at least half of the limit.
    let full = || {
        let held = unacknowledged(seed.address);
        assert!(held.iter().all(|&len| len <= each_max), "{} of {each_max}", held.iter().max().unwrap());
        held.iter().filter(|&&len| len >= u64::from(limits::SEND_UNSENT_LEN_MAX) / 2).count() == STALLED_COUNT
    };
    assert!(wait_until(DEADLINE, full), "{:?}", unacknowledged(seed.address));
    fixture.get_by_peer(seed.address);
    let each = (memory(&seed) - before) / STALLED_COUNT;
    assert!(each <= limits::CONNECTION_STALLED_LEN_MAX, "{driver}: {each} bytes per peer");
    assert_eq!(crowd.ended(), 0);
    drop(crowd);
    seed.stop();
}

#[test]
fn many_readers_get_equal_shares() {
    let count = count_or(200);
    let fixture = Fixture::file(32 << 20);
    let seed = seed_for_all(&fixture, &[]);
    let crowd =
        Crowd::start(seed.address, fixture.metainfo.clone(), fixture.content(), count, Behavior::Reading, own_ip);
    let begun = || crowd.received().iter().all(|&len| len > 0);
    assert!(wait_until(DEADLINE, begun), "{:?}", crowd.received());
    let before = crowd.received();
    let gained =
        || -> Vec<f64> { crowd.received().iter().zip(&before).map(|(now, before)| (now - before) as f64).collect() };
    let much = count as f64 * f64::from(12 << 20);
    assert!(wait_until(DEADLINE, || gained().iter().sum::<f64>() >= much), "{:?}", gained());
    let mut gained = gained();
    gained.sort_by(f64::total_cmp);
    let (slowest, median) = (gained[0], gained[count / 2]);
    assert!(slowest >= median / 4.0, "{slowest} of {median}");
    let squares: f64 = gained.iter().map(|len| len * len).sum();
    let jain = gained.iter().sum::<f64>().powi(2) / (count as f64 * squares);
    assert!(jain >= 0.95, "{jain}: {gained:?}");
    assert_eq!((crowd.ended(), crowd.wrong()), (0, 0));
    drop(crowd);
    seed.stop();
}

#[test]
fn a_file_truncated_under_a_hundred_readers_sends_nothing_wrong() {
    const COUNT: usize = 100;
    let fixture = Fixture::file(16 << 20);
    let mut seed = seed_for_all(&fixture, &[]);
    let crowd =
        Crowd::start(seed.address, fixture.metainfo.clone(), fixture.content(), COUNT, Behavior::Reading, own_ip);
    let begun = || crowd.received().iter().all(|&len| len > 1 << 20);
    assert!(wait_until(DEADLINE, begun), "{:?}", crowd.received());
    let file = fs::File::options().write(true).open(fixture.source.join(NAME)).unwrap();
    file.set_len(3 << 20).unwrap();
    let noticed = || seed.process.output().contains("became shorter");
    assert!(wait_until(DEADLINE, noticed) && seed.process.is_running(), "{}", seed.process.log_tail());
    // The rest of the file is still served.
    let mut late = unchoked(&fixture, &seed);
    assert!(late.fetch(1, 0, 16 << 10) == fixture.bytes()[PIECE_LEN as usize..][..16 << 10]);
    drop(crowd);
    seed.stop();
}

/// Drops the content from the page cache.
fn chill(fixture: &Fixture) {
    let file = fs::File::open(fixture.source.join(NAME)).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

#[test]
fn a_ring_thread_never_blocks_on_the_disk() {
    let fixture = Fixture::file_with_piece_len(48 << 20, 1 << 20);
    for flags in [&[][..], &["--cache", "drop-behind"], &["--zero-copy", "on"]] {
        chill(&fixture);
        let seed = seed_for_all(&fixture, flags);
        fixture.get_by_peer(seed.address);
        let stopped = seed.stop();
        assert_eq!(stopped["threads"]["ring"]["major_faults"], 0, "{flags:?}: {stopped}");
    }
}

#[test]
fn zero_copy_sends_are_exact_and_disabled_if_the_kernel_copies() {
    let fixture = Fixture::file(40 << 20);
    let sent = |mode| -> Value {
        let seed = seed_for_all(&fixture, &["--zero-copy", mode]);
        fixture.get_by_peer(seed.address);
        seed.stop()
    };
    let count = |stopped: &Value, key: &str| stopped[key].as_u64().unwrap();
    // On loopback the kernel copies zero-copy sends. `on` uses them for all data, `auto` only until it notices.
    let on = sent("on");
    assert!(count(&on, "zero_copy_copied") > 20 << 20, "{on}");
    let auto = sent("auto");
    assert!(count(&auto, "zero_copy_copied") < 20 << 20, "{auto}");
    let off = sent("off");
    assert_eq!((count(&off, "zero_copied"), count(&off, "zero_copy_copied")), (0, 0));
}
