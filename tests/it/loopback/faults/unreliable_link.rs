//! A link with high latency that cuts connections and goes down for a while.

use std::{net::SocketAddr, thread::sleep, time::Duration};

use crate::loopback::{Fixture, Seed, event, exit_code, failures, own_address, own_ip};
use crate::support::{process::Running, unreliable_link::UnreliableLink};

const LEN: u64 = 20 << 20;
/// A lost peer is retried after ten seconds, so the download needs other peers meanwhile.
const SEED_COUNT: usize = 16;
const ONE_WAY: Duration = Duration::from_millis(100);
const CUT_SHARE: f64 = 0.02;
const DEADLINE: Duration = Duration::from_secs(180);

/// `TEST_DARK_S` is the duration of the outage in seconds.
#[test]
fn an_unreliable_link_gets_no_peer_banned() {
    let outage = Duration::from_secs(std::env::var("TEST_DARK_S").map_or(3, |seconds| seconds.parse().unwrap()));
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let link = UnreliableLink::new(ONE_WAY, CUT_SHARE, seed);
    let fixture = Fixture::file(LEN);
    let seeds: [Seed; SEED_COUNT] = std::array::from_fn(|number| {
        let address = own_address();
        Seed::start(&fixture.seed_command(address), address, &fixture.scratch.join(&format!("seed {number}.log")))
    });
    let far: Vec<SocketAddr> = seeds.iter().map(|seed| link.proxy_to(own_ip(), seed.address)).collect();
    let target = fixture.scratch.folder("target");
    let mut get = Running::start("get", &fixture.get_command(&target, &far), &fixture.scratch.join("get.log"));
    sleep(Duration::from_secs(3));
    link.set_down(true);
    // A direct peer is served during the outage.
    fixture.get_by_peer(seeds[0].address);
    sleep(outage);
    assert!(get.is_running(), "{}", get.log_tail());
    link.set_down(false);
    assert_eq!(exit_code(&mut get, DEADLINE), Some(0), "{}", get.log_tail());
    fixture.assert_complete(&target);
    let output = get.output();
    assert!(failures(&output).is_empty() && !output.contains("banned"), "{output}");
    let complete = event(&output, "complete").unwrap();
    println!("{} connections cut: {complete}", link.cuts());
    assert_eq!(complete["corrupt"], 0);
    assert!(link.cuts() >= 12, "{}", link.cuts());
    for seed in seeds {
        let output = seed.process.output();
        assert!(!output.contains("banned"), "{output}");
        seed.stop();
    }
}
