//! Rate limits and the order of pieces. Tests assert only a minimum duration: a busy machine is slower, never faster.

use std::time::{Duration, Instant};

use crate::loopback::{DEADLINE, Fixture, Seed, event, own_address, own_ip, scripted_seeder::seeder_that_notes};
use crate::support::process::run;

/// Takes three seconds at [`RATE`], less the burst that an idle limiter permits.
const LEN: u64 = 3 << 20;
const RATE: &str = "1M";
const DURATION_MIN: Duration = Duration::from_millis(2700);

#[test]
fn the_upload_limit_of_a_seed_covers_all_peers() {
    let fixture = Fixture::file(LEN / 2);
    let address = own_address();
    let mut command = fixture.seed_command(address);
    command.args(["--up", RATE]);
    let seed = Seed::start(&command, address, &fixture.scratch.join("seed.log"));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| fixture.get_by_peer(seed.address));
        }
    });
    assert!(started.elapsed() >= DURATION_MIN, "{:?}", started.elapsed());
    assert_eq!(seed.stop()["uploaded"], LEN / 2 * 2);
}

#[test]
fn each_torrent_has_an_upload_limit() {
    let fixture = Fixture::file(LEN);
    let address = own_address();
    let mut command = fixture.seed_command(address);
    command.args(["--up-each", RATE]);
    let seed = Seed::start(&command, address, &fixture.scratch.join("seed.log"));
    let started = Instant::now();
    fixture.get_by_peer(seed.address);
    assert!(started.elapsed() >= DURATION_MIN, "{:?}", started.elapsed());
}

#[test]
fn the_download_limit_of_a_get_covers_all_peers() {
    let fixture = Fixture::file(LEN);
    let seeds = [fixture.seed(), {
        let address = own_address();
        Seed::start(&fixture.seed_command(address), address, &fixture.scratch.join("other.log"))
    }];
    let target = fixture.scratch.folder("target");
    let mut command = fixture.get_command(&target, &[seeds[0].address, seeds[1].address]);
    command.args(["--down", RATE]);
    let finished = run(&command, DEADLINE);
    let complete = event(&finished.success(), "complete").unwrap();
    fixture.assert_complete(&target);
    assert!(complete["seconds"].as_f64().unwrap() >= DURATION_MIN.as_secs_f64(), "{complete}");
}

#[test]
fn sequential_requests_pieces_in_content_order() {
    let fixture = Fixture::file(LEN);
    let (peer, asked) = seeder_that_notes(&fixture, own_ip());
    let target = fixture.scratch.folder("target");
    run(fixture.get_command(&target, &[peer.address]).arg("--sequential"), DEADLINE).success();
    fixture.assert_complete(&target);
    let asked = asked.lock().unwrap();
    assert!(asked.is_sorted(), "{asked:?}");
}
