//! Super-seeding (BEP 16): the first copy over a slow uplink.

use crate::loopback::{DEADLINE, Fixture, NAME, Seed, event, exit_code, own_address};
use crate::support::{
    bt_fast,
    content::difference,
    process::{Running, wait_until},
};

const LEECHERS: usize = 5;

#[test]
fn a_super_seed_sends_little_more_than_one_copy() {
    assert_spreads(&Fixture::file(4 << 20), "1M");
}

/// The transfer of a piece takes longer than [`bt_fast::base::limits::SUGGEST_AGAIN`].
#[test]
fn a_super_seed_sends_little_more_than_one_copy_of_long_pieces() {
    assert_spreads(&Fixture::file_with_piece_len(8 << 20, 1 << 20), "300K");
}

/// Asserts that the seed uploads at most 110 % of the content. BEP 16 expects about 105 %, and 150 to 200 % of an
/// ordinary seed.
fn assert_spreads(fixture: &Fixture, up: &str) {
    let address = own_address();
    let mut command = bt_fast();
    command.args(["seed", "--json", "--super-seed", "--up", up]).arg(&fixture.torrent);
    command.arg("--data").arg(&fixture.source).args(["--listen", &address.to_string()]);
    let seed = Seed::start(&command, address, &fixture.scratch.join("seed.log"));
    let addresses: Vec<_> = (0..LEECHERS).map(|_| own_address()).collect();
    let mut gets: Vec<_> = (0..LEECHERS)
        .map(|at| {
            let target = fixture.scratch.folder(&format!("target {at}"));
            let mut command = bt_fast();
            // Each downloader seeds until all are complete.
            command.args(["get", "--json", "--seed"]).arg(&fixture.torrent).arg("-o").arg(&target);
            command.args(["--listen", &addresses[at].to_string(), "--peer", &address.to_string()]);
            for other in &addresses[..at] {
                command.args(["--peer", &other.to_string()]);
            }
            (Running::start("get", &command, &fixture.scratch.join(&format!("get {at}.log"))), target)
        })
        .collect();
    for (get, _) in &gets {
        let done = || get.output().contains("complete; uploading");
        assert!(wait_until(DEADLINE, done), "{}", get.output());
    }
    for (get, target) in &mut gets {
        get.signal(rustix::process::Signal::INT);
        assert_eq!(exit_code(get, DEADLINE), Some(0), "{}", get.log_tail());
        assert!(event(&get.output(), "complete").is_some());
        assert_eq!(difference(&fixture.source.join(NAME), &target.join(NAME), true), None);
    }
    let (uploaded, len) = (seed.stop()["uploaded"].as_u64().unwrap(), fixture.metainfo.info.geometry.total_len());
    assert!((len..=len + len / 10).contains(&uploaded), "{uploaded} of {len}");
}
