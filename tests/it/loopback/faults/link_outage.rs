//! An outage of the link between two hosts. Needs root.

use std::{net::SocketAddr, thread::sleep, time::Duration};

use crate::loopback::{DEADLINE, Fixture, LISTEN_PORT, Seed, event, exit_code, failures, warnings};
use crate::support::{bt_fast, net::NetPair, process::Running};

#[test]
fn a_download_survives_a_link_outage() {
    let fixture = Fixture::file(24 << 20);
    let net = NetPair::new();
    let [here, there]: [SocketAddr; 2] = [&net.left, &net.right].map(|host| (host.ip, LISTEN_PORT).into());
    let seed = Seed::start(&net.left.command(&fixture.seed_command(here)), here, &fixture.scratch.join("seed.log"));
    let target = fixture.scratch.folder("target");
    let mut get = bt_fast();
    get.args(["get", "--json"]).arg(&fixture.torrent).arg("-o").arg(&target).args(["--down", "6M"]);
    get.args(["--listen", &there.to_string(), "--peer", &here.to_string()]);
    let mut get = Running::start("get", &net.right.command(&get), &fixture.scratch.join("get.log"));
    sleep(Duration::from_secs(1));
    net.set_wire(false);
    sleep(Duration::from_secs(8));
    assert!(get.is_running(), "{}", get.log_tail());
    net.set_wire(true);
    assert_eq!(exit_code(&mut get, DEADLINE), Some(0), "{}", get.log_tail());
    fixture.assert_complete(&target);
    let output = get.output();
    assert!(failures(&output).is_empty() && warnings(&output).is_empty(), "{output}");
    assert_eq!(event(&output, "complete").unwrap()["corrupt"], 0);
    seed.stop();
}
