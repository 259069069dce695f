//! uTP (BEP 29) is refused on the peer port, so that the peer connects over TCP at once.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use crate::loopback::{Fixture, Seed, own_address, own_ip};
use crate::support::{
    bt_fast,
    process::{Running, wait_until},
};

const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a test waits for an answer that must not arrive.
const SHORT: Duration = Duration::from_millis(300);
const SYN: [u8; 20] = [0x41, 0, 0xab, 0xcd, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0x10, 0, 0, 0x12, 0x34, 0, 0];

/// Sends a packet from `ip` and returns the answer. The socket is connected, so answers from other addresses are
/// dropped.
fn answer(ip: IpAddr, to: SocketAddr, packet: &[u8], within: Duration) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(within)).unwrap();
    socket.send(packet).unwrap();
    let mut bytes = [0; 100];
    let len = socket.recv(&mut bytes).ok()?;
    Some(bytes[..len].to_vec())
}

/// Returns whether a uTP SYN is answered by a reset with the connection id of its sender.
pub(crate) fn is_refused(to: SocketAddr) -> bool {
    let reset = [&[0x31, 0, 0xab, 0xcd][..], &[0; 14], &[0x12, 0x34]].concat();
    let own = if to.is_ipv4() { own_ip().into() } else { to.ip() };
    answer(own, to, &SYN, TIMEOUT) == Some(reset)
}

#[test]
fn seed_and_get_refuse_utp_on_their_listen_port() {
    let fixture = Fixture::file(1 << 20);
    let seed = fixture.seed();
    assert!(is_refused(seed.address));
    assert_eq!(answer(own_ip().into(), seed.address, &SYN[..19], SHORT), None);
    assert_eq!(answer(own_ip().into(), seed.address, &[0x11; 1000], SHORT), None);
    seed.stop();

    let target = fixture.scratch.folder("target");
    for what in [fixture.torrent.to_str().unwrap(), &format!("magnet:?xt=urn:btih:{}", "ab".repeat(20))] {
        let address = own_address();
        let mut command = bt_fast();
        command.args(["get", what, "--listen", &address.to_string(), "--peer", &own_address().to_string()]);
        command.arg("-o").arg(&target);
        let mut get = Running::start("get", &command, &fixture.scratch.join("get.log"));
        assert!(wait_until(TIMEOUT, || answer(own_ip().into(), address, &SYN, SHORT).is_some()), "{}", get.log_tail());
    }
}

#[test]
fn a_denied_host_gets_no_utp_refusal() {
    let fixture = Fixture::file(1);
    let (address, denied) = (own_address(), own_ip());
    let mut command = fixture.seed_command(address);
    command.args(["--deny-peer", &denied.to_string()]);
    let seed = Seed::start(&command, address, &fixture.scratch.join("seed.log"));
    assert_eq!(answer(denied.into(), address, &SYN, SHORT), None);
    assert!(is_refused(address));
    seed.stop();
}

#[test]
fn a_udp_port_in_use_is_no_failure() {
    let fixture = Fixture::file(1 << 20);
    let address = own_address();
    let _other = UdpSocket::bind(address).unwrap();
    let seed = Seed::start(&fixture.seed_command(address), address, &fixture.scratch.join("seed.log"));
    fixture.get(&fixture.scratch.folder("target"), &[seed.address]);
    seed.stop();
}
