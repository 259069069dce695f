//! Several origins behind a tracker that is not ours: opentracker as Debian builds it, which tracks listed torrents alone.

use std::{
    fs::{self, Permissions},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    process::Command,
};

use super::{DEADLINE, Fixture, Seed};
use crate::support::process::{Running, run, wait_until};

const LEN: u64 = (2 << 20) + 77;

/// It tells everybody the address it is asked from: all are on one, each with a port of its own.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn two_origins_behind_opentracker_serve_several_downloaders() {
    let tracker = free_address();
    let fixture = Fixture::file_with_trackers(LEN, &[&format!("http://{tracker}/announce")]);
    // It goes into this folder for good and gives its rights away.
    let folder = fixture.scratch.folder("opentracker");
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.join("listed"), format!("{}\n", fixture.metainfo.info_hash)).unwrap();
    let port = tracker.port().to_string();
    let mut command = Command::new("opentracker");
    command.args(["-i", "127.0.0.1", "-p", &port, "-P", &port, "-w", "listed", "-d"]).arg(&folder);
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
