//! Peers that close the connection at our handshake because they lack the torrent or demand encryption: `get` reports
//! this cause instead of a network problem.

use std::{net::SocketAddr, process::Command, time::Duration};

use crate::loopback::{DEADLINE, Fixture, assert_fails, own_address, own_ip, warnings};
use crate::support::{bt_fast, process::run, wire_peer::ListeningPeer};

const EXPECTED: &str = "2 peers hung up on the handshake: they don't have this torrent or probably demand encryption, which \
                    bt-fast does not speak";

/// Starts four peers: one closes, one resets, one sends a byte before it closes, one stays silent.
fn peers() -> Vec<SocketAddr> {
    let closes = ListeningPeer::start(own_ip(), 1, |mut peer| {
        peer.receive_handshake();
    });
    let resets = ListeningPeer::start(own_ip(), 1, |peer| {
        // Closing a socket with unread data sends a reset.
        std::thread::sleep(Duration::from_millis(200));
        drop(peer);
    });
    let stutters = ListeningPeer::start(own_ip(), 1, |mut peer| {
        peer.send(&[19]);
        peer.receive_handshake();
    });
    let is_silent = ListeningPeer::start(own_ip(), 1, |mut peer| {
        peer.receive_handshake();
        peer.receive();
    });
    [closes, resets, stutters, is_silent].map(|peer| peer.address).into()
}

/// Asserts that `get` reports the cause both as a warning while it runs and as its final error.
#[track_caller]
fn assert_reports(what: &str) {
    let mut command: Command = bt_fast();
    command.args(["get", what, "--timeout", "6", "--listen", &own_address().to_string()]);
    let fixture = Fixture::file(1);
    command.arg("-o").arg(fixture.scratch.folder("target"));
    peers().iter().for_each(|peer| _ = command.args(["--peer", &peer.to_string()]));
    let finished = run(&command, DEADLINE);
    assert_fails(&finished, 4, EXPECTED);
    assert!(!finished.stderr.contains("check the"), "{finished:#?}");
    assert!(warnings(&finished.stderr).iter().any(|line| line.contains(EXPECTED)), "{finished:#?}");
}

#[test]
fn a_download_reports_peers_that_demand_encryption() {
    let fixture = Fixture::file(1);
    assert_reports(fixture.torrent.to_str().unwrap());
}

#[test]
fn a_magnet_link_reports_peers_that_demand_encryption() {
    assert_reports(&format!("magnet:?xt=urn:btih:{}", "ab".repeat(20)));
}

#[test]
fn a_seed_of_another_torrent_is_reported() {
    let fixture = Fixture::file(1);
    let seed = fixture.seed();
    let mut command = bt_fast();
    command.args(["get", &"ab".repeat(20), "--timeout", "2", "--listen", &own_address().to_string()]);
    command.args(["--peer", &seed.address.to_string()]);
    assert_fails(&run(&command, DEADLINE), 4, "1 peer hung up on the handshake: it doesn't have this torrent or");
    seed.stop();
}
