//! Several origins behind Debian's build of opentracker, which tracks only listed torrents.

use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::loopback::{DEADLINE, Fixture, Seed};
use crate::support::{
    opentracker::opentracker,
    process::{Running, run, wait_until},
};

const LEN: u64 = (2 << 20) + 77;

/// Returns a free port on 127.0.0.1. opentracker names the source address of announces, so all peers share one address.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn two_origins_behind_opentracker_serve_several_downloaders() {
    let tracker = free_address();
    let fixture = Fixture::file_with_trackers(LEN, &[&format!("http://{tracker}/announce")]);
    let (folder, info_hash) = (fixture.scratch.folder("opentracker"), fixture.metainfo.info_hash.to_string());
    let command = opentracker("127.0.0.1", tracker.port(), &folder, &info_hash);
    let _tracker = Running::start("opentracker", &command, &fixture.scratch.join("opentracker.log"));
    assert!(wait_until(DEADLINE, || TcpStream::connect(tracker).is_ok()), "opentracker does not listen");

    let origins = ["one", "two"].map(|name| {
        let address = free_address();
        Seed::start(&fixture.seed_command(address), address, &fixture.scratch.join(&format!("{name}.log")))
    });
    std::thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            let fixture = &fixture;
            scope.spawn(move || {
                let target = fixture.scratch.folder(&format!("target {name}"));
                let mut command = crate::support::bt_fast();
                command.args(["get", "--json"]).arg(&fixture.torrent).arg("-o").arg(&target);
                command.args(["--listen", &free_address().to_string()]);
                run(&command, DEADLINE).success();
                fixture.assert_complete(&target);
            });
        }
    });
    let uploaded: u64 = origins.map(|origin| origin.stop()["uploaded"].as_u64().unwrap()).iter().sum();
    assert!(uploaded >= LEN, "{uploaded}");
}
