//! A line that is long, cuts connections and is dark for a while.

use std::{net::SocketAddr, thread::sleep, time::Duration};

use crate::loopback::{Fixture, Seed, event, exit_code, failures, own_address, own_ip};
use crate::support::{bad_line::BadLine, process::Running};

const LEN: u64 = 20 << 20;
/// A peer that was cut off is tried again after ten seconds: there are others meanwhile.
const SEED_COUNT: usize = 16;
const ONE_WAY: Duration = Duration::from_millis(100);
const CUT_SHARE: f64 = 0.02;
const DEADLINE: Duration = Duration::from_secs(180);

/// L6. `BT_FAST_DARK_S` says for how many seconds the line is dark.
#[test]
fn an_unreliable_link_gets_no_peer_banned() {
    let dark = Duration::from_secs(std::env::var("BT_FAST_DARK_S").map_or(3, |seconds| seconds.parse().unwrap()));
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let line = BadLine::new(ONE_WAY, CUT_SHARE, seed);
    let fixture = Fixture::file(LEN);
    let seeds: [Seed; SEED_COUNT] = std::array::from_fn(|number| {
        let address = own_address();
        Seed::start(&fixture.seed_command(address), address, &fixture.scratch.join(&format!("seed {number}.log")))
    });
    let far: Vec<SocketAddr> = seeds.iter().map(|seed| line.lead(own_ip(), seed.address)).collect();
    let target = fixture.scratch.folder("target");
    let mut get = Running::start("get", &fixture.get_command(&target, &far), &fixture.scratch.join("get.log"));
    sleep(Duration::from_secs(3));
    line.set_dark(true);
    // Whoever is near is served meanwhile.
    fixture.get_by_peer(seeds[0].address);
    sleep(dark);
    assert!(get.is_running(), "{}", get.log_tail());
    line.set_dark(false);
    assert_eq!(exit_code(&mut get, DEADLINE), Some(0), "{}", get.log_tail());
    fixture.assert_complete(&target);
    let output = get.output();
    assert!(failures(&output).is_empty() && !output.contains("banned"), "{output}");
    let complete = event(&output, "complete").unwrap();
    println!("{} connections cut: {complete}", line.cuts());
    assert_eq!(complete["corrupt"], 0);
    assert!(line.cuts() >= 12, "{}", line.cuts());
    for seed in seeds {
        let output = seed.process.output();
        assert!(!output.contains("banned"), "{output}");
        seed.stop();
    }
}
